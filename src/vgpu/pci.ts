/**
 * PCI configuration space (`guest.md` §1): a table of fields with reset values and writable bits, and what the
 * rest of the device wants to know of it.
 *
 * It is the same for every attachment. A VMM may keep BARs, interrupt line or capabilities itself and never
 * write them here: the device looks at nothing but command, MSI control and power state.
 *
 * @module
 */

import { modelOf } from "./models.ts";
import { MIB } from "./vgpu_options.ts";

/** Size of configuration space, bytes. */
export const CONFIG_SIZE = 256;

/** Size of region 0 (registers and GTT window), bytes. */
export const BAR0_SIZE = 16 * MIB;

/** Size of region 2 (aperture), bytes. */
export const BAR2_SIZE = 256 * MIB;

/** One field of configuration space. */
interface ConfigField {
  readonly name: string;
  readonly offset: number;
  /** Bytes. */
  readonly width: 1 | 2 | 4;
  readonly reset: number;
  /** Bits that a write changes. */
  readonly writable: number;
}

const DEVICE_ID = 0x02;
const COMMAND = 0x04;
const STATUS = 0x06;
const REVISION = 0x08;
const MSI_CAPABILITY = 0x90;
const MSI_CONTROL = MSI_CAPABILITY + 2;
const POWER_CAPABILITY = 0xd0;
const POWER_STATE = POWER_CAPABILITY + 4;

/** Command: the device may access memory, by DMA or for a message. */
const BUS_MASTER = 0x0004;
/** Command: the device must not assert its line. */
const INTX_DISABLE = 0x0400;
/** Status: an interrupt is due by the line, whether or not the line may be asserted. */
const INTERRUPT_STATUS = 0x08;
const HAS_CAPABILITIES = 0x0010;

const BAR_64_BIT = 0x4;
const BAR_PREFETCHABLE = 0x8;

const MSI_ENABLE = 0x0001;
/** PCI Express wants the form with 64-bit addresses. */
const MSI_64_BIT = 0x0080;

const POWER_STATE_BITS = 0x03;
const D0 = 0;
const D3_HOT = 3;
/** Power management 1.2, which has {@linkcode NO_SOFT_RESET}; no D1, no D2, no wake-up event. */
const POWER_VERSION = 0x0003;
/** Waking up from D3 keeps everything: nobody need save and restore it. */
const NO_SOFT_RESET = 0x0008;

/** The fields that are not 0 or not read-only. Device id and revision come from the options. */
const FIELDS: readonly ConfigField[] = [
  { name: "vendor id", offset: 0x00, width: 2, reset: 0x8086, writable: 0 },
  { name: "command", offset: COMMAND, width: 2, reset: 0, writable: 0x0547 },
  { name: "status", offset: STATUS, width: 2, reset: HAS_CAPABILITIES, writable: 0 },
  { name: "class: display, other", offset: 0x0a, width: 2, reset: 0x0380, writable: 0 },
  { name: "cache line size", offset: 0x0c, width: 1, reset: 0, writable: 0xff },
  { name: "BAR 0", offset: 0x10, width: 4, reset: BAR_64_BIT, writable: -BAR0_SIZE >>> 0 },
  { name: "BAR 0, high", offset: 0x14, width: 4, reset: 0, writable: 0xffffffff },
  {
    name: "BAR 2",
    offset: 0x18,
    width: 4,
    reset: BAR_64_BIT | BAR_PREFETCHABLE,
    writable: -BAR2_SIZE >>> 0,
  },
  { name: "BAR 2, high", offset: 0x1c, width: 4, reset: 0, writable: 0xffffffff },
  { name: "subsystem vendor id", offset: 0x2c, width: 2, reset: 0x8086, writable: 0 },
  { name: "subsystem id", offset: 0x2e, width: 2, reset: 0x2212, writable: 0 },
  { name: "capabilities pointer", offset: 0x34, width: 1, reset: MSI_CAPABILITY, writable: 0 },
  { name: "interrupt line", offset: 0x3c, width: 1, reset: 0, writable: 0xff },
  { name: "interrupt pin: INTA", offset: 0x3d, width: 1, reset: 1, writable: 0 },
  { name: "GMCH control: 8 MiB of GTT, nothing stolen", offset: 0x50, width: 2, reset: 0xc0, writable: 0 },
  { name: "MSI id", offset: MSI_CAPABILITY, width: 1, reset: 0x05, writable: 0 },
  { name: "MSI next", offset: MSI_CAPABILITY + 1, width: 1, reset: POWER_CAPABILITY, writable: 0 },
  {
    name: "MSI control: one message",
    offset: MSI_CONTROL,
    width: 2,
    reset: MSI_64_BIT,
    writable: MSI_ENABLE,
  },
  { name: "MSI address", offset: MSI_CAPABILITY + 4, width: 4, reset: 0, writable: 0xfffffffc },
  { name: "MSI address, high", offset: MSI_CAPABILITY + 8, width: 4, reset: 0, writable: 0xffffffff },
  { name: "MSI data", offset: MSI_CAPABILITY + 12, width: 2, reset: 0, writable: 0xffff },
  { name: "power management id", offset: POWER_CAPABILITY, width: 1, reset: 0x01, writable: 0 },
  {
    name: "power management capabilities",
    offset: POWER_CAPABILITY + 2,
    width: 2,
    reset: POWER_VERSION,
    writable: 0,
  },
  {
    name: "power management state",
    offset: POWER_STATE,
    width: 2,
    reset: NO_SOFT_RESET,
    writable: POWER_STATE_BITS,
  },
];

