import { assertEquals } from "@std/assert";
import { PDE, PTE } from "../../src/gtt/entry.ts";
import type { Snapshot } from "../../src/observe/snapshot.ts";
import { walkLines } from "../../src/observe/walk_lines.ts";
import { type WalkOptions, walkSteps } from "../../src/observe/walk_steps.ts";
import type { Walk } from "../../src/observe/walk_result.ts";
import {
  type Entries,
  SCRATCH,
  SCRATCH_TABLES,
  type Sketch,
  sketch,
  type SketchTable,
} from "./inspect_snapshot.ts";

const HOST = 0x100000000;
const [S, S_PTE, S_PDE] = [SCRATCH * 4096, SCRATCH_TABLES[1] * 4096, SCRATCH_TABLES[2] * 4096];
const NOWHERE = 0x7777000;

/** A 3-level address space: a PDE table whose entry 0 leads to a PTE table with these entries. */
function drawn(
  guest: Entries,
  shadow: Entries,
  pte: Partial<SketchTable> = {},
  parts: Sketch = {},
): Snapshot {
  return sketch({
    tables: [
      { kind: PDE, gfn: 0x10, mfn: 0x9000, guest: { 0: 0x20003 }, shadow: { 0: 0x9020003 } },
      { kind: PTE, gfn: 0x20, mfn: 0x9020, ...pte, guest, shadow },
    ],
    spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
    ...parts,
  });
}

/** The end of a walk of the first address space. */
function end(snapshot: Snapshot, gma: number | bigint = 0xabc, options: WalkOptions = {}): string {
  const { verdict } = walk(snapshot, gma, options);
  return `${verdict.class}: ${verdict.sentence}`;
}

function walk(snapshot: Snapshot, gma: number | bigint = 0xabc, options: WalkOptions = {}): Walk {
  return walkSteps(snapshot, snapshot.parts.spaces[0]!, gma, options);
}

Deno.test("walkSteps() says that both agree", () => {
  assertEquals(
    end(drawn({ 0: 0x5003 }, { 0: HOST + 0x5003 })),
    "same: guest says gpa 0x5abc, shadow says gpa 0x5abc: both agree",
  );
  assertEquals(end(drawn({}, {})), "same: guest says nothing, shadow says nothing: both agree");
});

Deno.test("walkSteps() says why the shadow leads to scratch", () => {
  assertEquals(
    end(drawn({}, { 0: S_PTE + 3 })),
    "expected: guest says nothing, shadow says scratch (sPTE), because the guest maps nothing, the shadow leads to " +
      "scratch (sPTE): a removed entry is aimed at scratch and keeps its flags",
  );
  assertEquals(
    end(drawn({ 0: NOWHERE + 3 }, { 0: S + 3 })),
    "expected: guest says gpa 0x7777abc, which is no RAM, shadow says scratch (S), because the guest maps gfn 0x7777, " +
      "which is no RAM: the shadow leads to scratch (S)",
  );
});

Deno.test("walkSteps() says what the shadow waits for", () => {
  const pending = { isOutOfSync: true, isTracked: false };
  assertEquals(
    end(drawn({ 0: 0x5003 }, { 0: HOST + 0x6003 }, pending)),
    "pending: guest says gpa 0x5abc, shadow says gpa 0x6abc, because the guest maps gfn 0x5 (mfn 0x100005), the shadow " +
      "leads to gfn 0x6 (mfn 0x100006): the table is out of sync; it is compared before the next workload",
  );
  const spaces = [{ level: 3, roots: [0x10000], isShadowed: false }] as const;
  assertEquals(
    end(drawn({}, {}, {}, { tables: [], spaces }), 0, { guestPage: () => new Uint32Array(1024) }),
    "pending: guest says nothing, shadow says nothing (not shadowed): both agree, but the guest's root leads to the PDE " +
      "table of gfn 0x10: the shadow was reclaimed; the next pin rebuilds it",
  );
});

Deno.test("walkSteps() says what is wrong", () => {
  assertEquals(
    end(drawn({ 0: 0x5003 }, { 0: HOST + 0x6003 })),
    "wrong: guest says gpa 0x5abc, shadow says gpa 0x6abc, because the guest maps gfn 0x5 (mfn 0x100005), the shadow " +
      "leads to gfn 0x6 (mfn 0x100006)",
  );
  assertEquals(
    end(drawn({ 0: 0x5003 }, { 0: 0x9000003 })),
    "wrong: guest says gpa 0x5abc, shadow says mfn 0x9000, which is not the guest's, because the guest maps gfn 0x5 " +
      "(mfn 0x100005), the shadow leads to mfn 0x9000, which is not the guest's",
  );
});

Deno.test("walkSteps() goes each way by itself where the ways part", () => {
  const snapshot = sketch({
    tables: [
      { kind: PDE, gfn: 0x10, mfn: 0x9000, guest: { 0: 0x20003 }, shadow: { 0: 0x9021003 } },
      { kind: PTE, gfn: 0x20, mfn: 0x9020, guest: { 0: 0x5003 }, shadow: { 0: HOST + 0x5003 } },
      { kind: PTE, gfn: 0x21, mfn: 0x9021, guest: { 0: 0x6003 }, shadow: { 0: HOST + 0x6003 } },
    ],
    spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
  });
  const { steps, guest, shadow, verdict } = walk(snapshot);
  assertEquals(steps.map(({ verdict }) => verdict?.reason ?? null), ["table", null]);
  assertEquals([guest.frame, shadow.frame, verdict.class], [5, 0x100006, "wrong"]);
});

