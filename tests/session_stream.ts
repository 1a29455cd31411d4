/**
 * A client's stream that ends in a session of the same process: the whole protocol without a socket.
 *
 * @module
 */

import type { ByteStream } from "../protocol/client.ts";
import { RpcSession } from "../src/server/rpc_session.ts";
import type { RpcService } from "../src/server/rpc_session.ts";

let nextId = 1;

/** A stream to a new session of `service`. */
export function sessionStream(service: RpcService): ByteStream {
  const session = new RpcSession(service, { id: nextId++ });
  let wake = () => {};
  session.onOutput = () => wake();
  let pending: Uint8Array = new Uint8Array();
  return {
    async read(into) {
      for (;;) {
        if (pending.length === 0) pending = session.takeOutput()?.slice() ?? pending;
        if (pending.length > 0) {
          const count = Math.min(into.length, pending.length);
          into.set(pending.subarray(0, count));
          pending = pending.subarray(count);
          return count;
        }
        if (session.isClosing) return null;
        await new Promise<void>((resolve) => wake = resolve);
      }
    },
    write(bytes) {
      session.receive(bytes);
      wake();
      return Promise.resolve(bytes.length);
    },
    close() {
      session.end();
      session.close();
      wake();
    },
  };
}