/**
 * The configuration space of one vGPU.
 *
 * @example Identity is read-only
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { PciConfig } from "../../mod.ts";
 *
 * const pci = new PciConfig(0x5912);
 * pci.writeByte(0x02, 0xff);
 * assertEquals([pci.readByte(0x02), pci.readByte(0x03)], [0x12, 0x59]);
 * ```
 */
export class PciConfig {
  readonly #bytes = new Uint8Array(CONFIG_SIZE);
  readonly #writable = new Uint8Array(CONFIG_SIZE);
  readonly #deviceId: number;

  /**
   * Configuration space in its reset state.
   *
   * @param deviceId PCI device id, 0..0xffff.
   */
  constructor(deviceId: number) {
    this.#deviceId = deviceId;
    for (const field of FIELDS) store(this.#writable, field.offset, field.width, field.writable);
    this.reset();
  }

  /**
   * Puts every field back to its reset value.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { PciConfig } from "../../mod.ts";
   *
   * const pci = new PciConfig(0x1912);
   * pci.writeByte(0x3c, 11); // interrupt line
   * assertEquals(pci.readByte(0x3c), 11);
   * pci.reset();
   * assertEquals(pci.readByte(0x3c), 0);
   * ```
   */
  reset(): void {
    this.#bytes.fill(0);
    for (const field of FIELDS) store(this.#bytes, field.offset, field.width, field.reset);
    store(this.#bytes, DEVICE_ID, 2, this.#deviceId);
    store(this.#bytes, REVISION, 1, modelOf(this.#deviceId).revision);
  }

  /**
   * Whether the guest lets the device access memory: by DMA, or to send a message.
   *
   * @returns The command register's bit.
   */
  get isBusMaster(): boolean {
    return (this.#bytes[COMMAND]! & BUS_MASTER) !== 0;
  }

  /**
   * Whether the guest wants its interrupts as messages, not by the line.
   *
   * @returns MSI's enable bit.
   */
  get isMsiEnabled(): boolean {
    return (this.#bytes[MSI_CONTROL]! & MSI_ENABLE) !== 0;
  }

  /**
   * Whether the device may load and store on its own, as engines do, or send a message, which is a store to memory.
   *
   * @returns Whether the device is a bus master and in D0: a sleeping one does neither.
   */
  get mayAccessMemory(): boolean {
    return this.isBusMaster && this.#isAwake;
  }

  /**
   * Whether the line may be asserted.
   *
   * @returns Whether the command register lets it, and the device is in D0.
   */
  get mayAssertIntx(): boolean {
    return (this.#bytes[COMMAND + 1]! & (INTX_DISABLE >> 8)) === 0 && this.#isAwake;
  }

  get #isAwake(): boolean {
    return (this.#bytes[POWER_STATE]! & POWER_STATE_BITS) === D0;
  }

  /**
   * Says in the status register whether an interrupt is due by the line.
   *
   * @param isDue Whether it is, even if the line may not be asserted.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { PciConfig } from "../../mod.ts";
   *
   * const pci = new PciConfig(0x1912);
   * pci.setInterruptStatus(true);
   * assertEquals(pci.readByte(0x06), 0x18); // and that there are capabilities
   * ```
   */
  setInterruptStatus(isDue: boolean): void {
    if (isDue) this.#bytes[STATUS]! |= INTERRUPT_STATUS;
    else this.#bytes[STATUS]! &= ~INTERRUPT_STATUS;
  }

  /**
   * Reads one byte; what the table of fields does not name is 0 (`guest.md` §1.1).
   *
   * @param offset 0..255.
   * @returns Its value.
   *
   * @example The class is "display, other"
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { PciConfig } from "../../mod.ts";
   *
   * const pci = new PciConfig(0x1912);
   * assertEquals([0x09, 0x0a, 0x0b].map((offset) => pci.readByte(offset)), [0x00, 0x80, 0x03]);
   * ```
   */
  readByte(offset: number): number {
    return this.#bytes[offset]!;
  }

  /**
   * Writes one byte; bits that are read-only keep their value (`guest.md` §1.2).
   *
   * @param offset 0..255.
   * @param value 0..255.
   *
   * @example A BAR tells its size to who writes all ones
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { PciConfig } from "../../mod.ts";
   *
   * const pci = new PciConfig(0x1912);
   * const bar0 = [0x10, 0x11, 0x12, 0x13];
   * for (const offset of bar0) pci.writeByte(offset, 0xff);
   * assertEquals(bar0.map((offset) => pci.readByte(offset)), [4, 0, 0, 0xff]); // 16 MiB, 64 bits wide
   * ```
   */
  writeByte(offset: number, value: number): void {
    const state = value & POWER_STATE_BITS;
    // A state that the device does not have: the write does nothing.
    if (offset === POWER_STATE && state !== D0 && state !== D3_HOT) return;
    const mask = this.#writable[offset]!;
    this.#bytes[offset] = (this.#bytes[offset]! & ~mask) | (value & mask);
  }
}

/** Stores a little-endian value. */
function store(bytes: Uint8Array, offset: number, width: number, value: number): void {
  for (let i = 0; i < width; i++) bytes[offset + i] = value >>> (8 * i);
}
