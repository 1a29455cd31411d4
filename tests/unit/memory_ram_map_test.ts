import { assert, assertEquals, assertThrows } from "@std/assert";
import { HOST_PAGE_MFN_BASE, RamError, RamMap } from "../../src/memory/ram_map.ts";
import { MAX_LOCAL_BYTES } from "../../src/memory/ram_region.ts";
import { counting, Guest, KINDS, testKinds } from "./memory_kinds.ts";

const PAGE = 4096;
const HIGH = 5 * 2 ** 30 + 3 * PAGE;
const SHARED = KINDS.filter((kind) => kind.source !== null);
const FILES = KINDS.filter((kind) => kind.expected === "file");

testKinds("map() tells the kind and the default host frames", KINDS, (kind) => {
  using guest = new Guest(kind);
  guest.map(HIGH, 2 * PAGE);

  assertEquals(guest.ram.regions, [
    { gpa: HIGH, size: 2 * PAGE, mfn: HIGH / PAGE + 0x100000, readonly: false, kind: kind.expected },
  ]);
});

testKinds("read() gives zeros when nothing was written", KINDS, (kind) => {
  using guest = new Guest(kind);
  guest.map(0, PAGE);
  const out = new Uint8Array(16).fill(9);

  assertEquals(guest.ram.read(PAGE - 16, out), true);
  assertEquals(out, new Uint8Array(16));
});

testKinds("read() gives what write() wrote, at any alignment", KINDS, (kind) => {
  using guest = new Guest(kind);
  guest.map(HIGH, 4 * PAGE);
  const written = counting(2 * PAGE + 5);
  const out = new Uint8Array(written.length);

  assertEquals(guest.ram.write(HIGH + 4093, written), true);
  assertEquals(guest.ram.read(HIGH + 4093, out), true);
  assertEquals(out, written);
  assertEquals(guest.ram.read(HIGH + 4092, out), true);
  assertEquals(out.subarray(0, 2), new Uint8Array([0, 1]));
});

testKinds("readDword() gives the four bytes, and -1 where there are none", KINDS, (kind) => {
  using guest = new Guest(kind);
  guest.map(HIGH, 2 * PAGE);
  guest.ram.write(HIGH + PAGE - 4, new Uint8Array([1, 2, 3, 0xff, 5]));

  assertEquals([HIGH + PAGE - 4, HIGH + PAGE].map((gpa) => guest.ram.readDword(gpa)), [0xff030201, 5]);
  assertEquals([HIGH - 4, HIGH + 2 * PAGE].map((gpa) => guest.ram.readDword(gpa)), [-1, -1]);
});

testKinds("copy() copies within memory of this process, as if all had been read before", KINDS, (kind) => {
  using guest = new Guest(kind);
  guest.map(0, 2 * PAGE);
  guest.map(2 * PAGE, 2 * PAGE);
  guest.ram.write(0, counting(4 * PAGE));
  const isCopied = kind.expected !== "file";
  const expected = counting(4 * PAGE);
  const out = new Uint8Array(4 * PAGE);

  assertEquals(guest.ram.copy(3, 10, PAGE), isCopied); // on itself
  if (isCopied) expected.copyWithin(10, 3, 3 + PAGE);
  assertEquals(guest.ram.copy(5, 2 * PAGE + 7, PAGE), isCopied); // to the other region
  if (isCopied) expected.copyWithin(2 * PAGE + 7, 5, 5 + PAGE);

  guest.ram.read(0, out);
  assertEquals(out, expected);
});

testKinds(
  "copy() refuses what is not within one region, or read-only, and changes nothing",
  KINDS,
  (kind) => {
    using guest = new Guest(kind);
    guest.map(0, PAGE);
    guest.map(PAGE, PAGE);
    guest.map(3 * PAGE, PAGE, { readonly: true });
    guest.ram.write(0, counting(2 * PAGE));
    const out = new Uint8Array(2 * PAGE);
    for (
      const [from, to] of [
        [PAGE - 4, 0], // ends in another region
        [0, PAGE - 4],
        [2 * PAGE - 4, 0], // ends in none
        [0, 2 * PAGE - 4],
        [2 * PAGE, 0], // is in none
        [0, 2 * PAGE],
        [0, 3 * PAGE], // read-only
      ] as const
    ) {
      assertEquals(guest.ram.copy(from, to, 8), false, `${from} to ${to}`);
    }

    guest.ram.read(0, out);
    assertEquals(out, counting(2 * PAGE));
  },
);

