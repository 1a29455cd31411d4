/**
 * Connecting to a device that runs already, with errors that tell what to do.
 *
 * @module
 */

import { type ByteStream, Client, type ClientOptions } from "../../protocol/client.ts";
import { ConnectionError, RpcError } from "../../protocol/errors.ts";

/** How long a device may take to answer `hello`, milliseconds: its longest piece of work takes two seconds. */
const HELLO_TIME = 5000;

/** There is no device, or none that would talk to us; the message says what to do. */
export class AttachError extends Error {
  /** Always `"AttachError"`. */
  override readonly name = "AttachError";
}

/**
 * Connects to a device and says `hello`.
 *
 * @param path The device's socket.
 * @param options Who is calling.
 * @returns A client; `await using` closes it.
 * @throws {AttachError} When that fails.
 */
export async function attach(path: string, options: ClientOptions): Promise<Client> {
  let isLate = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    const stream = closedOnce(await Deno.connect({ transport: "unix", path }));
    timer = setTimeout(() => {
      isLate = true;
      stream.close();
    }, HELLO_TIME);
    return await Client.open(stream, options);
  } catch (cause) {
    const late = `${path} does not answer: whoever listens there is stopped, or hangs`;
    throw new AttachError(isLate ? late : explanation(path, cause), { cause });
  } finally {
    clearTimeout(timer);
  }
}

/** A connection that may be closed by whoever is first. */
function closedOnce(connection: Deno.UnixConn): ByteStream {
  let isClosed = false;
  return {
    read: (into) => connection.read(into),
    write: (bytes) => connection.write(bytes),
    close() {
      if (!isClosed) connection.close();
      isClosed = true;
    },
  };
}

function explanation(path: string, cause: unknown): string {
  if (cause instanceof Deno.errors.NotFound || cause instanceof Deno.errors.ConnectionRefused) {
    return `nobody listens at ${path}: start the device with deno task start, or give --socket-path`;
  }
  if (cause instanceof Deno.errors.PermissionDenied) {
    return `${path} belongs to somebody who does not let you connect: see start's --socket-mode`;
  }
  if (cause instanceof ConnectionError) {
    return `${path} does not speak MessagePack-RPC: a hypervisor's socket (--vfio-user-path) does not, nor a device that ends`;
  }
  if (cause instanceof RpcError) return `the device at ${path} refused: ${cause.message}`;
  return `cannot connect to ${path}: ${cause instanceof Error ? cause.message : cause}`;
}
