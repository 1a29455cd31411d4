import { assert, assertEquals } from "@std/assert";
import { openSource } from "../../src/cli/inspect/source.ts";
import { Snapshot } from "../../src/observe/snapshot.ts";
import { AddressStrips, type Strip, type StripShares, type StripSpace } from "../../src/observe/strip.ts";
import { STRIP_STATES, StripCache, type StripState } from "../../src/observe/strip_content.ts";
import { Judge } from "../../src/observe/verdict.ts";
import { SCRATCH, sketch, type SketchTable } from "./inspect_snapshot.ts";

const PAGE = 4096;
const MIB2 = 512 * PAGE;

function stripsOf(snapshot: Snapshot, cache = new StripCache()): AddressStrips {
  return new AddressStrips(snapshot, new Judge(snapshot), cache);
}

/** Shares with the names of states. */
function named(shares: StripShares): Partial<Record<StripState, number>> {
  return Object.fromEntries(shares.map(([state, pages]) => [STRIP_STATES[state]!, pages]));
}

/** Pages by state in a whole strip, of one lane. */
function totals({ runs }: Strip, lane: "guest" | "shadow"): Partial<Record<StripState, number>> {
  const sums: Partial<Record<StripState, number>> = {};
  for (const run of runs) {
    for (const [state, pages] of run[lane]) {
      const name = STRIP_STATES[state]!;
      sums[name] = (sums[name] ?? 0) + pages * run.cells;
    }
  }
  return sums;
}

/** The states of one lane's first pages, one by one. */
function pagesOf(snapshot: Snapshot, lane: "guest" | "shadow", gma = 0, count = 8): string[] {
  const { runs } = stripsOf(snapshot).strip(0, gma, PAGE, count);
  return runs.flatMap((run) => Array(run.cells).fill(Object.keys(named(run[lane])).join("+")));
}

/** A 3-level space whose only table of pages is this one, at 0. */
function oneTable(table: Partial<SketchTable>, parts: Parameters<typeof sketch>[0] = {}): Snapshot {
  return sketch({
    ...parts,
    tables: [
      { kind: 2, gfn: 0x10, mfn: 0x9000, guest: { 0: 0x11003 }, shadow: { 0: 0x9001003 } },
      { kind: 1, gfn: 0x11, mfn: 0x9001, ...table },
    ],
    spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
  });
}

Deno.test("strip tells pages that are mapped, aimed at scratch, wrong, and of no RAM", () => {
  const snapshot = oneTable({
    guest: { 0: 0x5003, 1: 0x6003, 2: 0x7777003, 3: 0x8003 },
    shadow: { 0: 0x100005003, 1: 0x100007003, 2: SCRATCH * PAGE + 3, 3: 0x100008001 },
  });
  assertEquals(pagesOf(snapshot, "guest", 0, 5), ["mapped", "mapped", "bad", "mapped", "unmapped"]);
  assertEquals(pagesOf(snapshot, "shadow", 0, 5), ["mapped", "wrong", "scratch", "wrong", "unmapped"]);
});

Deno.test("strip tells pages of a table that is out of sync only where they differ", () => {
  const guest = { 0: 0x5003, 1: 0x6003 };
  const shadow = { 0: 0x100005003, 1: 0x100007003 };
  assertEquals(pagesOf(oneTable({ guest, shadow, isOutOfSync: true }), "shadow", 0, 2), [
    "mapped",
    "pending",
  ]);
  assertEquals(pagesOf(oneTable({ guest, shadow, queued: [1] }), "shadow", 0, 2), ["mapped", "pending"]);
});

Deno.test("strip takes a page that fills tables for the guest's scratch", () => {
  const fill = (frame: number) =>
    Object.fromEntries(Array.from({ length: 512 }, (_, i) => [i, frame * PAGE + 3]));
  const snapshot = oneTable({
    guest: { ...fill(0x30), 3: 0x5003 },
    shadow: { ...fill(0x100030), 3: 0x100005003 },
  });
  for (const lane of ["guest", "shadow"] as const) {
    assertEquals(pagesOf(snapshot, lane, 0, 5), ["scratch", "scratch", "scratch", "mapped", "scratch"]);
  }
});

