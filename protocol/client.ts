/**
 * The client's end of a connection, over any stream of bytes. `connect.ts` opens one to a Unix socket.
 *
 * Calls are pipelined: any number may be outstanding, and what is sent in one turn of the event loop, or while an
 * earlier write is under way, leaves in one write. The device answers in order; a notification it sent before a
 * reply is delivered before that reply's promise settles.
 *
 * @module
 */

import { decode } from "./codec.ts";
import { ConnectionError, RpcError } from "./errors.ts";
import { OUTPUT_HIGH_WATER, PROTOCOL_VERSION, REPLY_LIMITS, REQUEST_LIMITS } from "./limits.ts";
import { type Envelope, parseEnvelope } from "./messages.ts";
import {
  checkParams,
  type MethodName,
  METHODS,
  type NoticeName,
  type NoticeParams,
  NOTICES,
  type Params,
  type PostableName,
  type Result,
  type Role,
} from "./methods.ts";
import { FAULTS, NEED_MORE, Scanner } from "./scan.ts";
import { Writer } from "./writer.ts";

/** A stream of bytes both ways; a connection of Deno's is one. */
export interface ByteStream {
  /** Reads some bytes; `null` at the end. */
  read(into: Uint8Array): Promise<number | null>;
  /** Writes some of the bytes and says how many. */
  write(bytes: Uint8Array): Promise<number>;
  /** Closes both directions; a pending read ends or fails. */
  close(): void;
}

/** Who is calling. */
export interface ClientOptions {
  /** `"vmm"` drives the device and there is one; `"observer"` reads. Default `"observer"`. */
  readonly role?: Role;
  /** A name for the device's logs. */
  readonly client?: string;
  /** Whether the VMM can trap the guest's stores; default `"trapped"`. */
  readonly tracking?: "trapped" | "untracked";
}

/** What the device said at `hello`. */
export type Hello = Result<"hello">;

/** A handler of notifications. */
export type NoticeHandler<N extends NoticeName> = (...params: NoticeParams<N>) => void;

/** An outstanding call. */
interface Outstanding {
  readonly method: MethodName;
  readonly resolve: (result: never) => void;
  readonly reject: (error: Error) => void;
}

/** Bytes asked for in one read: as much as a socket buffer usually has. */
const READ_BYTES = 64 * 1024;
/** How long a client that is done waits for its device to read, or to say its last word, milliseconds. */
const CLOSE_GRACE = 1000;
const SETTLED = Promise.resolve();

/**
 * A connection to a device.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { Client } from "./client.ts";
 * import { decode, encode } from "./codec.ts";
 *
 * // A device that answers every call with 42.
 * const replies: Uint8Array[] = [];
 * let wake = () => {};
 * const device = {
 *   async read(into: Uint8Array) {
 *     while (replies.length === 0) await new Promise<void>((resolve) => wake = resolve);
 *     const reply = replies.shift()!;
 *     into.set(reply);
 *     return reply.length || null;
 *   },
 *   write(bytes: Uint8Array) {
 *     const [, id] = decode(bytes) as [number, number];
 *     replies.push(encode([1, id, null, 42]));
 *     wake();
 *     return Promise.resolve(bytes.length);
 *   },
 *   close() {
 *     replies.push(new Uint8Array());
 *     wake();
 *   },
 * };
 * await using client = new Client(device);
 * assertEquals(await client.call("mmio_read", 0, 0x78000, 4), 42);
 * ```
 */
export class Client implements AsyncDisposable {
  readonly #stream: ByteStream;
  readonly #outstanding = new Map<number, Outstanding>();
  readonly #handlers = new Map<string, NoticeHandler<never>>();
  readonly #reading: Promise<void>;
  #nextId = 0;
  /** Messages to be sent; `#sending` is the buffer that a write is under way from. */
  #output = new Writer(REQUEST_LIMITS);
  #sending = new Writer(REQUEST_LIMITS);
  #isFlushing = false;
  /** Settles when the flush under way is over; replaced by the next. */
  #flushed: Promise<void> = SETTLED;
  #failure: Error | null = null;
  #hello: Hello | null = null;

