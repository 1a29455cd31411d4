/**
 * One address space as a tree that fits a screen: runs of entries that are alike are one line, a table is shown once, and
 * where that is not enough, what is deepest is counted instead of shown.
 *
 * @module
 */

import { kindName } from "../gtt/entry.ts";
import { hexEntry } from "./entry_text.ts";
import { PageCounter, type PageCounts } from "./page_counts.ts";
import { CLASSES, classNumber, REASON_CODES } from "./reasons.ts";
import type { Snapshot, SpaceView, TableView } from "./snapshot.ts";
import { ENTRY_BYTES } from "./table_graph.ts";
import { type EntryRun, tableRuns } from "./table_runs.ts";
import { Judge, type JudgeOptions, type TableState, type Verdict } from "./verdict.ts";

/** Lines of a tree that is not told how many. */
export const TREE_LINES = 50;
/** Lines of a tree that is not to be folded: what memory and patience are good for. */
export const MAX_TREE_LINES = 100_000;
/** Runs of leaves in a table above which those that differ in their frames only are one. */
const MANY_PIECES = 4;

/** What of an address space is shown. */
export interface TreeOptions extends JudgeOptions {
  /** Levels of tables that are opened, 1..4; default all that fit. */
  readonly depth?: number | undefined;
  /** First graphics address. */
  readonly from?: number | undefined;
  /** The graphics address after the last one. */
  readonly to?: number | undefined;
  /** Whether every entry is shown by itself, in hexadecimal. */
  readonly raw?: boolean | undefined;
  /** Lines that it should fit in; default {@linkcode TREE_LINES}, `Infinity` to show everything. */
  readonly lines?: number | undefined;
}

/** An address space. */
export interface SpaceTree {
  /** Its handle. */
  readonly id: number;
  /** Levels. */
  readonly level: 3 | 4;
  /** References. */
  readonly refs: number;
  /** Pins. */
  readonly pins: number;
  /** Whether the shadow exists. */
  readonly isShadowed: boolean;
  /** Root slots that are not empty on both sides. */
  readonly roots: TreeRoot[];
  /** Levels of tables that are opened. */
  readonly depth: number;
  /** Whether something is folded away that more lines, or a range, would show. */
  readonly isFolded: boolean;
}

/** A root. */
export interface TreeRoot extends Verdict {
  /** Root slot. */
  readonly slot: number;
  /** The guest's root, 16 digits. */
  readonly guest: string;
  /** The shadow's. */
  readonly shadow: string;
  /** The table that the shadow's leads to. */
  readonly table: TreeTable | null;
}

/** A table. */
export interface TreeTable {
  /** Its number. */
  readonly serial: number;
  /** Kind. */
  readonly kind: string;
  /** Guest frame; of a split page the first one. */
  readonly gfn: number;
  /** Host frame of the shadow. */
  readonly mfn: number;
  /** References. */
  readonly refs: number;
  /** Pages that it has: of a PTE table that stands for a 2 MiB page, `2M`. */
  readonly form: "4K" | "64K" | "2M";
  /** How it follows the guest's. */
  readonly state: TableState;
  /** Whether it is shown, counted only, or was shown above. */
  readonly is: "open" | "closed" | "above";
  /** Its entries, if it is open. */
  readonly runs: TreeRun[];
  /** Runs that are not shown because there are too many. */
  more: number;
}

/** Entries of a table that are alike. */
export interface TreeRun extends Omit<EntryRun, "table"> {
  /** First graphics address. */
  readonly from: number;
  /** Last graphics address. */
  readonly to: number;
  /** How serious what is to be said is; of tables that are closed, with all that is in them. */
  readonly class: Verdict["class"];
  /** The guest's first entry and the shadow's, 16 digits, if every entry is shown. */
  readonly raw: readonly [guest: string, shadow: string] | null;
  /** The table that the shadow's entries lead to; the first one of several, which are closed. */
  readonly table: TreeTable | null;
  /** Name of the scratch page that the shadow's entries lead to. */
  readonly scratch: string | null;
  /** What is below tables that are closed. */
  readonly pages: PageCounts | null;
}

