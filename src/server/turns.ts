/**
 * Who may run when several connections have work for the one thread they share.
 *
 * A connection's messages are handled for the length of a *turn*. What is left then waits in a *queue*, in which one
 * connection goes on at a time and the event loop goes round between any two: others' messages, timers and signals
 * wait for one turn at most, however many connections are in the queue. One message is never interrupted.
 *
 * @module
 */

import type { Turn } from "./byte_session.ts";

/**
 * Connections at once: one VMM and its observers. An idle one has 96 KiB of buffers; a busy one may have the largest
 * message that is on its way in (at most 8 MiB of buffer) and out (at most `OUTPUT_LIMIT`, usually 256 KiB).
 */
export const MAX_CONNECTIONS = 64;
/** How long a peer may take to read what was answered before this end closed, milliseconds; with the rest under 1 s. */
export const DRAIN_GRACE = 500;
/** How long a peer that stopped sending may take to read its answers, milliseconds; it holds a place all the while. */
export const ENDED_GRACE = 60_000;
/** Length of a turn, milliseconds: some ten thousand stores, and too little to be felt by a signal or another peer. */
export const TURN_TIME = 10;
/** A message this long is a costly one, milliseconds; nothing shorter shows on a clock of whole milliseconds. */
const COSTLY = 1;
/** Cheap messages between two looks at the clock: a look costs a tenth of a store. */
const MAX_STRIDE = 4;

/**
 * The turn of one connection; it looks at the clock after every message as long as these are costly, else less often.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { TimedTurn, TURN_TIME } from "./turns.ts";
 *
 * let time = 0;
 * const turn = new TimedTurn(() => time);
 * turn.begin();
 * assertEquals(turn.isOver(), false); // before the first message
 * time += TURN_TIME;
 * assertEquals(turn.isOver(), true);
 * ```
 */
export class TimedTurn implements Turn {
  readonly #now: () => number;
  #start = 0;
  #last = 0;
  #stride = 1;
  #unasked = 0;
  #isOver = true;

  /**
   * A turn that has not begun.
   *
   * @param now The time, milliseconds. It need not be monotonic: a jump costs a turn, no more.
   */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Begins; the first message may be handled whatever it takes. */
  begin(): void {
    this.#start = this.#last = this.#now();
    this.#stride = 1;
    this.#unasked = 2;
    this.#isOver = false;
  }

  /** Whether the time is up; asked before each message. */
  isOver(): boolean {
    if (this.#isOver || --this.#unasked > 0) return this.#isOver;
    const now = this.#now();
    this.#stride = now - this.#last < COSTLY ? Math.min(2 * this.#stride, MAX_STRIDE) : 1;
    this.#unasked = this.#stride;
    this.#last = now;
    return this.#isOver = now - this.#start >= TURN_TIME || now < this.#start;
  }
}

/** Connections that wait for another turn, first come, first served. */
export class TurnQueue {
  #last: Promise<void> = Promise.resolve();

  /**
   * Queues up.
   *
   * @returns Settles when it is this caller's turn, after the event loop has gone round.
   */
  next(): Promise<void> {
    // Not setImmediate: with one pending the runtime does not wait, and looks at sockets only now and then.
    return this.#last = this.#last.then(() => new Promise((resolve) => void setTimeout(resolve)));
  }
}
