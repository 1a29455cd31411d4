import { assertEquals } from "@std/assert";
import { PDE, PML4, PTE } from "../../src/gtt/entry.ts";
import { REASONS } from "../../src/observe/reasons.ts";
import { Judge, type JudgeOptions, type Verdict } from "../../src/observe/verdict.ts";
import {
  type Entries,
  SCRATCH,
  SCRATCH_TABLES,
  type Sketch,
  sketch,
  type SketchTable,
} from "./inspect_snapshot.ts";

const [S, S_PTE, S_PDE] = [SCRATCH * 4096, SCRATCH_TABLES[1] * 4096, SCRATCH_TABLES[2] * 4096];
/** A guest frame as host frame, in bytes. */
const HOST = 0x100000000;
/** No RAM. */
const NOWHERE = 0x7777000;

/** The verdicts of entries of a table that is drawn. */
function judged(
  table: Partial<SketchTable>,
  guest: Entries | null,
  shadow: Entries,
  others: Sketch & { readonly options?: JudgeOptions } = {},
): Verdict[] {
  const { options = {}, tables = [], ...parts } = others;
  const drawn = { kind: PTE, gfn: 0x20, mfn: 0x9000, ...table, guest, shadow } as const;
  const snapshot = sketch({ ...parts, tables: [drawn, ...tables] });
  const judge = new Judge(snapshot, options);
  const indices = new Set([...Object.keys(guest ?? {}), ...Object.keys(shadow)].map(Number));
  return [...indices].sort((a, b) => a - b).map((index) => judge.entry(snapshot.tableAt(0x9000)!, index));
}

function reasons(...args: Parameters<typeof judged>): string[] {
  return judged(...args).map((verdict) => `${verdict.class}: ${verdict.reason}`);
}

Deno.test("Judge says of a leaf whether it is the host frame of its guest frame, with its flags", () => {
  const guest = { 0: 0x5003, 1: 0x5003, 2: 0x5003, 3: 0x5003, 4: 0x5003, 5: 0x5003 };
  const shadow = {
    0: HOST + 0x5003,
    1: HOST + 0x5001,
    2: HOST + 0x6003,
    3: 0x9000003, // a shadow table
    4: S_PTE + 3,
    5: HOST + 0x5002,
  };
  assertEquals(reasons({}, guest, shadow), [
    "same: translated",
    "wrong: flags",
    "wrong: frame",
    "wrong: foreign",
    "wrong: missing",
    "wrong: missing",
  ]);
});

Deno.test("Judge expects scratch where the guest maps nothing or no RAM", () => {
  const guest = { 0: 0, 1: 0x5002, 2: NOWHERE + 3, 3: 0, 4: 0, 5: NOWHERE + 3 };
  const shadow = { 0: S_PTE + 3, 1: 0x5002, 2: S + 3, 3: HOST + 0x5003, 4: 0x20, 5: HOST + 0x5003 };
  assertEquals(reasons({}, guest, shadow), [
    "expected: removed",
    "same: absent", // as documented, the guest's own value
    "expected: no ram",
    "wrong: maps",
    "wrong: stray",
    "expected: left", // a store that is refused leaves what was there
  ]);
});

Deno.test("Judge does not expect what was there where nothing traps", () => {
  const guest = { 0: NOWHERE + 3, 1: NOWHERE + 3 };
  const shadow = { 0: HOST + 0x5003, 1: S + 1 };
  assertEquals(reasons({ seen: lanes(guest) }, guest, shadow, { tracking: "untracked" }), [
    "wrong: maps",
    "wrong: flags",
  ]);
});

Deno.test("Judge takes what an out-of-sync table differs in for pending, but never a foreign frame", () => {
  const guest = { 0: 0x5003, 1: 0x5003 };
  const shadow = { 0: HOST + 0x6003, 1: 0x9000003 };
  const table = { isOutOfSync: true, isTracked: false };
  assertEquals(reasons(table, guest, shadow), ["pending: out of sync", "wrong: foreign"]);
});

Deno.test("Judge tells what is behind from what is wrong by what the engine saw", () => {
  const guest = { 0: 0x5003, 1: 0x5003, 2: 0x5003 };
  const seen = lanes({ 0: 0x6003, 1: 0x5003, 2: 0x6003 });
  const shadow = { 0: HOST + 0x6003, 1: HOST + 0x6003, 2: HOST + 0x7003 };
  assertEquals(reasons({ isOutOfSync: true, seen }, guest, shadow), [
    "pending: out of sync",
    "wrong: frame",
    "wrong: frame",
  ]);
  assertEquals(reasons({ seen, isLookedAt: false }, guest, shadow, { tracking: "untracked" }), [
    "pending: not looked at",
    "wrong: frame",
    "wrong: frame",
  ]);
});

