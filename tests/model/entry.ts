/**
 * Table kinds and the bits of a 64-bit entry (engine.md §3).
 *
 * @module
 */

/** Kinds of table, lowest first. */
export const TABLE_KINDS = ["PTE", "PDE", "PDP", "PML4"] as const;
/** Kind of a table. */
export type TableKind = (typeof TABLE_KINDS)[number];

/** Entries in a table page. */
export const ENTRIES: number = 512;
/** Bits 12..45, the frame. */
const FRAME_FIELD = 0x3fff_ffff_f000n;
const PRESENT = 1n;
/** Page size in a PDE or PDP entry, PAT in a leaf. */
const BIT_7 = 0x80n;

/** The frame in an entry. */
export function frameOf(entry: bigint): number {
  return Number((entry & FRAME_FIELD) >> 12n);
}

/** The entry with another frame. */
export function withFrame(entry: bigint, frame: number): bigint {
  return flagsOf(entry) | ((BigInt(frame) << 12n) & FRAME_FIELD);
}

/** Everything in an entry but the frame. */
export function flagsOf(entry: bigint): bigint {
  return entry & ~FRAME_FIELD;
}

/** Whether a table entry is present. Root pointers have their own rule. */
export function isPresent(entry: bigint): boolean {
  return (entry & PRESENT) !== 0n;
}

/** Whether an entry of such a table is a large page, present or not. */
export function isLarge(table: TableKind, entry: bigint): boolean {
  return (table === "PDE" || table === "PDP") && (entry & BIT_7) !== 0n;
}

/** The kind of table that entries of a directory lead to. */
export function childKind(table: TableKind): TableKind {
  const below = TABLE_KINDS[TABLE_KINDS.indexOf(table) - 1];
  if (below === undefined) throw new Error(`A ${table} table has no child tables`);
  return below;
}

/** The kind of table that root pointers lead to. */
export function rootTableKind(level: number): TableKind {
  return level === 4 ? "PML4" : "PDE";
}

/** Whether a root is a 1 GiB page: bit 7 of a level-3 root. Level-4 roots ignore it. */
export function isLargeRoot(level: number, root: bigint): boolean {
  return level === 3 && (root & BIT_7) !== 0n;
}

/** Whether a root is present: not zero, or, where bit 7 makes it a 1 GiB page, bit 0. */
export function isRootPresent(level: number, root: bigint): boolean {
  return isLargeRoot(level, root) ? isPresent(root) : root !== 0n;
}
