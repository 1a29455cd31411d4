/**
 * One connection of the fast loop: a socket's descriptor and the session behind it.
 *
 * @module
 */

import { type Libc, PollEvent } from "../platform/libc.ts";
import { MessageIo, OUTPUT_BYTES } from "../platform/message_io.ts";
import type { ByteSession, PumpingSession } from "./byte_session.ts";
import { Patience } from "./patience.ts";
import type { Log } from "./rpc_session.ts";
import { DRAIN_GRACE, ENDED_GRACE, TimedTurn } from "./turns.ts";

const EAGAIN = -11;
const EINTR = -4;
/** A time that never comes, milliseconds. */
const NEVER = Infinity;

/** What the links of a loop share. */
export interface LinkParts {
  /** The C library of this thread. */
  readonly libc: Libc;
  /** The buffers of this thread. */
  readonly io: MessageIo;
  /** An eventfd by which another thread wakes this one. */
  readonly wake: number;
  /** Whether the loop is to end. */
  readonly isStopped: () => boolean;
  /** Where diagnostics go. */
  readonly log: Log;
}

/**
 * A connection. Its loop calls it when something happened to the socket, when a deadline has passed, or when it may go
 * on with messages that were left over; it calls nobody but its session.
 */
export class FastLink {
  /** The socket. */
  readonly fd: number;
  /** What speaks on it. */
  readonly session: ByteSession;
  /** Called, once until {@linkcode flushWoken}, when the session has output that nobody is about to send. */
  onWoken: (() => void) | null = null;
  readonly #parts: LinkParts;
  readonly #io: MessageIo;
  readonly #id: number;
  readonly #turn = new TimedTurn(Date.now);
  readonly #patience = new Patience();
  /** Output that the socket had no room for. */
  #unsent: Uint8Array<ArrayBuffer> | null = null;
  /** Buffers for input that comes while input is being handled; made when first needed. */
  #nested: MessageIo | null = null;
  #isWoken = false;
  #isAnswered = false;
  /** Whether the peer has sent its last byte. */
  #isEnded = false;
  /** By when the peer must have said who it is, and by when it must have read the rest, milliseconds. */
  #helloDeadline: number;
  #drainDeadline = NEVER;
  #isClosed = false;

  /**
   * Takes over a connected socket.
   *
   * @param parts What it shares with others.
   * @param fd The socket.
   * @param id The connection's number.
   * @param session What speaks on it.
   * @param helloDeadline By when the peer must have said who it is, by `performance.now`.
   */
  constructor(parts: LinkParts, fd: number, id: number, session: ByteSession, helloDeadline: number) {
    this.#parts = parts;
    this.#io = parts.io;
    this.fd = fd;
    this.#id = id;
    this.session = session;
    this.#helloDeadline = helloDeadline;
    session.onOutput = () => this.#wake();
    if (isPumping(session)) session.pump = (timeout) => this.#pump(timeout);
  }

  /** Whether the socket is closed. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Whether output waits for room in the socket. */
  get isBlocked(): boolean {
    return this.#unsent !== null;
  }