Deno.test("strip tells large pages, whole and split", () => {
  const leaves = Object.fromEntries(
    Array.from({ length: 512 }, (_, i) => [i, (i < 256 ? 0x100400 + i : 0x300000 + i - 256) * PAGE + 3]),
  );
  const snapshot = sketch({
    hugePages: true,
    ram: [
      { gpa: 0, size: 0x500000, mfn: 0x100000, kind: "local", readonly: false },
      { gpa: 0x500000, size: 0x100000, mfn: 0x300000, kind: "local", readonly: false },
    ],
    tables: [
      {
        kind: 2,
        gfn: 0x10,
        mfn: 0x9000,
        guest: { 0: 0x200083, 1: 0x400083 },
        shadow: { 0: 0x100200083, 1: 0x9001003 },
      },
      { kind: 1, gfn: 0x400, mfn: 0x9001, isSplit: true, guest: null, shadow: leaves },
    ],
    spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
  });
  const { runs } = stripsOf(snapshot).strip(0, 0, MIB2, 3);
  assertEquals(runs.map((run) => [named(run.guest), named(run.shadow)]), [
    [{ large: 512 }, { large: 512 }],
    [{ large: 512 }, { split: 512 }],
    [{ unmapped: 512 }, { unmapped: 512 }],
  ]);
});

Deno.test("strip of the GGTT tells what the guest stored, and scratch where it did not", () => {
  const snapshot = sketch({ ggtt: { 0x401: [0x5001, 0x100005001], 0x402: [0x6001, 0x100007001] } });
  const { runs } = stripsOf(snapshot).strip("aperture", 0x400000, PAGE, 4);
  assertEquals(runs.map((run) => [named(run.guest), named(run.shadow)]), [
    [{ unmapped: 1 }, { scratch: 1 }],
    [{ mapped: 1 }, { mapped: 1 }],
    [{ mapped: 1 }, { wrong: 1 }],
    [{ unmapped: 1 }, { scratch: 1 }],
  ]);
});

/** Every entry of the PML4 leads to one PDP, every one of that to one PDE, and so on; one page is mapped by all. */
function sharedTree(): Snapshot {
  const all = (entry: number) => Object.fromEntries(Array.from({ length: 512 }, (_, i) => [i, entry]));
  return sketch({
    tables: [
      { kind: 4, gfn: 0x10, mfn: 0x9000, guest: all(0x11003), shadow: all(0x9001003) },
      { kind: 3, gfn: 0x11, mfn: 0x9001, guest: all(0x12003), shadow: all(0x9002003) },
      { kind: 2, gfn: 0x12, mfn: 0x9002, guest: all(0x13003), shadow: all(0x9003003) },
      { kind: 1, gfn: 0x13, mfn: 0x9003, guest: { 7: 0x5003 }, shadow: { 7: 0x100005003 } },
    ],
    spaces: [{ roots: [0x10000], shadowRoots: [0x9000000] }],
  });
}

Deno.test("strip adds up shared tables once, and is exact at every zoom", () => {
  const strips = stripsOf(sharedTree());
  const began = performance.now();
  for (let shift = 12; shift <= 39; shift++) {
    const { runs } = strips.strip(0, 0, 2 ** shift, 512);
    const sums = totals({ from: 0, cellBytes: 2 ** shift, runs }, "shadow");
    assertEquals(sums.mapped, Math.max(1, 2 ** (shift - 12)), `one page in 512, cells of 2^${shift}`);
    assertEquals(sums.mapped! + sums.unmapped!, 2 ** (shift - 12) * 512);
  }
  assert(performance.now() - began < 1000);
});

