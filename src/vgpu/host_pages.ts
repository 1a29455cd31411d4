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

/** Pages that are allocated at once: an array of one page costs as much again to make, and lies across two of memory. */
const SLAB_PAGES = 64;

/** Allocates host pages and gives each mapped one its own frame number. */
export class HostPages {
  readonly #spare: Uint32Array[] = [];
  /** Memory that the next new pages are cut from, and how many were. */
  #slab: Uint32Array = new Uint32Array(0);
  #cut = SLAB_PAGES;
  /** Freed frame numbers, the longest free first, from `#firstFreed` on. */
  #freed: number[] = [];
  #firstFreed = 0;
  #nextFrame = HOST_PAGE_MFN_BASE;

  /** A zeroed page, not mapped. */
  alloc(): HostPage {
    return { mfn: INVALID_MFN, lanes: this.#spare.pop()?.fill(0) ?? this.#cutPage() };
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

  #cutPage(): Uint32Array {
    if (this.#cut === SLAB_PAGES) {
      this.#slab = new Uint32Array(SLAB_PAGES * LANES);
      this.#cut = 0;
    }
    const first = LANES * this.#cut++;
    return this.#slab.subarray(first, first + LANES);
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
