/**
 * A device on a real Unix socket with a VMM attached: what every scenario starts from.
 *
 * @module
 */

import { assertRejects } from "@std/assert";
import { Client } from "../../protocol/client.ts";
import { connect } from "../../protocol/connect.ts";
import { RpcError } from "../../protocol/errors.ts";
import type { Role } from "../../protocol/methods.ts";
import { assertInvariants } from "../../src/gtt/invariants.ts";
import type { VgpuGtt } from "../../src/gtt/vgpu_gtt.ts";
import { DeviceService } from "../../src/server/device_service.ts";
import { listenUnix } from "../../src/server/listener.ts";
import { serve } from "../../src/server/portable_loop.ts";
import { type Log, RpcSession } from "../../src/server/rpc_session.ts";
import type { ServedDeviceOptions } from "../../src/server/served_device.ts";
import { RAM_BYTES } from "./guest_pages.ts";

/** What a scenario wants. */
export interface AttachOptions {
  /** Options of the device. */
  readonly device?: ServedDeviceOptions;
  /** Whether debug methods are there. */
  readonly debug?: boolean;
  /** Whether the VMM traps stores; default as the protocol's. */
  readonly tracking?: "trapped" | "untracked";
  /** Bytes of local guest RAM mapped at 0; default {@linkcode RAM_BYTES}, 0 for none. */
  readonly ram?: number;
  /** Where the device logs; default: nowhere. */
  readonly log?: Log;
}

/** A notification as it came: its name and parameters. */
export type Notice = readonly [name: string, ...params: readonly unknown[]];

/** How often a call that must wait for somebody else's end is tried: one round trip each. */
const MAX_TRIES = 10_000;

/** A device that listens, and its VMM. */
export class Attached implements AsyncDisposable {
  /** The folder of the socket, for the test's own files too. */
  readonly folder: string;
  /** Path of the socket. */
  readonly path: string;
  /** The service behind the socket, to look inside. */
  readonly service: DeviceService;
  /** What the device told the VMM, in order. */
  readonly notices: Notice[] = [];
  readonly #clients: Client[] = [];
  readonly #stop: AbortController;
  readonly #served: Promise<void>;
  #vmm: Client | null = null;

  private constructor(
    folder: string,
    path: string,
    service: DeviceService,
    served: Promise<void>,
    stop: AbortController,
  ) {
    this.folder = folder;
    this.path = path;
    this.service = service;
    this.#served = served;
    this.#stop = stop;
  }

  /** Starts a device in a folder of its own, attaches a VMM and gives it RAM. */
  static async start(options: AttachOptions = {}): Promise<Attached> {
    const { device = {}, debug = false, log = () => {} } = options;
    const folder = await Deno.makeTempDir({ dir: "/tmp", prefix: "vgtt-" });
    const service = new DeviceService(device, debug, { log });
    const listener = await listenUnix(`${folder}/s`);
    const stop = new AbortController();
    const served = serve(listener, (id) => new RpcSession(service, { id }), {
      signal: stop.signal,
      background: service.served,
      log,
    });
    const attached = new Attached(folder, listener.name, service, served, stop);
    try {
      await attached.#attach(options);
      return attached;
    } catch (error) {
      await attached[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #attach({ ram = RAM_BYTES, tracking }: AttachOptions): Promise<void> {
    const vmm = this.#vmm = await this.connect("vmm", tracking);
    vmm.on("page_track", (gfn, on) => this.notices.push(["page_track", gfn, on]));
    vmm.on("irq", (vector) => this.notices.push(["irq", vector]));
    vmm.on("intx", (asserted) => this.notices.push(["intx", asserted]));
    vmm.on("tracked_write", (...params) => this.notices.push(["tracked_write", ...params]));
    if (ram > 0) await vmm.call("ram_map", { gpa: 0, size: ram });
  }

  /** The VMM that was attached first. */
  get vmm(): Client {
    return this.#vmm!;
  }

  /** The engine, as it is now. */
  get engine(): VgpuGtt {
    return this.service.served.device.vgpu.gtt;
  }

  /** The device's counter of this name. */
  async counter(name: string): Promise<number> {
    return (await this.vmm.call("stats"))[name] ?? NaN;
  }

  /** One more connection; it ends with the device. */
  async connect(role: Role, tracking?: AttachOptions["tracking"]): Promise<Client> {
    const options = tracking === undefined ? {} : { tracking };
    const client = await connect(this.path, { role, client: "scenario", ...options });
    this.#clients.push(client);
    return client;
  }

  /** Attaches a VMM as soon as the one before it is gone for the device, too. */
  async nextVmm(): Promise<Client> {
    const client = new Client(await Deno.connect({ transport: "unix", path: this.path }));
    this.#clients.push(client);
    for (let left = MAX_TRIES;; left--) {
      try {
        await client.call("hello", { protocol: 1, role: "vmm" });
        return client;
      } catch (error) {
        if (!(error instanceof RpcError) || error.code !== "EBUSY" || left === 0) throw error;
      }
    }
  }

  /** Checks the engine's invariants; the check is our own, so a failure is a bug. */
  assertSound(): void {
    assertInvariants(this.engine);
  }

  /** Closes every connection, stops the device and removes the folder. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) await client.close();
    this.#stop.abort();
    await this.#served;
    this.service.served.device[Symbol.dispose]();
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** The error that a call is answered with; the test fails if there is none. */
export async function refusal(call: Promise<unknown>): Promise<RpcError> {
  return await assertRejects(() => call, RpcError);
}
