/**
 * Numbers for people.
 *
 * @module
 */

/** Hexadecimal. */
export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

/** A count in few characters: `1.2k`. */
export function shortCount(count: number): string {
  if (count >= 1e6) return `${(count / 1e6).toFixed(count >= 1e7 ? 0 : 1)}M`;
  if (count >= 1e4) return `${(count / 1e3).toFixed(count >= 1e5 ? 0 : 1)}k`;
  return count >= 100 || Number.isInteger(count) ? String(Math.round(count)) : count.toFixed(1);
}

/** A count with groups of three digits. */
export function longCount(count: number): string {
  return count.toLocaleString("en-US");
}

/** Text of the guest's or a VMM's without what could move or hide what follows. */
export function visible(text: string): string {
  // deno-lint-ignore no-control-regex -- these are what is looked for
  return text.replace(/[\x00-\x1f\x7f-\x9f\u061c\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "?");
}
