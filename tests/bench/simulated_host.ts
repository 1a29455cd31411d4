/**
 * The host that the original was measured on: guest memory is an array, a frame is translated by an addition, write
 * protection costs nothing.
 *
 * @module
 */

import { EFAULT, type GttHost, type HostPage, OK } from "../../mod.ts";
import { HostPages } from "../../src/vgpu/host_pages.ts";

const FRAME_LANES = 1024;
const MFN_OFFSET = 0x10_0000;

/** A simulated host, whose guest has so many frames of memory. */
export class SimulatedHost implements GttHost {
  /** All of guest memory, as 32-bit lanes. */
  readonly memory: Uint32Array;
  /** The host's GGTT, two lanes an entry. */
  readonly ggtt: Uint32Array;
  /** How often the GGTT was flushed. */
  flushes = 0;
  /** How often a frame was protected or not any more. */
  protections = 0;
  readonly #frames: number;
  readonly #pages = new HostPages();

  /**
   * @param tableFrames Frames with memory behind them.
   * @param frames Frames that may be mapped: what is above `tableFrames` has no bytes.
   * @param ggttEntries Entries of the host's GGTT.
   */
  constructor(tableFrames: number, frames: number, ggttEntries: number) {
    this.memory = new Uint32Array(tableFrames * FRAME_LANES);
    this.ggtt = new Uint32Array(2 * ggttEntries);
    this.#frames = frames;
  }

  readEntry(gpa: number, out: Uint32Array): number {
    const lane = gpa / 4;
    if (lane + 1 >= this.memory.length) return EFAULT;
    out[0] = this.memory[lane]!;
    out[1] = this.memory[lane + 1]!;
    return OK;
  }

  readPage(gfn: number, out: Uint32Array): number {
    const lane = gfn * FRAME_LANES;
    out.set(this.memory.subarray(lane, lane + FRAME_LANES));
    return OK;
  }

  holdsPage(): boolean {
    return false;
  }

  isValidGfn(gfn: number): boolean {
    return gfn < this.#frames;
  }

  gfnToMfn(gfn: number): number {
    return gfn + MFN_OFFSET;
  }

  gfnRun(_gfn: number, frames: number): number {
    return frames;
  }

  protect(): number {
    this.protections++;
    return OK;
  }

  allocPage(): HostPage {
    return this.#pages.alloc();
  }

  mapPage(page: HostPage): boolean {
    this.#pages.map(page);
    return true;
  }

  freePage(page: HostPage): void {
    this.#pages.free(page);
  }

  storeGgtt(index: number, lo: number, hi: number): void {
    this.ggtt[2 * index] = lo;
    this.ggtt[2 * index + 1] = hi;
  }

  flushGgtt(): void {
    this.flushes++;
  }
}
