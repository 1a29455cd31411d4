/**
 * The host's GGTT: the table that the hardware would walk. The engine stores to it, the aperture reads
 * through it.
 *
 * @module
 */

import { frameOf, PAGE_SIZE, PRESENT } from "../gtt/entry.ts";
import { INVALID_MFN } from "../gtt/host.ts";

/**
 * The host's GGTT entries.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { HostGgtt, INVALID_MFN } from "../../mod.ts";
 *
 * const ggtt = new HostGgtt(0x10000); // 16 pages of graphics memory
 * ggtt.store(2, 0x5001, 0);
 * assertEquals([ggtt.target(0x2abc), ggtt.target(0x3000)], [5, INVALID_MFN]);
 * ```
 */
export class HostGgtt {
  /** Two lanes an entry. */
  readonly lanes: Uint32Array;
  /** How often cached entries were dropped. */
  flushes = 0;

  /**
   * An empty table.
   *
   * @param total Size of graphics memory, bytes, page aligned.
   */
  constructor(total: number) {
    this.lanes = new Uint32Array(2 * total / PAGE_SIZE);
  }

  /**
   * Stores one entry.
   *
   * @param index Entry, 0 or more, within the table.
   * @param lo Low lane.
   * @param hi High lane.
   */
  store(index: number, lo: number, hi: number): void {
    this.lanes[2 * index] = lo;
    this.lanes[2 * index + 1] = hi;
  }

  /**
   * The host frame that a present entry leads to.
   *
   * @param gma Graphics address, bytes, 0 or more.
   * @returns Frame number; {@linkcode INVALID_MFN} for an entry that is not present, or beyond the table.
   *
   * @example An entry that is not present leads nowhere, whatever its frame
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { HostGgtt, INVALID_MFN } from "../../mod.ts";
   *
   * const ggtt = new HostGgtt(0x10000);
   * ggtt.store(2, 0x5000, 0);
   * assertEquals(ggtt.target(0x2000), INVALID_MFN);
   * ggtt.store(2, 0x5001, 0x4);
   * assertEquals(ggtt.target(0x2000), 0x400005);
   * ```
   */
  target(gma: number): number {
    const lane = 2 * Math.floor(gma / PAGE_SIZE);
    const lo = this.lanes[lane]!;
    return (lo & PRESENT) === 0 ? INVALID_MFN : frameOf(lo, this.lanes[lane + 1]!);
  }
}