Deno.test("Judge takes a quiet guest's word where it is not known what the engine saw", () => {
  const [guest, shadow] = [{ 0: 0x5003 }, { 0: HOST + 0x6003 }];
  const tracking = "untracked";
  assertEquals(reasons({}, guest, shadow, { tracking }), ["pending: changed"]);
  assertEquals(reasons({}, guest, shadow, { tracking, options: { isQuiet: true } }), ["wrong: frame"]);
  const table = { isLookedAt: false };
  assertEquals(reasons(table, guest, shadow, { tracking, options: { isQuiet: true } }), [
    "pending: not looked at",
  ]);
});

Deno.test("Judge takes what was not so a moment ago for pending", () => {
  const table = { kind: PTE, gfn: 0x20, mfn: 0x9000 } as const;
  const shadow = { 0: HOST + 0x6003 };
  const [before, after] = [0x6003, 0x5003].map((entry) =>
    sketch({ tables: [{ ...table, guest: { 0: entry }, shadow }] })
  );
  const reason = (earlier: typeof before) =>
    new Judge(after!, { earlier }).entry(after!.tableAt(0x9000)!, 0).reason;
  assertEquals([reason(before), reason(after), reason(sketch({ engine: 2 }))], [
    "unconfirmed",
    "frame",
    "frame",
  ]);
});

Deno.test("Judge.codes() does not take one entry's reason for another's that is behind", () => {
  const seen = lanes({ 0: 0x6003, 1: 0x5003 });
  const table = { kind: PTE, gfn: 0x20, mfn: 0x9000, isOutOfSync: true, seen } as const;
  const shadow = { 0: HOST + 0x6003, 1: HOST + 0x6003 };
  const snapshot = sketch({ tables: [{ ...table, guest: { 0: 0x5003, 1: 0x5003 }, shadow }] });
  const codes = new Uint8Array(512);
  new Judge(snapshot).codes(snapshot.tableAt(0x9000)!, codes);
  assertEquals([...codes.slice(0, 2)].map((code) => REASONS[code]), ["out of sync", "frame"]);
});

Deno.test("Judge knows half stores that wait, and what a failed sync has left", () => {
  const guest = { 0: 0x5003, 1: 0x5003 };
  const shadow = { 0: S_PTE + 3, 1: S_PTE + 3 };
  assertEquals(reasons({ queued: [1] }, guest, shadow), ["wrong: missing", "pending: queued"]);
  const stale = { 0: 0x5003, 7: NOWHERE + 3, 8: 0x5003 };
  assertEquals(reasons({ writes: 2 }, stale, { 0: HOST + 0x6003, 8: HOST + 0x6003 }), [
    "wrong: frame", // before the entry that the sync failed at
    "expected: left",
    "pending: stale",
  ]);
});

Deno.test("Judge follows a directory entry to its table", () => {
  const child = { kind: PTE, gfn: 0x21, mfn: 0x9001 } as const;
  const other = { kind: PTE, gfn: 0x22, mfn: 0x9002 } as const;
  const guest = {
    0: 0x21003,
    1: 0x21003,
    2: 0x21003,
    3: 0x21003,
    4: 0x21003,
    5: NOWHERE + 3,
    6: 0x200083,
    7: 0,
  };
  const shadow = {
    0: 0x9001003,
    1: 0x9002003,
    2: 0x9001001,
    3: S_PDE + 3,
    4: HOST + 0x21003,
    5: S_PDE + 3,
    6: S_PDE + 3,
    7: 0x9001003,
  };
  assertEquals(reasons({ kind: PDE }, guest, shadow, { tables: [child, other] }), [
    "same: translated",
    "wrong: table",
    "wrong: flags",
    "wrong: missing",
    "wrong: dangling",
    "expected: no ram",
    "expected: large refused",
    "wrong: maps",
  ]);
});

Deno.test("Judge does not blame a directory entry that leads to what the engine may have refused", () => {
  const other = { kind: PTE, gfn: 0x22, mfn: 0x9002 } as const;
  const guest = { 0: 0x21003, 1: 0x21003 };
  const shadow = { 0: S_PDE + 3, 1: 0x9002003 };
  const judge = (parts: Sketch) =>
    reasons({ kind: PDE }, guest, shadow, { ...parts, tables: [other], options: { isQuiet: true } });
  assertEquals(judge({}), ["wrong: missing", "wrong: table"]);
  assertEquals(judge({ refusedStores: 1 }), ["pending: not built", "pending: not built"]);
  // Where nothing traps, tables are compared until they are as the guest's.
  assertEquals(judge({ refusedStores: 1, tracking: "untracked" }), ["wrong: missing", "wrong: table"]);
});

