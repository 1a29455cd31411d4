/**
 * In which lane of the time-line an event is, and what it is called there.
 *
 * @module
 */

import type { EventKind } from "../../vgpu/event_log.ts";

/** A lane. */
export interface EventLane {
  /** Its name. */
  readonly name: string;
  /** Its kinds and the letter of each. */
  readonly letters: Readonly<Partial<Record<EventKind, string>>>;
}

/** The lanes from the top. */
export const EVENT_LANES: readonly EventLane[] = [
  { name: "g2v", letters: { g2v: "g" } },
  { name: "submit", letters: { submit: "S", complete: "c" } },
  { name: "sync", letters: { sync: "y", tlb: "t" } },
  { name: "fault", letters: { fault: "F", command: "C", refuse: "R", failsafe: "!" } },
  { name: "device", letters: { reset: "r", attach: "A", detach: "D", ram: "m" } },
];

/** The lane of a kind: an index; the last one for kinds that are not known. */
export function laneOf(kind: EventKind): number {
  const lane = EVENT_LANES.findIndex(({ letters }) => kind in letters);
  return lane < 0 ? EVENT_LANES.length - 1 : lane;
}
