/**
 * The shadow tables of one vGPU: obtaining, populating, changing and releasing them (`engine.md` §8.3–§8.5,
 * §9.4).
 *
 * Invariants, checked by `assertInvariants()`:
 * - every present directory entry of a shadow table points to a live table of the kind below, or to this
 *   vGPU's scratch page for the table's own kind; or it is a 2 MiB page (bit 7) that leads to host frames;
 * - a table's reference count is exactly the number of such entries and mm roots, plus work in progress;
 * - a table is freed when its count reaches 0, and only then (or all at once, by a reset).
 *
 * A child's kind is always below its parent's, so trees cannot be cyclic and recursion is at most four deep.
 *
 * @module
 */

import { EINVAL, ENOMEM, ENXIO, OK } from "./errno.ts";
import {
  childKind,
  ENTRIES,
  frameOf,
  FRAMES_64K,
  IPS,
  isLarge,
  LANES,
  LARGE_FRAMES,
  largeFrameOf,
  PAGE_LARGE,
  PDE,
  PRESENT,
  PTE,
  type TableKind,
  withFrameHi,
  withFrameLo,
  withLargeFrameLo,
} from "./entry.ts";
import { FrameMap } from "./frame_map.ts";
import { fillSplitPage, isLargePageRam, splitEntryLo, wholeLargeFrame } from "./large_page.ts";
import { type GttHost, type HostPage, INVALID_MFN } from "./host.ts";
import type { Counters } from "./counters.ts";
import type { PageTracks, StoreHandler } from "./page_track.ts";
import type { ScratchPages } from "./scratch.ts";
import { ShadowTable } from "./shadow_table.ts";

/**
 * Shadow tables one vGPU may have. A guest decides how many table pages it announces, each costs the host 4
 * KiB and more: 65,536 are 256 MiB of tables for at most 128 GiB of mapped memory.
 */
export const MAX_SHADOW_TABLES = 65536;

/** Who fills tables and keeps them up to date where no store to them traps (`engine.md` §16). */
export interface TableComparer {
  /**
   * A table is new and empty.
   *
   * @param table A table that joined the others just now.
   * @returns 0; or a negative errno, then it is released.
   */
  begin(table: ShadowTable): number;
  /**
   * Brings one table and all below it up to date.
   *
   * @param table A live table that no reclaim can take: the caller holds a reference.
   * @returns 0, or the host's first failure.
   */
  syncTable(table: ShadowTable): number;
}

/**
 * When tables are compared with the guest's where nothing traps: all of a tree ahead of its use, or each as a walk comes
 * to it (`engine.md` §16.5).
 */
export type Looks = "ahead" | "on use";

/** What the tables need from the engine around them. */
export interface ShadowTableOwner {
  /** Whether guests may use pages of 64 KiB and 2 MiB (`engine.md` §17). */
  readonly hugePages: boolean;
  /**
   * The device's global scratch page.
   *
   * @returns Its host frame number.
   */
  globalScratch(): number;
  /**
   * Takes the shadow of one address space to make room (`engine.md` §11).
   *
   * @param ownOnly Only address spaces of this vGPU, because its own cap is reached.
   * @returns Whether something was reclaimed.
   */
  reclaim(ownOnly: boolean): boolean;
  /**
   * Who compares tables with guest memory.
   *
   * @returns It, or `null` where stores to tables trap.
   */
  comparer(): TableComparer | null;
  /**
   * A table is about to leave everything: drop what else refers to it.
   *
   * @param table The table; its references are gone, it is still tracked.
   */
  tableFreed(table: ShadowTable): void;
}

/** The set of live shadow tables of one vGPU and the operations that keep it consistent. */
export class ShadowTables {
  readonly #host: GttHost;
  readonly #counters: Counters;
  readonly #tracks: PageTracks;
  readonly #scratch: ScratchPages;
  readonly #owner: ShadowTableOwner;
  readonly #onStore: StoreHandler;
  readonly #byMfn = new FrameMap<ShadowTable>();
  /** One buffer a kind: populating recurses, but never twice into the same kind. */
  readonly #guestPage: readonly Uint32Array[] = [0, 1, 2, 3, 4].map(() => new Uint32Array(LANES));

