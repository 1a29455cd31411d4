/**
 * The global GTT of one vGPU (`engine.md` §7): the table that the guest reads and writes through MMIO. It has
 * no shadow table: its shadow *is* the host's GGTT.
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

/**
 * The guest's GGTT. `VgpuGtt` wraps its functions, which are the same, but do not ask whether the engine is
 * initialised.
 *
 * @example The guest's view and the hardware's
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, GTT_START_OFFSET } from "../../mod.ts";
 *
 * using device = createDevice();
 * device.ram.map({ gpa: 0, size: 0x10000 });
 * const { config: { apertureBase: gma }, host, vgpu: { gtt } } = device;
 * const { ggtt } = gtt.parts;
 * assertEquals(ggtt.write(GTT_START_OFFSET + gma / 4096 * 8, 8, 0x5001, 0), 0);
 * assertEquals(ggtt.entries[2 * gma / 4096], 0x5001); // what the guest wrote
 * assertEquals(host.ggtt.lanes[2 * gma / 4096], 0x100005 * 4096 % 2 ** 32 + 1); // the host frame
 * ```
 */
export class Ggtt {
  readonly #host: GttHost;
  readonly #counters: Counters;
  readonly #gm: GraphicsMemory;
  readonly #globalScratch: () => number;
  /** What the guest stored last, valid or not: two lanes an entry, the whole graphics memory. */
  readonly entries: Uint32Array;
  /** Entries whose host entry follows the guest's: stored since the last reset. Bit `index % 32` of word `index / 32`. */
  readonly #live: Uint32Array;
  readonly #count: number;
  readonly #merged: Uint32Array = new Uint32Array(2);

  /**
   * An empty table for the whole graphics memory.
   *
   * @param host Translates frames and holds the hardware's table.
   * @param counters Counts what the guest does.
   * @param gm The windows that the vGPU owns.
   * @param globalScratch Answers the device's global scratch frame.
   */
  constructor(host: GttHost, counters: Counters, gm: GraphicsMemory, globalScratch: () => number) {
    this.#host = host;
    this.#counters = counters;
    this.#gm = gm;
    this.#globalScratch = globalScratch;
    this.entries = new Uint32Array(2 * gm.entries);
    this.#count = gm.entries;
    this.#live = new Uint32Array(Math.ceil(gm.entries / 32));
  }

  /**
   * The guest reads its own last value (`intel_vgpu_emulate_gtt_mmio_read`, `engine.md` §7.1). There is no
   * window check: other entries are 0 because nothing can be stored there.
   *
   * @param off MMIO offset, bytes, at or above {@linkcode GTT_START_OFFSET}.
   * @param bytes 4 or 8, not leaving the entry.
   * @param out Receives the value as two lanes; untouched on failure.
   * @returns 0, or -EINVAL for another size or an access that leaves its entry (§15, 5).
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, GTT_START_OFFSET } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { ggtt } = device.vgpu.gtt.parts;
   * const out = Uint32Array.of(7, 7);
   * assertEquals(ggtt.read(GTT_START_OFFSET, 8, out), 0); // not this vGPU's
   * assertEquals(out, Uint32Array.of(0, 0));
   * ```
   */
  read(off: number, bytes: number, out: Uint32Array): number {
    if (!isEntryAccess(off, bytes)) return EINVAL;
    this.#counters.ggttReads++;
    const index = entryAt(off);
    const isOwn = index < this.#count;
    const lo = isOwn ? this.entries[2 * index]! : 0;
    const hi = isOwn ? this.entries[2 * index + 1]! : 0;
    out[0] = bytes === 8 ? lo : fourBytes(lo, hi, off & 7);
    out[1] = bytes === 8 ? hi : 0;
    return OK;
  }

