import { assertEquals } from "@std/assert";
import { PDE, PTE } from "../../src/gtt/entry.ts";
import { diffShadow, shadowDiffLines } from "../../src/observe/diff.ts";
import { diffSnapshots, snapshotDiffLines } from "../../src/observe/snapshot_diff.ts";
import type { Snapshot } from "../../src/observe/snapshot.ts";
import { type Entries, type Sketch, sketch, type SketchTable } from "./inspect_snapshot.ts";

const HOST = 0x100000000;

/** Two address spaces that share a PTE table with these entries. */
function drawn(
  guest: Entries,
  shadow: Entries,
  pte: Partial<SketchTable> = {},
  parts: Sketch = {},
): Snapshot {
  const [to, toShadow] = [{ 0: 0x20003, 1: 0x20003 }, { 0: 0x9020003, 1: 0x9020003 }];
  return sketch({
    tables: [
      { kind: PDE, gfn: 0x10, mfn: 0x9000, guest: to, shadow: toShadow },
      { kind: PDE, gfn: 0x11, mfn: 0x9001, guest: to, shadow: toShadow },
      { kind: PTE, gfn: 0x20, mfn: 0x9020, refs: 4, ...pte, guest, shadow },
    ],
    spaces: [
      { level: 3, roots: [0x10000], shadowRoots: [0x9000000] },
      { level: 3, roots: [0, 0x11000], shadowRoots: [0, 0x9001000] },
    ],
    ...parts,
  });
}

Deno.test("diffShadow() compares a shared table once and says at how many places it is", () => {
  const snapshot = drawn({ 0: 0x5003, 1: 0x6003, 2: 0x7003 }, { 0: HOST + 0x5003, 1: 0, 2: 0 });
  assertEquals(shadowDiffLines(diffShadow(snapshot, { ggtt: false })), [
    "3 tables, 1544 entries: 1542 same, 2 wrong",
    "!   missing: 2",
    "! space 0 > root 0 > PDE[0] > PTE[1–2] · 0x1000–0x2fff · and at 3 other places · " +
    "2 entries; the first: the guest maps gfn 0x6 (mfn 0x100006), the shadow maps nothing",
  ]);
});

Deno.test("diffShadow() looks at one address space only", () => {
  const snapshot = drawn({ 0: 0x5003 }, {});
  const { tables, entries, differences } = diffShadow(snapshot, { space: snapshot.parts.spaces[1]! });
  assertEquals([tables, entries], [2, 1028]);
  assertEquals(differences.map(({ path, from, places }) => [path, from, places]), [
    ["space 1 > root 1 > PDE[0] > PTE[0]", 0x40000000, 2],
  ]);
});

Deno.test("diffShadow() tells what is wrong before what is pending, and the rest as a number", () => {
  const parts = { ggtt: { 0x400: [0x5001, HOST + 0x6001] } } as const;
  const snapshot = drawn({ 0: 0x5003, 2: 0x5003 }, {}, { isOutOfSync: true }, parts);
  const diff = diffShadow(snapshot, { limit: 2 });
  assertEquals(diff.differences.map((each) => each.class), ["wrong", "pending"]);
  assertEquals([diff.more, diff.counts.wrong, diff.counts.pending], [1, 1, 2]);
  assertEquals(diffShadow(snapshot, { classes: ["expected"], limit: 9 }).differences.length, 2);
});

Deno.test("diffShadow() finds tables to which no root leads", () => {
  const snapshot = sketch({ tables: [{ kind: PTE, gfn: 0x20, mfn: 0x9020, guest: { 0: 0x5003 } }] });
  const [difference] = diffShadow(snapshot).differences;
  assertEquals([difference?.path, difference?.from, difference?.places], [
    "table of gfn 0x20 at mfn 0x9020, to which no root leads > PTE[0]",
    null,
    0,
  ]);
});

Deno.test("diffSnapshots() finds entries that came, went and changed", () => {
  const before = drawn({ 0: 0x5003, 1: 0x6003 }, { 0: HOST + 0x5003, 1: HOST + 0x6003 });
  const after = drawn({ 1: 0x7003, 4: 0x5003, 5: 0x6003 }, {
    1: HOST + 0x7003,
    4: HOST + 0x5003,
    5: HOST + 0x6003,
  });
  const diff = diffSnapshots(before, after);
  assertEquals(diff.entries.told.map(({ how, side, first, last, from }) => [how, side, first, last, from]), [
    ["removed", "both", 0, 0, 0],
    ["changed", "both", 1, 1, 0x1000],
    ["added", "both", 4, 5, 0x4000],
  ]);
  assertEquals(
    snapshotDiffLines(diff)[3],
    [
      "+ PTE[4–5] of the PTE table of gfn 0x20 (space 0 > root 0 > PDE[0])",
      "0x4000–0x5fff",
      "2 entries; the first:",
      "guest 0x0000000000000000 → 0x0000000000005003",
      "shadow 0x0000000000000000 → 0x0000000100005003",
    ].join(" · "),
  );
});

