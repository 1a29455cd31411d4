// Real sockets for protocol tests.

import { connect } from "../../protocol/connect.ts";
import type { Client, ClientOptions } from "../../protocol/client.ts";
import { listenUnix } from "../../src/server/listener.ts";
import { serve, type ServeOptions } from "../../src/server/portable_loop.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";
import { FakeService } from "./protocol_fake.ts";

/** A folder of its own, removed at the end. */
export function scratchFolder(): { readonly path: string } & Disposable {
  const path = Deno.makeTempDirSync({ prefix: "vgtt-test-" });
  return { path, [Symbol.dispose]: () => Deno.removeSync(path, { recursive: true }) };
}

/** A fake device that serves a Unix socket. */
export class FakeDevice implements AsyncDisposable {
  readonly service: FakeService;
  readonly path: string;
  readonly #folder: { readonly path: string } & Disposable;
  readonly #stop = new AbortController();
  readonly #served: Promise<void>;

  private constructor(
    service: FakeService,
    folder: { readonly path: string } & Disposable,
    served: (stop: AbortSignal) => Promise<void>,
  ) {
    this.service = service;
    this.#folder = folder;
    this.path = `${folder.path}/device.sock`;
    this.#served = served(this.#stop.signal);
  }

  /** Starts one. */
  static async start(
    options: Omit<ServeOptions, "signal"> = {},
    service: FakeService = new FakeService(),
  ): Promise<FakeDevice> {
    const folder = scratchFolder();
    const listener = await listenUnix(`${folder.path}/device.sock`);
    return new FakeDevice(
      service,
      folder,
      (signal) => serve(listener, (id) => new RpcSession(service, { id }), { ...options, signal }),
    );
  }

  /** A client of the device. */
  connect(options: ClientOptions = {}): Promise<Client> {
    return connect(this.path, options);
  }

  /** A bare connection to the device. */
  dial(): Promise<Deno.UnixConn> {
    return Deno.connect({ transport: "unix", path: this.path });
  }

  /** Stops as SIGTERM does. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#served;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.#folder[Symbol.dispose]();
  }
}

/** Everything that a connection says until its end. */
export async function readAll(conn: Deno.UnixConn): Promise<Uint8Array> {
  const pieces: number[] = [];
  const buffer = new Uint8Array(64 * 1024);
  try {
    for (let count = await conn.read(buffer); count !== null; count = await conn.read(buffer)) {
      pieces.push(...buffer.subarray(0, count));
    }
  } catch (error) {
    // The other end closed without having read everything.
    if (!(error instanceof Deno.errors.ConnectionReset)) throw error;
  }
  return Uint8Array.from(pieces);
}

/** Writes all of some bytes. */
export async function writeAll(conn: Deno.UnixConn, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) sent += await conn.write(bytes.subarray(sent));
}