  /**
   * No tables.
   *
   * @param host The services of `engine.md` §1.1.
   * @param counters Counts what is built, freed and refused.
   * @param tracks The page tracks of the vGPU, which each table joins.
   * @param scratch The vGPU's scratch pages, built before the first table.
   * @param owner The engine around.
   * @param onStore Called for each store to a tracked table page.
   */
  constructor(
    host: GttHost,
    counters: Counters,
    tracks: PageTracks,
    scratch: ScratchPages,
    owner: ShadowTableOwner,
    onStore: StoreHandler,
  ) {
    this.#host = host;
    this.#counters = counters;
    this.#tracks = tracks;
    this.#scratch = scratch;
    this.#owner = owner;
    this.#onStore = onStore;
  }

  /**
   * Number of live tables.
   *
   * @returns 0..{@linkcode MAX_SHADOW_TABLES}.
   */
  get size(): number {
    return this.#byMfn.size;
  }

  /**
   * The live tables, neighbours in order of their host frames.
   *
   * @returns An iterator over the live list.
   */
  all(): IterableIterator<ShadowTable> {
    return this.#byMfn.values();
  }

  /**
   * Visits the live tables, in the order of {@linkcode all}; allocates nothing.
   *
   * @param visit Called for each; it must not make or free any.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PTE } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables } = device.vgpu.gtt.parts;
   * for (const gfn of [2, 3]) tables.obtain(PTE, gfn);
   * const frames: number[] = [];
   * tables.forEach(({ gfn }) => void frames.push(gfn));
   * assertEquals(frames, [2, 3]);
   * ```
   */
  forEach(visit: (table: ShadowTable) => void): void {
    this.#byMfn.forEach(visit);
  }

  /**
   * The table whose host page has this frame.
   *
   * @param mfn Host frame number.
   * @returns The table, or `undefined`: no frame of guest RAM and no scratch page is one.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PTE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables, scratch } = device.vgpu.gtt.parts;
   * const table = tables.obtain(PTE, 2) as ShadowTable;
   * assertEquals(tables.byMfn(table.page.mfn) === table, true);
   * assertEquals(tables.byMfn(scratch.mfn[PTE]!), undefined);
   * ```
   */
  byMfn(mfn: number): ShadowTable | undefined {
    return this.#byMfn.get(mfn);
  }

  /**
   * The table that shadows a guest frame as a table of this kind (`engine.md` §15, 2 a).
   *
   * @param gfn Guest frame number.
   * @param kind Kind of the table.
   * @param span Entries that one guest entry stands for: 16 in a PTE table of 64 KiB pages (§17.2).
   * @returns The table, or `undefined`; never the table of a split 2 MiB page.
   *
   * @example One guest page can be two tables
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PDE, PTE } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables } = device.vgpu.gtt.parts;
   * const pte = tables.obtain(PTE, 2);
   * const pde = tables.obtain(PDE, 2);
   * assertEquals([tables.find(2, PTE) === pte, tables.find(2, PDE) === pde, pte === pde], [true, true, false]);
   * assertEquals(tables.find(3, PTE), undefined);
   * ```
   */
  find(gfn: number, kind: TableKind, span: 1 | 16 = 1): ShadowTable | undefined {
    for (let track = this.#tracks.oldest(gfn); track !== null; track = track.next) {
      if (track instanceof ShadowTable && track.kind === kind && track.span === span) return track;
    }
    return undefined;
  }

