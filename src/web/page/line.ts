/**
 * The line to the server, which is opened again whenever it breaks.
 *
 * @module
 */

import type { PageMessage, ServerMessage } from "../messages.ts";

/** Milliseconds until the server is looked for again. */
const RETRY = 1000;

/** A WebSocket that comes back. */
export class Line {
  #socket: WebSocket | null = null;
  readonly #onState: (state: "connecting" | "open" | "gone") => void;
  readonly #onMessage: (message: ServerMessage) => void;

  /**
   * @param onState Told how it is.
   * @param onMessage Told what the server says.
   */
  constructor(
    onState: (state: "connecting" | "open" | "gone") => void,
    onMessage: (message: ServerMessage) => void,
  ) {
    this.#onState = onState;
    this.#onMessage = onMessage;
    this.#open();
  }

  /** Says something, if anybody listens. */
  say(message: PageMessage): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #open(): void {
    const url = new URL("live", location.href);
    url.protocol = "ws:";
    const socket = this.#socket = new WebSocket(url);
    socket.onopen = () => this.#onState("open");
    socket.onmessage = ({ data }) => this.#onMessage(JSON.parse(data));
    socket.onclose = () => {
      this.#onState("gone");
      setTimeout(() => this.#open(), RETRY);
    };
  }
}