  /**
   * The guest stores to its GGTT (`intel_vgpu_emulate_gtt_mmio_write`, `engine.md` §7.2): the host's entry
   * first, then one flush, then the guest's view. A 4-byte store acts at once on the merged value.
   *
   * @param off MMIO offset, bytes, at or above {@linkcode GTT_START_OFFSET}.
   * @param bytes 4 or 8, not leaving the entry.
   * @param lo Low lane of the value, 32 bits.
   * @param hi High lane of the value, 32 bits; not looked at for 4 bytes.
   * @returns 0, also for a store outside the vGPU's windows, which is dropped; -EINVAL for a wrong access.
   *
   * @example A store outside the windows changes nothing and flushes nothing
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, GTT_START_OFFSET } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { host: { ggtt }, vgpu: { gtt } } = device;
   * const flushes = ggtt.flushes;
   * assertEquals(gtt.parts.ggtt.write(GTT_START_OFFSET, 8, 0x5001, 0), 0);
   * assertEquals([gtt.parts.ggtt.entries[0], ggtt.lanes[0], ggtt.flushes], [0, 0, flushes]);
   * assertEquals(gtt.counters.badGgttWrites, 1);
   * ```
   */
  write(off: number, bytes: number, lo: number, hi: number): number {
    if (!isEntryAccess(off, bytes)) return EINVAL;
    const index = entryAt(off);
    if (!this.#gm.ownsEntry(index)) {
      this.#counters.badGgttWrites++;
      return OK;
    }
    this.#counters.ggttWrites++;
    if (bytes === 8) {
      this.#store(index, lo, hi);
    } else {
      this.#merge(index, off & 7, lo);
      this.#store(index, this.#merged[0]!, this.#merged[1]!);
    }
    return OK;
  }

