/**
 * Post-shadow (`engine.md` §9.5, §15, 21): 4-byte stores to table entries are not applied but queued, the shadow entry
 * meanwhile leading to scratch, and applied as whole entries by the flush before the next workload.
 *
 * @module
 */

import { PAGE_SIZE } from "./entry.ts";
import { OK } from "./errno.ts";
import type { GttHost } from "./host.ts";
import type { Counters } from "./counters.ts";
import type { ShadowTable } from "./shadow_table.ts";
import type { ShadowTables } from "./shadow_tables.ts";

/** The tables of one vGPU with entries that wait for the flush. */
export class PostShadow {
  readonly #host: GttHost;
  readonly #counters: Counters;
  readonly #tables: ShadowTables;
  readonly #listed = new Set<ShadowTable>();
  readonly #entry: Uint32Array = new Uint32Array(2);

  /** An empty queue. */
  constructor(host: GttHost, counters: Counters, tables: ShadowTables) {
    this.#host = host;
    this.#counters = counters;
    this.#tables = tables;
  }

  /** The listed tables in list order. */
  get listed(): ReadonlySet<ShadowTable> {
    return this.#listed;
  }

  /** A half store hit entry `index`: removes the shadow entry, once, and queues it. */
  queue(table: ShadowTable, index: number): void {
    if (!table.isQueued(index)) {
      this.#tables.removeEntry(table, index);
      table.queue(index);
    }
    this.#listed.add(table);
  }

  /** Takes a table off the list; its queued bits may stay set (`engine.md` §13, 20). */
  remove(table: ShadowTable): void {
    this.#listed.delete(table);
  }

  /**
   * Applies every queued entry (`intel_vgpu_flush_post_shadow`): tables in list order as the list is now, entries in
   * ascending order. A table that leaves the list meanwhile is skipped.
   *
   * @returns 0, or the first error; that entry and all after it stay queued.
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
