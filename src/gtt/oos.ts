/**
 * Out-of-sync pages (`engine.md` §10, §15, 21 and 24): PTE tables that the guest writes often stop trapping. A snapshot
 * of the guest page is taken, tracking is disabled, and before the next workload the page is compared with its snapshot
 * and what changed is applied to the shadow.
 *
 * A snapshot page is *free* (in the device's pool) or *attached* to one table; an attached table is *out of sync* or has
 * been synced again, in which case the snapshot stays attached and is used again without a new copy.
 *
 * @module
 */

import { EINVAL, ENOMEM, OK } from "./errno.ts";
import { ENTRIES, frameOf, LANES, PRESENT, withFrameHi, withFrameLo } from "./entry.ts";
import type { GttHost } from "./host.ts";
import type { Counters } from "./counters.ts";
import type { PageTracks } from "./page_track.ts";
import type { PostShadow } from "./post_shadow.ts";
import type { ShadowTable } from "./shadow_table.ts";
import type { ShadowTables } from "./shadow_tables.ts";

/** Snapshot pages of a device when out-of-sync pages are enabled. */
export const OOS_POOL_PAGES = 8192;

/** The device's free snapshot pages. Their memory is taken when first used and kept until the pool is dropped. */
export class OosPool {
  readonly #spare: Uint32Array[] = [];
  #unmade: number;

  /** A pool of `pages` snapshot pages. */
  constructor(pages: number) {
    this.#unmade = pages;
  }

  /** Number of free pages. */
  get free(): number {
    return this.#spare.length + this.#unmade;
  }

  /** A free page, its content arbitrary; `null` when all are in use. */
  take(): Uint32Array | null {
    const spare = this.#spare.pop();
    if (spare !== undefined) return spare;
    if (this.#unmade === 0) return null;
    this.#unmade--;
    return new Uint32Array(LANES);
  }

  /** Gives a page back. */
  give(page: Uint32Array): void {
    this.#spare.push(page);
  }
}

/** The out-of-sync pages of one vGPU. */
export class OutOfSync {
  readonly #host: GttHost;
  readonly #counters: Counters;
  readonly #tracks: PageTracks;
  readonly #tables: ShadowTables;
  readonly #post: PostShadow;
  readonly #pool: () => OosPool | null;
  readonly #attached = new Set<ShadowTable>();
  readonly #outOfSync = new Set<ShadowTable>();
  readonly #guestPage: Uint32Array = new Uint32Array(LANES);

  /** Nothing attached; `pool` answers `null` while out-of-sync pages are disabled. */
  constructor(
    host: GttHost,
    counters: Counters,
    tracks: PageTracks,
    tables: ShadowTables,
    post: PostShadow,
    pool: () => OosPool | null,
  ) {
    this.#host = host;
    this.#counters = counters;
    this.#tracks = tracks;
    this.#tables = tables;
    this.#post = post;
    this.#pool = pool;
  }

  /** Whether out-of-sync pages are enabled. */
  get enabled(): boolean {
    return this.#pool() !== null;
  }

  /** Tables that own a snapshot page, the longest attached first. */
  get attached(): ReadonlySet<ShadowTable> {
    return this.#attached;
  }

  /** Tables that are out of sync, in the order they went. */
  get outOfSync(): ReadonlySet<ShadowTable> {
    return this.#outOfSync;
  }

  /**
   * Gives a table a snapshot page, taking the longest attached one *of this vGPU* when none is free (`engine.md` §10,
   * §15, 31).
   *
   * @returns 0; -ENOMEM when there is nothing to take, or the error of syncing or reading a guest page.
   */
  attach(table: ShadowTable): number {
    const pool = this.#pool();
    if (pool === null) return EINVAL;
    if (pool.free === 0) {
      const rc = this.#steal();
      if (rc !== OK) return rc;
    }
    const page = pool.take();
    if (page === null) return ENOMEM;
    const rc = this.#host.readPage(table.gfn, page);
    if (rc !== OK) {
      pool.give(page);
      return rc;
    }
    table.snapshot = page;
    this.#attached.add(table);
    return OK;
  }

