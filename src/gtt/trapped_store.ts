/**
 * A trapped store to a table page (`engine.md` §9.3): the handler of every shadow table's page track.
 *
 * @module
 */

import { EINVAL, OK } from "./errno.ts";
import { PAGE_SIZE, PRESENT, PTE } from "./entry.ts";
import type { GttHost } from "./host.ts";
import type { OutOfSync } from "./oos.ts";
import type { PostShadow } from "./post_shadow.ts";
import type { ShadowTable } from "./shadow_table.ts";
import type { ShadowTables } from "./shadow_tables.ts";

/** Trapped stores after which a PTE table goes out of sync. */
const OOS_THRESHOLD = 2;

/** Applies trapped stores to shadow tables. */
export class TrappedStores {
  readonly #host: GttHost;
  readonly #tables: ShadowTables;
  readonly #post: PostShadow;
  readonly #oos: OutOfSync;
  readonly #entry: Uint32Array = new Uint32Array(2);

  /**
   * The handler of these tables' stores.
   *
   * @param host Reads guest entries.
   * @param tables The shadow tables of the vGPU.
   * @param post Takes half stores.
   * @param oos Takes PTE tables that are written often.
   */
  constructor(host: GttHost, tables: ShadowTables, post: PostShadow, oos: OutOfSync) {
    this.#host = host;
    this.#tables = tables;
    this.#post = post;
    this.#oos = oos;
  }

  /**
   * Applies one store (`engine.md` §9.3). Guest memory already holds it; only the entry that contains `gpa`
   * is looked at, if it counts.
   *
   * @param table The table whose guest page was hit.
   * @param gpa First byte stored.
   * @param bytes Length of the store; 8 is a whole entry, 4 a half, anything else is refused.
   * @returns 0; -EINVAL for another length, or the error of applying the entry, then the shadow entry is as
   *   it was; or the error of going out of sync, then it was applied.
   */
  handle(table: ShadowTable, gpa: number, bytes: number): number {
    table.isChanged = true; // the guest's page is, whatever becomes of the shadow
    if (bytes !== 4 && bytes !== 8) return EINVAL;
    const index = (gpa & PAGE_SIZE - 1) >>> 3;
    // Of a 64 KiB page only the first entry counts (§17.2).
    if ((index & (table.span - 1)) !== 0) return OK;
    const entry = this.#entry;
    if (this.#host.readEntry(gpa - (gpa & 7), entry) !== OK) entry.fill(0);
    const lo = entry[0]!;
    const hi = entry[1]!;
    // Most stores are of leaves. They make no table, so nothing is reclaimed on the way.
    if (bytes === 8 && table.kind === PTE && (lo & PRESENT) !== 0 && !this.#oos.enabled) {
      return this.#tables.storeLeaf(table, index, lo, hi, false);
    }
    return this.#apply(table, index, bytes, lo, hi);
  }

  #apply(table: ShadowTable, index: number, bytes: number, lo: number, hi: number): number {
    // A reclaim on the way may take the whole tree: one reference keeps this table until the work is done (§15, 21 a).
    table.refs++;
    let rc = OK;
    if (bytes === 8) rc = this.#tables.apply(table, index, lo, hi);
    else this.#post.queue(table, index);
    if (rc === OK && this.#oos.enabled) rc = this.#count(table, index, lo, hi);
    this.#tables.release(table);
    return rc;
  }

  #count(table: ShadowTable, index: number, lo: number, hi: number): number {
    table.writeCount++;
    this.#oos.storeSnapshot(table, index, lo, hi);
    if (table.kind !== PTE || table.writeCount < OOS_THRESHOLD || !table.enabled) return OK;
    // A failed attach is not an error of its own: leaving sync then finds no snapshot.
    if (table.snapshot === null) this.#oos.attach(table);
    return this.#oos.leaveSync(table);
  }
}
