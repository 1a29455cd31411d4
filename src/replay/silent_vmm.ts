/**
 * The VMM of a replay: it was there once, and hears nothing any more.
 *
 * @module
 */

import type { Tracking } from "../gtt/gvt_gtt.ts";
import type { Vmm } from "../server/vmm.ts";

/** Takes what the device tells and does nothing about it. */
export class SilentVmm implements Vmm {
  /** Of no session. */
  readonly id = 0;
  /** Whether the recorded VMM could trap stores. */
  readonly tracking: Tracking;
  /** What was refused of a recorded VMM is not recorded. */
  readonly failedNotifications = 0;
  /** It reads nothing, so that it is never behind. */
  readonly isBehind = false;

  /** @param tracking Whether the recorded VMM could trap stores. */
  constructor(tracking: Tracking) {
    this.tracking = tracking;
  }

  /** See {@linkcode Vmm.protect}. */
  protect(): void {}

  /** See {@linkcode Vmm.trackedWrite}. */
  trackedWrite(): void {}

  /** See {@linkcode Vmm.msi}. */
  msi(): void {}

  /** See {@linkcode Vmm.intx}. */
  intx(): void {}
}
