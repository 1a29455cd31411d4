/**
 * QEMU's monitor for programs.
 *
 * @module
 */

import { within } from "./deadline.ts";
import { LineSocket } from "./line_socket.ts";

const DEADLINE = 30_000;

interface Message {
  readonly event?: string;
  readonly data?: Readonly<Record<string, unknown>>;
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

/** A connection to it. Used for one thing at a time. */
export class Qmp implements Disposable {
  readonly #socket: LineSocket;
  readonly #events: Message[] = [];

  private constructor(socket: LineSocket) {
    this.#socket = socket;
  }

  /** Connects to the socket of `-qmp`. */
  static async open(path: string): Promise<Qmp> {
    const qmp = new Qmp(await LineSocket.open(path, DEADLINE));
    await qmp.#next("its greeting");
    await qmp.execute("qmp_capabilities");
    return qmp;
  }

  /** Runs a command. @returns Its result. @throws {Error} With QEMU's own words if it refuses. */
  async execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    await this.#socket.send(JSON.stringify({ execute: command, arguments: args }));
    for (;;) {
      const message = await this.#next(`the answer to ${command}`);
      if (message.event !== undefined) this.#events.push(message);
      else if (message.error !== undefined) throw new Error(`${command}: ${message.error.desc}`);
      else return message.return;
    }
  }

  /** Waits for an event for which `is` holds; one that came already counts, and counts once. */
  async event(name: string, is: (data: Readonly<Record<string, unknown>>) => boolean = () => true) {
    const matches = (message: Message) => message.event === name && is(message.data ?? {});
    const at = this.#events.findIndex(matches);
    if (at >= 0) return this.#events.splice(at, 1)[0]!.data;
    for (;;) {
      const message = await this.#next(`the event ${name}`);
      if (matches(message)) return message.data;
      this.#events.push(message);
    }
  }

  /** Closes the connection. */
  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }

  async #next(what: string): Promise<Message> {
    return JSON.parse(
      await within(DEADLINE, () => `QEMU's monitor did not send ${what}`, this.#socket.next()),
    );
  }
}