  /**
   * The shadow table for a directory entry or root (`engine.md` §8.3, §8.4), with one more reference: an
   * existing one, or a new one that is write-protected and populated. Where nothing traps, it and all below it
   * are compared with guest memory instead, known or new (§16). If that fails everything is undone (§15, 8).
   *
   * @param kind Kind of the table wanted.
   * @param gfn Its guest frame.
   * @param looks When they are compared, where nothing traps.
   * @returns The table; -ENOMEM without a page, -EINVAL if it cannot be mapped or for a large page on the way
   *   down, or the host's error of protecting. Where nothing traps: -EINVAL if the frame is no guest RAM, or the
   *   error of comparing.
   *
   * @example A large page on the way down undoes the whole
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL, PDE } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * device.ram.write(0x1000, Uint8Array.of(3, 0x20)); // entry 0 leads to the PTE table in frame 2
   * device.ram.write(0x1008, Uint8Array.of(0x83, 0x50)); // entry 1 is a 2 MiB page
   * const { tables } = device.vgpu.gtt.parts;
   * assertEquals(tables.obtain(PDE, 1), EINVAL);
   * assertEquals([tables.size, device.host.protectedFrames.size], [0, 0]);
   * device.ram.write(0x1008, Uint8Array.of(0x80)); // bit 7 in an entry that is not present means nothing
   * assertEquals(typeof tables.obtain(PDE, 1), "object");
   * assertEquals([tables.size, device.host.protectedFrames.size], [2, 2]);
   * ```
   */
  obtain(kind: TableKind, gfn: number, looks: Looks = "ahead"): ShadowTable | number {
    const table = this.#join(kind, gfn, 1);
    const comparer = this.#owner.comparer();
    if (comparer === null || looks === "on use" || typeof table === "number") return table;
    const rc = comparer.syncTable(table);
    if (rc === OK) return table;
    this.release(table);
    return rc;
  }

  /**
   * Gives back one reference; the last one frees the table and releases its children, in index order
   * (`engine.md` §8.5).
   *
   * @param table A live table.
   * @throws {Error} When an entry leads to no table: a bug of the engine, whatever the guest did (§15, 10).
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PDE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * device.ram.write(0x1000, Uint8Array.of(3, 0x20)); // entry 0 leads to the PTE table in frame 2
   * const { tables } = device.vgpu.gtt.parts;
   * const table = tables.obtain(PDE, 1) as ShadowTable;
   * tables.obtain(PDE, 1);
   * tables.release(table);
   * assertEquals(tables.size, 2); // there was a second reference
   * tables.release(table);
   * assertEquals(tables.size, 0);
   * ```
   */
  release(table: ShadowTable): void {
    if (--table.refs === 0) this.#end(table);
  }

