/**
 * Stores that follow one another, on their way into one line (`protocol/recording.md` §3.2).
 *
 * @module
 */

import { hex, hexLanes, regionName } from "./names.ts";

/** Stores of one line at most: what is held of them stays in the processor's nearer caches. */
const MAX_BURST = 2048;

/**
 * Stores of one size to one region.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { StoreBurst } from "./store_burst.ts";
 *
 * const burst = new StoreBurst();
 * for (const page of [1, 2, 3]) burst.add(0, 0x800000 + 8 * page, 8, 0x1000 * page + 1, 0);
 * assertEquals(burst.add(7, 4, 2, 6, 0), false);
 * assertEquals(
 *   burst.take(),
 *   '{"ws":"bar0","size":8,"off":"0x800008","step":8,"val":"0x1001","add":4096,"count":3}',
 * );
 * burst.add(7, 4, 2, 6, 0);
 * assertEquals(burst.take(), '{"w":"config","off":"0x4","size":2,"val":"0x6"}');
 * ```
 */
export class StoreBurst {
  /** Stores that are held. */
  count = 0;
  #region = 0;
  #size = 0;
  /** All high lanes at once: mostly they are 0, and are left out. */
  #anyHigh = 0;
  readonly #offsets = new Uint32Array(MAX_BURST);
  readonly #low = new Uint32Array(MAX_BURST);
  readonly #high = new Uint32Array(MAX_BURST);

  /**
   * Adds a store.
   *
   * @returns Whether it was added; if not, the others have to be taken before.
   */
  add(region: number, offset: number, size: number, lo: number, hi: number): boolean {
    const { count } = this;
    if (count === 0) {
      this.#region = region;
      this.#size = size;
      this.#anyHigh = 0;
    } else if (region !== this.#region || size !== this.#size || count === MAX_BURST) return false;
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
  return new Uint8Array(lanes.buffer, 0, 4 * count).toBase64();
}
