import { assert, assertEquals } from "@std/assert";
import { type BlitMemory, Blitter } from "../../src/streamer/blitter.ts";
import { Random } from "../model/random.ts";

const ADDRESS_END = 2 ** 48;
const SIZES_BY_DEPTH = [1, 2, 2, 4];
const SIZES_BY_FAST_DEPTH = [1, 2, 2, 4, 8, 16];

/** A blit, spelled out. */
interface Blit {
  readonly kind: "fill" | "copy" | "fast copy";
  readonly depth: number;
  readonly rop: number;
  /** Alpha (2) and RGB (1). */
  readonly writes: number;
  readonly colour: number;
  /** Corners of the destination: x2 and y2 are outside. */
  readonly box: readonly [x1: number, y1: number, x2: number, y2: number];
  readonly destination: number;
  readonly pitch: number;
  readonly from: readonly [x: number, y: number];
  readonly source: number;
  readonly sourcePitch: number;
}

/** A copy of one pixel, 32 bits; tests say what else they want. */
const PLAIN: Blit = {
  kind: "copy",
  depth: 3,
  rop: 0xcc,
  writes: 3,
  colour: 0,
  box: [0, 0, 1, 1],
  destination: 0x10000,
  pitch: 64,
  from: [0, 0],
  source: 0x20000,
  sourcePitch: 64,
};

/** What memory holds before anything is written. */
function pristine(gma: number): number {
  return (Math.imul(gma % 0x7fffffff, 0x9e3779b1) >>> 13) & 0xff;
}

function pair(x: number, y: number): number {
  return (((y & 0xffff) << 16) | (x & 0xffff)) >>> 0;
}

function address(gma: number): [number, number] {
  return [gma % 2 ** 32, Math.floor(gma / 2 ** 32)];
}

/** The command for a blit. */
function encode(blit: Blit): Uint32Array {
  const [x1, y1, x2, y2] = blit.box;
  const head = { "fill": 0x50000005 | 4 << 24, "copy": 0x54c00008, "fast copy": 0x50800008 }[blit.kind];
  const corners = [pair(x1, y1), pair(x2, y2), ...address(blit.destination)];
  if (blit.kind === "fast copy") {
    const dw1 = (blit.depth << 24) | (blit.pitch & 0xffff);
    return new Uint32Array([head, dw1, ...corners, ...sourceDwords(blit)]);
  }
  const dw1 = (blit.depth << 24) | (blit.rop << 16) | (blit.pitch & 0xffff);
  const rest = blit.kind === "fill" ? [blit.colour] : sourceDwords(blit);
  return new Uint32Array([head | (blit.writes << 20), dw1, ...corners, ...rest]);
}

function sourceDwords(blit: Blit): number[] {
  return [pair(...blit.from), blit.sourcePitch & 0xffff, ...address(blit.source)];
}

/** Memory by the byte, of which every address is mapped. */
class Memory implements BlitMemory {
  /** What was written, by address. */
  readonly bytes = new Map<number, number>();
  /** The arrays that were passed, each once. */
  readonly arrays = new Set<Uint8Array>();
  calls = 0;
  written = 0;

  read(gma: number, out: Uint8Array): void {
    this.#check(gma, out);
    for (let i = 0; i < out.length; i++) out[i] = this.at(gma + i);
  }

  write(gma: number, bytes: Uint8Array): void {
    this.#check(gma, bytes);
    this.written += bytes.length;
    bytes.forEach((byte, i) => this.bytes.set(gma + i, byte));
  }

  /** In pieces that are as long as no page, so that their order matters. */
  copy(from: number, to: number, size: number, isBackward: boolean): void {
    for (let left = size; left > 0;) {
      const count = Math.min(left, 7);
      const at = isBackward ? left - count : size - left;
      const bytes = Uint8Array.from(this.slice(from + at, count));
      this.#check(from + at, bytes);
      this.write(to + at, bytes);
      left -= count;
    }
  }

  at(gma: number): number {
    return this.bytes.get(gma) ?? pristine(gma);
  }

