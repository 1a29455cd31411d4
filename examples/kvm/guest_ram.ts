/**
 * The guest's RAM as the VMM sees it: a few regions of guest physical addresses, all in one piece of shared memory.
 *
 * @module
 */

import type { SharedMemory } from "./system.ts";

/** Bytes of a page. */
export const PAGE = 4096;
const MOST_TEXT = 80;

/** A run of guest physical addresses. */
export interface RamRegion {
  /** Its first address, a multiple of 4096. */
  readonly gpa: number;
  /** In bytes, a multiple of 4096. */
  readonly size: number;
}

/** Guest RAM. Addresses are guest physical. */
export class GuestRam {
  /** The regions, in order of address. */
  readonly regions: readonly RamRegion[];
  /** The memory behind all of them, one after the other. */
  readonly memory: SharedMemory;
  readonly #bytes: DataView<ArrayBuffer>;

  /**
   * @param regions Which addresses are RAM.
   * @param memory At least as large as all regions together.
   */
  constructor(regions: readonly RamRegion[], memory: SharedMemory) {
    this.regions = regions;
    this.memory = memory;
    this.#bytes = new DataView(memory.buffer);
  }

  /** Where an address is in the shared memory, in bytes; -1 if it is no RAM. */
  offsetOf(gpa: number): number {
    let offset = 0;
    for (const region of this.regions) {
      if (gpa >= region.gpa && gpa < region.gpa + region.size) return offset + gpa - region.gpa;
      offset += region.size;
    }
    return -1;
  }

  /** Copies bytes to an address; they must lie in one region. */
  write(gpa: number, bytes: Uint8Array): void {
    new Uint8Array(this.#bytes.buffer).set(bytes, this.offsetOf(gpa));
  }

  /** Does what a store instruction of 1 to 8 bytes does. */
  store(gpa: number, size: number, value: bigint): void {
    const offset = this.offsetOf(gpa);
    // One store and not several, where the instruction was one: the device reads the same memory.
    if (size === 8) this.#bytes.setBigUint64(offset, value, true);
    else if (size === 4) this.#bytes.setUint32(offset, Number(value), true);
    else {for (let i = 0; i < size; i++) {
        this.#bytes.setUint8(offset + i, Number(value >> BigInt(8 * i) & 0xffn));
      }}
  }

  /** The 8 bytes at an address that is RAM. */
  load(gpa: number): bigint {
    return this.#bytes.getBigUint64(this.offsetOf(gpa), true);
  }

  /** The text at an address, up to its NUL character; printable characters only. */
  text(gpa: number): string {
    let text = "";
    for (let at = gpa; text.length < MOST_TEXT; at++) {
      const code = Number(this.load(at - at % 8) >> BigInt(8 * (at % 8)) & 0xffn);
      if (code < 0x20 || code > 0x7e) break;
      text += String.fromCharCode(code);
    }
    return text;
  }
}
