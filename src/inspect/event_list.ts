/**
 * The event log for people and programs: each event with the names of its values, and as one line of text.
 *
 * @module
 */

import { EVENT_FIELDS, type EventKind, type LoggedEvent } from "../vgpu/event_log.ts";
import { hex } from "./target.ts";

/** An event with its values by name. */
export interface EventText {
  /** Its number. */
  readonly n: number;
  /** When, microseconds since the device started. */
  readonly t: number;
  /** What happened. */
  readonly kind: EventKind;
  /** One line. */
  readonly text: string;
  /** Its values by the names of `EVENT_FIELDS`. */
  readonly values: Readonly<Record<string, number>>;
}

/** What `EVENT_FIELDS` names, for one event. */
type Values = Readonly<Record<string, number>>;

/** Messages by which a guest notifies. */
const MESSAGES: Readonly<Record<number, string>> = {
  1: "old message",
  2: "3-level page table begins",
  3: "3-level page table ends",
  4: "4-level page table begins",
  5: "4-level page table ends",
  6: "context begins",
  7: "context ends",
};

/**
 * Names the values of an event.
 *
 * @param event The event.
 * @param engines Names of the engines by index.
 * @returns It for people and programs.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { eventText } from "./event_list.ts";
 *
 * const event = { n: 7, t: 1500, kind: "submit", values: [1, 0x4000000, 3, 0] } as const;
 * const { text, values } = eventText(event, ["rcs0", "bcs0"]);
 * assertEquals(text, "bcs0 begins context 0x4000000 on mm 3");
 * assertEquals(values, { engine: 1, context: 0x4000000, mm: 3, isGoingOn: 0 });
 * ```
 */
export function eventText({ n, t, kind, values }: LoggedEvent, engines: readonly string[]): EventText {
  const named = Object.fromEntries(EVENT_FIELDS[kind].map((name, index) => [name, values[index] ?? 0]));
  const engine = engines[named["engine"] ?? -1] ?? "the device";
  return { n, t, kind, text: TEXTS[kind](named, engine), values: named };
}

const TEXTS: Readonly<Record<EventKind, (values: Values, engine: string) => string>> = {
  attach: ({ session, untracked }) =>
    `VMM attached, session ${session}; ${
      untracked === 0 ? "it traps" : "nobody traps"
    } stores to page tables`,
  detach: ({ session }) => `VMM gone, session ${session}`,
  ram: ({ gpa = 0, size = 0, isMapped }) =>
    `guest RAM ${hex(gpa)}–${hex(gpa + size - 1)} ${isMapped === 0 ? "removed" : "added"}`,
  g2v: ({ message = 0, root = 0, result }) => {
    const what = MESSAGES[message] ?? `unknown message ${message}`;
    return `${what}, root ${hex(root)}${result === 0 ? "" : `: failed with ${result}`}`;
  },
  submit: ({ context = 0, mm, isGoingOn }, engine) =>
    `${engine} ${isGoingOn === 0 ? "begins" : "goes on with"} context ${hex(context)} on mm ${mm}`,
  complete: ({ context = 0 }, engine) => `${engine} is done with context ${hex(context)}`,
  refuse: ({ context = 0 }, engine) =>
    `${engine} refused ${context === 0 ? "a submission: wrong descriptors" : `context ${hex(context)}`}`,
  fault: ({ gma = 0, isGgtt }, engine) =>
    `${engine}: ${isGgtt === 0 ? "PPGTT" : "GGTT"} address ${hex(gma)} leads nowhere`,
  command: ({ dword = 0, gma = 0 }, engine) => `${engine} halted at ${hex(gma)}: ${hex(dword)} is no command`,
  sync: ({ synced, built, freed, flushed }) =>
    `page tables: ${synced} brought up to date, ${built} built, ${freed} freed, ${flushed} entries flushed`,
  tlb: () => "TLBs invalidated",
  reset: (_values, engine) => `${engine} reset`,
  failsafe: () => "gave up on the guest (failsafe mode)",
};
