/**
 * Finds the end of a MessagePack message and refuses what this protocol does not carry, before a decoder sees a
 * byte of it. The scan keeps nothing of the message, allocates nothing, recurses never, and picks up where it
 * stopped: a peer that sends one byte at a time costs as much as one that sends all at once.
 *
 * Two kinds of fault. After a *fatal* one the stream is not followed any further. A *flaw* leaves the message's
 * end known, so that one message can be refused and the next one read.
 *
 * @module
 */

import type { ScanLimits } from "./limits.ts";

/** Faults after which the stream is closed: above a limit, or a type that is never accepted. */
export type FatalFault = "length" | "depth" | "elements" | "string" | "bytes" | "extension" | "reserved";
/** Faults of one message only: a float, a map key that is no string, a string that is not UTF-8. */
export type Flaw = "float" | "key" | "utf8";

/** What each fault means, in words for an error message. */
export const FAULTS: Readonly<Record<FatalFault | Flaw, string>> = {
  length: "the message is longer than this end accepts",
  depth: "arrays and maps are nested deeper than this end accepts",
  elements: "the message has more elements than this end accepts",
  string: "a string is longer than this end accepts",
  bytes: "a byte array is longer than this end accepts",
  extension: "extension types are not accepted",
  reserved: "0xc1 is no MessagePack",
  float: "floats are not accepted: send an integer",
  key: "map keys must be strings",
  utf8: "a string is not UTF-8",
};

/** {@linkcode Scanner.scan}: the message is not complete yet. */
export const NEED_MORE: number = 0;
/** {@linkcode Scanner.scan}: a fatal fault. */
export const REFUSED: number = -1;

const SCALAR = 0, STR = 1, BIN = 2, ARRAY = 3, MAP = 4, FLOAT = 5, EXTENSION = 6, RESERVED = 7;

/** By first byte: what begins there. */
const KIND = new Uint8Array(256);
/** By first byte: how many bytes the header has, or for a scalar the whole value. */
const HEAD = new Uint8Array(256).fill(1);

KIND.fill(MAP, 0x80, 0x90).fill(ARRAY, 0x90, 0xa0).fill(STR, 0xa0, 0xc0);
KIND[0xc1] = RESERVED;
KIND.fill(BIN, 0xc4, 0xc7).fill(EXTENSION, 0xc7, 0xca).fill(FLOAT, 0xca, 0xcc);
KIND.fill(EXTENSION, 0xd4, 0xd9).fill(STR, 0xd9, 0xdc).fill(ARRAY, 0xdc, 0xde).fill(MAP, 0xde, 0xe0);
HEAD.set([2, 3, 5], 0xc4);
HEAD.set([5, 9, 2, 3, 5, 9, 2, 3, 5, 9], 0xca);
HEAD.set([2, 3, 5, 3, 5, 3, 5], 0xd9);

/**
 * Scans one stream of messages.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { REQUEST_LIMITS } from "./limits.ts";
 * import { NEED_MORE, REFUSED, Scanner } from "./scan.ts";
 *
 * const scanner = new Scanner(REQUEST_LIMITS);
 * const message = Uint8Array.of(0x93, 0x02, 0xa1, 0x78, 0x90); // [2, "x", []]
 * assertEquals(scanner.scan(message, 0, 3), NEED_MORE);
 * assertEquals(scanner.scan(message, 0, 5), 5);
 * assertEquals(scanner.scan(Uint8Array.of(0xc1), 0, 1), REFUSED);
 * assertEquals(scanner.fault, "reserved");
 * ```
 */
export class Scanner {
  readonly #limits: ScanLimits;
  /** By depth: elements still to come in the open array or map; in a map an even number precedes a key. */
  readonly #remaining: Float64Array;
  /** By depth: 1 for a map. */
  readonly #isMap: Uint8Array;
  #depth = 0;
  #elements = 0;
  /** Offset of the next element from the message's start. */
  #at = 0;
  /** How long the message must have become for another look to be of use. */
  #need = 1;
  #fault: FatalFault | Flaw | null = null;
  #isFatal = false;

  /**
   * A scanner at the start of a message.
   *
   * @param limits What is accepted.
   */
  constructor(limits: ScanLimits) {
    this.#limits = limits;
    this.#remaining = new Float64Array(limits.depth + 1);
    this.#isMap = new Uint8Array(limits.depth + 1);
  }

  /** The fault of the last message scanned: fatal if `scan` said so, else its first flaw; `null`: none. */
  get fault(): FatalFault | Flaw | null {
    return this.#fault;
  }

  /** How many bytes of an unfinished or refused message have passed; the next element begins there. */
  get passed(): number {
    return this.#at;
  }

