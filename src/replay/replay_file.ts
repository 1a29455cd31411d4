/**
 * Replays one file, trace or recording, over a connection of its own or in this process.
 *
 * @module
 */

import { PAGE_SIZE } from "../gtt/entry.ts";
import { GTT_START_OFFSET } from "../gtt/ggtt.ts";
import { type CheckResult, checkTranslations, type GuestKnowledge } from "../inspect/check.ts";
import { GuestGgtt, type Windows } from "./guest_ggtt.ts";
import { parseHeader } from "../recording/header.ts";
import { isRecording, parseEvent, type RecordedEvent } from "./recording.ts";
import { at, firstLine, lineBatches, openRecording, RecordingError } from "./recording_file.ts";
import { ramSize, RecordingPlayer, type Served } from "./recording_player.ts";
import { replayToDevice } from "./replay_to_device.ts";
import { parseTrace } from "./trace.ts";
import { playTrace, type TraceDifference } from "./trace_player.ts";
import type { Client } from "../../protocol/client.ts";

/** Characters of a trace: it is read whole. The longest that there is has a hundredth of it. */
const MAX_WHOLE = 64 << 20;

/** What became of one file. */
export interface ReplayResult {
  /** What the file is. */
  readonly kind: "trace" | "recording";
  /** Steps or events played. */
  readonly steps: number;
  /** Where the device did something else. */
  readonly differences: readonly TraceDifference[];
  /** Digests of the device's state that were compared; `null`: files of this kind have none. */
  readonly digests: number | null;
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

/**
 * Reads a file, packed with gzip or not, as lines that are not empty.
 *
 * @throws {RecordingError} When it is too long to be read whole.
 */
export async function readLines(path: string | URL): Promise<string[]> {
  const all: string[] = [];
  let length = 0;
  for await (const { lines } of lineBatches(path instanceof URL ? decodeURIComponent(path.pathname) : path)) {
    length += lines.reduce((sum, line) => sum + line.length, 0);
    if (length > MAX_WHOLE) {
      throw new RecordingError(`line ${all.length + 1}: the file is too long to be read whole`);
    }
    all.push(...lines.filter((line) => line !== ""));
  }
  return all;
}

/** The events of a recording without a header, one after the other. */
async function* recordedEvents(path: string, to: number): AsyncGenerator<RecordedEvent, void, void> {
  let number = 0;
  let events = 0;
  for await (const { lines } of lineBatches(path)) {
    for (const line of lines) {
      if (events >= to) return;
      number++;
      if (line === "") continue;
      yield at(number, () => parseEvent(line));
      events++;
    }
  }
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
  to: number = Infinity,
): Promise<ReplayResult> {
  if (!isRecording(await firstLine(path))) {
    const trace = parseTrace((await readLines(path)).join("\n"));
    await using client = await attach();
    const differences = await playTrace(client, trace);
    return { kind: "trace", steps: trace.steps.length, differences, digests: null, isCut: false };
  }
  const { ramBytes } = await openRecording(path);
  await using client = await attach();
  let steps = 0;
  const result = await playEvents(client, recordedEvents(path, to), ramBytes, () => steps++);
  return {
    kind: "recording",
    steps,
    differences: [...problemsOf(result, steps)],
    digests: null,
    isCut: false,
  };
}

/** What is wrong with what became of a recording. */
function* problemsOf(
  { check, stats, ggttOutside }: RecordingResult,
  steps: number,
): Generator<TraceDifference, void, void> {
  for (const text of check.problems) yield { line: steps, text: `translations: ${text}` };
  const { badG2vNotifications = 0, badAccesses = 0 } = stats;
  if (badG2vNotifications > 0) yield { line: 0, text: `g2v: ${badG2vNotifications} notifications failed` };
  if (badAccesses > 0) yield { line: 0, text: `access: ${badAccesses} accesses were not understood` };
  if (ggttOutside > 0 && check.ggttEntries === 0) {
    const text =
      "ggtt: every entry lies outside the device's windows; start it with those of the recorded one";
    yield { line: 0, text };
  }
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
  return await playEvents(client, events, ramSize(events), onEvent);
}

/** The same, of events that come one after the other. */
async function playEvents(
  client: Client,
  events: Iterable<RecordedEvent> | AsyncIterable<RecordedEvent>,
  ramBytes: number,
  onEvent: () => void,
): Promise<RecordingResult> {
  const { mfn } = await client.call("ram_map", { gpa: 0, size: ramBytes });
  const player = new RecordingPlayer(client, GTT_START_OFFSET);
  const ggtt = new GuestGgtt(client.hello.config as unknown as Windows);
  const begin = performance.now();
  for await (const event of events) {
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
