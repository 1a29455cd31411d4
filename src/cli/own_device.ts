/**
 * A device of the command's own, on a real socket: for commands that need one and were not told of another.
 *
 * @module
 */

import { DeviceService } from "../server/device_service.ts";
import { listenUnix } from "../server/listener.ts";
import { serve } from "../server/portable_loop.ts";
import { RpcSession } from "../server/rpc_session.ts";

/** A device that runs in this process. */
export class OwnDevice implements AsyncDisposable {
  /** Path of its socket. */
  readonly path: string;
  readonly #stop: AbortController;
  readonly #served: Promise<void>;

  private constructor(path: string, stop: AbortController, served: Promise<void>) {
    this.path = path;
    this.#stop = stop;
    this.#served = served;
  }

  /**
   * Starts a device.
   *
   * @param path Where it listens.
   * @param debug Whether debug methods are there.
   * @throws {ListenError} When the path cannot be had.
   */
  static async start(path: string, debug: boolean): Promise<OwnDevice> {
    return await OwnDevice.serve(path, new DeviceService({}, debug));
  }

  /**
   * Lets others connect to a device that is there already.
   *
   * @param path Where it listens.
   * @param service The device.
   * @throws {ListenError} When the path cannot be had.
   */
  static async serve(path: string, service: DeviceService): Promise<OwnDevice> {
    const listener = await listenUnix(path);
    const stop = new AbortController();
    const served = serve(listener, (id) => new RpcSession(service, { id }), { signal: stop.signal });
    return new OwnDevice(path, stop, served);
  }

  /** Stops the device and removes its socket. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#served;
  }
}
