/**
 * What a command says: data on standard output, everything else on standard error.
 *
 * @module
 */

/** Prints data: text or several lines of it. */
export function print(text: string): void {
  // deno-lint-ignore no-console -- the one place for data
  console.log(text);
}

/** Says something that is not data: an error, a log line, a hint. */
export function say(text: unknown): void {
  // deno-lint-ignore no-console -- the one place for everything else
  console.error(text);
}
