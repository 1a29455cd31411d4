import type { PageCopy } from "../gtt/page_copy.ts";
import type { Backing, BackingKind } from "./backing.ts";
import { type PageBudget, SparsePages } from "./sparse_pages.ts";

const PAGE_BYTES = 4096;

/**
 * The bytes of a region that was somebody else's when it was recorded. It answers as a backing of that kind does.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { SparseBacking } from "./sparse_backing.ts";
 *
 * const backing = new SparseBacking("mapped", 2 ** 40, false); // no memory is taken
 * const entry = new Uint32Array(2);
 * assertEquals([backing.write(8, Uint8Array.of(3)), backing.readEntry(8, entry), entry[0]], [true, true, 3]);
 * ```
 */
export class SparseBacking implements Backing {
  /** How the bytes were reached. */
  readonly kind: BackingKind;
  /** Whether writes are refused. */
  readonly isReadonly: boolean;
  /** What they are. */
  readonly pages: SparsePages;
  readonly #size: number;

  /**
   * Bytes that are all zero.
   *
   * @param kind How the bytes were reached when they were recorded.
   * @param size Bytes.
   * @param readonly Whether writes are refused.
   * @param budget How many pages may take room; `null`: all.
   */
  constructor(kind: BackingKind, size: number, readonly: boolean, budget: PageBudget | null = null) {
    this.kind = kind;
    this.#size = size;
    this.isReadonly = readonly;
    this.pages = new SparsePages(null, budget);
  }

  /** Reads one entry: see {@linkcode Backing.readEntry}. */
  readEntry(at: number, out: Uint32Array): boolean {
    if (at + 8 > this.#size) return false;
    out[0] = this.pages.dword(at);
    out[1] = this.pages.dword(at + 4);
    return true;
  }

  /** Reads one page: see {@linkcode Backing.readPage}. */
  readPage(at: number, out: Uint32Array): boolean {
    return this.read(at, new Uint8Array(out.buffer, out.byteOffset, PAGE_BYTES));
  }

  /** Compares one page, if the recorded one did: see {@linkcode Backing.holdsPage}. */
  holdsPage(at: number, copy: PageCopy): boolean {
    return this.kind === "mapped" && at + PAGE_BYTES <= this.#size &&
      this.pages.holds(at / PAGE_BYTES, copy);
  }

  /** Reads bytes: see {@linkcode Backing.read}. */
  read(at: number, out: Uint8Array): boolean {
    if (at + out.length > this.#size) return false;
    this.pages.get(at, out);
    return true;
  }

  /** Writes bytes: see {@linkcode Backing.write}. */
  write(at: number, bytes: Uint8Array): boolean {
    if (this.isReadonly || at + bytes.length > this.#size) return false;
    this.pages.set(at, bytes);
    return true;
  }

  /** Gives up the bytes: see {@linkcode Backing.close}. */
  close(): void {
    this.pages.clear();
  }
}
