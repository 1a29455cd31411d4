/**
 * A recording as a file: packed or not, read line by line, so that it may be longer than memory.
 *
 * @module
 */

import { type Header, parseHeader } from "../recording/header.ts";
import { isRecording, parseEvent } from "./recording.ts";
import { ramSize } from "./recording_player.ts";

/** The longest line, characters: a page of memory in hexadecimal has 8192, a run of stores some hundred thousand. */
const MAX_LINE = 8 << 20;

/** How a file begins that is packed with gzip. */
const GZIP = [0x1f, 0x8b] as const;
/**
 * Memory that a recording without a header may have, bytes: 2 GiB. All of it is the device's own, and is there twice if
 * every page of it is given.
 */
const MAX_RAM = 2 ** 31;

/** Something is wrong with a recording; the message names the line. */
export class RecordingError extends Error {
  /** The class's name. */
  override readonly name = "RecordingError";
}

/** A recording that can be replayed. */
export interface Recording {
  /** Where it is. */
  readonly path: string;
  /** Its first line; `null`: it has none, and consists of accesses and whole pages alone. */
  readonly header: Header | null;
  /** Bytes of guest RAM that one without a header needs. */
  readonly ramBytes: number;
}

/**
 * Looks at a recording. One without a header is read whole, to see how much RAM it needs.
 *
 * @param path The file, packed with gzip or not.
 * @throws {RecordingError} When it is none.
 * @throws {Deno.errors.NotFound} When it is not there, and so on.
 *
 * @example
 * ```ts ignore
 * const recording = await openRecording("examples/debian-6.1-i915.jsonl.gz");
 * ```
 */
export async function openRecording(path: string | URL): Promise<Recording> {
  const where = path instanceof URL ? decodeURIComponent(path.pathname) : path;
  let number = 0;
  let ramBytes = ramSize([]);
  for await (const { lines } of lineBatches(where)) {
    for (const line of lines) {
      number++;
      if (line === "") continue;
      if (number === 1) {
        const header = at(1, () => parseHeader(line));
        if (header !== null) return { path: where, header, ramBytes: 0 };
        if (!isRecording(line)) throw new RecordingError("line 1: this is no recording");
      }
      const event = at(number, () => parseEvent(line));
      if (event.kind === "page") ramBytes = Math.max(ramBytes, ramSize([event]));
      if (!(ramBytes <= MAX_RAM)) {
        throw new RecordingError(
          `line ${number}: the page lies beyond the ${MAX_RAM} bytes that there may be`,
        );
      }
    }
  }
  if (number === 0) throw new RecordingError("line 1: the file is empty");
  return { path: where, header: null, ramBytes };
}

/** The first line of a file, whatever it is. */
export async function firstLine(path: string): Promise<string> {
  for await (const { lines } of lineBatches(path)) return lines[0]!;
  return "";
}

/** Runs something about a line. @throws {RecordingError} Naming the line, for whatever it throws. */
export function at<T>(number: number, run: () => T): T {
  try {
    return run();
  } catch (cause) {
    if (cause instanceof RecordingError) throw cause;
    throw new RecordingError(`line ${number}: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

/** Lines that came together. */
export interface LineBatch {
  /** The lines without their ends. */
  readonly lines: readonly string[];
  /** Whether each had an end. Only the last one of a file may have none, which is a batch of its own then. */
  readonly isWhole: boolean;
}

/**
 * The lines of a file, as many at a time as come.
 *
 * @throws {RecordingError} When a line is too long.
 */
export async function* lineBatches(path: string): AsyncGenerator<LineBatch, void, void> {
  const reader = (await openText(path)).getReader();
  /** Pieces of a line whose end has not come: they are put together once, however many there are. */
  let pieces: string[] = [];
  let length = 0;
  let number = 1;
  const read = async () => {
    try {
      return await reader.read();
    } catch (cause) {
      // It is packed wrongly, or not to its end.
      throw new RecordingError(`line ${number}: ${cause instanceof Error ? cause.message : cause}`, {
        cause,
      });
    }
  };
  try {
    for (;;) {
      const { value, done } = await read();
      if (done) break;
      const [first, ...others] = value.split("\n") as [string, ...string[]];
      pieces.push(first);
      length += first.length;
      if (length > MAX_LINE) throw new RecordingError(`line ${number}: it is too long`);
      if (others.length === 0) continue;
      const last = others.pop()!;
      const lines = [pieces.join(""), ...others];
      pieces = [last];
      length = last.length;
      number += lines.length;
      yield { lines, isWhole: true };
    }
    if (length > 0) yield { lines: [pieces.join("")], isWhole: false };
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** The text of a file. Whether it is packed is told by its first bytes, whatever it is called. */
async function openText(path: string): Promise<ReadableStream<string>> {
  const file = await Deno.open(path);
  try {
    const head = new Uint8Array(GZIP.length);
    const count = await file.read(head);
    await file.seek(0, Deno.SeekMode.Start);
    const isPacked = count === head.length && GZIP.every((byte, index) => head[index] === byte);
    const bytes = isPacked ? file.readable.pipeThrough(new DecompressionStream("gzip")) : file.readable;
    return bytes.pipeThrough(new TextDecoderStream());
  } catch (error) {
    file.close();
    throw error;
  }
}
