/**
 * Memory of which only the pages that are not zero take any room.
 *
 * @module
 */

import { PageCopy } from "../gtt/page_copy.ts";
import { isSamePage, type PageComparison } from "./memory_backing.ts";

const PAGE_BYTES = 4096;
const LANES = 1024;
/** Bytes alike between two that differ, below which they are told in one run: a new run takes as much to tell. */
const MIN_GAP = 8;
/** Bytes up to which a loop is faster than a view. */
const FEW_BYTES = 64;

/** A page of zeros. */
function newPage(): PageCopy {
  return new PageCopy(new Uint32Array(LANES));
}

/** What pages that take no room hold; it never changes. */
const NO_PAGE = newPage();

/**
 * The pages of a region that are not zero.
 *
 * @param gpa Guest physical address of the region.
 * @param pages Its bytes.
 * @returns Guest frame and lanes of each, by frame.
 */
export function pagesFrom(gpa: number, pages: SparsePages): [gfn: number, lanes: Uint32Array][] {
  return pages.nonZero().map(([number, lanes]) => [gpa / PAGE_BYTES + number, lanes]);
}

/** Bytes of a page that have changed. */
export type PageRun = readonly [offset: number, bytes: Uint8Array];

const NO_RUNS: readonly PageRun[] = [];

/** Pages would take more room than they may. */
export class PageLimitError extends Error {
  /** The class's name. */
  override readonly name = "PageLimitError";
}

/** How many pages may take room, of several runs of bytes together. */
export class PageBudget {
  readonly #most: number;
  #taken = 0;

  /** @param most Pages that may take room. */
  constructor(most: number) {
    this.#most = most;
  }

  /** A page takes room from now on. @throws {PageLimitError} When too many do. */
  take(): void {
    if (this.#taken >= this.#most) {
      throw new PageLimitError(`memory that is not zero would take more than ${this.#most} pages`);
    }
    this.#taken++;
  }

  /** Pages take no room any more. */
  giveBack(pages: number): void {
    this.#taken -= pages;
  }
}

/** The first of some bytes that a page does not have there, in whole lanes or pages; their number if it has all. */
function firstChange(page: PageCopy, offset: number, bytes: Uint8Array): number {
  const { buffer, byteOffset, length } = bytes;
  if (length === PAGE_BYTES && (byteOffset & 7) === 0) {
    const entries = new BigUint64Array(buffer, byteOffset, PAGE_BYTES / 8);
    return isSamePage(page.entries, 0, entries) ? length : 0;
  }
  if (length <= FEW_BYTES || ((offset | byteOffset | length) & 3) !== 0) return 0;
  const { lanes } = page;
  const others = new Uint32Array(buffer, byteOffset, length >>> 2);
  const first = offset >>> 2;
  let same = 0;
  while (same < others.length && lanes[first + same] === others[same]) same++;
  return 4 * same;
}

/** Puts bytes into a page. */
function put(page: PageCopy, offset: number, bytes: Uint8Array): void {
  const { bytes: held } = page;
  if (bytes.length > FEW_BYTES) held.set(bytes, offset);
  else for (let i = 0; i < bytes.length; i++) held[offset + i] = bytes[i]!;
}

/**
 * A flat run of bytes, all zero at first.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { SparsePages } from "./sparse_pages.ts";
 *
 * const pages = new SparsePages();
 * pages.set(0xffe, Uint8Array.of(1, 2, 3, 4)); // across two pages
 * const out = new Uint8Array(6);
 * pages.get(0xffd, out);
 * assertEquals([out, pages.dword(0x1000)], [Uint8Array.of(0, 1, 2, 3, 4, 0), 0x0403]);
 * ```
 */
export class SparsePages {
  readonly #pages = new Map<number, PageCopy>();
  readonly #compare: PageComparison | null;
  readonly #budget: PageBudget | null;
  #lastNumber = -1;
  #last: PageCopy | null = null;

  /**
   * Bytes that are all zero.
   *
   * @param compare Compares pages; without it a loop does.
   * @param budget How many pages may take room; `null`: all.
   */
  constructor(compare: PageComparison | null = null, budget: PageBudget | null = null) {
    this.#compare = compare;
    this.#budget = budget;
  }

  /** How many pages take room. */
  get size(): number {
    return this.#pages.size;
  }

  /**
   * One dword.
   *
   * @param at Offset in bytes, a multiple of 4.
   */
  dword(at: number): number {
    const page = this.#find(Math.floor(at / PAGE_BYTES));
    return page === null ? 0 : page.lanes[at % PAGE_BYTES >>> 2]!;
  }

  /**
   * One page as it is, not to be changed, and of use until anything is.
   *
   * @param number Which page.
   */
  page(number: number): PageCopy {
    return this.#find(number) ?? NO_PAGE;
  }

