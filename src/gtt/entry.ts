/**
 * Page-table entries of gen8 and gen9 (`engine.md` §3).
 *
 * An entry is 64 bits wide and is handled as two 32-bit lanes, `lo` and `hi`: bit 0 present, bit 7 page size (PDE and
 * PDP only), bits 12..45 the frame. Everything else is carried unchanged. Frames fit a `number`; no bigint is needed.
 *
 * @module
 */

/** Bytes a page. */
export const PAGE_SIZE = 4096;
/** Entries a table page. */
export const ENTRIES = 512;
/** 32-bit lanes a table page. */
export const LANES = 1024;
/** Bit 0 of the low lane: the entry maps something. */
export const PRESENT = 0x1;
/** Bit 1 of the low lane: stores are allowed. */
export const WRITABLE = 0x2;
/** Bit 7 of the low lane of a PDE or PDP: the entry is a 2 MiB or 1 GiB leaf. In a PTE the same bit is PAT. */
export const PAGE_LARGE = 0x80;
/** The bits of the low lane that are not frame. */
export const FLAGS_LO = 0xfff;
/** The bits of the high lane that are frame (bits 32..45 of the entry). */
export const FRAME_HI = 0x3fff;
/** Frames whose low part one lane holds: the low lane has 20 frame bits. */
const FRAMES_PER_HI = 0x100000;

/** The tables, lowest first; a directory's child is of the kind below its own. */
export const PTE = 1;
/** A table of page-directory entries, each leading to a PTE table. */
export const PDE = 2;
/** A table of page-directory pointers, each leading to a PDE table. */
export const PDP = 3;
/** The root table of a 4-level address space, leading to PDP tables. */
export const PML4 = 4;

/** Kind of a table page: {@linkcode PTE}, {@linkcode PDE}, {@linkcode PDP} or {@linkcode PML4}. */
export type TableKind = 1 | 2 | 3 | 4;

/** The kinds in ascending order. */
export const TABLE_KINDS: readonly TableKind[] = [PTE, PDE, PDP, PML4];

const KIND_NAMES = ["", "PTE", "PDE", "PDP", "PML4"] as const;

/** The documented name of a table kind: "PTE", "PDE", "PDP" or "PML4". */
export function kindName(kind: TableKind): string {
  return KIND_NAMES[kind];
}

/**
 * The kind of table that a directory entry leads to.
 *
 * @param kind A directory: PDE, PDP or PML4.
 */
export function childKind(kind: TableKind): TableKind {
  return (kind - 1) as TableKind;
}

/** Whether an entry read from a table of this kind is a 2 MiB or 1 GiB leaf (`engine.md` §3.1). */
export function isLarge(kind: TableKind, lo: number): boolean {
  return (lo & PAGE_LARGE) !== 0 && (kind === PDE || kind === PDP);
}

/**
 * The frame of a 4 KiB entry or of a directory entry.
 *
 * @param lo Low lane.
 * @param hi High lane.
 * @returns Frame number, below 2^34.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { frameOf } from "./entry.ts";
 *
 * assertEquals(frameOf(0x12345083, 0x8000_0001), 0x112345); // bit 63 is a flag, not frame
 * ```
 */
export function frameOf(lo: number, hi: number): number {
  return (lo >>> 12) + (hi & FRAME_HI) * FRAMES_PER_HI;
}

/** The low lane with its frame bits replaced by those of `frame` (below 2^34). */
export function withFrameLo(lo: number, frame: number): number {
  return ((lo & FLAGS_LO) | (frame << 12)) >>> 0;
}

/** The high lane with its frame bits replaced by those of `frame` (below 2^34). */
export function withFrameHi(hi: number, frame: number): number {
  return ((hi & ~FRAME_HI) | (frame / FRAMES_PER_HI & FRAME_HI)) >>> 0;
}
