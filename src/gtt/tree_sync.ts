/**
 * Page tables without write protection (`engine.md` §16): where the host cannot trap the guest's stores, shadow
 * tables follow by being looked at before they are used.
 *
 * This is the machinery of out-of-sync pages (`oos.ts`), with its exception made the rule. There a table is in
 * sync and its page traps; only a PTE table that is written often goes out of sync, with a snapshot, until the
 * next sync compares the page with it, applies what changed, and has it trap again. Here a table of *any* kind is
 * out of sync from its first moment to its last, and a sync leaves it so, with a newer snapshot. So nobody is
 * asked to protect, no store comes back, and there is nothing for half stores or a stealing pool to do.
 *
 * A new table is empty and so is its snapshot: the sync that first reaches it finds that everything changed.
 * Filling a table and bringing it up to date are one thing.
 *
 * Invariants:
 * - *Trees from the top.* A table is compared only after the entry that leads to it was: what is no table of this
 *   kind any more, because its page was recycled, has left the tree before anybody could misread it.
 * - *Once a sync.* Scratch tables are shared by hundreds of parents; each table carries the number of the sync
 *   that compared it last.
 * - *The snapshot says what the shadow shows.* It holds the guest's entry if there is nothing more to do for it,
 *   and 0 if the entry is missing for want of the host's memory: then it differs again at the next sync.
 * - *One bad entry harms no other.* An entry that cannot be applied is removed; its old target would be a lie.
 *
 * @module
 */

import { EFAULT, EINVAL, ENOMEM, ENXIO, OK } from "./errno.ts";
import { ENTRIES, frameOf, isLarge, LANES, LARGE_FRAMES, largeFrameOf, PDE, PRESENT, PTE } from "./entry.ts";
import type { GttHost } from "./host.ts";
import type { Counters } from "./counters.ts";
import { type PpgttMm, ROOTS } from "./mm.ts";
import type { OutOfSync } from "./oos.ts";
import type { ShadowTable } from "./shadow_table.ts";
import type { ShadowTables, TableComparer } from "./shadow_tables.ts";

/**
 * Brings the shadow trees of one vGPU up to date by comparing.
 *
 * @example The guest recycles a PTE table as a PDE table, and tells nobody
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, type PpgttMm } from "../../mod.ts";
 *
 * using device = createDevice({ tracking: "untracked" });
 * device.ram.map({ gpa: 0, size: 0x10000 });
 * const entry = (gfn: number, to: number) => device.ram.write(gfn * 4096, Uint8Array.of(3, 16 * to));
 * entry(1, 2); // the PDE table leads to the PTE table in frame 2,
 * entry(2, 5); // which maps frame 5
 * const { gtt } = device.vgpu;
 * const mm = gtt.createMm(3, Uint32Array.of(0x1000, 0, 0, 0, 0x4000, 0, 0, 0)) as PpgttMm;
 * const kinds = () => [...gtt.parts.tables.all()].map((table) => [table.gfn, table.kind]);
 * assertEquals(kinds(), [[1, 2], [2, 1], [4, 2]]);
 * entry(1, 0); // frame 2 is no table any more
 * device.ram.write(0x1000, new Uint8Array(8));
 * entry(4, 3); // the PDE table in frame 4 gets a PTE table
 * entry(3, 6);
 * assertEquals(gtt.syncOosPages(), 0);
 * assertEquals(kinds(), [[1, 2], [4, 2], [3, 1]]);
 * assertEquals(gtt.gmaToGpa(mm, 0x80000abc, 0), 0x6abc);
 * assertEquals(device.host.protectedFrames.size, 0);
 * ```
 */
export class TreeSync implements TableComparer {
  readonly #host: GttHost;
  readonly #counters: Counters;
  readonly #tables: ShadowTables;
  readonly #oos: OutOfSync;
  readonly #globalScratch: () => number;
  readonly #hugePages: boolean;
  readonly #guest: Uint32Array = new Uint32Array(LANES);
  /** Number of the sync under way, or of the last one. */
  #epoch = 0;
  /** First error of the sync under way. */
  #result = OK;
  /** Number of tables at which there was no memory for another one in this sync. */
  #full = Infinity;

  /**
   * For these tables.
   *
   * @param host Reads guest pages.
   * @param counters Counts what is compared and refused.
   * @param tables The shadow tables of the vGPU.
   * @param oos Keeps their snapshots.
   * @param globalScratch Answers the host frame that leaves without RAM lead to.
   * @param hugePages Whether guests may use pages of 64 KiB and 2 MiB (§17).
   */
  constructor(
    host: GttHost,
    counters: Counters,
    tables: ShadowTables,
    oos: OutOfSync,
    globalScratch: () => number,
    hugePages: boolean,
  ) {
    this.#host = host;
    this.#counters = counters;
    this.#tables = tables;
    this.#oos = oos;
    this.#globalScratch = globalScratch;
    this.#hugePages = hugePages;
  }

