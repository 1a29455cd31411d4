/**
 * What holds the bytes of a region of guest RAM.
 *
 * A backing is a flat run of bytes, 0 to its size; it knows nothing of guest addresses. Whoever calls stays
 * inside it (the region map does), and a backing still refuses what does not: memory after the end is never
 * touched. No call throws because of the host: a file that got shorter, an I/O error or a closed backing is
 * `false`.
 *
 * No caller ever gets a view of the bytes themselves, only copies. So nothing can outlive
 * {@linkcode Backing.close}, after which mapped memory is gone (`engine.md` §15, 30).
 *
 * The guest may store to shared memory while it is being read here, between the two lanes of an entry as
 * well. That is harmless: what was read is what is checked, and nothing is read twice.
 *
 * @module
 */

import type { PageCopy } from "../gtt/page_copy.ts";

/**
 * - `local`: memory of this process, filled by the VMM's writes.
 * - `file`: a file, read and written by position.
 * - `mapped`: a file's memory, shared.
 * - `message`: memory that stays the VMM's, and is asked for by messages.
 */
export type BackingKind = "local" | "file" | "mapped" | "message";

/** The bytes of one region. */
export interface Backing {
  /** How the bytes are reached. */
  readonly kind: BackingKind;
  /** Whether {@linkcode Backing.write} is refused. */
  readonly isReadonly: boolean;
  /**
   * Reads one 8-byte entry. Allocates nothing.
   *
   * @param at Offset in bytes, a multiple of 8.
   * @param out Receives the low lane at 0, the high lane at 1; untouched on failure.
   * @returns Whether it was read.
   */
  readEntry(at: number, out: Uint32Array): boolean;
  /**
   * Reads one page of 4 KiB.
   *
   * @param at Offset in bytes, a multiple of 4096.
   * @param out At least 1024 lanes; untouched on failure.
   * @returns Whether it was read.
   */
  readPage(at: number, out: Uint32Array): boolean;
  /**
   * Whether a page of 4 KiB is known to hold what a copy does.
   *
   * @param at Offset in bytes, a multiple of 4096.
   * @param copy What to compare it with.
   * @returns Whether all bytes are the same; `false` also where finding out would cost as much as reading the page.
   */
  holdsPage(at: number, copy: PageCopy): boolean;
  /**
   * Reads bytes.
   *
   * @param at Offset in bytes.
   * @param out Filled whole; untouched on failure.
   * @returns Whether they were read.
   */
  read(at: number, out: Uint8Array): boolean;
  /**
   * Writes bytes.
   *
   * @param at Offset in bytes.
   * @param bytes Written whole; if the host fails half way, the first part may have been written.
   * @returns Whether all were written.
   */
  write(at: number, bytes: Uint8Array): boolean;
  /** Gives up the bytes: every later access is `false`. Legal more than once. */
  close(): void;
}
