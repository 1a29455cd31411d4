/**
 * Stores that follow one another, on their way into one line (`protocol/recording.md` §3.2).
 *
 * @module
 */

import { hex, hexLanes, regionName } from "./names.ts";

/** Stores of one line at most: what is held of them stays in the processor's nearer caches. */
const MAX_BURST = 2048;

/** Stores whose lanes are put into text without a view of them. */
const FEW = 16;
const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/** Two digits of base64 for each 12 bits. */
const TWO_DIGITS = Array.from({ length: 4096 }, (_, bits) => DIGITS[bits >>> 6]! + DIGITS[bits & 63]!);

/** No store is of this kind. */
const NONE = -1;

/** Region and size in one number. */
function kindOf(region: number, size: number): number {
  return region << 4 | size;
}

/**
 * Stores of one size to one region.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { StoreBurst } from "./store_burst.ts";
 *
 * const burst = new StoreBurst();
 * burst.begin(0, 8);
 * for (const page of [1, 2, 3]) burst.add(0, 0x800000 + 8 * page, 8, 0x1000 * page + 1, 0);
 * assertEquals(burst.add(7, 4, 2, 6, 0), false);
 * assertEquals(
 *   burst.take(),
 *   '{"ws":"bar0","size":8,"off":"0x800008","step":8,"val":"0x1001","add":4096,"count":3}',
 * );
 * burst.begin(7, 2);
 * burst.add(7, 4, 2, 6, 0);
 * assertEquals(burst.take(), '{"w":"config","off":"0x4","size":2,"val":"0x6"}');
 * ```
 */
export class StoreBurst {
  /** Stores that are held. */
  count = 0;
  #region = 0;
  #size = 0;
  /** Region and size of stores that can be added, in one number. */
  #kind = NONE;
  /** All high lanes at once: mostly they are 0, and are left out. */
  #anyHigh = 0;
  readonly #offsets = new Uint32Array(MAX_BURST);
  readonly #low = new Uint32Array(MAX_BURST);
  readonly #high = new Uint32Array(MAX_BURST);

  /** Begins: there are no stores, and those that come are of this kind. */
  begin(region: number, size: number): void {
    this.#kind = kindOf(region, size);
    this.#region = region;
    this.#size = size;
    this.#anyHigh = 0;
    this.count = 0;
  }

  /**
   * Adds a store.
   *
   * @returns Whether it was added; if not, the others have to be taken before, and it begins.
   */
  add(region: number, offset: number, size: number, lo: number, hi: number): boolean {
    const { count } = this;
    if (kindOf(region, size) !== this.#kind || count === MAX_BURST) return false;
    this.count = count + 1;
    this.#offsets[count] = offset;
    this.#low[count] = lo;
    this.#high[count] = hi;
    this.#anyHigh |= hi;
    return true;
  }

  /** The stores as a line; there are none afterwards. */
  take(): string {
    const { count } = this;
    const name = regionName(this.#region);
    const size = this.#size;
    this.count = 0;
    this.#kind = NONE;
    if (count === 1) {
      const value = hexLanes(this.#low[0]!, this.#high[0]!);
      return `{"w":"${name}","off":"${hex(this.#offsets[0]!)}","size":${size},"val":"${value}"}`;
    }
    const step = stepOf(this.#offsets, count);
    const where = step === null
      ? `"offs":"${base64(this.#offsets, count)}"`
      : `"off":"${hex(this.#offsets[0]!)}","step":${step}`;
    const add = stepOf(this.#low, count);
    const low = add === null
      ? `"lo":"${base64(this.#low, count)}"`
      : `"val":"${hex(this.#low[0]!)}","add":${add},"count":${count}`;
    const high = this.#anyHigh === 0 ? "" : `,"hi":"${base64(this.#high, count)}"`;
    return `{"ws":"${name}","size":${size},${where},${low}${high}}`;
  }
}

/** How far each lane is from the one before, if all are alike. */
function stepOf(lanes: Uint32Array, count: number): number | null {
  const step = lanes[1]! - lanes[0]!;
  for (let i = 2; i < count; i++) if (lanes[i]! - lanes[i - 1]! !== step) return null;
  return step;
}

/** The first so many lanes. A processor that is no little-endian one runs no Deno. */
function base64(lanes: Uint32Array, count: number): string {
  if (count <= FEW) return base64OfFew(lanes, count);
  return new Uint8Array(lanes.buffer, 0, 4 * count).toBase64();
}

/** The same of a few, where a view and a call take longer: two digits for 12 bits at a time. */
function base64OfFew(lanes: Uint32Array, count: number): string {
  let text = "";
  let held = 0;
  let bits = 0;
  for (let i = 0; i < 4 * count; i++) {
    held = held << 8 | lanes[i >>> 2]! >>> 8 * (i & 3) & 0xff;
    bits += 8;
    if (bits < 12) continue;
    bits -= 12;
    text += TWO_DIGITS[held >>> bits]!;
    held &= (1 << bits) - 1;
  }
  // 0, 4 or 8 bits are left, of one byte or of the last one's end.
  if (4 * count % 3 === 1) return `${text}${TWO_DIGITS[held << 4]}==`;
  if (4 * count % 3 === 2) return `${text}${TWO_DIGITS[held << 8]!.slice(0, 1)}=`;
  return text;
}
