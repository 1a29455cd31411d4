/**
 * One shadow tree as plain values: every entry that is not zero, depth first. A table that was printed before is only named,
 * so a tree of shared tables stays small.
 *
 * @module
 */

import { ENTRIES, frameOf, isLarge, kindName, PRESENT, PTE } from "../gtt/entry.ts";
import type { PpgttMm } from "../gtt/mm.ts";
import type { ShadowTable } from "../gtt/shadow_table.ts";
import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
import { flagsText, largeFlagsText, targetText } from "./target.ts";

/** Most entries that one tree may list: a larger one does not fit a message. */
export const MAX_TREE_ENTRIES = 100_000;

/** A shadow table. */
export interface TreeTable {
  /** Kind: "PTE", "PDE", "PDP" or "PML4". */
  t: string;
  /** Guest frame; of a split page the first one. */
  g: number;
  /** What the guest has there: a PTE table of 64 KiB pages, or no table but a 2 MiB page that is split. */
  p?: PageForm;
  /** References. */
  r: number;
  /** Entries that are not zero, in order. */
  e: TreeEntry[];
}

/** Pages that a PTE table stands for when they are not of 4 KiB. */
export type PageForm = "64K" | "2M";

/** What an entry leads to: a table, one that was printed before, or a target (see `targetText`). */
export type TreeChild = TreeTable | { seen: number; p?: PageForm } | string;

/** One entry: index, flags in hexadecimal, what it leads to. */
export type TreeEntry = [index: number, flags: string, child: TreeChild];

/** The shadow of one address space. */
export interface ShadowTree {
  /** 3 or 4. */
  level: number;
  /** Whether the shadow exists. */
  shadowed: boolean;
  /** Root slots that are not zero. */
  roots: TreeEntry[];
}

/** Address bits below the index into each kind of table, by the kind's name. */
export const ENTRY_SHIFT: Readonly<Record<string, number>> = { PTE: 12, PDE: 21, PDP: 30, PML4: 39 };

/** What the guest has in the place of a PTE table of 4 KiB pages. */
export function pageForm({ span, isSplit }: ShadowTable): { p?: PageForm } {
  if (isSplit) return { p: "2M" };
  return span === 1 ? {} : { p: "64K" };
}

/** Whether what an entry leads to is a table that is printed here. */
export function isTable(child: TreeChild): child is TreeTable {
  return typeof child === "object" && "t" in child;
}

/** The guest frame of the table that an entry leads to, or `null` if it leads to none. */
export function tableFrame(child: TreeChild): number | null {
  if (typeof child === "string") return null;
  return "t" in child ? child.g : child.seen;
}

/** Thrown when a tree lists more than {@linkcode MAX_TREE_ENTRIES}. */
export class TreeTooLarge extends Error {}

/**
 * The shadow tree of an address space.
 *
 * @throws {TreeTooLarge} When it would not fit a message.
 */
export function shadowTree(gtt: VgpuGtt, mm: PpgttMm): ShadowTree {
  requireFits(gtt, mm);
  const printer = new TreePrinter(gtt);
  const roots: TreeEntry[] = [];
  for (let slot = 0; slot < mm.rootSlots; slot++) {
    const lo = mm.shadowRoots[2 * slot]!;
    const hi = mm.shadowRoots[2 * slot + 1]!;
    if (lo === 0 && hi === 0) continue;
    roots.push([slot, flagsText(lo, hi), printer.child(frameOf(lo, hi))]);
  }
  return { level: mm.level, shadowed: mm.shadowed, roots };
}

/** Counts the entries of a tree, without making anything of them, until they are too many. */
function requireFits(gtt: VgpuGtt, mm: PpgttMm): void {
  const seen = new Set<ShadowTable>();
  let left = MAX_TREE_ENTRIES;
  const visit = (mfn: number) => {
    const table = gtt.parts.tables.byMfn(mfn);
    if (table === undefined || seen.has(table)) return;
    seen.add(table);
    for (let index = 0; index < ENTRIES; index++) {
      const lo = table.lanes[2 * index]!;
      if (lo === 0 && table.lanes[2 * index + 1] === 0) continue;
      if (--left < 0) throw new TreeTooLarge(`the tree has more than ${MAX_TREE_ENTRIES} entries`);
      if (leadsToTable(table, lo)) visit(table.target(index));
    }
  };
  for (let slot = 0; slot < mm.rootSlots; slot++) {
    visit(frameOf(mm.shadowRoots[2 * slot]!, mm.shadowRoots[2 * slot + 1]!));
  }
}

/** Whether an entry with this low lane should lead to a table. */
function leadsToTable({ kind }: ShadowTable, lo: number): boolean {
  return kind !== PTE && (lo & PRESENT) !== 0 && !isLarge(kind, lo);
}

/** Prints tables, each once. */
class TreePrinter {
  readonly #gtt: VgpuGtt;
  readonly #seen = new Set<ShadowTable>();

  constructor(gtt: VgpuGtt) {
    this.#gtt = gtt;
  }

  /** What an entry that should lead to a table leads to. */
  child(mfn: number): TreeChild {
    const table = this.#gtt.parts.tables.byMfn(mfn);
    if (table === undefined) return targetText(this.#gtt, mfn);
    const form = pageForm(table);
    if (this.#seen.has(table)) return { seen: table.gfn, ...form };
    this.#seen.add(table);
    return { t: kindName(table.kind), g: table.gfn, r: table.refs, ...form, e: this.#entries(table) };
  }

  #entries(table: ShadowTable): TreeEntry[] {
    const entries: TreeEntry[] = [];
    for (let index = 0; index < ENTRIES; index++) {
      const lo = table.lanes[2 * index]!;
      const hi = table.lanes[2 * index + 1]!;
      if (lo === 0 && hi === 0) continue;
      const mfn = table.target(index);
      const child = leadsToTable(table, lo) ? this.child(mfn) : targetText(this.#gtt, mfn);
      const flags = isLarge(table.kind, lo) ? largeFlagsText(lo, hi) : flagsText(lo, hi);
      entries.push([index, flags, child]);
    }
    return entries;
  }
}
