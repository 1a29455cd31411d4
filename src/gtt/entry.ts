/**
 * Page-table entries of gen8 and gen9 (`engine.md` §3).
 *
 * An entry is 64 bits wide and is handled as two 32-bit lanes, `lo` and `hi`: bit 0 present, bit 7 page size
 * (PDE and PDP only), bits 12..45 the frame. Everything else is carried unchanged. Frames fit a `number`; no
 * bigint is needed. Of a 2 MiB page only bits 21..45 are frame (§17).
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
/** Bit 7 of the low lane of a PDE or PDP: the entry is a 2 MiB or 1 GiB leaf. In a PTE the same bit is PAT. */
export const PAGE_LARGE = 0x80;
/** Bit 11 of the low lane of a PDE: its PTE table has 64 KiB pages (`engine.md` §17). */
export const IPS = 0x800;
/** Bit 6 of the low lane: the page of a leaf was written to. */
export const DIRTY = 0x40;
/** Bit 12 of the low lane of a 2 MiB page: what bit 7 is in a PTE. */
export const PAT_LARGE = 0x1000;
/** Frames of a 2 MiB page. */
export const LARGE_FRAMES = 512;
/** Frames of a 64 KiB page, and entries a page in its table, of which the first counts. */
export const FRAMES_64K = 16;
/** The bits of the low lane that are not frame. */
export const FLAGS_LO = 0xfff;
/** The bits of the low lane of a 2 MiB page that are not frame. */
export const LARGE_FLAGS_LO = 0x1fffff;
/** The bits of the high lane that are frame (bits 32..45 of the entry). */
export const FRAME_HI = 0x3fff;
/** Frames whose low part one lane holds: the low lane has 20 frame bits. */
const FRAMES_PER_HI = 0x100000;

/**
 * A table of page-table entries, the lowest: its entries are leaves. A directory's child is of the kind below
 * its own.
 */
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

/**
 * The documented name of a table kind (`engine.md` §3.1).
 *
 * @param kind The kind, 1..4.
 * @returns "PTE", "PDE", "PDP" or "PML4".
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { kindName, TABLE_KINDS } from "./entry.ts";
 *
 * assertEquals(TABLE_KINDS.map(kindName), ["PTE", "PDE", "PDP", "PML4"]);
 * ```
 */
export function kindName(kind: TableKind): string {
  return KIND_NAMES[kind];
}

/**
 * The kind of table that a directory entry leads to (`engine.md` §3.1).
 *
 * @param kind A directory: PDE, PDP or PML4. A PTE table has no children.
 * @returns The kind below.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { childKind, PDE, PDP, PML4 } from "./entry.ts";
 *
 * assertEquals(childKind(PML4), PDP);
 * assertEquals(childKind(PDP), PDE);
 * ```
 */
export function childKind(kind: TableKind): TableKind {
  return (kind - 1) as TableKind;
}

/**
 * Whether an entry read from a table of this kind is a 2 MiB or 1 GiB leaf (`engine.md` §3.1).
 *
 * @param kind The table that holds the entry.
 * @param lo Low lane of the entry.
 * @returns Whether bit 7 is set and means page size; presence is not looked at.
 *
 * @example Bit 7 is PAT in a PTE and nothing in a PML4 entry
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { isLarge, TABLE_KINDS } from "./entry.ts";
 *
 * assertEquals(TABLE_KINDS.map((kind) => isLarge(kind, 0x83)), [false, true, true, false]);
 * ```
 */
export function isLarge(kind: TableKind, lo: number): boolean {
  return (lo & PAGE_LARGE) !== 0 && (kind === PDE || kind === PDP);
}

/**
 * The frame of a 4 KiB entry or of a directory entry: bits 12..45 (`engine.md` §3).
 *
 * @param lo Low lane, 32 bits.
 * @param hi High lane, 32 bits.
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

/**
 * The low lane of an entry with another frame; its flags stay (`engine.md` §3).
 *
 * @param lo Low lane, 32 bits.
 * @param frame Frame number, below 2^34.
 * @returns The new low lane.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { withFrameLo } from "./entry.ts";
 *
 * assertEquals(withFrameLo(0x12345083, 0x300005), 0x5083);
 * ```
 */
export function withFrameLo(lo: number, frame: number): number {
  return ((lo & FLAGS_LO) | (frame << 12)) >>> 0;
}

/**
 * The high lane of an entry with another frame; its flags, bits 46..63 of the entry, stay (`engine.md` §3).
 *
 * @param hi High lane, 32 bits.
 * @param frame Frame number, below 2^34.
 * @returns The new high lane.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { withFrameHi } from "./entry.ts";
 *
 * assertEquals(withFrameHi(0x8000_0001, 0x300005), 0x8000_0003);
 * ```
 */
export function withFrameHi(hi: number, frame: number): number {
  return ((hi & ~FRAME_HI) | (frame / FRAMES_PER_HI & FRAME_HI)) >>> 0;
}

/**
 * The first frame of a 2 MiB page: bits 21..45 of its entry (`engine.md` §17).
 *
 * @param lo Low lane, 32 bits; bits 12..20 are flags.
 * @param hi High lane, 32 bits.
 * @returns Frame number, a multiple of {@linkcode LARGE_FRAMES}.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { largeFrameOf } from "./entry.ts";
 *
 * assertEquals(largeFrameOf(0x12345083, 1), 0x112200);
 * ```
 */
export function largeFrameOf(lo: number, hi: number): number {
  return (lo >>> 21) * LARGE_FRAMES + (hi & FRAME_HI) * FRAMES_PER_HI;
}

/**
 * The low lane of a 2 MiB page with another frame; its flags, bits 12..20 included, stay (`engine.md` §17). The
 * high lane is that of {@linkcode withFrameHi}.
 *
 * @param lo Low lane, 32 bits.
 * @param frame Frame number, a multiple of {@linkcode LARGE_FRAMES}.
 * @returns The new low lane.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { withLargeFrameLo } from "./entry.ts";
 *
 * assertEquals(withLargeFrameLo(0x12345083, 0x400), 0x545083);
 * ```
 */
export function withLargeFrameLo(lo: number, frame: number): number {
  return ((lo & LARGE_FLAGS_LO) | (frame << 12)) >>> 0;
}
