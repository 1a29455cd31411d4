/**
 * The global GTT of one vGPU (`engine.md` §7): the table that the guest reads and writes through MMIO. It has no shadow
 * table: its shadow *is* the host's GGTT.
 *
 * @module
 */

import { type GraphicsMemory, INVALID_ADDR } from "./address.ts";
import { frameOf, PAGE_SIZE, PRESENT, withFrameHi, withFrameLo } from "./entry.ts";
import { EINVAL, OK } from "./errno.ts";
import { type GttHost, INVALID_MFN } from "./host.ts";
import type { Counters } from "./counters.ts";

/** MMIO offset of the GGTT window on gen8 and gen9, bytes. */
export const GTT_START_OFFSET = 0x800000;

/** What a reset puts into the host's entries, with the global scratch frame. */
const RESET_FLAGS = PRESENT;

/** The guest's GGTT. */
export class Ggtt {
  readonly #host: GttHost;
  readonly #counters: Counters;
  readonly #gm: GraphicsMemory;
  readonly #globalScratch: () => number;
  /** What the guest stored last, valid or not: two lanes an entry, the whole graphics memory. */
  readonly entries: Uint32Array;
  readonly #merged: Uint32Array = new Uint32Array(2);
  readonly #mergedBytes: Uint8Array = new Uint8Array(this.#merged.buffer);
  readonly #written: Uint32Array = new Uint32Array(2);
  readonly #writtenBytes: Uint8Array = new Uint8Array(this.#written.buffer);

  /** An empty table; `globalScratch` answers the device's scratch frame. */
  constructor(host: GttHost, counters: Counters, gm: GraphicsMemory, globalScratch: () => number) {
    this.#host = host;
    this.#counters = counters;
    this.#gm = gm;
    this.#globalScratch = globalScratch;
    this.entries = new Uint32Array(2 * gm.entries);
  }

