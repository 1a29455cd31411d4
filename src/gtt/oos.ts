/**
 * Out-of-sync pages (`engine.md` §10, §15, 21 and 24): PTE tables that the guest writes often stop trapping.
 * A snapshot of the guest page is taken, tracking is disabled, and before the next workload the page is
 * compared with its snapshot and what changed is applied to the shadow.
 *
 * Where nothing can trap, the same snapshots serve tables of every kind that are never in sync: `tree_sync.ts`.
 *
 * A snapshot page is *free* (in the device's pool) or *attached* to one table, which is *out of sync* or in
 * sync. A table that was synced keeps its snapshot and uses it the next time without a new copy.
 *
 * @module
 */

import { EINVAL, ENOMEM, OK } from "./errno.ts";
import { ENTRIES, LANES, PRESENT } from "./entry.ts";
import type { GttHost } from "./host.ts";
import type { Counters } from "./counters.ts";
import { PageCopy } from "./page_copy.ts";
import type { PageTracks } from "./page_track.ts";
import type { PostShadow } from "./post_shadow.ts";
import type { ShadowTable } from "./shadow_table.ts";
import type { ShadowTables } from "./shadow_tables.ts";

/** Snapshot pages of a device when out-of-sync pages are enabled. */
export const OOS_POOL_PAGES = 8192;

/**
 * The device's free snapshot pages (`engine.md` §2, §10). Their memory is taken when first used and kept
 * until the pool is dropped.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { OosPool } from "../../mod.ts";
 *
 * const pool = new OosPool(1);
 * const page = pool.take()!;
 * assertEquals([page.length, pool.free, pool.take()], [1024, 0, null]);
 * pool.give(page);
 * assertEquals(pool.free, 1);
 * ```
 */
export class OosPool {
  readonly #spare: Uint32Array[] = [];
  #unmade: number;

  /**
   * A pool whose pages are all free.
   *
   * @param pages Snapshot pages, 0 or more.
   */
  constructor(pages: number) {
    this.#unmade = pages;
  }

  /**
   * Number of free pages.
   *
   * @returns Pages that {@linkcode take} can still give.
   */
  get free(): number {
    return this.#spare.length + this.#unmade;
  }

  /**
   * Takes a free page.
   *
   * @returns The page, its content arbitrary; `null` when all are in use.
   */
  take(): Uint32Array | null {
    const spare = this.#spare.pop();
    if (spare !== undefined) return spare;
    if (this.#unmade === 0) return null;
    this.#unmade--;
    return new Uint32Array(LANES);
  }

  /**
   * Gives a page back.
   *
   * @param page A page taken from this pool.
   */
  give(page: Uint32Array): void {
    this.#spare.push(page);
  }
}

/**
 * The out-of-sync pages of one vGPU.
 *
 * @example The second trapped store takes a PTE table out of sync, a sync brings it back with its snapshot
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, PTE, type ShadowTable } from "../../mod.ts";
 *
 * using device = createDevice({ oos: true });
 * device.ram.map({ gpa: 0, size: 0x10000 });
 * const { tables, oos } = device.vgpu.gtt.parts;
 * const table = tables.obtain(PTE, 2) as ShadowTable;
 * const state = () => [table.writeCount, table.enabled, oos.outOfSync.has(table), oos.attached.has(table)];
 * device.store(0x2000, new Uint8Array(8));
 * assertEquals(state(), [1, true, false, false]);
 * device.store(0x2000, new Uint8Array(8));
 * assertEquals(state(), [2, false, true, true]);
 * oos.syncAll();
 * assertEquals(state(), [0, true, false, true]);
 * ```
 */
export class OutOfSync {
  readonly #host: GttHost;
  readonly #counters: Counters;
  readonly #tracks: PageTracks;
  readonly #tables: ShadowTables;
  readonly #post: PostShadow;
  readonly #pool: OosPool | null;
  readonly #attached = new Set<ShadowTable>();
  readonly #outOfSync = new Set<ShadowTable>();
  readonly #guestPage: Uint32Array = new Uint32Array(LANES);

