/**
 * One MessagePack-RPC connection, without its socket: bytes in, bytes out. The session knows messages, roles and
 * rules (`protocol/README.md`); what the methods do is the {@linkcode RpcService}'s.
 *
 * Invariants: a malformed *call* is answered and the session lives; a malformed *stream* gets one last error and no
 * byte of it is read after that; an exception that is no `RpcError` is a bug of this program, costs this session
 * and no other, and its text stays here. Nothing is ever thrown to the loop.
 *
 * @module
 */

import { decode } from "../../protocol/codec.ts";
import { RpcError } from "../../protocol/errors.ts";
import { FlatCall } from "../../protocol/flat_call.ts";
import {
  HELLO_LIMITS,
  OUTPUT_HIGH_WATER,
  OUTPUT_LIMIT,
  PROTOCOL_VERSION,
  REPLY_LIMITS,
  REQUEST_LIMITS,
} from "../../protocol/limits.ts";
import { parseEnvelope } from "../../protocol/messages.ts";
import {
  checkParams,
  findMethod,
  type Method,
  type MethodName,
  type NoticeName,
  type NoticeParams,
  type Params,
  type Result,
  type Role,
} from "../../protocol/methods.ts";
import { describe, nil } from "../../protocol/schema.ts";
import { FAULTS, NEED_MORE, peekCallId, peekType, REFUSED, Scanner } from "../../protocol/scan.ts";
import { Writer } from "../../protocol/writer.ts";
import type { ByteSession, Turn } from "./byte_session.ts";

/** How much a log line matters. */
export type LogLevel = "debug" | "info" | "warn" | "error";
/** Where log lines go. The fields are escaped and the lines rate-limited there. */
export type Log = (
  level: LogLevel,
  message: string,
  fields?: Readonly<Record<string, string | number | boolean>>,
) => void;

/** The other end of a session, as the service sees it. */
export interface RpcPeer {
  /** The session's number, never used again in this process. */
  readonly id: number;
  /** What it said at `hello`; `null` before `open` has returned. */
  readonly role: Role | null;
  /** Notifications from this peer that were refused or failed: nobody is told, they are only counted. */
  readonly failedNotifications: number;
  /** Whether much waits to be read by the peer, so that nothing more should be made that it can do without for now. */
  readonly isBehind: boolean;
  /** Sends a notification. One sent during a call reaches the peer before the call's reply. */
  notify<N extends NoticeName>(notice: N, params: NoticeParams<N>): void;
}

/** What `hello` carries. */
export type HelloParams = Params<"hello">[0];
/** What the answer to `hello` carries. */
export type HelloResult = Result<"hello">;

/** What the methods do. All calls are synchronous and come one at a time. */
export interface RpcService {
  /** Whether the device was started with `--debug`. */
  readonly debug: boolean;
  /**
   * A peer said `hello`.
   *
   * @throws {RpcError} EBUSY for a second VMM; the peer may try again.
   */
  open(peer: RpcPeer, hello: HelloParams): HelloResult;
  /**
   * A call or notification, of a method the peer may call, with parameters that fit the method table.
   *
   * @returns The result; `undefined` is nil.
   * @throws {RpcError} The error to answer with. Anything else that is thrown is a bug.
   */
  call(peer: RpcPeer, method: MethodName, params: readonly unknown[]): unknown;
  /** A peer whose `open` succeeded is gone, for whatever reason; once. Notifications to it are dropped by now. */
  close(peer: RpcPeer): void;
}

/** Options of a session. */
export interface RpcSessionOptions {
  /** A number that no other session of the process has. */
  readonly id: number;
  /** Where diagnostics go; default: nowhere. */
  readonly log?: Log;
}

/** The turn of a session that is alone in the world. */
const ENDLESS: Turn = { isOver: () => false };
/** An input buffer above this is not kept: one large message must not cost its size for ever. */
const KEPT_INPUT = 64 * 1024;

/**
 * One MessagePack-RPC connection.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { decode, encode } from "../../protocol/codec.ts";
 * import { type RpcService, RpcSession } from "./rpc_session.ts";
 *
 * const service: RpcService = {
 *   debug: false,
 *   open: (_peer, { role }) => ({ protocol: 1, server: "none", role, debug: false, regions: [], config: {} }),
 *   call: () => 42,
 *   close() {},
 * };
 * const session = new RpcSession(service, { id: 1 });
 * session.receive(encode([0, 0, "hello", [{ protocol: 1, role: "vmm" }]]));
 * session.takeOutput();
 * session.receive(encode([0, 1, "mmio_read", [0, 0x78000, 4]]));
 * assertEquals(decode(session.takeOutput()!), [1, 1, null, 42]);
 * ```
 */
