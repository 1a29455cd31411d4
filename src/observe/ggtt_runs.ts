/**
 * The GGTT as runs: neighbours that are alike on both sides, and lead to frames that follow one another or to one frame, are
 * one.
 *
 * @module
 */

import { FLAGS_LO, FRAME_HI, frameOf, PAGE_SIZE, PRESENT } from "../gtt/entry.ts";
import { flagLetters } from "./entry_text.ts";
import {
  CLASS_LETTERS,
  CLASSES,
  classNumber,
  type Counts,
  countsText,
  noCounts,
  type Reason,
  REASONS,
  reasonWords,
  type VerdictClass,
} from "./reasons.ts";
import { GGTT_CHUNK, type Snapshot, type WindowView } from "./snapshot.ts";
import { hex } from "../inspect/target.ts";
import { Judge } from "./verdict.ts";

/** Runs that are told, if nobody says how many. */
export const GGTT_RUNS = 200;

/** What of the GGTT is told. */
export interface GgttOptions {
  /** First graphics address. */
  readonly from?: number | undefined;
  /** The graphics address after the last one. */
  readonly to?: number | undefined;
  /** Runs at most; default {@linkcode GGTT_RUNS}. */
  readonly limit?: number | undefined;
}

/** The GGTT. */
export interface GgttTable {
  /** Runs by address. */
  readonly runs: GgttRun[];
  /** Runs beyond the limit. */
  readonly more: number;
  /** All entries by what is to be said of them. */
  readonly counts: Counts;
}

/** Entries that are alike. */
export interface GgttRun {
  /** Whose part of graphics memory it is. */
  readonly window: WindowView["name"];
  /** Number of the first entry. */
  readonly first: number;
  /** Number of the last entry. */
  last: number;
  /** First graphics address. */
  readonly from: number;
  /** Last graphics address. */
  to: number;
  /** What the frames are: one after another, one and the same, or there are none. */
  form: "linear" | "constant" | "unmapped";
  /** The guest's flags, short. */
  readonly guestFlags: string;
  /** The host's flags. */
  readonly hostFlags: string;
  /** First and last guest frame; `null` where the guest maps nothing. */
  readonly guest: [first: number, last: number] | null;
  /** First and last host frame; `null` where the host's entry is not present. */
  readonly host: [first: number, last: number] | null;
  /** Name of the scratch page that the host's entries lead to. */
  readonly scratch: string | null;
  /** How serious what is to be said is. */
  readonly class: VerdictClass;
  /** Why they are as they are. */
  readonly reason: Reason;
}

/**
 * Folds the GGTT.
 *
 * @param snapshot The moment.
 * @param options What is told.
 * @returns Runs by address.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sketch } from "../../tests/unit/inspect_snapshot.ts";
 * import { ggttLines, ggttRuns } from "./ggtt_runs.ts";
 *
 * const snapshot = sketch({ ggtt: { 0x400: [0x5001, 0x100005001], 0x401: [0x6001, 0x100006001] } });
 * assertEquals(ggttLines(ggttRuns(snapshot)), [
 *   "GGTT: 2 same, 1022 expected",
 *   "= aperture · 0x400000–0x401fff · GGTT[1024–1025] · P · gfn 0x5–0x6 → mfn 0x100005–0x100006 · linear",
 *   "~ aperture · 0x402000–0x5fffff · GGTT[1026–1535] · - → P · absent → scratch S · not stored since the reset, scratch",
 *   "~ hidden · 0x800000–0x9fffff · GGTT[2048–2559] · - → P · absent → scratch S · not stored since the reset, scratch",
 * ]);
 * ```
 */
export function ggttRuns(snapshot: Snapshot, options: GgttOptions = {}): GgttTable {
  const { from = 0, to = Infinity, limit = GGTT_RUNS } = options;
  const folder = new GgttFolder(snapshot, limit);
  for (const { name, base, size } of snapshot.parts.windows) {
    const first = Math.floor(Math.max(base, from) / PAGE_SIZE);
    const end = Math.ceil(Math.min(base + size, to) / PAGE_SIZE);
    folder.window(name, first, end);
  }
  return folder.table();
}

/**
 * The GGTT as lines.
 *
 * @param table Its runs.
 * @returns Lines without line ends.
 */
export function ggttLines({ runs, more, counts }: GgttTable): string[] {
  const lines = [`GGTT: ${countsText(counts)}`, ...runs.map(runLine)];
  if (more > 0) lines.push(`  … and ${more} more ${more === 1 ? "run" : "runs"}`);
  return lines;
}

