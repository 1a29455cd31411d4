/**
 * The first line of a recording: what device it is of (`protocol/recording.md` §2).
 *
 * @module
 */

/** Version of the format. A reader refuses another one. */
export const RECORDING_VERSION = 1;

/** Options of the recorded device. */
export interface RecordedOptions {
  /** PCI device id. */
  readonly deviceId: number;
  /** First address of the aperture part, bytes. */
  readonly apertureBase: number;
  /** Size of the aperture part, bytes. */
  readonly apertureSize: number;
  /** First address of the hidden part, bytes. */
  readonly hiddenBase: number;
  /** Size of the hidden part, bytes. */
  readonly hiddenSize: number;
  /** Fence registers. */
  readonly fences: number;
  /** Whether pages of 64 KiB and 2 MiB are offered. */
  readonly hugePages: boolean;
  /** Whether table pages may go out of sync. */
  readonly oos: boolean;
  /** Whether engines were checked while they worked, which reads memory too. */
  readonly verify: boolean;
  /** Whether debug methods were there. */
  readonly debug: boolean;
}

/** The first line. */
export interface Header {
  /** Version of the format. */
  readonly vgtt: number;
  /** The program that recorded. */
  readonly by: string;
  /** The device. */
  readonly device: RecordedOptions;
}

/** How each option is checked. */
const NUMBERS = ["deviceId", "apertureBase", "apertureSize", "hiddenBase", "hiddenSize", "fences"] as const;
const BOOLEANS = ["hugePages", "oos", "verify", "debug"] as const;

/**
 * Reads the first line of a file.
 *
 * @returns The header; `null`: it is something else.
 * @throws {Error} When it is a header that cannot be understood.
 *
 * @example
 * ```ts
 * import { assertEquals, assertThrows } from "@std/assert";
 * import { parseHeader } from "./header.ts";
 *
 * assertEquals(parseHeader('{"w":"bar0","off":"0x0","size":4,"val":"0x0"}'), null);
 * assertThrows(() => parseHeader('{"vgtt":2}'), Error, "version 2");
 * ```
 */
export function parseHeader(line: string): Header | null {
  if (!line.startsWith('{"vgtt":')) return null;
  const { vgtt, by, device } = JSON.parse(line) as Header;
  if (vgtt !== RECORDING_VERSION) {
    throw new Error(`the format has version ${String(vgtt).slice(0, 16)}, known is ${RECORDING_VERSION}`);
  }
  const given = (typeof device === "object" && device !== null ? device : {}) as Readonly<
    Record<string, unknown>
  >;
  for (const name of NUMBERS) {
    if (!Number.isSafeInteger(given[name])) throw new Error(`the header's ${name} is no integer`);
  }
  for (const name of BOOLEANS) {
    if (typeof given[name] !== "boolean") throw new Error(`the header's ${name} is neither true nor false`);
  }
  return { vgtt, by: String(by), device };
}

/** The first line of a recording. */
export function headerText(device: RecordedOptions, by: string): string {
  return JSON.stringify({ vgtt: RECORDING_VERSION, by, device } satisfies Header);
}