  /** What the loop is to wait for. */
  get wantedEvents(): number {
    const isReading = this.session.wantsInput && !this.#isEnded;
    return (isReading ? PollEvent.IN : 0) | (this.#unsent !== null ? PollEvent.OUT : 0);
  }

  /** Whether the peer was sent something and has not been waited for since. */
  get isAnswered(): boolean {
    return this.#isAnswered;
  }

  /** When {@linkcode expire} is to be called, by `performance.now`; `Infinity`: never. */
  get deadline(): number {
    if (this.#helloDeadline !== NEVER && this.session.isOpen) this.#helloDeadline = NEVER;
    return Math.min(this.#helloDeadline, this.#drainDeadline);
  }

  /**
   * Something happened to the socket.
   *
   * @param events What, an or of `PollEvent`.
   */
  serve(events: number): void {
    if ((events & PollEvent.OUT) !== 0) this.#flush();
    const mayRead = this.session.wantsInput && !this.#isEnded && !this.#isClosed;
    if (mayRead && (events & (PollEvent.IN | PollEvent.HUP | PollEvent.ERR)) !== 0) this.#read();
    else if ((events & (PollEvent.ERR | PollEvent.HUP | PollEvent.NVAL)) !== 0) this.#noteLoss(events);
  }

  /**
   * Looks whether the next message comes at once, and handles it.
   *
   * @returns Whether it did; if not, the link is to be waited for.
   */
  serveAtOnce(): boolean {
    this.#isAnswered = false;
    const looks = this.#patience.looks();
    for (let vain = 0; vain < looks; vain++) {
      if (this.#read()) {
        this.#patience.succeeded(vain);
        return true;
      }
      if (this.wantedEvents !== PollEvent.IN) return false;
    }
    this.#patience.failed();
    return false;
  }

  /** Another turn for messages that were left over. */
  goOn(): void {
    this.#turn.begin();
    this.#flush();
  }

  /** Sends what the session was given to say by others. */
  flushWoken(): void {
    this.#isWoken = false;
    if (!this.#isClosed) this.#flush();
  }

  /** The deadline has passed. */
  expire(): void {
    if (this.#drainDeadline === NEVER) {
      this.#parts.log("warn", "no hello: connection closed", { session: this.#id });
    }
    this.close();
  }

  /** Ends the session; what was answered is still sent, if the peer reads it in time. */
  stop(): void {
    this.session.close();
    this.#flush();
    if (!this.#isClosed) this.#limitDrain(DRAIN_GRACE);
  }

  /** Closes the socket; legal more than once. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.session.onOutput = null;
    this.session.close();
    this.#unsent = null;
    this.#nested?.[Symbol.dispose]();
    this.#parts.libc.close(this.fd);
    this.#parts.log("debug", "disconnected", { session: this.#id });
  }

  /** Handles what has come. @returns Whether something has. */
  #read(): boolean {
    const { session } = this;
    const length = this.#io.receive(this.fd, session.takesDescriptors);
    if (length > 0 && this.#io.hasLostDescriptors) {
      this.#dropIncomplete(this.#io);
    } else if (length > 0) {
      this.#turn.begin();
      session.receive(this.#io.input, this.#turn, length, this.#io.descriptors);
      this.#flush();
    } else if (length !== EAGAIN && length !== EINTR) {
      this.#isEnded = true;
      session.end();
      if (length < 0) this.close();
      else this.#flush();
    }
    return length > 0;
  }

  /** The connection is gone while nothing is read: there is nobody to send to, but messages may be left to handle. */
  #noteLoss(events: number): void {
    if ((events & (PollEvent.ERR | PollEvent.NVAL)) === 0 && this.session.isStalled) return;
    this.close();
  }

  /** Sends as much as there is room for, handling messages that were left over as far as the turn allows. */
  #flush(): void {
    const { session } = this;
    if (this.#isClosed) return;
    if (session.isGivenUp) return this.close();
    if (this.#unsent !== null && !this.#sendRest()) return;
    for (let bytes = session.takeOutput(this.#turn); bytes !== null; bytes = session.takeOutput(this.#turn)) {
      if (!this.#send(bytes)) break;
    }
    if (this.#isClosed || session.isStalled) return;
    if (session.isGivenUp || session.isClosed && this.#unsent === null) this.close();
    // A peer that stopped sending may take its time to read, one that broke the stream may not.
    else if (session.isClosing) this.#limitDrain(this.#isEnded ? ENDED_GRACE : DRAIN_GRACE);
  }

  /** Ends a connection of which descriptors were lost: what they came with would be carried out without them. */
  #dropIncomplete(io: MessageIo): void {
    for (const fd of io.descriptors) this.#parts.libc.close(fd);
    this.#parts.log("error", "descriptors were lost: more came than any message has, or none is free here", {
      session: this.#id,
    });
    this.close();
  }

  /** Closes the socket in a while, whether the peer has read what it was sent or not. */
  #limitDrain(grace: number): void {
    const deadline = performance.now() + grace;
    // Only ever earlier: a stopping device does not wait for who was given more time.
    if (this.#drainDeadline === NEVER || grace === DRAIN_GRACE && deadline < this.#drainDeadline) {
      this.#drainDeadline = deadline;
    }
  }

  #sendRest(): boolean {
    const rest = this.#unsent!;
    this.#unsent = null;
    return this.#send(rest);
  }

  /** Sends bytes; what there is no room for is kept. @returns Whether all were sent. */
  #send(bytes: Uint8Array<ArrayBuffer>): boolean {
    for (let at = 0; at < bytes.length;) {
      const length = Math.min(bytes.length - at, OUTPUT_BYTES);
      this.#io.output.set(at === 0 && length === bytes.length ? bytes : bytes.subarray(at, at + length));
      const sent = this.#io.send(this.fd, length);
      if (sent > 0) {
        at += sent;
        this.#isAnswered = true;
      } else if (sent === EAGAIN || sent === EINTR) {
        this.#unsent = bytes.slice(at);
        return false;
      } else {
        this.close();
        return false;
      }
    }
    return true;
  }

  /** The session has output while another one has its turn. */
  #wake(): void {
    if (this.#isWoken || this.#isClosed) return;
    this.#isWoken = true;
    this.onWoken?.();
  }

  /** Lets the session exchange something with its peer while it handles a message; see {@linkcode PumpingSession}. */
  #pump(timeout: number): boolean {
    const { libc, wake, isStopped } = this.#parts;
    const io = this.#nested ??= new MessageIo(libc);
    if (this.#isClosed || this.#isEnded || isStopped()) return false;
    if (this.#unsent !== null && !this.#sendRest()) return false;
    const bytes = this.session.takeOutput();
    if (this.#isClosed || (bytes !== null && !this.#send(bytes))) return false;
    const table = Int32Array.of(this.fd, PollEvent.IN, wake, PollEvent.IN);
    if (libc.poll(new Uint8Array(table.buffer), 2n, timeout) <= 0 || isStopped()) return false;
    const length = io.receive(this.fd, this.session.takesDescriptors);
    if (length > 0 && io.hasLostDescriptors) this.#dropIncomplete(io);
    else if (length > 0) this.session.receive(io.input, undefined, length, io.descriptors);
    return length > 0 ? !this.#isClosed : length === EAGAIN;
  }
}

function isPumping(session: ByteSession): session is PumpingSession {
  return "pump" in session;
}
