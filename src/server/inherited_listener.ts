/**
 * A listening socket that somebody else opened: `--fd N`, as service managers and hypervisor launchers pass it.
 *
 * Deno has no call of its own that takes a descriptor; `node:net` has, without FFI. Its sockets push their data, so
 * they are wrapped into the {@linkcode Connection} the loop pulls from.
 *
 * @module
 */

import { createServer, type Server, type Socket } from "node:net";
import type { Connection, Listener } from "./listener.ts";
import { ListenError } from "./socket_file.ts";

/**
 * Listens on an inherited descriptor.
 *
 * `node:net` stops accepting for good, and tells nobody, when it accepts while no descriptor is free; it cannot be made
 * to begin anew. So after each connection, and now and then, the listener looks whether one is free. If not, accepting
 * is over: {@linkcode Listener.accept} fails with a {@linkcode ListenError}, as it does for any error of the socket.
 * The look needs `--allow-read` for `/dev/null` and is left out without.
 *
 * @param fd A Unix stream socket that already listens; closed by {@linkcode Listener.close}.
 * @returns The listener. It has no file, so it removes none.
 * @throws {ListenError} If the descriptor is not such a socket.
 *
 * @example
 * ```ts ignore
 * const listener = await listenInherited(3); // the first one that systemd passes
 * ```
 */
export async function listenInherited(fd: number): Promise<Listener> {
  if (!Number.isInteger(fd) || fd < 0) {
    throw new ListenError(`Cannot listen on descriptor ${fd}: not a number`);
  }
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  await new Promise<void>((resolve, reject) => {
    server.once(
      "error",
      (error) => reject(new ListenError(`Cannot listen on descriptor ${fd}: ${error.message}`)),
    );
    server.listen({ fd }, () => {
      server.removeAllListeners("error");
      resolve();
    });
  });
  return new InheritedListener(`descriptor ${fd}`, server);
}

/** How often the listener looks whether a descriptor is free, milliseconds. */
const LOOK_INTERVAL = 1000;

/** Whether this process can open one more file; `true` if it may not try. */
function isDescriptorFree(): boolean {
  try {
    Deno.openSync("/dev/null").close();
    return true;
  } catch (error) {
    return error instanceof Deno.errors.NotCapable || error instanceof Deno.errors.NotFound;
  }
}

/** Somebody who waits for a connection. */
interface Waiter {
  readonly resolve: (connection: Connection | null) => void;
  readonly reject: (error: ListenError) => void;
}

class InheritedListener implements Listener {
  readonly name: string;
  readonly #server: Server;
  /** Connections that nobody has accepted yet, or whoever waits for one; never both. */
  readonly #arrived: Connection[] = [];
  readonly #waiting: Waiter[] = [];
  readonly #look: ReturnType<typeof setInterval>;
  #failure: ListenError | null = null;
  #isClosed = false;

  constructor(name: string, server: Server) {
    this.name = name;
    this.#server = server;
    server.on("connection", (socket) => this.#arrive(new SocketConnection(socket)));
    server.on("error", (error) => this.#fail(error.message));
    this.#look = setInterval(() => this.#checkDescriptors(), LOOK_INTERVAL);
  }

  accept(): Promise<Connection | null> {
    const connection = this.#arrived.shift();
    if (connection !== undefined) return Promise.resolve(connection);
    if (this.#isClosed) return Promise.resolve(null);
    if (this.#failure !== null) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearInterval(this.#look);
    this.#server.close();
    for (const connection of this.#arrived.splice(0)) connection.close();
    for (const { resolve } of this.#waiting.splice(0)) resolve(null);
  }

  #arrive(connection: Connection): void {
    const waiter = this.#waiting.shift();
    if (waiter === undefined) this.#arrived.push(connection);
    else waiter.resolve(connection);
    this.#checkDescriptors();
  }

  #checkDescriptors(): void {
    if (!isDescriptorFree()) this.#fail("no file descriptor is free");
  }

  /** Accepting is over. Connections that have arrived are still given out. */
  #fail(why: string): void {
    if (this.#failure !== null || this.#isClosed) return;
    clearInterval(this.#look);
    this.#failure = new ListenError(`No more connections are accepted on ${this.name}: ${why}`);
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure);
  }
}

/** A socket of `node:net`, read by pulling. */
class SocketConnection implements Connection {
  readonly #socket: Socket;
  /** What was taken from the socket and did not fit into the reader's buffer. */
  #rest: Uint8Array = new Uint8Array(0);
  #error: Error | null = null;
  #isEnded = false;
  #wake: () => void = () => {};

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("readable", () => this.#wake());
    socket.on("end", () => this.#end());
    socket.on("close", () => this.#end());
    socket.on("error", (error) => {
      this.#error = error;
      this.#end();
    });
  }

  async read(into: Uint8Array): Promise<number | null> {
    while (this.#rest.length === 0) {
      const chunk = this.#socket.read() as Uint8Array | null;
      if (chunk !== null) this.#rest = chunk;
      else if (this.#error !== null) throw this.#error;
      else if (this.#isEnded) return null;
      else await new Promise<void>((resolve) => this.#wake = resolve);
    }
    const count = Math.min(into.length, this.#rest.length);
    into.set(this.#rest.subarray(0, count));
    this.#rest = this.#rest.subarray(count);
    return count;
  }

  write(bytes: Uint8Array<ArrayBuffer>): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#socket.write(bytes, (error) => error ? reject(error) : resolve(bytes.length));
    });
  }

  close(): void {
    this.#socket.destroy();
    this.#end();
  }

  #end(): void {
    this.#isEnded = true;
    this.#wake();
  }
}
