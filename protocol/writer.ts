/**
 * Writes messages into one growing buffer.
 *
 * msgpackr's encoder is not used: it writes an integer from 2^32 on as a float and `undefined` as an extension type,
 * neither of which this protocol carries, and into a buffer of its own, from which it would have to be copied.
 *
 * @module
 */

import { RpcError } from "./errors.ts";
import type { ScanLimits } from "./limits.ts";

/** What a writer starts with and goes back to: the messages of a busy moment. */
const CAPACITY = 16 * 1024;
/** A buffer above this is not kept for later: one large reply must not cost its size for ever. */
const KEPT_CAPACITY = 1024 * 1024;
/** Strings up to this length are encoded here: for method and field names that is faster than a TextEncoder. */
const SHORT_STRING = 32;

const encoder = new TextEncoder();

/**
 * Writes messages one after another, each in MessagePack's shortest form, and none that the other end would refuse:
 * what is above its limits throws E2BIG and leaves no trace.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { decode } from "./codec.ts";
 * import { REQUEST_LIMITS } from "./limits.ts";
 * import { Writer } from "./writer.ts";
 *
 * const writer = new Writer(REQUEST_LIMITS);
 * writer.request(7, "mmio_read", [0, 0x80_0000, 8]);
 * assertEquals(decode(writer.written), [0, 7, "mmio_read", [0, 0x80_0000, 8]]);
 * ```
 */
export class Writer {
  readonly #limits: ScanLimits;
  #bytes = new Uint8Array(CAPACITY);
  #view = new DataView(this.#bytes.buffer);
  /** End of the whole messages, where the one being written begins. */
  #start = 0;
  /** End of what is written of that one. */
  #length = 0;
  #elements = 0;

  /**
   * An empty writer.
   *
   * @param limits What the other end accepts.
   */
  constructor(limits: ScanLimits) {
    this.#limits = limits;
  }

  /** Bytes written since the last {@linkcode clear}. */
  get length(): number {
    return this.#start;
  }

  /** What was written; a view that the next write may change or abandon. */
  get written(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#start);
  }

  /** Forgets what was written. */
  clear(): void {
    this.#start = 0;
    this.#length = 0;
    if (this.#bytes.length > KEPT_CAPACITY) this.#allocate(CAPACITY);
  }

  /**
   * Writes a call: `[0, id, method, params]`.
   *
   * @param id A u32.
   * @param method The method's name.
   * @param params Its parameters.
   * @throws {RpcError} E2BIG if the other end would refuse it.
   * @throws {TypeError} If a parameter is nothing the wire can carry.
   */
  request(id: number, method: string, params: readonly unknown[]): void {
    this.#open(0x94, 0);
    this.#uint(id);
    this.#string(method);
    this.#value(params, 1);
    this.#finish();
  }

  /**
   * Writes a notification: `[2, method, params]`.
   *
   * @param method The method's name.
   * @param params Its parameters.
   * @throws {RpcError} E2BIG if the other end would refuse it.
   * @throws {TypeError} If a parameter is nothing the wire can carry.
   */
  notification(method: string, params: readonly unknown[]): void {
    this.#open(0x93, 2);
    this.#string(method);
    this.#value(params, 1);
    this.#finish();
  }

  /**
   * Writes the answer to a call: `[1, id, nil, result]`.
   *
   * @param id The call's id.
   * @param result The result; `undefined` is nil.
   * @throws {RpcError} E2BIG if the other end would refuse it.
   * @throws {TypeError} If the result is nothing the wire can carry.
   */
  response(id: number, result: unknown): void {
    this.#open(0x94, 1);
    this.#uint(id);
    this.#byte(0xc0);
    this.#value(result, 1);
    this.#finish();
  }

  /**
   * Writes an error as the answer to a call: `[1, id, error, nil]`.
   *
   * @param id The call's id, or `null` when it is not known.
   * @param error The error.
   * @throws {TypeError} If the error's data is nothing the wire can carry.
   */
  error(id: number | null, error: RpcError): void {
    this.#open(0x94, 1);
    this.#value(id, 1);
    this.#value(error.toWire(), 1);
    this.#byte(0xc0);
    this.#finish();
  }

  /**
   * Writes a bare value.
   *
   * @param value Nil, a truth value, an integer from −2^63 to 2^64−1, text, bytes, an array or a plain object.
   * Fields that are `undefined` are left out; elsewhere `undefined` is nil.
   * @throws {RpcError} E2BIG if the other end would refuse it.
   * @throws {TypeError} If it is anything else.
   */
  value(value: unknown): void {
    this.#length = this.#start;
    this.#elements = 0;
    this.#value(value, 0);
    this.#finish();
  }

  /** Begins a message with its array's header and type. */
  #open(header: number, type: number): void {
    this.#length = this.#start;
    this.#elements = header & 0x0f;
    this.#room(2);
    this.#bytes[this.#length++] = header;
    this.#bytes[this.#length++] = type;
  }

