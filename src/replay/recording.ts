/**
 * Recordings without a header (`protocol/recording.md` §5): what a real guest did to a device, one JSON object a line, in
 * the order in which it happened. Those with one are read by `src/recording`.
 *
 * - `{"r": "bar0", "off": "0x78000", "size": 8, "val": "0x…"}`: the guest read; `val` is what the device of that time said.
 * - `{"w": "bar0", "off": …, "size": …, "val": …}`: the guest wrote. `"config"` is PCI configuration space.
 * - `{"mem": "0x1d13000", "runs": [[byte offset, "hex bytes"], …]}`: the content of that guest page at this moment; all
 *   other bytes are zero.
 *
 * @module
 */

import { PAGE_SIZE } from "../gtt/entry.ts";
import { REGION_BAR0, REGION_CONFIG } from "../vgpu/vgpu.ts";

/** The guest read from a region. */
export interface RecordedRead {
  /** What happened. */
  readonly kind: "read";
  /** Region number. */
  readonly region: number;
  /** Offset in the region, bytes. */
  readonly offset: number;
  /** Bytes read. */
  readonly size: number;
}

/** The guest wrote to a region. */
export interface RecordedWrite {
  /** What happened. */
  readonly kind: "write";
  /** Region number. */
  readonly region: number;
  /** Offset in the region, bytes. */
  readonly offset: number;
  /** Bytes written: 1, 2, 4 or 8. */
  readonly size: number;
  /** The value. */
  readonly value: bigint;
}

/** A page of guest memory as it was. */
export interface RecordedPage {
  /** What happened. */
  readonly kind: "page";
  /** Guest physical address of the page. */
  readonly gpa: number;
  /** The page's 4096 bytes. */
  readonly bytes: Uint8Array;
}

/** One line of a recording. */
export type RecordedEvent = RecordedRead | RecordedWrite | RecordedPage;

/** The names of regions in a recording. */
const REGIONS: Readonly<Record<string, number>> = { bar0: REGION_BAR0, config: REGION_CONFIG };

/** One line of a recording as JSON. */
interface RecordedLine {
  readonly r?: string;
  readonly w?: string;
  readonly off?: string;
  readonly size?: number;
  readonly val?: string;
  readonly mem?: string;
  readonly runs?: readonly (readonly [number, string])[];
}

/** Whether a file's first line is one of a recording, not of a trace. */
export function isRecording(firstLine: string): boolean {
  return /^\{"(?:r|w|mem)":/.test(firstLine);
}

/**
 * Reads one line of a recording.
 *
 * @throws {Error} When it is not JSON, or not of the format.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseEvent } from "./recording.ts";
 *
 * const event = parseEvent('{"w":"bar0","off":"0x800008","size":8,"val":"0x64001"}');
 * assertEquals(event, { kind: "write", region: 0, offset: 0x800008, size: 8, value: 0x64001n });
 * ```
 */
export function parseEvent(line: string): RecordedEvent {
  const { r, w, off, size, val, mem, runs } = JSON.parse(line) as RecordedLine;
  if (mem !== undefined && runs !== undefined) {
    return { kind: "page", gpa: Number(mem), bytes: pageBytes(runs) };
  }
  const region = REGIONS[r ?? w ?? ""];
  const offset = Number(off);
  if (region === undefined || size === undefined || !Number.isSafeInteger(offset)) {
    throw new Error("neither a read nor a write of bar0 or config, nor a page of memory");
  }
  if (r !== undefined) return { kind: "read", region, offset, size };
  return { kind: "write", region, offset, size, value: BigInt(val ?? "") };
}

/** A page from its runs of bytes. */
function pageBytes(runs: readonly (readonly [number, string])[]): Uint8Array {
  const bytes = new Uint8Array(PAGE_SIZE);
  for (const [offset, text] of runs) {
    for (let i = 0; 2 * i < text.length; i++) bytes[offset + i] = parseInt(text.slice(2 * i, 2 * i + 2), 16);
  }
  return bytes;
}
