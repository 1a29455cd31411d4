/**
 * The graphics addresses that one vGPU owns (`engine.md` §5): two windows of the host's graphics memory, the aperture,
 * which the CPU reaches too, and the hidden part. With ballooning the guest uses host addresses, so guest and host
 * GGTT indices are identical.
 *
 * @module
 */

import { EACCES } from "./errno.ts";
import { PAGE_SIZE } from "./entry.ts";

/** No address: the engine's INVALID_ADDR as a number. */
export const INVALID_ADDR: number = -1;

/** Where a vGPU's windows lie. Everything is in bytes, page aligned. */
export interface GraphicsMemoryLayout {
  /** First address of the vGPU's aperture. */
  readonly apertureBase: number;
  /** Size of the vGPU's aperture. */
  readonly apertureSize: number;
  /** First address of the vGPU's hidden window. */
  readonly hiddenBase: number;
  /** Size of the vGPU's hidden window. */
  readonly hiddenSize: number;
  /** Size of the host's whole graphics memory; 4 GiB at most. */
  readonly total: number;
  /** Size of the host's aperture: addresses below it are reachable by the CPU. */
  readonly mappableEnd: number;
}

/**
 * The windows of one vGPU and the address checks that go with them.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { GraphicsMemory } from "./address.ts";
 *
 * const gm = new GraphicsMemory({
 *   apertureBase: 0x4000000, apertureSize: 0x400000, hiddenBase: 0x20000000, hiddenSize: 0x800000,
 *   total: 0x100000000, mappableEnd: 0x10000000,
 * });
 * assertEquals(gm.isValid(0x4000000), true);
 * assertEquals(gm.isValid(0x4400000), false);
 * assertEquals(gm.isValidRange(0x43ff000, 0x1000), true);
 * assertEquals(gm.isValidRange(0x43ff000, 0x1001), false);
 * ```
 */
export class GraphicsMemory {
  /** The layout as given. */
  readonly layout: GraphicsMemoryLayout;
  readonly #apertureBase: number;
  readonly #apertureEnd: number;
  readonly #hiddenBase: number;
  readonly #hiddenEnd: number;

  /**
   * The windows of a layout.
   *
   * @param layout Where they lie.
   * @throws {RangeError} When a window is not page aligned or does not fit the graphics memory.
   */
  constructor(layout: GraphicsMemoryLayout) {
    this.layout = layout;
    this.#apertureBase = layout.apertureBase;
    this.#apertureEnd = layout.apertureBase + layout.apertureSize;
    this.#hiddenBase = layout.hiddenBase;
    this.#hiddenEnd = layout.hiddenBase + layout.hiddenSize;
    for (const [name, bytes] of Object.entries(layout)) {
      if (!Number.isSafeInteger(bytes) || bytes < 0 || bytes % PAGE_SIZE !== 0) {
        throw new RangeError(`${name} must be a multiple of ${PAGE_SIZE} bytes: got ${bytes}`);
      }
    }
    if (layout.total > 2 ** 32) throw new RangeError("graphics memory larger than 4 GiB is not supported");
    if (layout.mappableEnd > layout.total) {
      throw new RangeError("the host aperture is larger than graphics memory");
    }
    if (this.#apertureEnd > layout.mappableEnd) {
      throw new RangeError(
        `the aperture window ends at 0x${this.#apertureEnd.toString(16)}, beyond the host aperture`,
      );
    }
    if (this.#hiddenEnd > layout.total) {
      throw new RangeError(
        `the hidden window ends at 0x${this.#hiddenEnd.toString(16)}, beyond graphics memory`,
      );
    }
  }

  /** Number of entries of the whole GGTT. */
  get entries(): number {
    return this.layout.total / PAGE_SIZE;
  }

  /** Whether an address lies in one of the two windows. */
  isValid(gma: number): boolean {
    return (gma >= this.#apertureBase && gma < this.#apertureEnd) ||
      (gma >= this.#hiddenBase && gma < this.#hiddenEnd);
  }

  /**
   * Whether a whole range lies in one window (`intel_gvt_ggtt_validate_range`; `engine.md` §15, 3).
   *
   * @param gma First address.
   * @param size Bytes; 0 checks the address only.
   */
  isValidRange(gma: number, size: number): boolean {
    if (gma >= this.#apertureBase && gma < this.#apertureEnd) return size <= this.#apertureEnd - gma;
    if (gma >= this.#hiddenBase && gma < this.#hiddenEnd) return size <= this.#hiddenEnd - gma;
    return false;
  }

  /**
   * Guest address to host address (`intel_gvt_ggtt_gmadr_g2h`): the identity inside a window.
   *
   * @returns The host address, or -EACCES.
   */
  guestToHost(gma: number): number {
    return this.isValid(gma) ? gma : EACCES;
  }

  /**
   * Host address to guest address (`intel_gvt_ggtt_gmadr_h2g`). As documented it is *not* the inverse of
   * {@linkcode guestToHost} (`engine.md` §13, 4).
   *
   * @returns The guest address, or -EACCES beyond the graphics memory.
   */
  hostToGuest(gma: number): number {
    if (!(gma < this.layout.total)) return EACCES;
    if (gma < this.layout.mappableEnd) return this.#apertureBase + gma;
    return this.#hiddenBase + (gma - this.layout.mappableEnd);
  }

  /** The index form of {@linkcode guestToHost} (`intel_gvt_ggtt_index_g2h`). */
  guestIndexToHost(index: number): number {
    return toIndex(this.guestToHost(index * PAGE_SIZE));
  }

  /** The index form of {@linkcode hostToGuest} (`intel_gvt_ggtt_h2g_index`). */
  hostIndexToGuest(index: number): number {
    return toIndex(this.hostToGuest(index * PAGE_SIZE));
  }
}

/** An address as a GGTT index; an error stays as it is. */
function toIndex(addressOrError: number): number {
  return addressOrError < 0 ? addressOrError : Math.floor(addressOrError / PAGE_SIZE);
}
