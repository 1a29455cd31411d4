/**
 * Reads a device's event log: it tells some events at a time, so that nobody who asks for all of them holds it up.
 *
 * @module
 */

import type { EventText } from "../inspect/event_list.ts";

/** What the log told. */
export interface EventsAnswer {
  /** Number of the newest event that is told, or was known. */
  readonly last: number;
  /** Events that were no longer kept. */
  readonly lost: number;
  /** When that was, microseconds since the device started. */
  readonly now: number;
  /** The events, oldest first. */
  readonly events: readonly EventText[];
}

/** Whoever can be asked: a connection to a device, in any role. */
export interface EventsPeer {
  /** Calls the method. */
  call(method: "events", since: number): Promise<Readonly<Record<string, unknown>>>;
}

/** Questions after which it is enough: a device may note events faster than they can be read. */
const MAX_QUESTIONS = 64;

/**
 * Reads what is new.
 *
 * @param peer Who is asked.
 * @param since Number of the last event that is known, 0 for none.
 * @returns Everything after it, as far as it is kept.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { readEvents } from "./event_reader.ts";
 *
 * // A log of three events that tells two at a time.
 * const log = [1, 2, 3].map((n) => ({ n, t: 0, kind: "tlb", text: "TLBs invalidated", values: {} }));
 * const call = (_name: string, since: number) =>
 *   Promise.resolve({ last: 3, lost: 0, now: 9, events: log.slice(since, since + 2) });
 * const { events, last } = await readEvents({ call }, 0);
 * assertEquals([events.map(({ n }) => n), last], [[1, 2, 3], 3]);
 * ```
 */
export async function readEvents(peer: EventsPeer, since: number): Promise<EventsAnswer> {
  const events: EventText[] = [];
  let [last, lost, now] = [since, 0, 0];
  for (let question = 0; question < MAX_QUESTIONS; question++) {
    const answer = await peer.call("events", last) as unknown as EventsAnswer;
    events.push(...answer.events);
    lost += answer.lost;
    now = answer.now;
    // A number beyond the newest one's is another device's: there is nothing to be read on from.
    last = answer.events.at(-1)?.n ?? answer.last;
    if (last >= answer.last) break;
  }
  return { last, lost, now, events };
}