  /**
   * A client on an open stream, before `hello`. {@linkcode open} is the usual way.
   *
   * @param stream The stream; the client owns it from here on.
   */
  constructor(stream: ByteStream) {
    this.#stream = stream;
    this.#reading = this.#read();
  }

  /**
   * Says `hello` on an open stream.
   *
   * @param stream The stream; it is closed if the device refuses.
   * @param options Who is calling.
   * @returns A client that is ready.
   * @throws {RpcError} EBUSY if there is a VMM already, or what else the device answered.
   * @throws {ConnectionError} If the stream ends.
   */
  static async open(stream: ByteStream, options: ClientOptions = {}): Promise<Client> {
    const client = new Client(stream);
    try {
      client.#hello = await client.call("hello", {
        protocol: PROTOCOL_VERSION,
        role: options.role ?? "observer",
        ...(options.client === undefined ? {} : { client: options.client }),
        ...(options.tracking === undefined ? {} : { tracking: options.tracking }),
      });
      return client;
    } catch (error) {
      await client.close();
      throw error;
    }
  }

  /**
   * What the device said at `hello`.
   *
   * @throws {Error} If the client was not made by {@linkcode open} or `connect`.
   */
  get hello(): Hello {
    if (this.#hello === null) throw new Error("Cannot tell what the device said: there was no hello");
    return this.#hello;
  }

  /** Whether the connection is gone, by either end. */
  get isClosed(): boolean {
    return this.#failure !== null;
  }

  /**
   * Calls a method.
   *
   * @param method Its name.
   * @param params Its parameters, as the method table says.
   * @returns Its result.
   * @throws {RpcError} What the device answered; E2BIG, unsent, if the call is too large.
   * @throws {ConnectionError} If the connection is lost before the answer.
   */
  call<M extends MethodName>(method: M, ...params: Params<M>): Promise<Result<M>> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== null) throw this.#failure;
      const id = this.#nextId;
      this.#output.request(id, method, params);
      this.#nextId = (id + 1) >>> 0;
      this.#outstanding.set(id, { method, resolve: resolve as Outstanding["resolve"], reject });
      this.#flush();
    });
  }

  /**
   * Sends a call that is not answered: a posted write. An error in it is only counted by the device.
   *
   * @param method Its name; only methods whose result is nil can be posted.
   * @param params Its parameters.
   * @returns Settles when there is room for more: awaiting it bounds the memory of a fast sender. Ignoring it is
   * legal for a bounded number of messages.
   * @throws {RpcError} E2BIG, at once, if the message is too large.
   * @throws {ConnectionError} At once, if the connection is gone.
   */
  notify<M extends PostableName>(method: M, ...params: Params<M>): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    this.#output.notification(method, params);
    this.#flush();
    return this.#output.length < OUTPUT_HIGH_WATER ? SETTLED : this.#flushed;
  }

  /**
   * Sets the handler of a notification; there is one for each, and without one it is dropped. A handler that throws
   * ends the connection; its error is the cause of the {@linkcode ConnectionError}.
   *
   * @param notice The notification's name.
   * @param handler Called for each, before the promise of any later reply settles.
   */
  on<N extends NoticeName>(notice: N, handler: NoticeHandler<N>): void {
    this.#handlers.set(notice, handler as NoticeHandler<never>);
  }

  /**
   * Sends what is waiting and closes. Outstanding calls reject. Closing twice is legal.
   *
   * @returns Settles when the stream is closed.
   */
  async close(): Promise<void> {
    const closed = new ConnectionError("The connection was closed by this end");
    const grace = setTimeout(() => this.#fail(closed), CLOSE_GRACE);
    await this.#flushed;
    clearTimeout(grace);
    this.#fail(closed);
    await this.#reading;
  }

  /** Closes. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Sees to it that what is in the output leaves. */
  #flush(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    this.#flushed = this.#write();
  }

  /** Writes until the output is empty. Never rejects. */
  async #write(): Promise<void> {
    // Whatever else this turn of the event loop sends goes along.
    await SETTLED;
    try {
      while (this.#output.length > 0 && this.#failure === null) {
        [this.#output, this.#sending] = [this.#sending, this.#output];
        const bytes = this.#sending.written;
        for (let sent = 0; sent < bytes.length;) sent += await this.#stream.write(bytes.subarray(sent));
        this.#sending.clear();
      }
    } catch (error) {
      // A device that closes says why first: reading comes to that, then to the end.
      const broken = new ConnectionError("The connection broke while sending", { cause: error });
      const grace = setTimeout(() => this.#fail(broken), CLOSE_GRACE);
      await this.#reading;
      clearTimeout(grace);
    }
    this.#isFlushing = false;
  }

  /** Reads until the stream ends. Never rejects. */
  async #read(): Promise<void> {
    const scanner = new Scanner(REPLY_LIMITS);
    let buffer = new Uint8Array(READ_BYTES);
    let start = 0;
    let end = 0;
    try {
      for (;;) {
        if (start > 0) {
          buffer.copyWithin(0, start, end);
          end -= start;
          start = 0;
        }
        if (end === buffer.length) buffer = grown(buffer);
        const count = await this.#stream.read(buffer.subarray(end));
        if (count === null || this.#failure !== null) break;
        end += count;
        start = this.#receive(scanner, buffer, end);
      }
      this.#fail(new ConnectionError("The connection was closed by the device"));
    } catch (error) {
      this.#fail(
        error instanceof RpcError ? error : new ConnectionError("The connection broke", { cause: error }),
      );
    }
  }

  /** Handles the messages in a buffer and returns where the first incomplete one begins. */
  #receive(scanner: Scanner, buffer: Uint8Array, end: number): number {
    let start = 0;
    while (start < end && this.#failure === null) {
      const length = scanner.scan(buffer, start, end);
      if (length === NEED_MORE) break;
      if (scanner.fault !== null) throw protocolError(FAULTS[scanner.fault]);
      const message = parseEnvelope(decode(buffer, start, start + length));
      if (message === null) throw protocolError("it sent something else than MessagePack-RPC");
      start += length;
      this.#handle(message);
    }
    return start;
  }

  #handle(message: Envelope): void {
    switch (message[0]) {
      case 1:
        return this.#settle(message[1], message[2], message[3]);
      case 2:
        return this.#deliver(message[1], message[2]);
      default:
        throw protocolError("it sent a call");
    }
  }

  #settle(id: number | null, error: unknown, result: unknown): void {
    // An error without an id, or for no call of ours, is the device's last word.
    const call = id === null ? undefined : this.#outstanding.get(id);
    if (id === null || call === undefined) {
      throw error === null ? protocolError("it answered a call that was not made") : RpcError.fromWire(error);
    }
    this.#outstanding.delete(id);
    if (error !== null) return call.reject(RpcError.fromWire(error));
    const wrong = METHODS[call.method].result.problem(result);
    if (wrong !== null) return call.reject(protocolError(`its result of ${call.method}${wrong}`));
    call.resolve(result as never);
  }

  #deliver(name: unknown, params: unknown): void {
    // A later version of the device may know more notifications than this client.
    if (typeof name !== "string" || !Object.hasOwn(NOTICES, name)) return;
    checkParams(name, NOTICES[name as NoticeName], params);
    this.#handlers.get(name)?.(...params as never);
  }

  /** Ends the connection: nothing is sent or delivered any more, and what is outstanding rejects. */
  #fail(error: Error): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    this.#stream.close();
    for (const { reject } of this.#outstanding.values()) reject(error);
    this.#outstanding.clear();
  }
}

function grown(buffer: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(2 * buffer.length);
  larger.set(buffer);
  return larger;
}

function protocolError(what: string): RpcError {
  return new RpcError("EPROTO", `The device does not keep to the protocol: ${what}`);
}
