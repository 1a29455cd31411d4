/**
 * Faults on demand: a host that fails where it is told to. For tests and for replaying recorded traces; a device has one only
 * when started for debugging.
 *
 * @module
 */

import { EFAULT, EINVAL } from "../gtt/errno.ts";
import { type GttHost, type HostPage, INVALID_MFN } from "../gtt/host.ts";
import { PAGE_SIZE } from "../gtt/entry.ts";

/** Faults that belong to guest frames: the frame is not valid, has no host frame, cannot be read, protected, unprotected. */
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

  /** A host that behaves like `host` until told otherwise. */
  constructor(host: GttHost) {
    this.#host = host;
  }

  /** Injects or lifts a fault of one guest frame. */
  setFrame(fault: FrameFault, gfn: number, on: boolean): void {
    if (on) this.#frames[fault].add(gfn);
    else this.#frames[fault].delete(gfn);
  }

  /** Makes the next `count` calls fail; 0 lifts the fault. */
  setCount(fault: CountedFault, count: number): void {
    this.#counts[fault] = count;
  }

  /** See {@linkcode GttHost.readEntry}. */
  readEntry(gpa: number, out: Uint32Array): number {
    if (this.#frames.read.has(Math.floor(gpa / PAGE_SIZE))) return EFAULT;
    return this.#host.readEntry(gpa, out);
  }

  /** See {@linkcode GttHost.readPage}. */
  readPage(gfn: number, out: Uint32Array): number {
    return this.#frames.read.has(gfn) ? EFAULT : this.#host.readPage(gfn, out);
  }

  /** See {@linkcode GttHost.isValidGfn}. */
  isValidGfn(gfn: number): boolean {
    return !this.#frames.invalid.has(gfn) && this.#host.isValidGfn(gfn);
  }

  /** See {@linkcode GttHost.gfnToMfn}. */
  gfnToMfn(gfn: number): number {
    return this.#frames.p2m.has(gfn) ? INVALID_MFN : this.#host.gfnToMfn(gfn);
  }

  /** See {@linkcode GttHost.protect}. */
  protect(gfn: number, on: boolean): number {
    return this.#frames[on ? "wp" : "unwp"].has(gfn) ? EINVAL : this.#host.protect(gfn, on);
  }

  /** See {@linkcode GttHost.allocPage}. */
  allocPage(): HostPage | null {
    return this.#hits("alloc") ? null : this.#host.allocPage();
  }

  /** See {@linkcode GttHost.mapPage}. */
  mapPage(page: HostPage): boolean {
    return this.#hits("dma") ? false : this.#host.mapPage(page);
  }

  /** See {@linkcode GttHost.freePage}. */
  freePage(page: HostPage): void {
    this.#host.freePage(page);
  }

  /** See {@linkcode GttHost.storeGgtt}. */
  storeGgtt(index: number, lo: number, hi: number): void {
    this.#host.storeGgtt(index, lo, hi);
  }

  /** See {@linkcode GttHost.flushGgtt}. */
  flushGgtt(): void {
    this.#host.flushGgtt();
  }

  #hits(fault: CountedFault): boolean {
    if (this.#counts[fault] <= 0) return false;
    this.#counts[fault]--;
    return true;
  }
}
