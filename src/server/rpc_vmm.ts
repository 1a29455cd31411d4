/**
 * A VMM that speaks MessagePack-RPC: what the device tells it goes out as notifications.
 *
 * @module
 */

import type { Tracking } from "../gtt/gvt_gtt.ts";
import type { RpcPeer } from "./rpc_session.ts";
import type { Vmm } from "./vmm.ts";

/** The number of the device's only MSI message. */
const MSI_VECTOR = 0;

/** The VMM at the other end of an RPC session. */
export class RpcVmm implements Vmm {
  /** Whether it answers `page_track` by trapping stores. */
  readonly tracking: Tracking;
  readonly #peer: RpcPeer;

  /**
   * @param peer The session's other end, whose role is `vmm`.
   * @param tracking What it said at `hello` that it can do.
   */
  constructor(peer: RpcPeer, tracking: Tracking = "trapped") {
    this.#peer = peer;
    this.tracking = tracking;
  }

  /** The session's number. */
  get id(): number {
    return this.#peer.id;
  }

  /** Notifications from the VMM that were refused or failed. */
  get failedNotifications(): number {
    return this.#peer.failedNotifications;
  }

  /** See {@linkcode Vmm.isBehind}. */
  get isBehind(): boolean {
    return this.#peer.isBehind;
  }

  /** See {@linkcode Vmm.protect}. */
  protect(gfn: number, on: boolean): void {
    this.#peer.notify("page_track", [gfn, on]);
  }

  /** See {@linkcode Vmm.trackedWrite}. */
  trackedWrite(track: number, gfn: number, gpa: number, size: number): void {
    this.#peer.notify("tracked_write", [track, gfn, gpa, size]);
  }

  /** See {@linkcode Vmm.msi}. */
  msi(): void {
    this.#peer.notify("irq", [MSI_VECTOR]);
  }

  /** See {@linkcode Vmm.intx}. */
  intx(asserted: boolean): void {
    this.#peer.notify("intx", [asserted]);
  }
}
