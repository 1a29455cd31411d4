/**
 * One connection of the fast loop: a socket's descriptor and the session behind it.
 *
 * @module
 */

import { type Libc, PollEvent } from "../platform/libc.ts";
import { MessageIo, OUTPUT_BYTES } from "../platform/message_io.ts";
import type { ByteSession, PumpingSession } from "./byte_session.ts";
import type { Log } from "./rpc_session.ts";
import { DRAIN_GRACE, TimedTurn } from "./turns.ts";

const EAGAIN = -11;
const EINTR = -4;
/** A time that never comes, milliseconds. */
const NEVER = Infinity;

/**
 * A connection. Its loop calls it when something happened to the socket, when a deadline has passed, or when it may go
 * on with messages that were left over; it calls nobody but its session.
 */
export class FastLink {
  /** The socket. */
  readonly fd: number;
  /** What speaks on it. */
  readonly session: ByteSession;
  /** When {@linkcode expire} is to be called, milliseconds; `Infinity`: never. */
  deadline: number = NEVER;
  /** Called, once until {@linkcode flushWoken}, when the session has output that nobody is about to send. */
  onWoken: (() => void) | null = null;
  readonly #libc: Libc;
  readonly #io: MessageIo;
  readonly #id: number;
  readonly #log: Log;
  readonly #turn = new TimedTurn(Date.now);
  /** Output that the socket had no room for. */
  #unsent: Uint8Array<ArrayBuffer> | null = null;
  /** Buffers for input that comes while input is being handled; made when first needed. */
  #nested: MessageIo | null = null;
  #isWoken = false;
  /** Whether the peer has sent its last byte. */
  #isEnded = false;
  /** Whether {@linkcode deadline} is that of sending the rest. */
  #isDraining = false;
  #isClosed = false;

  /**
   * Takes over a connected socket.
   *
   * @param libc The C library of this thread.
   * @param io The buffers of this thread.
   * @param fd The socket.
   * @param id The connection's number.
   * @param session What speaks on it.
   * @param log Where diagnostics go.
   */
  constructor(libc: Libc, io: MessageIo, fd: number, id: number, session: ByteSession, log: Log) {
    this.#libc = libc;
    this.#io = io;
    this.fd = fd;
    this.#id = id;
    this.session = session;
    this.#log = log;
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

  /** Says by when the peer must have told who it is, milliseconds. */
  helloBy(deadline: number): void {
    this.deadline = deadline;
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
    this.deadline = NEVER;
    if (this.session.isClosing) return this.close();
    if (this.session.isOpen) return;
    this.#log("warn", "no hello: connection closed", { session: this.#id });
    this.close();
  }

  /** Ends the session; what was answered is still sent, if the peer reads it in time. */
  stop(): void {
    this.session.close();
    this.#flush();
    if (!this.#isClosed) this.#limitDrain();
  }

  /** Closes the socket; legal more than once. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.session.onOutput = null;
    this.session.close();
    this.#unsent = null;
    this.#nested?.[Symbol.dispose]();
    this.#libc.close(this.fd);
    this.#log("debug", "disconnected", { session: this.#id });
  }

  #read(): void {
    const { session } = this;
    const length = this.#io.receive(this.fd, session.takesDescriptors);
    if (length > 0) {
      this.#turn.begin();
      session.receive(this.#io.input, this.#turn, length, this.#io.descriptors);
      this.#flush();
    } else if (length !== EAGAIN && length !== EINTR) {
      this.#isEnded = true;
      session.end();
      if (length < 0) this.close();
      else this.#flush();
    }
  }

  /** The connection is gone while nothing is read: there is nobody to send to, but messages may be left to handle. */
  #noteLoss(events: number): void {
    if ((events & (PollEvent.ERR | PollEvent.NVAL)) === 0 && this.session.isStalled) return;
    this.close();
  }

  /** Sends as much as there is room for, handling messages that were left over as far as the turn allows. */
  #flush(): void {
    const { session } = this;
    if (this.#unsent !== null && !this.#sendRest()) return;
    for (let bytes = session.takeOutput(this.#turn); bytes !== null; bytes = session.takeOutput(this.#turn)) {
      if (!this.#send(bytes)) break;
    }
    if (this.#isClosed || session.isStalled) return;
    if (session.isGivenUp || session.isClosed && this.#unsent === null) this.close();
    // A peer that stopped sending may take its time to read, one that broke the stream may not.
    else if (session.isClosing && !this.#isEnded) this.#limitDrain();
  }

  /** Closes the socket in a while, whether the peer has read what it was sent or not. */
  #limitDrain(): void {
    if (this.#isDraining) return;
    this.#isDraining = true;
    this.deadline = Date.now() + DRAIN_GRACE;
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
    const io = this.#nested ??= new MessageIo(this.#libc);
    const entry = Int32Array.of(this.fd, PollEvent.IN);
    const table = new Uint8Array(entry.buffer);
    if (this.#isClosed || this.#isEnded || (this.#unsent !== null && !this.#sendRest())) return false;
    const bytes = this.session.takeOutput();
    if (this.#isClosed || (bytes !== null && !this.#send(bytes))) return false;
    if (this.#libc.poll(table, 1n, timeout) <= 0) return false;
    const length = io.receive(this.fd, this.session.takesDescriptors);
    if (length <= 0) return length === EAGAIN;
    this.session.receive(io.input, undefined, length, io.descriptors);
    return true;
  }
}

function isPumping(session: ByteSession): session is PumpingSession {
  return "pump" in session;
}
