/**
 * A client and a device's session in one process, joined without a socket.
 *
 * @module
 */

import type { ByteStream } from "../../../protocol/client.ts";
import type { ByteSession } from "../../server/byte_session.ts";

/** The client's end of a session in this process. */
export class SessionStream implements ByteStream {
  readonly #session: ByteSession;
  /** Output that was taken and not yet read. */
  #rest: Uint8Array = new Uint8Array();
  #wake = () => {};

  /** @param session The device's end; nobody else may drive it. */
  constructor(session: ByteSession) {
    this.#session = session;
    session.onOutput = () => this.#wake();
  }

  /** See {@linkcode ByteStream.read}. */
  async read(into: Uint8Array): Promise<number | null> {
    while (this.#rest.length === 0) {
      const output = this.#session.takeOutput();
      // It is valid until the next call only.
      if (output !== null) this.#rest = output.slice();
      else if (this.#session.isClosing) return null;
      else if (!this.#session.isStalled) await new Promise<void>((resolve) => this.#wake = resolve);
    }
    const count = Math.min(into.length, this.#rest.length);
    into.set(this.#rest.subarray(0, count));
    this.#rest = this.#rest.subarray(count);
    return count;
  }

  /** See {@linkcode ByteStream.write}. */
  write(bytes: Uint8Array): Promise<number> {
    this.#session.receive(bytes);
    this.#wake();
    return Promise.resolve(bytes.length);
  }

  /** See {@linkcode ByteStream.close}. */
  close(): void {
    this.#session.close();
    this.#wake();
  }
}
