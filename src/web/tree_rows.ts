/**
 * The tree of an address space as the rows of a page: as far as it is unfolded, alike neighbours as one row, each with the
 * guest's entry beside the shadow's.
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
  PDE,
  PRESENT,
  PTE,
  type TableKind,
} from "../gtt/entry.ts";
import { entryFrame, type EntryKind, entryKind, flagLetters } from "../observe/entry_text.ts";
import {
  CLASSES,
  classNumber,
  REASON_CODES,
  type ReasonCode,
  REASONS,
  reasonWords,
  type VerdictClass,
} from "../observe/reasons.ts";
import type { Snapshot, SpaceView, TableView, WindowView } from "../observe/snapshot.ts";
import type { StripSpace } from "../observe/strip.ts";
import { hex } from "../inspect/target.ts";
import type { Judge } from "../observe/verdict.ts";

/** A row. */
export interface TreeRow {
  /** Names the row as long as its table has the same place. */
  readonly key: string;
  /** How far it is indented. */
  readonly depth: number;
  /** Whether it is unfolded; `null` if there is nothing to unfold. */
  readonly isOpen: boolean | null;
  /** First graphics address that it stands for. */
  readonly from: number;
  /** Bytes that it stands for. */
  readonly bytes: number;
  /** The entry or entries: `PDE[0–5]`. */
  readonly name: string;
  /** What the guest has there. */
  readonly guest: string;
  /** What the shadow has there. */
  readonly shadow: string;
  /** What is to be said of it. */
  readonly class: VerdictClass;
  /** The same in words; empty if it goes without saying. */
  readonly words: string;
}

/** Rows that a page is given: more nobody reads, and browsers lay out slowly. */
const MAX_ROWS = 1000;
/** Address bits below the index into each kind of table. */
const SHIFT: Readonly<Record<TableKind, number>> = { 1: 12, 2: 21, 3: 30, 4: 39 };

/** Two sides of a table: what a run is looked for in. */
interface Sides {
  readonly guest: Uint32Array | null;
  readonly shadow: Uint32Array;
  /** Guest entries that share one: 16 in a table of 64 KiB pages. */
  readonly span: number;
}

/** Neighbours that are alike. */
interface Run {
  readonly first: number;
  last: number;
  readonly code: ReasonCode;
  /** How far the frames of both sides move from entry to entry; `null` for a run of one. */
  steps: readonly [guest: number, shadow: number] | null;
}

/** Makes rows of one snapshot. */
class Rows {
  readonly rows: TreeRow[] = [];
  /** Rows that there is no room for. */
  more = 0;
  readonly #snapshot: Snapshot;
  readonly #judge: Judge;
  readonly #open: ReadonlySet<string>;

  constructor(judge: Judge, open: ReadonlySet<string>) {
    this.#snapshot = judge.snapshot;
    this.#judge = judge;
    this.#open = open;
  }

  /** The rows of an address space, from its roots. */
  space(space: SpaceView): void {
    const { level, roots, shadowRoots } = space;
    const kind: TableKind = level === 4 ? 4 : 2;
    for (let slot = 0; slot < (level === 4 ? 1 : 4); slot++) {
      const lanes = [
        roots[2 * slot]!,
        roots[2 * slot + 1]!,
        shadowRoots[2 * slot]!,
        shadowRoots[2 * slot + 1]!,
      ] as const;
      if (lanes.every((lane) => lane === 0)) continue;
      const code = this.#judge.rootCode(space, slot);
      const found = this.#snapshot.tableAt(frameOf(lanes[2], lanes[3]));
      const table = found?.kind === kind ? found : undefined;
      const size = 2 ** SHIFT[kind] * ENTRIES;
      const row = {
        key: `${slot}`,
        depth: 0,
        from: slot * size,
        bytes: size,
        name: `root ${slot}`,
        guest: lanes[0] === 0 && lanes[1] === 0 ? "—" : `table gfn ${hex(frameOf(lanes[0], lanes[1]))}`,
        shadow: table === undefined ? "—" : this.#tableText(table),
        ...verdict(code),
      };
      this.#add(row, table);
    }
  }

  /** The rows of a part of the GGTT. */
  window({ base, size }: WindowView): void {
    for (const [chunk, { guest, host }] of this.#snapshot.parts.ggtt) {
      const first = chunk * ENTRIES;
      if ((first + ENTRIES) * 4096 <= base || first * 4096 >= base + size) continue;
      const sides = { guest, shadow: host, span: 1 };
      for (const run of runsOf(sides, "GGTT", (index) => this.#judge.ggttCode(first + index))) {
        this.#run(`${chunk}/`, 0, first * 4096, sides, "GGTT", run, first);
      }
    }
  }

  #add(row: Omit<TreeRow, "isOpen">, table: TableView | undefined): void {
    if (this.rows.length >= MAX_ROWS) return void this.more++;
    const isOpen = table === undefined ? null : this.#open.has(row.key);
    this.rows.push({ ...row, isOpen });
    if (table !== undefined && isOpen === true) this.#table(`${row.key}/`, row.depth + 1, row.from, table);
  }