export class RpcSession implements ByteSession, RpcPeer {
  /** The session's number. */
  readonly id: number;
  /** Called when output arises outside of {@linkcode receive} and {@linkcode takeOutput}. */
  onOutput: (() => void) | null = null;

  /** The protocol passes no descriptors. */
  readonly takesDescriptors = false;

  readonly #service: RpcService;
  readonly #log: Log;
  /** Replaced at `hello`, after which the peer may send more. */
  #scanner = new Scanner(HELLO_LIMITS);
  readonly #flat = new FlatCall();
  #role: Role | null = null;
  #failedNotifications = 0;
  #messages = 0;

  /** What is to be sent, and the buffer the loop is sending from. */
  #output = new Writer(REPLY_LIMITS);
  #taken = new Writer(REPLY_LIMITS);
  /** Bytes that were received and not handled yet: `#held[#heldStart … #heldEnd)`. */
  #held = new Uint8Array(0);
  #heldStart = 0;
  #heldEnd = 0;
  /** Whether handling stopped for the output's or the turn's sake, so that a whole message may be held. */
  #isStalled = false;
  /** Whether a method may be under way: the service is told of the end only after it. */
  #isHandling = false;
  #isClosing = false;
  #isGivenUp = false;
  #isLeft = false;

  /**
   * A session at its start.
   *
   * @param service What the methods do.
   * @param options Its number and log.
   */
  constructor(service: RpcService, options: RpcSessionOptions) {
    this.#service = service;
    this.id = options.id;
    this.#log = options.log ?? (() => {});
  }

  /** What the peer said at `hello`. */
  get role(): Role | null {
    return this.#role;
  }

  /** Notifications from the peer that were refused or failed. */
  get failedNotifications(): number {
    return this.#failedNotifications;
  }

  /** Whether the peer drives the device. */
  get isVmm(): boolean {
    return this.#role === "vmm";
  }

  /** See {@linkcode RpcPeer.isBehind}. */
  get isBehind(): boolean {
    return this.#output.length >= OUTPUT_HIGH_WATER;
  }

  /** Whether the peer has said `hello`. */
  get isOpen(): boolean {
    return this.#role !== null;
  }

  /** Whether messages wait to be handled. */
  get isStalled(): boolean {
    return this.#isStalled;
  }

  /** Whether the peer let more than {@linkcode OUTPUT_LIMIT} of output pile up. */
  get isGivenUp(): boolean {
    return this.#isGivenUp;
  }

  /** Whether the loop may read. */
  get wantsInput(): boolean {
    return !this.#isClosing && !this.#isStalled && this.#output.length < OUTPUT_HIGH_WATER;
  }

  /** Whether nothing more will be read. */
  get isClosing(): boolean {
    return this.#isClosing;
  }

  /** Whether nothing more will be read or sent. */
  get isClosed(): boolean {
    return this.#isClosing && this.#output.length === 0;
  }

