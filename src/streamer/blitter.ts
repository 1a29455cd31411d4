/**
 * The blitter (`guest.md` §8.3): it fills a rectangle of pixels with a colour or copies one, between surfaces that
 * lie linearly in memory.
 *
 * - A *surface* is an address and a pitch, the bytes from one row to the next, which may be negative. Rectangle and
 *   pitch come from a guest, so a blit may touch gigabytes: it is done in *slices*, and each has a bound.
 * - A slice is made of *chunks*: bytes of one row that are done at once. What a chunk costs besides its bytes counts
 *   too, so a slice of rows with one pixel each takes no longer.
 * - Rows between which there is no gap, neither in the source nor in the destination, are one long row.
 * - The raster operation says what becomes of pattern, source and destination. The pattern of a fill is its colour,
 *   and it has no source; a copy has no pattern. What there is not is 0.
 * - Addresses have 48 bits: below 0 and above the end it goes on at the other side, and no chunk lies across.
 *
 * Source and destination may overlap. A row is copied as if its source had been read whole before, and rows go from
 * bottom to top where that is against the direction in which the copy moves, else from top to bottom. With equal
 * pitches, and rows no longer than those, the whole copy is thus as if its source had been read before; of other
 * overlaps only the order of rows is certain. Slices make no difference.
 *
 * Not supported, and to be skipped by the caller: tiled surfaces, clipping (the rectangle of XY_SETUP_*), patterns,
 * monochrome sources, text, and the forms without coordinates, COLOR_BLT and SRC_COPY_BLT, which GVT knows only
 * before Gen8.
 *
 * @module
 */

import { RasterOperation, ROP_SOURCE, WRITES_ALL } from "./raster_operation.ts";

/** The memory that a blit reads and writes, by addresses of the running context. */
export interface BlitMemory {
  /**
   * Reads bytes.
   *
   * @param gma Address of the first. The last, too, is below 2^48.
   * @param out Receives them, every one: 0 for what is not mapped.
   */
  read(gma: number, out: Uint8Array): void;
  /**
   * Writes bytes. What is not mapped or read-only is dropped.
   *
   * @param gma Address of the first. The last, too, is below 2^48.
   * @param bytes Them. The array is used again: not to be kept.
   */
  write(gma: number, bytes: Uint8Array): void;
  /**
   * Copies bytes: as {@linkcode read} and {@linkcode write} do, a piece at a time.
   *
   * @param from Address of the first. The last, too, is below 2^48.
   * @param to Where it goes; the same.
   * @param size How many there are.
   * @param isBackward Whether the last piece goes first, because it may lie on the source of those before.
   */
  copy(from: number, to: number, size: number, isBackward: boolean): void;
}

/** Client of a command, bits 31:29. */
const BLT_CLIENT = 2;
/** Opcodes, bits 28:22. */
const XY_FAST_COPY_BLT = 0x42;
const XY_COLOR_BLT = 0x50;
const XY_SRC_COPY_BLT = 0x53;
/** How long the commands are, in dwords. */
const FILL_LENGTH = 7;
const COPY_LENGTH = 10;

/** Dword 0: one of the surfaces is tiled. */
const TILED = (1 << 15) | (1 << 11);
/** Dword 0 of a fast copy: how its surfaces are tiled. */
const FAST_TILED = (3 << 20) | (3 << 13);
/** Dword 1: pixels outside the rectangle that XY_SETUP_* gave stay. */
const CLIPPED = 1 << 30;

/** A pixel's size by depth (dword 1, bits 25:24: 8, 565, 1555, 32 bits), as a logarithm of bytes. */
const PIXELS = [0, 1, 1, 2] as const;
/** The same for a fast copy (bits 26:24): 8, 16, 16, 32, 64, 128 bits. */
const FAST_PIXELS = [0, 1, 1, 2, 3, 4] as const;
/** Size of a pixel that has a write mask. */
const PIXEL_32 = 2;

/** Addresses are below it. */
const ADDRESS_END = 2 ** 48;

/** Where chunks end, from where rows begin: the size of the largest pixel, so no pixel of an aligned surface is torn. */
const CHUNK_UNIT = 16;
/** Size of the scratch, and the longest chunk that needs it: a row of a screen fits. */
const SCRATCH_BYTES = 16384;
/** The longest chunk of a copy that needs no scratch. */
const COPY_MAX = 1 << 20;
/** What a chunk costs besides its bytes, in bytes: to find the memory behind two or three addresses. */
const CHUNK_COST = 1024;

