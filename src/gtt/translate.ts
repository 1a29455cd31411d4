/**
 * From graphics address to guest physical address (`engine.md` §8.7).
 *
 * @module
 */

import { INVALID_ADDR } from "./address.ts";
import { childKind, frameOf, PAGE_SIZE, PDE, PDP, PRESENT, PTE, type TableKind } from "./entry.ts";
import { OK } from "./errno.ts";
import type { GttHost } from "./host.ts";
import type { PpgttMm } from "./mm.ts";
import type { ShadowTables } from "./shadow_tables.ts";

/**
 * Index into a table of this kind that a graphics address selects.
 *
 * @param kind The table: PTE takes address bits 12..20, PDE 21..29, PDP 30..38, PML4 39..47.
 * @param lo Bits 0..31 of the address.
 * @param hi Bits 32..63 of the address.
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
  readonly #tables: ShadowTables;
  readonly #entry: Uint32Array = new Uint32Array(2);

  /** A translator over these tables. */
  constructor(host: GttHost, tables: ShadowTables) {
    this.#host = host;
    this.#tables = tables;
  }

  /**
   * Translates an address of a PPGTT: through the shadow down to the last table, whose entry is read live from guest
   * memory. So the answer follows the guest even while the shadow is stale.
   *
   * @param mm The address space.
   * @param lo Bits 0..31 of the graphics address.
   * @param hi Bits 32..63; bits above those of the level are ignored.
   * @returns Guest physical address, or {@linkcode INVALID_ADDR}.
   */
  ppgtt(mm: PpgttMm, lo: number, hi: number): number {
    const slot = mm.level === 4 ? 0 : lo >>> 30;
    let kind = mm.rootKind;
    let table = this.#tables.byMfn(frameOf(mm.shadowRoots[2 * slot]!, mm.shadowRoots[2 * slot + 1]!));
    while (table !== undefined) {
      const index = tableIndex(kind, lo, hi);
      if (kind === PTE) return this.#leaf(table.gfn, index, lo);
      if ((table.lanes[2 * index]! & PRESENT) === 0) return INVALID_ADDR;
      table = this.#tables.byMfn(table.target(index));
      kind = childKind(kind);
    }
    return INVALID_ADDR;
  }

  #leaf(gfn: number, index: number, gma: number): number {
    const entry = this.#entry;
    if (this.#host.readEntry(gfn * PAGE_SIZE + 8 * index, entry) !== OK) return INVALID_ADDR;
    if ((entry[0]! & PRESENT) === 0) return INVALID_ADDR;
    return frameOf(entry[0]!, entry[1]!) * PAGE_SIZE + gma % PAGE_SIZE;
  }
}
