/**
 * What the inspector looks at, as its sub-commands see it, and the usual kind: a device behind a connection.
 *
 * @module
 */

import type { Client } from "../../../protocol/client.ts";
import { Mirror } from "../../observe/mirror.ts";
import type { Snapshot } from "../../observe/snapshot.ts";

/** Which source. */
export interface SourceOptions {
  /** What is at the path. */
  readonly kind: "socket" | "recording" | "snapshot";
  /** Where it is. */
  readonly path: string;
  /** The same, as the user said it. */
  readonly name: string;
  /** How many events of a recording to replay; default: all. */
  readonly to?: number;
}

/** Something to look at. */
export interface Source extends AsyncDisposable {
  /** What it is, for people. */
  readonly name: string;
  /** An observer's connection; `null` for a saved snapshot. */
  readonly client: Client | null;
  /** The page tables as they are now. */
  take(): Promise<Snapshot>;
  /** How many entries of each table changed between the last two snapshots, by its serial number. */
  readonly changed: ReadonlyMap<number, number>;
}

/** A source behind a connection. */
export class ClientSource implements Source {
  readonly name: string;
  readonly client: Client;
  readonly #mirror: Mirror;

  /**
   * @param name What it is.
   * @param client An observer's connection, which is closed with it.
   */
  constructor(name: string, client: Client) {
    this.name = name;
    this.client = client;
    this.#mirror = new Mirror(client);
  }

  /** See {@linkcode Source.take}. */
  take(): Promise<Snapshot> {
    return this.#mirror.take();
  }

  /** See {@linkcode Source.changed}. */
  get changed(): ReadonlyMap<number, number> {
    return this.#mirror.changed;
  }

  /** Closes the connection. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.client.close();
  }
}
