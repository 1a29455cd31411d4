/**
 * Sizes for people.
 *
 * @module
 */

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"];

/**
 * A size in the largest unit in which it is whole.
 *
 * @param bytes The size.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sizeText } from "./size_text.ts";
 *
 * assertEquals([4096, 0x18000000, 2 ** 48, 5].map(sizeText), ["4 KiB", "384 MiB", "256 TiB", "5 bytes"]);
 * ```
 */
export function sizeText(bytes: number): string {
  let unit = 0;
  while (unit < UNITS.length - 1 && bytes !== 0 && bytes % 1024 === 0) {
    bytes /= 1024;
    unit++;
  }
  return `${bytes} ${UNITS[unit]}`;
}