testKinds("readEntry() gives the lanes of the eight bytes, low lane first", KINDS, (kind) => {
  using guest = new Guest(kind);
  guest.map(HIGH, 2 * PAGE);
  guest.ram.write(HIGH + PAGE + 8, new Uint8Array([1, 2, 3, 4, 5, 6, 7, 0x88]));
  const out = new Uint32Array(2);

  assertEquals(guest.ram.readEntry(HIGH + PAGE + 8, out), true);
  assertEquals(out, new Uint32Array([0x04030201, 0x88070605]));
  assertEquals(guest.ram.readEntry(HIGH + PAGE, out), true);
  assertEquals(out, new Uint32Array([0, 0]));
});

testKinds("readPage() gives the 1024 lanes of one page", KINDS, (kind) => {
  using guest = new Guest(kind);
  guest.map(HIGH, 3 * PAGE);
  const page = counting(PAGE);
  guest.ram.write(HIGH + PAGE, page);
  const out = new Uint32Array(1024);

  assertEquals(guest.ram.readPage(HIGH / PAGE + 1, out), true);
  assertEquals(new Uint8Array(out.buffer), page);
  assertEquals(guest.ram.readPage(HIGH / PAGE + 2, out), true);
  assertEquals(out, new Uint32Array(1024));
});

testKinds("read() and write() span regions that touch", KINDS, (kind) => {
  using guest = new Guest(kind);
  guest.map(HIGH + PAGE, PAGE);
  guest.map(HIGH, PAGE);
  guest.map(HIGH + 2 * PAGE, PAGE);
  const written = counting(PAGE + 20);
  const out = new Uint8Array(written.length);

  assertEquals(guest.ram.write(HIGH + PAGE - 10, written), true);
  assertEquals(guest.ram.read(HIGH + PAGE - 10, out), true);
  assertEquals(out, written);
  const entry = new Uint32Array(2);
  guest.ram.readEntry(HIGH + 2 * PAGE, entry);
  assertEquals(new Uint8Array(entry.buffer), written.subarray(PAGE + 10, PAGE + 18));
});

testKinds("read() leaves its destination untouched when a byte is not RAM", KINDS, (kind) => {
  using guest = new Guest(kind);
  guest.map(PAGE, PAGE);
  guest.map(3 * PAGE, PAGE);
  const out = new Uint8Array(2 * PAGE).fill(7);

  assertEquals(guest.ram.read(PAGE + 1, out), false);
  assertEquals(guest.ram.read(0, out), false);
  assertEquals(guest.ram.read(4 * PAGE - 1, out.subarray(0, 2)), false);
  assertEquals(out, new Uint8Array(2 * PAGE).fill(7));
});

testKinds("write() writes nothing when a byte is not RAM", KINDS, (kind) => {
  using guest = new Guest(kind);
  guest.map(PAGE, PAGE);
  guest.map(3 * PAGE, PAGE);
  const page = new Uint32Array(1024);

  assertEquals(guest.ram.write(PAGE, counting(PAGE + 1)), false);
  assertEquals(guest.ram.write(0, counting(2 * PAGE)), false);
  assertEquals(guest.ram.write(PAGE + 8, counting(2 * PAGE)), false);
  assertEquals(guest.ram.readPage(1, page), true);
  assertEquals(page, new Uint32Array(1024));
});

testKinds("write() writes nothing when a byte is read-only", KINDS, (kind) => {
  using guest = new Guest(kind);
  guest.map(0, PAGE);
  guest.map(PAGE, PAGE, { readonly: true });
  const out = new Uint8Array(4).fill(7);

  assertEquals(guest.ram.write(PAGE - 2, counting(4)), false);
  assertEquals(guest.ram.write(PAGE + 2, counting(1)), false);
  assertEquals(guest.ram.read(PAGE - 2, out), true);
  assertEquals(out, new Uint8Array(4));
  assertEquals(guest.ram.regions[1]?.readonly, true);
});

