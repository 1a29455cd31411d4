/**
 * The VMM: runs the guest, and turns what it does into calls of the device.
 *
 * | the guest …                         | the device is told …                                          |
 * | ----------------------------------- | ------------------------------------------------------------- |
 * | loads from or stores to a BAR       | `mmio_read`, `mmio_write`, `mmio_write_many`                  |
 * | accesses PCI configuration space    | the same, of region 7                                         |
 * | stores to a page that is protected  | `page_wrote`, after the VMM has done the store                |
 *
 * | the device says …                   | the VMM …                                                     |
 * | ----------------------------------- | ------------------------------------------------------------- |
 * | `page_track`                        | makes the page's memory slot read-only, or not, before the guest runs on |
 * | `irq`                               | reads address and data from configuration space and injects the message |
 * | `intx`                              | does nothing: this guest uses MSI                             |
 *
 * The vCPU runs only inside {@linkcode Vmm.run}, never while a call is under way: so RAM, slots and device agree whenever the
 * guest runs. A VMM with several vCPUs has to stop the others, or at least those that touch the page, while a slot changes.
 *
 * @module
 */

import { type DeviceLink, Region, type Size } from "./device_link.ts";
import { type GuestRam, PAGE } from "./guest_ram.ts";
import { type Exit, GuestError, type Vcpu, type Vm } from "./kvm.ts";
import { TICK_MS } from "./system.ts";
import { PciBus, type Window } from "./pci_bus.ts";
import { MemorySlots } from "./slots.ts";

/** How long a guest may do nothing that the VMM sees, milliseconds, if nothing else is said. */
const PATIENCE_MS = 5000;
/** Bytes of an entry of a page table. */
const ENTRY = 8;
/** Config-space offsets of the MSI message. */
const MSI = { ADDRESS: 0x94, ADDRESS_HIGH: 0x98, DATA: 0x9c } as const;

/** How long each of some things took, milliseconds, in order. */
export type Durations = number[];

/** What the VMM does besides emulating. */
export interface VmmOptions {
  /** The guest wrote a port that is not the VMM's. @returns `false` to stop running. */
  onOut(port: number, value: number): Promise<boolean> | boolean;
  /** The guest reads a port that is not the VMM's. */
  onIn(port: number): number;
  /** The guest stored to a region of the device. */
  onStore(region: number, offset: number, size: number, value: bigint): void;
  /** Whether the device hears of trapped stores; it is the VMM's duty to say so. Default true. */
  readonly tellsStores?: boolean;
  /** How many memory slots there may be. */
  readonly maxSlots: number;
  /** How long the guest may do nothing that the VMM sees, milliseconds. Default 5000. */
  readonly patience?: number;
}

/** A virtual machine with a vGPU. */
export class Vmm {
  /** Its memory slots. */
  readonly slots: MemorySlots;
  /** The guest's loads from the device. */
  readonly loads: Durations = [];
  /** Its stores to the device that waited for the answer. */
  readonly stores: Durations = [];
  /** Its stores to protected pages. */
  readonly traps: Durations = [];
  /** Its stores to the device that did not wait. */
  posted = 0;
  /** How often the guest stopped, whatever for. */
  exits = 0;
  /** Interrupts injected. */
  interrupts = 0;
  /** Trapped stores that the device could not follow: what `page_wrote` answered, in order. */
  readonly refused: number[] = [];
  readonly #vm: Vm;
  readonly #vcpu: Vcpu;
  readonly #ram: GuestRam;
  readonly #device: DeviceLink;
  readonly #bus: PciBus;
  readonly #options: VmmOptions;
  #pendingMessages = 0;

