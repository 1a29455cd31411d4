import { assertEquals } from "@std/assert";
import { PDE, PTE } from "../../src/gtt/entry.ts";
import { spaceLines } from "../../src/observe/space_lines.ts";
import { spaceTree, type TreeOptions } from "../../src/observe/space_tree.ts";
import { type Entries, SCRATCH_TABLES, type Sketch, sketch } from "./inspect_snapshot.ts";

const HOST = 0x100000000;
const S_PTE = SCRATCH_TABLES[1] * 4096;

/** The lines of an address space of one PDE table, with PTE tables at entries 0, 1 and so on; without what is above them. */
function lines(
  leaves: readonly (readonly [guest: Entries, shadow: Entries])[],
  options: TreeOptions = {},
  parts: Sketch = {},
): string[] {
  const entries = (first: number) => Object.fromEntries(leaves.map((_, i) => [i, (first + i) * 4096 + 3]));
  const snapshot = sketch({
    tables: [
      { kind: PDE, gfn: 0x10, mfn: 0x9000, guest: entries(0x20), shadow: entries(0x9020) },
      ...leaves.map((
        [guest, shadow],
        i,
      ) => ({ kind: PTE, gfn: 0x20 + i, mfn: 0x9020 + i, guest, shadow } as const)),
    ],
    spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
    ...parts,
  });
  return spaceLines(spaceTree(snapshot, snapshot.parts.spaces[0]!, options)).slice(2);
}

/** Leaves that are as they should be: frames by index. */
function leaves(frames: Readonly<Record<number, number>>): [Entries, Entries] {
  const entries = (base: number) => {
    return Object.fromEntries(
      Object.entries(frames).map(([index, frame]) => [index, base + frame * 4096 + 3]),
    );
  };
  return [entries(0), entries(HOST)];
}

const TABLE = "=   0x0–0x1fffff · PDE[0] · P W · gfn 0x20 → PTE table at mfn 0x9020 · in sync";

Deno.test("spaceTree() folds frames that follow one another, and one frame", () => {
  assertEquals(lines([leaves({ 0: 5, 1: 6, 2: 7, 4: 9, 5: 9, 6: 9 })]), [
    TABLE,
    "=     0x0–0x2fff · PTE[0–2] · P W · gfn 0x5–0x7 → mfn 0x100005–0x100007",
    "=     0x4000–0x6fff · PTE[4–6] · P W · gfn 0x9 → mfn 0x100009 · one page",
  ]);
});

Deno.test("spaceTree() shows what only the guest has, and what only the shadow has", () => {
  assertEquals(lines([[{ 0: 0x5003, 1: 0 }, { 0: 0, 1: HOST + 0x6003 }]]), [
    TABLE,
    "!     0x0–0xfff · PTE[0] · P W · gfn 0x5 → nothing · missing",
    "!     0x1000–0x1fff · PTE[1] · - → P W · absent → mfn 0x100006 · maps what the guest does not",
  ]);
});

Deno.test("spaceTree() shows entries that were removed, and why", () => {
  assertEquals(lines([[{}, { 0: S_PTE + 3, 1: S_PTE + 3 }]]).slice(1), [
    "~     0x0–0x1fff · PTE[0–1] · - → P W · absent → scratch sPTE · removed, scratch",
  ]);
});

Deno.test("spaceTree() puts pieces together before it closes tables", () => {
  const scattered = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [i, 1000 - 3 * i]));
  const [, line] = lines([leaves(scattered)]);
  assertEquals(
    line,
    "=     0x0–0x3bfff · PTE[0–59] · P W · gfn 0x3e8…0x337 → mfn 0x1003e8…0x100337 · 60 pieces",
  );
  assertEquals(lines([leaves(scattered)], { lines: Infinity }).length, 61);
});

Deno.test("spaceTree() closes tables that do not fit, and counts what is in them", () => {
  const many = Array.from({ length: 60 }, (_, i) => leaves({ 0: 100 + i, 9: 300 + i }));
  assertEquals(lines(many), [
    "=   0x0–0x77fffff · PDE[0–59] · P W · gfn 0x20…0x5b → 60 PTE tables · 120 pages",
  ]);
  const [guest] = leaves({ 0: 5 });
  const broken = [...many, [guest, { 0: HOST + 0x6003 }] as const];
  assertEquals(lines(broken), [
    "!   0x0–0x79fffff · PDE[0–60] · P W · gfn 0x20…0x5c → 61 PTE tables · 121 pages, 1 wrong",
  ]);
});

Deno.test("spaceTree() shows a table once, and a run that leads to it as one line", () => {
  const to = (frame: number) => Object.fromEntries([0, 1, 2, 9].map((index) => [index, frame * 4096 + 3]));
  const [guest, shadow] = leaves({ 0: 5 });
  const snapshot = sketch({
    tables: [
      { kind: PDE, gfn: 0x10, mfn: 0x9000, guest: to(0x20), shadow: to(0x9020) },
      { kind: PTE, gfn: 0x20, mfn: 0x9020, refs: 4, guest, shadow },
    ],
    spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
  });
  assertEquals(spaceLines(spaceTree(snapshot, snapshot.parts.spaces[0]!)).slice(2), [
    "=   0x0–0x5fffff · PDE[0–2] · P W · gfn 0x20 → PTE table at mfn 0x9020 · in sync, 4 references",
    "=     0x0–0xfff · PTE[0] · P W · gfn 0x5 → mfn 0x100005",
    "=   0x1200000–0x13fffff · PDE[9] · P W · gfn 0x20 → PTE table at mfn 0x9020 · in sync, 4 references, see above",
  ]);
});

Deno.test("spaceTree() keeps to a range and a depth", () => {
  const two = [leaves({ 0: 5, 7: 6 }), leaves({ 1: 7 })];
  assertEquals(lines(two, { from: 0x7000, to: 0x8000 }), [
    TABLE,
    "=     0x7000–0x7fff · PTE[7] · P W · gfn 0x6 → mfn 0x100006",
  ]);
  assertEquals(lines(two, { depth: 1 }), [
    "=   0x0–0x3fffff · PDE[0–1] · P W · gfn 0x20…0x21 → 2 PTE tables · 3 pages",
  ]);
});

Deno.test("spaceTree() never has more lines than it was told", () => {
  const odd = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [i, i % 2 === 0 ? 0x5003 : 0x5001]));
  const wrong = [odd, {}] as const;
  const told = lines([wrong], { depth: 2, lines: 20 });
  assertEquals(told.length <= 20, true);
  assertEquals(lines([wrong], { raw: true, lines: Infinity }).length, 201);
});

Deno.test("spaceTree() shows an address space without a shadow", () => {
  const snapshot = sketch({ spaces: [{ roots: [0x20000], isShadowed: false }, { roots: [0] }] });
  assertEquals(snapshot.parts.spaces.flatMap((space) => spaceLines(spaceTree(snapshot, space))), [
    "space 0: 4 levels, 1 reference, 0 pins, no shadow",
    "? root 0 · gfn 0x20 → nothing · reclaimed",
    "space 1: 4 levels, 1 reference, 0 pins",
    "  no roots: it maps nothing",
  ]);
});

Deno.test("spaceTree() is plain values", () => {
  const snapshot = sketch({ spaces: [{ roots: [0x20000], isShadowed: false }] });
  const tree = spaceTree(snapshot, snapshot.parts.spaces[0]!);
  assertEquals(JSON.parse(JSON.stringify(tree)), tree);
});
