/**
 * Where an inspector's data goes: standard output, in colour on a terminal, until its reader has had enough.
 *
 * Colour never says anything alone: a letter or word stands beside it.
 *
 * @module
 */

import { styleText } from "node:util";
import { CONTROLS, harmless } from "../terminal.ts";

/** What something that is printed means, from which its colour follows. */
export type Tone = "good" | "wrong" | "warning" | "dim" | "strong" | "name";

const COLORS = {
  good: "green",
  wrong: ["red", "bold"],
  warning: "yellow",
  dim: "gray",
  strong: "bold",
  name: "cyan",
} as const;

/** Columns of what is no terminal, and most that are used of one. */
const WIDTH = 100;
/** Lines of a terminal that does not say. */
const HEIGHT = 24;

/**
 * Text of the guest's, the VMM's or the device's own, made fit to print: control characters, which could move the cursor or
 * recolour what follows, become `?`.
 *
 * @param text Any text.
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { visible } from "./output.ts";
 *
 * assertEquals(visible("evil\x1b[2J"), "evil?[2J");
 * ```
 */
export function visible(text: string): string {
  return text.replace(/[\t\n]/g, "?").replace(CONTROLS, "?");
}

/** What an output writes to. */
export interface OutputStream {
  /** Writes some of the bytes and says how many. */
  writeSync(bytes: Uint8Array): number;
  /** Whether a person looks at it. */
  isTerminal(): boolean;
}

/** A stream of text for people, or of JSON for programs. */
export class Output {
  /** Whether a person looks at it, who would like to see it change in place. */
  readonly isTerminal: boolean;
  readonly #stream: OutputStream;
  readonly #isColoured: boolean;
  readonly #encoder = new TextEncoder();
  #isClosed = false;

  /**
   * @param stream Where to write; default: standard output.
   * @param isPlain Whether there is to be no colour; default: as `NO_COLOR` says.
   */
  constructor(stream: OutputStream = Deno.stdout, isPlain: boolean = Deno.noColor) {
    this.#stream = stream;
    this.isTerminal = stream.isTerminal();
    this.#isColoured = this.isTerminal && !isPlain;
  }

  /** Whether the reader has gone: there is no sense in going on, and nothing wrong. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Columns and lines that there are. */
  get size(): { readonly columns: number; readonly rows: number } {
    if (!this.isTerminal) return { columns: WIDTH, rows: Infinity };
    try {
      const { columns, rows } = Deno.consoleSize();
      return { columns: columns || WIDTH, rows: rows || HEIGHT };
    } catch {
      return { columns: WIDTH, rows: HEIGHT };
    }
  }

  /** Text in the colour of what it means. */
  paint(tone: Tone, text: string): string {
    return this.#isColoured && text !== "" ? styleText([COLORS[tone]].flat(), text, PAINT) : text;
  }

  /** Prints lines. */
  lines(lines: Iterable<string>): void {
    let text = "";
    for (const line of lines) {
      text += `${line}\n`;
      if (text.length < FLUSHED) continue;
      this.write(text);
      text = "";
    }
    this.write(text);
  }

  /** Prints a line. */
  line(text = ""): void {
    this.write(`${text}\n`);
  }

  /** Prints a value as one line of JSON. 64-bit values and typed arrays become what JSON has. */
  json(value: unknown): void {
    this.line(harmless(JSON.stringify(value, plain)));
  }

  /** Writes text as it is. */
  write(text: string): void {
    try {
      const bytes = this.#encoder.encode(text);
      for (let done = 0; done < bytes.length && !this.#isClosed;) {
        done += this.#stream.writeSync(bytes.subarray(done));
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
      this.#isClosed = true;
    }
  }
}

/** The stream is judged by this file, not by Node's rules, which would need to see the environment. */
const PAINT = { validateStream: false } as const;
/** Characters that are written at once. */
const FLUSHED = 64 * 1024;

/** A value of a kind that JSON does not have. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return `0x${value.toString(16)}`;
  if (value instanceof Map) return Object.fromEntries(value);
  if (value instanceof Set) return [...value];
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return Array.from(value as Uint32Array);
  return value;
}