testKinds("a region shares its bytes with the file's owner, both ways", SHARED, (kind) => {
  using guest = new Guest(kind);
  const source = guest.map(HIGH, 2 * PAGE);
  source?.poke(PAGE, new Uint8Array([1, 0, 0, 0, 2, 0, 0, 0]));
  guest.ram.write(HIGH + 5, new Uint8Array([42, 43]));
  const entry = new Uint32Array(2);

  assertEquals(guest.ram.readEntry(HIGH + PAGE, entry), true);
  assertEquals(entry, new Uint32Array([1, 2]));
  assertEquals(source?.peek(4, 4), new Uint8Array([0, 42, 43, 0]));
});

testKinds("a read-only region is readable", SHARED, (kind) => {
  using guest = new Guest(kind);
  const source = guest.map(0, PAGE, { readonly: true });
  source?.poke(100, new Uint8Array([1, 2]));
  const out = new Uint8Array(2);

  assertEquals(guest.ram.read(100, out), true);
  assertEquals(out, new Uint8Array([1, 2]));
});

testKinds("map() starts at the file's offset", SHARED, (kind) => {
  using source = kind.source?.(4 * PAGE) ?? null;
  using ram = new RamMap({ openFile: kind.openFile });
  ram.map({ gpa: HIGH, size: 2 * PAGE, path: source?.path, offset: PAGE });
  source?.poke(PAGE, new Uint8Array([11]));
  source?.poke(3 * PAGE - 1, new Uint8Array([22]));
  const out = new Uint8Array(2 * PAGE);

  assertEquals(ram.read(HIGH, out), true);
  assertEquals([out[0], out[2 * PAGE - 1]], [11, 22]);
  assertEquals(ram.write(HIGH + 1, new Uint8Array([33])), true);
  assertEquals(source?.peek(PAGE, 2), new Uint8Array([11, 33]));
});

testKinds("nothing is accessible after unmap(), and the place is free again", KINDS, (kind) => {
  using guest = new Guest(kind);
  guest.map(0, PAGE);
  guest.ram.write(0, counting(8));
  const bytes = new Uint8Array(1).fill(7);
  const lanes = new Uint32Array(1024).fill(7);

  guest.ram.unmap(0, PAGE);

  assertEquals(guest.ram.read(0, bytes), false);
  assertEquals(guest.ram.write(0, bytes), false);
  assertEquals(guest.ram.readEntry(0, lanes), false);
  assertEquals(guest.ram.readPage(0, lanes), false);
  assertEquals([bytes[0], lanes[0]], [7, 7]);
  assertEquals([guest.ram.isRam(0), guest.ram.mfnOf(0), guest.ram.gfnOf(0x100000)], [false, -1, -1]);
  guest.map(0, PAGE);
  assertEquals(guest.ram.readEntry(0, lanes), true);
  assertEquals(lanes[0], 0);
});

testKinds("clear() is legal more than once and leaves a usable map", KINDS, (kind) => {
  using guest = new Guest(kind);
  guest.map(0, PAGE);
  guest.map(PAGE, PAGE);
  guest.map(4 * PAGE, PAGE);

  guest.ram.clear();
  guest.ram.clear();
  guest.ram[Symbol.dispose]();

  assertEquals(guest.ram.regions, []);
  assertEquals([0, 1, 4].map((gfn) => guest.ram.isRam(gfn)), [false, false, false]);
  guest.map(0, PAGE);
  assertEquals(guest.ram.isRam(0), true);
});

testKinds("a backing refuses every access after close(), and a second close()", SHARED, (kind) => {
  using source = kind.source?.(2 * PAGE) ?? null;
  const backing = kind.openFile(source?.path ?? "", false, 0, 2 * PAGE);
  assertEquals(backing.readEntry(8, new Uint32Array(2)), true);
  const lanes = new Uint32Array(1024).fill(7);
  const bytes = new Uint8Array(8).fill(7);

  backing.close();
  backing.close();

  assertEquals(backing.readEntry(8, lanes), false);
  assertEquals(backing.readPage(0, lanes), false);
  assertEquals(backing.read(0, bytes), false);
  assertEquals(backing.write(0, bytes), false);
  assertEquals([lanes[0], bytes[0]], [7, 7]);
});

