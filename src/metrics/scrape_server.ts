/**
 * An HTTP server of one page, for peers that may be hostile: one request a connection, of bounded size and time, and few
 * connections at once, since their descriptors are the device's own.
 *
 * @module
 */

import type { Connection, Listener } from "../server/listener.ts";
import { formatResponse, type HttpResponse, MAX_REQUEST_BYTES, parseRequest } from "./http_request.ts";

/** The page. */
const PAGE = "/metrics";
/** Connections at once to one listener; a scraper needs one. */
const MAX_CONNECTIONS = 16;
/** How long a connection may take until it is answered, milliseconds: the device's answer takes up to 3 s of it. */
const REQUEST_GRACE = 8000;
/** How long a peer that was answered may take to close its end, milliseconds. */
const CLOSE_GRACE = 500;
/** Pause after a failed accept, milliseconds: when descriptors have run out, the failure repeats at once. */
const ACCEPT_PAUSE = 50;

/** Answers requests that come to a listener. */
export class ScrapeServer implements AsyncDisposable {
  readonly #listener: Listener;
  readonly #page: () => Promise<HttpResponse>;
  readonly #requestGrace: number;
  readonly #connections = new Map<Connection, Promise<void>>();
  readonly #accepting: Promise<void>;
  #isClosed = false;

  /**
   * Begins.
   *
   * @param listener Where peers connect; closed at the end.
   * @param page Makes the page. It must not throw.
   * @param requestGrace How long a connection may take until it is answered, milliseconds.
   */
  constructor(listener: Listener, page: () => Promise<HttpResponse>, requestGrace = REQUEST_GRACE) {
    this.#listener = listener;
    this.#page = page;
    this.#requestGrace = requestGrace;
    this.#accepting = this.#accept();
  }

  /** Ends: nobody is answered any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.#listener.close();
    for (const connection of this.#connections.keys()) connection.close();
    await this.#accepting;
    await Promise.all(this.#connections.values());
  }

  async #accept(): Promise<void> {
    while (!this.#isClosed) {
      try {
        const connection = await this.#listener.accept();
        if (connection === null) return;
        if (this.#connections.size >= MAX_CONNECTIONS) connection.close();
        else this.#connections.set(connection, this.#serve(connection));
      } catch {
        await new Promise((resolve) => setTimeout(resolve, ACCEPT_PAUSE));
      }
    }
  }

  /** Serves one connection to its end. Never rejects. */
  async #serve(connection: Connection): Promise<void> {
    let deadline = setTimeout(() => connection.close(), this.#requestGrace);
    try {
      const response = await this.#respondTo(connection);
      if (response === null) return;
      for (let sent = 0; sent < response.length;) sent += await connection.write(response.subarray(sent));
      // What a peer has sent and nobody has read would, when this end closes, take the answer from under it.
      clearTimeout(deadline);
      deadline = setTimeout(() => connection.close(), CLOSE_GRACE);
      const dropped = new Uint8Array(MAX_REQUEST_BYTES);
      while (await connection.read(dropped) !== null);
    } catch {
      // The peer has gone, or was closed for taking too long.
    } finally {
      clearTimeout(deadline);
      connection.close();
      this.#connections.delete(connection);
    }
  }

  /** Reads a request. @returns What is answered; `null` if the peer went before it had asked. */
  async #respondTo(connection: Connection): Promise<Uint8Array<ArrayBuffer> | null> {
    const decoder = new TextDecoder("latin1");
    const buffer = new Uint8Array(MAX_REQUEST_BYTES);
    let text = "";
    for (;;) {
      const count = await connection.read(buffer);
      if (count === null) return null;
      text += decoder.decode(buffer.subarray(0, count));
      const request = parseRequest(text);
      if (request === null) continue;
      if ("status" in request) return formatResponse({ ...request, body: "This is no request.\n" }, true);
      return formatResponse(await this.#answer(request), request.method !== "HEAD");
    }
  }

  async #answer({ method, path }: { method: string; path: string }): Promise<HttpResponse> {
    if (path !== PAGE) return { status: 404, body: `Metrics are at ${PAGE}.\n` };
    if (method !== "GET" && method !== "HEAD") return { status: 405, body: "Metrics can only be read.\n" };
    return await this.#page();
  }
}
