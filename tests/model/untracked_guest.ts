/**
 * A guest that nobody watches: RAM that it changes as it likes, and what its page tables say at this moment by a plain
 * walk over that RAM (engine.md §3, §16). It knows nothing of shadows, snapshots or syncs.
 *
 * @module
 */

import {
  childKind,
  ENTRIES,
  frameOf,
  isLarge,
  isLargeRoot,
  isPresent,
  isRootPresent,
  rootTableKind,
  type TableKind,
} from "./entry.ts";

/** Guest frames that can ever be RAM. */
export const FRAMES = 64;

/** One address space, as announced. */
export interface Space {
  /** 3 or 4. */
  readonly level: 3 | 4;
  /** Four root values. */
  readonly roots: readonly bigint[];
}

/** The guest's memory and what is wrong with it. */
export class Guest {
  /** All entries of all frames, RAM or not. */
  readonly entries: BigUint64Array = new BigUint64Array(FRAMES * ENTRIES);
  /** Frames that are RAM now. */
  readonly ram: Set<number> = new Set();
  /** Frames of RAM that the host fails to read. */
  readonly unreadable: Set<number> = new Set();

  /** An entry of a table page; nothing where the page cannot be read. */
  entry(gfn: number, index: number): bigint {
    return this.unreadable.has(gfn) ? 0n : this.entries[gfn * ENTRIES + index] ?? 0n;
  }

  /** The table that an entry leads to: only a present one, that is no large page, to RAM. */
  table(kind: TableKind, entry: bigint): number | null {
    if (!isPresent(entry) || isLarge(kind, entry) || !this.ram.has(frameOf(entry))) return null;
    return frameOf(entry);
  }

  /** The tables that the roots of an address space lead to, by slot; null: the slot is not used. */
  roots({ level, roots }: Space): (number | null)[] {
    const used = level === 4 ? roots.slice(0, 1) : roots;
    return used.map((root) => isRootPresent(level, root) ? frameOf(root) : null);
  }

  /** Whether an address space can exist: each root that is used leads to RAM and is no large page. */
  canExist({ level, roots }: Space): boolean {
    const used = level === 4 ? roots.slice(0, 1) : roots;
    return used.every((root) => {
      return !isRootPresent(level, root) || !isLargeRoot(level, root) && this.ram.has(frameOf(root));
    });
  }

  /** The entry of the last table on the way to an address, or null where the way ends before. */
  walk(space: Space, gma: bigint): bigint | null {
    let gfn = this.roots(space)[space.level === 4 ? 0 : Number(gma >> 30n & 3n)];
    if (gfn === null || gfn === undefined) return null;
    const path: readonly [TableKind, bigint][] = [["PML4", 39n], ["PDP", 30n], ["PDE", 21n]];
    for (const [kind, shift] of space.level === 4 ? path : path.slice(2)) {
      gfn = this.table(kind, this.entry(gfn, Number(gma >> shift & 511n)));
      if (gfn === null) return null;
    }
    const leaf = this.entry(gfn, Number(gma >> 12n & 511n));
    return isPresent(leaf) ? leaf : null;
  }

  /** Every table that these address spaces lead to, as "kind gfn". */
  reachable(spaces: Iterable<Space>): Set<string> {
    const found = new Set<string>();
    const visit = (kind: TableKind, gfn: number) => {
      const key = `${kind} ${gfn}`;
      if (found.has(key)) return;
      found.add(key);
      if (kind === "PTE") return;
      for (let index = 0; index < ENTRIES; index++) {
        const child = this.table(kind, this.entry(gfn, index));
        if (child !== null) visit(childKind(kind), child);
      }
    };
    for (const space of spaces) {
      for (const gfn of this.roots(space)) if (gfn !== null) visit(rootTableKind(space.level), gfn);
    }
    return found;
  }
}