/** An address in 48 bits, from one that is beyond the end or below 0 by less than there are. */
function wrap(address: number): number {
  if (address < 0) return address + ADDRESS_END;
  return address < ADDRESS_END ? address : address - ADDRESS_END;
}

/** How many bytes there are on from an address, or back from it, until the address space ends. */
function roomAt(address: number, isBackward: boolean): number {
  if (!isBackward) return ADDRESS_END - address;
  return address === 0 ? ADDRESS_END : address;
}

/** An address that a command holds; bits 63:48 only repeat its sign. */
function addressAt(command: Uint32Array, dword: number): number {
  return (command[dword + 1]! & 0xffff) * 2 ** 32 + command[dword]!;
}

/** The signed low half of a dword: a corner's x, or a pitch. */
function lowHalf(dword: number): number {
  return (dword << 16) >> 16;
}

/** The signed high half of a dword: a corner's y. */
function highHalf(dword: number): number {
  return dword >> 16;
}

/** A colour repeated to 32 bits; `pixel` is the logarithm of its bytes. */
function repeat(colour: number, pixel: number): number {
  if (pixel === 0) return (colour & 0xff) * 0x01010101;
  return pixel === 1 ? (colour & 0xffff) * 0x00010001 : colour;
}

/**
 * The blitter of one engine. At most one blit is under way.
 *
 * @example A pixel of 32 bits is filled, and copied to the next row
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { Blitter } from "./blitter.ts";
 *
 * const bytes = new Uint8Array(32);
 * const memory = {
 *   read: (gma: number, out: Uint8Array) => out.set(bytes.subarray(gma, gma + out.length)),
 *   write: (gma: number, from: Uint8Array) => bytes.set(from, gma),
 *   copy: (from: number, to: number, size: number) => void bytes.copyWithin(to, from, from + size),
 * };
 * const blitter = new Blitter();
 * const fill = [0x54300005, 0x03f00010, 0x00000001, 0x00010002, 0, 0, 0xaabbccdd]; // (1, 0) to (2, 1)
 * assertEquals(blitter.begin(new Uint32Array(fill), 7), true);
 * assertEquals(blitter.run(memory, 4096), true);
 * const copy = [0x54f00008, 0x03cc0010, 0x00010000, 0x00020001, 0, 0, 0x00000001, 0x10, 0, 0]; // to (0, 1)
 * assertEquals(blitter.begin(new Uint32Array(copy), 10), true);
 * assertEquals(blitter.run(memory, 4096), true);
 * assertEquals([...new Uint32Array(bytes.buffer)], [0, 0xaabbccdd, 0, 0, 0xaabbccdd, 0, 0, 0]);
 * ```
 */
export class Blitter {
  /** What the last slice has cost, bytes: those that were written, and for each chunk something more. */
  spent = 0;
  readonly #operation = new RasterOperation();
  /** Rows that are not done, with the one under way. 0: no blit is. */
  #rows = 0;
  #rowBytes = 0;
  /** How many bytes of the row are done: its first, or, where it goes backwards, its last. */
  #done = 0;
  /** Where the row under way lies, and what is to be added for the next. */
  #destination = 0;
  #destinationStep = 0;
  #source = 0;
  #sourceStep = 0;

  /** Bytes at the start of the scratch that are the pattern, as it lies from an offset on; where nothing else is written. */
  #patternBytes = 0;
  #patternOffset = 0;

  /** The scratch: the source's bytes, which become the result, and the destination's. */
  readonly #sourceLanes = new Int32Array(SCRATCH_BYTES / 4);
  readonly #destinationLanes = new Int32Array(SCRATCH_BYTES / 4);
  /** As much of the scratch as the last chunk had. Rows are alike, so these are seldom made anew. */
  #sourceBytes = new Uint8Array(this.#sourceLanes.buffer);
  #destinationBytes = new Uint8Array(this.#destinationLanes.buffer);