/**
 * Folds an address space.
 *
 * @param snapshot The moment.
 * @param space One of its address spaces.
 * @param options What is shown.
 * @returns The tree.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sketch } from "../../tests/unit/inspect_snapshot.ts";
 * import { spaceLines } from "./space_lines.ts";
 * import { spaceTree } from "./space_tree.ts";
 *
 * const to = (gfn: number) => ({ 0: gfn * 4096 + 3 });
 * const snapshot = sketch({
 *   tables: [
 *     { kind: 2, gfn: 0x10, mfn: 0x9000, guest: to(0x11), shadow: to(0x9001) },
 *     { kind: 1, gfn: 0x11, mfn: 0x9001, guest: { 4: 0x5003, 5: 0x6003 }, shadow: { 4: 0x100005003, 5: 0x100006003 } },
 *   ],
 *   spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
 * });
 * assertEquals(spaceLines(spaceTree(snapshot, snapshot.parts.spaces[0]!)), [
 *   "space 0: 3 levels, 1 reference, 0 pins",
 *   "= root 0 · gfn 0x10 → PDE table at mfn 0x9000 · in sync",
 *   "=   0x0–0x1fffff · PDE[0] · P W · gfn 0x11 → PTE table at mfn 0x9001 · in sync",
 *   "=     0x4000–0x5fff · PTE[4–5] · P W · gfn 0x5–0x6 → mfn 0x100005–0x100006",
 * ]);
 * ```
 */
export function spaceTree(snapshot: Snapshot, space: SpaceView, options: TreeOptions = {}): SpaceTree {
  const { raw = false, lines = TREE_LINES } = options;
  const judge = new Judge(snapshot, options);
  const counter = new PageCounter(judge);
  const levels = space.level === 4 ? 4 : 2;
  const depth = Math.min(options.depth ?? levels, levels);
  const limit = Math.min(lines, MAX_TREE_LINES);
  // The first line tells of the address space.
  const grow = (depth: number, pieces: number, limit: number, mayStop: boolean) => {
    const grower = new Grower(judge, counter, { ...options, raw, depth, pieces, mayStop }, limit - 1);
    const roots = grower.roots(space);
    const isFolded = depth < levels && options.depth === undefined || pieces < Infinity || grower.isCut;
    const { id, level, refs, pins, isShadowed } = space;
    return { grower, tree: { id, level, refs, pins, isShadowed, roots, depth, isFolded } };
  };
  if (!raw && lines < Infinity) {
    const attempts: [depth: number, pieces: number][] = [[depth, Infinity], [depth, MANY_PIECES], [depth, 1]];
    for (let less = depth - 1; less >= 1; less--) attempts.push([less, 1]);
    for (const [less, pieces] of attempts) {
      const { grower, tree } = grow(less, pieces, limit, true);
      if (!grower.isCut) return tree;
    }
    return grow(1, 1, limit, false).tree;
  }
  return grow(depth, Infinity, limit, false).tree;
}

interface GrowOptions extends TreeOptions {
  readonly raw: boolean;
  readonly depth: number;
  readonly pieces: number;
  /** Whether nobody wants the tree if it has too many lines. */
  readonly mayStop: boolean;
}

/** Makes a tree of so many lines. */
class Grower {
  /** Whether lines were missing. */
  isCut = false;
  readonly #judge: Judge;
  readonly #counter: PageCounter;
  readonly #options: GrowOptions;
  readonly #seen = new Set<TableView>();
  readonly #from: number;
  readonly #to: number;
  #left: number;

  constructor(judge: Judge, counter: PageCounter, options: GrowOptions, lines: number) {
    this.#judge = judge;
    this.#counter = counter;
    this.#options = options;
    this.#from = options.from ?? 0;
    this.#to = options.to ?? Infinity;
    this.#left = lines;
  }

