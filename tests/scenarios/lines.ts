/**
 * Reading a process's output line by line.
 *
 * @module
 */

/** The lines of a stream of text. */
export class Lines implements AsyncDisposable {
  readonly #reader: ReadableStreamDefaultReader<string>;
  #text = "";

  /** Reads from this stream, which is cancelled at the end. */
  constructor(bytes: ReadableStream<Uint8Array<ArrayBuffer>>) {
    this.#reader = bytes.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** The next line without its end; `null` when there is none any more. */
  async next(): Promise<string | null> {
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return line;
      }
      const { value, done } = await this.#reader.read();
      if (done) return null;
      this.#text += value;
    }
  }

  /** The next line for which `is` holds. @throws {Error} When the stream ends before; with all that it said. */
  async find(is: (line: string) => boolean): Promise<string> {
    const said: string[] = [];
    for (;;) {
      const line = await this.next();
      if (line === null) throw new Error(`the process said only:\n${said.join("\n")}`);
      if (is(line)) return line;
      said.push(line);
    }
  }

  /** Reads all that is left. */
  async rest(): Promise<string> {
    const lines: string[] = [];
    for (let line = await this.next(); line !== null; line = await this.next()) lines.push(line);
    return [...lines, this.#text].join("\n");
  }

  /** Gives the stream up. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reader.cancel();
  }
}
