import { assertEquals } from "@std/assert";
import { PDE, PTE } from "../../src/gtt/entry.ts";
import { whoLines, whoMaps } from "../../src/observe/who.ts";
import { sketch } from "./inspect_snapshot.ts";

const HOST = 0x100000000;

Deno.test("whoMaps() tells what one side only maps", () => {
  const snapshot = sketch({
    tables: [
      { kind: PDE, gfn: 0x10, mfn: 0x9000, guest: { 0: 0x20003 }, shadow: { 0: 0x9020003 } },
      {
        kind: PTE,
        gfn: 0x20,
        mfn: 0x9020,
        guest: { 0: 0x5003, 1: 0x6003 },
        shadow: { 0: HOST + 0x6003, 1: HOST + 0x6003 },
      },
    ],
    spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
  });
  assertEquals(whoMaps(snapshot, 5).mappings.map(({ side, first, class: each }) => [side, first, each]), [
    ["guest", 0, "wrong"],
  ]);
  assertEquals(whoMaps(snapshot, 6).mappings.map(({ side, first, class: each }) => [side, first, each]), [
    ["shadow", 0, "wrong"],
    ["both", 1, "same"],
  ]);
});

Deno.test("whoMaps() tells tables, roots and tracks of a frame", () => {
  const snapshot = sketch({
    tables: [
      { kind: PDE, gfn: 0x10, mfn: 0x9000, guest: { 3: 0x10003 }, shadow: { 3: 0x9001003 } },
      { kind: PTE, gfn: 0x10, mfn: 0x9001, isOutOfSync: true, isTracked: false, guest: { 3: 0x10003 } },
    ],
    spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
    tracks: [{ gfn: 0x10, track: 7, isEnabled: true }],
  });
  assertEquals(whoLines(whoMaps(snapshot, 0x10)), [
    "gfn 0x10: RAM, mfn 0x100010",
    "  it is the PDE table of gfn 0x10: in sync, 1 reference, shadow at mfn 0x9000, stores trap",
    "  it is the PTE table of gfn 0x10: out of sync, 1 reference, shadow at mfn 0x9001",
    "  it is a root of space 0",
    "  page track 7 of the VMM, enabled: stores are told",
    "= both sides · PDE[3] of the PDE table of gfn 0x10 · P W · at 0x600000–0x7fffff (space 0 > root 0)",
    "? guest only · PTE[3] of the PTE table of gfn 0x10 · P W · out of sync · " +
    "at 0x603000–0x603fff (space 0 > root 0 > PDE[3])",
  ]);
});

Deno.test("whoMaps() looks into pages of 64 KiB and 2 MiB", () => {
  const shadow = Object.fromEntries(Array.from({ length: 16 }, (_, i) => [i, HOST + 0x30003 + i * 4096]));
  const snapshot = sketch({
    hugePages: true,
    tables: [
      {
        kind: PDE,
        gfn: 0x10,
        mfn: 0x9000,
        guest: { 0: 0x20803, 1: 0x200083 },
        shadow: { 0: 0x9020003, 1: HOST + 0x200083 },
      },
      { kind: PTE, gfn: 0x20, mfn: 0x9020, span: 16, guest: { 0: 0x30003 }, shadow },
    ],
    spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
  });
  const found = (gfn: number) => {
    return whoMaps(snapshot, gfn).mappings.map(({ side, kind, first, addresses }) => {
      return [side, kind, first, addresses[0]?.from, addresses[0]?.to];
    });
  };
  assertEquals(found(0x35), [["both", "PTE", 5, 0x5000, 0x5fff]]);
  assertEquals(found(0x203), [["both", "PDE", 1, 0x203000, 0x203fff]]);
});

Deno.test("whoMaps() folds entries and tells no more addresses and runs than it may", () => {
  const guest = Object.fromEntries([0, 1, 2, 9, 11].map((index) => [index, 0x5003]));
  const shadow = Object.fromEntries([0, 1, 2, 9, 11].map((index) => [index, HOST + 0x5003]));
  const to = (value: number) => Object.fromEntries(Array.from({ length: 512 }, (_, i) => [i, value]));
  const snapshot = sketch({
    tables: [
      { kind: PDE, gfn: 0x10, mfn: 0x9000, guest: to(0x20003), shadow: to(0x9020003) },
      { kind: PTE, gfn: 0x20, mfn: 0x9020, guest, shadow },
    ],
    spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
  });
  const who = whoMaps(snapshot, 5, { limit: 2, addresses: 2 });
  assertEquals(
    who.mappings.map(({ first, last, count, addresses }) => [first, last, count, addresses.length]),
    [
      [0, 2, 1536, 2],
      [9, 9, 512, 2],
    ],
  );
  assertEquals(whoLines(who).slice(1), [
    "= both sides · PTE[0–2] of the PTE table of gfn 0x20 · P W · at 512 places: " +
    "0x0–0x2fff (space 0 > root 0 > PDE[0]), 0x200000–0x202fff (space 0 > root 0 > PDE[1]), …",
    "= both sides · PTE[9] of the PTE table of gfn 0x20 · P W · at 512 places: " +
    "0x9000–0x9fff (space 0 > root 0 > PDE[0]), 0x209000–0x209fff (space 0 > root 0 > PDE[1]), …",
    "  … and 1 more run of entries",
  ]);
});

Deno.test("whoMaps() says that nothing maps a frame", () => {
  assertEquals(whoLines(whoMaps(sketch({}), 0x7777)), ["gfn 0x7777: no RAM", "  nothing maps it"]);
});
