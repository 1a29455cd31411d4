/**
 * The PVINFO page (`guest.md` §2): how a guest finds out that it runs on a vGPU, what is its own, and how it
 * tells the device about its page tables.
 *
 * @module
 */

import type { VgpuConfig } from "./vgpu_options.ts";

/** Offset of the page in region 0, bytes. */
export const PVINFO_OFFSET = 0x78000;
/** Size of the page, bytes. */
export const PVINFO_SIZE = 0x1000;
/** Offset in the page of the g2v notification register. */
export const G2V_NOTIFY = 0x818;
/** Offset in the page of the four 64-bit PDP registers. */
export const PVINFO_PDP = 0x838;

/** Messages of the guest to the device, written to {@linkcode G2V_NOTIFY}. */
export const G2V = {
  /** An old message without meaning. */
  legacy: 1,
  /** A 3-level page table begins. */
  level3Create: 2,
  /** A 3-level page table ends. */
  level3Destroy: 3,
  /** A 4-level page table begins. */
  level4Create: 4,
  /** A 4-level page table ends. */
  level4Destroy: 5,
  /** An execlist context begins; nothing to do. */
  contextCreate: 6,
  /** An execlist context ends; nothing to do. */
  contextDestroy: 7,
} as const;

const MAGIC_LO = 0x76544776;
const MAGIC_HI = 0x47765447;
/** The guest's page tables may be full 48-bit ones. */
const CAP_FULL_PPGTT = 1 << 2;
/** The hardware status page is emulated. */
const CAP_HWSP_EMULATION = 1 << 3;
/** The guest's page tables may have pages of 64 KiB and 2 MiB. */
const CAP_HUGE_PAGES = 1 << 4;
/** No cursor hot spot was given. */
const NO_HOT_SPOT = 0xffffffff;

/** Readable ranges, [first byte, byte after the last]. Other reads are answered but counted. */
const READABLE: readonly (readonly [number, number])[] = [
  [0x000, 0x010],
  [0x010, 0x014],
  [0x040, 0x054],
  [0x81c, 0x820],
];

/**
 * Registers that keep what the guest writes, [first byte, byte after the last]. Other writes are dropped and
 * counted.
 */
const WRITABLE: readonly (readonly [number, number])[] = [
  [0x804, 0x808],
  [G2V_NOTIFY, G2V_NOTIFY + 4],
  [0x830, 0x838],
  [PVINFO_PDP, 0x858],
  [0x858, 0x860],
];

/** Registers by which the guest says that it is out of resources; the device gives up (failsafe mode). */
const OUT_OF_RESOURCES = [0x808, 0x818] as const;

/** What a write to the PVINFO page asks for. */
export type PvinfoWrite = "stored" | "dropped" | "notify" | "failsafe";

/**
 * The PVINFO page of one vGPU.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { DEFAULT_VGPU, Pvinfo } from "../../mod.ts";
 *
 * const page = new Pvinfo(DEFAULT_VGPU);
 * assertEquals(page.register(0x40), DEFAULT_VGPU.apertureBase);
 * assertEquals(page.register(0x10), 0xc); // full page tables, hardware status page
 * ```
 */
