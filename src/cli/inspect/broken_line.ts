/**
 * Long lines on a narrow terminal.
 *
 * @module
 */

/** Columns that a continuation is further to the right than its line. */
const INDENT = 6;
/** Columns below which nothing is broken: no place would be good. */
const MIN_COLUMNS = 40;

/**
 * Breaks a line where it has a ` · `, a comma or an arrow, so that it fits; what has none of these in time stays too long.
 *
 * @param line A line.
 * @param columns Columns that there are.
 * @returns The line in pieces, those after the first further to the right.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { brokenLine } from "./broken_line.ts";
 *
 * const line = "=   0x0–0x1fffff · PDE[0] · P W · gfn 0x11 → PTE table at mfn 0x9001 · in sync";
 * assertEquals(brokenLine(line, 60), [
 *   "=   0x0–0x1fffff · PDE[0] · P W · gfn 0x11",
 *   "          → PTE table at mfn 0x9001 · in sync",
 * ]);
 * ```
 */
export function brokenLine(line: string, columns: number): string[] {
  if (line.length <= columns || columns < MIN_COLUMNS) return [line];
  const [start = ""] = /^\S? */.exec(line)!;
  const indent = " ".repeat(Math.min(start.length + INDENT, Math.floor(columns / 2)));
  const pieces: string[] = [];
  let rest = line;
  while (rest.length > columns) {
    const from = pieces.length === 0 ? start.length : indent.length;
    const at = breakBefore(rest, columns, from);
    if (at === null) break;
    pieces.push(rest.slice(0, at).trimEnd());
    rest = indent + rest.slice(at).trimStart();
  }
  return [...pieces, rest];
}

/** Where a line may be broken so that what comes before fits; `null` where it may not. */
function breakBefore(line: string, columns: number, from: number): number | null {
  let best: number | null = null;
  for (const { index, 0: text } of line.matchAll(/ · | → |, /g)) {
    // A comma stays with what it follows, the others go with what they introduce.
    const at = text === ", " ? index + 1 : index;
    if (at > columns) break;
    if (at > from) best = at;
  }
  return best;
}