  /** Ends a message. One that threw before it got here is overwritten by the next. */
  #finish(): void {
    if (this.#length - this.#start > this.#limits.messageBytes) {
      throw tooBig("length", this.#limits.messageBytes);
    }
    this.#start = this.#length;
  }

  #value(value: unknown, depth: number): void {
    switch (typeof value) {
      case "number":
        return value >= 0 ? this.#uint(value) : this.#negative(value);
      case "string":
        return this.#string(value);
      case "boolean":
        return this.#byte(value ? 0xc3 : 0xc2);
      case "bigint":
        return this.#bigint(value);
      case "undefined":
        return this.#byte(0xc0);
      case "object":
        return this.#object(value, depth);
      default:
        throw new TypeError(`Cannot encode a ${typeof value}`);
    }
  }

  #object(value: object | null, depth: number): void {
    if (value === null) return this.#byte(0xc0);
    if (value instanceof Uint8Array) return this.#bin(value);
    if (depth >= this.#limits.depth) throw tooBig("depth", this.#limits.depth);
    if (Array.isArray(value)) {
      this.#container(value.length, value.length, 0x90, 0xdc);
      for (let i = 0; i < value.length; i++) this.#value(value[i], depth + 1);
      return;
    }
    const prototype = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) {
      throw new TypeError(`Cannot encode a ${prototype.constructor?.name ?? "value of an unknown class"}`);
    }
    const fields = Object.entries(value).filter(([, field]) => field !== undefined);
    this.#container(fields.length, 2 * fields.length, 0x80, 0xde);
    for (const [name, field] of fields) {
      this.#string(name);
      this.#value(field, depth + 1);
    }
  }

  #uint(value: number): void {
    // From 2^53 on a number may already have lost bits; up to there every integer is exact.
    if (!Number.isInteger(value) || value > 2 ** 53) {
      throw new TypeError(`Cannot encode ${value}: no integer`);
    }
    this.#room(9);
    const bytes = this.#bytes;
    let at = this.#length;
    if (value < 0x80) {
      bytes[at++] = value;
    } else if (value < 0x100) {
      bytes[at++] = 0xcc;
      bytes[at++] = value;
    } else if (value < 0x1_0000) {
      bytes[at++] = 0xcd;
      bytes[at++] = value >>> 8;
      bytes[at++] = value;
    } else if (value < 0x1_0000_0000) {
      bytes[at++] = 0xce;
      this.#view.setUint32(at, value);
      at += 4;
    } else {
      bytes[at++] = 0xcf;
      this.#view.setUint32(at, value / 0x1_0000_0000);
      this.#view.setUint32(at + 4, value);
      at += 8;
    }
    this.#length = at;
  }

  #negative(value: number): void {
    if (!Number.isSafeInteger(value)) throw new TypeError(`Cannot encode ${value}: no integer`);
    this.#room(9);
    const at = this.#length;
    if (value >= -0x20) {
      this.#bytes[at] = value;
      this.#length = at + 1;
    } else if (value >= -0x80) {
      this.#bytes[at] = 0xd0;
      this.#bytes[at + 1] = value;
      this.#length = at + 2;
    } else if (value >= -0x8000) {
      this.#bytes[at] = 0xd1;
      this.#view.setInt16(at + 1, value);
      this.#length = at + 3;
    } else if (value >= -0x8000_0000) {
      this.#bytes[at] = 0xd2;
      this.#view.setInt32(at + 1, value);
      this.#length = at + 5;
    } else {
      this.#bytes[at] = 0xd3;
      this.#view.setBigInt64(at + 1, BigInt(value));
      this.#length = at + 9;
    }
  }

  #bigint(value: bigint): void {
    if (value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER) {
      return this.#value(Number(value), 0);
    }
    if (value < -0x8000_0000_0000_0000n || value > 0xffff_ffff_ffff_ffffn) {
      throw new TypeError("Cannot encode an integer of more than 64 bits");
    }
    this.#room(9);
    this.#bytes[this.#length] = value < 0n ? 0xd3 : 0xcf;
    this.#view.setBigUint64(this.#length + 1, BigInt.asUintN(64, value));
    this.#length += 9;
  }

  #string(text: string): void {
    const isShort = text.length < SHORT_STRING && text.length <= this.#limits.stringBytes;
    if (!isShort || !this.#ascii(text)) this.#longString(text);
  }

  /** Writes a short string if it is ASCII throughout. */
  #ascii(text: string): boolean {
    const { length } = text;
    this.#room(1 + length);
    const bytes = this.#bytes;
    const at = this.#length;
    for (let i = 0; i < length; i++) {
      const code = text.charCodeAt(i);
      if (code >= 0x80) return false;
      bytes[at + 1 + i] = code;
    }
    bytes[at] = 0xa0 | length;
    this.#length = at + 1 + length;
    return true;
  }

  #longString(text: string): void {
    const bytes = encoder.encode(text);
    const { length } = bytes;
    if (length > this.#limits.stringBytes) throw tooBig("string", this.#limits.stringBytes);
    this.#room(5 + length);
    if (length < 0x20) this.#byte(0xa0 | length);
    else this.#header(length, 0xd9, 0xda);
    this.#bytes.set(bytes, this.#length);
    this.#length += length;
  }

  #bin(bytes: Uint8Array): void {
    const { length } = bytes;
    if (length > this.#limits.bytes) throw tooBig("bytes", this.#limits.bytes);
    this.#room(5 + length);
    this.#header(length, 0xc4, 0xc5);
    this.#bytes.set(bytes, this.#length);
    this.#length += length;
  }

  /** Writes the header of an array or map. */
  #container(length: number, elements: number, short: number, long: number): void {
    if ((this.#elements += elements) > this.#limits.elements) {
      throw tooBig("elements", this.#limits.elements);
    }
    this.#room(5);
    if (length < 0x10) this.#byte(short | length);
    else this.#header(length, null, long);
  }

  /** Writes a length of 8 (if there is such a form), 16 or 32 bits; the 32-bit form follows the 16-bit one. */
  #header(length: number, form8: number | null, form16: number): void {
    if (length < 0x100 && form8 !== null) {
      this.#byte(form8);
      this.#byte(length);
    } else if (length < 0x1_0000) {
      this.#byte(form16);
      this.#view.setUint16(this.#length, length);
      this.#length += 2;
    } else {
      this.#byte(form16 + 1);
      this.#view.setUint32(this.#length, length);
      this.#length += 4;
    }
  }

  #byte(byte: number): void {
    this.#room(5);
    this.#bytes[this.#length++] = byte;
  }

  /** Makes room for more bytes of the current message. */
  #room(more: number): void {
    const length = this.#length + more;
    if (length > this.#bytes.length) this.#grow(length);
  }

  #grow(length: number): void {
    if (length - this.#start > this.#limits.messageBytes) throw tooBig("length", this.#limits.messageBytes);
    const old = this.#bytes;
    this.#allocate(Math.max(length, 2 * old.length));
    this.#bytes.set(old.subarray(0, this.#length));
  }

  #allocate(capacity: number): void {
    this.#bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.#bytes.buffer);
  }
}

function tooBig(fault: string, limit: number): RpcError {
  return new RpcError("E2BIG", `The message is too big for the other end: ${fault} above ${limit}`, {
    reason: fault,
    limit,
  });
}