  /**
   * Takes a command. A blit under way is given up.
   *
   * @param command Its dwords. Nothing of it is kept.
   * @param length How many dwords it has.
   * @returns Whether it is a blit that {@linkcode run} carries out. If not, it is to be skipped.
   *
   * @example A tiled destination is not supported
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { Blitter } from "./blitter.ts";
   *
   * const fill = new Uint32Array([0x54300805, 0x03f00080, 0, 0x00010001, 0, 0, 0]);
   * assertEquals(new Blitter().begin(fill, 7), false);
   * ```
   */
  begin(command: Uint32Array, length: number): boolean {
    this.#rows = 0;
    const dw0 = command[0]!;
    if (dw0 >>> 29 !== BLT_CLIENT) return false;
    switch ((dw0 >>> 22) & 0x7f) {
      case XY_COLOR_BLT:
        return length === FILL_LENGTH && this.#beginFill(command);
      case XY_SRC_COPY_BLT:
        return length === COPY_LENGTH && this.#beginCopy(command);
      case XY_FAST_COPY_BLT:
        return length === COPY_LENGTH && this.#beginFastCopy(command);
      default:
        return false;
    }
  }

  /**
   * Carries on with the blit that began: one slice.
   *
   * @param memory Where its surfaces lie.
   * @param maxBytes About how many bytes to write, at least 1; fewer where rows are short.
   * @returns Whether it is done, as is none. {@linkcode spent} says what the slice has cost.
   *
   * @example A slice of a blit of 1 GiB
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { Blitter } from "./blitter.ts";
   *
   * let written = 0;
   * const write = (_: number, bytes: Uint8Array) => void (written += bytes.length);
   * const blitter = new Blitter();
   * blitter.begin(new Uint32Array([0x54300005, 0x03f07ffc, 0, 0x40004000, 0, 0, 0]), 7);
   * assertEquals(blitter.run({ read() {}, copy() {}, write }, 32768), false);
   * assertEquals(written, 31744); // the first of two chunks has cost 1024 besides its bytes
   * ```
   */
  run(memory: BlitMemory, maxBytes: number): boolean {
    let left = maxBytes;
    while (left > 0 && this.#rows > 0) left -= this.#chunk(memory, left) + CHUNK_COST;
    this.spent = maxBytes - left;
    return this.#rows === 0;
  }

  #beginFill(command: Uint32Array): boolean {
    const dw1 = command[1]!;
    if ((command[0]! & TILED) !== 0 || (dw1 & CLIPPED) !== 0) return false;
    const pixel = PIXELS[(dw1 >>> 24) & 3]!;
    const rop = (dw1 >>> 16) & 0x33; // there is no source: as if it were 0
    this.#operate(command, rop | (rop << 2), repeat(command[6]!, pixel), pixel);
    this.#aim(command, pixel);
    this.#sourceStep = this.#destinationStep; // there is no source that could have gaps
    this.#joinRows();
    return true;
  }

