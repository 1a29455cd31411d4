/**
 * Guest against shadow: every entry of every distinct table, every root, and the GGTT; what differs as runs, each with the
 * way to it and its graphics addresses.
 *
 * @module
 */

import { ENTRIES, kindName } from "../gtt/entry.ts";
import { ggttRuns } from "./ggtt_runs.ts";
import {
  CLASS_LETTERS,
  CLASSES,
  classNumber,
  type Counts,
  countsText,
  noCounts,
  type Reason,
  REASON_CODES,
  type ReasonCode,
  REASONS,
  reasonWords,
  type VerdictClass,
} from "./reasons.ts";
import type { Snapshot, SpaceView, TableView } from "./snapshot.ts";
import { counted } from "./space_lines.ts";
import { ENTRY_BYTES, type Place, placeText, TableGraph } from "./table_graph.ts";
import { hex } from "../inspect/target.ts";
import { Judge, type JudgeOptions, type Verdict } from "./verdict.ts";

/** Runs that are told one by one, if nobody says how many. */
export const DIFFERENCES = 200;

/** What is compared, and what is told. */
export interface DiffOptions extends JudgeOptions {
  /** One address space; default all. */
  readonly space?: SpaceView | undefined;
  /** Whether the GGTT is compared; default unless one address space is. */
  readonly ggtt?: boolean | undefined;
  /** Classes of which each run is told; default pending and wrong. */
  readonly classes?: readonly VerdictClass[] | undefined;
  /** Runs told at most; default {@linkcode DIFFERENCES}. */
  readonly limit?: number | undefined;
}

/** Entries that differ in one way, neighbours. */
export interface Difference extends Verdict {
  /** The way to the first one, from the root: `space 3 > root 0 > PML4[0] > PDP[1]`. */
  readonly path: string;
  /** First graphics address, `null` for a table that no root leads to. */
  readonly from: number | null;
  /** Last graphics address. */
  readonly to: number | null;
  /** How many entries. */
  readonly entries: number;
  /** At how many places they are, for the table is shared. */
  readonly places: number;
}

/** What was compared and what differs. */
export interface ShadowDiff {
  /** Entries by class. */
  readonly counts: Counts;
  /** Entries by reason. */
  readonly reasons: Partial<Record<Reason, number>>;
  /** Distinct tables compared. */
  readonly tables: number;
  /** Entries compared, those of the GGTT and roots included. */
  readonly entries: number;
  /** Runs that differ: what is wrong first. */
  readonly differences: Difference[];
  /** Runs that are not told. */
  readonly more: number;
}

/**
 * Compares both sides.
 *
 * @param snapshot The moment.
 * @param options What is compared.
 * @returns Counts and differences.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sketch } from "../../tests/unit/inspect_snapshot.ts";
 * import { diffShadow, shadowDiffLines } from "./diff.ts";
 *
 * const snapshot = sketch({
 *   tables: [
 *     { kind: 2, gfn: 0x10, mfn: 0x9000, guest: { 0: 0x11003 }, shadow: { 0: 0x9001003 } },
 *     { kind: 1, gfn: 0x11, mfn: 0x9001, guest: { 4: 0x5003, 5: 0x6003 }, shadow: { 4: 0x100005003, 5: 0x100007003 } },
 *   ],
 *   spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
 * });
 * assertEquals(shadowDiffLines(diffShadow(snapshot, { ggtt: false })), [
 *   "2 tables, 1028 entries: 1027 same, 1 wrong",
 *   "!   another frame: 1",
 *   "! space 0 > root 0 > PDE[0] > PTE[5] · 0x5000–0x5fff · the guest maps gfn 0x6 (mfn 0x100006), the shadow leads to gfn 0x7 (mfn 0x100007)",
 * ]);
 * ```
 */
export function diffShadow(snapshot: Snapshot, options: DiffOptions = {}): ShadowDiff {
  const { space, ggtt = space === undefined } = options;
  const differ = new Differ(snapshot, options);
  const spaces = space === undefined ? snapshot.parts.spaces : [space];
  const graph = new TableGraph(snapshot, "shadow", spaces);
  for (const each of spaces) differ.roots(each);
  for (const table of graph.reached) differ.table(table, graph);
  if (space === undefined) {
    // There should be none: a table that nothing leads to.
    for (const table of snapshot.parts.tables.values()) if (!graph.has(table)) differ.table(table, graph);
  }
  if (ggtt) differ.ggtt();
  return differ.result();
}

/**
 * Differences as lines.
 *
 * @param diff What was compared.
 * @returns Lines without line ends.
 */
export function shadowDiffLines(
  { counts, tables, entries, differences, more, reasons }: ShadowDiff,
): string[] {
  const lines = [`${counted(tables, "table")}, ${entries} entries: ${countsText(counts)}`];
  const notable = Object.entries(reasons).filter(([reason]) => !["absent", "translated"].includes(reason));
  for (const [reason, count] of notable) {
    const letter = CLASS_LETTERS[CLASSES[classNumber(REASON_CODES[reason as Reason])]!];
    lines.push(`${letter}   ${reasonWords(reason as Reason)}: ${count}`);
  }
  for (const difference of differences) lines.push(differenceLine(difference));
  if (more > 0) lines.push(`  … and ${counted(more, "more run")} of entries`);
  return lines;
}

