/**
 * From graphics address to guest physical address (`engine.md` §8.7).
 *
 * @module
 */

import { INVALID_ADDR } from "./address.ts";
import {
  childKind,
  isLarge,
  largeFrameOf,
  PAGE_SIZE,
  PDE,
  PDP,
  PRESENT,
  PTE,
  type TableKind,
} from "./entry.ts";
import { OK } from "./errno.ts";
import type { GttHost } from "./host.ts";
import type { PpgttMm } from "./mm.ts";
import type { ShadowTable } from "./shadow_table.ts";
import type { TreeSync } from "./tree_sync.ts";

/**
 * Index into a table of this kind that a graphics address selects (`engine.md` §8.7).
 *
 * @param kind The table: PTE takes address bits 12..20, PDE 21..29, PDP 30..38, PML4 39..47.
 * @param lo Bits 0..31 of the address.
 * @param hi Bits 32..63 of the address.
 * @returns Entry, 0..511.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { PDP, PML4, PTE } from "./entry.ts";
 * import { tableIndex } from "./translate.ts";
 *
 * assertEquals(tableIndex(PTE, 0x3abc, 0), 3);
 * assertEquals(tableIndex(PDP, 0xc0000000, 0x7f), 511);
 * assertEquals(tableIndex(PML4, 0, 0xffff8080), 257);
 * ```
 */
export function tableIndex(kind: TableKind, lo: number, hi: number): number {
  if (kind === PTE) return lo >>> 12 & 0x1ff;
  if (kind === PDE) return lo >>> 21 & 0x1ff;
  if (kind === PDP) return lo >>> 30 | hi << 2 & 0x1fc;
  return hi >>> 7 & 0x1ff;
}

/** Walks the shadows of one vGPU. */
export class Translator {
  readonly #host: GttHost;
  readonly #trees: TreeSync | null;
  readonly #entry: Uint32Array = new Uint32Array(2);

  /**
   * A translator over these tables.
   *
   * @param host Reads the guest's leaves.
   * @param trees Compares directories before they are walked, where nothing traps; else `null`.
   */
  constructor(host: GttHost, trees: TreeSync | null) {
    this.#host = host;
    this.#trees = trees;
  }

  /**
   * Translates an address of a PPGTT (`intel_vgpu_gma_to_gpa`, `engine.md` §8.7): through the shadow down to
   * the last guest table, whose entry is read live from guest memory. So the answer follows the guest even while
   * the shadow is stale.
   *
   * @param mm A live address space; one that no reclaim can take while tables are looked at.
   * @param lo Bits 0..31 of the graphics address.
   * @param hi Bits 32..63; bits above those of the level are ignored.
   * @returns Guest physical address; {@linkcode INVALID_ADDR} for an entry that is not present, leads to
   *   scratch or cannot be read (§15, 13).
   *
   * @example Four levels, of which the last is read live
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, INVALID_ADDR, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * // Entry 0 of the tables in frames 1 to 4 leads to the next frame.
   * for (let i = 1; i <= 4; i++) device.ram.write(i * 4096, Uint8Array.of(3, 16 * (i + 1)));
   * const { mms, translator } = device.vgpu.gtt.parts;
   * const mm = mms.create(4, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0)) as PpgttMm;
   * assertEquals(translator.ppgtt(mm, 0xabc, 0), 0x5abc);
   * assertEquals(translator.ppgtt(mm, 0xabc, 0xffff0000), 0x5abc); // bits 48..63 are ignored
   * device.ram.write(0x4000, new Uint8Array(8)); // behind the engine's back
   * assertEquals(translator.ppgtt(mm, 0xabc, 0), INVALID_ADDR);
   * ```
   */
  ppgtt(mm: PpgttMm, lo: number, hi: number): number {
    const slot = mm.level === 4 ? 0 : lo >>> 30;
    let kind = mm.rootKind;
    let table = mm.rootTables[slot]!;
    while (table !== null) {
      const index = tableIndex(kind, lo, hi);
      if (kind === PTE) return this.#leaf(table, index, lo);
      if (this.#trees !== null) this.#trees.look(table);
      if ((table.lanes[2 * index]! & PRESENT) === 0) return INVALID_ADDR;
      if (isLarge(kind, table.lanes[2 * index]!)) return this.#largeLeaf(table, index, lo);
      const child: ShadowTable | null = table.below![index]!;
      if (child !== null && child.isSplit) return this.#largeLeaf(table, index, lo);
      table = child;
      kind = childKind(kind);
    }
    return INVALID_ADDR;
  }

  #leaf(table: ShadowTable, index: number, gma: number): number {
    const entry = this.#read(table, index - index % table.span);
    if (entry === null) return INVALID_ADDR;
    return table.leafFrame(index, entry[0]!, entry[1]!) * PAGE_SIZE + gma % PAGE_SIZE;
  }

  /** An address of a 2 MiB page, whole or split. The guest's entry, read now, may be none any more. */
  #largeLeaf(table: ShadowTable, index: number, gma: number): number {
    const entry = this.#read(table, index);
    if (entry === null || !isLarge(PDE, entry[0]!)) return INVALID_ADDR;
    const frame = largeFrameOf(entry[0]!, entry[1]!) + tableIndex(PTE, gma, 0);
    return frame * PAGE_SIZE + gma % PAGE_SIZE;
  }

  /** The guest's entry as it is now; `null` if it is not present or cannot be read. */
  #read(table: ShadowTable, index: number): Uint32Array | null {
    const entry = this.#entry;
    if (this.#host.readEntry(table.gfn * PAGE_SIZE + 8 * index, entry) !== OK) return null;
    return (entry[0]! & PRESENT) === 0 ? null : entry;
  }
}