testKinds("a backing refuses what is beyond its end", SHARED, (kind) => {
  using source = kind.source?.(4 * PAGE) ?? null;
  const backing = kind.openFile(source?.path ?? "", false, PAGE, PAGE);
  const lanes = new Uint32Array(1024);

  assertEquals(backing.readEntry(PAGE, lanes), false);
  assertEquals(backing.readPage(PAGE, lanes), false);
  assertEquals(backing.read(PAGE - 1, new Uint8Array(2)), false);
  assertEquals(backing.write(PAGE - 1, new Uint8Array(2)), false);
  assertEquals(backing.write(PAGE - 2, new Uint8Array([5, 6])), true);
  assertEquals(source?.peek(2 * PAGE - 2, 4), new Uint8Array([5, 6, 0, 0]));
  backing.close();
});

testKinds("accesses fail, and change nothing, when the file was truncated", FILES, (kind) => {
  using guest = new Guest(kind);
  const source = guest.map(0, 4 * PAGE);
  source?.resize(PAGE + 100);
  const lanes = new Uint32Array(1024).fill(7);
  const bytes = new Uint8Array(3 * PAGE).fill(7);

  assertEquals(guest.ram.readEntry(2 * PAGE, lanes), false);
  assertEquals(guest.ram.readEntry(PAGE + 96, lanes), false, "half of the entry is left");
  assertEquals(guest.ram.readPage(1, lanes), false, "a part of the page is left");
  assertEquals(guest.ram.read(PAGE, bytes.subarray(0, 200)), false);
  assertEquals(guest.ram.read(0, bytes), false);
  assertEquals(guest.ram.write(2 * PAGE, bytes.subarray(0, 8)), false);
  assertEquals(guest.ram.write(PAGE, bytes.subarray(0, 200)), false);
  assert(lanes.every((lane) => lane === 7) && bytes.every((byte) => byte === 7));
  assertEquals(source?.peek(PAGE, 500).length, 100, "a write made the file longer");
  assertEquals(source?.peek(PAGE, 500), new Uint8Array(100));
  assertEquals(guest.ram.readPage(0, lanes), true);
});

testKinds("accesses work again when a truncated file has grown back", FILES, (kind) => {
  using guest = new Guest(kind);
  const source = guest.map(0, 2 * PAGE);
  source?.resize(0);
  assertEquals(guest.ram.isRam(1), true);
  assertEquals(guest.ram.readEntry(PAGE, new Uint32Array(2)), false);

  source?.resize(2 * PAGE);

  assertEquals(guest.ram.write(PAGE, counting(8)), true);
  assertEquals(guest.ram.readEntry(PAGE, new Uint32Array(2)), true);
});

testKinds(
  "read() leaves its destination untouched when a later region's file was truncated",
  FILES,
  (kind) => {
    using guest = new Guest(kind);
    guest.map(0, PAGE);
    const source = guest.map(PAGE, PAGE);
    source?.resize(0);
    const out = new Uint8Array(PAGE + 8).fill(7);

    assertEquals(guest.ram.read(0, out), false);
    assertEquals(out, new Uint8Array(PAGE + 8).fill(7));
  },
);

Deno.test("mfnOf() and gfnOf() are each other's reverse, in regions with any host frames", () => {
  using ram = new RamMap();
  ram.map({ gpa: 0, size: 4 * PAGE, mfn: 0x5000 });
  ram.map({ gpa: 4 * PAGE, size: 2 * PAGE, mfn: 0x4ffe });
  ram.map({ gpa: HIGH, size: PAGE });

  assertEquals([0, 3, 4, 5, 6, HIGH / PAGE].map((gfn) => ram.mfnOf(gfn)), [
    0x5000,
    0x5003,
    0x4ffe,
    0x4fff,
    -1,
    HIGH / PAGE + 0x100000,
  ]);
  assertEquals([0x5003, 0x5004, 0x4fff, 0x4ffd, HIGH / PAGE + 0x100000].map((mfn) => ram.gfnOf(mfn)), [
    3,
    -1,
    5,
    -1,
    HIGH / PAGE,
  ]);
});

