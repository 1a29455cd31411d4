/**
 * The walk of one address as the page shows it: the guest's step beside the shadow's, and where both lead.
 *
 * @module
 */

import type { VerdictClass } from "../observe/reasons.ts";
import type { StripSpace } from "../observe/strip.ts";
import { hex } from "../inspect/target.ts";
import { walkSteps } from "../observe/walk_steps.ts";
import type { Walk, WalkEnd, WalkEntry } from "../observe/walk_result.ts";
import type { Moment } from "./moment.ts";

/** One side of a step. */
export interface StepView {
  /** Frame of the table: a guest frame, or a host frame; empty of the GGTT. */
  readonly table: string;
  /** The entry, 16 digits; empty where it cannot be read. */
  readonly hex: string;
  /** Its flags, short. */
  readonly flags: string;
  /** Where it leads. */
  readonly target: string;
  /** Its flags in words. */
  readonly words: string;
}

/** One level. */
export interface LevelView {
  /** The entry: `PDE[5]`. */
  readonly name: string;
  /** The bits of the address that it is made of. */
  readonly bits: string;
  /** The guest's step, if its walk comes so far. */
  readonly guest: StepView | null;
  /** The shadow's step, if its walk comes so far. */
  readonly shadow: StepView | null;
  /** What is to be said of it; `null` if the two are not of the same table. */
  readonly class: VerdictClass | null;
  /** The same as a sentence; empty if they agree. */
  readonly sentence: string;
}

/** A walk. */
export interface WalkView {
  /** The address. */
  readonly gma: number;
  /** What is to be said of the address itself; empty if nothing is. */
  readonly note: string;
  /** The levels, from the root down. */
  readonly levels: readonly LevelView[];
  /** Where the guest's tables lead. */
  readonly guest: string;
  /** Where the shadow leads. */
  readonly shadow: string;
  /** What is to be said of it. */
  readonly class: VerdictClass;
  /** The same as a sentence. */
  readonly sentence: string;
}

/** Pages of the guest's that one walk can come to. */
const MAX_PAGES = 4;

/**
 * Walks an address at a moment.
 *
 * @param moment The moment; pages of the guest's that it does not know are read now.
 * @param space The address space.
 * @param gma The address.
 * @returns The walk; `null` if there is no such space.
 */
export async function walkView(moment: Moment, space: StripSpace, gma: number): Promise<WalkView | null> {
  const { snapshot } = moment;
  const of = typeof space === "number" ? snapshot.space(space) : "ggtt";
  if (of === undefined) return null;
  const pages = new Map<number, Uint32Array | null>();
  let walk = walkSteps(snapshot, of, gma);
  while (walk.wanted !== null && pages.size < MAX_PAGES) {
    pages.set(walk.wanted, await moment.readPage(walk.wanted));
    walk = walkSteps(snapshot, of, gma, { guestPage: (gfn) => pages.get(gfn) });
  }
  return viewOf(walk, gma);
}

function viewOf({ note, steps, guest, shadow, verdict }: Walk, gma: number): WalkView {
  return {
    gma,
    note: note ?? "",
    levels: steps.map(({ table, index, bits, guest, shadow, verdict }) => ({
      name: `${table}[${index}]`,
      bits,
      guest: stepView(guest, table === "GGTT"),
      shadow: stepView(shadow, table === "GGTT"),
      class: verdict?.class ?? null,
      sentence: verdict === null || verdict.class === "same" ? "" : verdict.sentence,
    })),
    guest: endText(guest, "gpa"),
    shadow: endText(shadow, "hpa"),
    class: verdict.class,
    sentence: verdict.sentence,
  };
}

function stepView(entry: WalkEntry | null, isGgtt: boolean): StepView | null {
  if (entry === null) return null;
  const { frame: table, hex: text, flags, isPresent, target, note, words } = entry;
  return {
    table: isGgtt ? "" : hex(table),
    hex: text ?? "",
    flags,
    target: text === null ? "cannot be read" : isPresent ? `${hex(target)}${noteText(note)}` : "not present",
    words: words.join(", "),
  };
}

/** What a target is; the names of scratch pages are explained, and tables are told by their frames. */
function noteText(note: string | null): string {
  if (note === null) return "";
  const [, gfn] = /^\w+ table of (gfn \w+)$/.exec(note) ?? [];
  if (gfn !== undefined) return ` (${gfn})`;
  return /^s?[A-Z]\w*$/.test(note) ? ` (scratch ${note})` : ` (${note})`;
}

function endText({ is, address, scratch }: WalkEnd, name: "gpa" | "hpa"): string {
  if (scratch !== null) return `scratch page ${scratch}`;
  if (is === "page") return `${name} ${hex(address!)}`;
  return ENDS[is] ?? is;
}

const ENDS: Readonly<Partial<Record<WalkEnd["is"], string>>> = {
  "absent": "nothing: not present",
  "no root": "nothing: no root",
  "no shadow": "nothing: not shadowed",
  "unreadable": "a table that cannot be read",
  "unknown": "a table that is not known",
  "refused": "a large page that is refused",
  "outside": "nothing: outside",
};
