/**
 * The entries of one table as runs: neighbours that are alike on both sides are one.
 *
 * @module
 */

import {
  ENTRIES,
  FLAGS_LO,
  FRAME_HI,
  frameOf,
  isLarge,
  LARGE_FLAGS_LO,
  LARGE_FRAMES,
  PRESENT,
  PTE,
} from "../gtt/entry.ts";
import { entryFrame, type EntryKind, entryKind, flagLetters } from "./entry_text.ts";
import { type Reason, REASON_CODES, type ReasonCode, REASONS } from "./reasons.ts";
import type { TableView } from "./snapshot.ts";
import type { Judge } from "./verdict.ts";

/** Frames that entries of a run lead to. */
export interface FrameRun {
  /** Frame of the first entry. */
  readonly first: number;
  /** Frame of the last entry. */
  last: number;
  /** How far a frame is from the one before: 0 for one and the same, `null` if they are anywhere. */
  step: number | null;
}

/** Entries of a table, neighbours. */
export interface EntryRun {
  /** First index. */
  readonly first: number;
  /** Last index. */
  last: number;
  /** Why they are as they are. */
  readonly reason: Reason;
  /** Flags of the guest's entries, short; `null` where it has none of its own, in a split page. */
  readonly guestFlags: string | null;
  /** Flags of the shadow's entries. */
  readonly shadowFlags: string;
  /** Frames that the guest's entries lead to; `null` where they are not present. */
  readonly guest: FrameRun | null;
  /** Host frames that the shadow's entries lead to; `null` where they are not present. */
  readonly shadow: FrameRun | null;
  /** The table of the first entry, if the shadow leads to one. */
  readonly table: TableView | null;
  /** How many tables the entries lead to, neighbours that are one counted once. */
  tables: number;
  /** Runs that this one was made of, because there were too many. */
  pieces: number;
}

/** Which entries, and what may be one run. */
export interface RunOptions {
  /** First index. */
  readonly first?: number;
  /** Last index. */
  readonly last?: number;
  /** Whether entries that lead to different tables may be one run, because nobody looks into them. */
  readonly isClosed?: boolean;
  /** Runs of leaves above which those are put together that differ in frames only. */
  readonly pieces?: number;
  /** Whether each entry is by itself, also what is absent on both sides but not zero. */
  readonly isRaw?: boolean;
}

const { "absent": ABSENT, "translated": TRANSLATED, "of 64k": OF_64K } = REASON_CODES;
const CODES = new Uint8Array(ENTRIES);

/**
 * Folds the entries of a table.
 *
 * @param judge Judges them.
 * @param table The table.
 * @param options Which entries, and how far they are folded.
 * @returns Runs in order; what neither side maps is left out.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sketch } from "../../tests/unit/inspect_snapshot.ts";
 * import { tableRuns } from "./table_runs.ts";
 * import { Judge } from "./verdict.ts";
 *
 * const guest = { 0: 0x5003, 1: 0x6003, 2: 0x7003, 9: 0x6003 };
 * const shadow = { 0: 0x100005003, 1: 0x100006003, 2: 0x100007003, 9: 0x100006003 };
 * const snapshot = sketch({ tables: [{ kind: 1, gfn: 0x20, mfn: 0x9000, guest, shadow }] });
 * const runs = tableRuns(new Judge(snapshot), snapshot.tableAt(0x9000)!);
 * assertEquals(runs.map(({ first, last, guest }) => [first, last, guest]), [
 *   [0, 2, { first: 5, last: 7, step: 1 }],
 *   [9, 9, { first: 6, last: 6, step: null }],
 * ]);
 * ```
 */
export function tableRuns(judge: Judge, table: TableView, options: RunOptions = {}): EntryRun[] {
  const { first = 0, last = ENTRIES - 1, isClosed = false, pieces = Infinity, isRaw = false } = options;
  judge.codes(table, CODES);
  const reader = new EntryReader(judge, table);
  const runs: EntryRun[] = [];
  for (let index = first; index <= last; index++) {
    const code = CODES[index]!;
    if (code === ABSENT && (!isRaw || reader.isZero(index))) continue;
    const run = runs.at(-1);
    if (isRaw || run === undefined || !reader.continues(run, index, code, isClosed)) {
      runs.push(reader.begin(index, code));
    }
  }
  return runs.length > pieces && !isRaw ? merge(runs) : runs;
}

