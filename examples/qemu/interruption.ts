/**
 * Signals that ask this process to end, as one `AbortSignal`: what it started is ended, what it made is removed.
 *
 * @module
 */

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Listens to them. */
export class Interruption implements Disposable {
  readonly #controller = new AbortController();
  readonly #listener = () => this.#controller.abort();

  /** Listens from now on. */
  constructor() {
    for (const name of SIGNALS) Deno.addSignalListener(name, this.#listener);
  }

  /** Aborted as soon as one came. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Listens no more. */
  [Symbol.dispose](): void {
    for (const name of SIGNALS) Deno.removeSignalListener(name, this.#listener);
  }
}
