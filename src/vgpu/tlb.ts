/**
 * The registers by which a guest invalidates an engine's TLB (`guest.md` §5.2): it has changed page tables
 * and wants the change to be seen.
 *
 * Where stores are trapped the shadow has seen it already, or will before the next workload, as documented.
 * Where they are not, this is one of the two moments to look (`engine.md` §16); a workload is the other.
 *
 * To look costs as much as there are tables, and a guest may write these registers thousands of times in one message
 * of its VMM's. So in a *batch* of stores an invalidation is only noted, and all of them are done at its end. Nothing
 * in a batch needs them earlier: a workload brings its own tables up to date before it runs, which is never in a batch; announcing tables reads them; aperture and GTT window go through the GGTT, which is never behind.
 *
 * @module
 */

import { OK } from "../gtt/errno.ts";
import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
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
 * import { createDevice, TLB_INVALIDATE } from "../../mod.ts";
 *
 * using device = createDevice({ tracking: "untracked" });
 * device.vgpu.write(0, TLB_INVALIDATE, 4, 1, 0);
 * const out = new Uint32Array(2);
 * device.vgpu.read(0, TLB_INVALIDATE, 4, out);
 * assertEquals([out[0], device.vgpu.counters.tlbInvalidations], [0, 1]);
 * ```
 */
export class Tlb implements RegisterBlock {
  readonly #gtt: VgpuGtt;
  readonly #counters: VgpuCounters;
  #isBatch = false;
  /** Whether something was invalidated in the batch. */
  #isDue = false;

  /**
   * Registers without state.
   *
   * @param gtt The engine whose shadow tables follow the guest's.
   * @param counters Counts invalidations.
   */
  constructor(gtt: VgpuGtt, counters: VgpuCounters) {
    this.#gtt = gtt;
    this.#counters = counters;
  }

  /** See {@linkcode RegisterBlock.written}: any value, any engine. */
  written(): void {
    this.#counters.tlbInvalidations++;
    if (this.#gtt.gvt.tracking === "trapped") return;
    if (this.#isBatch) this.#isDue = true;
    else this.#sync();
  }

  /**
   * Until {@linkcode endBatch} invalidations are only noted.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { OK } from "../gtt/errno.ts";
   * import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
   * import { Tlb } from "./tlb.ts";
   * import { VgpuCounters } from "./vgpu_counters.ts";
   *
   * let syncs = 0;
   * const gtt = { gvt: { tracking: "untracked" }, syncOosPages: () => (syncs++, OK) };
   * const tlb = new Tlb(gtt as unknown as VgpuGtt, new VgpuCounters());
   * tlb.beginBatch();
   * tlb.written();
   * tlb.written();
   * assertEquals(syncs, 0);
   * tlb.endBatch();
   * assertEquals(syncs, 1);
   * ```
   */
  beginBatch(): void {
    this.#isBatch = true;
  }

  /** Does what was noted since {@linkcode beginBatch}, once. */
  endBatch(): void {
    const isDue = this.#isDue;
    this.#isBatch = this.#isDue = false;
    if (isDue) this.#sync();
  }

  #sync(): void {
    if (this.#gtt.syncOosPages() !== OK) this.#counters.badTlbInvalidations++;
  }
}