  /**
   * Stops trapping stores to a table's guest page (`engine.md` §10, §15, 21 d).
   *
   * @returns 0; -EINVAL without a snapshot, or the host's error; then the table stays in sync and tracked.
   */
  leaveSync(table: ShadowTable): number {
    if (table.snapshot === null) return EINVAL;
    const rc = this.#tracks.disable(table);
    if (rc !== OK) return rc;
    this.#outOfSync.add(table);
    this.#counters.outOfSync++;
    return OK;
  }

  /** Brings all out-of-sync tables back in sync, in order (`intel_vgpu_sync_oos_pages`). @returns 0 or the first error. */
  syncAll(): number {
    if (!this.enabled) return OK;
    for (const table of this.#outOfSync) {
      const rc = this.sync(table);
      if (rc !== OK) return rc;
    }
    return OK;
  }

  /**
   * Brings one table with a snapshot back in sync: protects its guest page, then applies each entry that differs from
   * the snapshot or is queued for the flush (`engine.md` §10).
   *
   * @returns 0; the host's error if the page cannot be protected or read, then nothing changed; -ENXIO at the first leaf
   *   that cannot be translated, then the page is protected again but its later entries are stale (§13, 19).
   */
  sync(table: ShadowTable): number {
    const wasEnabled = table.enabled;
    let rc = this.#tracks.enable(table);
    if (rc !== OK) return rc;
    rc = this.#host.readPage(table.gfn, this.#guestPage);
    if (rc !== OK) {
      if (!wasEnabled) this.#tracks.disable(table);
      return rc;
    }
    this.#outOfSync.delete(table);
    rc = this.#applyChanges(table, this.#guestPage);
    if (rc !== OK) return rc;
    table.writeCount = 0;
    this.#post.remove(table);
    this.#counters.synced++;
    return OK;
  }

  /** A trapped store reached a table with a snapshot: the snapshot follows (`engine.md` §9.3). */
  storeSnapshot(table: ShadowTable, index: number, lo: number, hi: number): void {
    if (table.snapshot === null) return;
    table.snapshot[2 * index] = lo;
    table.snapshot[2 * index + 1] = hi;
  }

  /** Takes a table's snapshot page away, because it is stolen or the table is freed. */
  detach(table: ShadowTable): void {
    table.writeCount = 0;
    this.#outOfSync.delete(table);
    this.#attached.delete(table);
    if (table.snapshot === null) return;
    this.#pool()?.give(table.snapshot);
    table.snapshot = null;
  }

  #steal(): number {
    for (const oldest of this.#attached) {
      const rc = this.sync(oldest);
      if (rc === OK) this.detach(oldest);
      return rc;
    }
    return ENOMEM;
  }

  #applyChanges(table: ShadowTable, guest: Uint32Array): number {
    const snapshot = table.snapshot!;
    for (let index = 0; index < ENTRIES; index++) {
      const lo = guest[2 * index]!;
      const hi = guest[2 * index + 1]!;
      if (snapshot[2 * index] === lo && snapshot[2 * index + 1] === hi) {
        if (!table.isQueued(index)) continue;
        table.unqueue(index);
      }
      if ((lo & PRESENT) === 0) {
        // As documented, the guest's own value; harmless, for bit 0 is clear (§13, 18).
        table.store(index, lo, hi);
      } else {
        const mfn = this.#tables.translateLeaf(frameOf(lo, hi));
        if (mfn < 0) return mfn;
        table.store(index, withFrameLo(lo, mfn), withFrameHi(hi, mfn));
      }
      snapshot[2 * index] = lo;
      snapshot[2 * index + 1] = hi;
    }
    return OK;
  }
}
