/**
 * Columns of text, aligned.
 *
 * @module
 */

/** How a column is aligned: `<` to the left, `>` to the right. */
export type Alignment = "<" | ">";

/**
 * Aligns the cells of rows. The last cell of a line is not filled up.
 *
 * @param rows Cells of plain text, without colour.
 * @param alignments One for each column; columns beyond these go to the left.
 * @param paint Colours a cell after it was aligned; default: no colour.
 * @returns One line a row.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { columns } from "./columns.ts";
 *
 * assertEquals(columns([["MM", "LEVEL"], ["0", "4"], ["12", "3"]], [">", "<"]), ["MM  LEVEL", " 0  4", "12  3"]);
 * ```
 */
export function columns(
  rows: readonly (readonly string[])[],
  alignments: readonly Alignment[],
  paint: (text: string, row: number, column: number) => string = (text) => text,
): string[] {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, text] of row.entries()) {
      widths[column] = Math.max(widths[column] ?? 0, text.length);
    }
  }
  return rows.map((row, at) => {
    let last = row.length - 1;
    while (last > 0 && row[last] === "") last--;
    return row.slice(0, last + 1).map((text, column) => {
      const width = widths[column]!;
      const aligned = alignments[column] === ">"
        ? text.padStart(width)
        : column === last
        ? text
        : text.padEnd(width);
      return paint(aligned, at, column);
    }).join("  ");
  });
}

/** A count for people: `12,345`. */
export function countText(count: number): string {
  return String(Math.round(count)).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** A size for people, in the largest unit that is exact: `64 MiB`. */
export function sizeText(bytes: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (unit < units.length - 1 && bytes !== 0 && bytes % 1024 === 0) {
    bytes /= 1024;
    unit++;
  }
  return `${bytes} ${units[unit]}`;
}