function runLine(run: GgttRun): string {
  const { window, first, last, from, to, form, guestFlags, hostFlags, guest, host, scratch, reason } = run;
  const index = first === last ? `${first}` : `${first}–${last}`;
  const frames = ([one, other]: readonly [number, number]) => {
    return one === other ? hex(one) : `${hex(one)}–${hex(other)}`;
  };
  const target = scratch !== null ? `scratch ${scratch}` : host === null ? "nothing" : `mfn ${frames(host)}`;
  const parts = [
    `${CLASS_LETTERS[run.class]} ${window}`,
    `${hex(from)}–${hex(to)}`,
    `GGTT[${index}]`,
    guestFlags === hostFlags ? guestFlags : `${guestFlags} → ${hostFlags}`,
    `${guest === null ? "absent" : `gfn ${frames(guest)}`} → ${target}`,
  ];
  const words = [reasonWords(reason), first < last && form !== "unmapped" ? form : ""];
  const said = words.filter((text) => text !== "").join(", ");
  if (said !== "") parts.push(said);
  return parts.join(" · ");
}

/** Puts entries into runs. */
class GgttFolder {
  readonly #snapshot: Snapshot;
  readonly #judge: Judge;
  readonly #limit: number;
  readonly #runs: GgttRun[] = [];
  readonly #counts = noCounts();
  #more = 0;
  /** The entry before: its lanes and its reason. */
  readonly #before = new Uint32Array(4);
  #code = -1;

  constructor(snapshot: Snapshot, limit: number) {
    this.#snapshot = snapshot;
    this.#judge = new Judge(snapshot);
    this.#limit = limit;
  }

  window(name: WindowView["name"], first: number, end: number): void {
    let run: GgttRun | null = null;
    const lanes = new Uint32Array(4);
    for (let index = first; index < end; index++) {
      const chunk = this.#snapshot.parts.ggtt.get(Math.floor(index / GGTT_CHUNK));
      const at = 2 * (index % GGTT_CHUNK);
      for (let lane = 0; lane < 2; lane++) {
        lanes[lane] = chunk?.guest[at + lane] ?? 0;
        lanes[2 + lane] = chunk?.host[at + lane] ?? 0;
      }
      const code = this.#judge.ggttCode(index);
      this.#counts[CLASSES[classNumber(code)]!]++;
      if (run === null || code !== this.#code || !this.#continues(run, index, lanes)) {
        run = this.#begin(name, index, lanes, code);
      }
      this.#before.set(lanes);
      this.#code = code;
    }
  }

  table(): GgttTable {
    return { runs: this.#runs, more: this.#more, counts: this.#counts };
  }

  #begin(window: WindowView["name"], index: number, lanes: Uint32Array, code: number): GgttRun {
    const [lo, hi, hostLo, hostHi] = [...lanes] as [number, number, number, number];
    const isPresent = (lo & PRESENT) !== 0;
    const only = (frame: number): [number, number] => [frame, frame];
    const hostFrame = frameOf(hostLo, hostHi);
    const run: GgttRun = {
      window,
      first: index,
      last: index,
      from: index * PAGE_SIZE,
      to: (index + 1) * PAGE_SIZE - 1,
      form: isPresent ? "linear" : "unmapped",
      guestFlags: flagLetters("GGTT", lo, hi),
      hostFlags: flagLetters("GGTT", hostLo, hostHi),
      guest: isPresent ? only(frameOf(lo, hi)) : null,
      host: (hostLo & PRESENT) !== 0 ? only(hostFrame) : null,
      scratch: (hostLo & PRESENT) !== 0 ? this.#snapshot.scratchName(hostFrame) : null,
      class: CLASSES[classNumber(code)]!,
      reason: REASONS[code]!,
    };
    if (this.#runs.length < this.#limit) this.#runs.push(run);
    else this.#more++;
    return run;
  }

  /** Whether an entry continues a run, which it does then. */
  #continues(run: GgttRun, index: number, lanes: Uint32Array): boolean {
    const before = this.#before;
    for (const side of [0, 2]) {
      if (((lanes[side]! ^ before[side]!) & FLAGS_LO) !== 0) return false;
      if (((lanes[side + 1]! ^ before[side + 1]!) & ~FRAME_HI) !== 0) return false;
    }
    const guestStep = run.guest === null ? 0 : frameOf(lanes[0]!, lanes[1]!) - run.guest[1];
    const hostStep = run.host === null ? 0 : frameOf(lanes[2]!, lanes[3]!) - run.host[1];
    if (run.first === run.last) {
      if (guestStep !== 0 && guestStep !== 1 || hostStep !== 0 && hostStep !== 1) return false;
      if (run.form === "linear" && guestStep === 0) run.form = "constant";
    } else if (run.form === "linear" ? guestStep !== 1 : guestStep !== 0) return false;
    else if (run.host !== null && hostStep !== (run.host[0] === run.host[1] ? 0 : 1)) return false;
    run.last = index;
    run.to = (index + 1) * PAGE_SIZE - 1;
    if (run.guest !== null) run.guest[1] += guestStep;
    if (run.host !== null) run.host[1] += hostStep;
    return true;
  }
}
