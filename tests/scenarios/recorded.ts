/**
 * What observers see of a device, live and in a replay.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type { Client } from "../../protocol/client.ts";
import type { MethodName } from "../../protocol/methods.ts";
import { openRecording } from "../../src/replay/recording_file.ts";
import { type ReplayedDevice, replayToDevice } from "../../src/replay/replay_to_device.ts";
import type { RpcPeer } from "../../src/server/rpc_session.ts";

/** Everything that is looked at, by what it is called. */
export type Sight = Readonly<Record<string, unknown>>;

/** A moment of a live device, and what was seen then. */
export interface Moment {
  /** Events that had been recorded. */
  readonly events: number;
  /** What was seen. */
  readonly sight: Sight;
}

type Call = (method: MethodName, ...params: unknown[]) => unknown;

/** Registers that tell the time, which goes on whoever looks. */
const CLOCKS = /TIMESTAMP/;

/** Looks at everything that observers can see. */
async function look(call: Call): Promise<Sight> {
  const state = await call("state") as { readonly mms: readonly (readonly [id: number])[] };
  const trees: unknown[] = [];
  for (const [id] of state.mms) trees.push(await call("tree", id));
  const { rows } = await call("registers") as { readonly rows: readonly (readonly [name: string])[] };
  const registers = rows.filter((row) => !CLOCKS.test(JSON.stringify(row)));
  return { state, trees, registers };
}

/** Looks at a live device that nobody drives just now. */
export async function lookAt(observer: Client): Promise<Moment> {
  const call = observer.call.bind(observer) as unknown as Call;
  const { recordedEvents } = await observer.call("stats");
  return { events: recordedEvents!, sight: await look(call) };
}

/** Looks at a device to which a recording was replayed. */
export async function lookAtReplay({ service }: ReplayedDevice): Promise<Sight> {
  const peer: RpcPeer = { id: 1, role: "observer", failedNotifications: 0, isBehind: false, notify() {} };
  return await look((method, ...params) => service.call(peer, method, params));
}

/**
 * Replays a recording, whole and up to each of some moments.
 *
 * @returns How many events it has.
 */
export async function assertReplays(path: string, moments: readonly Moment[]): Promise<number> {
  const recording = await openRecording(path);
  for (const { events, sight } of moments) {
    using replayed = await replayToDevice(recording, { to: events });
    assertEquals([replayed.differences, replayed.events], [[], events]);
    assertEquals(await lookAtReplay(replayed), sight);
  }
  using replayed = await replayToDevice(recording);
  assertEquals([replayed.differences, replayed.isCut, replayed.digests > 0], [[], false, true]);
  return replayed.events;
}
