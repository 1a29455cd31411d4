import type { Connection, Listener } from "../server/listener.ts";
import { ListenError } from "../server/socket_file.ts";

/** Where a TCP socket listens. */
export interface TcpAddress {
  /** A name or an address. */
  readonly hostname: string;
  /** 0 to 65535; 0: any that is free. */
  readonly port: number;
}

/**
 * Listens on a TCP socket. Needs `--allow-net` for the address.
 *
 * @param address Where.
 * @returns The listener.
 * @throws {ListenError} If it cannot be had.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * import { listenTcp } from "./tcp_listener.ts";
 *
 * const listener = listenTcp({ hostname: "127.0.0.1", port: 0 });
 * assertMatch(listener.name, /^http:\/\/127\.0\.0\.1:\d+\/metrics$/);
 * listener.close();
 * ```
 */
export function listenTcp(address: TcpAddress): Listener {
  const socket = listen(address);
  const { hostname, port } = socket.addr;
  let isClosed = false;
  return {
    name: `http://${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}/metrics`,
    async accept() {
      try {
        return connectionOf(await socket.accept());
      } catch (error) {
        if (isClosed) return null;
        throw error;
      }
    },
    close() {
      if (!isClosed) socket.close();
      isClosed = true;
    },
  };
}

function listen({ hostname, port }: TcpAddress): Deno.TcpListener {
  try {
    return Deno.listen({ hostname, port });
  } catch (error) {
    const why = error instanceof Deno.errors.AddrInUse
      ? "in use: another process is listening there"
      : error instanceof Error
      ? error.message
      : String(error);
    throw new ListenError(`Cannot listen on ${hostname}, port ${port}: ${why}`);
  }
}

function connectionOf(conn: Deno.TcpConn): Connection {
  let isClosed = false;
  return {
    read: (into) => conn.read(into),
    write: (bytes) => conn.write(bytes),
    close() {
      if (!isClosed) conn.close();
      isClosed = true;
    },
  };
}
