/**
 * One shadow table: the host page that shadows one guest table page, and everything known about it.
 *
 * @module
 */

import { frameOf, type TableKind } from "./entry.ts";
import type { HostPage } from "./host.ts";
import { PageTrack, type StoreHandler } from "./page_track.ts";

/** Words of a bitmap with one bit an entry. */
const BITMAP_WORDS = 16;

/**
 * A shadow table. It is also the page track of its guest page: stores to that page reach its handler.
 *
 * At most one exists for each guest frame *and kind* (`engine.md` §15, 2).
 */
export class ShadowTable extends PageTrack {
  /** What kind of table the guest page is read as. */
  readonly kind: TableKind;
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
  /** Entries with a half store waiting for the flush: bit `i % 32` of word `i / 32`. Made when first needed. */
  queued: Uint32Array | null = null;

  /** A fresh table of guest frame `gfn` with one reference; its host page is all zeroes. */
  constructor(gfn: number, kind: TableKind, page: HostPage, handler: StoreHandler) {
    super(gfn, handler);
    this.kind = kind;
    this.page = page;
    this.lanes = page.lanes;
  }

  /** Frame that shadow entry `index` points to. */
  target(index: number): number {
    return frameOf(this.lanes[2 * index]!, this.lanes[2 * index + 1]!);
  }

  /** Stores shadow entry `index`. */
  store(index: number, lo: number, hi: number): void {
    this.lanes[2 * index] = lo;
    this.lanes[2 * index + 1] = hi;
  }

  /** Whether entry `index` waits for the flush. */
  isQueued(index: number): boolean {
    return this.queued !== null && (this.queued[index >>> 5]! & (1 << (index & 31))) !== 0;
  }

  /** Marks entry `index` as waiting for the flush. */
  queue(index: number): void {
    this.queued ??= new Uint32Array(BITMAP_WORDS);
    this.queued[index >>> 5]! |= 1 << (index & 31);
  }

  /** Entry `index` no longer waits for the flush. */
  unqueue(index: number): void {
    if (this.queued !== null) this.queued[index >>> 5]! &= ~(1 << (index & 31));
  }

  /** The indices that wait for the flush, ascending. */
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
