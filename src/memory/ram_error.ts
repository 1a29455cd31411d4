/**
 * The errors of guest RAM.
 *
 * @module
 */

/**
 * What kind of wrong a {@linkcode RamError} is, named as in errno.
 *
 * - `EACCES`: the file may not be opened, or not for writing.
 * - `EEXIST`: the range is taken already.
 * - `EINVAL`: the request is wrong in itself, or does not fit the file.
 * - `EIO`: the host failed in a way nobody foresaw.
 * - `EMFILE`: the process has no descriptor left.
 * - `ENOENT`: no such file, or no such region.
 * - `ENOMEM`: the system gives no such memory, or a cap on it is reached.
 * - `ENOSPC`: there are as many regions as there can be.
 */
export type RamErrorCode =
  | "EACCES"
  | "EEXIST"
  | "EINVAL"
  | "EIO"
  | "EMFILE"
  | "ENOENT"
  | "ENOMEM"
  | "ENOSPC";

/**
 * A request about guest RAM that cannot be granted: the peer's error, meant to be sent back. The message says
 * what is wrong and what to do; text of the peer in it is quoted ({@linkcode quoteText}).
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * const error = new RamError("ENOENT", "no such file");
 * assertEquals([error.code, error.message], ["ENOENT", "no such file"]);
 * ```
 */
export class RamError extends Error {
  /** The class's name. */
  override readonly name = "RamError";
  /** What kind of wrong it is. */
  readonly code: RamErrorCode;

  /**
   * Makes an error to send back.
   *
   * @param code What kind of wrong it is.
   * @param message What is wrong and what to do.
   * @param options The error behind it, if any.
   */
  constructor(code: RamErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Longest part of a peer's text in a message: enough to recognise it, too little to flood a log. */
const MAX_QUOTED = 120;

/**
 * Quotes text that came from a peer, so that it can do nothing to a log or a terminal: what is not printable
 * ASCII is escaped, and a long text is cut.
 *
 * @param text Any text.
 * @returns The text in double quotes.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(quoteText("/dev/shm/a\x1b[2J"), '"/dev/shm/a\\u001b[2J"');
 * ```
 */
export function quoteText(text: string): string {
  const shown = text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}…` : text;
  return JSON.stringify(shown).replace(
    /[^\x20-\x7e…]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/**
 * Writes an address or size as the messages do.
 *
 * @param value Bytes; whatever is not a number of bytes is named, not shown.
 * @returns For example `0x1000`.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals([hex(4096), hex(-1)], ["0x1000", "(no number of bytes)"]);
 * ```
 */
export function hex(value: number): string {
  return Number.isSafeInteger(value) && value >= 0 ? `0x${value.toString(16)}` : "(no number of bytes)";
}
