/**
 * A guest that may use pages of 64 KiB and 2 MiB: its tables, the RAM it has at the moment, and what its tables say by a
 * plain walk (engine.md §3, §17). It knows nothing of shadows.
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

/** Frames of a 2 MiB page. */
export const LARGE = 512;
/** IPS of a PDE: its PTE table has 64 KiB pages. */
const IPS = 0x800n;

/** One address space, as announced. */
export interface Space {
  /** 3 or 4. */
  readonly level: 3 | 4;
  /** Four root values. */
  readonly roots: readonly bigint[];
}

/** A table: a page, and how it is read. */
export interface Table {
  /** Guest frame. */
  readonly gfn: number;
  /** What kind of table it is. */
  readonly kind: TableKind;
  /** Whether a PTE table has 64 KiB pages. */
  readonly has64k: boolean;
}

/** Where an entry leads. */
export type Step = { readonly table: Table } | { readonly large: number } | { readonly page: number } | null;

/** The guest's memory. */
export class HugeGuest {
  /** Entries of the frames that serve as tables. */
  readonly entries: Map<number, BigUint64Array> = new Map();
  /** Frames that are RAM, and their host frames. */
  readonly ram: Map<number, number> = new Map();
  /** Frames of RAM that the host cannot translate. */
  readonly faulty: Set<number> = new Set();
  /** Those of them that it says are none, and that nobody traps stores to: they cannot be tables. */
  readonly noTables: Set<number> = new Set();

  /** Whether a frame can be a table. */
  isTable(gfn: number): boolean {
    return this.ram.has(gfn) && !this.noTables.has(gfn);
  }

  /** An entry of a table page. */
  entry(gfn: number, index: number): bigint {
    return this.entries.get(gfn)?.[index] ?? 0n;
  }

  /** The host frame of a guest frame, or null. */
  host(gfn: number): number | null {
    return this.faulty.has(gfn) ? null : this.ram.get(gfn) ?? null;
  }

  /** The host frames of a 2 MiB page, or null if one is missing. */
  hostLarge(gfn: number): number[] | null {
    const mfns: number[] = [];
    for (let i = 0; i < LARGE; i++) {
      const mfn = this.host(gfn + i);
      if (mfn === null) return null;
      mfns.push(mfn);
    }
    return mfns;
  }

  /** Where an entry of a table leads by what the guest says, whether there is RAM or not; null: nowhere. */
  step({ gfn, kind, has64k }: Table, index: number): Step {
    const first = has64k ? index - index % 16 : index;
    const entry = this.entry(gfn, first);
    if (!isPresent(entry)) return null;
    const frame = frameOf(entry);
    if (kind === "PTE") return { page: has64k ? frame - frame % 16 + index % 16 : frame };
    if (isLarge(kind, entry)) return kind === "PDE" ? { large: frame - frame % LARGE } : null;
    return { table: { gfn: frame, kind: childKind(kind), has64k: kind === "PDE" && (entry & IPS) !== 0n } };
  }

  /** The tables that the roots of an address space lead to, by slot; null: the slot is not used. */
  roots({ level, roots }: Space): (Table | null)[] {
    const used = level === 4 ? roots.slice(0, 1) : roots;
    return used.map((root) => {
      return isRootPresent(level, root)
        ? { gfn: frameOf(root), kind: rootTableKind(level), has64k: false }
        : null;
    });
  }

  /** The guest frame that an address leads to, RAM or not; null where nothing can be mapped. */
  walk(space: Space, gma: bigint): number | null {
    let table = this.roots(space)[space.level === 4 ? 0 : Number(gma >> 30n & 3n)] ?? null;
    const shifts = { PML4: 39n, PDP: 30n, PDE: 21n, PTE: 12n };
    while (table !== null) {
      if (!this.isTable(table.gfn)) return null;
      const step = this.step(table, Number(gma >> shifts[table.kind] & 511n));
      if (step === null) return null;
      if ("page" in step) return step.page;
      if ("large" in step) {
        return this.hostLarge(step.large) === null ? null : step.large + Number(gma >> 12n & 511n);
      }
      table = step.table;
    }
    return null;
  }

  /** Whether each root that is used leads to RAM and is no large page. */
  hasRoots(space: Space): boolean {
    const used = space.level === 4 ? space.roots.slice(0, 1) : space.roots;
    if (used.some((root) => isLargeRoot(space.level, root) && isPresent(root))) return false;
    return this.roots(space).every((table) => table === null || this.isTable(table.gfn));
  }

  /** Whether all below the roots can be shadowed: every table is RAM, no large page is bad. */
  isClean(space: Space): boolean {
    const seen = new Set<string>();
    const isClean = (table: Table): boolean => {
      const key = `${table.kind} ${table.gfn} ${table.has64k}`;
      if (seen.has(key)) return true;
      seen.add(key);
      if (!this.isTable(table.gfn)) return false;
      for (let index = 0; index < ENTRIES && table.kind !== "PTE"; index++) {
        const entry = this.entry(table.gfn, index);
        const step = this.step(table, index);
        if (isPresent(entry) && step === null) return false; // 1 GiB
        if (step === null || "page" in step) continue;
        if ("large" in step ? this.hostLarge(step.large) === null : !isClean(step.table)) return false;
      }
      return true;
    };
    return this.hasRoots(space) && this.roots(space).every((table) => table === null || isClean(table));
  }
}
