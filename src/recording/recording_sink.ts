/**
 * Lines on their way into a file: many at a time, so that a line costs little.
 *
 * @module
 */

/** Where bytes go. */
export interface ByteSink {
  /**
   * Takes bytes, all of them unless there is no room.
   *
   * @returns How many were taken.
   * @throws {Error} When it cannot.
   */
  writeSync(bytes: Uint8Array): number;
}

/** Characters that pile up before they are written: a write of so many costs little more than copying them. */
const MAX_WAITING = 64 * 1024;

/** Characters that are turned into bytes without making room for them: what waits, and its last line unless it is long. */
const MAX_ENCODED = 2 * MAX_WAITING;

/**
 * Collects lines and writes them. When the file cannot take any more the rest is dropped, and that is told once.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { RecordingSink } from "./recording_sink.ts";
 *
 * let written = "";
 * const file = { writeSync: (bytes: Uint8Array) => (written += new TextDecoder().decode(bytes), bytes.length) };
 * const sink = new RecordingSink(file, () => {});
 * sink.line('{"turn":1}');
 * assertEquals([written, sink.length], ["", 11]);
 * sink.flush();
 * assertEquals([written, sink.length], ['{"turn":1}\n', 0]);
 * ```
 */
export class RecordingSink {
  readonly #file: ByteSink;
  readonly #onLost: (reason: string) => void;
  readonly #encoder = new TextEncoder();
  /** Joined as they come, which copies nothing, and turned into bytes all at once. */
  #waiting = "";
  #isLost = false;
  /** What is being written: that many characters take no more than three bytes each. */
  readonly #bytes = new Uint8Array(3 * MAX_ENCODED);

  /**
   * @param file Where lines go.
   * @param onLost Told once, why, when the file takes no more.
   */
  constructor(file: ByteSink, onLost: (reason: string) => void) {
    this.#file = file;
    this.#onLost = onLost;
  }

  /** Characters that wait to be written. */
  get length(): number {
    return this.#waiting.length;
  }

  /** Whether the file took no more at some time. */
  get isLost(): boolean {
    return this.#isLost;
  }

  /** Adds a line; its end is added. */
  line(text: string): void {
    this.#waiting += text + "\n";
    if (this.#waiting.length > MAX_WAITING) this.flush();
  }

  /** Writes what waits. */
  flush(): void {
    const text = this.#waiting;
    this.#waiting = "";
    if (this.#isLost || text === "") return;
    try {
      const bytes = this.#encode(text);
      for (let done = 0; done < bytes.length;) {
        const count = this.#file.writeSync(bytes.subarray(done));
        if (count <= 0) throw new Error("nothing more is taken");
        done += count;
      }
    } catch (error) {
      this.#isLost = true;
      this.#onLost(error instanceof Error ? error.message : String(error));
    }
  }

  /** The text as bytes, of use until it is called again. */
  #encode(text: string): Uint8Array {
    if (text.length > MAX_ENCODED) return this.#encoder.encode(text);
    return this.#bytes.subarray(0, this.#encoder.encodeInto(text, this.#bytes).written);
  }
}
