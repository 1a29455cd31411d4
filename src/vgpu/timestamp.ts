/**
 * The counter by which engines and guest tell time (`guest.md` §5.3, TIMESTAMP): it runs freely, at the model's rate.
 *
 * @module
 */

const LANE = 2 ** 32;
const MILLISECONDS = 1000;

/**
 * A counter over somebody's clock.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { Timestamp } from "../../mod.ts";
 *
 * let now = 0;
 * const timestamp = new Timestamp(12_000_000, () => now);
 * const ticks = new Uint32Array(2);
 * now = 1000;
 * timestamp.read(ticks);
 * assertEquals(ticks, Uint32Array.of(12_000_000, 0));
 * ```
 */
export class Timestamp {
  readonly #ticks: number;
  readonly #now: () => number;

  /**
   * A counter that is 0 when the clock is.
   *
   * @param hz Ticks in a second.
   * @param now The time, milliseconds, never going back.
   */
  constructor(hz: number, now: () => number) {
    this.#ticks = hz / MILLISECONDS;
    this.#now = now;
  }

  /**
   * Reads the counter.
   *
   * @param out Receives it as two lanes.
   */
  read(out: Uint32Array): void {
    const ticks = Math.floor(this.#now() * this.#ticks);
    out[0] = ticks % LANE;
    out[1] = Math.floor(ticks / LANE);
  }
}
