/**
 * Host pages: the memory of shadow tables and scratch pages, and the frame numbers that the hardware would
 * know it by.
 *
 * @module
 */

import { LANES } from "../gtt/entry.ts";
import { type HostPage, INVALID_MFN } from "../gtt/host.ts";
import { HOST_PAGE_MFN_BASE } from "../memory/ram_region.ts";

/**
 * Freed frame numbers that are kept back: one that was just freed is not given out again at once, so whatever
 * should still name it finds nothing instead of another page.
 */
const QUARANTINE = 1024;

/** Allocates host pages and gives each mapped one its own frame number. */
export class HostPages {
  readonly #spare: Uint32Array[] = [];
  /** Freed frame numbers, the longest free first, from `#firstFreed` on. */
  #freed: number[] = [];
  #firstFreed = 0;
  #nextFrame = HOST_PAGE_MFN_BASE;

  /** A zeroed page, not mapped. */
  alloc(): HostPage {
    return { mfn: INVALID_MFN, lanes: this.#spare.pop()?.fill(0) ?? new Uint32Array(LANES) };
  }

  /** Gives a page its frame number. */
  map(page: HostPage): void {
    page.mfn = this.#freed.length - this.#firstFreed > QUARANTINE ? this.#takeFreed() : this.#nextFrame++;
  }

  /** Takes a page back, with its frame number if it has one. */
  free(page: HostPage): void {
    if (page.mfn !== INVALID_MFN) this.#freed.push(page.mfn);
    page.mfn = INVALID_MFN;
    this.#spare.push(page.lanes);
  }

  #takeFreed(): number {
    const frame = this.#freed[this.#firstFreed++]!;
    if (this.#firstFreed > QUARANTINE) {
      this.#freed = this.#freed.slice(this.#firstFreed);
      this.#firstFreed = 0;
    }
    return frame;
  }
}