  /** Takes a table down to which nothing leads any more. */
  #end(table: ShadowTable): void {
    const { below } = table;
    if (below !== null) {
      for (let index = 0; index < ENTRIES; index++) {
        const child = below[index]!;
        if (child !== null) this.release(child);
      }
    }
    this.#free(table);
  }

  /**
   * Frees every table without regard to references, as a reset does (`engine.md` §12).
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PTE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables } = device.vgpu.gtt.parts;
   * const table = tables.obtain(PTE, 2) as ShadowTable;
   * tables.obtain(PTE, 2);
   * tables.freeAll();
   * assertEquals([tables.size, table.refs, device.host.protectedFrames.size], [0, 0, 0]);
   * ```
   */
  freeAll(): void {
    for (const table of this.#byMfn.values()) this.#free(table);
  }

  /**
   * Applies a whole guest entry to a shadow table (`engine.md` §9.4): adds the new target first, removes the
   * old one second, so that the device never sees a hole.
   *
   * @param table The table; the caller holds a reference.
   * @param index Entry, 0..511.
   * @param lo Low lane of the guest's entry.
   * @param hi High lane of the guest's entry.
   * @returns 0; -EINVAL for a large page that is refused, -ENXIO for a leaf that cannot be translated, large or not,
   *   or the error of building a child. On error the old entry stays as it was.
   *
   * @example A failed add leaves the old mapping live (`engine.md` §13, 15)
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, ENXIO, PTE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables, scratch } = device.vgpu.gtt.parts;
   * const table = tables.obtain(PTE, 2) as ShadowTable;
   * assertEquals([tables.apply(table, 0, 0x5003, 0), table.target(0)], [0, 0x100005]);
   * assertEquals([tables.apply(table, 0, 0x99003, 0), table.target(0)], [ENXIO, 0x100005]); // no RAM
   * assertEquals([tables.apply(table, 0, 0, 0), table.target(0)], [0, scratch.mfn[PTE]]);
   * assertEquals(table.lanes[0]! & 0xfff, 3); // removed, yet present: its own flags stay
   * ```
   */
  apply(table: ShadowTable, index: number, lo: number, hi: number): number {
    if ((lo & PRESENT) === 0) {
      this.removeEntry(table, index);
      return OK;
    }
    if (table.kind === PTE) return this.storeLeaf(table, index, lo, hi, false);
    const old = table.below![index]!;
    const rc = this.#link(table, index, lo, hi);
    if (rc === OK && old !== null) this.release(old);
    return rc;
  }

  /**
   * Stores a present leaf: one entry, or the sixteen of a 64 KiB page (`engine.md` §17.2).
   *
   * @param table A PTE table.
   * @param index Entry, 0..511, one that counts.
   * @param lo Low lane of the guest's entry.
   * @param hi High lane of the guest's entry.
   * @param mayMiss Whether frames that cannot be translated lead to the global scratch page; else they are an error.
   * @returns 0, or -ENXIO; then nothing changed.
   *
   * @example A page that wants RAM which is not there
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, ENXIO, OK, PTE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables } = device.vgpu.gtt.parts;
   * const table = tables.obtain(PTE, 2) as ShadowTable;
   * assertEquals([tables.storeLeaf(table, 0, 0x99003, 0, false), table.target(0)], [ENXIO, 0]);
   * assertEquals([tables.storeLeaf(table, 0, 0x99003, 0, true), table.target(0)], [OK, device.gvt.globalScratch]);
   * ```
   */
  storeLeaf(table: ShadowTable, index: number, lo: number, hi: number, mayMiss: boolean): number {
    if (table.span !== 1) return this.#storeLeaves(table, index, lo, hi, mayMiss);
    let mfn = this.translateLeaf(frameOf(lo, hi));
    if (mfn < 0) {
      if (!mayMiss) return mfn;
      mfn = this.#owner.globalScratch();
    }
    table.store(index, withFrameLo(lo, mfn), withFrameHi(hi, mfn));
    return OK;
  }

  /**
   * Removes a shadow entry: it is aimed at this level's scratch page with its flags kept, and what it led to
   * is released (`engine.md` §9.4 steps 2 and 3). Of a 64 KiB page all sixteen are; a 2 MiB page is one no more.
   *
   * @param table The table; the caller holds a reference.
   * @param index Entry, 0..511, one that counts.
   * @throws {Error} When the entry leads to no table: a bug of the engine (§15, 10).
   *
   * @example An entry that was empty leads to scratch without being present
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PDE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables, scratch } = device.vgpu.gtt.parts;
   * const table = tables.obtain(PDE, 1) as ShadowTable;
   * tables.removeEntry(table, 9);
   * assertEquals([table.target(9), table.lanes[18]! & 0xfff], [scratch.mfn[PDE], 0]);
   * ```
   */
  removeEntry(table: ShadowTable, index: number): void {
    const lo = table.lanes[2 * index]!;
    const scratch = this.#scratch.mfn[table.kind]!;
    if (isLarge(table.kind, lo)) {
      table.store(
        index,
        withFrameLo(lo & ~PAGE_LARGE, scratch),
        withFrameHi(table.lanes[2 * index + 1]!, scratch),
      );
      return;
    }
    for (let i = index; i < index + table.span; i++) this.#aim(table, i, scratch);
    if (table.below === null) return;
    const child = table.below[index]!;
    table.below[index] = null;
    if (child !== null) this.release(child);
  }

  /**
   * Whether a directory entry leads to nothing of the guest's.
   *
   * @param table A directory.
   * @param index Entry, 0..511.
   * @returns Whether it is not present or leads to scratch.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PDE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * device.ram.write(0x1000, Uint8Array.of(3, 0x20)); // entry 0 leads to the PTE table in frame 2
   * const { tables } = device.vgpu.gtt.parts;
   * const table = tables.obtain(PDE, 1) as ShadowTable;
   * assertEquals([tables.mapsNothing(table, 0), tables.mapsNothing(table, 1)], [false, true]);
   * tables.removeEntry(table, 0);
   * assertEquals(tables.mapsNothing(table, 0), true);
   * ```
   */
  mapsNothing(table: ShadowTable, index: number): boolean {
    return (table.lanes[2 * index]! & PRESENT) === 0 || table.target(index) === this.#scratch.mfn[table.kind];
  }

  /**
   * Whether a present guest entry of a directory asks for a shadow table that is not there yet.
   *
   * @param kind Kind of the directory.
   * @param lo Low lane of the guest's entry.
   * @param hi High lane of the guest's entry.
   * @returns Whether; not for a 2 MiB page that cannot be shadowed at all.
   *
   * @example A 2 MiB page needs one where the host's frames do not follow one another
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PDE } from "../../mod.ts";
   *
   * using device = createDevice({ hugePages: true });
   * device.mapRam({ gpa: 0x200000, size: 0x200000 });
   * device.mapRam({ gpa: 0x400000, size: 0x200000, mfn: 0x800001 });
   * const { tables } = device.vgpu.gtt.parts;
   * const needs = (lo: number) => tables.needsTable(PDE, lo, 0);
   * assertEquals([needs(0x200083), needs(0x400083), needs(0x600083), needs(0x200003)], [false, true, false, true]);
   * ```
   */
  needsTable(kind: TableKind, lo: number, hi: number): boolean {
    if (!isLarge(kind, lo)) {
      return this.find(frameOf(lo, hi), childKind(kind), this.#spanBelow(kind, lo)) === undefined;
    }
    const gfn = largeFrameOf(lo, hi);
    return wholeLargeFrame(this.#host, gfn) === INVALID_MFN && isLargePageRam(this.#host, gfn);
  }

  /**
   * Translates the frame of a leaf; is-valid is asked wherever that happens (`engine.md` §15, 25).
   *
   * @param gfn Guest frame number.
   * @returns The host frame, or -ENXIO if the frame is no visible guest RAM or cannot be pinned.
   *
   * @example A frame can be valid and yet fail to pin
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, ENXIO } from "../../mod.ts";
   *
   * using device = createDevice({ faults: true });
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables } = device.vgpu.gtt.parts;
   * assertEquals(tables.translateLeaf(5), 0x100005);
   * device.faults!.setFrame("p2m", 5, true);
   * assertEquals([device.faults!.isValidGfn(5), tables.translateLeaf(5)], [true, ENXIO]);
   * assertEquals(device.vgpu.gtt.counters.badLeaves, 1);
   * ```
   */
  translateLeaf(gfn: number): number {
    if (this.#host.isValidGfn(gfn)) {
      const mfn = this.#host.gfnToMfn(gfn);
      if (mfn !== INVALID_MFN) return mfn;
    }
    this.#counters.badLeaves++;
    return ENXIO;
  }

  /**
   * Whether one of these guest frames is a table page.
   *
   * @param gfn First guest frame.
   * @param frames How many.
   */
  hasTableIn(gfn: number, frames: number): boolean {
    for (const table of this.#byMfn.values()) {
      if (!table.isSplit && table.gfn >= gfn && table.gfn < gfn + frames) return true;
    }
    return false;
  }

  /**
   * Host frames are gone: leaves that led there lead to the global scratch page (`engine.md` §15, 30), and 2 MiB pages
   * with such a frame are removed (§17.3).
   *
   * @param mfn First host frame.
   * @param frames How many.
   */
  dropFrames(mfn: number, frames: number): void {
    const scratch = this.#owner.globalScratch();
    this.#eachLeaf((table, index, target) => {
      if (target >= mfn && target < mfn + frames) this.#aim(table, index, scratch);
    });
    if (!this.#owner.hugePages) return;
    for (const table of this.#byMfn.values()) {
      if (table.kind !== PDE) continue;
      for (let index = 0; index < ENTRIES; index++) {
        if (this.#isLargePageIn(table, index, mfn, frames)) this.removeEntry(table, index);
      }
    }
  }

  /**
   * Guest frames came: leaves that wanted them and led to the global scratch page lead there now. A leaf whose
   * flags are not the guest's waits on: its entry was refused, and the shadow's flags are those of the one before
   * (`engine.md` §13, 15). 2 MiB pages that wanted them and map nothing are tried again (§17.3). Nothing else changes,
   * neither what is queued nor what is out of sync.
   *
   * @param gfn First guest frame.
   * @param frames How many.
   */
  takeFrames(gfn: number, frames: number): void {
    const scratch = this.#owner.globalScratch();
    const guest = this.#guestPage[PTE]!;
    let read: ShadowTable | null = null;
    this.#eachLeaf((table, index, target) => {
      if (target !== scratch) return;
      if (read !== table) {
        // Out of sync, the shadow is that of the snapshot.
        if (!table.enabled && table.snapshot !== null) guest.set(table.snapshot);
        else if (this.#host.readPage(table.gfn, guest) !== OK) return;
        read = table;
      }
      const first = index - index % table.span;
      const lo = guest[2 * first]!;
      const hi = guest[2 * first + 1]!;
      const wanted = table.leafFrame(index, lo, hi);
      if (wanted < gfn || wanted >= gfn + frames) return;
      if (withFrameLo(lo, target) !== table.lanes[2 * index]) return;
      if (withFrameHi(hi, target) !== table.lanes[2 * index + 1]) return;
      const mfn = this.translateLeaf(wanted);
      if (mfn >= 0) this.#aim(table, index, mfn);
    });
    if (!this.#owner.hugePages) return;
    for (const table of this.#byMfn.values()) {
      if (table.kind !== PDE) continue;
      // Making a table may reclaim the tree that this one is in: one reference keeps it meanwhile.
      table.refs++;
      this.#takeLargePages(table, gfn, frames);
      this.release(table);
    }
  }

  /** Tries the 2 MiB pages of a table again that want some of these guest frames and map nothing. */
  #takeLargePages(table: ShadowTable, gfn: number, frames: number): void {
    const guest = this.#guestPage[PDE]!;
    if (this.#host.readPage(table.gfn, guest) !== OK) return;
    for (let index = 0; index < ENTRIES; index++) {
      const lo = guest[2 * index]!;
      const hi = guest[2 * index + 1]!;
      if ((lo & PRESENT) === 0 || !isLarge(PDE, lo)) continue;
      const wanted = largeFrameOf(lo, hi);
      if (wanted + LARGE_FRAMES <= gfn || wanted >= gfn + frames) continue;
      if (table.isQueued(index) || !this.mapsNothing(table, index)) continue;
      this.#link(table, index, lo, hi); // on an error it waits on
    }
  }

  /** Whether an entry of a PDE table is a 2 MiB page, split or not, one of whose host frames is among these. */
  #isLargePageIn(table: ShadowTable, index: number, mfn: number, frames: number): boolean {
    const lo = table.lanes[2 * index]!;
    if ((lo & PRESENT) === 0) return false;
    const target = table.target(index);
    if (isLarge(PDE, lo)) return target + LARGE_FRAMES > mfn && target < mfn + frames;
    const child = table.below![index]!;
    if (child === null || !child.isSplit) return false;
    for (let i = 0; i < ENTRIES; i++) {
      const leaf = child.target(i);
      if (leaf >= mfn && leaf < mfn + frames) return true;
    }
    return false;
  }

  /** Calls `visit` for each present leaf of each table that has a guest page. */
  #eachLeaf(visit: (table: ShadowTable, index: number, target: number) => void): void {
    for (const table of this.#byMfn.values()) {
      if (table.kind !== PTE || table.isSplit) continue;
      for (let index = 0; index < ENTRIES; index++) {
        if ((table.lanes[2 * index]! & PRESENT) !== 0) visit(table, index, table.target(index));
      }
    }
  }

  /** Changes the frame of an entry and nothing else. */
  #aim(table: ShadowTable, index: number, mfn: number): void {
    table.store(
      index,
      withFrameLo(table.lanes[2 * index]!, mfn),
      withFrameHi(table.lanes[2 * index + 1]!, mfn),
    );
  }

  /**
   * One more reference to a known table, or a new one: populated, or empty where nothing traps.
   *
   * @returns The table, or a negative errno; then nothing is left.
   */
  #join(kind: TableKind, gfn: number, span: 1 | 16): ShadowTable | number {
    const known = this.find(gfn, kind, span);
    if (known !== undefined) {
      known.refs++;
      return known;
    }
    const table = this.#make(gfn, kind, span, false);
    if (typeof table === "number") return table;
    this.#tracks.init(table);
    const rc = this.#owner.comparer()?.begin(table) ?? this.#protectAndPopulate(table);
    if (rc === OK) return table;
    this.release(table);
    return rc;
  }

  #protectAndPopulate(table: ShadowTable): number {
    const rc = this.#tracks.enable(table);
    return rc === OK ? this.#populate(table) : rc;
  }

  /** A new table with an empty page, which is live from now on. @returns It, or -ENOMEM, -EINVAL. */
  #make(gfn: number, kind: TableKind, span: 1 | 16, isSplit: boolean): ShadowTable | number {
    const page = this.#allocPage();
    if (typeof page === "number") return page;
    const table = new ShadowTable(gfn, kind, page, this.#onStore, span, isSplit);
    this.#byMfn.set(page.mfn, table);
    this.#counters.tablesBuilt++;
    return table;
  }

  /** How the PTE table below a directory entry is read. */
  #spanBelow(kind: TableKind, lo: number): 1 | 16 {
    return this.#owner.hugePages && kind === PDE && (lo & IPS) !== 0 ? FRAMES_64K : 1;
  }

  /**
   * Stores a present directory entry, with its child table or 2 MiB page. What it led to before is not released.
   *
   * @returns 0, or a negative errno; then nothing changed.
   */
  #link(table: ShadowTable, index: number, lo: number, hi: number): number {
    if (isLarge(table.kind, lo)) return this.#linkLargePage(table, index, lo, hi);
    const span = this.#spanBelow(table.kind, lo);
    const child = this.#join(childKind(table.kind), frameOf(lo, hi), span);
    if (typeof child === "number") return child;
    // The child's entries are 4 KiB pages, whatever the guest's are.
    const flags = span === 1 ? lo : lo & ~IPS;
    table.store(index, withFrameLo(flags, child.page.mfn), withFrameHi(hi, child.page.mfn));
    table.below![index] = child;
    return OK;
  }

  /** As {@linkcode ShadowTables.#link}, for an entry with page size (`engine.md` §15, 14; §17.1). */
  #linkLargePage(table: ShadowTable, index: number, lo: number, hi: number): number {
    const gfn = largeFrameOf(lo, hi);
    const isOffered = this.#owner.hugePages && table.kind === PDE;
    const mfn = isOffered ? wholeLargeFrame(this.#host, gfn) : INVALID_MFN;
    if (!isOffered || mfn === INVALID_MFN && !isLargePageRam(this.#host, gfn)) {
      this.#counters.badLargePages++;
      return isOffered ? ENXIO : EINVAL;
    }
    if (mfn !== INVALID_MFN) {
      table.store(index, withLargeFrameLo(lo, mfn), withFrameHi(hi, mfn));
      table.below![index] = null;
      this.#counters.wholeLargePages++;
      return OK;
    }
    const child = this.#make(gfn, PTE, 1, true);
    if (typeof child === "number") return child;
    if (!fillSplitPage(this.#host, child.lanes, gfn, lo, hi)) { // the host has changed its mind
      this.release(child);
      return ENXIO;
    }
    table.store(index, withFrameLo(splitEntryLo(lo), child.page.mfn), withFrameHi(hi, child.page.mfn));
    table.below![index] = child;
    this.#counters.splitLargePages++;
    return OK;
  }

  #populate(table: ShadowTable): number {
    const guest = this.#guestPage[table.kind]!;
    // A page that cannot be read is not a failure: its entries stay 0 (§8.4, §15, 8).
    if (this.#host.readPage(table.gfn, guest) !== OK) return OK;
    if (table.kind === PTE) {
      this.#populateLeaves(table, guest);
      return OK;
    }
    for (let lane = 0; lane < LANES; lane += 2) {
      const lo = guest[lane]!;
      if ((lo & PRESENT) === 0) continue;
      const rc = this.#link(table, lane / 2, lo, guest[lane + 1]!);
      if (rc !== OK) return rc;
    }
    return OK;
  }

  #populateLeaves(table: ShadowTable, guest: Uint32Array): void {
    if (table.span !== 1) return this.#populatePages64k(table, guest);
    const lanes = table.lanes;
    for (let lane = 0; lane < LANES; lane += 2) {
      const lo = guest[lane]!;
      if ((lo & PRESENT) === 0) continue;
      const hi = guest[lane + 1]!;
      let mfn = this.translateLeaf(frameOf(lo, hi));
      if (mfn < 0) mfn = this.#owner.globalScratch();
      lanes[lane] = withFrameLo(lo, mfn);
      lanes[lane + 1] = withFrameHi(hi, mfn);
    }
  }

  #populatePages64k(table: ShadowTable, guest: Uint32Array): void {
    for (let index = 0; index < ENTRIES; index += FRAMES_64K) {
      const lo = guest[2 * index]!;
      if ((lo & PRESENT) !== 0) this.#storeLeaves(table, index, lo, guest[2 * index + 1]!, true);
    }
  }

  /** As {@linkcode ShadowTables.storeLeaf}, for a 64 KiB page. */
  #storeLeaves(table: ShadowTable, index: number, lo: number, hi: number, mayMiss: boolean): number {
    const gfn = table.leafFrame(index, lo, hi);
    for (let i = 0; i < FRAMES_64K && !mayMiss; i++) {
      if (this.translateLeaf(gfn + i) < 0) return ENXIO;
    }
    for (let i = 0; i < FRAMES_64K; i++) {
      let mfn = this.translateLeaf(gfn + i);
      if (mfn < 0) mfn = this.#owner.globalScratch();
      table.store(index + i, withFrameLo(lo, mfn), withFrameHi(hi, mfn));
    }
    return OK;
  }

  #free(table: ShadowTable): void {
    this.#byMfn.delete(table.page.mfn);
    table.refs = 0;
    this.#owner.tableFreed(table);
    this.#tracks.clean(table);
    this.#host.freePage(table.page);
    this.#counters.tablesFreed++;
  }

  /**
   * A mapped, zeroed host page, reclaiming address spaces as long as that helps.
   *
   * @returns The page, or -ENOMEM, -EINVAL.
   */
  #allocPage(): HostPage | number {
    for (;;) {
      const full = this.#byMfn.size >= MAX_SHADOW_TABLES;
      const page = full ? null : this.#host.allocPage();
      if (page !== null) {
        if (this.#host.mapPage(page)) return page;
        this.#host.freePage(page);
        return EINVAL;
      }
      if (!this.#owner.reclaim(full)) return ENOMEM;
    }
  }
}
