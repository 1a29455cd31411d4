/**
 * The device as an RPC service: who may attach, and which handler answers which method.
 *
 * One VMM at a time drives the device; observers only look. When the VMM goes, for whatever reason, its guest is forgotten.
 *
 * @module
 */

import { RpcError } from "../../protocol/errors.ts";
import { PROTOCOL_VERSION } from "../../protocol/limits.ts";
import { checkParams, findMethod, type MethodName } from "../../protocol/methods.ts";
import type { Recorder } from "../recording/recorder.ts";
import { REGION_SIZES } from "../vgpu/vgpu.ts";
import { debugMethods } from "./debug_methods.ts";
import { engineMethods } from "./engine_methods.ts";
import { guestMethods } from "./guest_methods.ts";
import type { Handlers } from "./handlers.ts";
import type { HelloParams, HelloResult, Log, RpcPeer, RpcService } from "./rpc_session.ts";
import { RpcVmm } from "./rpc_vmm.ts";
import { ServedDevice, type ServedDeviceOptions, type ServedDeviceParts } from "./served_device.ts";
import { SERVER_NAME } from "./server_name.ts";
import { viewMethods } from "./view_methods.ts";

/** Characters of a client's name that are logged. */
const MAX_LOGGED_NAME = 64;

/** Bytes of guest RAM that an observer reads at once, at most. */
const MAX_OBSERVED_BYTES = 65536;

/** Calls that change nothing, or are recorded as what they do. */
const UNRECORDED: ReadonlySet<string> = new Set([
  ...["mmio_read", "mmio_write", "mmio_write_many", "ram_map", "ram_unmap", "reset"],
  ...["mem_read", "stats", "state", "tree", "registers", "snapshot", "walk", "events", "metrics"],
]);

type Handler = (...params: readonly never[]) => unknown;

/** A handler whose calls are recorded, and how they ended. */
function recorded(recorder: Recorder, method: string, handler: Handler): Handler {
  return (...params) => {
    let code: string | null = null;
    recorder.begin();
    try {
      return handler(...params);
    } catch (error) {
      if (error instanceof RpcError) code = error.code;
      else recorder.bug(error);
      throw error;
    } finally {
      recorder.end();
      recorder.call(method, params, code);
    }
  };
}

/** An observer reads little at a time: what it asks for is not to keep the guest waiting. */
function checkMayRead({ role }: RpcPeer, length: number): void {
  if (role !== "observer" || length <= MAX_OBSERVED_BYTES) return;
  throw new RpcError("E2BIG", `mem_read: observers read ${MAX_OBSERVED_BYTES} bytes at a time`);
}

/** A device behind the protocol. */
export class DeviceService implements RpcService {
  /** Whether faults may be injected and the engine's inside changed. */
  readonly debug: boolean;
  readonly #served: ServedDevice;
  readonly #handlers: ReadonlyMap<string, Handler>;
  readonly #vmms = new Map<RpcPeer, RpcVmm>();
  readonly #oos: boolean;
  readonly #log: Log;

  /**
   * @param options Options of the device.
   * @param debug Whether debug methods are there.
   * @param parts Log, told who comes and goes as well; recorder, inputs.
   * @throws {RangeError} When an option is out of range.
   */
  constructor(options: ServedDeviceOptions = {}, debug = false, parts: ServedDeviceParts = {}) {
    const { log = () => {}, recorder = null } = parts;
    this.debug = debug;
    this.#log = log;
    this.#oos = options.oos ?? false;
    this.#served = new ServedDevice(options, debug, parts);
    const handlers: Handlers<Exclude<MethodName, "hello">> = {
      ...guestMethods(this.#served),
      ...engineMethods(this.#served),
      ...viewMethods(this.#served),
      ...debugMethods(this.#served),
    };
    this.#handlers = new Map(
      Object.entries(handlers).map(([method, handler]) => {
        const isRecorded = recorder !== null && !UNRECORDED.has(method);
        return [method, isRecorded ? recorded(recorder, method, handler) : handler];
      }),
    );
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
    if (method === "mem_read") checkMayRead(peer, params[1] as number);
    return handler(...params as readonly never[]);
  }

  /**
   * Carries out a call that was recorded, whoever made it.
   *
   * @param method A method's name.
   * @param params Its parameters.
   * @throws {RpcError} As then, or because there is no such method.
   */
  repeat(method: string, params: readonly unknown[]): void {
    const row = findMethod(method);
    const handler = this.#handlers.get(method);
    // What leads out of the device, as a path of a file does, is never recorded as a call.
    if (row === undefined || handler === undefined || UNRECORDED.has(method)) {
      throw new RpcError("ENOSYS", "no call of such a method is recorded");
    }
    checkParams(method, row, params);
    handler(...params as readonly never[]);
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
