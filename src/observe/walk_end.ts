/**
 * What is to be said of two walks of one address: where they end, and why they may end elsewhere.
 *
 * @module
 */

import type { VerdictClass } from "./reasons.ts";
import type { SideWalk, Walk, WalkEnd, WalkStep } from "./walk_result.ts";
import { hex } from "../inspect/target.ts";
import type { Judge, Verdict } from "./verdict.ts";

/** Both walks. */
interface Walks {
  readonly root: Verdict;
  readonly steps: readonly WalkStep[];
  readonly guest: SideWalk;
  readonly shadow: SideWalk;
}

/**
 * The verdict of a whole walk.
 *
 * @param judge Knows guest RAM.
 * @param walks Both walks.
 * @returns Class and reason, and "guest says X, shadow says Y" with what explains it.
 */
export function endSentence(judge: Judge, { root, steps, guest, shadow }: Walks): Walk["verdict"] {
  const says = `guest says ${guestText(judge, guest.end)}, shadow says ${shadowText(judge, shadow.end)}`;
  if (guest.end.is === "unknown") {
    const sentence = `the guest's page at gfn ${hex(guest.wanted!)} is not known; shadow says ${
      shadowText(judge, shadow.end)
    }`;
    return { class: worst(root, steps), reason: "unknown", sentence };
  }
  const wanted = guest.end.is === "page" ? judge.ram.mfnOf(guest.end.frame!) : -1;
  const mapsPage = shadow.end.is === "page";
  const agrees = wanted < 0
    ? !mapsPage && shadow.end.is !== "no table"
    : mapsPage && shadow.end.frame === wanted;
  const why = because(root, steps);
  if (!agrees) {
    if (why !== null && why.class !== "same") return { ...why, sentence: `${says}, because ${why.sentence}` };
    // The entries are right each by itself, but the way is not that of the guest.
    return { class: "wrong", reason: "frame", sentence: `${says}, and nothing explains that` };
  }
  if (why === null || why.class === "same") {
    return { class: "same", reason: why?.reason ?? root.reason, sentence: `${says}: both agree` };
  }
  if (why.class === "wrong" || why.class === "pending") {
    return { ...why, sentence: `${says}: both agree, but ${why.sentence}` };
  }
  return { ...why, sentence: `${says}, because ${why.sentence}` };
}

/** The first of the worst things on the way. */
function because(root: Verdict, steps: readonly WalkStep[]): Verdict | null {
  const verdicts = [root, ...steps.flatMap(({ verdict }) => verdict ?? [])];
  for (const each of ["wrong", "pending", "expected"] satisfies VerdictClass[]) {
    const found = verdicts.find((verdict) => verdict.class === each);
    if (found !== undefined) return found;
  }
  return verdicts.at(-1) ?? null;
}

function worst(root: Verdict, steps: readonly WalkStep[]): VerdictClass {
  return because(root, steps)?.class ?? "same";
}

/** Where the guest's walk ends. */
function guestText(judge: Judge, { is, frame, address }: WalkEnd): string {
  switch (is) {
    case "page":
      return `gpa ${hex(address!)}${judge.ram.mfnOf(frame!) < 0 ? ", which is no RAM" : ""}`;
    case "unreadable":
      return "nothing (a table cannot be read)";
    case "refused":
      return "a large page that is refused";
    case "no root":
      return "nothing (no root)";
    default:
      return "nothing";
  }
}

/** Where the shadow's walk ends. */
function shadowText(judge: Judge, { is, frame, address, scratch }: WalkEnd): string {
  if (is === "scratch") return `scratch (${scratch})`;
  if (is === "no root") return "nothing (no root)";
  if (is === "no shadow") return "nothing (not shadowed)";
  if (is === "no table") return `no table at mfn ${hex(frame!)}`;
  if (is !== "page") return "nothing";
  const gfn = judge.ram.gfnOf(frame!);
  return gfn < 0
    ? `mfn ${hex(frame!)}, which is not the guest's`
    : `gpa ${hex(gfn * 4096 + address! % 4096)}`;
}