  /**
   * Keeps a guest's store without acting on it: in failsafe mode the window is plain storage. A wrong access
   * or one outside the windows is dropped.
   *
   * @param off MMIO offset, bytes, at or above {@linkcode GTT_START_OFFSET}.
   * @param bytes 4 or 8, not leaving the entry.
   * @param lo Low lane of the value, 32 bits.
   * @param hi High lane of the value, 32 bits; not looked at for 4 bytes.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, GTT_START_OFFSET } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { config: { apertureBase: gma }, gvt, host, vgpu: { gtt } } = device;
   * gtt.parts.ggtt.keep(GTT_START_OFFSET + gma / 4096 * 8, 8, 0x5001, 0);
   * assertEquals(gtt.ggttGmaToGpa(gma), 0x5000);
   * assertEquals(host.ggtt.target(gma), gvt.globalScratch); // as the reset left it
   * ```
   */
  keep(off: number, bytes: number, lo: number, hi: number): void {
    const index = entryAt(off);
    if (!isEntryAccess(off, bytes) || !this.#gm.ownsEntry(index)) return;
    if (bytes === 8) {
      this.#merged[0] = lo;
      this.#merged[1] = hi;
    } else {
      this.#merge(index, off & 7, lo);
    }
    this.entries.set(this.#merged, 2 * index);
    this.#live[index >>> 5]! &= ~(1 << (index & 31));
  }

  /**
   * Aims every host entry of both windows at the global scratch page, with one flush; the guest's view stays
   * (`intel_vgpu_reset_ggtt`, `engine.md` §12).
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, GTT_START_OFFSET } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { config: { hiddenBase: gma }, gvt, host, vgpu: { gtt } } = device;
   * gtt.parts.ggtt.write(GTT_START_OFFSET + gma / 4096 * 8, 8, 0x5001, 0);
   * gtt.parts.ggtt.reset();
   * assertEquals(host.ggtt.lanes[2 * gma / 4096]! & 0xfff, 1); // flags: present, nothing else
   * assertEquals(host.ggtt.target(gma), gvt.globalScratch);
   * assertEquals(gtt.parts.ggtt.translate(gma), 0x5000);
   * ```
   */
  reset(): void {
    this.#live.fill(0);
    const { apertureBase, apertureSize, hiddenBase, hiddenSize } = this.#gm.layout;
    this.#resetWindow(apertureBase, apertureSize);
    this.#resetWindow(hiddenBase, hiddenSize);
    this.#host.flushGgtt();
  }

  /**
   * Translates every entry anew that was stored since the last reset, with one flush, because guest RAM came or
   * went (`engine.md` §15, 30). The guest's view stays.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, GTT_START_OFFSET } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { config: { apertureBase: gma }, gvt, host, vgpu: { gtt: { parts: { ggtt } } } } = device;
   * ggtt.write(GTT_START_OFFSET + gma / 4096 * 8, 8, 0x5001, 0); // no RAM there yet
   * assertEquals(host.ggtt.target(gma), gvt.globalScratch);
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * ggtt.retranslate();
   * assertEquals(host.ggtt.target(gma), 0x100005);
   * ```
   */
  retranslate(): void {
    const { apertureBase, apertureSize, hiddenBase, hiddenSize } = this.#gm.layout;
    this.#retranslateWindow(apertureBase, apertureSize);
    this.#retranslateWindow(hiddenBase, hiddenSize);
    this.#host.flushGgtt();
  }

  /**
   * Translates an address through the guest's view (`intel_vgpu_gma_to_gpa`, `engine.md` §8.7); presence is
   * not checked (§13, 12).
   *
   * @param gma Graphics address, bytes; it may be any non-negative number.
   * @returns Guest physical address, or {@linkcode INVALID_ADDR} outside the windows.
   *
   * @example An entry that is not present translates all the same
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, GTT_START_OFFSET } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { apertureBase } = device.config;
   * const { ggtt } = device.vgpu.gtt.parts;
   * ggtt.write(GTT_START_OFFSET + apertureBase / 4096 * 8, 8, 0x5000, 0);
   * assertEquals(ggtt.translate(apertureBase + 0xabc), 0x5abc);
   * ```
   */
  translate(gma: number): number {
    if (!this.#gm.isValid(gma)) return INVALID_ADDR;
    const index = gma >>> 12; // graphics memory ends at 4 GiB
    return frameOf(this.entries[2 * index]!, this.entries[2 * index + 1]!) * PAGE_SIZE +
      (gma & PAGE_SIZE - 1);
  }

  /** Overlays a 4-byte store on the entry's current value; by lanes, because a view of bytes would be allocated. */
  #merge(index: number, within: number, value: number): void {
    const lo = this.entries[2 * index]!;
    const hi = this.entries[2 * index + 1]!;
    const shift = 8 * within;
    const below = (1 << shift) - 1; // of no use for 32 bits, where the lane is whole
    this.#merged[0] = within === 4 ? lo : (lo & below) | (value << shift);
    this.#merged[1] = within === 0 ? hi : within === 4 ? value : (hi & ~below) | (value >>> (32 - shift));
  }

  #store(index: number, lo: number, hi: number): void {
    if (!this.#storeHost(index, lo, hi)) this.#counters.badLeaves++;
    this.#host.flushGgtt();
    this.entries[2 * index] = lo;
    this.entries[2 * index + 1] = hi;
    this.#live[index >>> 5]! |= 1 << (index & 31);
  }

  /**
   * Stores the host's entry for a value of the guest: its own target if that is a frame of the guest, else scratch.
   *
   * @returns Whether the entry leads where the guest wants it, or is not present.
   */
  #storeHost(index: number, lo: number, hi: number): boolean {
    if ((lo & PRESENT) !== 0) {
      const gfn = frameOf(lo, hi);
      const mfn = this.#host.isValidGfn(gfn) ? this.#host.gfnToMfn(gfn) : INVALID_MFN;
      if (mfn !== INVALID_MFN) {
        this.#host.storeGgtt(index, withFrameLo(lo, mfn), withFrameHi(hi, mfn));
        return true;
      }
    }
    const scratch = this.#globalScratch();
    this.#host.storeGgtt(index, withFrameLo(lo, scratch), withFrameHi(hi, scratch));
    return (lo & PRESENT) === 0;
  }

  #retranslateWindow(base: number, size: number): void {
    for (let index = base / PAGE_SIZE; index < (base + size) / PAGE_SIZE; index++) {
      if ((this.#live[index >>> 5]! & (1 << (index & 31))) === 0) continue;
      this.#storeHost(index, this.entries[2 * index]!, this.entries[2 * index + 1]!);
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

/** Four bytes of an entry, from byte 0 to 4 on. */
function fourBytes(lo: number, hi: number, within: number): number {
  if (within === 0) return lo;
  return within === 4 ? hi : (lo >>> 8 * within) | (hi << 32 - 8 * within);
}

/** Whether an access is 4 or 8 bytes and stays within its entry (`engine.md` §7.1, §15, 5). */
function isEntryAccess(off: number, bytes: number): boolean {
  return (bytes === 4 || bytes === 8) && (off & 7) + bytes <= 8;
}

/** Number of the entry at an MMIO offset; one that no GGTT has when there is none. */
function entryAt(off: number): number {
  const at = off - GTT_START_OFFSET;
  return at < MAX_BYTES ? at >>> 3 : MAX_BYTES;
}

/** Bytes of the largest GGTT: more than any index, so it also stands for none. */
const MAX_BYTES = 0x80_0000;
