/**
 * A PCI bus with one device at 00:02.0: configuration space by the two old I/O ports, and the windows of its BARs.
 *
 * The device keeps what the guest writes into its BARs but decodes nothing: that is the VMM's part. After every store that
 * may have moved a window the VMM asks the device where its BARs are.
 *
 * @module
 */

import { type DeviceLink, Region, type Size } from "./device_link.ts";

/** A range of guest physical addresses that leads to a region of the device. */
export interface Window {
  /** The region's number. */
  readonly region: number;
  /** First address. */
  readonly base: number;
  /** In bytes. */
  readonly size: number;
}

/** The port that chooses a register: enable, bus, device, function, register. */
const ADDRESS_PORT = 0xcf8;
/** Four ports for the chosen register's bytes. */
const DATA_PORT = 0xcfc;
const ENABLE = 0x8000_0000;
const DEVICE_2 = 2 << 11;

const COMMAND = 0x04;
const MEMORY_SPACE = 0x2;
/** 64-bit BARs: register, region. */
const BARS = [[0x10, Region.REGISTERS], [0x18, Region.APERTURE]] as const;
const AFTER_BARS = 0x28;

/** The bus. */
export class PciBus {
  /** Where the guest reaches the device now. */
  windows: readonly Window[] = [];
  readonly #device: DeviceLink;
  readonly #sizes: ReadonlyMap<number, number>;
  #address = 0;

  constructor(device: DeviceLink) {
    this.#device = device;
    this.#sizes = new Map(device.client.hello.regions.map(({ index, size }) => [index, size]));
  }

  /** Whether a port is one of the bus's. */
  owns(port: number): boolean {
    return port >= ADDRESS_PORT && port < DATA_PORT + 4;
  }

  /** The guest reads a port. */
  async in(port: number, size: number): Promise<number> {
    if (port < DATA_PORT) return this.#address;
    const register = this.#register(port);
    // Nobody answers: all ones.
    return register === null
      ? 0xffff_ffff
      : Number(await this.#device.read(Region.CONFIG, register, size as Size));
  }

  /** The guest writes a port. */
  async out(port: number, size: number, value: number): Promise<void> {
    if (port < DATA_PORT) {
      this.#address = value;
      return;
    }
    const register = this.#register(port);
    if (register === null) return;
    await this.#device.write(Region.CONFIG, register, size as Size, BigInt(value));
    if (register >= COMMAND && register < AFTER_BARS) await this.#decode();
  }

  /** The register that a data port stands for, or `null` if there is no such device. */
  #register(port: number): number | null {
    const place = this.#address & ~0xff; // enable bit, bus, device, function
    return place === (ENABLE | DEVICE_2) ? (this.#address & 0xfc) + port - DATA_PORT : null;
  }

  async #decode(): Promise<void> {
    const command = Number(await this.#device.read(Region.CONFIG, COMMAND, 2));
    const windows: Window[] = [];
    for (const [register, region] of BARS) {
      const bar = await this.#device.read(Region.CONFIG, register, 8);
      const base = Number(bar & ~0xfn); // without the bits that tell its type
      if ((command & MEMORY_SPACE) !== 0) windows.push({ region, base, size: this.#sizes.get(region) ?? 0 });
    }
    this.windows = windows;
  }
}
