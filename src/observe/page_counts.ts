/**
 * How many pages there are below a table, without going every way down: each table is counted once, for all its places.
 *
 * @module
 */

import { ENTRIES, frameOf, isLarge, LARGE_FRAMES, PRESENT, PTE } from "../gtt/entry.ts";
import { CLASSES, classNumber, type ReasonCode } from "./reasons.ts";
import type { TableView } from "./snapshot.ts";
import type { Judge } from "./verdict.ts";

/** Pages of 4 KiB by what they lead to, at all their addresses; and entries that are not as they should be. */
export interface PageCounts {
  /** Pages that lead to guest RAM. */
  readonly mapped: number;
  /** Pages that lead to scratch. */
  readonly scratch: number;
  /** Entries on the way that are pending. */
  readonly pending: number;
  /** Entries on the way that are wrong. */
  readonly wrong: number;
}

const NOTHING: PageCounts = { mapped: 0, scratch: 0, pending: 0, wrong: 0 };
const [PENDING, WRONG] = [CLASSES.indexOf("pending"), CLASSES.indexOf("wrong")];

/** Counts pages of one snapshot. */
export class PageCounter {
  readonly #judge: Judge;
  readonly #counted = new Map<TableView, PageCounts>();

  /** @param judge Judges the entries. */
  constructor(judge: Judge) {
    this.#judge = judge;
  }

  /**
   * The pages below a table.
   *
   * @param table A table.
   * @returns What is below all its entries.
   */
  below(table: TableView): PageCounts {
    const known = this.#counted.get(table);
    if (known !== undefined) return known;
    const codes = new Uint8Array(ENTRIES);
    this.#judge.codes(table, codes);
    const sum = { mapped: 0, scratch: 0, pending: 0, wrong: 0 };
    for (let index = 0; index < ENTRIES; index++) this.#add(sum, table, index, codes[index]!);
    this.#counted.set(table, sum);
    return sum;
  }

  /**
   * The pages below some entries of a table.
   *
   * @param table A table.
   * @param first First index.
   * @param last Last index.
   * @returns What is below them, these entries included.
   */
  between(table: TableView, first: number, last: number): PageCounts {
    const sum = { mapped: 0, scratch: 0, pending: 0, wrong: 0 };
    for (let index = first; index <= last; index++) {
      this.#add(sum, table, index, this.#judge.code(table, index));
    }
    return sum;
  }

  #add(sum: Mutable<PageCounts>, table: TableView, index: number, code: ReasonCode): void {
    const kind = classNumber(code);
    if (kind === PENDING) sum.pending++;
    if (kind === WRONG) sum.wrong++;
    const [lo, hi] = [table.shadow[2 * index]!, table.shadow[2 * index + 1]!];
    if ((lo & PRESENT) === 0) return;
    if (isLarge(table.kind, lo)) {
      sum.mapped += LARGE_FRAMES;
      return;
    }
    const mfn = frameOf(lo, hi);
    if (table.kind === PTE) {
      if (this.#judge.snapshot.scratchName(mfn) === null) sum.mapped++;
      else sum.scratch++;
      return;
    }
    const child = this.#judge.snapshot.tableAt(mfn);
    if (child?.kind !== table.kind - 1) {
      sum.scratch += LARGE_FRAMES ** (table.kind - 1);
      return;
    }
    const { mapped, scratch, pending, wrong } = this.below(child);
    sum.mapped += mapped;
    sum.scratch += scratch;
    sum.pending += pending;
    sum.wrong += wrong;
  }
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * Counts as text.
 *
 * @param counts Counts.
 * @returns E.g. `1019 pages, 5 to scratch, 2 pending`.
 */
export function pageCountsText({ mapped, scratch, pending, wrong }: PageCounts = NOTHING): string {
  const parts = [`${mapped} ${mapped === 1 ? "page" : "pages"}`];
  if (scratch > 0) parts.push(`${scratch} to scratch`);
  if (pending > 0) parts.push(`${pending} pending`);
  if (wrong > 0) parts.push(`${wrong} wrong`);
  return parts.join(", ");
}
