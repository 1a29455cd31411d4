/**
 * Numbers as people give them to the inspector: decimal or, with `0x`, hexadecimal; with `_` wherever it helps to read.
 *
 * @module
 */

import { UsageError } from "../usage.ts";

/** The end of 64-bit addresses. */
const ADDRESSES = 1n << 64n;
/** The end of the addresses of a PPGTT. */
export const ADDRESS_END: bigint = 1n << 48n;
/** The end of the addresses of the GGTT. */
export const GGTT_END: bigint = 1n << 32n;

/**
 * Reads an address of 64 bits.
 *
 * @param text For example `0x80_8060_4000`.
 * @param what What it is, for the message.
 * @throws {UsageError} When it is none.
 *
 * @example
 * ```ts
 * import { assertEquals, assertThrows } from "@std/assert";
 * import { parseAddress } from "./numbers.ts";
 *
 * assertEquals(parseAddress("0x80_8060_4000", "GMA"), 0x8080604000n);
 * assertEquals(parseAddress("4_096", "GMA"), 4096n);
 * assertThrows(() => parseAddress("8060g", "GMA"), Error, 'GMA must be a number, such as 0x1000: got "8060g"');
 * ```
 */
export function parseAddress(text: string, what: string): bigint {
  const value = /^(0x[0-9a-f][0-9a-f_]*|\d[\d_]*)$/i.test(text) ? BigInt(text.replaceAll("_", "")) : null;
  if (value === null) {
    throw new UsageError(`${what} must be a number, such as 0x1000: got ${JSON.stringify(text)}`);
  }
  if (value >= ADDRESSES) throw new UsageError(`${what} must be below 2^64: got ${JSON.stringify(text)}`);
  return value;
}

/**
 * Reads a number that is exact as a `number`: a handle, a frame, an index, a count.
 *
 * @param text For example `7` or `0x1d7e`.
 * @param what What it is, for the message.
 * @param end One more than the greatest that it may be.
 * @param least The least that it may be.
 * @throws {UsageError} When it is none.
 */
export function parseNumber(text: string, what: string, end = Number.MAX_SAFE_INTEGER, least = 0): number {
  const value = parseAddress(text, what);
  if (value >= BigInt(end) || value < BigInt(least)) {
    throw new UsageError(`${what} must be ${least} to ${end - 1}: got ${JSON.stringify(text)}`);
  }
  return Number(value);
}

/**
 * Reads a range of addresses, both ends included, as it is printed.
 *
 * @param text `FROM-TO`; either end may be left away.
 * @param what What it is, for the message.
 * @param end The end of what there is.
 * @throws {UsageError} When it is none.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseRange } from "./numbers.ts";
 *
 * assertEquals(parseRange("0x1000-0x1fff", "--range", 1n << 32n), [0x1000n, 0x1fffn]);
 * assertEquals(parseRange("0x1000-", "--range", 1n << 32n), [0x1000n, 0xffffffffn]);
 * ```
 */
export function parseRange(text: string, what: string, end: bigint): [from: bigint, to: bigint] {
  // The dash that trees are printed with may be pasted.
  const ends = text.split(/[-–]/);
  if (ends.length !== 2 || ends.join("") === "") {
    throw new UsageError(`${what} must be FROM-TO, such as 0x1000-0x1fff: got ${JSON.stringify(text)}`);
  }
  const [from = "", to = ""] = ends.map((end) => end.trim());
  const range: [bigint, bigint] = [
    from === "" ? 0n : parseAddress(from, `${what} FROM`),
    to === "" ? end - 1n : parseAddress(to, `${what} TO`),
  ];
  if (range[1] >= end) {
    throw new UsageError(`${what} must be below 0x${end.toString(16)}: got ${JSON.stringify(text)}`);
  }
  if (range[0] > range[1]) throw new UsageError(`${what} ends before it begins: got ${JSON.stringify(text)}`);
  return range;
}

/**
 * Reads a number of seconds.
 *
 * @param text For example `0.5`.
 * @param what What it is, for the message.
 * @returns Milliseconds.
 * @throws {UsageError} When it is none, or less than a hundredth of a second.
 */
export function parseSeconds(text: string, what: string): number {
  const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (!(seconds >= 0.01 && seconds <= 86_400)) {
    throw new UsageError(`${what} must be seconds, 0.01 to 86400: got ${JSON.stringify(text)}`);
  }
  return seconds * 1000;
}
