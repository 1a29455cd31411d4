/**
 * The raster operation of a blit (`guest.md` §8.3): what becomes of the bits of a pixel.
 *
 * A ROP is eight bits, one for each combination of a bit of the pattern (4), of the source (2) and of the destination
 * (1): it is the result for that combination. 0xF0 is the pattern, 0xCC the source, 0xAA the destination as it is.
 * With 32 bits a pixel a *write mask* keeps alpha or colours as they are.
 *
 * @module
 */

/** Bits of a pixel that are written, by alpha (2) and RGB (1), as dword 0 of a command has them. */
const WRITE_MASKS = [0, 0x00ffffff, ~0x00ffffff, ~0] as const;
/** Everything is written: alpha and RGB. */
export const WRITES_ALL = 3;
/** The raster operation of a copy. */
export const ROP_SOURCE = 0xcc;
const ROP_DESTINATION = 0xaa;

/** Where the bits of `by` are 1 those of `ones`, elsewhere those of `zeros`. */
function select(by: number, ones: number, zeros: number): number {
  return zeros ^ (by & (ones ^ zeros));
}

/** The 32 bits of a pixel, or of several, as they lie in a dword that begins `offset` bytes later. */
function rotate(bits: number, offset: number): number {
  const shift = 8 * (offset & 3);
  return (bits >>> shift) | (bits << (32 - shift)); // a shift by 32 is one by 0
}

/**
 * What one blit does to bits.
 *
 * @example The source inverts the destination, but for alpha
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { RasterOperation } from "./raster_operation.ts";
 *
 * const operation = new RasterOperation();
 * operation.set(0x66, 0, 1);
 * assertEquals([operation.readsSource, operation.readsDestination], [true, true]);
 * const source = new Int32Array([0x70ff00ff]);
 * operation.combine(source, new Int32Array([0x12345678]), 4, 0);
 * assertEquals(source[0], 0x12cb5687);
 * ```
 */
export class RasterOperation {
  #rop = ROP_SOURCE;
  #pattern = 0;
  #mask: number = WRITE_MASKS[WRITES_ALL];
  #readsSource = true;
  #readsDestination = false;

  /** Whether the result depends on the source. */
  get readsSource(): boolean {
    return this.#readsSource;
  }

  /** Whether the result depends on the destination, be it because of the write mask. */
  get readsDestination(): boolean {
    return this.#readsDestination;
  }

  /** Whether the result is the source. */
  get isCopy(): boolean {
    return this.#rop === ROP_SOURCE && this.#mask === ~0;
  }

  /** Whether the result is the destination: nothing is to be done. */
  get isNothing(): boolean {
    return this.#rop === ROP_DESTINATION || this.#mask === 0;
  }

  /**
   * Begins another blit.
   *
   * @param rop Result for each combination of pattern, source and destination, 8 bits.
   * @param pattern A colour, repeated to 32 bits.
   * @param writes What is written: alpha (2) and RGB (1). {@linkcode WRITES_ALL} unless pixels have 32 bits.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { RasterOperation, ROP_SOURCE, WRITES_ALL } from "./raster_operation.ts";
   *
   * const operation = new RasterOperation();
   * operation.set(ROP_SOURCE, 0, WRITES_ALL);
   * assertEquals(operation.isCopy, true);
   * operation.set(ROP_SOURCE, 0, 0);
   * assertEquals(operation.isNothing, true);
   * ```
   */
  set(rop: number, pattern: number, writes: number): void {
    this.#rop = rop;
    this.#pattern = pattern;
    this.#mask = WRITE_MASKS[writes]!;
    this.#readsSource = ((rop ^ (rop >> 2)) & 0x33) !== 0;
    this.#readsDestination = ((rop ^ (rop >> 1)) & 0x55) !== 0 || this.#mask !== ~0;
  }

  /**
   * Computes the result for bytes of one row.
   *
   * @param source The source's bytes; becomes the result. Any value if it is not read.
   * @param destination The destination's bytes. Any value if it is not read.
   * @param size How many bytes there are, at least 1; whole dwords are computed.
   * @param offset Where in the row they begin, in bytes: says how pattern and write mask lie.
   *
   * @example Two pixels of 32 bits but for their first byte
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { RasterOperation, WRITES_ALL } from "./raster_operation.ts";
   *
   * const operation = new RasterOperation();
   * operation.set(0xf0, 0x44332211, WRITES_ALL);
   * const bytes = new Uint8Array(8);
   * operation.combine(new Int32Array(bytes.buffer), new Int32Array(2), 7, 1);
   * assertEquals([...bytes.subarray(0, 7)], [0x22, 0x33, 0x44, 0x11, 0x22, 0x33, 0x44]);
   * ```
   */
  combine(source: Int32Array, destination: Int32Array, size: number, offset: number): void {
    const pattern = rotate(this.#pattern, offset);
    const mask = rotate(this.#mask, offset);
    const neither = this.#choose(pattern, 0);
    const onlyDestination = this.#choose(pattern, 1);
    const onlySource = this.#choose(pattern, 2);
    const both = this.#choose(pattern, 3);
    const dwords = (size + 3) >> 2;
    for (let i = 0; i < dwords; i++) {
      const d = destination[i]!;
      const result = select(source[i]!, select(d, both, onlySource), select(d, onlyDestination, neither));
      source[i] = select(mask, result, d);
    }
  }

  /** The result for one combination of source (2) and destination (1): every bit of the pattern chooses. */
  #choose(pattern: number, combination: number): number {
    const zero = (this.#rop >> combination) & 1;
    const one = (this.#rop >> (combination | 4)) & 1;
    return select(pattern, -one, -zero);
  }
}
