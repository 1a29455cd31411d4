/**
 * What the inspector looks at: a device, a recording that is replayed in this process, or a saved snapshot.
 *
 * @module
 */

import type { Client } from "../../../protocol/client.ts";
import type { Snapshot } from "../../observe/snapshot.ts";
import { loadSnapshot } from "../../observe/snapshot_file.ts";
import { attach } from "../attach.ts";
import { loadLater } from "../load_later.ts";
import { ClientSource, type Source, type SourceOptions } from "./client_source.ts";
import { InspectError } from "./inspect_error.ts";

export type { Source, SourceOptions };

/**
 * Opens a source.
 *
 * @param options Which one.
 * @throws {AttachError | InspectError} When it cannot be had; the message says what to do.
 */
export async function openSource(options: SourceOptions): Promise<Source> {
  const { kind, path, name } = options;
  if (kind === "snapshot") return await savedSource(path, name);
  if (kind === "recording") {
    const { replayedSource } = await loadLater<typeof import("./replayed_source.ts")>(
      "inspect/replayed_source.ts",
    );
    return await replayedSource(options);
  }
  return new ClientSource(name, await attach(path, { role: "observer", client: "inspect" }));
}

/**
 * The connection of a source, for what a saved snapshot does not have.
 *
 * @throws {InspectError} When it is a saved snapshot.
 */
export function clientOf({ client }: Source): Client {
  if (client === null) throw new InspectError("a saved snapshot has page tables and nothing else");
  return client;
}

async function savedSource(path: string, name: string): Promise<Source> {
  const snapshot = await readSnapshot(path);
  return {
    name,
    client: null,
    take: () => Promise.resolve(snapshot),
    changed: new Map(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/**
 * Reads a saved snapshot.
 *
 * @throws {InspectError} When there is none.
 */
export async function readSnapshot(path: string): Promise<Snapshot> {
  try {
    return await loadSnapshot(path);
  } catch (cause) {
    throw new InspectError(
      `cannot read the snapshot ${path}: ${cause instanceof Error ? cause.message : cause}`,
      {
        cause,
      },
    );
  }
}
