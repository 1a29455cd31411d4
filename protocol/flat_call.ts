/**
 * Reads the messages that come by the million: calls and notifications whose parameters are all unsigned integers, which
 * every load and store of a guest is.
 *
 * Such a message has no part that could be too long, too deep or of a wrong type, so that it needs neither the scan
 * (`scan.ts`) nor a decoder that knows everything. Whatever is not one of them, not valid, or not all there, is not read
 * here at all: it goes the general way, which says what is wrong with it.
 *
 * @module
 */

import { type Method, type MethodName, METHODS } from "./methods.ts";
import type { IntegerRange } from "./schema.ts";

/** A method that can be called so. */
interface FlatMethod {
  readonly name: MethodName;
  readonly row: Method;
  /** The name as it stands in a message, header and all. */
  readonly bytes: Uint8Array;
  /** What each parameter may be. */
  readonly ranges: readonly IntegerRange[];
}

const FIXARRAY = 0x90;
const CALL = 0;
const NOTIFICATION = 2;
const FIXSTR = 0xa0;
/** The longest name whose length is in its header's low bits. */
const MAX_NAME = 31;
const UINT8 = 0xcc, UINT16 = 0xcd, UINT32 = 0xce, UINT64 = 0xcf;
/** High halves below this make a value that a number holds exactly. */
const SAFE_HIGH = 2 ** 21;

/** A number for a name as it stands in a message; others may have the same. */
function hashOf(bytes: Uint8Array, at: number, length: number): number {
  // Length, first and last letters tell most names apart; which of them it is, a comparison tells.
  return length << 16 ^ bytes[at + 1]! << 10 ^ bytes[at + length - 2]! << 5 ^ bytes[at + length - 1]!;
}

/** Methods by the hash of their names. Of those with the same hash the first one is read here, the others are not. */
const BY_HASH = new Map<number, FlatMethod>();

for (const [name, row] of Object.entries(METHODS) as [MethodName, Method][]) {
  const ranges = row.params.map(({ schema }) => schema.range);
  if (name.length > MAX_NAME || !ranges.every((range) => range !== undefined)) continue;
  const bytes = Uint8Array.of(FIXSTR | name.length, ...new TextEncoder().encode(name));
  const hash = hashOf(bytes, 0, bytes.length);
  if (!BY_HASH.has(hash)) BY_HASH.set(hash, { name, row, bytes, ranges });
}

/**
 * The message that was read last. One object serves for all messages of a stream.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { encode } from "./codec.ts";
 * import { FlatCall } from "./flat_call.ts";
 *
 * const flat = new FlatCall();
 * const load = encode([0, 7, "mmio_read", [0, 0x78000, 4]]);
 * assertEquals(flat.read(load, 0, load.length), load.length);
 * assertEquals([flat.id, flat.method, flat.params], [7, "mmio_read", [0, 0x78000, 4]]);
 * const wrong = encode([0, 8, "mmio_read", [0, 0x78000, 3]]); // a size that there is not
 * assertEquals(flat.read(wrong, 0, wrong.length), 0);
 * ```
 */
export class FlatCall {
  /** The call's id; `null` for a notification. */
  id: number | null = null;
  /** The method. */
  method: MethodName = "reset";
  /** Its row. */
  row: Method = METHODS.reset;
  /** Parameters, each within its range. */
  params: readonly number[] = [];
  /** Where reading has come to; beyond the end of what is there when an integer was not all there, or was none. */
  #at = 0;

  /**
   * Reads the message that begins at `start`, if it is one of those.
   *
   * @param bytes Where the message is.
   * @param start Index of its first byte.
   * @param end Index after the last byte there is.
   * @returns The message's length; 0 if it has to go the general way, and then nothing here has a meaning.
   */
  read(bytes: Uint8Array, start: number, end: number): number {
    // The shortest message: array, type, a name of one letter, array.
    if (end - start < 5) return 0;
    const header = bytes[start]!;
    const type = bytes[start + 1]!;
    this.#at = start + 2;
    if (header === (FIXARRAY | 4) && type === CALL) {
      const id = this.#uint(bytes, end);
      if (id > 0xffff_ffff) return 0;
      this.id = id;
    } else if (header === (FIXARRAY | 3) && type === NOTIFICATION) {
      this.id = null;
    } else {
      return 0;
    }
    const found = this.#name(bytes, end);
    if (found === undefined) return 0;
    this.method = found.name;
    this.row = found.row;
    return this.#params(bytes, end, found.ranges) ? this.#at - start : 0;
  }

  /** Reads the method's name. */
  #name(bytes: Uint8Array, end: number): FlatMethod | undefined {
    const at = this.#at;
    const length = 1 + (bytes[at]! & MAX_NAME);
    if (length < 3 || at + length >= end) return undefined;
    const found = BY_HASH.get(hashOf(bytes, at, length));
    if (found === undefined || found.bytes.length !== length) return undefined;
    for (let i = 0; i < length; i++) {
      if (bytes[at + i] !== found.bytes[i]) return undefined;
    }
    this.#at = at + length;
    return found;
  }

  /** Reads the array of parameters. @returns Whether they are there, and what they have to be. */
  #params(bytes: Uint8Array, end: number, ranges: readonly IntegerRange[]): boolean {
    if (bytes[this.#at++] !== (FIXARRAY | ranges.length)) return false;
    const params: number[] = [];
    for (let i = 0; i < ranges.length; i++) {
      const value = this.#uint(bytes, end);
      const { min, max, among } = ranges[i]!;
      // Not negated: no comparison holds for what was no integer.
      const isInRange = value >= min && value <= max && (among === null || among.includes(value));
      if (!isInRange) return false;
      params.push(value);
    }
    this.params = params;
    return true;
  }

  /** Reads an integer from 0 to 2^53-1. @returns It, or infinity if there is none. */
  #uint(bytes: Uint8Array, end: number): number {
    const at = this.#at;
    if (at >= end) return Infinity;
    const token = bytes[at]!;
    if (token < 0x80) {
      this.#at = at + 1;
      return token;
    }
    if (token < UINT8 || token > UINT64) return Infinity;
    const length = 1 << (token - UINT8);
    this.#at = at + 1 + length;
    if (this.#at > end) return Infinity;
    if (token === UINT8) return bytes[at + 1]!;
    if (token === UINT16) return bytes[at + 1]! << 8 | bytes[at + 2]!;
    if (token === UINT32) return word(bytes, at + 1);
    const high = word(bytes, at + 1);
    return high < SAFE_HIGH ? high * 0x1_0000_0000 + word(bytes, at + 5) : Infinity;
  }
}

/** 32 bits, the highest byte first. */
function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 | bytes[at + 3]!) >>> 0;
}
