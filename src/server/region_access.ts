/**
 * The way of a guest's loads and stores to the vGPU: straight, or past a recorder.
 *
 * @module
 */

import { OK } from "../gtt/errno.ts";
import type { Recorder } from "../recording/recorder.ts";
import type { Vgpu } from "../vgpu/vgpu.ts";

/** Takes loads and stores, as the vGPU itself does. */
export type RegionAccess = Pick<Vgpu, "read" | "write">;

/** Takes loads and stores to a device and records them. */
export class RecordedAccess implements RegionAccess {
  /** The vGPU at this moment. */
  vgpu: Vgpu;
  readonly #recorder: Recorder;

  /**
   * @param recorder Who records.
   * @param vgpu The vGPU, until it is replaced.
   */
  constructor(recorder: Recorder, vgpu: Vgpu) {
    this.#recorder = recorder;
    this.vgpu = vgpu;
  }

  /** See {@linkcode Vgpu.read}. */
  read(region: number, offset: number, size: number, out: Uint32Array): number {
    const recorder = this.#recorder;
    const { accesses } = recorder;
    const isOuter = recorder.begin();
    let rc: number;
    try {
      rc = this.vgpu.read(region, offset, size, out);
    } catch (error) {
      recorder.bug(error);
      if (isOuter) {
        recorder.end();
        recorder.read(region, offset, size, 0, 0);
      }
      throw error;
    }
    if (isOuter) recorder.end();
    if (rc !== OK) return rc;
    const hi = size === 8 ? out[1]! : 0;
    if (isOuter) recorder.read(region, offset, size, out[0]!, hi);
    else recorder.readWithin(region, offset, size, out[0]!, hi, accesses);
    return OK;
  }

  /** See {@linkcode Vgpu.write}. */
  write(region: number, offset: number, size: number, lo: number, hi: number): number {
    const recorder = this.#recorder;
    recorder.begin();
    let rc: number;
    try {
      rc = this.vgpu.write(region, offset, size, lo, hi);
    } catch (error) {
      this.#noteBug(error, region, offset, size, lo, hi);
      throw error;
    }
    recorder.end();
    if (rc === OK) recorder.write(region, offset, size, lo, hi);
    return rc;
  }

  /** Apart from the rest, so that what every store does is short enough to be compiled as one piece. */
  #noteBug(error: unknown, region: number, offset: number, size: number, lo: number, hi: number): void {
    this.#recorder.bug(error);
    this.#recorder.end();
    this.#recorder.write(region, offset, size, lo, hi);
  }
}
