/**
 * A listening socket that somebody else opened: `--fd N`, as service managers and hypervisor launchers pass it.
 *
 * Deno has no call of its own that takes a descriptor; `node:net` has, without FFI. Its sockets push their data, so
 * they are wrapped into the {@linkcode Connection} the loop pulls from.
 *
 * @module
 */

import { createServer, type Server, type Socket } from "node:net";
import { type Connection, type Listener, ListenError } from "./listener.ts";

/**
 * Listens on an inherited descriptor.
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
  const listener = new InheritedListener(`descriptor ${fd}`, server);
  await new Promise<void>((resolve, reject) => {
    server.once(
      "error",
      (error) => reject(new ListenError(`Cannot listen on descriptor ${fd}: ${error.message}`)),
    );
    server.listen({ fd }, resolve);
  });
  return listener;
}

class InheritedListener implements Listener {
  readonly name: string;
  readonly #server: Server;
  /** Connections that nobody has accepted yet, or whoever waits for one; never both. */
  readonly #arrived: Connection[] = [];
  readonly #waiting: ((connection: Connection | null) => void)[] = [];
  #isClosed = false;

  constructor(name: string, server: Server) {
    this.name = name;
    this.#server = server;
    server.on("connection", (socket) => {
      const connection = new SocketConnection(socket);
      const waiter = this.#waiting.shift();
      if (waiter === undefined) this.#arrived.push(connection);
      else waiter(connection);
    });
  }

  accept(): Promise<Connection | null> {
    const connection = this.#arrived.shift();
    if (connection !== undefined) return Promise.resolve(connection);
    if (this.#isClosed) return Promise.resolve(null);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#server.close();
    for (const connection of this.#arrived.splice(0)) connection.close();
    for (const waiter of this.#waiting.splice(0)) waiter(null);
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
