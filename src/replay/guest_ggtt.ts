/**
 * The GGTT as a recorded guest wrote it: what a check holds against the device.
 *
 * @module
 */

import { PAGE_SIZE } from "../gtt/entry.ts";
import { GTT_START_OFFSET } from "../gtt/ggtt.ts";
import { REGION_BAR0 } from "../vgpu/vgpu.ts";
import type { RecordedEvent } from "./recording.ts";

/** The windows of a vGPU as `hello` tells them, in bytes. */
export interface Windows {
  /** First address of the aperture part. */
  readonly apertureBase: number;
  /** Its size. */
  readonly apertureSize: number;
  /** First address of the hidden part. */
  readonly hiddenBase: number;
  /** Its size. */
  readonly hiddenSize: number;
}

/** Follows a guest's stores to its GGTT. Stores outside the windows are dropped, as by the device (`engine.md` §7.2). */
export class GuestGgtt {
  /** Entries stored so far by index, two lanes each. */
  readonly entries: Map<number, [lo: number, hi: number]> = new Map();
  /** Stores that lay outside the windows. */
  outside = 0;
  readonly #windows: Windows;

  /** A GGTT of which nothing was stored yet. */
  constructor(windows: Windows) {
    this.#windows = windows;
  }

  /** Takes an event of a recording; all but stores to the GTT window are ignored. */
  follow(event: RecordedEvent): void {
    if (event.kind !== "write" || event.region !== REGION_BAR0 || event.offset < GTT_START_OFFSET) return;
    const index = Math.floor((event.offset - GTT_START_OFFSET) / 8);
    if (!this.#isInside(index * PAGE_SIZE)) {
      this.outside++;
      return;
    }
    const entry = this.entries.get(index) ?? [0, 0];
    const first = event.offset % 8 === 4 ? 1 : 0;
    entry[first] = Number(event.value & 0xffffffffn);
    if (event.size === 8) entry[1] = Number(event.value >> 32n);
    this.entries.set(index, entry);
  }

  #isInside(gma: number): boolean {
    const { apertureBase, apertureSize, hiddenBase, hiddenSize } = this.#windows;
    return (gma >= apertureBase && gma < apertureBase + apertureSize) ||
      (gma >= hiddenBase && gma < hiddenBase + hiddenSize);
  }
}
