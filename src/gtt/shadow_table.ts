/**
 * One shadow table: the host page that shadows one guest table page, and everything known about it.
 *
 * @module
 */

import { ENTRIES, frameOf, isLarge, largeFrameOf, PTE, type TableKind } from "./entry.ts";
import type { HostPage } from "./host.ts";
import type { PageCopy } from "./page_copy.ts";
import { PageTrack, type StoreHandler } from "./page_track.ts";

/** Words of a bitmap with one bit an entry. */
export const BITMAP_WORDS = 16;

/**
 * A shadow table (`engine.md` §4). It is also the page track of its guest page: stores to that page reach its
 * handler.
 *
 * At most one exists for each guest frame *and kind* (§15, 2), where the two ways to read a PTE table, in pages of
 * 4 KiB or of 64 KiB, count as two kinds (§17.2). The table of a split 2 MiB page (§17.1) has no guest page: it is no
 * registered track, is never out of sync, and belongs to one directory entry.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, PTE, ShadowTable } from "../../mod.ts";
 *
 * using device = createDevice();
 * device.ram.map({ gpa: 0, size: 0x10000 });
 * device.ram.write(0x2008, Uint8Array.of(3, 0x50)); // entry 1 maps frame 5
 * const table = device.vgpu.gtt.parts.tables.obtain(PTE, 2) as ShadowTable;
 * assertEquals([table.target(0), table.target(1)], [0, 0x100005]);
 * assertEquals([table.gfn, table.refs, table.enabled], [2, 1, true]);
 * ```
 */
export class ShadowTable extends PageTrack {
  /** A table reads whole entries: a change of many bytes reaches it entry by entry. */
  override readonly storeBytes = 8;
  /** What kind of table the guest page is read as. */
  readonly kind: TableKind;
  /**
   * Entries that one guest entry stands for: 1; or 16 in a PTE table of 64 KiB pages, where the first of each
   * sixteen counts.
   */
  readonly span: 1 | 16;
  /** Whether it shadows a 2 MiB page that is split, and no guest table; `gfn` is the page's first frame then. */
  readonly isSplit: boolean;
  /** The host page that the hardware walks. */
  readonly page: HostPage;
  /** Its lanes: entry `i` is `lanes[2 * i]` and `lanes[2 * i + 1]`. */
  readonly lanes: Uint32Array;
  /** Shadow entries and roots that point here, plus the references of work in progress. 0 once freed. */
  refs = 1;
  /** Trapped stores since the table was last in sync; moves only when out-of-sync pages are enabled. */
  writeCount = 0;
  /** The attached out-of-sync page: a snapshot of the guest page, 1024 lanes. */
  snapshot: Uint32Array | null = null;
  /** The snapshot as a whole: only where trees are compared (`engine.md` §16), as what follows. */
  copy: PageCopy | null = null;
  /** Number of the sync or invalidation after which the table was compared last; -1 for never. */
  syncedIn: number = -1;
  /** The table that each entry of a directory leads to, `null` for none; no array in a PTE table. */
  readonly below: (ShadowTable | null)[] | null;
  /** The tables of `below`, each once and without split pages; `null` when they have to be collected anew. */
  children: ShadowTable[] | null = null;
  /** Whether an entry of the shadow or the guest's page, or what is queued, may have changed since an observer looked. */
  isChanged = true;
  /** Which table it is and which of its states this is, for observers: they number what they look at. 0: not looked at yet. */
  serial = 0;
  /** See `serial`. */
  version = 0;
  /** Whether observers were told a page of the guest's that is not what the shadow is made of: they want to hear if it is again. */
  wasToldAhead = false;
  /** Entries with a half store waiting for the flush: bit `i % 32` of word `i / 32`. Made when first needed. */
  queued: Uint32Array | null = null;