  /** The bytes from an address on. */
  slice(gma: number, length: number): number[] {
    return Array.from({ length }, (_, i) => this.at(gma + i));
  }

  #check(gma: number, bytes: Uint8Array): void {
    this.calls++;
    this.arrays.add(bytes);
    assert(Number.isInteger(gma) && gma >= 0 && bytes.length > 0 && gma + bytes.length <= ADDRESS_END);
  }
}

/** Memory that keeps nothing, for blits of any size. */
class Sink implements BlitMemory {
  calls = 0;
  written = 0;

  read(): void {
    this.calls++;
  }

  write(_gma: number, bytes: Uint8Array): void {
    this.calls++;
    this.written += bytes.length;
  }

  copy(_from: number, _to: number, size: number): void {
    this.calls++;
    this.written += size;
  }
}

function pixelSize(blit: Blit): number {
  return (blit.kind === "fast copy" ? SIZES_BY_FAST_DEPTH : SIZES_BY_DEPTH)[blit.depth]!;
}

/** One byte under a raster operation, bit by bit. */
function raster(rop: number, pattern: number, source: number, destination: number): number {
  let result = 0;
  for (let bit = 0; bit < 8; bit++) {
    const combination = (pattern >> bit & 1) * 4 + (source >> bit & 1) * 2 + (destination >> bit & 1);
    result |= (rop >> combination & 1) << bit;
  }
  return result;
}

/** A blit pixel by pixel, from top left to bottom right, where all of the source was read before. */
function expected(blit: Blit): Map<number, number> {
  const size = pixelSize(blit);
  const [x1, y1, x2, y2] = blit.box;
  const bytes = new Map<number, number>();
  const wrapped = (gma: number) => Number(BigInt.asUintN(48, BigInt(gma)));
  for (let y = y1; y < y2; y++) {
    for (let x = x1; x < x2; x++) {
      for (let i = 0; i < size; i++) {
        const isWritten = blit.kind === "fast copy" || blit.depth !== 3 ||
          (blit.writes & (i === 3 ? 2 : 1)) !== 0;
        if (!isWritten) continue;
        const gma = wrapped(blit.destination + y * blit.pitch + x * size + i);
        const from = blit.source + (blit.from[1] + y - y1) * blit.sourcePitch +
          (blit.from[0] + x - x1) * size + i;
        const source = blit.kind === "fill" ? 0 : pristine(wrapped(from));
        const pattern = blit.kind === "fill" ? (blit.colour >>> (8 * i)) & 0xff : 0;
        const rop = blit.kind === "fast copy" ? 0xcc : blit.rop;
        bytes.set(gma, raster(rop, pattern, source, bytes.get(gma) ?? pristine(gma)));
      }
    }
  }
  return bytes;
}

/** Carries out a blit in slices, whose sizes the function gives. */
function carryOut(blit: Blit, sliceSize: () => number): Memory {
  const memory = new Memory();
  const blitter = new Blitter();
  const command = encode(blit);
  assertEquals(blitter.begin(command, command.length), true, JSON.stringify(blit));
  command.fill(0);
  while (!blitter.run(memory, sliceSize()));
  return memory;
}

/** Asserts that a memory holds what is expected, and everywhere else what it held before. */
function assertHolds(memory: Memory, bytes: Map<number, number>, message: string): void {
  for (const [gma, byte] of bytes) assertEquals(memory.at(gma), byte, `${message} at ${gma}`);
  for (const [gma, byte] of memory.bytes) {
    assertEquals(byte, bytes.get(gma) ?? pristine(gma), `${message} around, at ${gma}`);
  }
}