  roots(space: SpaceView): TreeRoot[] {
    const { level, roots, shadowRoots } = space;
    const tables = new Map(this.#judge.snapshot.rootTables(space));
    const found: TreeRoot[] = [];
    const bytes = level === 4 ? 2 ** 48 : 2 ** 30;
    for (let slot = 0; slot < (level === 4 ? 1 : 4); slot++) {
      const guest = hexEntry(roots[2 * slot]!, roots[2 * slot + 1]!);
      const shadow = hexEntry(shadowRoots[2 * slot]!, shadowRoots[2 * slot + 1]!);
      if (BigInt(guest) === 0n && BigInt(shadow) === 0n) continue;
      if (slot * bytes >= this.#to || (slot + 1) * bytes <= this.#from) continue;
      this.#left--;
      const table = tables.get(slot);
      const child = table === undefined ? null : this.#table(table, slot * bytes, this.#options.depth);
      found.push({ ...this.#judge.root(space, slot), slot, guest, shadow, table: child });
    }
    if (this.#left < 0) this.isCut = true;
    return found;
  }

  #table(table: TableView, base: number, depth: number): TreeTable {
    const { serial, kind, gfn, mfn, refs, span, isSplit } = table;
    const isAbove = this.#seen.has(table);
    const is = isAbove ? "above" : depth > 0 ? "open" : "closed";
    const node: TreeTable = {
      serial,
      kind: kindName(kind),
      gfn,
      mfn,
      refs,
      form: isSplit ? "2M" : span === 1 ? "4K" : "64K",
      state: this.#judge.table(table),
      is,
      runs: [],
      more: 0,
    };
    if (is !== "open" || (this.isCut && this.#options.mayStop)) return node;
    this.#seen.add(table);
    const bytes = ENTRY_BYTES[kind]!;
    const runs = tableRuns(this.#judge, table, {
      first: Math.max(0, Math.floor((this.#from - base) / bytes)),
      last: Math.min(511, Math.ceil((this.#to - base) / bytes) - 1),
      isClosed: depth === 1,
      pieces: this.#options.pieces,
      isRaw: this.#options.raw,
    });
    // A line for each run comes first, then what is below them: so what is cut is what is deep.
    const shown = Math.max(0, Math.min(runs.length, this.#left));
    this.#left -= shown;
    if (shown < runs.length) {
      this.isCut = true;
      node.more = runs.length - shown;
    }
    for (const run of runs.slice(0, shown)) node.runs.push(this.#run(table, run, base, depth));
    return node;
  }

  #run(table: TableView, run: EntryRun, base: number, depth: number): TreeRun {
    const bytes = ENTRY_BYTES[table.kind]!;
    const from = base + run.first * bytes;
    const child = run.table;
    const isChild = child !== null && child.kind === table.kind - 1;
    const isClosed = isChild && depth === 1;
    const pages = isClosed ? this.#counter.between(table, run.first, run.last) : null;
    const own = CLASSES[classNumber(REASON_CODES[run.reason])]!;
    const { raw } = this.#options;
    const scratch = run.shadow === null ? null : this.#judge.snapshot.scratchName(run.shadow.first);
    return {
      ...run,
      from,
      to: base + (run.last + 1) * bytes - 1,
      class: pages !== null && pages.wrong > 0
        ? "wrong"
        : pages !== null && pages.pending > 0
        ? "pending"
        : own,
      raw: raw ? [hexOf(table.guest, run.first), hexOf(table.shadow, run.first)] : null,
      table: isChild ? this.#table(child, from, depth - 1) : null,
      scratch,
      pages,
    };
  }
}

function hexOf(lanes: Uint32Array | null, index: number): string {
  return lanes === null ? "unreadable" : hexEntry(lanes[2 * index]!, lanes[2 * index + 1]!);
}
