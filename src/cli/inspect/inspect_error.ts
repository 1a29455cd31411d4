/**
 * What an inspector cannot do, as a sentence for whoever called it.
 *
 * @module
 */

/** The command cannot be carried out; the message says why, and what to do about it. Exit status 1. */
export class InspectError extends Error {
  /** Always `"InspectError"`. */
  override readonly name = "InspectError";
}
