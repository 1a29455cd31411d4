/**
 * The portable device loop: drives sessions over Deno's asynchronous sockets. It needs no FFI and runs wherever Deno
 * does; all sessions share one thread, so a session's methods never run at the same time as another's.
 *
 * @module
 */

import { RpcError } from "../../protocol/errors.ts";
import { REPLY_LIMITS } from "../../protocol/limits.ts";
import { Writer } from "../../protocol/writer.ts";
import type { Connection, Listener } from "./listener.ts";
import type { ByteSession, Log } from "./rpc_session.ts";

/** Options of {@linkcode serve}. */
export interface ServeOptions {
  /** Ends the loop: no more connections, what was answered is sent, then everything is closed. */
  readonly signal?: AbortSignal;
  /** Where diagnostics go; default: nowhere. */
  readonly log?: Log;
  /** Connections at once; default {@linkcode MAX_CONNECTIONS}. */
  readonly maxConnections?: number;
}

/** Connections at once: one VMM and its observers, each with some 100 KiB of buffers. */
export const MAX_CONNECTIONS = 64;
/** How long a peer may take to read what was answered when the loop ends, milliseconds; with the rest under 1 s. */
const DRAIN_GRACE = 500;
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
 * @returns Settles when every connection is closed, within a second of the signal.
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
  const { signal, log = () => {}, maxConnections = MAX_CONNECTIONS } = options;
  const links = new Set<Link>();
  const running = new Set<Promise<void>>();
  let lastId = 0;

  const stop = () => {
    try {
      listener.close();
    } catch (error) {
      log("error", "cannot close the listener", { listener: listener.name, error: String(error) });
    }
    for (const link of links) link.stop();
  };
  signal?.addEventListener("abort", stop, { once: true });
  if (signal?.aborted) stop();

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
    const link = new Link(connection, makeSession(id));
    links.add(link);
    const done = link.run().catch((error) => {
      log("debug", "connection lost", { session: id, error: String(error) });
    }).finally(() => {
      link.close();
      links.delete(link);
      running.delete(done);
      log("debug", "disconnected", { session: id });
    });
    running.add(done);
  }
  signal?.removeEventListener("abort", stop);
  await Promise.all(running);
}

/** The next connection; a failure to accept one is no reason to stop. */
async function accept(listener: Listener, log: Log): Promise<Connection | null> {
  for (;;) {
    try {
      return await listener.accept();
    } catch (error) {
      log("error", "cannot accept a connection", { error: String(error) });
      await new Promise((resolve) => setTimeout(resolve, ACCEPT_PAUSE));
    }
  }
}

/** Tells a peer that there is no room for it. A socket's buffer takes this much without waiting. */
async function refuse(connection: Connection, connections: number): Promise<void> {
  const writer = new Writer(REPLY_LIMITS);
  writer.error(null, new RpcError("EBUSY", `There are ${connections} connections already`));
  try {
    await connection.write(writer.written);
  } catch {
    // It has gone by itself.
  }
  connection.close();
}

/** One connection and its session. */
class Link {
  readonly #connection: Connection;
  readonly #session: ByteSession;
  readonly #buffer = new Uint8Array(READ_BYTES);
  /** The writing that is under way, or the last one. */
  #flushed: Promise<void> = Promise.resolve();
  #isFlushing = false;
  #drainTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(connection: Connection, session: ByteSession) {
    this.#connection = connection;
    this.#session = session;
    session.onOutput = () => this.#outputArose();
  }

  /** Reads, handles and writes until either end is done. Rejects if the connection breaks. */
  async run(): Promise<void> {
    const session = this.#session;
    try {
      while (!session.isClosing) {
        const count = await this.#connection.read(this.#buffer);
        if (count === null) break;
        session.receive(this.#buffer.subarray(0, count));
        this.#flush();
        // Writing overlaps with reading, up to the session's high-water mark.
        while (!session.wantsInput && this.#isFlushing) await this.#flushed;
      }
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
    this.#drainTimer ??= setTimeout(() => this.close(), DRAIN_GRACE);
    this.#flushed.finally(() => this.close()).catch(() => {});
  }

  /** Closes the connection. */
  close(): void {
    clearTimeout(this.#drainTimer);
    this.#session.onOutput = null;
    this.#connection.close();
  }

  /** Another session's call, or a timer, made output for this one. */
  #outputArose(): void {
    // Given up for not reading: there is nothing to wait for.
    if (this.#session.isClosed) return this.#connection.close();
    this.#flush();
  }

  /** Sees to it that output is written. */
  #flush(): void {
    if (this.#isFlushing) return;
    const first = this.#session.takeOutput();
    if (first === null) return;
    this.#isFlushing = true;
    this.#flushed = this.#write(first);
    // The failure is run()'s to report, when it gets there.
    this.#flushed.catch(() => this.#connection.close());
  }

  async #write(first: Uint8Array<ArrayBuffer>): Promise<void> {
    try {
      for (let bytes: typeof first | null = first; bytes !== null; bytes = this.#session.takeOutput()) {
        for (let sent = 0; sent < bytes.length;) {
          sent += await this.#connection.write(sent === 0 ? bytes : bytes.subarray(sent));
        }
      }
    } finally {
      this.#isFlushing = false;
    }
  }
}
