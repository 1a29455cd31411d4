/**
 * Replays one file, trace or recording, over a connection of its own or in this process.
 *
 * @module
 */

import { toText } from "@std/streams";
import { PAGE_SIZE } from "../gtt/entry.ts";
import { GTT_START_OFFSET } from "../gtt/ggtt.ts";
import { type CheckResult, checkTranslations, type GuestKnowledge } from "../inspect/check.ts";
import { GuestGgtt, type Windows } from "./guest_ggtt.ts";
import { parseHeader } from "../recording/header.ts";
import { isRecording, parseEvent, type RecordedEvent } from "./recording.ts";
import { firstLine, openRecording } from "./recording_file.ts";
import { ramSize, RecordingPlayer, type Served } from "./recording_player.ts";
import { replayToDevice } from "./replay_to_device.ts";
import { parseTrace } from "./trace.ts";
import { playTrace, type TraceDifference } from "./trace_player.ts";
import type { Client } from "../../protocol/client.ts";

/** What became of one file. */
export interface ReplayResult {
  /** What the file is. */
  readonly kind: "trace" | "recording";
  /** Steps or events played. */
  readonly steps: number;
  /** Where the device did something else. */
  readonly differences: readonly TraceDifference[];
  /** Digests of the device's state that were compared. */
  readonly digests: number;
  /** Whether the last line lacks its end, because the device was killed. */
  readonly isCut: boolean;
}

/** What became of a recording. */
export interface RecordingResult {
  /** Accesses served, by kind. */
  readonly served: Served;
  /** Bytes of guest RAM mapped. */
  readonly ramBytes: number;
  /** Seconds from the first to the last event. */
  readonly seconds: number;
  /** The check of every translation. */
  readonly check: CheckResult;
  /** Stores to GGTT entries outside the device's windows. */
  readonly ggttOutside: number;
  /** The device's counters afterwards. */
  readonly stats: Readonly<Record<string, number>>;
}

/** Reads a file, unpacking it if its name ends in `.gz`, as lines that are not empty. */
export async function readLines(path: string | URL): Promise<string[]> {
  const file = await Deno.open(path);
  const stream = String(path).endsWith(".gz")
    ? file.readable.pipeThrough(new DecompressionStream("gzip"))
    : file.readable;
  return (await toText(stream)).split("\n").filter((line) => line !== "");
}

/**
 * Replays a trace, or a recording that does not say of which device it is.
 *
 * @param attach Connects to a device as a VMM; for a trace it must have been started with `--debug`.
 * @param path The file.
 * @param to How many events of a recording; default: all.
 * @throws {Error} When the file cannot be read or is of no known format, or the device is lost.
 */
export async function replayFile(
  attach: () => Promise<Client>,
  path: string,
  to?: number,
): Promise<ReplayResult> {
  const lines = await readLines(path);
  await using client = await attach();
  if (!isRecording(lines[0] ?? "")) {
    const trace = parseTrace(lines.join("\n"));
    const differences = await playTrace(client, trace);
    return { kind: "trace", steps: trace.steps.length, differences, digests: 0, isCut: false };
  }
  const events = parseRecording(lines).slice(0, to);
  const { check, stats, ggttOutside } = await playRecording(client, events);
  const differences = check.problems.map((text) => ({ line: lines.length, text: `translations: ${text}` }));
  const { badG2vNotifications = 0, badAccesses = 0 } = stats;
  if (badG2vNotifications > 0) {
    differences.push({ line: 0, text: `g2v: ${badG2vNotifications} notifications failed` });
  }
  if (badAccesses > 0) {
    differences.push({ line: 0, text: `access: ${badAccesses} accesses were not understood` });
  }
  if (ggttOutside > 0 && check.ggttEntries === 0) {
    const text =
      "ggtt: every entry lies outside the device's windows; start it with those of the recorded one";
    differences.push({ line: 0, text });
  }
  return { kind: "recording", steps: events.length, differences, digests: 0, isCut: false };
}

/**
 * Replays a recording that says of which device it is, against one of this process.
 *
 * @param path The file.
 * @param to How many events; default: all.
 * @returns What became of it; `null`: the file says no such thing.
 * @throws {Error} When it cannot be read or understood.
 */
export async function replayRecorded(path: string, to?: number): Promise<ReplayResult | null> {
  if (parseHeader(await firstLine(path)) === null) return null;
  using replayed = await replayToDevice(await openRecording(path), { to });
  const { events: steps, differences, digests, isCut } = replayed;
  return { kind: "recording", steps, differences, digests, isCut };
}

/** Reads the events of a recording. @throws {Error} Naming the first line that is not of the format. */
export function parseRecording(lines: readonly string[]): RecordedEvent[] {
  return lines.map((line, index) => {
    try {
      return parseEvent(line);
    } catch (cause) {
      throw new Error(`line ${index + 1}: ${cause instanceof Error ? cause.message : cause}`, { cause });
    }
  });
}

/**
 * Plays a recording on freshly mapped RAM and checks every translation afterwards.
 *
 * @param client A VMM's connection.
 * @param events The recording.
 * @param onEvent Called after each event.
 */
export async function playRecording(
  client: Client,
  events: readonly RecordedEvent[],
  onEvent: () => void = () => {},
): Promise<RecordingResult> {
  const ramBytes = ramSize(events);
  const { mfn } = await client.call("ram_map", { gpa: 0, size: ramBytes });
  const player = new RecordingPlayer(client, GTT_START_OFFSET);
  const ggtt = new GuestGgtt(client.hello.config as unknown as Windows);
  const begin = performance.now();
  for (const event of events) {
    await player.play(event);
    ggtt.follow(event);
    onEvent();
  }
  const stats = await client.call("stats");
  const seconds = (performance.now() - begin) / 1000;
  const guest: GuestKnowledge = {
    ggtt: ggtt.entries,
    mfnOf: (gfn) => gfn < ramBytes / PAGE_SIZE ? gfn + mfn : -1,
  };
  const check = await checkTranslations(client, guest);
  return { served: player.served, ramBytes, seconds, check, stats, ggttOutside: ggtt.outside };
}
