import { assertEquals } from "@std/assert";
import { foldTree } from "../../src/inspect/fold.ts";
import type { ShadowTree, TreeEntry } from "../../src/inspect/tree.ts";

/** A 3-level tree of one PDE table with these entries. */
function tree(...e: TreeEntry[]): ShadowTree {
  return { level: 3, shadowed: true, roots: [[0, "0x1", { t: "PDE", g: 0x21, r: 1, e }]] };
}

/** A PTE table with these entries. */
function pte(...e: TreeEntry[]) {
  return { t: "PTE", g: 0x22, r: 1, e };
}

Deno.test("foldTree() says that a shadow is not there", () => {
  assertEquals(foldTree({ level: 4, shadowed: false, roots: [] }), [
    "not shadowed: the next pin rebuilds it",
  ]);
});

Deno.test("foldTree() is empty for an empty tree", () => {
  assertEquals(foldTree({ level: 4, shadowed: true, roots: [] }), []);
});

Deno.test("foldTree() folds frames that follow one another", () => {
  const table = pte([0, "0x3", "0x100"], [1, "0x3", "0x101"], [2, "0x3", "0x102"]);
  assertEquals(foldTree(tree([1, "0x3", table])).slice(2), [
    "    0x200000–0x202fff PTE[0–2] flags 0x3: mfn 0x100 and following",
  ]);
});

Deno.test("foldTree() folds entries of one and the same frame", () => {
  const table = pte([5, "0x19", "S"], [6, "0x19", "S"], [7, "0x19", "S"]);
  assertEquals(foldTree(tree([0, "0x3", table])).slice(2), [
    "    0x5000–0x7fff PTE[5–7] flags 0x19: scratch (S)",
  ]);
});

Deno.test("foldTree() breaks a run at a gap, other flags or another step", () => {
  const table = pte(
    [0, "0x3", "0x100"],
    [2, "0x3", "0x101"], // a gap
    [3, "0x1", "0x102"], // other flags
    [4, "0x1", "0x103"],
    [5, "0x1", "0x103"], // the same frame after the next one
    [6, "0x1", "0x110"], // any other frame
  );
  assertEquals(foldTree(tree([0, "0x3", table])).slice(2), [
    "    0x0–0xfff PTE[0] flags 0x3: mfn 0x100",
    "    0x2000–0x2fff PTE[2] flags 0x3: mfn 0x101",
    "    0x3000–0x4fff PTE[3–4] flags 0x1: mfn 0x102 and following",
    "    0x5000–0x5fff PTE[5] flags 0x1: mfn 0x103",
    "    0x6000–0x6fff PTE[6] flags 0x1: mfn 0x110",
  ]);
});

Deno.test("foldTree() never folds scratch with a frame", () => {
  const table = pte([0, "0x3", "sPTE"], [1, "0x3", "0x1"]);
  assertEquals(foldTree(tree([0, "0x3", table])).length, 4);
});

Deno.test("foldTree() folds entries of one shared table and shows it once", () => {
  const table = { ...pte([0, "0x3", "0x100"]), r: 3 };
  assertEquals(foldTree(tree([0, "0x3", table], [1, "0x3", { seen: 0x22 }], [2, "0x3", { seen: 0x22 }])), [
    "root 0: PDE table of gfn 0x21",
    "  0x0–0x5fffff PDE[0–2] flags 0x3: PTE table of gfn 0x22, 3 references",
    "    0x0–0xfff PTE[0] flags 0x3: mfn 0x100",
  ]);
});

Deno.test("foldTree() folds 2 MiB pages that follow one another", () => {
  const pages: TreeEntry[] = [[2, "0x83", "0x100200"], [3, "0x83", "0x100400"], [4, "0x83", "0x100401"]];
  assertEquals(foldTree(tree(...pages)).slice(1), [
    "  0x400000–0x7fffff PDE[2–3] flags 0x83: mfn 0x100200 and following",
    "  0x800000–0x9fffff PDE[4] flags 0x83: mfn 0x100401",
  ]);
});

Deno.test("foldTree() says what a PTE table stands for", () => {
  const [split, small] = [{ ...pte([0, "0x3", "0x7"]), p: "2M" as const }, pte([0, "0x3", "0x7"])];
  const entries: TreeEntry[] = [
    [0, "0x3", split],
    [1, "0x3", small],
    [2, "0x3", { ...small, p: "64K" }],
    [3, "0x3", { seen: 0x22, p: "64K" }],
    [4, "0x3", { seen: 0x22 }],
  ];
  assertEquals(foldTree(tree(...entries)).slice(1).filter((line) => !line.startsWith("    ")), [
    "  0x0–0x1fffff PDE[0] flags 0x3: 2 MiB page of gfn 0x22, split",
    "  0x200000–0x3fffff PDE[1] flags 0x3: PTE table of gfn 0x22",
    "  0x400000–0x7fffff PDE[2–3] flags 0x3: PTE table of 64 KiB pages of gfn 0x22",
    "  0x800000–0x9fffff PDE[4] flags 0x3: table of gfn 0x22, see above",
  ]);
});

Deno.test("foldTree() names a table that was shown before", () => {
  const table = pte([0, "0x3", "0x100"]);
  assertEquals(
    foldTree(tree([0, "0x3", table], [4, "0x3", { seen: 0x22 }])).at(-1), //
    "  0x800000–0x9fffff PDE[4] flags 0x3: table of gfn 0x22, see above",
  );
});

Deno.test("foldTree() shows the addresses of each root of a 3-level tree", () => {
  const root = (
    slot: number,
  ): TreeEntry => [slot, "0x1", { t: "PDE", g: slot, r: 1, e: [[511, "0x3", "sPDE"]] }];
  assertEquals(foldTree({ level: 3, shadowed: true, roots: [root(1), root(3)] }), [
    "root 1: PDE table of gfn 0x1",
    "  0x7fe00000–0x7fffffff PDE[511] flags 0x3: scratch (sPDE)",
    "root 3: PDE table of gfn 0x3",
    "  0xffe00000–0xffffffff PDE[511] flags 0x3: scratch (sPDE)",
  ]);
});

Deno.test("foldTree() shows addresses of 48 bits exactly", () => {
  const pdp = { t: "PDP", g: 2, r: 1, e: [[511, "0x3", "sPDP"]] as TreeEntry[] };
  const pml4 = { t: "PML4", g: 1, r: 1, e: [[511, "0x3", pdp]] as TreeEntry[] };
  assertEquals(
    foldTree({ level: 4, shadowed: true, roots: [[0, "0x0", pml4]] }).at(-1), //
    "    0xffffc0000000–0xffffffffffff PDP[511] flags 0x3: scratch (sPDP)",
  );
});
