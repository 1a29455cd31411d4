/**
 * Replays a recording in this process, and leaves the device as it was then.
 *
 * @module
 */

import type { Header } from "../recording/header.ts";
import { DeviceService } from "../server/device_service.ts";
import { PlainReplay } from "./plain_replay.ts";
import { RecordedReplay } from "./recorded_replay.ts";
import { parseEvent } from "./recording.ts";
import { at, lineBatches, type Recording } from "./recording_file.ts";

/** Where a replay did something else than was recorded. */
export interface ReplayDifference {
  /** Line of the recording, from 1. */
  readonly line: number;
  /** What differs. */
  readonly text: string;
}

/** A device to which a recording was replayed. */
export interface ReplayedDevice extends Disposable {
  /** The device; observers may look at it: `new RpcSession(service, …)`. */
  readonly service: DeviceService;
  /** Events replayed. */
  readonly events: number;
  /** Digests that were compared. */
  readonly digests: number;
  /** Whether the last line lacks its end, because the device was killed; it was left out. */
  readonly isCut: boolean;
  /** What differs; nothing means that the device is as it was. */
  readonly differences: readonly ReplayDifference[];
}

/** Options of {@linkcode replayToDevice}. */
export interface ReplayOptions {
  /** How many events to replay; default: all. */
  readonly to?: number | undefined;
}

/**
 * Replays a recording.
 *
 * @param recording What `openRecording` gave.
 * @param options How far.
 * @returns The device.
 * @throws {RecordingError} When a line cannot be understood; it is named.
 *
 * @example
 * ```ts ignore
 * using replayed = await replayToDevice(await openRecording(path), { to: 1000 });
 * const session = new RpcSession(replayed.service, { id: 1 });
 * ```
 */
export async function replayToDevice(
  recording: Recording,
  { to = Infinity }: ReplayOptions = {},
): Promise<ReplayedDevice> {
  return recording.header === null
    ? await replayPlain(recording, to)
    : await replayRecorded(recording.path, recording.header, to);
}

async function replayRecorded(path: string, header: Header, to: number): Promise<ReplayedDevice> {
  const replay = at(1, () => new RecordedReplay(header, to));
  let number = 0;
  let isCut = false;
  let isOver = false;
  for await (const { lines, isWhole } of lineBatches(path)) {
    // The rest of a line that was being written when the device was killed.
    isCut = !isWhole && !isOver;
    if (isCut) break;
    for (const line of lines) {
      if (++number === 1) continue;
      isOver ||= replay.isDone && !isDigest(line);
      if (isOver) break;
      at(number, () => replay.play(number, line));
    }
    if (isOver) break;
  }
  const { service, events, digests, differences } = replay;
  return replayed(service, { events, digests, differences, isCut });
}

/** Whether a line says what state the events before it led to. */
function isDigest(line: string): boolean {
  return line.startsWith('{"digest":');
}

async function replayPlain({ path, ramBytes }: Recording, to: number): Promise<ReplayedDevice> {
  const service = new DeviceService();
  const replay = new PlainReplay(service.served, ramBytes);
  let number = 0;
  let events = 0;
  for await (const { lines } of lineBatches(path)) {
    for (const line of lines) {
      number++;
      if (line === "" || events >= to) continue;
      at(number, () => replay.play(parseEvent(line)));
      events++;
    }
    if (events >= to) break;
  }
  return replayed(service, { events, digests: 0, differences: [], isCut: false });
}

function replayed(
  service: DeviceService,
  outcome: Omit<ReplayedDevice, "service" | typeof Symbol.dispose>,
): ReplayedDevice {
  return { service, ...outcome, [Symbol.dispose]: () => service.served.device[Symbol.dispose]() };
}
