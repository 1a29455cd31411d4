/**
 * What happened to one device lately, for whoever looks in: a ring of numbered events. Numbers go on when VMMs come and go.
 *
 * An event costs a few stores and a look at the clock; nothing is made of it until somebody asks.
 *
 * @module
 */

import type { Counters } from "../gtt/counters.ts";

/** Events that are kept: a minute of a busy guest's submissions, or an hour of a quiet one's. */
export const EVENTS_KEPT = 4096;

/** Events that one answer tells: a millisecond's work. */
export const EVENTS_TOLD = 256;

/** Kinds of events and the names of what each tells, in order. */
export const EVENT_FIELDS = {
  /** A VMM attached: its session, and whether it traps stores (0) or not (1). */
  attach: ["session", "untracked"],
  /** It is gone. */
  detach: ["session"],
  /** Guest RAM came (1) or went (0). */
  ram: ["gpa", "size", "isMapped"],
  /** The guest notified: message, guest physical address of the first root, result. */
  g2v: ["message", "root", "result"],
  /** A context begins (0) or goes on with more commands (1). */
  submit: ["engine", "context", "mm", "isGoingOn"],
  /** A context has come to its end. */
  complete: ["engine", "context"],
  /** A submission was refused; context 0: its descriptors were wrong. */
  refuse: ["engine", "context"],
  /** An address led nowhere: of the GGTT (1) or of a PPGTT (0). */
  fault: ["engine", "gma", "isGgtt"],
  /** A command that is none: the engine halted at it. */
  command: ["engine", "dword", "gma"],
  /** Page tables followed the guest's since the last event of this kind: brought up to date, built, freed, entries flushed. */
  sync: ["synced", "built", "freed", "flushed"],
  /** The guest invalidated the TLBs by a register. */
  tlb: [],
  /** An engine was reset; -1: the whole device. */
  reset: ["engine"],
  /** The device gave up on the guest. */
  failsafe: [],
} as const satisfies Readonly<Record<string, readonly string[]>>;

/** A kind of event. */
export type EventKind = keyof typeof EVENT_FIELDS;

/** One event. */
export interface LoggedEvent {
  /** Its number, 1 or more. */
  readonly n: number;
  /** When, microseconds on the log's clock. */
  readonly t: number;
  /** What happened. */
  readonly kind: EventKind;
  /** What {@linkcode EVENT_FIELDS} names, in its order. */
  readonly values: readonly number[];
}

const KINDS = Object.keys(EVENT_FIELDS) as EventKind[];
const CODES = new Map(KINDS.map((kind, code) => [kind, code]));
/** Numbers an event takes: when, kind, four values. */
const SLOT = 6;

/**
 * A log.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { EventLog } from "./event_log.ts";
 *
 * const log = new EventLog(() => 12.5);
 * log.add("g2v", 4, 0x1000, 0);
 * log.add("reset", -1);
 * assertEquals(log.last, 2);
 * assertEquals(log.since(1), [{ n: 2, t: 12500, kind: "reset", values: [-1] }]);
 * ```
 */
export class EventLog {
  readonly #clock: () => number;
  readonly #slots = new Float64Array(EVENTS_KEPT * SLOT);
  #last = 0;
  #counters: Counters | null = null;
  /** Counters of the engine when tables were spoken of last. */
  readonly #told = { synced: 0, built: 0, freed: 0, flushed: 0 };

  /**
   * A log of which nothing happened yet.
   *
   * @param now The time, milliseconds, never going back; default `performance.now`. Events have whole microseconds.
   */
  constructor(now: () => number = () => performance.now()) {
    this.#clock = now;
  }

  /**
   * The time of an event that would be noted now.
   *
   * @returns Microseconds on the log's clock.
   */
  get now(): number {
    return Math.floor(this.#clock() * 1000);
  }

  /**
   * Number of the last event.
   *
   * @returns 0 before the first.
   */
  get last(): number {
    return this.#last;
  }

  /**
   * Notes an event.
   *
   * @param kind What happened.
   * @param a First value that the kind has, and so on.
   * @param b Second value.
   * @param c Third value.
   * @param d Fourth value.
   */
  add(kind: EventKind, a = 0, b = 0, c = 0, d = 0): void {
    const slots = this.#slots;
    const at = (this.#last % EVENTS_KEPT) * SLOT;
    this.#last++;
    slots[at] = this.now;
    slots[at + 1] = CODES.get(kind)!;
    slots[at + 2] = a;
    slots[at + 3] = b;
    slots[at + 4] = c;
    slots[at + 5] = d;
  }

  /**
   * Follows the page tables of an engine from now on.
   *
   * @param counters What it counts.
   */
  follow(counters: Counters): void {
    this.#counters = counters;
    const { synced, tablesBuilt: built, tablesFreed: freed, flushed } = counters;
    Object.assign(this.#told, { synced, built, freed, flushed });
  }

  /** Notes what became of page tables since this was asked last, if anything did. */
  noteTables(): void {
    const counters = this.#counters;
    if (counters === null) return;
    const { synced, tablesBuilt: built, tablesFreed: freed, flushed } = counters;
    const told = this.#told;
    const isSame = synced === told.synced && built === told.built && freed === told.freed &&
      flushed === told.flushed;
    if (isSame) return;
    this.add("sync", synced - told.synced, built - told.built, freed - told.freed, flushed - told.flushed);
    told.synced = synced;
    told.built = built;
    told.freed = freed;
    told.flushed = flushed;
  }

  /**
   * The events after one.
   *
   * @param n Number of the last event that is known, 0 for none.
   * @returns Those that are still kept, oldest first; {@linkcode EVENTS_TOLD} at most.
   */
  since(n: number): LoggedEvent[] {
    const events: LoggedEvent[] = [];
    const first = Math.max(n, this.#last - EVENTS_KEPT) + 1;
    for (let each = first; each <= this.#last && events.length < EVENTS_TOLD; each++) {
      const at = ((each - 1) % EVENTS_KEPT) * SLOT;
      const kind = KINDS[this.#slots[at + 1]!]!;
      const values = [...this.#slots.subarray(at + 2, at + 2 + EVENT_FIELDS[kind].length)];
      events.push({ n: each, t: this.#slots[at]!, kind, values });
    }
    return events;
  }
}
