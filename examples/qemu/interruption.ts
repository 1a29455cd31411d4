/**
 * Signals that ask this process to end, as one `AbortSignal`: what it started is ended, what it made is removed.
 *
 * @module
 */

/** The signals and their numbers. */
const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 } as const;
const NAMES = Object.keys(SIGNALS) as (keyof typeof SIGNALS)[];

/** What shells add to the number of the signal that ended a program. */
const BY_SIGNAL = 128;

/** Listens to them. */
export class Interruption implements Disposable {
  readonly #controller = new AbortController();
  readonly #listeners = new Map(NAMES.map((name) => [name, () => this.#interrupt(name)]));
  #status: number | null = null;

  /** Listens from now on. */
  constructor() {
    for (const [name, listener] of this.#listeners) Deno.addSignalListener(name, listener);
  }

  /** Aborted as soon as one came. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The exit status for the first that came, or `null` if none did. */
  get status(): number | null {
    return this.#status;
  }

  /** Listens no more. */
  [Symbol.dispose](): void {
    for (const [name, listener] of this.#listeners) Deno.removeSignalListener(name, listener);
  }

  #interrupt(name: keyof typeof SIGNALS): void {
    this.#status ??= BY_SIGNAL + SIGNALS[name];
    this.#controller.abort();
  }
}