function randomBlit(random: Random, kinds: readonly Blit["kind"][] = ["fill", "copy", "fast copy"]): Blit {
  const kind = random.pick(kinds);
  const depth = random.below(kind === "fast copy" ? 6 : 4);
  const [x1, y1] = [random.below(40) - 20, random.below(40) - 20];
  const [width, height] = [1 + random.below(random.pick([3, 40])), 1 + random.below(8)];
  return {
    kind,
    depth,
    rop: random.pick([0xf0, 0xcc, 0x66, random.below(256)]),
    writes: random.pick([3, 3, random.below(4)]),
    colour: random.below(2 ** 32),
    box: [x1, y1, x1 + width, y1 + height],
    destination: random.pick([0x100000, 0, 3, ADDRESS_END - 1, ADDRESS_END - 64, 0x8000_0000_0000]),
    pitch: random.pick([1, -1]) * random.pick([random.below(700), 640, 0x7fff]),
    from: [random.below(40) - 20, random.below(40) - 20],
    source: 0x4000_0000_0000 + random.below(64),
    sourcePitch: random.pick([1, -1]) * random.pick([random.below(700), 640, 0x7fff]),
  };
}

/** The same without gaps between its rows. */
function joined(blit: Blit, random: Random): Blit {
  const pitch = random.pick([1, -1]) * rowBytes(blit);
  return { ...blit, pitch, sourcePitch: random.pick([1, 1, 1, -1]) * pitch };
}

/** A copy whose rows do not overlap each other, with its source near. */
function randomMove(random: Random): Blit {
  const blit = randomBlit(random, ["copy", "fast copy"]);
  const isJoined = random.chance(0.3);
  const pitch = random.pick([1, -1]) * (isJoined ? rowBytes(blit) : 640 + random.below(16));
  const source = blit.destination + random.pick([0, 0, random.below(1400) - 700, random.below(9) - 4]);
  return { ...blit, pitch, sourcePitch: pitch, source: (source + ADDRESS_END) % ADDRESS_END };
}

function rowBytes(blit: Blit): number {
  return (blit.box[2] - blit.box[0]) * pixelSize(blit);
}

/** Whether no row writes what another does, so that their order does not matter. */
function hasSeparateRows(blit: Blit): boolean {
  return Math.abs(blit.pitch) >= rowBytes(blit);
}

Deno.test("Blitter writes what a model does by the pixel, in any slices", () => {
  const random = new Random(1);
  for (let run = 0; run < 2000; run++) {
    const any = randomBlit(random);
    const blit = random.chance(0.3) ? joined(any, random) : any;
    if (blit.kind !== "fill" && !hasSeparateRows(blit)) continue;
    const slice = random.pick([1, 16, 300, 2000, 1e6]);
    const memory = carryOut(blit, () => 1 + random.below(slice));
    assertHolds(memory, expected(blit), JSON.stringify(blit));
  }
});

Deno.test("Blitter copies what overlaps as if the source had been read before, in any slices", () => {
  const random = new Random(2);
  for (let run = 0; run < 1500; run++) {
    const blit = randomMove(random);
    const slice = random.pick([1, 16, 300, 2000, 1e6]);
    const memory = carryOut(blit, () => 1 + random.below(slice));
    assertHolds(memory, expected(blit), JSON.stringify(blit));
  }
});

Deno.test("Blitter makes no difference between slices where pitches differ and everything overlaps", () => {
  const random = new Random(3);
  for (let run = 0; run < 500; run++) {
    const near = randomBlit(random, ["copy", "fast copy"]);
    const blit = { ...near, source: (near.destination + random.below(200)) % ADDRESS_END };
    const whole = carryOut(blit, () => 1e9);
    const sliced = carryOut(blit, () => 1 + random.below(100));
    assertEquals(sliced.bytes, whole.bytes, JSON.stringify(blit));
  }
});

Deno.test("Blitter does every raster operation", () => {
  for (let rop = 0; rop < 256; rop++) {
    for (const kind of ["fill", "copy"] as const) {
      const blit = { ...PLAIN, kind, rop, colour: 0x5a0ff0a5, box: [0, 0, 16, 1] } as const;
      assertHolds(carryOut(blit, () => 1e9), expected(blit), `${kind} ${rop}`);
    }
  }
});

Deno.test("Blitter fills with the low bits of a colour", () => {
  const fill = {
    ...PLAIN,
    kind: "fill",
    rop: 0xf0,
    colour: 0x11223344,
    box: [1, 0, 3, 1],
    pitch: 16,
  } as const;
  const at = 0x10000;
  const [a, b, , d, e, f] = [0, 1, 2, 3, 4, 5].map((i) => pristine(at + i));
  const memories = [0, 1, 2].map((depth) => carryOut({ ...fill, depth }, () => 4096).slice(at, 6));
  assertEquals(memories, [
    [a, 0x44, 0x44, d, e, f],
    [a, b, 0x44, 0x33, 0x44, 0x33],
    [a, b, 0x44, 0x33, 0x44, 0x33],
  ]);
});

