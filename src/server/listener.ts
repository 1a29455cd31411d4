/**
 * A Unix socket that listens, and the connections it accepts.
 *
 * @module
 */

import { type ListenOptions, publishSocket, type SocketFile, type SocketMaker } from "./socket_file.ts";

/** One accepted connection. */
export interface Connection {
  /** Reads some bytes; `null` at the end of the stream. */
  read(into: Uint8Array): Promise<number | null>;
  /** Writes some of the bytes and says how many; they stay as they are until it has. */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<number>;
  /** Closes; a pending read or write ends or fails. Closing twice is legal. */
  close(): void;
}

/** A socket that listens. */
export interface Listener {
  /** What it listens on, for messages. */
  readonly name: string;
  /** The next connection; `null` once the listener is closed. */
  accept(): Promise<Connection | null>;
  /** Stops listening and removes the socket's file if it is still this listener's. Closing twice is legal. */
  close(): void;
}

/** Sockets of Deno's own. */
const MAKER: SocketMaker<Deno.UnixListener> = {
  listen: (path) => Deno.listen({ transport: "unix", path }),
  async isInUse(path) {
    try {
      (await Deno.connect({ transport: "unix", path })).close();
      return true;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused) {
        return false;
      }
      throw error;
    }
  },
};

/**
 * Listens on a Unix socket.
 *
 * Needs `--allow-read` and `--allow-write` for the path's folder and `--allow-net` for `unix:FOLDER/NAME` and
 * `unix:FOLDER/.NAME.stage/s`.
 *
 * @param path Where. A socket file that nobody listens on is taken over.
 * @param options The mode.
 * @returns The listener.
 * @throws {ListenError} As {@linkcode publishSocket}.
 *
 * @example
 * ```ts ignore
 * using listener = await listenUnix("/run/vgtt.sock", { mode: 0o660 });
 * ```
 */
export async function listenUnix(path: string, options: ListenOptions = {}): Promise<UnixListener> {
  const { socket, file } = await publishSocket(path, MAKER, options);
  return new UnixListener(socket, file);
}

/** A listening socket with a file of its own; {@linkcode listenUnix} makes one. */
export class UnixListener implements Listener, Disposable {
  /** The socket's path. */
  readonly name: string;
  readonly #socket: Deno.UnixListener;
  readonly #file: SocketFile;
  #isClosed = false;

  /**
   * Takes over a socket that has its file at its final place.
   *
   * @param socket The listening socket.
   * @param file Its file.
   */
  constructor(socket: Deno.UnixListener, file: SocketFile) {
    this.name = file.path;
    this.#socket = socket;
    this.#file = file;
  }

  /**
   * Waits for a connection.
   *
   * @returns The next one, or `null` once the listener is closed.
   */
  async accept(): Promise<Connection | null> {
    try {
      return new UnixConnection(await this.#socket.accept());
    } catch (error) {
      if (this.#isClosed) return null;
      throw error;
    }
  }

  /** Stops listening and removes the file if it is still this listener's. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      this.#file.remove();
    } finally {
      this.#socket.close();
    }
  }

  /** Closes. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** A connection that Deno accepted. */
class UnixConnection implements Connection {
  readonly #conn: Deno.UnixConn;
  #isClosed = false;

  constructor(conn: Deno.UnixConn) {
    this.#conn = conn;
  }

  read(into: Uint8Array): Promise<number | null> {
    return this.#conn.read(into);
  }

  write(bytes: Uint8Array<ArrayBuffer>): Promise<number> {
    return this.#conn.write(bytes);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#conn.close();
  }
}
