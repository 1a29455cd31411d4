/**
 * Progress of a long command, on standard error: a bar on a terminal, a line for each quarter elsewhere.
 *
 * @module
 */

const BAR_WIDTH = 40;
/** Milliseconds between two pictures of the bar. */
const REDRAW = 50;

/** The progress of something with a known number of steps. */
export class Progress implements Disposable {
  readonly #label: string;
  readonly #total: number;
  readonly #isTerminal = Deno.stderr.isTerminal();
  #drawn = -REDRAW;
  #quarters = 0;
  #done = 0;

  /** Progress of `total` steps of what `label` names. */
  constructor(label: string, total: number) {
    this.#label = label;
    this.#total = Math.max(1, total);
  }

  /** One more step is done. */
  step(): void {
    this.#done++;
    if (this.#isTerminal) this.#drawBar();
    else this.#writeQuarter();
  }

  /** Ends the bar's line. */
  [Symbol.dispose](): void {
    if (this.#isTerminal && this.#done > 0) this.#write("\n");
  }

  #drawBar(): void {
    const now = performance.now();
    if (now - this.#drawn < REDRAW && this.#done < this.#total) return;
    this.#drawn = now;
    const filled = Math.floor(BAR_WIDTH * this.#done / this.#total);
    const bar = "#".repeat(filled).padEnd(BAR_WIDTH, "·");
    this.#write(`\r${this.#label} [${bar}] ${this.#done}/${this.#total}`);
  }

  #writeQuarter(): void {
    const quarters = Math.floor(4 * this.#done / this.#total);
    if (quarters === this.#quarters) return;
    this.#quarters = quarters;
    this.#write(`${this.#label}: ${this.#done} of ${this.#total}\n`);
  }

  #write(text: string): void {
    Deno.stderr.writeSync(new TextEncoder().encode(text));
  }
}