  /**
   * Nothing attached.
   *
   * @param host Reads guest pages.
   * @param counters Counts what goes out of sync and comes back.
   * @param tracks The page tracks of the vGPU.
   * @param tables The shadow tables of the vGPU.
   * @param post The half stores that wait for the flush.
   * @param pool Where snapshots come from: the device's, `null` where out-of-sync pages are disabled; or, where
   *   nothing traps, the vGPU's own.
   */
  constructor(
    host: GttHost,
    counters: Counters,
    tracks: PageTracks,
    tables: ShadowTables,
    post: PostShadow,
    pool: OosPool | null,
  ) {
    this.#host = host;
    this.#counters = counters;
    this.#tracks = tracks;
    this.#tables = tables;
    this.#post = post;
    this.#pool = pool;
  }

  /**
   * Whether out-of-sync pages are enabled; as documented they are not by default.
   *
   * @returns Whether the device has a pool.
   */
  get enabled(): boolean {
    return this.#pool !== null;
  }

  /**
   * Tables that own a snapshot page.
   *
   * @returns The live set, the longest attached first.
   */
  get attached(): ReadonlySet<ShadowTable> {
    return this.#attached;
  }

  /**
   * Tables that are out of sync.
   *
   * @returns The live set, in the order they went.
   */
  get outOfSync(): ReadonlySet<ShadowTable> {
    return this.#outOfSync;
  }

  /**
   * Gives a table a snapshot page, taking the longest attached one *of this vGPU* when none is free
   * (`engine.md` §10, §15, 31).
   *
   * @param table A live PTE table without a snapshot.
   * @returns 0; -EINVAL while out-of-sync pages are disabled, -ENOMEM when there is nothing to take, or the
   *   error of syncing or reading a guest page.
   *
   * @example The oldest page is stolen
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PTE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice({ oos: true, oosPoolPages: 1 });
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables, oos } = device.vgpu.gtt.parts;
   * const [first, second] = [2, 3].map((gfn) => tables.obtain(PTE, gfn) as ShadowTable);
   * assertEquals(oos.attach(first!), 0);
   * assertEquals(oos.attach(second!), 0);
   * assertEquals([first!.snapshot, oos.attached.has(second!)], [null, true]);
   * ```
   */
  attach(table: ShadowTable): number {
    const pool = this.#pool;
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
   * Puts a new, empty table out of sync, with an empty snapshot, where nothing traps (`engine.md` §16).
   *
   * @param table A live table of any kind that was never tracked.
   * @returns 0; -EINVAL while there is no pool, -ENOMEM when it is empty.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PDE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice({ tracking: "untracked" });
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables, oos } = device.vgpu.gtt.parts;
   * const table = tables.obtain(PDE, 2) as ShadowTable; // calls it
   * assertEquals([oos.outOfSync.has(table), oos.attached.has(table), table.enabled], [true, true, false]);
   * ```
   */
  leaveSyncEmpty(table: ShadowTable): number {
    const pool = this.#pool;
    if (pool === null) return EINVAL;
    const page = pool.take();
    if (page === null) return ENOMEM;
    table.snapshot = page.fill(0);
    table.copy = new PageCopy(page);
    this.#attached.add(table);
    this.#outOfSync.add(table);
    this.#counters.outOfSync++;
    return OK;
  }

  /**
   * Stops trapping stores to a table's guest page (`engine.md` §10, §15, 21 d).
   *
   * @param table A live PTE table.
   * @returns 0; -EINVAL without a snapshot, or the host's error; then the table stays in sync and tracked.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL, PTE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice({ oos: true });
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables, oos } = device.vgpu.gtt.parts;
   * const table = tables.obtain(PTE, 2) as ShadowTable;
   * assertEquals(oos.leaveSync(table), EINVAL); // no snapshot
   * oos.attach(table);
   * assertEquals([oos.leaveSync(table), table.enabled], [0, false]);
   * assertEquals(device.host.protectedFrames.has(2), false);
   * ```
   */
  leaveSync(table: ShadowTable): number {
    if (table.snapshot === null) return EINVAL;
    const rc = this.#tracks.disable(table);
    if (rc !== OK) return rc;
    this.#outOfSync.add(table);
    this.#counters.outOfSync++;
    return OK;
  }