/** Reads the entries of one table. */
class EntryReader {
  readonly #judge: Judge;
  readonly #table: TableView;
  readonly #kind: EntryKind;

  constructor(judge: Judge, table: TableView) {
    this.#judge = judge;
    this.#table = table;
    this.#kind = entryKind(table.kind);
  }

  /** Whether an entry is zero on both sides. */
  isZero(index: number): boolean {
    const { guest, shadow } = this.#table;
    const isNothing = shadow[2 * index] === 0 && shadow[2 * index + 1] === 0;
    return isNothing && (guest === null || guest[2 * index] === 0 && guest[2 * index + 1] === 0);
  }

  begin(index: number, code: ReasonCode): EntryRun {
    const table = this.#child(index);
    const only = (frame: number | null): FrameRun | null => {
      return frame === null ? null : { first: frame, last: frame, step: null };
    };
    return {
      first: index,
      last: index,
      reason: REASONS[this.#form(code)]!,
      guestFlags: this.#guestFlags(index),
      shadowFlags: this.#shadowFlags(index),
      guest: only(this.#guestFrame(index)),
      shadow: only(this.#shadowFrame(index)),
      table,
      tables: table === null ? 0 : 1,
      pieces: 1,
    };
  }

  /** Whether an entry continues a run, which it does then. */
  continues(run: EntryRun, index: number, code: ReasonCode, isClosed: boolean): boolean {
    if (index !== run.last + 1 || REASONS[this.#form(code)] !== run.reason) return false;
    if (this.#sameLanes(index)) {
      if (run.tables > 1) return (run.last = index) > 0;
      return extend(run, index, run.guest?.last, run.shadow?.last, true);
    }
    if (this.#guestFlags(index) !== run.guestFlags || this.#shadowFlags(index) !== run.shadowFlags) {
      return false;
    }
    const table = this.#child(index);
    const [guest, shadow] = [this.#guestFrame(index), this.#shadowFrame(index)];
    if ((guest === null) !== (run.guest === null) || (shadow === null) !== (run.shadow === null)) {
      return false;
    }
    if (table === null && run.table === null) {
      return extend(run, index, guest ?? undefined, shadow ?? undefined, false);
    }
    if (table === null || run.table === null || !isClosed || table.isSplit !== run.table.isSplit) {
      return false;
    }
    run.last = index;
    run.tables++;
    for (const [frames, frame] of [[run.guest, guest], [run.shadow, shadow]] as const) {
      if (frames === null) continue;
      frames.last = frame!;
      frames.step = null;
    }
    return true;
  }

  /** Whether an entry is as the one before, on both sides. */
  #sameLanes(index: number): boolean {
    const { guest, shadow, span, isSplit } = this.#table;
    const lane = 2 * index;
    if (isSplit || span !== 1 || guest === null) return false;
    return guest[lane] === guest[lane - 2] && guest[lane + 1] === guest[lane - 1] &&
      shadow[lane] === shadow[lane - 2] && shadow[lane + 1] === shadow[lane - 1];
  }

  /** Whether the flags of an entry are those of the one before, on both sides. */
  #sameFlags(index: number): boolean {
    const { guest, shadow, span } = this.#table;
    if (!sameFlags(this.#table, shadow, index, index - 1)) return false;
    return guest === null ||
      sameFlags(this.#table, guest, index - index % span, index - 1 - (index - 1) % span);
  }

  /** What the entries of a 64 KiB page have in common. */
  #form(code: ReasonCode): ReasonCode {
    return code === TRANSLATED && this.#table.span !== 1 ? OF_64K : code;
  }

  #guestFlags(index: number): string | null {
    const { guest, span } = this.#table;
    if (guest === null) return null;
    const at = 2 * (index - index % span);
    return flagLetters(this.#kind, guest[at]!, guest[at + 1]!);
  }

  #shadowFlags(index: number): string {
    const { shadow } = this.#table;
    return flagLetters(this.#kind, shadow[2 * index]!, shadow[2 * index + 1]!);
  }

  #guestFrame(index: number): number | null {
    const { guest, span, isSplit, gfn } = this.#table;
    if (isSplit) return gfn + index;
    if (guest === null) return null;
    const at = 2 * (index - index % span);
    const [lo, hi] = [guest[at]!, guest[at + 1]!];
    if ((lo & PRESENT) === 0) return null;
    const frame = entryFrame(this.#kind, lo, hi);
    return span === 1 ? frame : frame - frame % span + index % span;
  }

  #shadowFrame(index: number): number | null {
    const { shadow } = this.#table;
    const [lo, hi] = [shadow[2 * index]!, shadow[2 * index + 1]!];
    return (lo & PRESENT) === 0 ? null : entryFrame(this.#kind, lo, hi);
  }

  #child(index: number): TableView | null {
    const { kind, shadow } = this.#table;
    const [lo, hi] = [shadow[2 * index]!, shadow[2 * index + 1]!];
    if (kind === PTE || (lo & PRESENT) === 0 || isLarge(kind, lo)) return null;
    return this.#judge.snapshot.tableAt(frameOf(lo, hi)) ?? null;
  }
}

/** Whether two entries of a page differ in their frames only. */
function sameFlags({ kind }: TableView, lanes: Uint32Array, one: number, other: number): boolean {
  const [lo, hi] = [lanes[2 * one]!, lanes[2 * one + 1]!];
  const differing = lo ^ lanes[2 * other]!;
  if (((hi ^ lanes[2 * other + 1]!) & ~FRAME_HI) !== 0) return false;
  return (differing & (isLarge(kind, lo) ? LARGE_FLAGS_LO : FLAGS_LO)) === 0;
}

/** Adds an entry to a run if its frames go on as those before. */
function extend(
  run: EntryRun,
  index: number,
  guest: number | undefined,
  shadow: number | undefined,
  isSame: boolean,
): boolean {
  const steps = ([[run.guest, guest], [run.shadow, shadow]] as const).map(([frames, frame]) => {
    return frames === null || frame === undefined ? 0 : frame - frames.last;
  }) as [number, number];
  if (run.last > run.first) {
    if (run.guest !== null && run.guest.step !== steps[0]) return false;
    if (run.shadow !== null && run.shadow.step !== steps[1]) return false;
  } else if (!isSame && steps.some((step) => step !== 0 && step !== 1 && step !== LARGE_FRAMES)) return false;
  run.last = index;
  for (const [at, frames] of [run.guest, run.shadow].entries()) {
    if (frames === null) continue;
    frames.step = steps[at]!;
    frames.last += steps[at]!;
  }
  return true;
}

/** Puts runs together that differ in their frames only. */
function merge(runs: readonly EntryRun[]): EntryRun[] {
  const merged: EntryRun[] = [];
  for (const run of runs) {
    const before = merged.at(-1);
    if (before === undefined || !isAlike(before, run)) {
      merged.push(run);
      continue;
    }
    before.last = run.last;
    before.pieces++;
    for (const [frames, other] of [[before.guest, run.guest], [before.shadow, run.shadow]] as const) {
      if (frames === null || other === null) continue;
      frames.step = frames.step === 0 && other.first === frames.last && other.last === frames.last ? 0 : null;
      frames.last = other.last;
    }
  }
  return merged;
}

function isAlike(before: EntryRun, run: EntryRun): boolean {
  return before.table === null && run.table === null && run.first === before.last + 1 &&
    run.reason === before.reason && run.guestFlags === before.guestFlags &&
    run.shadowFlags === before.shadowFlags && (run.guest === null) === (before.guest === null) &&
    (run.shadow === null) === (before.shadow === null);
}
