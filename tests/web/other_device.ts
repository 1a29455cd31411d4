/**
 * A device at a path that is the test's, which may end and be followed by another.
 *
 * @module
 */

import { DeviceService } from "../../src/server/device_service.ts";
import { listenUnix } from "../../src/server/listener.ts";
import { serve } from "../../src/server/portable_loop.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";

/** A device in this process. */
export class OtherDevice implements AsyncDisposable {
  readonly #service: DeviceService;
  readonly #stop: AbortController;
  readonly #served: Promise<void>;

  private constructor(service: DeviceService, stop: AbortController, served: Promise<void>) {
    this.#service = service;
    this.#stop = stop;
    this.#served = served;
  }

  /** Starts it. */
  static async start(path: string): Promise<OtherDevice> {
    const service = new DeviceService();
    const listener = await listenUnix(path);
    const stop = new AbortController();
    const served = serve(listener, (id) => new RpcSession(service, { id }), { signal: stop.signal });
    return new OtherDevice(service, stop, served);
  }

  /** Ends it, and every connection to it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#served;
    this.#service.served.device[Symbol.dispose]();
  }
}
