/**
 * Guest RAM in memory that this process can reach.
 *
 * @module
 */

import type { PageCopy } from "../gtt/page_copy.ts";
import type { Backing, BackingKind } from "./backing.ts";

/**
 * Compares two pages of 4 KiB, faster than a loop does.
 *
 * @param a 4096 bytes.
 * @param b 4096 bytes.
 * @returns Whether all of them are the same.
 */
export type PageComparison = (a: Uint8Array<ArrayBuffer>, b: Uint8Array<ArrayBuffer>) => boolean;

const NO_BYTES = new Uint8Array(0);
const NO_LANES = new Uint32Array(0);
const NO_ENTRIES = new BigUint64Array(0);
const PAGE_BYTES = 4096;
const LANES_PER_PAGE = 1024;
const ENTRIES_PER_PAGE = 512;
/** Views of pages that are kept at most; there are no more page tables. */
const MAX_PAGE_VIEWS = 65536;
/** What a load of the guest's has at most, bytes. */
const LOAD_BYTES = 8;

/**
 * Bytes in memory that this process can reach: its own, or a file's that is mapped.
 *
 * The views live in private fields only, and closing replaces them: after that, no code holds an address in
 * the memory. (Detaching the buffer would say the same twice, but makes every typed array of the process
 * slower from then on.)
 */
export class MemoryBacking implements Backing {
  /** How the bytes are reached. */
  readonly kind: BackingKind;
  /** Whether writes are refused. */
  readonly isReadonly: boolean;
  readonly #release: () => void;
  #bytes: Uint8Array<ArrayBuffer>;
  #lanes: Uint32Array;
  #entries: BigUint64Array;
  readonly #compare: PageComparison | null;
  /** The pages that are compared again and again, by number: a view costs more than comparing does. */
  readonly #pages = new Map<number, Uint8Array<ArrayBuffer>>();

  /**
   * Takes over a buffer.
   *
   * @param kind How the bytes are reached.
   * @param buffer The bytes; a multiple of 8 long. Nobody else may keep it.
   * @param readonly Whether {@linkcode write} is refused; a store to memory mapped read-only would kill the
   * process.
   * @param release Called once, at the first {@linkcode close}, when no view of the buffer is left.
   * @param compare Compares pages; without it a loop does.
   */
  constructor(
    kind: BackingKind,
    buffer: ArrayBuffer,
    readonly: boolean,
    release: () => void = () => {},
    compare: PageComparison | null = null,
  ) {
    this.kind = kind;
    this.isReadonly = readonly;
    this.#release = release;
    this.#bytes = new Uint8Array(buffer);
    this.#lanes = new Uint32Array(buffer);
    this.#entries = new BigUint64Array(buffer);
    this.#compare = compare;
  }

  /** Reads one entry: see {@linkcode Backing.readEntry}. */
  readEntry(at: number, out: Uint32Array): boolean {
    const lanes = this.#lanes;
    const lane = at / 4;
    const lo = lanes[lane];
    const hi = lanes[lane + 1];
    if (lo === undefined || hi === undefined) return false;
    out[0] = lo;
    out[1] = hi;
    return true;
  }

  /** Reads one page: see {@linkcode Backing.readPage}. */
  readPage(at: number, out: Uint32Array): boolean {
    const lane = at / 4;
    if (lane + LANES_PER_PAGE > this.#lanes.length) return false;
    // One short-lived view: copying lane by lane would spare it and take five times as long.
    out.set(this.#lanes.subarray(lane, lane + LANES_PER_PAGE));
    return true;
  }

  /** Compares one page: see {@linkcode Backing.holdsPage}. */
  holdsPage(at: number, copy: PageCopy): boolean {
    if (at + PAGE_BYTES > this.#bytes.length) return false;
    if (this.#compare === null) return isSamePage(this.#entries, at / 8, copy.entries);
    return this.#compare(this.#pageAt(at), copy.bytes);
  }

  /** Reads bytes: see {@linkcode Backing.read}. */
  read(at: number, out: Uint8Array): boolean {
    if (at + out.length > this.#bytes.length) return false;
    if (out.length > LOAD_BYTES) out.set(this.#bytes.subarray(at, at + out.length));
    else if (((at | out.length) & 3) === 0) this.#readLanes(at, out);
    else for (let i = 0; i < out.length; i++) out[i] = this.#bytes[at + i]!;
    return true;
  }

  /** Writes bytes: see {@linkcode Backing.write}. */
  write(at: number, bytes: Uint8Array): boolean {
    if (this.isReadonly || at + bytes.length > this.#bytes.length) return false;
    this.#bytes.set(bytes, at);
    return true;
  }

  /**
   * Reads one dword, at once.
   *
   * @param at Offset in bytes, a multiple of 4.
   * @returns 32 bits, or -1 where there is none.
   */
  readDword(at: number): number {
    return this.#lanes[at / 4] ?? -1;
  }

  /**
   * Copies bytes from other memory, or within this one, as if all had been read before.
   *
   * @param source Where they are.
   * @param from Offset of the first there, bytes.
   * @param to Offset of the first here, bytes.
   * @param length How many there are.
   * @returns Whether they were written: all, or none.
   */
  copyFrom(source: MemoryBacking, from: number, to: number, length: number): boolean {
    if (this.isReadonly || to + length > this.#bytes.length || from + length > source.#bytes.length) {
      return false;
    }
    if (source === this) this.#bytes.copyWithin(to, from, from + length);
    else this.#bytes.set(source.#bytes.subarray(from, from + length), to);
    return true;
  }

  /** Gives up the bytes: see {@linkcode Backing.close}. */
  close(): void {
    if (this.#bytes === NO_BYTES) return;
    this.#bytes = NO_BYTES;
    this.#lanes = NO_LANES;
    this.#entries = NO_ENTRIES;
    this.#pages.clear();
    this.#release();
  }

  #pageAt(at: number): Uint8Array<ArrayBuffer> {
    const number = at / PAGE_BYTES;
    let page = this.#pages.get(number);
    if (page === undefined) {
      // Of pages that were tables once, some may still be here.
      if (this.#pages.size >= MAX_PAGE_VIEWS) this.#pages.clear();
      page = this.#bytes.subarray(at, at + PAGE_BYTES);
      this.#pages.set(number, page);
    }
    return page;
  }

  /** Reads whole lanes without a view, each at once: the guest may be storing to shared memory meanwhile. */
  #readLanes(at: number, out: Uint8Array): void {
    for (let i = 0; i < out.length; i += 4) {
      const lane = this.#lanes[(at + i) / 4]!;
      out[i] = lane;
      out[i + 1] = lane >>> 8;
      out[i + 2] = lane >>> 16;
      out[i + 3] = lane >>> 24;
    }
  }
}

/**
 * Compares a page with 512 entries, four at once: so the compiler keeps them in registers and makes no bigint.
 *
 * @param a Entries, of which the page's begin at `from`.
 * @param from The first of them.
 * @param b 512 entries.
 * @returns Whether they are the same.
 */
export function isSamePage(a: BigUint64Array, from: number, b: BigUint64Array): boolean {
  for (let i = 0; i < ENTRIES_PER_PAGE; i += 4) {
    const at = from + i;
    const changed = (a[at]! ^ b[i]!) | (a[at + 1]! ^ b[i + 1]!) | (a[at + 2]! ^ b[i + 2]!) |
      (a[at + 3]! ^ b[i + 3]!);
    if (BigInt.asUintN(64, changed) !== 0n) return false;
  }
  return true;
}
