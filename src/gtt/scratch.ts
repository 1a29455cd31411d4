/**
 * Scratch pages (`engine.md` §6.2): harmless targets for entries that must not map anything.
 *
 * `mfn[K]` is what a removed entry inside a K table points to: for PTE an all-zero page, for each directory a
 * table of the kind below all of whose entries lead down to that zero page. They are built lowest first and
 * never change.
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

/**
 * The four scratch pages of one vGPU.
 *
 * @example What a removed entry inside a directory leads to is a table down to the zero page
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, frameOf, PDE, PTE } from "../../mod.ts";
 *
 * using device = createDevice();
 * const { scratch } = device.vgpu.gtt.parts;
 * assertEquals(scratch.page(PTE)!.lanes.every((lane) => lane === 0), true);
 * const [lo, hi] = scratch.page(PDE)!.lanes; // entry 0 of 512 equal ones
 * assertEquals(frameOf(lo!, hi!), scratch.mfn[PTE]);
 * assertEquals(lo! & 0xfff, 0x83);
 * ```
 */
export class ScratchPages {
  readonly #host: GttHost;
  readonly #pages: HostPage[] = [];
  /**
   * Host frame of the scratch page for each table kind (index 0 is unused); {@linkcode INVALID_MFN} before
   * `build`.
   */
  readonly mfn: number[] = [INVALID_MFN, INVALID_MFN, INVALID_MFN, INVALID_MFN, INVALID_MFN];

  /**
   * No pages yet.
   *
   * @param host Where `build` takes them from.
   */
  constructor(host: GttHost) {
    this.#host = host;
  }

  /**
   * Builds the four pages, lowest first (`engine.md` §6.2); on failure none is left.
   *
   * @returns 0 or -ENOMEM.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, ENOMEM, INVALID_MFN, PTE, ScratchPages } from "../../mod.ts";
   *
   * using device = createDevice({ faults: true });
   * device.faults!.setCount("dma", 1);
   * const scratch = new ScratchPages(device.faults!);
   * assertEquals([scratch.build(), scratch.mfn[PTE]], [ENOMEM, INVALID_MFN]);
   * assertEquals(scratch.build(), 0);
   * ```
   */
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

  /** Gives the pages back (`engine.md` §6.2). Nothing may point to them any more. */
  free(): void {
    for (const page of this.#pages) this.#host.freePage(page);
    this.#pages.length = 0;
    this.mfn.fill(INVALID_MFN);
  }

  /**
   * The page for a table kind, for views.
   *
   * @param kind Kind of the table whose removed entries lead there.
   * @returns The page, or `undefined` before `build`.
   */
  page(kind: TableKind): HostPage | undefined {
    return this.#pages[kind - 1];
  }

  /**
   * Whether a host frame is one of the four.
   *
   * @param mfn Host frame number, or {@linkcode INVALID_MFN}.
   * @returns Whether it is; never before `build`.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, INVALID_MFN, PML4 } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { scratch } = device.vgpu.gtt.parts;
   * assertEquals(scratch.has(scratch.mfn[PML4]!), true);
   * assertEquals(scratch.has(device.gvt.globalScratch), false); // that one is the device's
   * assertEquals(scratch.has(INVALID_MFN), false);
   * ```
   */
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
