/**
 * The graphics addresses that one vGPU owns (`engine.md` §5): two windows of the host's graphics memory, the
 * aperture, which the CPU reaches too, and the hidden part. With ballooning the guest uses host addresses, so
 * guest and host GGTT indices are identical.
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
  /** The same in entries of the GGTT. */
  readonly #firstAperture: number;
  readonly #endAperture: number;
  readonly #firstHidden: number;
  readonly #endHidden: number;

  /**
   * The windows of a layout.
   *
   * @param layout Where they lie, in bytes, all page aligned.
   * @throws {RangeError} When a window is not page aligned or does not fit the graphics memory.
   *
   * @example
   * ```ts
   * import { assertThrows } from "@std/assert";
   * import { DEFAULT_VGPU, GraphicsMemory, graphicsMemory } from "../../mod.ts";
   *
   * const { layout } = graphicsMemory(DEFAULT_VGPU);
   * const open = (change: Partial<typeof layout>) => new GraphicsMemory({ ...layout, ...change });
   * assertThrows(() => open({ apertureSize: 4097 }), RangeError, "must be a multiple of 4096");
   * assertThrows(() => open({ apertureBase: 0x10000000 }), RangeError, "beyond the host aperture");
   * ```
   */
  constructor(layout: GraphicsMemoryLayout) {
    this.layout = layout;
    this.#apertureBase = layout.apertureBase;
    this.#apertureEnd = layout.apertureBase + layout.apertureSize;
    this.#hiddenBase = layout.hiddenBase;
    this.#hiddenEnd = layout.hiddenBase + layout.hiddenSize;
    this.#firstAperture = this.#apertureBase / PAGE_SIZE;
    this.#endAperture = this.#apertureEnd / PAGE_SIZE;
    this.#firstHidden = this.#hiddenBase / PAGE_SIZE;
    this.#endHidden = this.#hiddenEnd / PAGE_SIZE;
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

  /**
   * Number of entries of the whole GGTT, one a page of graphics memory.
   *
   * @returns Entries, 1,048,576 at most.
   */
  get entries(): number {
    return this.layout.total / PAGE_SIZE;
  }

  /**
   * Whether an entry of the GGTT is one of the vGPU's own.
   *
   * @param index Entry, 0 or more, as a 32-bit number.
   * @returns Whether the page it maps lies in one of the two windows.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { DEFAULT_VGPU, graphicsMemory } from "../../mod.ts";
   *
   * const gm = graphicsMemory(DEFAULT_VGPU); // aperture 64..128 MiB, hidden 640..1024 MiB
   * assertEquals([0x3fff, 0x4000, 0x7fff, 0x8000].map((index) => gm.ownsEntry(index)), [false, true, true, false]);
   * ```
   */
  ownsEntry(index: number): boolean {
    return (index >= this.#firstAperture && index < this.#endAperture) ||
      (index >= this.#firstHidden && index < this.#endHidden);
  }

  /**
   * Whether an address lies in one of the two windows (`engine.md` §5).
   *
   * @param gma Graphics address, bytes, 0 or more.
   * @returns Whether it is the vGPU's own.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { DEFAULT_VGPU, graphicsMemory } from "../../mod.ts";
   *
   * const gm = graphicsMemory(DEFAULT_VGPU); // aperture 64..128 MiB, hidden 640..1024 MiB
   * assertEquals([gm.isValid(0x3ffffff), gm.isValid(0x4000000)], [false, true]);
   * assertEquals([gm.isValid(0x7ffffff), gm.isValid(0x8000000)], [true, false]);
   * assertEquals(gm.isValid(0x3fffffff), true); // the last byte of the hidden window
   * ```
   */
  isValid(gma: number): boolean {
    return (gma >= this.#apertureBase && gma < this.#apertureEnd) ||
      (gma >= this.#hiddenBase && gma < this.#hiddenEnd);
  }

  /**
   * Whether a whole range lies in one window (`intel_gvt_ggtt_validate_range`, `engine.md` §15, 3).
   *
   * @param gma First address, bytes, 0 or more.
   * @param size Bytes, 0 or more; 0 checks the address only.
   * @returns Whether all of it is the vGPU's own.
   *
   * @example A range may not begin in one window and end in the other
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { DEFAULT_VGPU, graphicsMemory } from "../../mod.ts";
   *
   * const gm = graphicsMemory(DEFAULT_VGPU); // aperture 64..128 MiB, hidden 640..1024 MiB
   * assertEquals(gm.isValidRange(0x4000000, 0x4000000), true);
   * assertEquals(gm.isValidRange(0x4000000, 0x28000000), false); // ends in the hidden window
   * assertEquals(gm.isValidRange(0x7ffffff, 0), true);
   * ```
   */
  isValidRange(gma: number, size: number): boolean {
    if (gma >= this.#apertureBase && gma < this.#apertureEnd) return size <= this.#apertureEnd - gma;
    if (gma >= this.#hiddenBase && gma < this.#hiddenEnd) return size <= this.#hiddenEnd - gma;
    return false;
  }

  /**
   * Guest address to host address (`intel_gvt_ggtt_gmadr_g2h`, `engine.md` §5): the identity inside a window.
   *
   * @param gma Guest's graphics address, bytes.
   * @returns The host address, or -EACCES outside the windows.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { DEFAULT_VGPU, EACCES, graphicsMemory } from "../../mod.ts";
   *
   * const gm = graphicsMemory(DEFAULT_VGPU); // aperture 64..128 MiB, hidden 640..1024 MiB
   * assertEquals(gm.guestToHost(0x4000abc), 0x4000abc);
   * assertEquals(gm.guestToHost(0xabc), EACCES);
   * ```
   */
  guestToHost(gma: number): number {
    return this.isValid(gma) ? gma : EACCES;
  }

  /**
   * Host address to guest address (`intel_gvt_ggtt_gmadr_h2g`, `engine.md` §5). As documented it is *not* the
   * inverse of {@linkcode guestToHost} (§13, 4).
   *
   * @param gma Host's graphics address, bytes.
   * @returns The guest address, or -EACCES beyond the graphics memory.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { DEFAULT_VGPU, EACCES, graphicsMemory } from "../../mod.ts";
   *
   * const gm = graphicsMemory(DEFAULT_VGPU); // aperture 64..128 MiB, hidden 640..1024 MiB
   * assertEquals(gm.hostToGuest(0xabc), 0x4000abc);
   * assertEquals(gm.hostToGuest(0x10000abc), 0x28000abc); // from the host aperture's end on
   * assertEquals(gm.hostToGuest(gm.guestToHost(0x4000abc)), 0x8000abc); // not where it began
   * assertEquals(gm.hostToGuest(0x100000000), EACCES);
   * ```
   */
  hostToGuest(gma: number): number {
    if (!(gma < this.layout.total)) return EACCES;
    if (gma < this.layout.mappableEnd) return this.#apertureBase + gma;
    return this.#hiddenBase + (gma - this.layout.mappableEnd);
  }

  /**
   * The index form of {@linkcode guestToHost} (`intel_gvt_ggtt_index_g2h`, `engine.md` §5).
   *
   * @param index Guest's GGTT entry, 0 or more.
   * @returns The host's GGTT entry, or -EACCES outside the windows.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { DEFAULT_VGPU, EACCES, graphicsMemory } from "../../mod.ts";
   *
   * const gm = graphicsMemory(DEFAULT_VGPU); // aperture 64..128 MiB, hidden 640..1024 MiB
   * assertEquals(gm.guestIndexToHost(0x4001), 0x4001);
   * assertEquals(gm.guestIndexToHost(1), EACCES);
   * ```
   */
  guestIndexToHost(index: number): number {
    return toIndex(this.guestToHost(index * PAGE_SIZE));
  }

  /**
   * The index form of {@linkcode hostToGuest} (`intel_gvt_ggtt_h2g_index`, `engine.md` §5).
   *
   * @param index Host's GGTT entry, 0 or more.
   * @returns The guest's GGTT entry, or -EACCES beyond the graphics memory.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { DEFAULT_VGPU, EACCES, graphicsMemory } from "../../mod.ts";
   *
   * const gm = graphicsMemory(DEFAULT_VGPU); // aperture 64..128 MiB, hidden 640..1024 MiB
   * assertEquals(gm.hostIndexToGuest(1), 0x4001);
   * assertEquals(gm.hostIndexToGuest(0x100000), EACCES);
   * ```
   */
  hostIndexToGuest(index: number): number {
    return toIndex(this.hostToGuest(index * PAGE_SIZE));
  }
}

/** An address as a GGTT index; an error stays as it is. */
function toIndex(addressOrError: number): number {
  return addressOrError < 0 ? addressOrError : Math.floor(addressOrError / PAGE_SIZE);
}
