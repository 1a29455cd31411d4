/**
 * The states of pages for people: a letter, a name, and where their colour is in the style sheet.
 *
 * @module
 */

import { STRIP_STATES, type StripState } from "../../observe/strip_content.ts";

/** How a state is shown. */
export interface StateLook {
  /** A letter beside the colour. */
  readonly letter: string;
  /** Its name in the legend. */
  readonly name: string;
  /** What it means. */
  readonly title: string;
  /** The pattern over its colour. */
  readonly pattern: "none" | "rising" | "falling" | "columns" | "dots";
}

const LOOKS: Readonly<Record<StripState, StateLook>> = {
  unmapped: { letter: "·", name: "unmapped", title: "nothing is mapped", pattern: "none" },
  scratch: {
    letter: "s",
    name: "scratch",
    title: "a scratch page: the device's, or the one that the guest fills its tables with",
    pattern: "dots",
  },
  mapped: { letter: "M", name: "mapped", title: "a page of 4 KiB, and the shadow agrees", pattern: "none" },
  large: { letter: "L", name: "large", title: "a page of 64 KiB or 2 MiB", pattern: "columns" },
  split: {
    letter: "X",
    name: "split",
    title: "a 2 MiB page of the guest that is 512 pages in the shadow",
    pattern: "columns",
  },
  pending: {
    letter: "?",
    name: "pending",
    title:
      "the guest has changed it and the shadow need not have followed yet: out of sync, queued, not looked at",
    pattern: "rising",
  },
  bad: {
    letter: "B",
    name: "no RAM",
    title: "the guest's entry leads to what is no memory",
    pattern: "falling",
  },
  wrong: {
    letter: "!",
    name: "wrong",
    title: "the shadow is not what the guest's tables say",
    pattern: "none",
  },
};

/** How the states are shown, in the order of `STRIP_STATES`. */
export const STATE_LOOKS: readonly StateLook[] = STRIP_STATES.map((state) => LOOKS[state]);

/** The states from the bottom of a cell to its top: what matters most is on top. */
export const STACK: readonly number[] =
  (["scratch", "mapped", "large", "split", "bad", "pending", "wrong"] as const)
    .map((state) => STRIP_STATES.indexOf(state));
