/**
 * What a command says: data on standard output, everything else on standard error.
 *
 * Much of it comes from files and peers, and none of it does anything to a terminal: whoever draws on one writes to it
 * without these.
 *
 * @module
 */

/** Prints data: text or several lines of it. */
export function print(text: string): void {
  // deno-lint-ignore no-console -- the one place for data
  console.log(harmless(text));
}

/** Says something that is not data: an error, a log line, a hint. */
export function say(text: unknown): void {
  // deno-lint-ignore no-console -- the one place for everything else
  console.error(harmless(typeof text === "string" ? text : Deno.inspect(text)));
}

/**
 * Characters that a terminal acts upon, or that turn the order of others round; but ends of lines and tabs. For `replace`,
 * which begins at the start each time.
 */
export const CONTROLS =
  // deno-lint-ignore no-control-regex -- these are what is looked for
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/**
 * Text of anybody's, made fit to print: control characters are written as JSON may write them, so that JSON stays what it
 * is.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { harmless } from "./terminal.ts";
 *
 * assertEquals(harmless("evil\x1b[2J\u009b2J\n"), "evil\\u001b[2J\\u009b2J\n");
 * ```
 */
export function harmless(text: string): string {
  return text.replace(CONTROLS, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
