/**
 * 64-bit values on the wire and as two 32-bit lanes.
 *
 * A `u64` is a number where a number holds it exactly, and a bigint from 2^53 on.
 *
 * @module
 */

const HIGH = 2 ** 32;
/** High lanes below this make a value that a number holds exactly. */
const SAFE_HIGH = 2 ** 21;

/** Bits 0..31 of a value. */
export function lowLane(value: number | bigint): number {
  return typeof value === "number" ? value >>> 0 : Number(value & 0xffffffffn);
}

/** Bits 32..63 of a value. */
export function highLane(value: number | bigint): number {
  return typeof value === "number" ? Math.floor(value / HIGH) : Number(value >> 32n);
}

/**
 * The value of two lanes.
 *
 * @param lo Bits 0..31.
 * @param hi Bits 32..63.
 * @returns A number if it holds the value exactly, else a bigint.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { fromLanes, highLane, lowLane } from "./u64.ts";
 *
 * assertEquals(fromLanes(0x64003, 0), 0x64003);
 * assertEquals(fromLanes(0x64003, 0x80000000), 0x8000000000064003n);
 * assertEquals([lowLane(2 ** 40 + 5), highLane(2 ** 40 + 5)], [5, 256]);
 * ```
 */
export function fromLanes(lo: number, hi: number): number | bigint {
  return hi < SAFE_HIGH ? hi * HIGH + lo : BigInt(hi) << 32n | BigInt(lo);
}