Deno.test("Judge lets no large page into a shadow that does not offer them", () => {
  assertEquals(reasons({ kind: PDE }, { 0: 0x200083 }, { 0: HOST + 0x200083 }), ["wrong: large"]);
});

Deno.test("Judge knows pages of 64 KiB", () => {
  const guest = { 0: 0x15003, 16: 0x25003 };
  const shadow = {
    ...Object.fromEntries(Array.from({ length: 16 }, (_, i) => [i, HOST + 0x10003 + i * 4096])),
    16: HOST + 0x20003,
    17: HOST + 0x22003,
  };
  assertEquals(reasons({ span: 16 }, guest, shadow, { hugePages: true }), [
    "same: translated",
    ...new Array(15).fill("expected: of 64k"),
    "same: translated",
    "wrong: frame",
  ]);
  const child = { kind: PTE, gfn: 0x21, mfn: 0x9001, span: 16 } as const;
  assertEquals(
    reasons({ kind: PDE }, { 0: 0x21803 }, { 0: 0x9001003 }, { hugePages: true, tables: [child] }),
    [
      "expected: ips dropped",
    ],
  );
  assertEquals(
    reasons({ kind: PDE }, { 0: 0x21803 }, { 0: 0x9001803 }, { tables: [{ ...child, span: 1 }] }),
    [
      "same: translated", // where they are not offered, the bit is nothing
    ],
  );
});

Deno.test("Judge knows pages of 2 MiB, whole and split", () => {
  const ram = [
    { gpa: 0, size: 0x400000, mfn: 0x100000, kind: "local", readonly: false },
    { gpa: 0x400000, size: 0x200000, mfn: 0x200001, kind: "local", readonly: false },
  ];
  const split = {
    kind: PTE,
    gfn: 0x400,
    mfn: 0x9001,
    isSplit: true,
    guest: null,
    shadow: { 0: 0x200001003, 1: 0x200003003, 2: 0x200003001 },
  } as const;
  const guest = { 0: 0x200083, 1: 0x400083, 2: 0x600083, 3: 0x200083 };
  const shadow = { 0: HOST + 0x200083, 1: 0x9001003, 2: S_PDE + 3, 3: HOST + 0x83 };
  const drawing = { hugePages: true, ram, tables: [split] };
  assertEquals(reasons({ kind: PDE }, guest, shadow, drawing), [
    "same: translated",
    "expected: split",
    "expected: no ram",
    "wrong: frame",
  ]);
  const parent = { kind: PDE, gfn: 0x20, mfn: 0x9000, guest, shadow } as const;
  const snapshot = sketch({ ...drawing, tables: [parent, split] });
  const judge = new Judge(snapshot);
  const leaves = [0, 1, 2, 3].map((index) => judge.entry(snapshot.tableAt(0x9001)!, index).reason);
  assertEquals(leaves, ["of 2m", "frame", "flags", "missing"]);
});

Deno.test("Judge says nothing against what cannot be read", () => {
  assertEquals(reasons({}, null, { 0: S_PTE + 3, 1: HOST + 0x5003 }), [
    "expected: unreadable",
    "pending: not read",
  ]);
});

Deno.test("Judge looks at roots", () => {
  const table = { kind: PML4, gfn: 0x20, mfn: 0x9000 } as const;
  const rootReason = (space: NonNullable<Sketch["spaces"]>[0], parts: Sketch = {}) => {
    const snapshot = sketch({ tables: [table], ...parts, spaces: [space] });
    const verdict = new Judge(snapshot).root(snapshot.parts.spaces[0]!, 0);
    return `${verdict.class}: ${verdict.reason}`;
  };
  assertEquals(rootReason({ roots: [0x20000], shadowRoots: [0x9000000] }), "same: translated");
  assertEquals(rootReason({ roots: [0x20001], shadowRoots: [0x9000000] }), "wrong: flags");
  assertEquals(rootReason({ roots: [0x21000], shadowRoots: [0x9000000] }), "wrong: table");
  assertEquals(rootReason({ roots: [0x20000], shadowRoots: [0x9001000] }), "wrong: dangling");
  assertEquals(rootReason({ roots: [0x20000] }), "wrong: missing");
  assertEquals(rootReason({ roots: [0], shadowRoots: [0x9000000] }), "wrong: maps");
  assertEquals(rootReason({ roots: [0] }), "same: absent");
  assertEquals(rootReason({ roots: [0x20000], isShadowed: false }), "pending: reclaimed");
  assertEquals(rootReason({ roots: [0x20000], isShadowed: false }, { failsafe: true }), "pending: failsafe");
  assertEquals(rootReason({ level: 3, roots: [0x20080] }), "expected: large refused");
});

