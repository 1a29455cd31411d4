/**
 * The portable device loop: drives sessions over Deno's asynchronous sockets. It needs no FFI and runs wherever Deno
 * does; all sessions share one thread, so a session's methods never run at the same time as another's. A session with
 * more to do than fits into a turn (`turns.ts`) lets the others go first.
 *
 * @module
 */

import { HELLO_GRACE } from "../../protocol/limits.ts";
import { type Background, NO_BACKGROUND, runBackground, WAITING_PAUSE } from "./background.ts";
import type { ByteSession } from "./byte_session.ts";
import type { Connection, Listener } from "./listener.ts";
import { ListenError } from "./socket_file.ts";
import { refusal } from "./refusal.ts";
import type { Log } from "./rpc_session.ts";
import { DRAIN_GRACE, ENDED_GRACE, MAX_CONNECTIONS, TimedTurn, TurnQueue } from "./turns.ts";

/** Options of {@linkcode serve}. */
export interface ServeOptions {
  /** Ends the loop: no more connections, what was answered is sent, then everything is closed. */
  readonly signal?: AbortSignal;
  /** What is done when no message waits; default: nothing. */
  readonly background?: Background;
  /** Where diagnostics go; default: nowhere. */
  readonly log?: Log;
  /** Connections at once; default {@linkcode MAX_CONNECTIONS}. */
  readonly maxConnections?: number;
  /** How long a connection may go without `hello`, milliseconds; default {@linkcode HELLO_GRACE}. */
  readonly helloGrace?: number;
  /** The time, milliseconds, by which turns are measured; default `Date.now`, the clock that is read fastest. */
  readonly now?: () => number;
}

/** Pause after a failed accept, milliseconds: when descriptors have run out, the failure repeats at once. */
const ACCEPT_PAUSE = 50;
/** Bytes asked for in one read: as much as a socket buffer usually has. */
const READ_BYTES = 64 * 1024;

/**
 * Accepts connections and drives a session over each, until the signal.
 *
 * @param listener Where connections come from; closed at the end.
 * @param makeSession Makes the session of a new connection, which has the given number (1, 2, …).
 * @param options Signal, log, cap.
 * @returns Settles when every connection is closed, within a second of the signal unless one message takes longer.
 * @throws {ListenError} If the listener failed for good. The connections that there were have ended by themselves.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { serve } from "./portable_loop.ts";
 *
 * // A listener to which nobody connects.
 * const stop = new AbortController();
 * const closed = Promise.withResolvers<null>();
 * const listener = { name: "none", accept: () => closed.promise, close: () => closed.resolve(null) };
 * const makeSession = () => {
 *   throw new Error("nobody connects");
 * };
 * const served = serve(listener, makeSession, { signal: stop.signal });
 * stop.abort();
 * assertEquals(await served, undefined);
 * ```
 */
export async function serve(
  listener: Listener,
  makeSession: (id: number) => ByteSession,
  options: ServeOptions = {},
): Promise<void> {
  const { signal, log = () => {}, maxConnections = MAX_CONNECTIONS, helloGrace = HELLO_GRACE } = options;
  const now = options.now ?? Date.now;
  const turns = new TurnQueue();
  const work = new Work(options.background ?? NO_BACKGROUND, log);
  const links = new Set<Link>();
  const running = new Set<Promise<void>>();
  let lastId = 0;

  const closeListener = () => {
    try {
      listener.close();
    } catch (error) {
      log("error", "cannot close the listener", { listener: listener.name, error: String(error) });
    }
  };
  const stop = () => {
    closeListener();
    for (const link of links) link.stop();
  };
  signal?.addEventListener("abort", stop, { once: true });
  if (signal?.aborted) stop();

  try {
    for (;;) {
      const connection = await accept(listener, log);
      if (connection === null) break;
      if (links.size >= maxConnections) {
        log("warn", "connection refused: too many", { connections: links.size });
        await refuse(connection, links.size);
        continue;
      }
      const id = ++lastId;
      log("debug", "connected", { session: id });
      const link = new Link(connection, makeSession(id), turns, new TimedTurn(now), () => work.begin());
      links.add(link);
      const silent = setTimeout(() => {
        if (link.closeUnlessOpen()) log("warn", "no hello: connection closed", { session: id });
      }, helloGrace);
      const done = link.run().catch((error) => {
        log("debug", "connection lost", { session: id, error: String(error) });
      }).finally(() => {
        clearTimeout(silent);
        link.close();
        links.delete(link);
        running.delete(done);
        log("debug", "disconnected", { session: id });
      });
      running.add(done);
    }
  } catch (error) {
    closeListener();
    throw error;
  } finally {
    // Those who are here may stay, even if nobody else can come.
    await Promise.all(running);
    work.end();
    signal?.removeEventListener("abort", stop);
  }
}

/** The next connection; a failure to accept one is no reason to stop, unless it is the listener's own end. */
async function accept(listener: Listener, log: Log): Promise<Connection | null> {
  for (;;) {
    try {
      return await listener.accept();
    } catch (error) {
      log("error", "cannot accept a connection", { error: String(error) });
      if (error instanceof ListenError) throw error;
      await new Promise((resolve) => setTimeout(resolve, ACCEPT_PAUSE));
    }
  }
}

/** Tells a peer that there is no room for it. A socket's buffer takes this much without waiting. */
async function refuse(connection: Connection, connections: number): Promise<void> {
  try {
    await connection.write(refusal(connections));
  } catch {
    // It has gone by itself.
  }
  connection.close();
}

/** The device's own work: a piece at a time, between which the event loop goes round. */
class Work {
  readonly #background: Background;
  readonly #log: Log;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #idleTimer: ReturnType<typeof setTimeout> | undefined;
  /** When the next piece is due. */
  #due: "never" | "soon" | "later" = "never";