  /**
   * Number of the last sync, which each table carries that it compared.
   *
   * @returns 0 before the first.
   */
  get epoch(): number {
    return this.#epoch;
  }

  /**
   * A table is new and empty: it goes out of sync with an empty snapshot.
   *
   * @param table A table that joined the others just now.
   * @returns 0; -EINVAL if its page is no guest RAM, as protecting it would answer.
   */
  begin(table: ShadowTable): number {
    return this.#host.isValidGfn(table.gfn) ? this.#oos.leaveSyncEmpty(table) : EINVAL;
  }

  /**
   * All that was compared counts no more: hardware may look at page tables again from now on, and so do we, at each
   * table that is used (`engine.md` §16.5).
   */
  invalidate(): void {
    this.#start();
  }

  /**
   * Sees that a table was compared since the last invalidation, as a walk does before it takes an entry.
   *
   * @param table A live table that the walk has come to from the top, in an address space that is pinned.
   */
  look(table: ShadowTable): void {
    if (table.syncedIn === this.#epoch || table.isSplit) return;
    table.syncedIn = this.#epoch;
    this.#compare(table);
  }

  /**
   * Brings one table and all below it up to date.
   *
   * @param table A live table that no reclaim can take: the caller holds a reference.
   * @returns As {@linkcode syncAll}.
   */
  syncTable(table: ShadowTable): number {
    this.#start();
    this.#visit(table);
    return this.#result;
  }

  /**
   * Brings one address space up to date, as before a workload.
   *
   * @param mm A live address space; nothing happens while it is not shadowed.
   * @returns As {@linkcode syncAll}.
   *
   * @example Others stay as they were
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PDE, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice({ tracking: "untracked" });
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { gtt } = device.vgpu;
   * const [one, two] = [0x1000, 0x2000].map((gpa) => {
   *   return gtt.createMm(3, Uint32Array.of(gpa, 0, 0, 0, 0, 0, 0, 0)) as PpgttMm;
   * });
   * for (const gpa of [0x1000, 0x2000]) device.ram.write(gpa, Uint8Array.of(3, 0x30)); // PTE table: frame 3
   * device.ram.write(0x3000, Uint8Array.of(3, 0x50)); // maps frame 5
   * assertEquals(gtt.parts.trees!.syncMm(one!), 0);
   * assertEquals([1, 2].map((gfn) => gtt.parts.tables.find(gfn, PDE)?.below?.[0]?.gfn), [3, undefined]);
   * assertEquals([gtt.gmaToGpa(one!, 0, 0), gtt.gmaToGpa(two!, 0, 0)], [0x5000, 0x5000]); // a walk looks itself
   * ```
   */
  syncMm(mm: PpgttMm): number {
    this.#start();
    this.#visitMm(mm);
    return this.#result;
  }

  /**
   * Brings all address spaces up to date, each table once.
   *
   * @param mms The live address spaces of the vGPU; those that are not shadowed are skipped.
   * @returns 0, also when the guest's entries are bad: they are counted and map nothing. Else the host's first
   *   failure: -ENOMEM or -EINVAL without a page for a table, -EFAULT for a table page that cannot be read and so
   *   counts as empty. Everything else is done, and the next sync tries again.
   */
  syncAll(mms: Iterable<PpgttMm>): number {
    this.#start();
    for (const mm of mms) this.#visitMm(mm);
    return this.#result;
  }

  /**
   * Guest frames came: entries that wanted them and map nothing differ from their snapshots again. A sync must
   * follow.
   *
   * @param gfn First guest frame.
   * @param frames How many.
   */
  forget(gfn: number, frames: number): void {
    for (const table of this.#oos.attached) {
      const snapshot = table.snapshot!;
      for (let lane = 0; lane < LANES; lane += 2 * table.span) {
        const lo = snapshot[lane]!;
        const hi = snapshot[lane + 1]!;
        if ((lo & PRESENT) === 0) continue;
        const isLargePage = isLarge(table.kind, lo);
        const first = isLargePage ? largeFrameOf(lo, hi) : table.leafFrame(0, lo, hi);
        const count = isLargePage ? LARGE_FRAMES : table.span;
        if (first + count <= gfn || first >= gfn + frames) continue;
        if (!this.#missesSomething(table, lane / 2)) continue;
        this.#tables.removeEntry(table, lane / 2);
        snapshot[lane] = snapshot[lane + 1] = 0;
      }
    }
  }

  #start(): void {
    this.#epoch++;
    this.#result = OK;
    this.#full = Infinity;
  }

  #visitMm(mm: PpgttMm): void {
    if (!mm.shadowed) return;
    // Making room for its tables must not take the tree that is being walked.
    mm.pins++;
    for (let slot = 0; slot < ROOTS; slot++) {
      const root = mm.rootTables[slot]!;
      if (root !== null) this.#visit(root);
    }
    mm.pins--;
  }