Deno.test("strip comes to an end where a guest's table leads to itself", () => {
  const all = Object.fromEntries(Array.from({ length: 512 }, (_, i) => [i, 0x10003]));
  // The same page as every kind of table, as a guest may have it.
  const tables = [4, 3, 2, 1].map((kind, i): SketchTable => ({
    kind: kind as 1 | 2 | 3 | 4,
    gfn: 0x10,
    mfn: 0x9000 + i,
    guest: all,
    shadow: Object.fromEntries(
      Array.from({ length: 512 }, (_, e) => [e, kind === 1 ? 0x100010003 : (0x9001 + i) * PAGE + 3]),
    ),
  }));
  const strips = stripsOf(sketch({ tables, spaces: [{ roots: [0x10000], shadowRoots: [0x9000000] }] }));
  const { runs } = strips.strip(0, 0, 2 ** 39, 512);
  assertEquals(runs.map((run) => [run.cells, named(run.guest), named(run.shadow)]), [
    [512, { scratch: 2 ** 27 }, { scratch: 2 ** 27 }],
  ]);
});

Deno.test("strip of cells that begin and end inside of tables is the sum of their pages", () => {
  const guest = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [i, (0x100 + i) * PAGE + 3]));
  const shadow = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [i, (0x100100 + i) * PAGE + 3]));
  const strips = stripsOf(oneTable({ guest, shadow }));
  for (
    const [from, bytes, mapped] of [[0, MIB2, 300], [5 * PAGE, 7 * PAGE, 7], [290 * PAGE, MIB2, 10]] as const
  ) {
    const [run] = strips.strip(0, from, bytes, 1).runs;
    assertEquals(named(run!.shadow).mapped, mapped);
    assertEquals(named(run!.guest).mapped, mapped);
  }
});

Deno.test("strip finds the page that tells most, and the next one that maps something", () => {
  const snapshot = oneTable({
    guest: { 4: 0x5003, 9: 0x6003, 300: 0x7003 },
    shadow: { 4: 0x100005003, 9: 0x100007003, 300: 0x100007003 },
  });
  const strips = stripsOf(snapshot);
  assertEquals(strips.tellingAddress(0, 0, 2 ** 32), 9 * PAGE);
  assertEquals(strips.tellingAddress(0, 0, 8 * PAGE), 4 * PAGE);
  assertEquals(strips.tellingAddress(0, 0x800000, MIB2), 0x800000);
  const next = (gma: number, isForward: boolean) => strips.nextAddress(0, gma, isForward);
  assertEquals([next(0, true), next(4 * PAGE, true), next(9 * PAGE, true), next(300 * PAGE, true)], [
    4 * PAGE,
    9 * PAGE,
    300 * PAGE,
    null,
  ]);
  assertEquals([next(300 * PAGE, false), next(4 * PAGE, false)], [9 * PAGE, null]);
  assertEquals([strips.mappedPages(0), strips.wrongPages(0)], [3, 1]);
});

Deno.test("strip of the next snapshot shows what changed, with what was kept of the one before", () => {
  const cache = new StripCache();
  const before = oneTable({ guest: { 4: 0x5003 }, shadow: { 4: 0x100005003 } });
  assertEquals(stripsOf(before, cache).mappedPages(0), 1);
  const after = oneTable({ guest: { 4: 0x5003, 5: 0x6003 }, shadow: { 4: 0x100005003, 5: 0x100006003 } });
  assertEquals(stripsOf(after, cache).mappedPages(0), 2);
  // The same pages, but RAM went.
  const { tables, spaces } = after.parts;
  const { parts } = sketch({ ram: [] });
  const gone = new Snapshot({ ...parts, tables, spaces });
  assertEquals(totals(stripsOf(gone, cache).strip(0, 0, PAGE, 8), "guest"), { bad: 2, unmapped: 6 });
});

Deno.test("strip of a recorded guest has its five pages among scratch", async () => {
  const path = new URL("../../examples/debian-6.1-i915.jsonl.gz", import.meta.url).pathname;
  await using source = await openSource({ kind: "recording", path, name: path });
  const strips = stripsOf(await source.take());
  const mapped = (space: StripSpace) => strips.mappedPages(space);
  assertEquals([0, 1, 2, 3, 4].map(mapped), [0, 0, 0, 5, 0]);
  assertEquals([mapped("aperture"), mapped("hidden")], [0, 216]);
  const whole = strips.strip(3, 0, 2 ** 39, 512);
  assertEquals(totals(whole, "guest"), { scratch: 2 ** 36 - 5, mapped: 5 });
  assertEquals(totals(whole, "shadow"), { scratch: 2 ** 36 - 5, mapped: 5 });
});
