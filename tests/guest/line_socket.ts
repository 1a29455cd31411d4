/**
 * A Unix socket on which lines of text go both ways: a guest's serial line, or QEMU's monitor.
 *
 * @module
 */

import { until } from "./deadline.ts";

/** One end of such a connection. */
export class LineSocket implements Disposable {
  readonly #conn: Deno.Conn;
  readonly #decoder = new TextDecoder();
  readonly #buffer = new Uint8Array(65536);
  #text = "";

  private constructor(conn: Deno.Conn) {
    this.#conn = conn;
  }

  /** Connects, as soon as somebody listens there. */
  static async open(path: string, ms: number): Promise<LineSocket> {
    return await until(ms, () => `nobody listens on ${path}`, async () => {
      try {
        return new LineSocket(await Deno.connect({ transport: "unix", path }));
      } catch {
        return null;
      }
    });
  }

  /** Sends a line. */
  async send(line: string): Promise<void> {
    const bytes = new TextEncoder().encode(`${line}\n`);
    for (let sent = 0; sent < bytes.length;) sent += await this.#conn.write(bytes.subarray(sent));
  }

  /** The next line. @throws {Error} If the other end is gone. */
  async next(): Promise<string> {
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return line.replace(/\r$/, "");
      }
      const got = await this.#conn.read(this.#buffer);
      if (got === null) throw new Error("the other end is gone");
      this.#text += this.#decoder.decode(this.#buffer.subarray(0, got), { stream: true });
    }
  }

  /** Closes it; closing twice is fine. */
  [Symbol.dispose](): void {
    try {
      this.#conn.close();
    } catch {
      // It is closed.
    }
  }
}