  /**
   * Makes a page what another one is.
   *
   * @param number Which page.
   * @param source Of these pages or others.
   */
  setPage(number: number, source: PageCopy): void {
    if (source !== NO_PAGE) this.#make(number).bytes.set(source.bytes);
    else this.#find(number)?.bytes.fill(0);
  }

  /**
   * Bytes, of as many pages as they touch.
   *
   * @param at Offset in bytes.
   * @param out Filled whole.
   */
  get(at: number, out: Uint8Array): void {
    for (let done = 0; done < out.length;) {
      const offset = (at + done) % PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - offset, out.length - done);
      const page = this.#find(Math.floor((at + done) / PAGE_BYTES));
      if (page === null) out.fill(0, done, done + count);
      else out.set(page.bytes.subarray(offset, offset + count), done);
      done += count;
    }
  }

  /**
   * Changes bytes, of as many pages as they touch.
   *
   * @param at Offset in bytes.
   * @param bytes What is there from now on.
   * @throws {PageLimitError} When they would take more room than they may.
   */
  set(at: number, bytes: Uint8Array): void {
    const first = at % PAGE_BYTES;
    if (first + bytes.length <= PAGE_BYTES) return put(this.#make(Math.floor(at / PAGE_BYTES)), first, bytes);
    for (let done = 0; done < bytes.length;) {
      const offset = (at + done) % PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - offset, bytes.length - done);
      this.#make(Math.floor((at + done) / PAGE_BYTES)).bytes.set(bytes.subarray(done, done + count), offset);
      done += count;
    }
  }

  /**
   * Whether a page holds what a copy does.
   *
   * @param number Which page.
   * @param copy What to compare it with.
   */
  holds(number: number, copy: PageCopy): boolean {
    const page = this.page(number);
    if (this.#compare !== null) return this.#compare(page.bytes, copy.bytes);
    return isSamePage(page.entries, 0, copy.entries);
  }

  /**
   * The pages that are not zero.
   *
   * @returns Number and lanes of each, by number.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { SparsePages } from "./sparse_pages.ts";
   *
   * const pages = new SparsePages();
   * for (const at of [0x3000, 0x1000]) pages.set(at, Uint8Array.of(7));
   * pages.set(0x3000, Uint8Array.of(0));
   * assertEquals(pages.nonZero().map(([number, lanes]) => [number, lanes[0]]), [[1, 7]]);
   * ```
   */
  nonZero(): [number: number, lanes: Uint32Array][] {
    return [...this.#pages].filter(([, { lanes }]) => lanes.some((lane) => lane !== 0))
      .map(([number, { lanes }]): [number, Uint32Array] => [number, lanes])
      .sort(([a], [b]) => a - b);
  }

  /** Makes all bytes zero, which takes no room. */
  clear(): void {
    this.#budget?.giveBack(this.#pages.size);
    this.#pages.clear();
    this.#lastNumber = -1;
    this.#last = null;
  }

  /**
   * Takes over what bytes within one page are, and tells which of them were not.
   *
   * @param at Offset of the first in bytes.
   * @param bytes What is there, up to the page's end at most.
   * @returns What has changed, by offset in the page; empty: nothing.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { SparsePages } from "./sparse_pages.ts";
   *
   * const pages = new SparsePages();
   * assertEquals(pages.update(0x1010, Uint8Array.of(0, 7, 0)), [[0x11, Uint8Array.of(7)]]);
   * assertEquals([pages.update(0x1010, Uint8Array.of(0, 7, 0)), pages.dword(0x1010)], [[], 0x700]);
   * ```
   */
  update(at: number, bytes: Uint8Array): readonly PageRun[] {
    const number = Math.floor(at / PAGE_BYTES);
    const offset = at % PAGE_BYTES;
    const page = this.page(number);
    const { bytes: held } = page;
    let start = firstChange(page, offset, bytes);
    while (start < bytes.length && bytes[start] === held[offset + start]) start++;
    if (start === bytes.length) return NO_RUNS;
    let last = bytes.length - 1;
    while (bytes[last] === held[offset + last]) last--;
    const runs: PageRun[] = [];
    let end = start + 1;
    for (let i = end; i <= last; i++) {
      if (bytes[i] === held[offset + i]) continue;
      if (i - end >= MIN_GAP) {
        runs.push([offset + start, bytes.slice(start, end)]);
        start = i;
      }
      end = i + 1;
    }
    runs.push([offset + start, bytes.slice(start, end)]);
    put(this.#make(number), offset, bytes);
    return runs;
  }

  #find(number: number): PageCopy | null {
    if (number === this.#lastNumber) return this.#last;
    this.#lastNumber = number;
    return this.#last = this.#pages.get(number) ?? null;
  }

  #make(number: number): PageCopy {
    const found = this.#find(number);
    if (found !== null) return found;
    this.#budget?.take();
    const page = newPage();
    this.#pages.set(number, page);
    return this.#last = page;
  }
}
