/**
 * What the engine asks of its host (`engine.md` §1.1): guest memory, frame translation, write protection,
 * host pages and the host's GGTT. The engine never reaches any of these in another way, so a host may be a
 * real guest behind a socket, a simulation in a test, or either of them with faults injected.
 *
 * @module
 */

import type { PageCopy } from "./page_copy.ts";

/** An invalid host frame number: the answer of {@linkcode GttHost.gfnToMfn} when a frame cannot be pinned. */
export const INVALID_MFN: number = -1;

/** One host page: 512 entries of 8 bytes as 1024 32-bit lanes, low lane first. */
export interface HostPage {
  /** The page's own DMA frame number; {@linkcode INVALID_MFN} until it is mapped. */
  mfn: number;
  /** 1024 lanes; entry `i` is `lanes[2 * i]` (low) and `lanes[2 * i + 1]` (high). */
  readonly lanes: Uint32Array;
}

/** The services of `engine.md` §1.1. All are synchronous; failures are results, never exceptions. */
export interface GttHost {
  /**
   * Reads one 8-byte entry of guest memory.
   *
   * @param gpa Guest physical address, bytes, a multiple of 8.
   * @param out Receives the low lane at 0 and the high lane at 1; untouched on failure.
   * @returns 0, or a negative errno (-EFAULT outside guest RAM).
   */
  readEntry(gpa: number, out: Uint32Array): number;
  /**
   * Reads one whole 4 KiB page of guest memory.
   *
   * @param gfn Guest frame number.
   * @param out At least 1024 lanes; untouched on failure.
   * @returns 0, or a negative errno.
   */
  readPage(gfn: number, out: Uint32Array): number;
  /**
   * Whether a page of guest memory is known to hold what a copy does: asked of each table in turn where nothing traps
   * (`engine.md` §16.1), so this should cost less than {@linkcode readPage}.
   *
   * @param gfn Guest frame number.
   * @param copy What to compare it with.
   * @returns Whether all bytes are the same; `false` also if that cannot be said cheaply, or the page cannot be read.
   */
  holdsPage(gfn: number, copy: PageCopy): boolean;
  /**
   * Whether a frame is visible guest RAM.
   *
   * @param gfn Guest frame number, below 2^34.
   * @returns Whether it is.
   */
  isValidGfn(gfn: number): boolean;
  /**
   * Pins a guest frame. Independent of {@linkcode isValidGfn}: the two can disagree.
   *
   * @param gfn Guest frame number, below 2^34.
   * @returns Its DMA frame number, or {@linkcode INVALID_MFN}.
   */
  gfnToMfn(gfn: number): number;
  /**
   * How many guest frames from one on are valid, can be pinned, and have host frames that follow one another. So a
   * whole large page is looked at by a few questions (`engine.md` §17).
   *
   * @param gfn First guest frame, below 2^34.
   * @param frames How many at most, 1 or more.
   * @returns 0 if the first one is not valid or has no host frame; else 1..`frames`: frame `gfn + i` has host frame
   *   `gfnToMfn(gfn) + i` for each `i` below it.
   */
  gfnRun(gfn: number, frames: number): number;
  /**
   * Starts or stops trapping the guest's stores to a frame.
   *
   * @param gfn Guest frame number.
   * @param on Whether they should trap.
   * @returns 0, or a negative errno (-EINVAL if the frame is not RAM); then nothing changed.
   */
  protect(gfn: number, on: boolean): number;
  /**
   * Takes a host page.
   *
   * @returns A zeroed page that is not mapped yet, or `null` when there is no memory.
   */
  allocPage(): HostPage | null;
  /**
   * Maps a page for DMA and fills in its `mfn`.
   *
   * @param page A page of {@linkcode allocPage}.
   * @returns `false` if that fails.
   */
  mapPage(page: HostPage): boolean;
  /**
   * Gives a page back.
   *
   * @param page A page of {@linkcode allocPage}, mapped or not.
   */
  freePage(page: HostPage): void;
  /**
   * Stores one entry of the host's GGTT.
   *
   * @param index Entry, 0 or more.
   * @param lo Low lane.
   * @param hi High lane.
   */
  storeGgtt(index: number, lo: number, hi: number): void;
  /** Makes the device drop its cached GGTT entries. */
  flushGgtt(): void;
}