Deno.test("diffSnapshots() finds what only one side has changed", () => {
  const entries = [{ 0: 0x5003 }, { 0: HOST + 0x5003 }] as const;
  const before = drawn(...entries);
  const sides = (after: Snapshot) => diffSnapshots(before, after).entries.told.map(({ side }) => side);
  assertEquals(sides(drawn({ 0: 0x6003 }, entries[1])), ["guest"]);
  assertEquals(sides(drawn(entries[0], { 0: HOST + 0x5001 })), ["shadow"]);
});

Deno.test("diffSnapshots() of two processes finds no difference where only host frames and numbers differ", () => {
  const ram = [{ gpa: 0, size: 0x1000000, mfn: 0x400000, kind: "file", readonly: false }];
  const before = drawn({ 0: 0x5003 }, { 0: HOST + 0x5003 });
  const [to, toShadow] = [{ 0: 0x20003, 1: 0x20003 }, { 0: 0x8020003, 1: 0x8020003 }];
  const after = sketch({
    engine: 7,
    ram,
    tables: [
      {
        serial: 40,
        kind: PTE,
        gfn: 0x20,
        mfn: 0x8020,
        refs: 4,
        guest: { 0: 0x5003 },
        shadow: { 0: 0x400005003 },
      },
      { serial: 41, kind: PDE, gfn: 0x11, mfn: 0x8001, guest: to, shadow: toShadow },
      { serial: 42, kind: PDE, gfn: 0x10, mfn: 0x8000, guest: to, shadow: toShadow },
    ],
    spaces: [
      { id: 5, level: 3, roots: [0x10000], shadowRoots: [0x8000000] },
      { id: 6, level: 3, roots: [0, 0x11000], shadowRoots: [0, 0x8001000] },
    ],
  });
  const { isSame, isSameEngine } = diffSnapshots(before, after);
  assertEquals([isSame, isSameEngine], [true, false]);
});

Deno.test("diffSnapshots() of two processes matches tables by where they are", () => {
  const before = drawn({ 0: 0x5003 }, { 0: HOST + 0x5003 });
  const tables = [
    { kind: PDE, gfn: 0x10, mfn: 0x9000, guest: { 0: 0x33003 }, shadow: { 0: 0x9033003 } },
    { kind: PTE, gfn: 0x33, mfn: 0x9033, guest: { 0: 0x5003 }, shadow: { 0: HOST + 0x5003 } },
  ] as const;
  const after = sketch({
    engine: 2,
    tables,
    spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
  });
  const diff = diffSnapshots(before, after);
  assertEquals([diff.added.count, diff.removed.told], [0, ["PDE table of gfn 0x11 (space 1 > root 1)"]]);
  assertEquals(diff.entries.told.map(({ kind, first, side }) => [kind, first, side]), [
    ["PDE", 0, "guest"], // another frame; what it leads to is the same table
    ["PDE", 1, "both"],
  ]);
  assertEquals(diff.spaces.told, ["- space 1 (3 levels, root – 0x11 – –) ended"]);
});

Deno.test("diffSnapshots() finds address spaces that changed, the GGTT, states and the setup", () => {
  const before = drawn({}, {});
  const after = drawn({}, {}, { isOutOfSync: true, isTracked: false }, {
    ggtt: { 0x400: [0x5001, HOST + 0x5001] },
    failsafe: true,
    spaces: [
      { level: 3, roots: [0x10000], shadowRoots: [0x9000000], refs: 2, pins: 1 },
      { level: 3, roots: [0, 0x11000], isShadowed: false },
    ],
  });
  assertEquals(snapshotDiffLines(diffSnapshots(before, after)), [
    "* failsafe: false → true",
    "2 address spaces changed",
    "* space 0: refs 1 → 2, pins 0 → 1",
    "* space 1: lost its shadow",
    "1 entry of the GGTT changed",
    "+ GGTT[1024] · 0x400000–0x400fff · guest 0x0000000000000000 → 0x0000000000005001 · " +
    "host 0x000000000ff00001 → 0x0000000100005001",
    "  1 table: in sync → out of sync",
  ]);
});

Deno.test("diffSnapshots() tells no more than it may", () => {
  const odd = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [2 * i, 0x5003]));
  const diff = diffSnapshots(drawn({}, {}), drawn(odd, {}), { limit: 3 });
  assertEquals([diff.entries.told.length, diff.entries.count], [3, 100]);
  assertEquals(snapshotDiffLines(diff).at(-1), "  … and 97 more");
});