  /**
   * Handles what the peer sent, as far as the turn and the output's high-water mark allow; the rest waits for
   * {@linkcode takeOutput}.
   *
   * @param bytes Any piece of the stream, at its start.
   * @param turn How long it may take; default: until all is handled.
   * @param length How many of the bytes count; default: all.
   */
  receive(bytes: Uint8Array, turn: Turn = ENDLESS, length: number = bytes.length): void {
    if (this.#isClosing) return;
    if (this.#heldStart < this.#heldEnd) {
      this.#hold(bytes.subarray(0, length));
      this.#handleHeld(turn);
    } else {
      const handled = this.#handle(bytes, 0, length, turn);
      if (handled < length && !this.#isClosing) this.#hold(bytes.subarray(handled, length));
    }
  }

  /**
   * Gives what is to be sent; if there is nothing, goes on with the messages that wait.
   *
   * @param turn How long that may take; default: until all is handled or there is output enough.
   * @returns Bytes that stay as they are until the next call, or `null`.
   */
  takeOutput(turn: Turn = ENDLESS): Uint8Array<ArrayBuffer> | null {
    if (this.#output.length === 0 && this.#isStalled) this.#handleHeld(turn);
    if (this.#output.length === 0) return null;
    [this.#output, this.#taken] = [this.#taken, this.#output];
    this.#output.clear();
    return this.#taken.written;
  }

  /**
   * Sends a notification to the peer; of no effect when the session is closing.
   *
   * @param notice Its name.
   * @param params Its parameters.
   */
  notify<N extends NoticeName>(notice: N, params: NoticeParams<N>): void {
    if (this.#isClosing) return;
    this.#output.notification(notice, params);
    if (this.#output.length > OUTPUT_LIMIT) this.#giveUp();
    if (!this.#isHandling) this.onOutput?.();
  }

  /** The peer sent its last byte or is lost. A message it left unfinished gets an error. */
  end(): void {
    if (!this.#isClosing && this.#heldStart < this.#heldEnd) {
      this.#abandon(null, "EPROTO", "The stream ended inside a message");
    }
    this.close();
  }

  /** This end stops: what was answered is still sent, messages that wait are dropped. */
  close(): void {
    this.#shut();
    if (!this.#isHandling) this.#leave();
  }

  /** Keeps bytes for later. */
  #hold(bytes: Uint8Array): void {
    const held = this.#heldEnd - this.#heldStart;
    const length = held + bytes.length;
    if (this.#heldEnd + bytes.length > this.#held.length) {
      const from = this.#held;
      if (length > from.length) this.#held = new Uint8Array(Math.max(2 * from.length, length, 4096));
      this.#held.set(from.subarray(this.#heldStart, this.#heldEnd));
      this.#heldStart = 0;
      this.#heldEnd = held;
    }
    this.#held.set(bytes, this.#heldEnd);
    this.#heldEnd += bytes.length;
  }

  #handleHeld(turn: Turn): void {
    this.#heldStart = this.#handle(this.#held, this.#heldStart, this.#heldEnd, turn);
    if (this.#heldStart < this.#heldEnd && !this.#isClosing) return;
    this.#heldStart = 0;
    this.#heldEnd = 0;
    if (this.#held.length > KEPT_INPUT) this.#held = new Uint8Array(0);
  }

  /**
   * Handles whole messages until they end, the output is full, the turn is over or the session is closing.
   *
   * @returns Where the first message begins that was not handled.
   */
  #handle(bytes: Uint8Array, start: number, end: number, turn: Turn): number {
    this.#isHandling = true;
    this.#isStalled = false;
    let at = start;
    while (at < end && !this.#isClosing) {
      if (this.#output.length >= OUTPUT_HIGH_WATER || turn.isOver()) {
        this.#isStalled = true;
        break;
      }
      const flatLength = this.#mayBeFlat ? this.#flat.read(bytes, at, end) : 0;
      if (flatLength > 0) {
        this.#messages++;
        this.#carryOutFlat();
        at += flatLength;
        continue;
      }
      const length = this.#scanner.scan(bytes, at, end);
      if (length === NEED_MORE) break;
      this.#messages++;
      if (length === REFUSED) this.#refuse(bytes, at);
      else this.#message(bytes, at, at + length);
      at += Math.max(length, 0);
    }
    this.#isHandling = false;
    if (this.#isClosing) this.#leave();
    return at;
  }

  /** Whether a message begins, of a peer that has said `hello`. */
  get #mayBeFlat(): boolean {
    return this.#role !== null && this.#scanner.passed === 0;
  }

  /** Carries out the message that {@linkcode FlatCall} has read. */
  #carryOutFlat(): void {
    const { id, method, params, row } = this.#flat;
    if (id === null) this.#notification(method, params, row);
    else this.#request(id, method, params, row);
  }

  /** Ends a stream at a fatal fault of the scan. */
  #refuse(bytes: Uint8Array, start: number): void {
    const fault = this.#scanner.fault!;
    // No further than the scan came, so that the answer does not depend on how the stream is cut.
    const id = peekCallId(bytes, start, start + this.#scanner.passed);
    const code = fault === "extension" || fault === "reserved" || fault === "depth" ? "EPROTO" : "EMSGSIZE";
    this.#abandon(id, code, `Malformed stream: ${FAULTS[fault]}`, fault);
  }

  /** Handles one whole message. */
  #message(bytes: Uint8Array, start: number, end: number): void {
    if (this.#scanner.fault !== null) return this.#flawed(bytes, start, end);
    let envelope;
    try {
      envelope = parseEnvelope(decode(bytes, start, end));
    } catch (error) {
      return this.#bug(peekCallId(bytes, start, end), error);
    }
    if (envelope !== null && envelope[0] === 0) return this.#request(envelope[1], envelope[2], envelope[3]);
    if (envelope !== null && envelope[0] === 2) return this.#notification(envelope[1], envelope[2]);
    const what = envelope === null ? "this is no MessagePack-RPC" : "a response to no call";
    this.#abandon(peekCallId(bytes, start, end), "EPROTO", `Malformed stream: ${what}`);
  }

  /** Refuses one message that carries what the protocol does not, without decoding it. */
  #flawed(bytes: Uint8Array, start: number, end: number): void {
    const flaw = this.#scanner.fault!;
    const id = peekCallId(bytes, start, end);
    if (id !== null) {
      this.#output.error(id, new RpcError("EINVAL", `Malformed call: ${FAULTS[flaw]}`, { reason: flaw }));
    } else if (peekType(bytes, start, end) === 2) {
      this.#failedNotifications++;
    } else {
      this.#abandon(null, "EPROTO", `Malformed stream: ${FAULTS[flaw]}`, flaw);
    }
  }

  /** A call; its method's row is given if its parameters have been checked. */
  #request(id: number, method: unknown, params: unknown, row?: Method): void {
    try {
      const result = this.#invoke(method, params, false, row);
      if (!this.#isClosing) this.#output.response(id, result);
    } catch (error) {
      if (error instanceof RpcError) this.#answer(id, error);
      else this.#bug(id, error);
    }
  }

  /** A call that is not answered, else as {@linkcode #request}. */
  #notification(method: unknown, params: unknown, row?: Method): void {
    try {
      this.#invoke(method, params, true, row);
    } catch (error) {
      if (error instanceof RpcError) this.#failedNotifications++;
      else this.#bug(null, error);
    }
  }

  /** Answers a call with an error; one that cannot be encoded is a bug. */
  #answer(id: number, error: RpcError): void {
    if (this.#isClosing) return;
    try {
      this.#output.error(id, error);
    } catch (failure) {
      this.#bug(id, failure);
    }
  }

  /** Checks a call and carries it out. */
  #invoke(method: unknown, params: unknown, isPosted: boolean, checked?: Method): unknown {
    if (typeof method !== "string") {
      throw new RpcError("EINVAL", `method must be a string: got ${describe(method)}`);
    }
    if (this.#role === null && method !== "hello") {
      throw new RpcError("EPROTO", "hello must be the first call");
    }
    const row = checked ?? findMethod(method);
    if (row === undefined) throw new RpcError("ENOSYS", `There is no method ${describe(method)}`);
    this.#checkCaller(method, row);
    if (isPosted && row.result !== nil) {
      throw new RpcError("EINVAL", `${method}: has a result, so it cannot be a notification`);
    }
    if (checked === undefined) checkParams(method, row, params);
    return method === "hello"
      ? this.#hello((params as Params<"hello">)[0])
      : this.#service.call(this, method as MethodName, params as readonly unknown[]);
  }

  #checkCaller(method: string, row: Method): void {
    if (row.caller === "vmm" && this.#role !== "vmm") {
      throw new RpcError("EPERM", `${method}: only the VMM may do this`);
    }
    if (row.caller === "debug" && !this.#service.debug) {
      throw new RpcError("ENOSYS", `${method}: start the device with --debug for this method`);
    }
  }

  #hello(hello: HelloParams): HelloResult {
    if (this.#role !== null) throw new RpcError("EINVAL", "hello: was said already");
    if (hello.protocol !== PROTOCOL_VERSION) {
      throw new RpcError("EPROTO", `hello: protocol ${hello.protocol} is not spoken here`, {
        supported: [PROTOCOL_VERSION],
      });
    }
    const result = this.#service.open(this, hello);
    this.#role = hello.role;
    this.#scanner = new Scanner(REQUEST_LIMITS);
    return result;
  }

  /** Ends a malformed stream with a last error. */
  #abandon(
    id: number | null,
    code: "EPROTO" | "EMSGSIZE",
    message: string,
    reason: string | null = null,
  ): void {
    this.#log("warn", "malformed stream", { ...this.#where(), reason: reason ?? message });
    this.#output.error(id, new RpcError(code, message, reason === null ? null : { reason }));
    this.#shut();
  }

  /** Ends the session at an exception that nobody meant to throw. The peer learns nothing of its text. */
  #bug(id: number | null, error: unknown): void {
    const text = error instanceof Error ? error.stack ?? error.message : String(error);
    this.#log("error", "internal error", { ...this.#where(), error: text });
    if (this.#isClosing) return;
    this.#output.error(id, new RpcError("EIO", "internal error, please report"));
    this.#shut();
  }

  /**
   * Ends the session for output that nobody reads. A method may be under way, this session's or another's: it must
   * not find the service changed when it goes on, so the service is told later.
   */
  #giveUp(): void {
    this.#log("warn", "output limit exceeded", { ...this.#where(), bytes: OUTPUT_LIMIT });
    this.#isGivenUp = true;
    this.#output.clear();
    this.#shut();
  }

  /** Takes no more input. */
  #shut(): void {
    this.#isClosing = true;
    this.#isStalled = false;
    this.#held = new Uint8Array(0);
    this.#heldStart = 0;
    this.#heldEnd = 0;
  }

  /** Tells the service that the peer is gone, once. No method is under way. */
  #leave(): void {
    if (this.#isLeft || this.#role === null) return;
    this.#isLeft = true;
    try {
      this.#service.close(this);
    } catch (error) {
      this.#log("error", "internal error in close", { ...this.#where(), error: String(error) });
    }
  }

  /** The session and which of its messages. Not named "message": that is the log line's own text. */
  #where(): { session: number; call: number } {
    return { session: this.id, call: this.#messages };
  }
}