Deno.test("Blitter keeps alpha or colours of pixels of 32 bits that the write mask excludes", () => {
  const fill = { ...PLAIN, kind: "fill", rop: 0xf0, colour: 0xaabbccdd } as const;
  const [blue, green, red, alpha] = [0, 1, 2, 3].map((i) => pristine(0x10000 + i));
  assertEquals(carryOut({ ...fill, writes: 1 }, () => 64).slice(0x10000, 4), [0xdd, 0xcc, 0xbb, alpha]);
  assertEquals(carryOut({ ...fill, writes: 2 }, () => 64).slice(0x10000, 4), [blue, green, red, 0xaa]);
});

Deno.test("Blitter ignores the write mask of other depths", () => {
  const fill = { ...PLAIN, kind: "fill", rop: 0xf0, depth: 0, writes: 0, colour: 0x77 } as const;
  assertEquals(carryOut(fill, () => 64).slice(0x10000, 1), [0x77]);
});

Deno.test("Blitter moves a row within itself to the right and to the left", () => {
  const before = Array.from({ length: 48 }, (_, i) => pristine(0x10000 + i));
  const move = { ...PLAIN, depth: 0, source: 0x10000, box: [1, 0, 48, 1] } as const;
  const right = carryOut(move, () => 16);
  assertEquals(right.slice(0x10000, 48), [before[0], ...before.slice(0, 47)]);
  const left = carryOut({ ...move, box: [0, 0, 47, 1], from: [1, 0] }, () => 16);
  assertEquals(left.slice(0x10000, 48), [...before.slice(1), before[47]]);
});

Deno.test("Blitter moves a row that is longer than what it copies at once", () => {
  const move: Blit = { ...PLAIN, kind: "fast copy", depth: 5, source: 0x10000, box: [1, 0, 3000, 1] };
  assertHolds(carryOut(move, () => 1e9), expected(move), "right");
  const left: Blit = { ...move, box: [0, 0, 2999, 1], from: [1, 0] };
  assertHolds(carryOut(left, () => 1e9), expected(left), "left");
});

Deno.test("Blitter goes on at the other end of the address space", () => {
  const before = [0, 1, 2, 3].map((i) => pristine(0x20000 + i));
  const memory = carryOut({ ...PLAIN, destination: ADDRESS_END - 2 }, () => 4096);
  assertEquals(memory.slice(ADDRESS_END - 2, 2), before.slice(0, 2));
  assertEquals(memory.slice(0, 2), before.slice(2));
  assertEquals(memory.bytes.size, 4);
});

Deno.test("Blitter moves a row to the right across the end of the address space", () => {
  for (const at of [ADDRESS_END - 24, ADDRESS_END - 48, ADDRESS_END - 1]) {
    const move: Blit = { ...PLAIN, depth: 0, source: at, destination: at, box: [7, 0, 55, 1] };
    assertHolds(carryOut(move, () => 4096), expected(move), "in one slice");
    assertHolds(carryOut(move, () => 16), expected(move), "in slices");
  }
});

Deno.test("Blitter takes addresses whose sign is extended", () => {
  const command = encode({
    ...PLAIN,
    kind: "fill",
    rop: 0xf0,
    colour: 0x01020304,
    destination: 0xffff_ffff_f000,
  });
  command[5] = 0xffffffff;
  const blitter = new Blitter();
  const memory = new Memory();
  blitter.begin(command, 7);
  assertEquals(blitter.run(memory, 4096), true);
  assertEquals(memory.slice(0xffff_ffff_f000, 4), [4, 3, 2, 1]);
});

