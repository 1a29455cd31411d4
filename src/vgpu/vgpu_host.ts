/**
 * The engine's host inside a device: guest RAM as the VMM mapped it, write protection as a request to the
 * VMM, and pages and a GGTT of our own.
 *
 * @module
 */

import { EFAULT, EINVAL, OK } from "../gtt/errno.ts";
import type { GttHost, HostPage } from "../gtt/host.ts";
import type { PageCopy } from "../gtt/page_copy.ts";
import type { RamMap } from "../memory/ram_map.ts";
import { HostGgtt } from "./host_ggtt.ts";
import { HostPages } from "./host_pages.ts";

/**
 * Told when trapping of a frame's stores starts or stops.
 *
 * @param gfn Guest frame number.
 * @param on Whether its stores should trap from now on.
 */
export type ProtectListener = (gfn: number, on: boolean) => void;

/**
 * A host over a map of guest RAM.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { RamMap, VgpuHost } from "../../mod.ts";
 *
 * using ram = new RamMap();
 * ram.map({ gpa: 0, size: 0x10000 });
 * const asked: [number, boolean][] = [];
 * const host = new VgpuHost(ram, 0x100000000, (gfn, on) => asked.push([gfn, on]));
 * assertEquals(host.gfnToMfn(3), 0x100003);
 * assertEquals(host.protect(3, true), 0);
 * assertEquals(host.protect(99, true), -22); // no RAM there
 * assertEquals(asked, [[3, true]]);
 * ```
 */
export class VgpuHost implements GttHost {
  /** The host's GGTT. */
  readonly ggtt: HostGgtt;
  readonly #ram: RamMap;
  readonly #pages = new HostPages();
  readonly #onProtect: ProtectListener;
  readonly #protected = new Set<number>();

  /**
   * A host with an empty GGTT and nothing protected.
   *
   * @param ram Guest RAM.
   * @param graphicsMemory Size of the whole graphics memory, bytes.
   * @param onProtect Told of each frame that should start or stop trapping.
   */
  constructor(ram: RamMap, graphicsMemory: number, onProtect: ProtectListener = () => {}) {
    this.#ram = ram;
    this.ggtt = new HostGgtt(graphicsMemory);
    this.#onProtect = onProtect;
  }

  /**
   * Frames whose stores should trap.
   *
   * @returns The live set of guest frame numbers.
   */
  get protectedFrames(): ReadonlySet<number> {
    return this.#protected;
  }

  /**
   * Reads one entry of guest RAM (`engine.md` §1.1).
   *
   * @param gpa Guest physical address, bytes, a multiple of 8.
   * @param out Receives the low lane at 0 and the high lane at 1; untouched on failure.
   * @returns 0, or -EFAULT where there is no RAM.
   */
  readEntry(gpa: number, out: Uint32Array): number {
    return this.#ram.readEntry(gpa, out) ? OK : EFAULT;
  }

  /**
   * Reads one page of guest RAM (`engine.md` §1.1).
   *
   * @param gfn Guest frame number.
   * @param out At least 1024 lanes; untouched on failure.
   * @returns 0, or -EFAULT where there is no RAM.
   */
  readPage(gfn: number, out: Uint32Array): number {
    return this.#ram.readPage(gfn, out) ? OK : EFAULT;
  }

  /**
   * Whether a page of guest RAM is known to hold what a copy does (`engine.md` §16.1).
   *
   * @param gfn Guest frame number.
   * @param copy What to compare it with.
   * @returns Whether it does; `false` also if that cannot be said cheaply.
   */
  holdsPage(gfn: number, copy: PageCopy): boolean {
    return this.#ram.holdsPage(gfn, copy);
  }

  /**
   * Whether a frame is guest RAM (`engine.md` §1.1).
   *
   * @param gfn Guest frame number.
   * @returns Whether a region has it.
   */
  isValidGfn(gfn: number): boolean {
    return this.#ram.isRam(gfn);
  }

  /**
   * The host frame of a guest frame (`engine.md` §1.1).
   *
   * @param gfn Guest frame number.
   * @returns Frame number, or {@linkcode INVALID_MFN} where there is no RAM.
   */
  gfnToMfn(gfn: number): number {
    return this.#ram.mfnOf(gfn);
  }

  /**
   * How many frames from one on are RAM and have host frames that follow one another (`engine.md` §17).
   *
   * @param gfn First guest frame.
   * @param frames How many at most, 1 or more.
   * @returns 0..`frames`.
   */
  gfnRun(gfn: number, frames: number): number {
    return this.#ram.frameRun(gfn, frames);
  }

  /**
   * Tells the listener to start or stop trapping stores to a frame (`engine.md` §1.1). Asking again tells it
   * again.
   *
   * @param gfn Guest frame number.
   * @param on Whether stores should trap.
   * @returns 0, or -EINVAL where there is no RAM; then nobody is told.
   */
  protect(gfn: number, on: boolean): number {
    if (!this.#ram.isRam(gfn)) return EINVAL;
    if (on) this.#protected.add(gfn);
    else this.#protected.delete(gfn);
    this.#onProtect(gfn, on);
    return OK;
  }

  /**
   * RAM is gone, and with it the protection of its frames. Nobody is told.
   *
   * @param gfn First guest frame.
   * @param frames Number of frames.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { RamMap, VgpuHost } from "../../mod.ts";
   *
   * using ram = new RamMap();
   * ram.map({ gpa: 0, size: 0x10000 });
   * const host = new VgpuHost(ram, 0x100000);
   * for (const gfn of [3, 4, 5]) host.protect(gfn, true);
   * host.forgetProtection(4, 8);
   * assertEquals([...host.protectedFrames], [3]);
   * ```
   */
  forgetProtection(gfn: number, frames: number): void {
    for (const each of this.#protected) {
      if (each >= gfn && each < gfn + frames) this.#protected.delete(each);
    }
  }

  /**
   * Takes a host page (`engine.md` §1.1).
   *
   * @returns A zeroed page that is not mapped yet.
   */
  allocPage(): HostPage {
    return this.#pages.alloc();
  }

  /**
   * Gives a page a frame number of the device's own, which no guest RAM has (`engine.md` §1.1).
   *
   * @param page A page of {@linkcode allocPage}.
   * @returns Always `true`.
   */
  mapPage(page: HostPage): boolean {
    this.#pages.map(page);
    return true;
  }

  /**
   * Takes a page back; its frame number is not used again for a while.
   *
   * @param page A page of {@linkcode allocPage}, mapped or not.
   */
  freePage(page: HostPage): void {
    this.#pages.free(page);
  }

  /**
   * Stores one entry of {@linkcode ggtt}.
   *
   * @param index Entry, 0 or more.
   * @param lo Low lane.
   * @param hi High lane.
   */
  storeGgtt(index: number, lo: number, hi: number): void {
    this.ggtt.store(index, lo, hi);
  }

  /** Counts a flush of {@linkcode ggtt}; nothing is cached. */
  flushGgtt(): void {
    this.ggtt.flushes++;
  }
}
