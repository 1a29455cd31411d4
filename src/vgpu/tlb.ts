/**
 * The registers by which a guest invalidates an engine's TLB (`guest.md` §5.2): it has changed page tables
 * and wants the change to be seen.
 *
 * Where stores are trapped the shadow has seen it already, or will before the next workload, as documented.
 * Where they are not, what was compared before counts no more (`engine.md` §16.5): that costs nothing here, and each
 * table is compared when it is used next. But RAM that has to be asked for by messages can be read now and perhaps not
 * then, so that all tables are compared at once.
 *
 * @module
 */

import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
import type { RamMap } from "../memory/ram_map.ts";
import type { EventLog } from "./event_log.ts";
import type { Register, RegisterBlock } from "./register_table.ts";
import type { VgpuCounters } from "./vgpu_counters.ts";

/** Offset of the render engine's TLB invalidation register; video 0, video 1, blitter and enhancement follow. */
export const TLB_INVALIDATE = 0x4260;

/** The registers, for the table of registers. */
export const TLB_REGISTERS: readonly Register<"tlb">[] = [
  {
    name: "TLB_INV: RCS, VCS0, VCS1, BCS, VECS",
    offsets: [0, 1, 2, 3, 4].map((engine) => TLB_INVALIDATE + 4 * engine),
    access: "trigger",
    block: "tlb",
    note: "done before the write returns, so it reads 0",
  },
];

/**
 * What a TLB invalidation does.
 *
 * @example A page table that the guest changed without notice
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, type PpgttMm, TLB_INVALIDATE } from "../../mod.ts";
 *
 * using device = createDevice({ tracking: "untracked" });
 * device.mapRam({ gpa: 0, size: 0x10000 });
 * const { vgpu } = device;
 * const mm = vgpu.gtt.createMm(3, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0)) as PpgttMm;
 * device.ram.write(0x1000, Uint8Array.of(3, 0x20)); // a PTE table, in frame 2,
 * device.ram.write(0x2000, Uint8Array.of(3, 0x50)); // which maps frame 5
 * vgpu.write(0, TLB_INVALIDATE, 4, 1, 0);
 * assertEquals(vgpu.gtt.gmaToGpa(mm, 0xabc, 0), 0x5abc);
 * const out = new Uint32Array(2);
 * vgpu.read(0, TLB_INVALIDATE, 4, out);
 * assertEquals([out[0], vgpu.counters.tlbInvalidations], [0, 1]);
 * ```
 */
export class Tlb implements RegisterBlock {
  readonly #gtt: VgpuGtt;
  readonly #counters: VgpuCounters;
  readonly #ram: Pick<RamMap, "isPartlyRemote">;
  readonly #events: EventLog;

  /**
   * The TLB of a vGPU.
   *
   * @param gtt Its engine.
   * @param counters Counts invalidations.
   * @param ram Guest RAM.
   * @param events Where invalidations are noted.
   */
  constructor(gtt: VgpuGtt, counters: VgpuCounters, ram: Pick<RamMap, "isPartlyRemote">, events: EventLog) {
    this.#gtt = gtt;
    this.#counters = counters;
    this.#ram = ram;
    this.#events = events;
  }

  /** An invalidation register was written: whatever the value and the engine, all is invalidated. */
  written(): void {
    this.#counters.tlbInvalidations++;
    this.#events.noteTables();
    this.#events.add("tlb");
    this.#gtt.invalidate();
    // What cannot be followed is counted, as in a look.
    if (this.#gtt.gvt.tracking === "untracked" && this.#ram.isPartlyRemote) this.#gtt.syncOosPages();
  }
}
