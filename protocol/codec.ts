/**
 * Values to bytes and back. Decoding is msgpackr's, after the scan (`scan.ts`) has passed the message; encoding is
 * the writer's (`writer.ts`).
 *
 * @module
 */

import { Unpackr } from "msgpackr";
import { REPLY_LIMITS } from "./limits.ts";
import { Writer } from "./writer.ts";

// "auto": a number up to 2^53, a bigint above. The copies outlive the receive buffer, which is reused.
const unpackr = new Unpackr(
  { useRecords: false, mapsAsObjects: true, int64AsType: "auto", copyBuffers: true } as
    & ConstructorParameters<typeof Unpackr>[0]
    & { int64AsType: "auto" },
);

// One object for all calls: decoding is synchronous.
const range = { start: 0, end: 0 };

/**
 * Decodes one message that the scan has passed without fault.
 *
 * Maps become plain objects: of equal keys the last one counts, and the key `__proto__` arrives as `__proto_`.
 * Byte arrays are copies. Integers are a `number` up to 2^53 and a `bigint` above.
 *
 * @param bytes Where the message is.
 * @param start Index of its first byte.
 * @param end Index after its last byte.
 * @returns The value.
 * @throws If the scan has not passed it.
 */
export function decode(bytes: Uint8Array, start = 0, end: number = bytes.length): unknown {
  range.start = start;
  range.end = end;
  return unpackr.unpack(bytes, range);
}

/**
 * Encodes one value in MessagePack's shortest form.
 *
 * @param value Nil, a truth value, an integer from −2^63 to 2^64−1, text, bytes, an array or a plain object.
 * @returns Bytes of their own.
 * @throws {RpcError} E2BIG above the limits of a reply.
 * @throws {TypeError} If it is anything else.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { decode, encode } from "./codec.ts";
 *
 * assertEquals(encode(2 ** 32), Uint8Array.of(0xcf, 0, 0, 0, 1, 0, 0, 0, 0));
 * assertEquals(decode(encode([1, { gpa: 2n ** 63n }])), [1, { gpa: 2n ** 63n }]);
 * ```
 */
export function encode(value: unknown): Uint8Array<ArrayBuffer> {
  const writer = new Writer(REPLY_LIMITS);
  writer.value(value);
  return writer.written.slice();
}
