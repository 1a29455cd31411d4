/**
 * Page-table entries for people: what each bit is called, which frame it leads to (`engine.md` §3). Of gen8 and gen9; the
 * engine carries most bits unchanged, but who debugs a driver wants to see them by name.
 *
 * @module
 */

import {
  FLAGS_LO,
  FRAME_HI,
  frameOf,
  isLarge,
  kindName,
  LARGE_FLAGS_LO,
  largeFrameOf,
  PDP,
  PRESENT,
  TABLE_KINDS,
  type TableKind,
} from "../gtt/entry.ts";

/** What an entry is an entry of: a table of this kind, the roots of an address space, or the GGTT. */
export type EntryKind = "PTE" | "PDE" | "PDP" | "PML4" | "root" | "GGTT";

/** Whose entry: its frame is a guest frame or a host frame. */
export type Side = "guest" | "shadow";

/** An entry, decoded. */
export interface EntryText {
  /** All of it, 16 digits. */
  readonly hex: string;
  /** Whether it maps something; a root does if it is not 0. */
  readonly isPresent: boolean;
  /** Whether it is a page of 2 MiB or 1 GiB. */
  readonly isLarge: boolean;
  /** The frame it leads to, present or not; of a large page the first one. */
  readonly frame: number;
  /** Its flags, short: `P W U`; `-` for none. What has no name is there as `+0x200`. */
  readonly flags: string;
  /** Its flags in words, and what it leads to. */
  readonly words: string[];
}

/** One bit: its place, its letters, its words. */
type Bit = readonly [bit: number, letters: string, words: string];

const XD: Bit = [63, "XD", "execute disable"];
const COMMON: readonly Bit[] = [
  [0, "P", "present"],
  [1, "W", "writable"],
  [2, "U", "user"],
  [3, "PWT", "write-through (PWT)"],
  [4, "PCD", "cache disable (PCD)"],
  [5, "A", "accessed"],
];
const PAGE_BITS: readonly Bit[] = [...COMMON, [6, "D", "dirty"]];
const GLOBAL: Bit = [8, "G", "global"];
const IPS_BIT: Bit = [11, "IPS", "its table has pages of 64 KiB (IPS)"];
const BITS: Readonly<Record<EntryKind, readonly Bit[]>> = {
  PTE: [...PAGE_BITS, [7, "PAT", "PAT"], GLOBAL, XD],
  PDE: [...COMMON, IPS_BIT, XD],
  PDP: [...COMMON, XD],
  PML4: [...COMMON, XD],
  root: COMMON,
  GGTT: [[0, "P", "present"]],
};
const LARGE_BITS: readonly Bit[] = [
  ...PAGE_BITS,
  [7, "PS", "a large page (PS)"],
  GLOBAL,
  IPS_BIT,
  [12, "PAT", "PAT"],
  XD,
];
/** Frames of a 1 GiB page, and what of a low lane is not its frame. */
const [FRAMES_1G, FLAGS_1G] = [0x40000, 0x3fffffff];

/** The kind of entries that a table has. */
export function entryKind(kind: TableKind): EntryKind {
  return kindName(kind) as EntryKind;
}

/**
 * Decodes an entry.
 *
 * @param kind What it is an entry of.
 * @param lo Low lane, 32 bits.
 * @param hi High lane, 32 bits.
 * @param side Whose it is; default the guest's.
 * @returns Its parts.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { entryText } from "./entry_text.ts";
 *
 * const { flags, frame, words } = entryText("PTE", 0x1d30019, 0);
 * assertEquals([flags, frame], ["P PWT PCD", 0x1d30]);
 * assertEquals(words, ["present", "read-only", "write-through (PWT)", "cache disable (PCD)", "caching index 3", "gfn 0x1d30"]);
 * assertEquals(entryText("PDE", 0x2010e3, 0x80000000).flags, "P W A D PS PAT XD"); // a 2 MiB page
 * assertEquals(entryText("PDE", 0x201a03, 0).flags, "P W IPS +0x200"); // a table
 * ```
 */