  /**
   * A fresh table with one reference.
   *
   * @param gfn Guest frame of the table page.
   * @param kind What kind of table the guest page is read as.
   * @param page Its host page, mapped and all zeroes.
   * @param handler Called for each store to the guest page.
   * @param span Entries that one guest entry stands for.
   * @param isSplit Whether there is no guest page, but a 2 MiB page that is split.
   */
  constructor(
    gfn: number,
    kind: TableKind,
    page: HostPage,
    handler: StoreHandler,
    span: 1 | 16 = 1,
    isSplit = false,
  ) {
    super(gfn, handler);
    this.kind = kind;
    this.span = span;
    this.isSplit = isSplit;
    this.page = page;
    this.lanes = page.lanes;
    this.below = kind === PTE ? null : new Array(ENTRIES).fill(null);
  }

  /**
   * Frame that a shadow entry points to.
   *
   * @param index Entry, 0..511.
   * @returns Host frame number, present or not; 0 for an empty entry, the first frame of a 2 MiB page.
   */
  target(index: number): number {
    const lo = this.lanes[2 * index]!;
    const hi = this.lanes[2 * index + 1]!;
    return isLarge(this.kind, lo) ? largeFrameOf(lo, hi) : frameOf(lo, hi);
  }

  /**
   * Guest frame that a leaf wants.
   *
   * @param index Entry of a PTE table that has a guest page, 0..511.
   * @param lo Low lane of the guest entry that stands for it: itself, or the first of its sixteen.
   * @param hi High lane of that entry.
   * @returns Guest frame number.
   *
   * @example The fourth entry of a 64 KiB page
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { PTE, ShadowTable } from "../../mod.ts";
   *
   * const page = { mfn: 7, lanes: new Uint32Array(1024) };
   * assertEquals(new ShadowTable(2, PTE, page, () => 0).leafFrame(3, 0x45003, 0), 0x45);
   * assertEquals(new ShadowTable(2, PTE, page, () => 0, 16).leafFrame(3, 0x45003, 0), 0x43);
   * ```
   */
  leafFrame(index: number, lo: number, hi: number): number {
    const frame = frameOf(lo, hi);
    return this.span === 1 ? frame : frame - frame % this.span + index % this.span;
  }

  /**
   * Stores a shadow entry.
   *
   * @param index Entry, 0..511.
   * @param lo Low lane.
   * @param hi High lane.
   */
  store(index: number, lo: number, hi: number): void {
    this.isChanged = true;
    this.lanes[2 * index] = lo;
    this.lanes[2 * index + 1] = hi;
  }

  /**
   * Whether an entry waits for the flush (`engine.md` §9.5).
   *
   * @param index Entry, 0..511.
   * @returns Whether its bit is set.
   */
  isQueued(index: number): boolean {
    return this.queued !== null && (this.queued[index >>> 5]! & (1 << (index & 31))) !== 0;
  }

  /**
   * Marks an entry as waiting for the flush.
   *
   * @param index Entry, 0..511.
   */
  queue(index: number): void {
    this.queued ??= new Uint32Array(BITMAP_WORDS);
    this.queued[index >>> 5]! |= 1 << (index & 31);
  }

  /**
   * Marks an entry as not waiting for the flush any more.
   *
   * @param index Entry, 0..511.
   */
  unqueue(index: number): void {
    if (this.queued !== null) this.queued[index >>> 5]! &= ~(1 << (index & 31));
  }

  /**
   * The entries that wait for the flush.
   *
   * @returns Their indices, ascending.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { PTE, ShadowTable } from "../../mod.ts";
   *
   * const table = new ShadowTable(2, PTE, { mfn: 7, lanes: new Uint32Array(1024) }, () => 0);
   * for (const index of [511, 0, 32, 31]) table.queue(index);
   * table.unqueue(32);
   * assertEquals(table.queuedIndices(), [0, 31, 511]);
   * assertEquals(table.isQueued(32), false);
   * ```
   */
  queuedIndices(): number[] {
    const indices: number[] = [];
    if (this.queued === null) return indices;
    for (let word = 0; word < BITMAP_WORDS; word++) {
      for (let bits = this.queued[word]!; bits !== 0; bits &= bits - 1) {
        indices.push(32 * word + 31 - Math.clz32(bits & -bits));
      }
    }
    return indices;
  }
}
