/**
 * The end of a command that would go on for ever.
 *
 * @module
 */

/** Signals by which a user, or who started the command, ends it. */
const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** While it lives, Ctrl-C ends the command's work instead of the process. */
export class Interrupt implements Disposable {
  readonly #stop = new AbortController();
  readonly #onSignal = () => this.#stop.abort();

  /** Begins to listen. */
  constructor() {
    for (const signal of SIGNALS) Deno.addSignalListener(signal, this.#onSignal);
  }

  /** Aborted when the command is to end. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Waits so long, or until the command is to end. @returns Whether it is to go on. */
  async pause(milliseconds: number): Promise<boolean> {
    const { signal } = this;
    if (signal.aborted) return false;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => resolve(), { once: true });
    await promise;
    clearTimeout(timer);
    return !signal.aborted;
  }

  /** Waits until the command is to end. */
  async received(): Promise<void> {
    if (this.signal.aborted) return;
    await new Promise((resolve) => this.signal.addEventListener("abort", resolve, { once: true }));
  }

  /** Lets signals end the process again. */
  [Symbol.dispose](): void {
    for (const signal of SIGNALS) Deno.removeSignalListener(signal, this.#onSignal);
  }
}