  /** Compares a table with its page, then goes on into what it leads to *now*; at most four deep. */
  #visit(table: ShadowTable): void {
    if (table.syncedIn === this.#epoch) return;
    this.look(table);
    if (table.kind === PTE) return;
    // Nothing below changes this table's entries, so each child stays alive while the loop runs.
    for (const child of table.children ??= this.#childrenOf(table)) this.#visit(child);
  }

  #compare(table: ShadowTable): void {
    this.#counters.compared++;
    if (this.#host.holdsPage(table.gfn, table.copy!)) return;
    if (this.#host.readPage(table.gfn, this.#guest) !== OK) {
      this.#guest.fill(0);
      this.#fail(EFAULT);
    }
    const { snapshot } = table;
    let isChanged = false;
    for (let index = 0; index < ENTRIES; index++) {
      const lo = this.#guest[2 * index]!;
      const hi = this.#guest[2 * index + 1]!;
      if (snapshot![2 * index] === lo && snapshot![2 * index + 1] === hi) continue;
      if ((index & (table.span - 1)) !== 0) {
        // Of a 64 KiB page only the first entry counts (§17.2).
        snapshot![2 * index] = lo;
        snapshot![2 * index + 1] = hi;
        continue;
      }
      if (this.#isHopeless(table, index)) continue;
      isChanged = true;
      const isDone = this.#apply(table, index, lo, hi);
      snapshot![2 * index] = isDone ? lo : 0;
      snapshot![2 * index + 1] = isDone ? hi : 0;
    }
    if (!isChanged) return;
    table.children = null;
    this.#counters.synced++;
  }

  /** Applies a changed entry or removes it. @returns Whether trying again would change nothing. */
  #apply(table: ShadowTable, index: number, lo: number, hi: number): boolean {
    if ((lo & PRESENT) === 0) this.#tables.removeEntry(table, index);
    else if (table.kind === PTE) this.#tables.storeLeaf(table, index, lo, hi, true);
    else if (this.#mayLink(table, lo, hi)) return this.#link(table, index, lo, hi);
    else this.#tables.removeEntry(table, index);
    return true;
  }

  /** Whether a present directory entry may lead where it says; the guest's mistake if not. */
  #mayLink(table: ShadowTable, lo: number, hi: number): boolean {
    if (isLarge(table.kind, lo)) {
      // Whether a 2 MiB page is RAM turns out when it is shadowed.
      if (this.#hugePages && table.kind === PDE) return true;
      this.#counters.badLargePages++;
      return false;
    }
    if (this.#host.isValidGfn(frameOf(lo, hi))) return true;
    this.#counters.badTables++;
    return false;
  }

  /** Lets a directory entry lead to its table, known or still empty, or to its page. @returns Whether memory sufficed. */
  #link(table: ShadowTable, index: number, lo: number, hi: number): boolean {
    let rc = this.#tryLink(table, index, lo, hi);
    if (rc === OK) return true;
    this.#tables.removeEntry(table, index);
    // A 2 MiB page that is not all RAM is the guest's mistake.
    if (rc === ENXIO) return true;
    // What the entry led to before may be just what was missing.
    rc = this.#tryLink(table, index, lo, hi);
    if (rc !== OK) this.#fail(rc);
    return rc === OK;
  }

  #tryLink(table: ShadowTable, index: number, lo: number, hi: number): number {
    if (this.#isFull() && this.#tables.needsTable(table.kind, lo, hi)) return ENOMEM;
    const rc = this.#tables.apply(table, index, lo, hi);
    if (rc !== OK && rc !== ENXIO) this.#full = this.#tables.size;
    return rc;
  }

  /** Whether memory was missing in this sync, and no table was freed since. */
  #isFull(): boolean {
    return this.#tables.size >= this.#full;
  }

  /**
   * Whether an entry maps nothing and there is no memory for what it may want, after the sync has failed anyway. A
   * guest can have millions of these.
   */
  #isHopeless(table: ShadowTable, index: number): boolean {
    if (this.#result === OK || !this.#isFull()) return false;
    return table.kind !== PTE && table.snapshot![2 * index] === 0;
  }

  /** Whether an entry, or one of the sixteen of a 64 KiB page, leads to nothing of the guest's. */
  #missesSomething(table: ShadowTable, index: number): boolean {
    if (table.kind !== PTE) return this.#tables.mapsNothing(table, index);
    for (let i = index; i < index + table.span; i++) {
      if ((table.lanes[2 * i]! & PRESENT) === 0 || table.target(i) === this.#globalScratch()) return true;
    }
    return false;
  }

  /**
   * The distinct tables that a directory leads to and that have a guest page; neighbours that are equal, as scratch is,
   * count once.
   */
  #childrenOf(table: ShadowTable): ShadowTable[] {
    const children: ShadowTable[] = [];
    let last: ShadowTable | null = null;
    for (const child of table.below!) {
      if (child === last || child === null) continue;
      last = child;
      if (!child.isSplit) children.push(child);
    }
    return children;
  }

  #fail(rc: number): void {
    this.#counters.badLooks++;
    if (this.#result === OK) this.#result = rc;
  }
}
