/**
 * The fast device loop: one thread that waits in `poll`, receives and sends by the C library, and drives sessions of
 * any kind over any number of listeners. It never returns to the event loop before it ends, so it belongs into a thread
 * of its own; another thread wakes it by an eventfd.
 *
 * All sessions share the thread, so a session's messages never run at the same time as another's. Each time round,
 * the session that drives the device goes first: a virtual CPU waits for its answers. A session with more to do than
 * fits into a turn (`turns.ts`) lets the others go first. Nothing is allocated on the way of a message.
 *
 * @module
 */

import { HELLO_GRACE } from "../../protocol/limits.ts";
import { type Libc, POLL_ENTRY_BYTES, PollEvent } from "../platform/libc.ts";
import { MessageIo } from "../platform/message_io.ts";
import { type Background, NO_BACKGROUND, runBackground, WAITING_PAUSE } from "./background.ts";
import type { ByteSession } from "./byte_session.ts";
import { FastLink, type LinkParts } from "./fast_link.ts";
import type { Log } from "./rpc_session.ts";
import { ListenError } from "./socket_file.ts";
import { MAX_CONNECTIONS } from "./turns.ts";

/** A listening socket and what speaks on its connections. */
export interface FastListener {
  /** What it listens on, for messages. */
  readonly name: string;
  /** The listening descriptor. It stays its owner's, who closes it when the loop has ended. */
  readonly fd: number;
  /** Makes the session of a new connection, which has the given number (1, 2, …). */
  makeSession(id: number): ByteSession;
  /** What a peer is told for which there is no room; `null`: nothing. */
  refusal(connections: number): Uint8Array | null;
}

/** Options of a {@linkcode FastLoop}. */
export interface FastLoopOptions {
  /** Where connections come from. */
  readonly listeners: readonly FastListener[];
  /** An eventfd by which another thread wakes the loop. */
  readonly wake: number;
  /** Whether the loop is to end; asked when it was woken. */
  readonly isStopped: () => boolean;
  /** What is done when no message waits; default: nothing. */
  readonly background?: Background;
  /** Where diagnostics go; default: nowhere. */
  readonly log?: Log;
  /** Connections at once; default {@linkcode MAX_CONNECTIONS}. */
  readonly maxConnections?: number;
  /** How long a connection may go without saying who it is, milliseconds; default {@linkcode HELLO_GRACE}. */
  readonly helloGrace?: number;
}

/** How long the VMM alone is attended to at a stretch, milliseconds: the others wait a tenth of a turn for that. */
const ATTENTION = 1;
/** Pause after a failed accept, milliseconds: when descriptors have run out, the failure repeats at once. */
const ACCEPT_PAUSE = 50;
const EAGAIN = -11;
const EINTR = -4;
const ECONNABORTED = -103;
/** Waiting for ever, as `poll` is told it. */
const FOR_EVER = -1;
/** A time that never comes, milliseconds. */
const NEVER = Infinity;
/** What each entry of the poll table is. */
const ENTRY_INTS = POLL_ENTRY_BYTES / 4;
const ENTRY_SHORTS = POLL_ENTRY_BYTES / 2;
/** Where in an entry the answers are, in 16-bit words; the events asked for are before them. */
const ANSWERS = 3;

/** Drives sessions over sockets, in the thread that calls {@linkcode FastLoop.run}. */
export class FastLoop {
  readonly #libc: Libc;
  readonly #parts: LinkParts;
  readonly #listeners: readonly FastListener[];
  readonly #background: Background;
  readonly #log: Log;
  readonly #maxConnections: number;
  readonly #helloGrace: number;
  /** Connections in the order they came. */
  #links: FastLink[] = [];
  /** Links of which a session made output while another one had its turn. */
  readonly #woken: FastLink[] = [];
  /** Whose turn is next, of those that do not drive the device. */
  #next = 0;
  #lastId = 0;
  #isStopping = false;
  /** When {@linkcode FastLoop.runFor} returns, milliseconds. */
  #leaveAt = NEVER;
  /** Until when nobody is accepted, milliseconds; 0: no pause. */
  #acceptPause = 0;
  /** Listeners that will never accept again. */
  readonly #deaf = new Set<FastListener>();