  constructor(background: Background, log: Log) {
    this.#background = background;
    this.#log = log;
  }

  /** A message was handled: there may be something to do now. */
  begin(): void {
    // What is due soon stays so: a peer that asks without a pause would put it off for ever. What only waited may have
    // been waiting for just that message.
    if (this.#due !== "soon" && this.#background.isRunnable) this.#plan("soon");
    if (this.#idleTimer === undefined) this.#idle();
  }

  /** Does no more. */
  end(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#idleTimer);
  }

  /** Time for what can wait; once more when that is wanted. */
  #idle(): void {
    const pause = this.#background.idle();
    this.#idleTimer = pause === Infinity ? undefined : setTimeout(() => this.#idle(), pause);
  }

  #plan(due: "soon" | "later"): void {
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => this.#run(), due === "soon" ? 0 : WAITING_PAUSE);
  }

  #run(): void {
    this.#due = "never";
    // A message may have taken away what was to be done.
    if (!this.#background.isRunnable) return;
    runBackground(this.#background, this.#log);
    if (this.#idleTimer === undefined) this.#idle();
    if (this.#background.isRunnable) this.#plan(this.#background.isWaiting ? "later" : "soon");
  }
}

/** One connection and its session. */
class Link {
  readonly #connection: Connection;
  readonly #session: ByteSession;
  readonly #turns: TurnQueue;
  readonly #turn: TimedTurn;
  readonly #onHandled: () => void;
  readonly #buffer = new Uint8Array(READ_BYTES);
  /** The writing, and handling of what was left over, that is under way, or the last one. */
  #flushed: Promise<void> = Promise.resolve();
  #isFlushing = false;
  /** Whether run() has come to the end of the stream. */
  #isEnded = false;
  #isClosed = false;
  #drainTimer: ReturnType<typeof setTimeout> | undefined;
  #drainGrace = Infinity;

  constructor(
    connection: Connection,
    session: ByteSession,
    turns: TurnQueue,
    turn: TimedTurn,
    onHandled: () => void,
  ) {
    this.#connection = connection;
    this.#session = session;
    this.#turns = turns;
    this.#turn = turn;
    this.#onHandled = onHandled;
    session.onOutput = () => this.#outputArose();
  }

  /** Reads, handles and writes until either end is done. Rejects if the connection breaks. */
  async run(): Promise<void> {
    const session = this.#session;
    try {
      while (!session.isClosing) {
        const count = await this.#connection.read(this.#buffer);
        if (count === null) break;
        this.#turn.begin();
        session.receive(this.#buffer.subarray(0, count), this.#turn);
        this.#onHandled();
        this.#flush();
        // Writing overlaps with reading, up to the session's high-water mark.
        while (!session.wantsInput && this.#isFlushing && !session.isClosing) await this.#flushed;
      }
      if (session.isGivenUp) return;
      this.#limitDrain(session.isClosing ? DRAIN_GRACE : ENDED_GRACE);
      this.#isEnded = true;
      session.end();
      this.#flush();
      await this.#flushed;
    } finally {
      session.close();
    }
  }

  /** Ends the session; {@linkcode run} then sends what is left. A peer that does not read is cut off. */
  stop(): void {
    this.#session.close();
    this.#flush();
    this.#limitDrain(DRAIN_GRACE);
    this.#flushed.finally(() => this.close()).catch(() => {});
  }

  /** Closes the connection of a peer that has not said who it is. @returns Whether it was one. */
  closeUnlessOpen(): boolean {
    if (this.#session.isOpen || this.#session.isClosing) return false;
    this.#connection.close();
    return true;
  }

  /** Closes the connection. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#drainTimer);
    this.#session.onOutput = null;
    this.#connection.close();
  }

  /** Closes the connection in a while, whether the peer has read what it was sent or not. */
  #limitDrain(grace: number): void {
    // Only ever earlier: a stopping device does not wait for who was given more time.
    if (this.#isClosed || grace >= this.#drainGrace) return;
    this.#drainGrace = grace;
    clearTimeout(this.#drainTimer);
    this.#drainTimer = setTimeout(() => this.close(), grace);
  }

  /** Another session's call, or a timer, made output for this one. */
  #outputArose(): void {
    // There is nothing to wait for, and a write that is under way may never end.
    if (this.#session.isGivenUp) return this.#connection.close();
    this.#flush();
  }

  /** Sees to it that output is written and messages that wait are handled. */
  #flush(): void {
    if (this.#isFlushing) return;
    const first = this.#session.takeOutput(this.#turn);
    if (first === null && !this.#session.isStalled) return;
    this.#isFlushing = true;
    this.#flushed = this.#write(first);
    // The failure is run()'s to report, when it gets there.
    this.#flushed.catch(() => this.#connection.close());
  }

  async #write(first: Uint8Array<ArrayBuffer> | null): Promise<void> {
    const session = this.#session;
    try {
      for (let bytes = first; bytes !== null || session.isStalled; bytes = session.takeOutput(this.#turn)) {
        if (bytes === null) {
          await this.#turns.next();
          this.#turn.begin();
          continue;
        }
        // A peer that stopped sending may take its time to read, one that broke the stream may not.
        if (session.isClosing && !this.#isEnded) this.#limitDrain(DRAIN_GRACE);
        for (let sent = 0; sent < bytes.length;) {
          sent += await this.#connection.write(sent === 0 ? bytes : bytes.subarray(sent));
        }
      }
    } finally {
      this.#isFlushing = false;
      // What was left over has been handled, and what was waiting to be read has been.
      this.#onHandled();
    }
  }
}