Deno.test("map() takes the highest guest address, the last free host frame and frame 0", () => {
  using ram = new RamMap();

  ram.map({ gpa: 2 ** 46 - PAGE, size: PAGE, mfn: HOST_PAGE_MFN_BASE - 1 });
  ram.map({ gpa: 0, size: PAGE, mfn: 0 });

  assertEquals(ram.mfnOf(2 ** 34 - 1), HOST_PAGE_MFN_BASE - 1);
  assertEquals(ram.gfnOf(HOST_PAGE_MFN_BASE - 1), 2 ** 34 - 1);
  assertEquals(ram.gfnOf(0), 0);
  assertEquals(ram.write(2 ** 46 - 8, counting(8)), true);
  assertEquals(ram.write(2 ** 46 - 4, counting(8)), false);
});

Deno.test("isRam() is true for exactly the frames of regions", () => {
  using ram = new RamMap();
  ram.map({ gpa: 2 * PAGE, size: 2 * PAGE });

  assertEquals([1, 2, 3, 4].map((gfn) => ram.isRam(gfn)), [false, true, true, false]);
});

Deno.test("readEntry() refuses an address that is not a multiple of 8", () => {
  using ram = new RamMap();
  ram.map({ gpa: HIGH, size: PAGE });

  assertEquals([1, 4, 7, 8].map((at) => ram.readEntry(HIGH + at, new Uint32Array(2))), [
    false,
    false,
    false,
    true,
  ]);
});

Deno.test("read() and write() of no bytes succeed", () => {
  using ram = new RamMap();

  assertEquals([ram.read(0, new Uint8Array(0)), ram.write(PAGE, new Uint8Array(0))], [true, true]);
});

Deno.test("readPage() leaves the lanes after the page alone when the destination is longer", () => {
  using ram = new RamMap();
  ram.map({ gpa: 0, size: 2 * PAGE });
  const out = new Uint32Array(1026).fill(7);

  assertEquals(ram.readPage(1, out), true);
  assertEquals([out[1023], out[1024], out[1025]], [0, 7, 7]);
});

Deno.test("regions are told in order of their addresses, whatever order they came in", () => {
  using ram = new RamMap();
  for (const gfn of [5, 1, 9, 3, 7]) ram.map({ gpa: gfn * PAGE, size: PAGE });
  ram.unmap(5 * PAGE, PAGE);

  assertEquals(ram.regions.map(({ gpa }) => gpa / PAGE), [1, 3, 7, 9]);
  assertEquals([1, 2, 3, 5, 7, 8, 9].map((gfn) => ram.isRam(gfn)), [
    true,
    false,
    true,
    false,
    true,
    false,
    true,
  ]);
});

testKinds("a region of more than 4 GiB can be used at its far end", SHARED, (kind) => {
  using guest = new Guest(kind);
  const source = guest.map(2 ** 32, 6 * 2 ** 30);
  const end = 2 ** 32 + 6 * 2 ** 30;
  const entry = new Uint32Array(2);
  const page = new Uint32Array(1024);

  assertEquals(guest.ram.write(end - 8, counting(8)), true);
  assertEquals(guest.ram.readEntry(end - 8, entry), true);
  assertEquals(guest.ram.readPage(end / PAGE - 1, page), true);
  assertEquals(entry, new Uint32Array([0x04030201, 0x08070605]));
  assertEquals(page.subarray(1022), entry);
  assertEquals(source?.peek(6 * 2 ** 30 - 8, 8), counting(8));
});

Deno.test("unmap() gives the local RAM back to the total", () => {
  using ram = new RamMap();
  const piece = MAX_LOCAL_BYTES / 16; // never touched, so the system never provides it
  for (let i = 0; i < 16; i++) ram.map({ gpa: i * piece, size: piece });
  assertThrows(() => ram.map({ gpa: MAX_LOCAL_BYTES, size: PAGE }), RamError, "local RAM would be");

  ram.unmap(piece, piece);

  assertEquals(ram.map({ gpa: MAX_LOCAL_BYTES, size: PAGE }).kind, "local");
});