  /** The poll table: the eventfd, the listeners, the links. Rebuilt each time: it is short. */
  readonly #table: Uint8Array<ArrayBuffer>;
  readonly #tableInts: Int32Array<ArrayBuffer>;
  readonly #tableShorts: Int16Array<ArrayBuffer>;
  /** How many entries there are, as `poll` wants it; made anew when it changes. */
  #count = 0;
  #bigCount = 0n;

  /**
   * @param libc The C library of this thread.
   * @param options Listeners, eventfd, log, caps.
   */
  constructor(libc: Libc, options: FastLoopOptions) {
    const { wake, isStopped, log = () => {} } = options;
    this.#libc = libc;
    this.#parts = { libc, io: new MessageIo(libc), wake, isStopped, log };
    this.#listeners = options.listeners;
    this.#background = options.background ?? NO_BACKGROUND;
    this.#log = log;
    this.#maxConnections = options.maxConnections ?? MAX_CONNECTIONS;
    this.#helloGrace = options.helloGrace ?? HELLO_GRACE;
    const entries = 1 + this.#listeners.length + this.#maxConnections;
    this.#table = new Uint8Array(entries * POLL_ENTRY_BYTES);
    this.#tableInts = new Int32Array(this.#table.buffer);
    this.#tableShorts = new Int16Array(this.#table.buffer);
  }

  /**
   * Runs until it is stopped: no more connections then, what was answered is sent, everything is closed.
   *
   * @throws {ListenError} If no listener accepts any more; the connections that there were have ended by themselves.
   * @throws {Error} If `poll` fails, for no reason that a peer could give.
   */
  run(): void {
    this.runFor(NEVER);
  }

  /**
   * Runs for some time, so that the thread can see to something else before it goes on.
   *
   * @param ms How long, milliseconds; what is under way is finished.
   * @returns Whether it was stopped and everything is closed.
   * @throws {ListenError} As {@linkcode FastLoop.run}.
   * @throws {Error} As {@linkcode FastLoop.run}.
   */
  runFor(ms: number): boolean {
    this.#leaveAt = performance.now() + ms;
    let isLeft = false;
    try {
      while (!isLeft && (!this.#isStopping && !this.#isDeaf || this.#links.length > 0)) {
        this.#round();
        isLeft = this.#leaveAt !== NEVER && performance.now() >= this.#leaveAt;
      }
    } finally {
      if (!isLeft) this.#close();
    }
    if (isLeft) return false;
    if (!this.#isStopping) throw new ListenError("Nobody can connect any more: the listening socket is lost");
    return true;
  }

  #close(): void {
    for (const link of this.#links) link.close();
    this.#parts.io[Symbol.dispose]();
  }

  /** Whether nobody can come any more. */
  get #isDeaf(): boolean {
    return this.#deaf.size === this.#listeners.length;
  }

  /** Waits for something to happen and sees to it. */
  #round(): void {
    this.#fillTable();
    const ready = this.#libc.poll(this.#table, this.#bigCount, this.#timeout());
    if (ready < 0 && ready !== EINTR) throw new Error(`Cannot wait for connections: errno ${-ready}`);
    if (ready > 0) {
      this.#serveLinks();
      this.#acceptAll();
      if (this.#answersOf(0) !== 0) this.#awaken();
    }
    this.#goOn();
    this.#work();
    this.#expire();
    this.#forgetClosed();
    if (ready > 0) this.#attendVmm();
  }

  /**
   * A VMM that was answered asks again soon. As long as nobody has anything left to do, its next message is looked for
   * at once: that saves a `poll`, and mostly the time until a sleeping thread wakes. Everybody else, newcomers and the
   * other thread among them, waits a little longer for that.
   */
  #attendVmm(): void {
    const vmm = this.#idleVmm();
    if (vmm === null) return;
    const end = performance.now() + ATTENTION;
    while (vmm.serveAtOnce() && this.#hasOnlyToWait(vmm) && performance.now() < end);
    this.#forgetClosed();
  }

  /** The link that drives the device, if nobody has anything left to do. */
  #idleVmm(): FastLink | null {
    let vmm: FastLink | null = null;
    for (const link of this.#links) {
      if (link.session.isStalled) return null;
      if (link.session.isVmm && link.session.isOpen) vmm = link;
    }
    return vmm !== null && this.#hasOnlyToWait(vmm) ? vmm : null;
  }

