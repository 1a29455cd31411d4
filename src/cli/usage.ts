/**
 * Wrong usage of the command line.
 *
 * @module
 */

/** Exit status of a command that did what it was asked. */
export const EXIT_OK = 0;
/** Exit status of a command that failed, or found something wrong. */
export const EXIT_FAILED = 1;
/** Exit status of a command that was called wrongly. */
export const EXIT_USAGE = 2;

/** The command line is wrong; the message says how to put it right. */
export class UsageError extends Error {
  /** Always `"UsageError"`. */
  override readonly name = "UsageError";
}
