/**
 * Scratch pages (`engine.md` §6.2): harmless targets for entries that must not map anything.
 *
 * `mfn[K]` is what a removed entry inside a K table points to: for PTE an all-zero page, for each directory a table of
 * the kind below all of whose entries lead down to that zero page. They are built lowest first and never change.
 *
 * @module
 */

import { ENOMEM, OK } from "./errno.ts";
import { ENTRIES, PDE, TABLE_KINDS, type TableKind, withFrameHi, withFrameLo } from "./entry.ts";
import { type GttHost, type HostPage, INVALID_MFN } from "./host.ts";

/** Present, writable, and PAT: what a scratch PTE carries. */
const LEAF_FLAGS = 0x83;
/** Present and writable: what a scratch directory entry carries. */
const DIRECTORY_FLAGS = 0x3;

/** The four scratch pages of one vGPU. */
export class ScratchPages {
  readonly #host: GttHost;
  readonly #pages: HostPage[] = [];
  /** Host frame of the scratch page for each table kind (index 0 is unused); {@linkcode INVALID_MFN} before `build`. */
  readonly mfn: number[] = [INVALID_MFN, INVALID_MFN, INVALID_MFN, INVALID_MFN, INVALID_MFN];

  /** No pages yet; `build` takes them from `host`. */
  constructor(host: GttHost) {
    this.#host = host;
  }

  /** Builds the four pages; on failure none is left. @returns 0 or -ENOMEM. */
  build(): number {
    for (const kind of TABLE_KINDS) {
      const page = this.#host.allocPage();
      if (page === null) return this.#fail();
      this.#pages.push(page);
      if (!this.#host.mapPage(page)) return this.#fail();
      this.mfn[kind] = page.mfn;
      if (kind >= PDE) fill(page, this.mfn[kind - 1]!, kind === PDE ? LEAF_FLAGS : DIRECTORY_FLAGS);
    }
    return OK;
  }

  /** Gives the pages back. Nothing may point to them any more. */
  free(): void {
    for (const page of this.#pages) this.#host.freePage(page);
    this.#pages.length = 0;
    this.mfn.fill(INVALID_MFN);
  }

  /** The page for a table kind, for views; `undefined` before `build`. */
  page(kind: TableKind): HostPage | undefined {
    return this.#pages[kind - 1];
  }

  /** Whether a host frame is one of the four. */
  has(mfn: number): boolean {
    return mfn !== INVALID_MFN && this.mfn.includes(mfn);
  }

  #fail(): number {
    this.free();
    return ENOMEM;
  }
}

/** Makes all entries of a page lead to one frame. */
function fill(page: HostPage, mfn: number, flags: number): void {
  const lo = withFrameLo(flags, mfn);
  const hi = withFrameHi(0, mfn);
  for (let index = 0; index < ENTRIES; index++) {
    page.lanes[2 * index] = lo;
    page.lanes[2 * index + 1] = hi;
  }
}
