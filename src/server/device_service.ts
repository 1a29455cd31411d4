/**
 * The device as an RPC service: who may attach, and which handler answers which method.
 *
 * One VMM at a time drives the device; observers only look. When the VMM goes, for whatever reason, its guest is forgotten.
 *
 * @module
 */

import { RpcError } from "../../protocol/errors.ts";
import { PROTOCOL_VERSION } from "../../protocol/limits.ts";
import type { MethodName } from "../../protocol/methods.ts";
import { REGION_SIZES } from "../vgpu/vgpu.ts";
import { debugMethods } from "./debug_methods.ts";
import { engineMethods } from "./engine_methods.ts";
import { guestMethods } from "./guest_methods.ts";
import type { Handlers } from "./handlers.ts";
import type { HelloParams, HelloResult, Log, RpcPeer, RpcService } from "./rpc_session.ts";
import { RpcVmm } from "./rpc_vmm.ts";
import { ServedDevice, type ServedDeviceOptions } from "./served_device.ts";
import { SERVER_NAME } from "./server_name.ts";
import { viewMethods } from "./view_methods.ts";

/** Characters of a client's name that are logged. */
const MAX_LOGGED_NAME = 64;

/** A device behind the protocol. */
export class DeviceService implements RpcService {
  /** Whether faults may be injected and the engine's inside changed. */
  readonly debug: boolean;
  readonly #served: ServedDevice;
  readonly #handlers: ReadonlyMap<string, (...params: readonly never[]) => unknown>;
  readonly #vmms = new Map<RpcPeer, RpcVmm>();
  readonly #oos: boolean;
  readonly #log: Log;

  /**
   * @param options Options of the device.
   * @param debug Whether debug methods are there.
   * @param log Told who comes and goes.
   * @throws {RangeError} When an option is out of range.
   */
  constructor(options: ServedDeviceOptions = {}, debug = false, log: Log = () => {}) {
    this.debug = debug;
    this.#log = log;
    this.#oos = options.oos ?? false;
    this.#served = new ServedDevice(options, debug, log);
    const handlers: Handlers<Exclude<MethodName, "hello">> = {
      ...guestMethods(this.#served),
      ...engineMethods(this.#served),
      ...viewMethods(this.#served),
      ...debugMethods(this.#served),
    };
    this.#handlers = new Map(Object.entries(handlers));
  }

  /** The device, for tests that look inside. */
  get served(): ServedDevice {
    return this.#served;
  }

  /** See {@linkcode RpcService.open}. */
  open(peer: RpcPeer, { role, client = "", tracking }: HelloParams): HelloResult {
    if (role === "vmm") {
      const vmm = new RpcVmm(peer, tracking);
      if (!this.#served.attach(vmm)) {
        throw new RpcError(
          "EBUSY",
          "another VMM drives this device: wait until it has gone, or attach as observer",
        );
      }
      this.#vmms.set(peer, vmm);
    }
    this.#log("info", `${role} attached`, { session: peer.id, client: client.slice(0, MAX_LOGGED_NAME) });
    return {
      protocol: PROTOCOL_VERSION,
      server: SERVER_NAME,
      role,
      debug: this.debug,
      regions: [...REGION_SIZES].map(([index, size]) => ({ index, size })),
      config: { ...this.#served.device.config, oos: this.#oos },
    };
  }

  /** See {@linkcode RpcService.call}. */
  call(peer: RpcPeer, method: MethodName, params: readonly unknown[]): unknown {
    const handler = this.#handlers.get(method);
    if (handler === undefined) throw new RpcError("ENOSYS", `${method} is not implemented`);
    if (method === "debug_init") this.#checkMayReplace(peer);
    return handler(...params as readonly never[]);
  }

  /** A device and its RAM may be taken from under the VMM that drives it by nobody but that. */
  #checkMayReplace(peer: RpcPeer): void {
    const { vmm } = this.#served;
    if (vmm === null || vmm === this.#vmms.get(peer)) return;
    throw new RpcError("EBUSY", "debug_init: another VMM drives this device: wait until it has gone");
  }

  /** See {@linkcode RpcService.close}. */
  close(peer: RpcPeer): void {
    this.#log("info", `${peer.role} gone`, { session: peer.id });
    const vmm = this.#vmms.get(peer);
    if (vmm === undefined) return;
    this.#vmms.delete(peer);
    this.#served.detach(vmm);
  }
}