Deno.test("Blitter is done at once, without an access, where nothing is to be done", () => {
  const nothing: Partial<Blit>[] = [
    { box: [5, 0, 5, 1] },
    { box: [5, 0, 4, 1] },
    { box: [0, 5, 1, 5] },
    { box: [0, 5, 1, -5] },
    { box: [0x7fff, 0x7fff, -0x8000, -0x8000] },
    { rop: 0xaa },
    { writes: 0 },
    { kind: "fill", rop: 0xf0, writes: 0 },
    { kind: "fill", rop: 0xaa },
    { kind: "fast copy", box: [5, 0, 5, 1] },
  ];
  for (const each of nothing) {
    const memory = new Memory();
    const blitter = new Blitter();
    const command = encode({ ...PLAIN, ...each });
    assertEquals(blitter.begin(command, command.length), true);
    assertEquals(blitter.run(memory, 1), true);
    assertEquals(memory.calls, 0);
  }
});

Deno.test("Blitter refuses what it does not support, and has then nothing to do", () => {
  const [fill, copy, fast] = (["fill", "copy", "fast copy"] as const).map((kind) =>
    encode({ ...PLAIN, kind })
  );
  const changed = (command: Uint32Array, dword: number, bits: number) =>
    command.map((value, i) => i === dword ? value | bits : value);
  const refused: [what: string, command: Uint32Array, length?: number][] = [
    ["fill, tiled", changed(fill!, 0, 1 << 11)],
    ["fill, clipped", changed(fill!, 1, 1 << 30)],
    ["fill, short", fill!, 6],
    ["fill, long", fill!, 8],
    ["copy, destination tiled", changed(copy!, 0, 1 << 11)],
    ["copy, source tiled", changed(copy!, 0, 1 << 15)],
    ["copy, clipped", changed(copy!, 1, 1 << 30)],
    ["copy, short", copy!, 8],
    ["fast copy, source tiled as X", changed(fast!, 0, 1 << 20)],
    ["fast copy, source tiled as Y", changed(fast!, 0, 2 << 20)],
    ["fast copy, destination tiled as X", changed(fast!, 0, 1 << 13)],
    ["fast copy, destination tiled as Ys", changed(fast!, 0, 3 << 13)],
    ["fast copy, depth 6", encode({ ...PLAIN, kind: "fast copy", depth: 6 })],
    ["fast copy, depth 7", encode({ ...PLAIN, kind: "fast copy", depth: 7 })],
    ["fast copy, short", fast!, 9],
    ["COLOR_BLT", new Uint32Array([0x50300004, 0x03f00040, 0x00010004, 0x1000, 0, 0])],
    ["SRC_COPY_BLT", new Uint32Array([0x50f00006, 0x03cc0040, 0x00010004, 0x1000, 0, 64, 0x2000, 0])],
    ["XY_SETUP_BLT", new Uint32Array([0x40400008, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
    ["a command of another client", changed(copy!, 0, 1 << 29)],
    ["nothing", new Uint32Array(0)],
  ];
  for (const [what, command, length = command.length] of refused) {
    const memory = new Memory();
    const blitter = new Blitter();
    blitter.begin(encode(PLAIN), 10);
    assertEquals(blitter.begin(command, length), false, what);
    assertEquals(blitter.run(memory, 4096), true, what);
    assertEquals(memory.calls, 0, what);
  }
});

Deno.test("Blitter has nothing to do before a blit begins", () => {
  assertEquals(new Blitter().run(new Memory(), 4096), true);
});

Deno.test("Blitter gives up a blit when another begins", () => {
  const blitter = new Blitter();
  const memory = new Memory();
  blitter.begin(encode({ ...PLAIN, box: [0, 0, 16, 16] }), 10);
  assertEquals(blitter.run(memory, 16), false);
  blitter.begin(encode({ ...PLAIN, destination: 0x30000 }), 10);
  assertEquals(blitter.run(memory, 4096), true);
  assertEquals([...memory.bytes.keys()].filter((gma) => gma >= 0x30000), [
    0x30000,
    0x30001,
    0x30002,
    0x30003,
  ]);
  assertEquals(memory.written, 16 + 4);
});

Deno.test("Blitter's slices are bounded, whatever the rectangle", () => {
  const whole = { ...PLAIN, box: [-0x8000, -0x8000, 0x7fff, 0x7fff] } as const;
  const giants: [Blit, number][] = [
    [whole, 1],
    [whole, 4096],
    [{ ...whole, rop: 0x66 }, 4096],
    [{ ...whole, kind: "fast copy", depth: 5 }, 100_000],
    [{ ...whole, pitch: 0, sourcePitch: 0 }, 100_000],
    [{ ...whole, pitch: -0x8000, sourcePitch: -0x8000 }, 100_000],
    [{ ...whole, kind: "fill", rop: 0xf0, depth: 0 }, 100_000],
    [{ ...whole, box: [0, -0x8000, 1, 0x7fff] }, 100_000], // rows of one pixel
    [{ ...whole, box: [0, -0x8000, 1, 0x7fff], depth: 0, rop: 0x66, pitch: 0 }, 100_000],
    [{ ...whole, source: whole.destination + 1 }, 100_000],
    [{ ...whole, source: whole.destination - 1 }, 100_000],
    [{ ...whole, source: ADDRESS_END - 1, destination: 0 }, 100_000],
  ];
  for (const [blit, maxBytes] of giants) {
    const blitter = new Blitter();
    const command = encode(blit);
    assertEquals(blitter.begin(command, command.length), true);
    for (let slice = 0; slice < 20; slice++) {
      const memory = new Sink();
      assertEquals(blitter.run(memory, maxBytes), false, JSON.stringify(blit));
      assert(memory.written > 0 && memory.written <= Math.max(maxBytes, 16), JSON.stringify(blit));
      assert(memory.calls <= 3 * Math.ceil(maxBytes / 256), JSON.stringify(blit));
    }
  }
});

Deno.test("Blitter carries out the tallest rectangle to its end", () => {
  const blitter = new Blitter();
  const memory = new Sink();
  const command = encode({
    ...PLAIN,
    kind: "fill",
    rop: 0xf0,
    depth: 0,
    box: [0, -0x8000, 1, 0x7fff],
    pitch: -2,
  });
  blitter.begin(command, 7);
  while (!blitter.run(memory, 1_000_000));
  assertEquals([memory.written, memory.calls], [0xffff, 0xffff]);
});

Deno.test("Blitter does rows without gaps as one", () => {
  const rows = { ...PLAIN, box: [0, 0, 16, 16], pitch: 64, sourcePitch: 64 } as const;
  for (
    const [blit, calls] of [
      [rows, 1],
      [{ ...rows, pitch: -64, sourcePitch: -64 }, 1],
      [{ ...rows, kind: "fill", rop: 0xf0 }, 1],
      [{ ...rows, rop: 0x66 }, 3],
      [{ ...rows, pitch: 68, sourcePitch: 68 }, 16],
      [{ ...rows, sourcePitch: 68 }, 16],
      [{ ...rows, sourcePitch: -64 }, 16],
    ] as const
  ) {
    const memory = new Sink();
    const blitter = new Blitter();
    const command = encode(blit);
    blitter.begin(command, command.length);
    assertEquals(blitter.run(memory, 1_000_000), true);
    assertEquals([memory.written, memory.calls], [1024, calls], JSON.stringify(blit));
  }
});

Deno.test("Blitter tells what a slice has cost", () => {
  const blitter = new Blitter();
  const spent = (blit: Blit, maxBytes: number) => {
    blitter.begin(encode(blit), encode(blit).length);
    blitter.run(new Sink(), maxBytes);
    return blitter.spent;
  };
  const rows: Blit = { ...PLAIN, box: [0, 0, 16, 4], pitch: 128 };
  assertEquals(spent(rows, 1_000_000), 4 * (64 + 1024));
  assertEquals(spent(rows, 1), 16 + 1024);
  assertEquals(spent({ ...rows, box: [0, 0, 0, 4] }, 1_000_000), 0);
});

Deno.test("Blitter makes no array for a row", () => {
  const copy = { ...PLAIN, rop: 0x66, box: [0, 0, 8, 100] } as const;
  assertEquals(carryOut(copy, () => 1e9).arrays.size, 2);
});
