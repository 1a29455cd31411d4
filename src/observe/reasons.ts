/**
 * Why an entry of a shadow is as it is: the reasons that a {@link "./verdict.ts" | verdict} can have, and the four classes
 * they fall into.
 *
 * - *same*: the shadow says what the guest says: the same flags, and the host frame of its frame; or nothing on both sides.
 * - *expected*: it differs because the engine is made so (`engine.md`): scratch where nothing may be mapped, large pages split.
 * - *pending*: the guest has changed it, and the engine need not have seen that yet.
 * - *wrong*: everything else. A bug of the engine; or of a hypervisor that did not tell of a store.
 *
 * @module
 */

/** How serious a difference is. */
export type VerdictClass = "same" | "expected" | "pending" | "wrong";

/** The classes, the most harmless first. */
export const CLASSES: readonly VerdictClass[] = ["same", "expected", "pending", "wrong"];

/** A letter for each class, to stand beside or instead of a colour. */
export const CLASS_LETTERS: Readonly<Record<VerdictClass, string>> = {
  same: "=",
  expected: "~",
  pending: "?",
  wrong: "!",
};

/** Reasons with their class, and what a line of a tree says; `""` goes without saying. */
const REASON_LIST = [
  ["absent", "same", "absent"],
  ["translated", "same", ""],
  ["removed", "expected", "removed, scratch"],
  ["no ram", "expected", "no RAM, scratch"],
  ["large refused", "expected", "large page refused, scratch"],
  ["left", "expected", "refused, the entry before stays"],
  ["split", "expected", "2 MiB page, split"],
  ["ips dropped", "expected", "64 KiB pages"],
  ["of 64k", "expected", "of a 64 KiB page"],
  ["of 2m", "expected", "of a 2 MiB page"],
  ["unreadable", "expected", "guest page unreadable"],
  ["reset", "expected", "not stored since the reset, scratch"],
  ["queued", "pending", "queued"],
  ["out of sync", "pending", "out of sync"],
  ["not looked at", "pending", "not looked at yet"],
  ["changed", "pending", "changed since it was looked at"],
  ["stale", "pending", "stale, a sync failed"],
  ["not read", "pending", "guest page unreadable, as it was"],
  ["not built", "pending", "not built, a store was refused"],
  ["parent", "pending", "of an entry that is pending"],
  ["unconfirmed", "pending", "just stored, look again"],
  ["reclaimed", "pending", "reclaimed"],
  ["failsafe", "pending", "given up (failsafe)"],
  ["missing", "wrong", "missing"],
  ["flags", "wrong", "other flags"],
  ["frame", "wrong", "another frame"],
  ["foreign", "wrong", "not the guest's"],
  ["table", "wrong", "another table"],
  ["dangling", "wrong", "no table"],
  ["maps", "wrong", "maps what the guest does not"],
  ["stray", "wrong", "stray bits"],
  ["large", "wrong", "a large page"],
] as const satisfies readonly (readonly [string, VerdictClass, string])[];

/** Why. */
export type Reason = typeof REASON_LIST[number][0];

/** A reason as a number, for tables with one byte an entry. */
export type ReasonCode = number;

/** The reasons by their number. */
export const REASONS: readonly Reason[] = REASON_LIST.map(([reason]) => reason);

/** The number of each reason. */
export const REASON_CODES: Readonly<Record<Reason, ReasonCode>> = Object.fromEntries(
  REASONS.map((reason, code) => [reason, code]),
) as Record<Reason, ReasonCode>;

const CLASS_NUMBERS = Uint8Array.from(REASON_LIST, ([, each]) => CLASSES.indexOf(each));

/**
 * How serious a reason is.
 *
 * @param code Its number.
 * @returns Index in {@linkcode CLASSES}.
 */
export function classNumber(code: ReasonCode): number {
  return CLASS_NUMBERS[code]!;
}

/**
 * What a line of a tree says of a reason.
 *
 * @param reason The reason.
 * @returns A few words; `""` where there is nothing to say.
 */
export function reasonWords(reason: Reason): string {
  return REASON_LIST[REASON_CODES[reason]]![2];
}

/** Entries by class. */
export interface Counts {
  /** The shadow says what the guest says. */
  same: number;
  /** It differs by design. */
  expected: number;
  /** It waits. */
  pending: number;
  /** It is wrong. */
  wrong: number;
}

/** No entries. */
export function noCounts(): Counts {
  return { same: 0, expected: 0, pending: 0, wrong: 0 };
}

/** Counts as text: `4 same, 3 expected, 1 wrong`, without what there is none of. */
export function countsText(counts: Readonly<Counts>): string {
  const parts = CLASSES.filter((each) => counts[each] > 0).map((each) => `${counts[each]} ${each}`);
  return parts.length === 0 ? "none" : parts.join(", ");
}
