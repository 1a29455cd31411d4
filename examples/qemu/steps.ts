/**
 * What is under way, on standard error: a line for each step with the time since the beginning. A terminal shows
 * the seconds run while a step lasts.
 *
 * @module
 */

const TICK = 1000;

/** The steps of one run. */
export class Steps {
  readonly #begin = performance.now();
  readonly #isTerminal = Deno.stderr.isTerminal();
  readonly #quiet: boolean;

  /** Steps that are told, or, `quiet`, only those that take work. */
  constructor({ quiet = false }: { readonly quiet?: boolean } = {}) {
    this.#quiet = quiet;
  }

  /** Says something that took no work. */
  note(text: string): void {
    if (!this.#quiet) this.#write(`${this.#time()} ${text}\n`);
  }

  /** Does something that takes a while. @returns What it returns. */
  async run<T>(text: string, work: () => Promise<T>): Promise<T> {
    this.#write(`${this.#time()} ${text} …${this.#isTerminal ? "" : "\n"}`);
    const tick = setInterval(() => {
      if (this.#isTerminal) this.#write(`\r${this.#time()} ${text} …`);
    }, TICK);
    try {
      return await work();
    } finally {
      clearInterval(tick);
      if (this.#isTerminal) this.#write(`\r${this.#time()} ${text}\x1b[K\n`);
    }
  }

  #time(): string {
    return `[${((performance.now() - this.#begin) / 1000).toFixed(1).padStart(5)} s]`;
  }

  #write(text: string): void {
    Deno.stderr.writeSync(new TextEncoder().encode(text));
  }
}
