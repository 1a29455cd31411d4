/**
 * A recording, replayed in this process, as something to look at.
 *
 * @module
 */

import { Client } from "../../../protocol/client.ts";
import { openRecording } from "../../replay/recording_file.ts";
import { type ReplayedDevice, replayToDevice } from "../../replay/replay_to_device.ts";
import { RpcSession } from "../../server/rpc_session.ts";
import { say } from "../terminal.ts";
import { InspectError } from "./inspect_error.ts";
import { SessionStream } from "./session_stream.ts";
import { ClientSource, type Source, type SourceOptions } from "./client_source.ts";

/**
 * Replays a recording.
 *
 * @param options Which one, and how far.
 * @throws {InspectError} When it cannot be read.
 */
export async function replayedSource({ path, name, to }: SourceOptions): Promise<Source> {
  const replayed = await replay(path, name, to);
  try {
    if (to !== undefined && to > replayed.events) say(`${name} has ${replayed.events} events only`);
    if (to === undefined && replayed.service.served.vmm === null) {
      say(`${name}: its VMM has gone by then: --to ${replayed.events - 1} looks at what was before`);
    }
    for (const { line, text } of replayed.differences) say(`${name}:${line}: ${text}`);
    const session = new RpcSession(replayed.service, { id: 1 });
    const client = await Client.open(new SessionStream(session), { role: "observer", client: "inspect" });
    return new ReplayedSource(`${name}, event ${replayed.events}`, client, replayed);
  } catch (error) {
    replayed[Symbol.dispose]();
    throw error;
  }
}

async function replay(path: string, name: string, to: number | undefined): Promise<ReplayedDevice> {
  try {
    return await replayToDevice(await openRecording(path), { to });
  } catch (cause) {
    throw new InspectError(`cannot replay ${name}: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    });
  }
}

/** The device goes with the connection to it. */
class ReplayedSource extends ClientSource {
  readonly #replayed: ReplayedDevice;

  constructor(name: string, client: Client, replayed: ReplayedDevice) {
    super(name, client);
    this.#replayed = replayed;
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    this.#replayed[Symbol.dispose]();
  }
}
