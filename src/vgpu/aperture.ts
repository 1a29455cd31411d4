/**
 * Region 2, the aperture: the CPU's window into graphics memory. An access goes through the host's GGTT to guest RAM.
 *
 * The host frame is resolved to guest RAM at the time of the access, so a frame that is gone fails instead of reaching
 * something else, and a scratch frame is no channel between guests (`engine.md` §15, 27 and 30). Such reads give 0 and
 * such writes are dropped.
 *
 * @module
 */

import { PAGE_SIZE } from "../gtt/entry.ts";
import { INVALID_MFN } from "../gtt/host.ts";
import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
import type { RamMap } from "../memory/ram_map.ts";
import type { HostGgtt } from "./host_ggtt.ts";
import type { VgpuCounters } from "./vgpu_counters.ts";

/** No guest RAM behind an address. */
const NO_RAM = -1;

/** Region 2 of one vGPU. */
export class Aperture {
  readonly #ggtt: HostGgtt;
  readonly #ram: RamMap;
  readonly #gtt: VgpuGtt;
  readonly #counters: VgpuCounters;
  readonly #lanes = new Uint32Array(2);
  /** The bytes of the access in hand, as views of every length, so that an access makes none. */
  readonly #bytes = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((length) =>
    new Uint8Array(this.#lanes.buffer, 0, length)
  );

  /** The aperture over this table and this RAM; stores to tracked pages are handed to `gtt`. */
  constructor(ggtt: HostGgtt, ram: RamMap, gtt: VgpuGtt, counters: VgpuCounters) {
    this.#ggtt = ggtt;
    this.#ram = ram;
    this.#gtt = gtt;
    this.#counters = counters;
  }

  /** The guest reads `size` (1..8) bytes at a graphics address; `out` receives two lanes. */
  read(gma: number, size: number, out: Uint32Array): void {
    this.#lanes.fill(0);
    const first = Math.min(size, PAGE_SIZE - gma % PAGE_SIZE);
    this.#readPart(gma, this.#bytes[first]!);
    if (first < size) {
      const head = this.#bytes[first]!.slice();
      this.#lanes.fill(0);
      this.#readPart(gma + first, this.#bytes[size - first]!);
      this.#bytes[8]!.copyWithin(first, 0, size - first);
      this.#bytes[8]!.set(head);
    }
    out.set(this.#lanes);
  }

  /** The guest writes `size` (1..8) bytes at a graphics address. */
  write(gma: number, size: number, lo: number, hi: number): void {
    this.#lanes[0] = lo;
    this.#lanes[1] = hi;
    const first = Math.min(size, PAGE_SIZE - gma % PAGE_SIZE);
    this.#writePart(gma, this.#bytes[first]!);
    if (first < size) {
      this.#bytes[8]!.copyWithin(0, first, size);
      this.#writePart(gma + first, this.#bytes[size - first]!);
    }
  }

  #readPart(gma: number, bytes: Uint8Array): void {
    const gpa = this.#resolve(gma);
    if (gpa !== NO_RAM && this.#ram.read(gpa, bytes)) return;
    bytes.fill(0);
    this.#counters.badApertureAccesses++;
  }

  #writePart(gma: number, bytes: Uint8Array): void {
    const gpa = this.#resolve(gma);
    if (gpa === NO_RAM || !this.#ram.write(gpa, bytes)) {
      this.#counters.badApertureAccesses++;
      return;
    }
    this.#gtt.dispatchStore(gpa, bytes.length);
  }

  /** Where in guest RAM a graphics address leads now. */
  #resolve(gma: number): number {
    const mfn = this.#ggtt.target(gma);
    const gfn = mfn === INVALID_MFN ? NO_RAM : this.#ram.gfnOf(mfn);
    return gfn === NO_RAM ? NO_RAM : gfn * PAGE_SIZE + gma % PAGE_SIZE;
  }
}
