/**
 * What a device saw while a hypervisor drove it. Its counters begin anew when the hypervisor goes, so they are read
 * once a second.
 *
 * @module
 */

import type { Client } from "../../protocol/client.ts";
import { connect } from "../../protocol/connect.ts";

const PERIOD = 1000;

/** What is told of the counters, and how. */
const LINES: readonly (readonly [counter: string, text: string])[] = [
  ["submissionsRcs0", "submissions to rcs0, the render engine"],
  ["submissionsBcs0", "submissions to bcs0, the blitter"],
  ["submissionsVcs0", "submissions to vcs0, the video engine"],
  ["submissionsVecs0", "submissions to vecs0, the video enhancement engine"],
  ["tablesBuilt", "table pages shadowed"],
  ["compared", "comparisons of a table page with the guest's"],
  ["synced", "table pages brought up to date by that"],
  ["verifiedTranslations", "translations compared with the guest's own tables as engines used them"],
  ["verifyMismatches", "of these that were wrong"],
  ["csFaults", "faults of the command streamers"],
];

/** Counters, as long as somebody drives the device. */
export class Tally implements AsyncDisposable {
  readonly #client: Client;
  readonly #highest = new Map<string, number>();
  readonly #timer: ReturnType<typeof setInterval>;
  #reading: Promise<void> = Promise.resolve();

  private constructor(client: Client) {
    this.#client = client;
    this.#timer = setInterval(() => {
      this.#reading = this.#reading.then(() => this.#read());
    }, PERIOD);
  }

  /** Begins to read the counters of the device that listens there. */
  static async open(path: string): Promise<Tally> {
    return new Tally(await connect(path, { role: "observer", client: "deno task qemu" }));
  }

  /** What was seen, a line for each counter that the device has. */
  text(): string {
    const lines = LINES.filter(([counter]) => this.#highest.has(counter)).map(([counter, text]) => {
      return `  ${String(this.#highest.get(counter)).padStart(9)}  ${text}\n`;
    });
    return `What the device saw:\n${lines.join("")}`;
  }

  /** Reads no more. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#reading;
    await this.#client.close();
  }

  async #read(): Promise<void> {
    let stats: Readonly<Record<string, number>>;
    try {
      stats = await this.#client.call("stats");
    } catch {
      return; // the device has gone, and says so elsewhere
    }
    for (const [counter, value] of Object.entries(stats)) {
      this.#highest.set(counter, Math.max(value, this.#highest.get(counter) ?? 0));
    }
  }
}