  /**
   * Takes the device's notifications over.
   *
   * @param vm The machine, without memory.
   * @param vcpu Its processor, ready to run.
   * @param ram The guest's RAM, which the device knows.
   * @param device A connection as VMM.
   */
  constructor(vm: Vm, vcpu: Vcpu, ram: GuestRam, device: DeviceLink, options: VmmOptions) {
    this.#vm = vm;
    this.#vcpu = vcpu;
    this.#ram = ram;
    this.#device = device;
    this.#options = options;
    this.#bus = new PciBus(device);
    this.slots = new MemorySlots(vm, ram, options.maxSlots);
    device.client.on("page_track", (gfn, on) => this.slots.protect(gfn, on));
    device.client.on("irq", () => void this.#pendingMessages++);
  }

  /**
   * Runs the guest until `onOut` says stop.
   *
   * @throws {GuestError} If the guest cannot go on, or does nothing for too long.
   */
  async run(): Promise<void> {
    const { patience = PATIENCE_MS } = this.#options;
    for (let ticks = 0;;) {
      while (this.#pendingMessages > 0) await this.#inject();
      this.slots.commit();
      const exit = this.#vcpu.run();
      if (exit.kind !== "tick") {
        ticks = 0;
        this.exits++;
        if (!await this.#emulate(exit)) return;
      } else if (++ticks * TICK_MS > patience) {
        throw new GuestError(`The guest did nothing for ${patience} ms, at 0x${this.#vcpu.rip.toString(16)}`);
      } else {
        this.#device.flush();
        await new Promise((resolve) => setTimeout(resolve, 0)); // let notifications in
      }
    }
  }

  /** Does what the guest's instruction asks for. @returns Whether to go on. */
  async #emulate(exit: Exit): Promise<boolean> {
    switch (exit.kind) {
      case "load":
        exit.answer(await this.#load(exit.gpa, exit.size));
        return true;
      case "store":
        await this.#store(exit.gpa, exit.size, exit.value);
        return true;
      case "in":
        exit.answer(
          this.#bus.owns(exit.port)
            ? await this.#bus.in(exit.port, exit.size)
            : this.#options.onIn(exit.port),
        );
        return true;
      case "out":
        if (!this.#bus.owns(exit.port)) return await this.#options.onOut(exit.port, exit.value);
        await this.#bus.out(exit.port, exit.size, exit.value);
        return true;
      default:
        return true;
    }
  }

  async #load(gpa: number, size: number): Promise<bigint> {
    const window = this.#window(gpa, size);
    if (window === undefined) return 0xffff_ffff_ffff_ffffn; // nobody answers: all ones
    const begin = performance.now();
    const parts = accesses(size).map(([at, part]) =>
      this.#device.read(window.region, gpa + at - window.base, part)
    );
    const values = await Promise.all(parts);
    this.loads.push(performance.now() - begin);
    return values.reduce((all, value, i) => all | value << BigInt(8 * i));
  }

  async #store(gpa: number, size: number, value: bigint): Promise<void> {
    if (this.#ram.offsetOf(gpa) >= 0) return await this.#trapped(gpa, size, value);
    const window = this.#window(gpa, size);
    if (window === undefined) return; // nobody answers: dropped
    const begin = performance.now();
    const answers = accesses(size).map(([at, part]) => {
      const bytes = BigInt.asUintN(8 * part, value >> BigInt(8 * at));
      this.#options.onStore(window.region, gpa + at - window.base, part, bytes);
      return this.#device.write(window.region, gpa + at - window.base, part, bytes);
    });
    if (answers.every((answer) => answer === null)) {
      this.posted++;
      return;
    }
    await Promise.all(answers);
    this.stores.push(performance.now() - begin);
  }

  /** A store to a read-only slot: RAM first, then the device. */
  async #trapped(gpa: number, size: number, value: bigint): Promise<void> {
    this.#ram.store(gpa, size, value);
    // A slot may be larger than what the device asked for.
    if (!this.slots.protectedPages.has(Math.floor(gpa / PAGE))) return;
    const begin = performance.now();
    const told = this.#options.tellsStores === false ? [] : entriesChanged(gpa, size);
    const answers = await Promise.all(told.map(([at, bytes]) => this.#device.call("page_wrote", at, bytes)));
    this.traps.push(performance.now() - begin);
    this.refused.push(...answers.filter((rc) => rc !== 0));
  }

  #window(gpa: number, size: number): Window | undefined {
    return this.#bus.windows.find(({ base, size: bytes }) => gpa >= base && gpa + size <= base + bytes);
  }

  async #inject(): Promise<void> {
    this.#pendingMessages--;
    const [low, high, data] = await Promise.all([
      this.#device.read(Region.CONFIG, MSI.ADDRESS, 4),
      this.#device.read(Region.CONFIG, MSI.ADDRESS_HIGH, 4),
      this.#device.read(Region.CONFIG, MSI.DATA, 2),
    ]);
    this.#vm.signalMsi(high << 32n | low, Number(data));
    this.interrupts++;
  }
}

/** An access in widths that the device knows. Others come from KVM where an instruction crosses a page: they go byte by byte. */
function accesses(size: number): [at: number, size: Size][] {
  if (size === 1 || size === 2 || size === 4 || size === 8) return [[0, size]];
  return Array.from({ length: size }, (_, at) => [at, 1]);
}

/**
 * What to say of a store to a table page: `page_wrote` takes whole entries and halves of entries. Of anything else the entries
 * that it touched are said whole; the device reads them from RAM.
 */
function entriesChanged(gpa: number, size: number): [gpa: number, size: number][] {
  if ((size === ENTRY || size === ENTRY / 2) && gpa % size === 0) return [[gpa, size]];
  const told: [number, number][] = [];
  for (let at = gpa - gpa % ENTRY; at < gpa + size; at += ENTRY) told.push([at, ENTRY]);
  return told;
}
