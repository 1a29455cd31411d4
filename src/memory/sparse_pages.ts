/**
 * Memory of which only the pages that are not zero take any room.
 *
 * @module
 */

import { isSamePage } from "./memory_backing.ts";

const PAGE_BYTES = 4096;
const LANES = 1024;
/** Bytes alike between two that differ, below which they are told in one run: a new run takes as much to tell. */
const MIN_GAP = 8;

/** A page of zeros. */
function newPage(): Page {
  const lanes = new Uint32Array(LANES);
  const { buffer } = lanes;
  return { lanes, bytes: new Uint8Array(buffer), entries: new BigUint64Array(buffer) };
}

/** What pages that take no room hold; it never changes. */
const NO_PAGE = newPage();

/** Whether bytes are what a page has there; `false` also where it takes a closer look. */
function isSame({ entries, lanes }: Page, offset: number, bytes: Uint8Array): boolean {
  const { buffer, byteOffset, length } = bytes;
  if (length === PAGE_BYTES && (byteOffset & 7) === 0) {
    return isSamePage(entries, 0, new BigUint64Array(buffer, byteOffset, PAGE_BYTES / 8));
  }
  if (((offset | byteOffset | length) & 3) !== 0) return false;
  const others = new Uint32Array(buffer, byteOffset, length >>> 2);
  const first = offset >>> 2;
  for (let i = 0; i < others.length; i++) if (lanes[first + i] !== others[i]) return false;
  return true;
}

/** Bytes of a page that have changed. */
export type PageRun = readonly [offset: number, bytes: Uint8Array];

/** A page in the two forms that it is accessed in. */
interface Page {
  readonly entries: BigUint64Array;
  readonly lanes: Uint32Array;
  readonly bytes: Uint8Array;
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
  readonly #pages = new Map<number, Page>();
  #lastNumber = -1;
  #last: Page | null = null;

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
   */
  set(at: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length;) {
      const offset = (at + done) % PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - offset, bytes.length - done);
      this.#make(Math.floor((at + done) / PAGE_BYTES)).bytes.set(bytes.subarray(done, done + count), offset);
      done += count;
    }
  }

  /**
   * Whether a page holds these entries.
   *
   * @param number Which page.
   * @param entries 512 of them.
   */
  holds(number: number, entries: BigUint64Array): boolean {
    const { entries: held } = this.#find(number) ?? NO_PAGE;
    return isSamePage(held, 0, entries);
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
  update(at: number, bytes: Uint8Array): PageRun[] {
    const number = Math.floor(at / PAGE_BYTES);
    const offset = at % PAGE_BYTES;
    const page = this.#find(number) ?? NO_PAGE;
    const runs: PageRun[] = [];
    if (isSame(page, offset, bytes)) return runs;
    let start = -1;
    let end = -1;
    for (let i = 0; i < bytes.length; i++) {
      if (bytes[i] === page.bytes[offset + i]) continue;
      if (start >= 0 && i - end >= MIN_GAP) {
        runs.push([offset + start, bytes.slice(start, end)]);
        start = i;
      }
      if (start < 0) start = i;
      end = i + 1;
    }
    if (start < 0) return runs;
    runs.push([offset + start, bytes.slice(start, end)]);
    this.#make(number).bytes.set(bytes, offset);
    return runs;
  }

  #find(number: number): Page | null {
    if (number === this.#lastNumber) return this.#last;
    this.#lastNumber = number;
    return this.#last = this.#pages.get(number) ?? null;
  }

  #make(number: number): Page {
    const found = this.#find(number);
    if (found !== null) return found;
    const page = newPage();
    this.#pages.set(number, page);
    return this.#last = page;
  }
}
