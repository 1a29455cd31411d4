/**
 * The engine's host inside a device: guest RAM as the VMM mapped it, write protection as a request to the VMM, and
 * pages and a GGTT of our own.
 *
 * @module
 */

import { EFAULT, EINVAL, OK } from "../gtt/errno.ts";
import type { GttHost, HostPage } from "../gtt/host.ts";
import type { RamMap } from "../memory/ram_map.ts";
import { HostGgtt } from "./host_ggtt.ts";
import { HostPages } from "./host_pages.ts";

/** Told when trapping of a frame's stores starts or stops. */
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

  /** Frames whose stores should trap. */
  get protectedFrames(): ReadonlySet<number> {
    return this.#protected;
  }

  /** See {@linkcode GttHost.readEntry}. */
  readEntry(gpa: number, out: Uint32Array): number {
    return this.#ram.readEntry(gpa, out) ? OK : EFAULT;
  }

  /** See {@linkcode GttHost.readPage}. */
  readPage(gfn: number, out: Uint32Array): number {
    return this.#ram.readPage(gfn, out) ? OK : EFAULT;
  }

  /** See {@linkcode GttHost.isValidGfn}. */
  isValidGfn(gfn: number): boolean {
    return this.#ram.isRam(gfn);
  }

  /** See {@linkcode GttHost.gfnToMfn}. */
  gfnToMfn(gfn: number): number {
    return this.#ram.mfnOf(gfn);
  }

  /** See {@linkcode GttHost.protect}. */
  protect(gfn: number, on: boolean): number {
    if (!this.#ram.isRam(gfn)) return EINVAL;
    if (on) this.#protected.add(gfn);
    else this.#protected.delete(gfn);
    this.#onProtect(gfn, on);
    return OK;
  }

  /** RAM is gone, and with it the protection of its frames, from `gfn` on. Nobody is told. */
  forgetProtection(gfn: number, frames: number): void {
    for (const each of this.#protected) {
      if (each >= gfn && each < gfn + frames) this.#protected.delete(each);
    }
  }

  /** See {@linkcode GttHost.allocPage}. */
  allocPage(): HostPage {
    return this.#pages.alloc();
  }

  /** See {@linkcode GttHost.mapPage}. */
  mapPage(page: HostPage): boolean {
    this.#pages.map(page);
    return true;
  }

  /** See {@linkcode GttHost.freePage}. */
  freePage(page: HostPage): void {
    this.#pages.free(page);
  }

  /** See {@linkcode GttHost.storeGgtt}. */
  storeGgtt(index: number, lo: number, hi: number): void {
    this.ggtt.store(index, lo, hi);
  }

  /** See {@linkcode GttHost.flushGgtt}. */
  flushGgtt(): void {
    this.ggtt.flushes++;
  }
}
