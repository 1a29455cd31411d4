/**
 * The host's GGTT: the table that the hardware would walk. The engine stores to it, the aperture reads through it.
 *
 * @module
 */

import { frameOf, PAGE_SIZE, PRESENT } from "../gtt/entry.ts";
import { INVALID_MFN } from "../gtt/host.ts";

/** The host's GGTT entries. */
export class HostGgtt {
  /** Two lanes an entry. */
  readonly lanes: Uint32Array;
  /** How often cached entries were dropped. */
  flushes = 0;

  /** An empty table for `total` bytes of graphics memory. */
  constructor(total: number) {
    this.lanes = new Uint32Array(2 * total / PAGE_SIZE);
  }

  /** Stores one entry. */
  store(index: number, lo: number, hi: number): void {
    this.lanes[2 * index] = lo;
    this.lanes[2 * index + 1] = hi;
  }

  /**
   * The host frame that a present entry leads to.
   *
   * @param gma Graphics address, bytes, below the size of the table.
   * @returns Frame number, or {@linkcode INVALID_MFN} for an entry that is not present.
   */
  target(gma: number): number {
    const lane = 2 * Math.floor(gma / PAGE_SIZE);
    const lo = this.lanes[lane]!;
    return (lo & PRESENT) === 0 ? INVALID_MFN : frameOf(lo, this.lanes[lane + 1]!);
  }
}
