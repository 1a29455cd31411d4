/**
 * Listening sockets for the fast loop, made by the C library.
 *
 * @module
 */

import type { Libc } from "../platform/libc.ts";
import { ListenError, type ListenOptions, publishSocket, type SocketMaker } from "./socket_file.ts";

/** A listening socket, by its descriptor. */
export interface ListeningSocket {
  /** What it listens on, for messages. */
  readonly name: string;
  /** The descriptor; accepting does not wait. */
  readonly fd: number;
  /** Stops listening and removes the socket's file if it is still this socket's. Closing twice is legal. */
  close(): void;
}

const ENOENT = -2;
const ECONNREFUSED = -111;

/**
 * Listens on a Unix socket. Needs `--allow-read` and `--allow-write` for the path's folder, and no `--allow-net`.
 *
 * @param libc The C library.
 * @param path Where. A socket file that nobody listens on is taken over.
 * @param options The mode.
 * @returns The socket.
 * @throws {ListenError} As {@linkcode publishSocket}.
 */
export async function listenByLibc(
  libc: Libc,
  path: string,
  options: ListenOptions = {},
): Promise<ListeningSocket> {
  const { socket, file } = await publishSocket(path, socketMaker(libc), options);
  let isClosed = false;
  return {
    name: path,
    fd: socket.fd,
    close() {
      if (isClosed) return;
      isClosed = true;
      try {
        file.remove();
      } finally {
        socket.close();
      }
    },
  };
}

/**
 * Takes over a listening socket that somebody else opened.
 *
 * @param libc The C library.
 * @param fd Its descriptor, which accepting makes one that does not wait.
 * @returns The socket. It has no file, so it removes none.
 * @throws {ListenError} If the descriptor is no Unix stream socket that listens.
 */
export function adoptListening(libc: Libc, fd: number): ListeningSocket {
  if (!Number.isInteger(fd) || fd < 0 || fd > 0x7fff_ffff || !libc.isListening(fd)) {
    throw new ListenError(`Cannot listen on descriptor ${fd}: it is no Unix stream socket that listens`);
  }
  const rc = libc.setNonBlocking(fd);
  if (rc < 0) throw new ListenError(`Cannot listen on descriptor ${fd}: errno ${-rc}`);
  let isClosed = false;
  return {
    name: `descriptor ${fd}`,
    fd,
    close() {
      if (!isClosed) libc.close(fd);
      isClosed = true;
    },
  };
}

/** A socket that the C library made. */
interface LibcSocket {
  readonly fd: number;
  close(): void;
}

function socketMaker(libc: Libc): SocketMaker<LibcSocket> {
  return {
    listen(path) {
      const fd = libc.unixSocket();
      if (fd < 0) throw new Error(`no socket can be made (errno ${-fd})`);
      const rc = libc.listenAt(fd, path);
      if (rc >= 0) return { fd, close: () => libc.close(fd) };
      libc.close(fd);
      throw new Error(`the socket cannot be bound (errno ${-rc})`);
    },
    isInUse(path) {
      const fd = libc.unixSocket();
      if (fd < 0) throw new Error(`no socket can be made (errno ${-fd})`);
      const rc = libc.connectTo(fd, path);
      libc.close(fd);
      if (rc === ECONNREFUSED || rc === ENOENT) return false;
      // Any other answer comes from somebody who is there: he lets nobody in, or has no room just now.
      return true;
    },
  };
}