  #table(path: string, depth: number, base: number, table: TableView): void {
    const kind = entryKind(table.kind);
    for (const run of runsOf(table, kind, (index) => this.#judge.code(table, index))) {
      this.#run(path, depth, base, table, kind, run, 0);
    }
  }

  #run(
    path: string,
    depth: number,
    base: number,
    sides: Sides,
    kind: EntryKind,
    run: Run,
    number: number,
  ): void {
    const { first, last, code } = run;
    const size = 2 ** (kind === "GGTT" ? 12 : SHIFT[kindOf(kind)]);
    const range = first === last ? `${number + first}` : `${number + first}–${number + last}`;
    const [lo, hi] = [sides.shadow[2 * first]!, sides.shadow[2 * first + 1]!];
    const table = this.#tableOf(kind, lo, hi);
    const counting = first - first % sides.span;
    const row = {
      key: `${path}${first}`,
      depth,
      from: base + first * size,
      bytes: (last - first + 1) * size,
      name: `${kind}[${range}]`,
      guest: sides.guest === null ? "(not a page of the guest's)" : this.#side(
        kind,
        sides.guest[2 * counting]!,
        sides.guest[2 * counting + 1]!,
        "guest",
        (run.steps?.[0] ?? 0) * (last - first),
        table,
      ),
      shadow: this.#side(kind, lo, hi, "shadow", (run.steps?.[1] ?? 0) * (last - first), table),
      ...verdict(code),
    };
    this.#add(row, table);
  }

  #tableText({ gfn, refs, span, isSplit, isOutOfSync, isLookedAt }: TableView): string {
    if (isSplit) return `2 MiB page ${hex(gfn)}, split`;
    const pages = span === 1 ? "" : " of 64 KiB pages";
    const times = refs > 1 ? ` ×${refs}` : "";
    // Where nothing traps every table is out of sync in the engine's sense.
    const isBehind = isOutOfSync && this.#snapshot.parts.tracking === "trapped";
    const state = !isLookedAt ? " (not looked at)" : isBehind ? " (out of sync)" : "";
    return `table${pages} ${hex(gfn)}${times}${state}`;
  }

  #tableOf(kind: EntryKind, lo: number, hi: number): TableView | undefined {
    if (kind === "PTE" || kind === "GGTT" || (lo & PRESENT) === 0 || isLarge(kindOf(kind), lo)) {
      return undefined;
    }
    const table = this.#snapshot.tableAt(frameOf(lo, hi));
    return table?.kind === kindOf(kind) - 1 ? table : undefined;
  }

  #side(
    kind: EntryKind,
    lo: number,
    hi: number,
    side: "guest" | "shadow",
    steps: number,
    table: TableView | undefined,
  ): string {
    const flags = flagLetters(kind, lo, hi);
    if ((lo & PRESENT) === 0) return lo === 0 && hi === 0 ? "—" : `not present (${flags})`;
    const frame = entryFrame(kind, lo, hi);
    const isPage = kind === "PTE" || kind === "GGTT" || isLarge(kindOf(kind), lo);
    if (side === "shadow" && table !== undefined) return `${this.#tableText(table)} · ${flags}`;
    const scratch = side === "shadow" ? this.#snapshot.scratchName(frame) : null;
    const end = frame + steps * (isPage && kind === "PDE" ? LARGE_FRAMES : 1);
    const frames = steps === 0 ? hex(frame) : `${hex(frame)}–${hex(end)}`;
    const what = scratch !== null
      ? `scratch ${scratch}`
      : `${isPage ? "" : "table "}${side === "guest" ? "gfn" : "mfn"} ${frames}`;
    const large = isPage && kind !== "PTE" && kind !== "GGTT"
      ? `${kind === "PDP" ? "1 GiB" : "2 MiB"} at `
      : "";
    return `${large}${what} · ${flags}`;
  }
}

/**
 * The rows of an address space or a window.
 *
 * @param judge Judges the snapshot that is shown.
 * @param space What of it.
 * @param open Keys of the rows that are unfolded.
 * @returns Rows from the top, and how many more there are.
 */
export function treeRows(
  judge: Judge,
  space: StripSpace,
  open: readonly string[],
): { readonly rows: readonly TreeRow[]; readonly more: number } {
  const rows = new Rows(judge, new Set(open));
  const { windows, spaces } = judge.snapshot.parts;
  if (typeof space === "string") {
    const window = windows.find(({ name }) => name === space);
    if (window !== undefined) rows.window(window);
  } else {
    const view = spaces.find(({ id }) => id === space);
    if (view !== undefined) rows.space(view);
  }
  return { rows: rows.rows, more: rows.more };
}

