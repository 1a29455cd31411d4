/**
 * Region 2, the aperture: the CPU's window into graphics memory. An access goes through the host's GGTT to
 * guest RAM.
 *
 * The host frame is resolved to guest RAM at the time of the access, so a frame that is gone fails instead of
 * reaching something else, and a scratch frame is no channel between guests (`engine.md` §15, 27 and 30).
 * Such reads give 0 and such writes are dropped.
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

/**
 * Region 2 of one vGPU.
 *
 * @example The CPU writes through the aperture to guest RAM
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, GTT_START_OFFSET, REGION_APERTURE, REGION_BAR0 } from "../../mod.ts";
 *
 * using device = createDevice();
 * device.ram.map({ gpa: 0, size: 0x10000 });
 * const { config: { apertureBase: gma }, vgpu } = device;
 * vgpu.write(REGION_BAR0, GTT_START_OFFSET + gma / 4096 * 8, 8, 0x5001, 0);
 * vgpu.write(REGION_APERTURE, gma + 0x10, 4, 0x12345678, 0);
 * const bytes = new Uint8Array(4);
 * device.ram.read(0x5010, bytes);
 * assertEquals([...bytes], [0x78, 0x56, 0x34, 0x12]);
 * ```
 */
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

  /**
   * An aperture without state of its own.
   *
   * @param ggtt The host's GGTT, through which every access goes.
   * @param ram Guest RAM.
   * @param gtt Told of stores to tracked pages.
   * @param counters Counts accesses that lead nowhere.
   */
  constructor(ggtt: HostGgtt, ram: RamMap, gtt: VgpuGtt, counters: VgpuCounters) {
    this.#ggtt = ggtt;
    this.#ram = ram;
    this.#gtt = gtt;
    this.#counters = counters;
  }

  /**
   * The guest reads. Bytes that lead to no guest RAM are 0 (`engine.md` §15, 27 and 30).
   *
   * @param gma Graphics address, bytes, any alignment.
   * @param size 1..8 bytes; they may lie in two pages.
   * @param out Receives the value as two lanes.
   *
   * @example The read goes through the host's entry: what was reset reads 0
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { Aperture, createDevice, GTT_START_OFFSET } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * device.ram.write(0x5000, Uint8Array.of(0xab));
   * const { config: { apertureBase: gma }, host, ram, vgpu: { gtt, counters } } = device;
   * const aperture = new Aperture(host.ggtt, ram, gtt, counters);
   * gtt.emulateGttMmioWrite(GTT_START_OFFSET + gma / 4096 * 8, 8, 0x5001, 0);
   * const out = new Uint32Array(2);
   * aperture.read(gma, 1, out);
   * assertEquals(out[0], 0xab);
   * gtt.resetGgtt();
   * aperture.read(gma, 1, out);
   * assertEquals([out[0], counters.badApertureAccesses], [0, 1]);
   * ```
   */
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

  /**
   * The guest writes. Bytes that lead to no writable guest RAM are dropped; a store to a tracked page is
   * handed to its tracks.
   *
   * @param gma Graphics address, bytes, any alignment.
   * @param size 1..8 bytes; they may lie in two pages.
   * @param lo Low lane of the value.
   * @param hi High lane of the value, for more than 4 bytes.
   *
   * @example A page table can be written through the aperture
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { Aperture, createDevice, GTT_START_OFFSET, PTE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { config: { apertureBase: gma }, host, ram, vgpu: { gtt, counters } } = device;
   * const table = gtt.parts.tables.obtain(PTE, 2) as ShadowTable;
   * gtt.emulateGttMmioWrite(GTT_START_OFFSET + gma / 4096 * 8, 8, 0x2001, 0);
   * new Aperture(host.ggtt, ram, gtt, counters).write(gma, 8, 0x5003, 0);
   * assertEquals(table.target(0), 0x100005);
   * ```
   */
  write(gma: number, size: number, lo: number, hi: number): void {
    this.#lanes[0] = lo;
    this.#lanes[1] = hi;
    const first = Math.min(size, PAGE_SIZE - gma % PAGE_SIZE);
    this.#writePart(gma, this.#bytes[first]!, first === size);
    if (first < size) {
      this.#bytes[8]!.copyWithin(0, first, size);
      this.#writePart(gma + first, this.#bytes[size - first]!, false);
    }
  }

  #readPart(gma: number, bytes: Uint8Array): void {
    const gpa = this.#resolve(gma);
    if (gpa !== NO_RAM && this.#ram.read(gpa, bytes)) return;
    bytes.fill(0);
    this.#counters.badApertureAccesses++;
  }

  /** Writes the part of a store that lies in one page; `isWhole` if that is all of it. */
  #writePart(gma: number, bytes: Uint8Array, isWhole: boolean): void {
    const gpa = this.#resolve(gma);
    if (gpa === NO_RAM || !this.#ram.write(gpa, bytes)) {
      this.#counters.badApertureAccesses++;
      return;
    }
    if (isWhole) this.#gtt.dispatchStore(gpa, bytes.length);
    else this.#gtt.dispatchRange(gpa, bytes.length);
  }

  /** Where in guest RAM a graphics address leads now. */
  #resolve(gma: number): number {
    const mfn = this.#ggtt.target(gma);
    const gfn = mfn === INVALID_MFN ? NO_RAM : this.#ram.gfnOf(mfn);
    return gfn === NO_RAM ? NO_RAM : gfn * PAGE_SIZE + gma % PAGE_SIZE;
  }
}