  /**
   * Looks at the message that begins at `start`. After {@linkcode NEED_MORE} the caller comes again with more of
   * the same message, wherever it lies then; after a length, with the next message.
   *
   * @param bytes Where the message is.
   * @param start Index of the message's first byte.
   * @param end Index after the last byte there is so far.
   * @returns The message's length, {@linkcode NEED_MORE} or {@linkcode REFUSED}, the last for ever after.
   */
  scan(bytes: Uint8Array, start: number, end: number): number {
    if (this.#isFatal) return REFUSED;
    if (end - start < this.#need) return NEED_MORE;
    if (this.#at === 0) this.#fault = null;
    const limits = this.#limits;
    const limit = start + limits.messageBytes;
    let at = start + this.#at;

    for (;;) {
      if (at >= end) return this.#wait(at - start, 1);
      const token = bytes[at]!;
      const kind = KIND[token]!;
      let next = at + HEAD[token]!;
      if (kind >= EXTENSION) return this.#refuse(kind === EXTENSION ? "extension" : "reserved", at - start);
      if (next > limit) return this.#refuse("length", at - start);
      if (next > end) return this.#wait(at - start, next - at);
      if (kind !== STR && this.#isKeyNext()) this.#fault ??= "key";

      if (kind === STR || kind === BIN) {
        const length = next - at === 1 ? token & 0x1f : declared(bytes, at, next);
        if (kind === STR && length > limits.stringBytes) return this.#refuse("string", at - start);
        if (kind === BIN && length > limits.bytes) return this.#refuse("bytes", at - start);
        const text = next;
        next += length;
        if (next > limit) return this.#refuse("length", at - start);
        if (next > end) return this.#wait(at - start, next - at);
        if (kind === STR && !isUtf8(bytes, text, next)) this.#fault ??= "utf8";
      } else if (kind === FLOAT) {
        this.#fault ??= "float";
      } else if (kind !== SCALAR) {
        const length = next - at === 1 ? token & 0x0f : declared(bytes, at, next);
        const elements = kind === MAP ? 2 * length : length;
        if (this.#depth >= limits.depth) return this.#refuse("depth", at - start);
        if ((this.#elements += elements) > limits.elements) return this.#refuse("elements", at - start);
        // Each element to come is at least one byte.
        if (next + elements > limit) return this.#refuse("length", at - start);
        this.#remaining[++this.#depth] = elements + 1;
        this.#isMap[this.#depth] = kind === MAP ? 1 : 0;
      }

      at = next;
      if (this.#closeElement()) return this.#complete(at - start);
    }
  }

  /** Whether the next element is the key of a map's pair. */
  #isKeyNext(): boolean {
    const depth = this.#depth;
    return this.#isMap[depth] === 1 && this.#remaining[depth]! % 2 === 0;
  }

  /**
   * Counts an element that has been read, and closes what ends with it. An array or map was opened with one
   * element too many, which its own header takes.
   *
   * @returns Whether the message is complete.
   */
  #closeElement(): boolean {
    while (this.#depth > 0) {
      if (--this.#remaining[this.#depth]! > 0) return false;
      this.#depth--;
    }
    return true;
  }

  #wait(at: number, bytes: number): number {
    this.#at = at;
    this.#need = at + bytes;
    return NEED_MORE;
  }

  #refuse(fault: FatalFault, at: number): number {
    this.#at = at;
    this.#fault = fault;
    this.#isFatal = true;
    return REFUSED;
  }

  #complete(length: number): number {
    this.#at = 0;
    this.#need = 1;
    this.#elements = 0;
    return length;
  }
}

/** The length in a header of 2, 3 or 5 bytes. */
function declared(bytes: Uint8Array, at: number, next: number): number {
  let length = 0;
  for (let i = at + 1; i < next; i++) length = length * 256 + bytes[i]!;
  return length;
}

/** Whether a range is well-formed UTF-8: no overlong form, no surrogate, nothing above U+10FFFF. */
function isUtf8(bytes: Uint8Array, from: number, to: number): boolean {
  let at = from;
  while (at < to) {
    const lead = bytes[at++]!;
    if (lead < 0x80) continue;
    const more = lead < 0xc2 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : lead < 0xf5 ? 3 : 0;
    if (more === 0 || at + more > to) return false;
    const second = bytes[at]!;
    // The second byte's range is narrower after these four.
    const min = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
    const max = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
    if (second < min || second > max) return false;
    for (let i = 1; i < more; i++) {
      if ((bytes[at + i]! & 0xc0) !== 0x80) return false;
    }
    at += more;
  }
  return true;
}

/**
 * Finds the type of an envelope that is refused without being decoded.
 *
 * @param bytes Where the message is.
 * @param start Index of its first byte.
 * @param end Index after the last byte there is.
 * @returns 0, 1 or 2; `null` if it is none of them or not there yet.
 */
export function peekType(bytes: Uint8Array, start: number, end: number): number | null {
  if (start >= end || KIND[bytes[start]!] !== ARRAY) return null;
  const type = start + HEAD[bytes[start]!]!;
  return type < end && bytes[type]! <= 2 ? bytes[type]! : null;
}

/**
 * Finds the id of a call that is refused without being decoded.
 *
 * @param bytes Where the message is.
 * @param start Index of its first byte.
 * @param end Index after the last byte there is.
 * @returns The id of a `[0, id, …]`, or `null` if there is none to be found.
 */
export function peekCallId(bytes: Uint8Array, start: number, end: number): number | null {
  if (peekType(bytes, start, end) !== 0) return null;
  const at = start + HEAD[bytes[start]!]! + 1;
  if (at >= end) return null;
  const token = bytes[at]!;
  if (token < 0x80) return token;
  const next = at + HEAD[token]!;
  return token >= 0xcc && token <= 0xce && next <= end ? declared(bytes, at, next) : null;
}