Deno.test("walkSteps() asks for a guest page that no shadow table stands for", () => {
  const snapshot = sketch({
    tables: [{ kind: PDE, gfn: 0x10, mfn: 0x9000, guest: { 0: 0x20003 }, shadow: { 0: S_PDE + 3 } }],
    spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
  });
  const asked = walk(snapshot);
  assertEquals([asked.wanted, asked.guest.is, asked.verdict.reason], [0x20, "unknown", "unknown"]);
  const page = new Uint32Array(1024);
  page[0] = 0x5003;
  const answered = walk(snapshot, 0xabc, { guestPage: (gfn) => gfn === 0x20 ? page : undefined });
  assertEquals([answered.wanted, answered.guest.address, answered.shadow.scratch], [null, 0x5abc, "sPDE"]);
  assertEquals(answered.verdict.class, "wrong");
  const unreadable = walk(snapshot, 0xabc, { guestPage: () => null });
  assertEquals([unreadable.wanted, unreadable.guest.is], [null, "unreadable"]);
});

Deno.test("walkSteps() says that an address is outside", () => {
  const snapshot = drawn({ 0: 0x5003 }, { 0: HOST + 0x5003 });
  assertEquals(
    end(snapshot, 2 ** 32),
    "same: 0x100000000 is outside: 3 levels have 32 bits: neither the guest nor the shadow maps anything there",
  );
  const four = sketch({ spaces: [{ roots: [0] }] });
  assertEquals(walk(four, 0x8000_0000_0000_0000n).verdict.reason, "outside");
  assertEquals(walk(four, 0xffff_8000_0000_0000n).note, "canonical form of 0x800000000000");
  assertEquals(walk(four, 0x8000_0000_0000n).note, null);
  assertEquals(walkSteps(snapshot, "ggtt", 0x1000).verdict.reason, "outside");
  assertEquals(walkSteps(snapshot, "ggtt", 2n ** 40n).verdict.reason, "outside");
});

Deno.test("walkSteps() takes the entry of a 64 KiB page that counts", () => {
  const pages = Object.fromEntries(Array.from({ length: 16 }, (_, i) => [i, HOST + 0x30003 + i * 4096]));
  const snapshot = sketch({
    hugePages: true,
    tables: [
      { kind: PDE, gfn: 0x10, mfn: 0x9000, guest: { 0: 0x20803 }, shadow: { 0: 0x9020003 } },
      { kind: PTE, gfn: 0x20, mfn: 0x9020, span: 16, guest: { 0: 0x30003 }, shadow: pages },
    ],
    spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
  });
  const { guest, shadow, steps } = walk(snapshot, 0x5abc);
  assertEquals([guest.address, shadow.frame], [0x35abc, 0x100035]);
  assertEquals([steps[1]?.index, steps[1]?.guest?.index, steps[1]?.shadow?.index], [5, 0, 5]);
});

Deno.test("walkSteps() goes into a split 2 MiB page on one side only", () => {
  const ram = [{ gpa: 0, size: 0x1000000, mfn: 0x100001, kind: "local", readonly: false }];
  const leaves = Object.fromEntries(Array.from({ length: 512 }, (_, i) => [i, (0x100201 + i) * 4096 + 3]));
  const snapshot = sketch({
    hugePages: true,
    ram,
    tables: [
      { kind: PDE, gfn: 0x10, mfn: 0x9000, guest: { 0: 0x200083 }, shadow: { 0: 0x9020003 } },
      { kind: PTE, gfn: 0x200, mfn: 0x9020, isSplit: true, guest: null, shadow: leaves },
    ],
    spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
  });
  const { guest, shadow, steps, verdict } = walk(snapshot, 0x3abc);
  assertEquals([guest.address, shadow.frame, verdict.class], [0x203abc, 0x100204, "expected"]);
  assertEquals(steps.map(({ guest }) => guest !== null), [true, false]);
});

Deno.test("walkLines() shows both sides of each level", () => {
  const snapshot = drawn({ 0: 0x5003 }, { 0: HOST + 0x6003 });
  assertEquals(walkLines(walk(snapshot)), [
    "space 0 (3 levels), address 0xabc",
    "= root 0: the guest's root leads to the PDE table of gfn 0x10, and so does the shadow's",
    "= PDE[0] (bits 29:21) in gfn 0x10, mfn 0x9000",
    "    guest   0x0000000000020003  P W  gfn 0x20",
    "    shadow  0x0000000009020003  P W  mfn 0x9020 (PTE table of gfn 0x20)",
    "! PTE[0] (bits 20:12) in gfn 0x20, mfn 0x9020",
    "    guest   0x0000000000005003  P W  gfn 0x5",
    "    shadow  0x0000000100006003  P W  mfn 0x100006",
    "    the guest maps gfn 0x5 (mfn 0x100005), the shadow leads to gfn 0x6 (mfn 0x100006)",
    "! guest says gpa 0x5abc, shadow says gpa 0x6abc, because the guest maps gfn 0x5 (mfn 0x100005), the shadow leads to gfn 0x6 (mfn 0x100006)",
  ]);
});