  /**
   * The guest reads its own last value (`engine.md` §7.1).
   *
   * @param off MMIO offset, bytes.
   * @param bytes 4 or 8, not leaving the entry.
   * @param out Receives the value as two lanes.
   * @returns 0 or -EINVAL.
   */
  read(off: number, bytes: number, out: Uint32Array): number {
    if (!isEntryAccess(off, bytes)) return EINVAL;
    this.#counters.ggttReads++;
    const index = Math.floor((off - GTT_START_OFFSET) / 8);
    const within = off % 8;
    const lo = this.entries[2 * index] ?? 0;
    const hi = this.entries[2 * index + 1] ?? 0;
    if (within === 0) {
      out[0] = lo;
      out[1] = bytes === 8 ? hi : 0;
      return OK;
    }
    this.#merged[0] = lo;
    this.#merged[1] = hi;
    this.#written.fill(0);
    this.#writtenBytes.set(this.#mergedBytes.subarray(within, within + bytes));
    out.set(this.#written);
    return OK;
  }

  /**
   * The guest stores to its GGTT (`engine.md` §7.2). A 4-byte store acts at once on the merged value.
   *
   * @param off MMIO offset, bytes.
   * @param bytes 4 or 8, not leaving the entry.
   * @param lo Low lane of the value.
   * @param hi High lane of the value, for 8 bytes.
   * @returns 0, also for a store outside the vGPU's windows, which is dropped; -EINVAL for a wrong access.
   */
  write(off: number, bytes: number, lo: number, hi: number): number {
    if (!isEntryAccess(off, bytes)) return EINVAL;
    const index = Math.floor((off - GTT_START_OFFSET) / 8);
    if (!this.#gm.isValid(index * PAGE_SIZE)) {
      this.#counters.badGgttWrites++;
      return OK;
    }
    this.#counters.ggttWrites++;
    if (bytes === 8) {
      this.#store(index, lo, hi);
    } else {
      this.#merge(index, off % 8, lo);
      this.#store(index, this.#merged[0]!, this.#merged[1]!);
    }
    return OK;
  }

  /**
   * Keeps a guest's store without acting on it: in failsafe mode the window is plain storage.
   *
   * @param off MMIO offset, bytes; other arguments as for {@linkcode write}.
   */
  keep(off: number, bytes: number, lo: number, hi: number): void {
    const index = Math.floor((off - GTT_START_OFFSET) / 8);
    if (!isEntryAccess(off, bytes) || !this.#gm.isValid(index * PAGE_SIZE)) return;
    if (bytes === 8) this.#merged.set([lo, hi]);
    else this.#merge(index, off % 8, lo);
    this.entries.set(this.#merged, 2 * index);
  }

  /** Aims every host entry of both windows at the global scratch page; the guest's view stays (`engine.md` §12). */
  reset(): void {
    const { apertureBase, apertureSize, hiddenBase, hiddenSize } = this.#gm.layout;
    this.#resetWindow(apertureBase, apertureSize);
    this.#resetWindow(hiddenBase, hiddenSize);
    this.#host.flushGgtt();
  }

  /** Translates every present entry anew, because guest RAM came or went. The guest's view stays. */
  retranslate(): void {
    const { apertureBase, apertureSize, hiddenBase, hiddenSize } = this.#gm.layout;
    this.#retranslateWindow(apertureBase, apertureSize);
    this.#retranslateWindow(hiddenBase, hiddenSize);
    this.#host.flushGgtt();
  }

  /**
   * Translates an address through the guest's view (`engine.md` §8.7); presence is not checked.
   *
   * @param gma Graphics address; it may be any non-negative number.
   * @returns Guest physical address, or {@linkcode INVALID_ADDR} outside the windows.
   */
  translate(gma: number): number {
    if (!this.#gm.isValid(gma)) return INVALID_ADDR;
    const index = Math.floor(gma / PAGE_SIZE);
    return frameOf(this.entries[2 * index]!, this.entries[2 * index + 1]!) * PAGE_SIZE + gma % PAGE_SIZE;
  }

  /** Overlays a 4-byte store on the entry's current value. */
  #merge(index: number, within: number, value: number): void {
    this.#merged[0] = this.entries[2 * index]!;
    this.#merged[1] = this.entries[2 * index + 1]!;
    this.#written[0] = value;
    this.#mergedBytes.set(this.#writtenBytes.subarray(0, 4), within);
  }

  #store(index: number, lo: number, hi: number): void {
    this.#storeHost(index, lo, hi);
    this.#host.flushGgtt();
    this.entries[2 * index] = lo;
    this.entries[2 * index + 1] = hi;
  }

  /** Stores the host's entry for a value of the guest: its own target if that is a frame of the guest, else scratch. */
  #storeHost(index: number, lo: number, hi: number): void {
    let mfn = this.#globalScratch();
    if ((lo & PRESENT) !== 0) {
      const gfn = frameOf(lo, hi);
      const pinned = this.#host.isValidGfn(gfn) ? this.#host.gfnToMfn(gfn) : INVALID_MFN;
      if (pinned === INVALID_MFN) this.#counters.badLeaves++;
      else mfn = pinned;
    }
    this.#host.storeGgtt(index, withFrameLo(lo, mfn), withFrameHi(hi, mfn));
  }

  #retranslateWindow(base: number, size: number): void {
    for (let index = base / PAGE_SIZE; index < (base + size) / PAGE_SIZE; index++) {
      const lo = this.entries[2 * index]!;
      if ((lo & PRESENT) !== 0) this.#storeHost(index, lo, this.entries[2 * index + 1]!);
    }
  }

  #resetWindow(base: number, size: number): void {
    const mfn = this.#globalScratch();
    const lo = withFrameLo(RESET_FLAGS, mfn);
    const hi = withFrameHi(0, mfn);
    for (let index = base / PAGE_SIZE; index < (base + size) / PAGE_SIZE; index++) {
      this.#host.storeGgtt(index, lo, hi);
    }
  }
}

/** Whether an access is 4 or 8 bytes and stays within its entry (`engine.md` §7.1, §15, 5). */
function isEntryAccess(off: number, bytes: number): boolean {
  return (bytes === 4 || bytes === 8) && off % 8 + bytes <= 8;
}