export function entryText(kind: EntryKind, lo: number, hi: number, side: Side = "guest"): EntryText {
  const isPresent = kind === "root" ? lo !== 0 || hi !== 0 : (lo & PRESENT) !== 0;
  const isPage = isLargeEntry(kind, lo);
  const frame = entryFrame(kind, lo, hi);
  const set = bitsOf(kind, lo).filter(([bit]) => isSet(lo, hi, bit));
  const words = set.map(([, , text]) => text);
  if (isPresent && kind !== "GGTT" && kind !== "root" && !isSet(lo, hi, 1)) words.splice(1, 0, "read-only");
  if (kind === "PTE" || isPage) words.push(`caching index ${cachingIndex(isPage, lo)}`);
  const rest = restText(kind, lo, hi);
  if (rest !== null) words.push(`other bits ${rest}`);
  words.push(`${side === "guest" ? "gfn" : "mfn"} 0x${frame.toString(16)}`);
  if (!isPresent) words.unshift("not present");
  return {
    hex: hexEntry(lo, hi),
    isPresent,
    isLarge: isPage,
    frame,
    flags: flagLetters(kind, lo, hi),
    words,
  };
}

/**
 * The flags of an entry, short.
 *
 * @param kind What it is an entry of.
 * @param lo Low lane.
 * @param hi High lane.
 * @returns Letters with blanks between them; `-` for none.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { flagLetters } from "./entry_text.ts";
 *
 * assertEquals(flagLetters("PTE", 0x5083, 0), "P W PAT");
 * assertEquals(flagLetters("GGTT", 0x5003, 0), "P +0x2");
 * assertEquals(flagLetters("PML4", 0x5000, 0), "-");
 * ```
 */
export function flagLetters(kind: EntryKind, lo: number, hi: number): string {
  const letters = bitsOf(kind, lo).filter(([bit]) => isSet(lo, hi, bit)).map(([, text]) => text);
  const rest = restText(kind, lo, hi);
  if (rest !== null) letters.push(`+${rest}`);
  return letters.length === 0 ? "-" : letters.join(" ");
}

/**
 * All 64 bits of an entry.
 *
 * @param lo Low lane.
 * @param hi High lane.
 * @returns Hexadecimal, always 16 digits.
 */
export function hexEntry(lo: number, hi: number): string {
  return `0x${eightDigits(hi)}${eightDigits(lo)}`;
}

/**
 * The frame that an entry leads to: of a large page its first one.
 *
 * @param kind What it is an entry of.
 * @param lo Low lane.
 * @param hi High lane.
 * @returns Frame number, whether the entry is present or not.
 */
export function entryFrame(kind: EntryKind, lo: number, hi: number): number {
  if (!isLargeEntry(kind, lo)) return frameOf(lo, hi);
  const frame = largeFrameOf(lo, hi);
  return kind === "PDP" ? frame - frame % FRAMES_1G : frame;
}

/** Whether an entry with this low lane is a large page. */
function isLargeEntry(kind: EntryKind, lo: number): boolean {
  const table = TABLE_KINDS.find((each) => kindName(each) === kind);
  return table !== undefined && isLarge(table, lo);
}

function bitsOf(kind: EntryKind, lo: number): readonly Bit[] {
  return isLargeEntry(kind, lo) ? LARGE_BITS : BITS[kind];
}

/** The bits that are neither frame nor have a name, as text. */
function restText(kind: EntryKind, lo: number, hi: number): string | null {
  const isPage = isLargeEntry(kind, lo);
  let restLo = lo & (isPage ? kind === kindName(PDP) ? FLAGS_1G : LARGE_FLAGS_LO : FLAGS_LO);
  let restHi = hi & ~FRAME_HI;
  for (const [bit] of bitsOf(kind, lo)) {
    if (bit < 32) restLo &= ~(1 << bit);
    else restHi &= ~(1 << (bit - 32));
  }
  if (restLo === 0 && restHi === 0) return null;
  if (restHi === 0) return `0x${(restLo >>> 0).toString(16)}`;
  return `0x${(restHi >>> 0).toString(16)}${eightDigits(restLo)}`;
}

/** Which of the eight entries of the page attribute table a leaf asks for. */
function cachingIndex(isPage: boolean, lo: number): number {
  const pat = isSet(lo, 0, isPage ? 12 : 7) ? 4 : 0;
  return pat | (isSet(lo, 0, 4) ? 2 : 0) | (isSet(lo, 0, 3) ? 1 : 0);
}

function isSet(lo: number, hi: number, bit: number): boolean {
  return ((bit < 32 ? lo >>> bit : hi >>> (bit - 32)) & 1) !== 0;
}

function eightDigits(lane: number): string {
  return (lane >>> 0).toString(16).padStart(8, "0");
}
