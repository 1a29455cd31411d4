/**
 * Whoever drives the device, whatever it speaks: what the device tells it.
 *
 * @module
 */

import type { Tracking } from "../gtt/gvt_gtt.ts";

/** The attached VMM. Its methods are called while the device works; none may call the device or throw. */
export interface Vmm {
  /** The session's number, never used again in this process. */
  readonly id: number;
  /** Whether it can trap the guest's stores. */
  readonly tracking: Tracking;
  /** Calls without a reply that were refused or failed: nobody is told, they are only counted. */
  readonly failedNotifications: number;
  /** Whether it has not read what it was told: the guest's engines wait then, for they make it more. */
  readonly isBehind: boolean;
  /** The guest's stores to a frame should start or stop to trap. */
  protect(gfn: number, on: boolean): void;
  /** A store hit a frame with one of the VMM's own page tracks. */
  trackedWrite(track: number, gfn: number, gpa: number, size: number): void;
  /** The device sends its MSI message. */
  msi(): void;
  /** The device raises (true) or lowers its interrupt line. */
  intx(asserted: boolean): void;
}