  /** Whether the VMM was answered, and there is nothing to do before its next message. One that posts does not wait. */
  #hasOnlyToWait(vmm: FastLink): boolean {
    return !vmm.isClosed && vmm.isAnswered && vmm.wantedEvents === PollEvent.IN && !this.#isStopping &&
      !this.#background.isRunnable;
  }

  // ---- what to wait for

  #fillTable(): void {
    this.#setEntry(0, this.#parts.wake, PollEvent.IN);
    const isAccepting = !this.#isStopping && this.#acceptPause === 0;
    let entry = 1;
    for (const listener of this.#listeners) {
      this.#setEntry(entry++, isAccepting && !this.#deaf.has(listener) ? listener.fd : -1, PollEvent.IN);
    }
    for (const link of this.#links) this.#setEntry(entry++, link.fd, link.wantedEvents);
    if (entry !== this.#count) {
      this.#count = entry;
      this.#bigCount = BigInt(entry);
    }
  }

  #setEntry(entry: number, fd: number, events: number): void {
    this.#tableInts[entry * ENTRY_INTS] = fd;
    // Both halves at once: what is asked for, and no answer yet.
    this.#tableInts[entry * ENTRY_INTS + 1] = events;
  }

  #answersOf(entry: number): number {
    return this.#tableShorts[entry * ENTRY_SHORTS + ANSWERS]!;
  }

  /** The entry of the link with this index. */
  #entryOf(index: number): number {
    return 1 + this.#listeners.length + index;
  }

  /** How long `poll` may wait, milliseconds. */
  #timeout(): number {
    let deadline = this.#acceptPause === 0 ? NEVER : this.#acceptPause;
    deadline = Math.min(deadline, this.#leaveAt);
    if (this.#background.isRunnable) {
      if (!this.#background.isWaiting) return 0;
      deadline = Math.min(deadline, performance.now() + WAITING_PAUSE);
    }
    for (const link of this.#links) {
      if (link.session.isStalled && !link.isBlocked) return 0;
      if (link.deadline < deadline) deadline = link.deadline;
    }
    const pause = this.#background.idle();
    if (pause !== Infinity) deadline = Math.min(deadline, performance.now() + pause);
    return deadline === NEVER ? FOR_EVER : Math.ceil(Math.max(0, deadline - performance.now()));
  }

  // ---- connections that have something to say

  /** Lets links handle what came: the one that drives the device first, others until one has used up its turn. */
  #serveLinks(): void {
    const links = this.#links;
    const count = links.length;
    for (let index = 0; index < count; index++) {
      if (links[index]!.session.isVmm) this.#serve(index);
    }
    for (let step = 0; step < count; step++) {
      const index = (this.#next + step) % count;
      const link = links[index]!;
      if (link.session.isVmm || !this.#serve(index)) continue;
      if (link.session.isStalled) {
        // The turn is used up: the others look again for what has come meanwhile.
        this.#next = (index + 1) % count;
        return;
      }
    }
  }

  /** Serves one link, if something came. @returns Whether it did. */
  #serve(index: number): boolean {
    const answers = this.#answersOf(this.#entryOf(index));
    if (answers === 0) return false;
    this.#links[index]!.serve(answers);
    this.#flushWoken();
    return true;
  }

  /** Who has messages left over has another turn: the link that drives the device, and one other. */
  #goOn(): void {
    const links = this.#links;
    const count = links.length;
    for (let index = 0; index < count; index++) {
      if (links[index]!.session.isVmm) this.#giveTurn(links[index]!);
    }
    for (let step = 0; step < count; step++) {
      const index = (this.#next + step) % count;
      const link = links[index]!;
      if (link.session.isVmm || !this.#giveTurn(link)) continue;
      this.#next = (index + 1) % count;
      return;
    }
  }

  /** Another turn for a link, if it has something to do in it. @returns Whether it has. */
  #giveTurn(link: FastLink): boolean {
    if (link.isClosed || link.isBlocked || !link.session.isStalled) return false;
    link.goOn();
    this.#flushWoken();
    return true;
  }

  /** A piece of the work that waits until messages are done. */
  #work(): void {
    if (!this.#background.isRunnable) return;
    runBackground(this.#background, this.#log);
    this.#flushWoken();
  }

  /** Sends what sessions were given to say by others. */
  #flushWoken(): void {
    for (let link = this.#woken.pop(); link !== undefined; link = this.#woken.pop()) link.flushWoken();
  }

  // ---- who comes and goes

  #acceptAll(): void {
    for (let index = 0; index < this.#listeners.length; index++) {
      const answers = this.#answersOf(1 + index);
      if ((answers & PollEvent.IN) !== 0) this.#accept(this.#listeners[index]!);
      if ((answers & (PollEvent.HUP | PollEvent.ERR | PollEvent.NVAL)) !== 0) {
        this.#lose(this.#listeners[index]!);
      }
    }
  }

  /** A listener was shut down by whoever else has it. */
  #lose(listener: FastListener): void {
    this.#deaf.add(listener);
    this.#log("error", "the listening socket is lost", { listener: listener.name });
  }

  #accept(listener: FastListener): void {
    const fd = this.#libc.accept(listener.fd);
    if (fd < 0) {
      if (fd === EAGAIN || fd === EINTR || fd === ECONNABORTED) return;
      this.#log("error", "cannot accept a connection", { listener: listener.name, errno: -fd });
      this.#acceptPause = performance.now() + ACCEPT_PAUSE;
      return;
    }
    if (this.#links.length >= this.#maxConnections) return this.#refuse(listener, fd);
    const id = ++this.#lastId;
    this.#log("debug", "connected", { session: id, listener: listener.name });
    const helloDeadline = performance.now() + this.#helloGrace;
    const link = new FastLink(this.#parts, fd, id, listener.makeSession(id), helloDeadline);
    link.onWoken = () => this.#woken.push(link);
    this.#links.push(link);
  }

  #refuse(listener: FastListener, fd: number): void {
    this.#log("warn", "connection refused: too many", { connections: this.#links.length });
    const text = listener.refusal(this.#links.length);
    if (text !== null) {
      this.#parts.io.output.set(text);
      this.#parts.io.send(fd, text.length);
    }
    this.#libc.close(fd);
  }

  /** Another thread has something to say. */
  #awaken(): void {
    this.#libc.clearEvent(this.#parts.wake);
    if (this.#isStopping || !this.#parts.isStopped()) return;
    this.#isStopping = true;
    for (const link of this.#links) link.stop();
  }

  /** Sees to deadlines that have passed. */
  #expire(): void {
    if (this.#acceptPause !== 0 && performance.now() >= this.#acceptPause) this.#acceptPause = 0;
    for (const link of this.#links) {
      const { deadline } = link;
      if (deadline !== NEVER && !link.isClosed && performance.now() >= deadline) link.expire();
    }
  }

  #forgetClosed(): void {
    if (!this.#links.some(isClosed)) return;
    const gone = this.#links.slice(0, this.#next).filter(isClosed).length;
    this.#links = this.#links.filter((link) => !link.isClosed);
    // Whose turn was next still is.
    this.#next = this.#links.length === 0 ? 0 : (this.#next - gone) % this.#links.length;
  }
}

function isClosed(link: FastLink): boolean {
  return link.isClosed;
}