  /**
   * Brings all out-of-sync tables back in sync, in order (`intel_vgpu_sync_oos_pages`, `engine.md` §10).
   *
   * @returns 0, at once while they are disabled; or the first error, then later tables stay out of sync.
   */
  syncAll(): number {
    if (!this.enabled) return OK;
    for (const table of this.#outOfSync) {
      const rc = this.sync(table);
      if (rc !== OK) return rc;
    }
    return OK;
  }

  /**
   * Brings one table back in sync: protects its guest page, then applies each entry that differs from the
   * snapshot or is queued for the flush (`engine.md` §10, §15, 24).
   *
   * @param table A live table with a snapshot, which stays attached.
   * @returns 0; the host's error if the page cannot be protected or read, then nothing changed; -ENXIO at the
   *   first leaf that cannot be translated, then the page is protected again but its later entries are stale
   *   (§13, 19).
   *
   * @example As documented, an entry that is not present is copied with the guest's own frame
   *   (`engine.md` §13, 18)
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PTE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice({ oos: true });
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables, oos } = device.vgpu.gtt.parts;
   * const table = tables.obtain(PTE, 2) as ShadowTable;
   * oos.attach(table);
   * oos.leaveSync(table);
   * device.ram.write(0x2000, Uint8Array.of(2, 0x50)); // frame 5, not present
   * device.ram.write(0x2008, Uint8Array.of(3, 0x50)); // frame 5, present
   * assertEquals(oos.sync(table), 0);
   * assertEquals([table.target(0), table.target(1)], [5, 0x100005]);
   * ```
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

  /**
   * A trapped store reached a table: its snapshot, if it has one, follows (`engine.md` §9.3).
   *
   * @param table A live table.
   * @param index Entry, 0..511.
   * @param lo Low lane of the guest's entry.
   * @param hi High lane of the guest's entry.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PTE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice({ oos: true });
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables, oos } = device.vgpu.gtt.parts;
   * const table = tables.obtain(PTE, 2) as ShadowTable;
   * oos.attach(table);
   * oos.storeSnapshot(table, 1, 0x5003, 0);
   * assertEquals(table.snapshot?.[2], 0x5003);
   * ```
   */
  storeSnapshot(table: ShadowTable, index: number, lo: number, hi: number): void {
    if (table.snapshot === null) return;
    table.snapshot[2 * index] = lo;
    table.snapshot[2 * index + 1] = hi;
  }

  /**
   * Takes a table's snapshot page away, because it is stolen or the table is freed (`engine.md` §10). Its
   * write counter goes to 0; its tracking stays as it is.
   *
   * @param table A table with or without a snapshot.
   *
   * @example A freed table gives its page back
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PTE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice({ oos: true, oosPoolPages: 3 });
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables, oos } = device.vgpu.gtt.parts;
   * const table = tables.obtain(PTE, 2) as ShadowTable;
   * oos.attach(table);
   * assertEquals(device.gvt.oosPool?.free, 2);
   * tables.release(table); // detaches
   * assertEquals([device.gvt.oosPool?.free, table.snapshot], [3, null]);
   * ```
   */
  detach(table: ShadowTable): void {
    table.writeCount = 0;
    if (table.snapshot === null) return; // then it is in neither list
    this.#outOfSync.delete(table);
    this.#attached.delete(table);
    this.#pool?.give(table.snapshot);
    table.snapshot = null;
    table.copy = null;
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
    for (let index = 0; index < ENTRIES; index += table.span) {
      const lo = guest[2 * index]!;
      const hi = guest[2 * index + 1]!;
      if (snapshot[2 * index] === lo && snapshot[2 * index + 1] === hi) {
        if (!table.isQueued(index)) continue;
        table.unqueue(index);
      }
      if ((lo & PRESENT) === 0) {
        // As documented, the guest's own value; harmless, for bit 0 is clear (§13, 18).
        for (let i = 0; i < table.span; i++) table.store(index + i, lo, hi);
      } else {
        const rc = this.#tables.storeLeaf(table, index, lo, hi, false);
        if (rc !== OK) return rc;
      }
      snapshot[2 * index] = lo;
      snapshot[2 * index + 1] = hi;
    }
    return OK;
  }
}
