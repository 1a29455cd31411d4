/**
 * Typed errors of the protocol: `{code: "EINVAL", errno: 22, message, data}` on the wire, an
 * {@linkcode RpcError} in TypeScript.
 *
 * @module
 */

/** The error codes of the protocol and their numbers, which are Linux's. */
export const ERRNO = {
  /** The role may not do this. */
  EPERM: 1,
  /** No such mm, track or region of RAM. */
  ENOENT: 2,
  /** The host failed a `ram_map` in a way nobody foresaw, or an error inside the device, which ends the session. */
  EIO: 5,
  /** A frame could not be translated. */
  ENXIO: 6,
  /** The result is larger than one message may be. */
  E2BIG: 7,
  /** A cap is reached, or nothing could be reclaimed. */
  ENOMEM: 12,
  /** Outside the vGPU's windows, or a file that may not be opened. */
  EACCES: 13,
  /** Not guest RAM. */
  EFAULT: 14,
  /** Somebody else has it: a second VMM, a name in use. */
  EBUSY: 16,
  /** Exists already, or overlaps what exists. */
  EEXIST: 17,
  /** The platform is not supported, or the engine is not initialised. */
  ENODEV: 19,
  /** A parameter is of the wrong type or out of range. */
  EINVAL: 22,
  /** The process has no file descriptor left. */
  EMFILE: 24,
  /** There are as many regions of RAM as there can be. */
  ENOSPC: 28,
  /** No such method. */
  ENOSYS: 38,
  /** Not this protocol: a malformed stream, or a call before `hello`. */
  EPROTO: 71,
  /** A message, string or byte array above its limit. */
  EMSGSIZE: 90,
} as const;

/** A name of {@linkcode ERRNO}. */
export type ErrorCode = keyof typeof ERRNO;

/** An error as it travels. `data` is nil when there is nothing to add. */
export interface WireError {
  /** A name such as `"EINVAL"`. */
  readonly code: string;
  /** The positive Linux number of the code. */
  readonly errno: number;
  /** One sentence for a person; not for a program. */
  readonly message: string;
  /** More for a program, or nil. */
  readonly data: unknown;
}

const CODES = new Map<number, string>(Object.entries(ERRNO).map(([code, errno]) => [errno, code]));

/**
 * An error that crosses the wire: thrown by a device's methods to answer a call, and by the client when a call is
 * answered with one.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { RpcError } from "./errors.ts";
 *
 * const error = new RpcError("EINVAL", "mm_pin: params[0] (mm) must be uint 0..4294967295: got -1");
 * assertEquals(error.errno, 22);
 * assertEquals(RpcError.fromWire(error.toWire()).message, error.message);
 * assertEquals(RpcError.fromErrno(-14, "cannot read the root table").code, "EFAULT");
 * ```
 */
export class RpcError extends Error {
  /** Always `"RpcError"`. */
  override readonly name = "RpcError";
  /** A name such as `"EINVAL"`; usually, but from another implementation not always, an {@linkcode ErrorCode}. */
  readonly code: string;
  /** The positive number of the code. */
  readonly errno: number;
  /** More for a program, or `null`. */
  readonly data: unknown;

  /**
   * An error of this protocol.
   *
   * @param code Which one.
   * @param message One sentence: what is wrong, then what was found.
   * @param data Anything the wire can carry, or nothing.
   */
  constructor(code: ErrorCode, message: string, data?: unknown);
  /** An error of another implementation: any code, with its number. */
  constructor(code: string, message: string, data: unknown, errno: number);
  constructor(code: string, message: string, data: unknown = null, errno: number = ERRNO[code as ErrorCode]) {
    super(message);
    this.code = code;
    this.errno = errno;
    this.data = data;
  }

  /**
   * The error for a negative return code of the engine.
   *
   * @param rc A negative errno such as -22. One without a name becomes `"E95"`-like with its number.
   * @param message One sentence.
   * @param data Anything the wire can carry, or nothing.
   * @returns The error; not thrown.
   */
  static fromErrno(rc: number, message: string, data: unknown = null): RpcError {
    const errno = Math.abs(rc);
    return new RpcError(CODES.get(errno) ?? `E${errno}`, message, data, errno);
  }

  /**
   * Reads an error from the wire. Never throws: something that is no error of this protocol becomes EPROTO.
   *
   * @param value The third element of a response.
   * @returns The error; not thrown.
   */
  static fromWire(value: unknown): RpcError {
    const error = value as Partial<WireError> | null;
    if (
      typeof error === "object" && error !== null && typeof error.code === "string" &&
      typeof error.errno === "number" && typeof error.message === "string"
    ) {
      return new RpcError(error.code, error.message, error.data ?? null, error.errno);
    }
    const text = typeof value === "string" ? value : "an error without code, errno and message";
    return new RpcError("EPROTO", text, value);
  }

  /**
   * The error as it travels.
   *
   * @returns A map of four fields.
   */
  toWire(): WireError {
    return { code: this.code, errno: this.errno, message: this.message, data: this.data };
  }
}

/** The connection is gone: closed by either end, or broken. Every outstanding call rejects with it. */
export class ConnectionError extends Error {
  /** Always `"ConnectionError"`. */
  override readonly name = "ConnectionError";
}
