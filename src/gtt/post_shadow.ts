/**
 * Post-shadow (`engine.md` §9.5, §15, 21): 4-byte stores to table entries are not applied but queued, the
 * shadow entry meanwhile leading to scratch, and applied as whole entries by the flush before the next
 * workload.
 *
 * @module
 */

import { PAGE_SIZE } from "./entry.ts";
import { OK } from "./errno.ts";
import type { GttHost } from "./host.ts";
import type { Counters } from "./counters.ts";
import type { ShadowTable } from "./shadow_table.ts";
import type { ShadowTables } from "./shadow_tables.ts";

/**
 * The tables of one vGPU with entries that wait for the flush.
 *
 * @example A full store to a queued entry acts at once, and the bit stays (`engine.md` §9.5)
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, PTE, type ShadowTable } from "../../mod.ts";
 *
 * using device = createDevice();
 * device.ram.map({ gpa: 0, size: 0x10000 });
 * const { tables, post, scratch } = device.vgpu.gtt.parts;
 * const table = tables.obtain(PTE, 2) as ShadowTable;
 * device.store(0x2000, Uint8Array.of(3, 0x50, 0, 0)); // half of entry 0
 * assertEquals([table.target(0), post.listed.has(table)], [scratch.mfn[PTE], true]);
 * device.store(0x2000, Uint8Array.of(3, 0x60, 0, 0, 0, 0, 0, 0)); // the whole of it
 * assertEquals([table.target(0), table.queuedIndices()], [0x100006, [0]]);
 * ```
 */
export class PostShadow {
  readonly #host: GttHost;
  readonly #counters: Counters;
  readonly #tables: ShadowTables;
  readonly #listed = new Set<ShadowTable>();
  readonly #entry: Uint32Array = new Uint32Array(2);

  /**
   * An empty queue.
   *
   * @param host Reads guest entries.
   * @param counters Counts what is flushed.
   * @param tables The shadow tables of the vGPU.
   */
  constructor(host: GttHost, counters: Counters, tables: ShadowTables) {
    this.#host = host;
    this.#counters = counters;
    this.#tables = tables;
  }

  /**
   * The tables that the next flush looks at.
   *
   * @returns The live set, in list order.
   */
  get listed(): ReadonlySet<ShadowTable> {
    return this.#listed;
  }

  /**
   * A half store hit an entry: removes the shadow entry, once, and queues it (`engine.md` §9.5).
   *
   * @param table A live table.
   * @param index Entry, 0..511.
   *
   * @example A queued entry is not removed a second time (`engine.md` §13, 17)
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PTE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables, post, scratch } = device.vgpu.gtt.parts;
   * const table = tables.obtain(PTE, 2) as ShadowTable;
   * post.queue(table, 0);
   * assertEquals(table.target(0), scratch.mfn[PTE]);
   * tables.apply(table, 0, 0x5003, 0); // a full store makes it live again
   * post.queue(table, 0);
   * assertEquals(table.target(0), 0x100005);
   * ```
   */
  queue(table: ShadowTable, index: number): void {
    if (!table.isQueued(index)) {
      this.#tables.removeEntry(table, index);
      table.queue(index);
    }
    table.isChanged = true;
    this.#listed.add(table);
  }

  /**
   * Takes a table off the list; its queued bits may stay set (`engine.md` §13, 20).
   *
   * @param table A table, listed or not.
   *
   * @example A flush does not see the bits of a table that is not listed
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PTE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables, post } = device.vgpu.gtt.parts;
   * const table = tables.obtain(PTE, 2) as ShadowTable;
   * post.queue(table, 7);
   * post.remove(table);
   * assertEquals([post.flush(), table.queuedIndices()], [0, [7]]);
   * ```
   */
  remove(table: ShadowTable): void {
    table.isChanged = true;
    this.#listed.delete(table);
  }

  /**
   * Applies every queued entry (`intel_vgpu_flush_post_shadow`, `engine.md` §9.5): tables in list order as
   * the list is now, entries in ascending order. A table that leaves the list meanwhile is skipped (§15, 21
   * b).
   *
   * @returns 0; -EFAULT for an entry that cannot be read (§15, 24), or the error of applying one; that entry
   *   and all after it stay queued.
   *
   * @example Every flush fails at the same place until the guest repairs the entry
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, ENXIO, PTE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables, post } = device.vgpu.gtt.parts;
   * const table = tables.obtain(PTE, 2) as ShadowTable;
   * device.store(0x2000, Uint8Array.of(3, 0, 9, 0)); // frame 0x90 is no RAM
   * assertEquals([post.flush(), post.flush(), post.listed.size], [ENXIO, ENXIO, 1]);
   * device.store(0x2000, Uint8Array.of(3, 0x50, 0, 0));
   * assertEquals([post.flush(), post.listed.size, table.target(0)], [0, 0, 0x100005]);
   * ```
   */
  flush(): number {
    if (this.#listed.size === 0) return OK;
    for (const table of [...this.#listed]) {
      if (!this.#listed.has(table)) continue;
      table.refs++;
      const rc = this.#flushTable(table);
      if (rc === OK) this.#listed.delete(table);
      this.#tables.release(table);
      if (rc !== OK) return rc;
    }
    return OK;
  }

  #flushTable(table: ShadowTable): number {
    for (const index of table.queuedIndices()) {
      let rc = this.#host.readEntry(table.gfn * PAGE_SIZE + 8 * index, this.#entry);
      if (rc !== OK) return rc;
      rc = this.#tables.apply(table, index, this.#entry[0]!, this.#entry[1]!);
      if (rc !== OK) return rc;
      table.unqueue(index);
      this.#counters.flushed++;
    }
    return OK;
  }
}
