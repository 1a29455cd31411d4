/**
 * Faults on demand: a host that fails where it is told to. For tests and for replaying recorded traces; a
 * device has one only when started for debugging.
 *
 * @module
 */

import { EFAULT, EINVAL } from "../gtt/errno.ts";
import { type GttHost, type HostPage, INVALID_MFN } from "../gtt/host.ts";
import { PAGE_SIZE } from "../gtt/entry.ts";
import type { PageCopy } from "../gtt/page_copy.ts";

/**
 * Faults that belong to guest frames: the frame is not valid, has no host frame, cannot be read, protected,
 * unprotected.
 */
export const FRAME_FAULTS = ["invalid", "p2m", "read", "wp", "unwp"] as const;

/** A fault of one guest frame. */
export type FrameFault = typeof FRAME_FAULTS[number];

/** Faults that are counted: the next n page allocations or DMA mappings fail. */
export const COUNTED_FAULTS = ["alloc", "dma"] as const;

/** A fault that hits the next calls. */
export type CountedFault = typeof COUNTED_FAULTS[number];

/**
 * Wraps a host and injects faults.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { FaultInjection, RamMap, VgpuHost } from "../../mod.ts";
 *
 * using ram = new RamMap();
 * ram.map({ gpa: 0, size: 0x10000 });
 * const host = new FaultInjection(new VgpuHost(ram, 0x100000000));
 * host.setFrame("invalid", 3, true);
 * assertEquals(host.isValidGfn(3), false);
 * host.setCount("alloc", 1);
 * assertEquals(host.allocPage(), null);
 * assertEquals(host.allocPage() === null, false);
 * ```
 */