/**
 * The keys of the rows that must be unfolded to see the entry of an address.
 *
 * @param judge Judges the snapshot that is shown.
 * @param space The address space.
 * @param gma The address.
 * @returns Keys from the root down; the last one is the row of the entry itself.
 */
export function treePath(judge: Judge, space: StripSpace, gma: number): string[] {
  const page = Math.floor(gma / 4096);
  if (typeof space === "string") {
    const chunk = judge.snapshot.parts.ggtt.get(Math.floor(page / ENTRIES));
    if (chunk === undefined) return [];
    const number = page - page % ENTRIES;
    const sides = { guest: chunk.guest, shadow: chunk.host, span: 1 };
    const run = runAt(runsOf(sides, "GGTT", (index) => judge.ggttCode(number + index)), page % ENTRIES);
    return run === undefined ? [] : [`${number / ENTRIES}/${run.first}`];
  }
  const view = judge.snapshot.space(space);
  if (view === undefined) return [];
  const slot = view.level === 4 ? 0 : Math.floor(gma / 2 ** 30);
  let table = view.level === 4 || slot < 4
    ? judge.snapshot.tableAt(frameOf(view.shadowRoots[2 * slot]!, view.shadowRoots[2 * slot + 1]!))
    : undefined;
  const keys = [`${slot}`];
  while (table !== undefined) {
    const { kind, shadow }: TableView = table;
    const current = table;
    const index = Math.floor(gma / 2 ** SHIFT[kind]) % ENTRIES;
    const run = runAt(runsOf(current, entryKind(kind), (each) => judge.code(current, each)), index);
    if (run === undefined) break;
    keys.push(`${keys.at(-1)}/${run.first}`);
    const [lo, hi] = [shadow[2 * index]!, shadow[2 * index + 1]!];
    const child = kind === PTE || (lo & PRESENT) === 0 || isLarge(kind, lo)
      ? undefined
      : judge.snapshot.tableAt(frameOf(lo, hi));
    table = child?.kind === kind - 1 ? child : undefined;
  }
  return keys;
}

function runAt(runs: readonly Run[], index: number): Run | undefined {
  return runs.find(({ first, last }) => first <= index && index <= last);
}

/** Neighbours that are alike, without those that are nothing on both sides. */
function runsOf(
  { guest, shadow, span }: Sides,
  kind: EntryKind,
  judge: (index: number) => ReasonCode,
): Run[] {
  const runs: Run[] = [];
  for (let index = 0; index < ENTRIES; index++) {
    const code = judge(index);
    if (code === ABSENT) continue;
    const run = runs.at(-1);
    const steps = run === undefined || run.last !== index - 1 || run.code !== code
      ? null
      : stepsTo({ guest, shadow, span }, kind, index);
    const goesOn = steps !== null && run !== undefined &&
      (run.steps === null || (run.steps[0] === steps[0] && run.steps[1] === steps[1]));
    if (goesOn) {
      run.last = index;
      run.steps = steps;
    } else runs.push({ first: index, last: index, code, steps: null });
  }
  return runs;
}

/** How far the frames of an entry are from those of the one before; `null` if they are not alike. */
function stepsTo(
  { guest, shadow, span }: Sides,
  kind: EntryKind,
  index: number,
): readonly [number, number] | null {
  const counting = index - index % span;
  const guestStep = guest === null || counting !== index ? 0 : stepOf(guest, kind, index);
  const shadowStep = stepOf(shadow, kind, index);
  return guestStep === null || shadowStep === null ? null : [guestStep, shadowStep];
}

/** 0 if an entry is the same as the one before, 1 if its frame is the next, `null` otherwise. */
function stepOf(lanes: Uint32Array, kind: EntryKind, index: number): 0 | 1 | null {
  const [lo, hi, lastLo, lastHi] = [
    lanes[2 * index]!,
    lanes[2 * index + 1]!,
    lanes[2 * index - 2]!,
    lanes[2 * index - 1]!,
  ];
  if (lo === lastLo && hi === lastHi) return 0;
  const isPage = kind === "PDE" && isLarge(PDE, lo);
  if (kind !== "PTE" && kind !== "GGTT" && !isPage) return null;
  const flags = isPage ? LARGE_FLAGS_LO : FLAGS_LO;
  if (((lo ^ lastLo) & flags) !== 0 || ((hi ^ lastHi) & ~FRAME_HI) !== 0) return null;
  return frameOf(lo, hi) - frameOf(lastLo, lastHi) === (isPage ? LARGE_FRAMES : 1) ? 1 : null;
}

function kindOf(kind: EntryKind): TableKind {
  return kind === "PML4" ? 4 : kind === "PDP" ? 3 : kind === "PDE" ? 2 : 1;
}

function verdict(code: ReasonCode): Pick<TreeRow, "class" | "words"> {
  return { class: CLASSES[classNumber(code)]!, words: code === ABSENT ? "" : reasonWords(REASONS[code]!) };
}

const ABSENT = REASON_CODES.absent;