  #beginCopy(command: Uint32Array): boolean {
    const dw1 = command[1]!;
    if ((command[0]! & TILED) !== 0 || (dw1 & CLIPPED) !== 0) return false;
    const pixel = PIXELS[(dw1 >>> 24) & 3]!;
    const rop = (dw1 >>> 16) & 0x0f; // there is no pattern: as if it were 0
    this.#operate(command, rop | (rop << 4), 0, pixel);
    this.#aim(command, pixel);
    this.#aimSource(command, pixel);
    this.#joinRows();
    return true;
  }

  #beginFastCopy(command: Uint32Array): boolean {
    const pixel = FAST_PIXELS[(command[1]! >>> 24) & 7];
    if ((command[0]! & FAST_TILED) !== 0 || pixel === undefined) return false;
    this.#operation.set(ROP_SOURCE, 0, WRITES_ALL);
    this.#aim(command, pixel);
    this.#aimSource(command, pixel);
    this.#joinRows();
    return true;
  }

  #operate(command: Uint32Array, rop: number, pattern: number, pixel: number): void {
    const writes = pixel === PIXEL_32 ? (command[0]! >>> 20) & 3 : WRITES_ALL;
    this.#operation.set(rop, pattern, writes);
    this.#patternBytes = 0;
  }

  /** The destination. Where nothing is to be done the blit is done. */
  #aim(command: Uint32Array, pixel: number): void {
    const x = lowHalf(command[2]!);
    const y = highHalf(command[2]!);
    const pitch = lowHalf(command[1]!);
    this.#rowBytes = (lowHalf(command[3]!) - x) << pixel;
    const rows = highHalf(command[3]!) - y;
    this.#rows = this.#rowBytes > 0 && rows > 0 && !this.#operation.isNothing ? rows : 0;
    this.#done = 0;
    this.#destination = wrap(addressAt(command, 4) + y * pitch + (x << pixel));
    this.#destinationStep = pitch;
  }

  /** The source of a copy, after its destination; and from which end its rows go. */
  #aimSource(command: Uint32Array, pixel: number): void {
    const pitch = lowHalf(command[7]!);
    const y = highHalf(command[6]!);
    this.#source = wrap(addressAt(command, 8) + y * pitch + (lowHalf(command[6]!) << pixel));
    this.#sourceStep = pitch;

    const distance = wrap(this.#destination - this.#source);
    const isUpwards = distance < ADDRESS_END / 2; // towards greater addresses: these must be read first
    if (distance === 0 || isUpwards !== this.#destinationStep >= 0) return;
    this.#destination = wrap(this.#destination + (this.#rows - 1) * this.#destinationStep);
    this.#destinationStep = -this.#destinationStep;
    this.#source = wrap(this.#source + (this.#rows - 1) * pitch);
    this.#sourceStep = -pitch;
  }

  /** Makes one row of all, if there is no gap between any two. */
  #joinRows(): void {
    const step = this.#destinationStep;
    if (this.#rows === 0 || Math.abs(step) !== this.#rowBytes || this.#sourceStep !== step) return;
    if (step < 0) { // it begins where the last row does
      this.#destination = wrap(this.#destination + (this.#rows - 1) * step);
      this.#source = wrap(this.#source + (this.#rows - 1) * step);
    }
    this.#rowBytes *= this.#rows;
    this.#rows = 1;
  }

  /** Does some bytes of the row, and after its last turns to the next. Returns how many. */
  #chunk(memory: BlitMemory, limit: number): number {
    const { readsSource, isCopy } = this.#operation;
    const distance = readsSource ? wrap(this.#destination - this.#source) : 0;
    const isBackward = distance > 0 && distance < this.#rowBytes;
    const left = this.#rowBytes - this.#done;
    const from = isBackward ? left : this.#done;
    let size = Math.min(limit, isCopy ? COPY_MAX : SCRATCH_BYTES);
    size = Math.min(Math.max(size & -CHUNK_UNIT, CHUNK_UNIT), left);
    size = Math.min(size, roomAt(wrap(this.#destination + from), isBackward));
    if (readsSource) size = Math.min(size, roomAt(wrap(this.#source + from), isBackward));

    const offset = isBackward ? left - size : this.#done;
    const source = wrap(this.#source + offset);
    const destination = wrap(this.#destination + offset);
    if (isCopy) memory.copy(source, destination, size, isBackward);
    else this.#compute(memory, source, destination, size, offset);

    if (size < left) this.#done += size;
    else this.#nextRow();
    return size;
  }

  /** A chunk by way of the scratch. */
  #compute(memory: BlitMemory, source: number, destination: number, size: number, offset: number): void {
    const { readsSource, readsDestination } = this.#operation;
    this.#view(size);
    if (readsSource) memory.read(source, this.#sourceBytes);
    if (readsDestination) memory.read(destination, this.#destinationBytes);
    if (readsSource || readsDestination) {
      this.#operation.combine(this.#sourceLanes, this.#destinationLanes, size, offset);
    } else if (size > this.#patternBytes || (offset & 3) !== this.#patternOffset) {
      this.#operation.combine(this.#sourceLanes, this.#destinationLanes, size, offset);
      this.#patternBytes = size;
      this.#patternOffset = offset & 3;
    }
    memory.write(destination, this.#sourceBytes);
  }

  #nextRow(): void {
    this.#rows--;
    this.#done = 0;
    this.#destination = wrap(this.#destination + this.#destinationStep);
    this.#source = wrap(this.#source + this.#sourceStep);
  }

  #view(size: number): void {
    if (this.#sourceBytes.length === size) return;
    this.#sourceBytes = new Uint8Array(this.#sourceLanes.buffer, 0, size);
    this.#destinationBytes = new Uint8Array(this.#destinationLanes.buffer, 0, size);
  }
}