function differenceLine({ path, from, to, entries, places, sentence, class: each }: Difference): string {
  const parts = [`${CLASS_LETTERS[each]} ${path}`];
  if (from !== null && to !== null) parts.push(`${hex(from)}–${hex(to)}`);
  if (places > 1) parts.push(`and at ${counted(places - 1, "other place")}`);
  parts.push(entries > 1 ? `${entries} entries; the first: ${sentence}` : sentence);
  return parts.join(" · ");
}

/** Compares and keeps what differs. */
class Differ {
  readonly #judge: Judge;
  readonly #classes: readonly VerdictClass[];
  readonly #limit: number;
  readonly #counts = noCounts();
  readonly #byReason = new Uint32Array(REASONS.length);
  /** Differences by class: what is wrong must not be cut for what is pending. */
  readonly #kept: Record<VerdictClass, Difference[]> = { same: [], expected: [], pending: [], wrong: [] };
  readonly #codes = new Uint8Array(ENTRIES);
  #tables = 0;
  #entries = 0;
  #runs = 0;

  constructor(snapshot: Snapshot, options: DiffOptions) {
    this.#judge = new Judge(snapshot, options);
    this.#classes = options.classes ?? ["pending", "wrong"];
    this.#limit = options.limit ?? DIFFERENCES;
  }

  roots(space: SpaceView): void {
    for (let slot = 0; slot < 4; slot++) {
      const code = this.#judge.rootCode(space, slot);
      this.#count(code, 1);
      const each = CLASSES[classNumber(code)]!;
      if (!this.#classes.includes(each)) continue;
      this.#keep(each, () => {
        const bytes = space.level === 4 ? 2 ** 48 : 2 ** 30;
        const place = {
          path: `space ${space.id} > root ${slot}`,
          from: slot * bytes,
          to: (slot + 1) * bytes - 1,
        };
        return { ...this.#judge.root(space, slot), ...place, entries: 1, places: 1 };
      });
    }
  }

  table(table: TableView, graph: TableGraph): void {
    const codes = this.#codes;
    this.#judge.codes(table, codes);
    this.#tables++;
    for (let first = 0; first < ENTRIES;) {
      let last = first;
      while (last + 1 < ENTRIES && codes[last + 1] === codes[first]) last++;
      const code = codes[first]!;
      this.#count(code, last - first + 1);
      const each = CLASSES[classNumber(code)]!;
      if (this.#classes.includes(each)) {
        this.#keep(each, this.#difference.bind(this, table, first, last, graph));
      }
      first = last + 1;
    }
  }

  ggtt(): void {
    const { runs, counts } = ggttRuns(this.#judge.snapshot, { limit: Infinity });
    for (const each of CLASSES) {
      this.#counts[each] += counts[each];
      this.#entries += counts[each];
    }
    for (const { first, last, from, to, reason, class: each } of runs) {
      this.#byReason[REASONS.indexOf(reason)]! += last - first + 1;
      if (!this.#classes.includes(each)) continue;
      const path = first === last ? `GGTT[${first}]` : `GGTT[${first}–${last}]`;
      this.#keep(
        each,
        () => ({ ...this.#judge.ggtt(first), path, from, to, entries: last - first + 1, places: 1 }),
      );
    }
  }

  result(): ShadowDiff {
    const kept = [...CLASSES].reverse().flatMap((each) => this.#kept[each]).slice(0, this.#limit);
    const reasons: Partial<Record<Reason, number>> = {};
    this.#byReason.forEach((count, code) => {
      if (count > 0) reasons[REASONS[code]!] = count;
    });
    return {
      counts: this.#counts,
      reasons,
      tables: this.#tables,
      entries: this.#entries,
      differences: kept,
      more: this.#runs - kept.length,
    };
  }

  #count(code: ReasonCode, entries: number): void {
    this.#counts[CLASSES[classNumber(code)]!] += entries;
    this.#byReason[code]! += entries;
    this.#entries += entries;
  }

  #keep(each: VerdictClass, make: () => Difference): void {
    this.#runs++;
    if (this.#kept[each].length < this.#limit) this.#kept[each].push(make());
  }

  #difference(table: TableView, first: number, last: number, graph: TableGraph): Difference {
    const place = graph.place(table);
    const index = first === last ? `${first}` : `${first}–${last}`;
    const bytes = ENTRY_BYTES[table.kind]!;
    return {
      ...this.#judge.entry(table, first),
      path: `${place === null ? orphanText(table) : placeText(place)} > ${kindName(table.kind)}[${index}]`,
      from: place === null ? null : addressOf(place, first, bytes),
      to: place === null ? null : addressOf(place, last + 1, bytes) - 1,
      entries: last - first + 1,
      places: graph.count(table),
    };
  }
}

function addressOf({ base }: Place, index: number, bytes: number): number {
  return base + index * bytes;
}

function orphanText({ gfn, mfn }: TableView): string {
  return `table of gfn ${hex(gfn)} at mfn ${hex(mfn)}, to which no root leads`;
}