Deno.test("Judge looks at the GGTT", () => {
  const ggtt = {
    0x400: [0x5001, HOST + 0x5001],
    0x401: [0x5002, S + 2],
    0x402: [NOWHERE + 1, S + 1],
    0x403: [0x5003, S + 1],
    0x404: [0x5001, HOST + 0x6001],
    0x405: [0x5001, 0x9000001],
    0x406: [0x5003, HOST + 0x5001],
    0x407: [0, HOST + 0x5001],
    0x408: [0x5003, S + 3],
    0x409: [0x5001, 0],
  } as const;
  const judge = new Judge(sketch({ ggtt }));
  assertEquals(Object.keys(ggtt).map((index) => judge.ggtt(Number(index)).reason), [
    "translated",
    "removed",
    "no ram",
    "reset",
    "frame",
    "foreign",
    "flags",
    "maps",
    "missing",
    "missing",
  ]);
  assertEquals(judge.ggtt(0).sentence, "the entry lies outside the vGPU's windows");
});

Deno.test("Judge says how a table follows the guest's", () => {
  const state = (table: Partial<SketchTable>, parts: Sketch = {}) => {
    const snapshot = sketch({ ...parts, tables: [{ kind: PTE, gfn: 0x20, mfn: 0x9000, ...table }] });
    const { text, class: each } = new Judge(snapshot).table(snapshot.tableAt(0x9000)!);
    return `${each}: ${text}`;
  };
  assertEquals(state({}), "same: in sync");
  assertEquals(state({ isOutOfSync: true, isTracked: false }), "pending: out of sync");
  assertEquals(state({ isTracked: false }), "wrong: not trapped");
  assertEquals(state({ queued: [1, 2] }), "pending: in sync, 2 queued");
  assertEquals(state({ writes: 3 }), "pending: stale: its sync failed");
  assertEquals(state({ isSplit: true, guest: null }), "expected: split");
  assertEquals(state({ guest: null }), "pending: guest page unreadable");
  assertEquals(state({ isLookedAt: false }, { tracking: "untracked" }), "pending: not looked at");
  assertEquals(state({ isTracked: false }, { tracking: "untracked" }), "same: looked at");
});

Deno.test("Judge.codes() judges neighbours that are alike as it does each by itself", () => {
  const guest = Object.fromEntries(
    Array.from({ length: 512 }, (_, i) => [i, i < 300 ? 0x5003 : NOWHERE + 3]),
  );
  const shadow = Object.fromEntries(
    Array.from({ length: 512 }, (_, i) => [i, i % 100 === 0 ? 0 : HOST + 0x5003]),
  );
  const snapshot = sketch({ tables: [{ kind: PTE, gfn: 0x20, mfn: 0x9000, guest, shadow }] });
  const judge = new Judge(snapshot);
  const table = snapshot.tableAt(0x9000)!;
  const codes = new Uint8Array(512);
  judge.codes(table, codes);
  assertEquals([...codes], Array.from({ length: 512 }, (_, index) => judge.code(table, index)));
});

Deno.test("Judge gives each verdict a sentence that says what both sides have", () => {
  const guest = { 0: 0x5003, 1: NOWHERE + 3, 2: 0, 3: 0x5003 };
  const shadow = { 0: HOST + 0x6003, 1: S + 3, 2: S_PTE + 3, 3: 0x9000003 };
  assertEquals(judged({}, guest, shadow).map(({ sentence }) => sentence), [
    "the guest maps gfn 0x5 (mfn 0x100005), the shadow leads to gfn 0x6 (mfn 0x100006)",
    "the guest maps gfn 0x7777, which is no RAM: the shadow leads to scratch (S)",
    "the guest maps nothing, the shadow leads to scratch (sPTE): a removed entry is aimed at scratch and keeps its flags",
    "the guest maps gfn 0x5 (mfn 0x100005), the shadow leads to mfn 0x9000, which is not the guest's",
  ]);
});

function lanes(entries: Entries): Uint32Array {
  const values = new BigUint64Array(512);
  for (const [index, entry] of Object.entries(entries)) values[Number(index)] = BigInt(entry);
  return new Uint32Array(values.buffer);
}
