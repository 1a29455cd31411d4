/**
 * Replays a recording without a header in this process. Its guest's memory is the device's own; pages that are given
 * again change as stores do, so that writes to table pages are trapped.
 *
 * @module
 */

import { PAGE_SIZE } from "../gtt/entry.ts";
import type { ServedDevice } from "../server/served_device.ts";
import type { RecordedEvent, RecordedPage } from "./recording.ts";
import { SilentVmm } from "./silent_vmm.ts";

/** The longest access that the device knows, bytes; a longer recorded one is split. */
const MAX_ACCESS = 8;

/** Plays the events of a recording without a header. */
export class PlainReplay {
  readonly #served: ServedDevice;
  readonly #value = new Uint32Array(2);
  /** Guest pages as they were given last. */
  readonly #pages = new Map<number, BigUint64Array>();

  /**
   * Attaches a VMM and maps RAM.
   *
   * @param served A fresh device.
   * @param ramBytes How much RAM the recording needs.
   */
  constructor(served: ServedDevice, ramBytes: number) {
    this.#served = served;
    served.attach(new SilentVmm("trapped"));
    served.device.mapRam({ gpa: 0, size: ramBytes });
  }

  /** Plays one event. Engines do nothing: what they would fetch is not in such a recording. */
  play(event: RecordedEvent): void {
    if (event.kind === "page") this.#page(event);
    else if (event.kind === "read") this.#read(event.region, event.offset, event.size);
    else {
      const lo = Number(event.value & 0xffffffffn);
      this.#served.device.vgpu.write(event.region, event.offset, event.size, lo, Number(event.value >> 32n));
    }
  }

  #read(region: number, offset: number, size: number): void {
    for (let done = 0; done < size; done += MAX_ACCESS) {
      this.#served.device.vgpu.read(region, offset + done, Math.min(MAX_ACCESS, size - done), this.#value);
    }
  }

  #page({ gpa, bytes }: RecordedPage): void {
    const { device } = this.#served;
    const now = new BigUint64Array(bytes.buffer, bytes.byteOffset, PAGE_SIZE / 8);
    const before = this.#pages.get(gpa);
    this.#pages.set(gpa, now);
    if (before === undefined) return void device.store(gpa, bytes);
    for (const [index, entry] of now.entries()) {
      if (before[index] !== entry) device.store(gpa + 8 * index, bytes.subarray(8 * index, 8 * index + 8));
    }
  }
}