export class Pvinfo {
  /** Whether the guest has read any of it since the reset: it knows that it runs on a vGPU. */
  wasRead = false;
  readonly #config: VgpuConfig;
  readonly #bytes = new Uint8Array(PVINFO_SIZE);
  readonly #view = new DataView(this.#bytes.buffer);
  /** The PDP registers, eight lanes: the roots that a notification is about. */
  readonly roots: Uint32Array = new Uint32Array(this.#bytes.buffer, PVINFO_PDP, 8);

  /**
   * The page in its reset state.
   *
   * @param config What the page tells the guest.
   */
  constructor(config: VgpuConfig) {
    this.#config = config;
    this.reset();
  }

  /**
   * Puts every register back to its reset value; the guest is taken for a new one.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { DEFAULT_VGPU, Pvinfo, PVINFO_PDP } from "../../mod.ts";
   *
   * const page = new Pvinfo(DEFAULT_VGPU);
   * page.writeRegister(PVINFO_PDP, 0x1000);
   * assertEquals(page.roots[0], 0x1000);
   * page.reset();
   * assertEquals(page.roots[0], 0);
   * ```
   */
  reset(): void {
    const { apertureBase, apertureSize, hiddenBase, hiddenSize, fences, hugePages } = this.#config;
    this.wasRead = false;
    this.#bytes.fill(0);
    const registers: readonly (readonly [number, number])[] = [
      [0x000, MAGIC_LO],
      [0x004, MAGIC_HI],
      [0x008, 1], // version 1.0
      [0x010, CAP_FULL_PPGTT | CAP_HWSP_EMULATION | (hugePages ? CAP_HUGE_PAGES : 0)],
      [0x040, apertureBase],
      [0x044, apertureSize],
      [0x048, hiddenBase],
      [0x04c, hiddenSize],
      [0x050, fences],
      [0x830, NO_HOT_SPOT],
      [0x834, NO_HOT_SPOT],
    ];
    for (const [offset, value] of registers) this.#view.setUint32(offset, value, true);
  }

  /**
   * Reads one byte.
   *
   * @param offset 0..4095.
   * @returns Its value.
   *
   * @example The magic begins with "v"
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { DEFAULT_VGPU, Pvinfo } from "../../mod.ts";
   *
   * assertEquals(new Pvinfo(DEFAULT_VGPU).readByte(0), "v".charCodeAt(0));
   * ```
   */
  readByte(offset: number): number {
    return this.#bytes[offset]!;
  }

  /**
   * Whether a read is one that a guest has reason to do (`guest.md` §2.1). Others are answered, but counted.
   *
   * @param offset 0..4095.
   * @param size Bytes.
   * @returns Whether all of it lies in one readable range.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { DEFAULT_VGPU, Pvinfo } from "../../mod.ts";
   *
   * const page = new Pvinfo(DEFAULT_VGPU);
   * assertEquals([page.isReadable(0, 8), page.isReadable(0x50, 4)], [true, true]);
   * assertEquals(page.isReadable(0x50, 8), false);
   * ```
   */
  isReadable(offset: number, size: number): boolean {
    return lies(READABLE, offset, size);
  }

  /**
   * Reads a 4-byte register.
   *
   * @param offset 0..4092, a multiple of 4.
   * @returns Its value, 32 bits.
   *
   * @example The number of fences
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { Pvinfo, vgpuConfig } from "../../mod.ts";
   *
   * assertEquals(new Pvinfo(vgpuConfig({ fences: 8 })).register(0x50), 8);
   * ```
   */
  register(offset: number): number {
    return this.#view.getUint32(offset, true);
  }

  /**
   * Writes a 4-byte register (`guest.md` §2.1, `engine.md` §8.6).
   *
   * @param offset 0..4092, a multiple of 4.
   * @param value 32-bit value.
   * @returns What the write asks for; the caller acts on it.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { DEFAULT_VGPU, G2V, G2V_NOTIFY, Pvinfo, PVINFO_PDP } from "../../mod.ts";
   *
   * const page = new Pvinfo(DEFAULT_VGPU);
   * assertEquals(page.writeRegister(PVINFO_PDP + 4, 0x9), "stored");
   * assertEquals(page.roots, Uint32Array.of(0, 0x9, 0, 0, 0, 0, 0, 0));
   * assertEquals(page.writeRegister(G2V_NOTIFY, G2V.level4Create), "notify");
   * assertEquals(page.writeRegister(0x40, 0), "dropped"); // read-only
   * assertEquals(page.writeRegister(0x808, 1), "failsafe"); // the guest is out of resources
   * ```
   */
  writeRegister(offset: number, value: number): PvinfoWrite {
    if (offset >= OUT_OF_RESOURCES[0] && offset < OUT_OF_RESOURCES[1]) return "failsafe";
    if (!lies(WRITABLE, offset, 4)) return "dropped";
    this.#view.setUint32(offset, value, true);
    return offset === G2V_NOTIFY ? "notify" : "stored";
  }

  /**
   * Stores a byte without any meaning, as in failsafe mode.
   *
   * @param offset 0..4095.
   * @param value 0..255; higher bits are ignored.
   *
   * @example Even a register that is read-only otherwise
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { DEFAULT_VGPU, Pvinfo } from "../../mod.ts";
   *
   * const page = new Pvinfo(DEFAULT_VGPU);
   * page.storeByte(0, 0x1ff);
   * assertEquals(page.readByte(0), 0xff);
   * ```
   */
  storeByte(offset: number, value: number): void {
    this.#bytes[offset] = value;
  }
}

/** Whether an access lies in one of the ranges. */
function lies(ranges: readonly (readonly [number, number])[], offset: number, size: number): boolean {
  return ranges.some(([first, end]) => offset >= first && offset + size <= end);
}
