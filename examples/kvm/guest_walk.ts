/**
 * The guest's own page tables, walked in the guest's memory by nothing but the format's definition. Shares no code with the
 * device, so agreement means something.
 *
 * @module
 */

import { type GuestRam, PAGE } from "./guest_ram.ts";

/** A page table as a guest announces it. */
export interface AddressSpace {
  /** 3 or 4. */
  readonly level: number;
  /** Addresses of the top tables: four with 3 levels, else the first counts. */
  readonly roots: readonly bigint[];
}

const PRESENT = 1n;
/** Bits 12..45. */
const FRAME = 0x3fff_ffff_f000n;
/** Lowest address bit of each index below the root, by level. */
const SHIFTS: Readonly<Record<number, readonly bigint[]>> = { 4: [39n, 30n, 21n, 12n], 3: [21n, 12n] };
const INDEX = 0x1ffn;
/** With 3 levels the top two address bits choose a root. */
const ROOT_SHIFT = 30n;

/** Where a graphics address leads. @returns A guest physical address, or `null` if it is not mapped. */
export function walk(ram: GuestRam, { level, roots }: AddressSpace, gma: bigint): number | null {
  let table = roots[level === 4 ? 0 : Number(gma >> ROOT_SHIFT & 3n)]! & FRAME;
  if (table === 0n) return null;
  for (const shift of SHIFTS[level]!) {
    const entry = entryAt(ram, table, Number(gma >> shift & INDEX));
    if ((entry & PRESENT) === 0n) return null;
    table = entry & FRAME;
  }
  return Number(table | gma & BigInt(PAGE - 1));
}

/**
 * Graphics addresses that tell most: each that is mapped, and for each table those just beside what it maps, its first and last.
 *
 * @param ram Guest RAM.
 * @param space The page table.
 * @param most Roughly how many addresses at most.
 * @returns Addresses of pages, without repetition.
 */
export function tellingAddresses(ram: GuestRam, { level, roots }: AddressSpace, most: number): bigint[] {
  const found = new Set<bigint>();
  const visit = (table: bigint, shifts: readonly bigint[], gma: bigint) => {
    const [shift, ...lower] = shifts;
    for (let index = 0; index < 512; index++) {
      if (found.size >= most) return;
      const entry = entryAt(ram, table, index);
      if ((entry & PRESENT) === 0n) continue;
      for (const each of new Set([index, index ^ 1, index - 1, index + 1, 0, 511])) {
        if (each >= 0 && each < 512) found.add(gma | BigInt(each) << shift!);
      }
      if (lower.length > 0) visit(entry & FRAME, lower, gma | BigInt(index) << shift!);
    }
  };
  if (level === 4) visit(roots[0]! & FRAME, SHIFTS[4]!, 0n);
  else {
    roots.forEach((root, slot) => {
      found.add(BigInt(slot) << ROOT_SHIFT);
      if (root !== 0n) visit(root & FRAME, SHIFTS[3]!, BigInt(slot) << ROOT_SHIFT);
    });
  }
  return [...found];
}

/** An entry of a table; 0 if the table is not in RAM. */
function entryAt(ram: GuestRam, table: bigint, index: number): bigint {
  const gpa = Number(table) + 8 * index;
  return ram.offsetOf(gpa) < 0 ? 0n : ram.load(gpa);
}