export class FaultInjection implements GttHost {
  readonly #host: GttHost;
  readonly #frames: Record<FrameFault, Set<number>> = {
    invalid: new Set(),
    p2m: new Set(),
    read: new Set(),
    wp: new Set(),
    unwp: new Set(),
  };
  readonly #counts: Record<CountedFault, number> = { alloc: 0, dma: 0 };

  /**
   * A host that behaves like another one until told otherwise.
   *
   * @param host Asked whenever no fault hits.
   */
  constructor(host: GttHost) {
    this.#host = host;
  }

  /**
   * Injects or lifts a fault of one guest frame.
   *
   * @param fault Which call fails for the frame.
   * @param gfn Guest frame number.
   * @param on Whether it fails from now on.
   *
   * @example A guest frame that cannot be read
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EFAULT } from "../../mod.ts";
   *
   * using device = createDevice({ faults: true });
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const faults = device.faults!;
   * faults.setFrame("read", 5, true);
   * assertEquals(faults.readEntry(0x5008, new Uint32Array(2)), EFAULT);
   * faults.setFrame("read", 5, false);
   * assertEquals(faults.readEntry(0x5008, new Uint32Array(2)), 0);
   * ```
   */
  setFrame(fault: FrameFault, gfn: number, on: boolean): void {
    if (on) this.#frames[fault].add(gfn);
    else this.#frames[fault].delete(gfn);
  }

  /**
   * Makes the next calls fail, whoever makes them.
   *
   * @param fault Which call fails.
   * @param count How many of them, 0 or more; 0 lifts the fault.
   *
   * @example A shadow page that cannot be mapped
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL, PTE } from "../../mod.ts";
   *
   * using device = createDevice({ faults: true });
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * device.faults!.setCount("dma", 1);
   * assertEquals(device.vgpu.gtt.parts.tables.obtain(PTE, 2), EINVAL);
   * assertEquals(typeof device.vgpu.gtt.parts.tables.obtain(PTE, 2), "object");
   * ```
   */
  setCount(fault: CountedFault, count: number): void {
    this.#counts[fault] = count;
  }

  /**
   * Fails for frames with the fault `read`; else as the host that is wrapped.
   *
   * @param gpa Guest physical address, bytes, a multiple of 8.
   * @param out Receives the low lane at 0 and the high lane at 1; untouched on failure.
   * @returns 0, -EFAULT, or the host's error.
   */
  readEntry(gpa: number, out: Uint32Array): number {
    if (this.#frames.read.has(Math.floor(gpa / PAGE_SIZE))) return EFAULT;
    return this.#host.readEntry(gpa, out);
  }

  /**
   * Fails for frames with the fault `read`; else as the host that is wrapped.
   *
   * @param gfn Guest frame number.
   * @param out At least 1024 lanes; untouched on failure.
   * @returns 0, -EFAULT, or the host's error.
   */
  readPage(gfn: number, out: Uint32Array): number {
    return this.#frames.read.has(gfn) ? EFAULT : this.#host.readPage(gfn, out);
  }

  /**
   * Knows nothing of frames with the fault `read`; else as the host that is wrapped.
   *
   * @param gfn Guest frame number.
   * @param copy What to compare the page with.
   * @returns Whether the page is known to hold the same.
   */
  holdsPage(gfn: number, copy: PageCopy): boolean {
    return !this.#frames.read.has(gfn) && this.#host.holdsPage(gfn, copy);
  }

  /**
   * Denies frames with the fault `invalid`; else as the host that is wrapped.
   *
   * @param gfn Guest frame number.
   * @returns Whether the frame is guest RAM.
   */
  isValidGfn(gfn: number): boolean {
    return !this.#frames.invalid.has(gfn) && this.#host.isValidGfn(gfn);
  }

  /**
   * Fails for frames with the fault `p2m`; else as the host that is wrapped.
   *
   * @param gfn Guest frame number.
   * @returns Frame number, or {@linkcode INVALID_MFN}.
   */
  gfnToMfn(gfn: number): number {
    return this.#frames.p2m.has(gfn) ? INVALID_MFN : this.#host.gfnToMfn(gfn);
  }

  /**
   * Ends before the first frame with the fault `invalid` or `p2m`; else as the host that is wrapped.
   *
   * @param gfn First guest frame.
   * @param frames How many at most.
   * @returns 0..`frames`.
   */
  gfnRun(gfn: number, frames: number): number {
    let run = frames;
    for (const faulty of [this.#frames.invalid, this.#frames.p2m]) {
      for (const each of faulty) if (each >= gfn && each < gfn + run) run = each - gfn;
    }
    return run === 0 ? 0 : this.#host.gfnRun(gfn, run);
  }

  /**
   * Fails for frames with the fault `wp` or `unwp`; else as the host that is wrapped.
   *
   * @param gfn Guest frame number.
   * @param on Whether stores should trap.
   * @returns 0, -EINVAL, or the host's error.
   */
  protect(gfn: number, on: boolean): number {
    return this.#frames[on ? "wp" : "unwp"].has(gfn) ? EINVAL : this.#host.protect(gfn, on);
  }

  /**
   * Fails while the fault `alloc` counts; else as the host that is wrapped.
   *
   * @returns A zeroed page, or `null`.
   */
  allocPage(): HostPage | null {
    return this.#hits("alloc") ? null : this.#host.allocPage();
  }

  /**
   * Fails while the fault `dma` counts; else as the host that is wrapped.
   *
   * @param page A page of {@linkcode allocPage}.
   * @returns Whether the page has a frame number now.
   */
  mapPage(page: HostPage): boolean {
    return this.#hits("dma") ? false : this.#host.mapPage(page);
  }

  /**
   * Never fails: as the host that is wrapped.
   *
   * @param page A page of {@linkcode allocPage}, mapped or not.
   */
  freePage(page: HostPage): void {
    this.#host.freePage(page);
  }

  /**
   * Never fails: as the host that is wrapped.
   *
   * @param index Entry, 0 or more.
   * @param lo Low lane.
   * @param hi High lane.
   */
  storeGgtt(index: number, lo: number, hi: number): void {
    this.#host.storeGgtt(index, lo, hi);
  }

  /** Never fails: as the host that is wrapped. */
  flushGgtt(): void {
    this.#host.flushGgtt();
  }

  #hits(fault: CountedFault): boolean {
    if (this.#counts[fault] <= 0) return false;
    this.#counts[fault]--;
    return true;
  }
}
