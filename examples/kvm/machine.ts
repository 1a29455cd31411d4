/**
 * The machine that the guest runs on, as its VMM sets it up: RAM, the guest's program, the ports by which it talks. The guest's
 * side of the same is `guest/machine.h`.
 *
 * @module
 */

import { connect } from "../../protocol/connect.ts";
import { RpcError } from "../../protocol/errors.ts";
import { type CheckResult, TranslationCheck } from "./check.ts";
import { DeviceLink } from "./device_link.ts";
import { GuestRam, type RamRegion } from "./guest_ram.ts";
import { GuestError, type Vcpu, Vm } from "./kvm.ts";
import { SharedMemory } from "./system.ts";
import { type Durations, Vmm } from "./vmm.ts";

const MIB = 2 ** 20;
const GIB = 2 ** 30;

/** RAM below and above 4 GiB, so that both halves of an entry say something. */
const RAM: readonly RamRegion[] = [{ gpa: 0, size: 32 * MIB }, { gpa: 4 * GIB, size: 16 * MIB }];
/** Where the guest's program goes. */
const PROGRAM = MIB;
/** Top of the guest's stack, which grows down. */
const STACK = 0x8_0000;
/** The processor's own page tables: a PML4 table, a PDP table, and a PDE table for each GiB. */
const PAGE_TABLES = 0x1000;
/** How many GiB the processor sees: RAM ends soon after 4 GiB. */
const MAPPED_GIB = 5;

/** Ports by which the guest talks to the VMM. */
const Port = {
  NAME: 0x500,
  STEP: 0x504,
  SUBMIT: 0x508,
  EVENT: 0x50c,
  FAIL: 0x510,
  END: 0x514,
  SEED: 0x518,
} as const;

/** What one step of the guest came to. */
export interface Step {
  /** 1 and up. */
  readonly number: number;
  /** What the guest calls it. */
  readonly name: string;
  /** How often the guest stopped. */
  readonly exits: number;
  /** Stores to protected pages. */
  readonly traps: number;
  /** Memory slots at its end. */
  readonly slots: number;
  /** Protected pages at its end. */
  readonly protectedPages: number;
  /** Guest walk = shadow walk. */
  readonly check: CheckResult;
}

/** What a whole run came to. */
export interface RunResult {
  /** The steps, in order. */
  readonly steps: readonly Step[];
  /** How often the guest stopped. */
  readonly exits: number;
  /** Loads, stores and trapped stores that waited for the device. */
  readonly loads: Durations;
  /** See {@linkcode loads}. */
  readonly stores: Durations;
  /** See {@linkcode loads}. */
  readonly traps: Durations;
  /** Stores that did not wait. */
  readonly posted: number;
  /** How many messages those took. */
  readonly batches: number;
  /** What `page_wrote` answered when not 0. */
  readonly refused: readonly number[];
  /** Interrupts that reached the guest. */
  readonly interrupts: number;
  /** Slots made and deleted. */
  readonly slotChanges: number;
  /** How long it took, each time that slots had to be changed. */
  readonly slotUpdates: Durations;
  /** The device's own counters at the end. */
  readonly stats: Readonly<Record<string, number>>;
}

/** How to run. */
export interface RunOptions {
  /** Path of the device's socket. */
  readonly socketPath: string;
  /** The guest's program. */
  readonly image: Uint8Array;
  /** Of the guest's random numbers, 0..2^32−1. Default 1. */
  readonly seed?: number;
  /** Called after each step. */
  readonly onStep?: (step: Step) => void;
  /** Whether the device hears of trapped stores. Default true. */
  readonly tellsStores?: boolean;
  /** At most so many memory slots; default what KVM allows. */
  readonly maxSlots?: number;
  /** How long the guest may do nothing that the VMM sees, milliseconds. */
  readonly patience?: number;
}

/**
 * Runs the guest to its end.
 *
 * @throws {NoKvm} If there is no usable KVM.
 * @throws {GuestError} If the guest finds something wrong itself, or cannot go on.
 * @throws {RpcError} If the device refuses something, such as the VMM: there is one already.
 */
export async function runGuest(options: RunOptions): Promise<RunResult> {
  using vm = new Vm();
  using memory = new SharedMemory(RAM.reduce((sum, { size }) => sum + size, 0));
  using vcpu = vm.createVcpu();
  const ram = new GuestRam(RAM, memory);
  loadGuest(ram, vcpu, options.image);
  await using client = await connect(options.socketPath, { role: "vmm", client: "kvm example" });
  if (!client.hello.debug) {
    throw new RpcError(
      "ENOSYS",
      "the device must be started with --debug: the example has it raise interrupts",
    );
  }
  const device = new DeviceLink(client);
  const hostFrames: number[] = [];
  for (const { gpa, size } of RAM) {
    const { mfn } = await device.call("ram_map", { gpa, size, path: memory.path, offset: ram.offsetOf(gpa) });
    hostFrames.push(mfn);
  }
  const run = new Run(vm, vcpu, ram, device, hostFrames, options);
  await run.vmm.run();
  return await run.result();
}

/** Puts the program and the processor's page tables into RAM. */
function loadGuest(ram: GuestRam, vcpu: Vcpu, image: Uint8Array): void {
  const pdp = PAGE_TABLES + 0x1000;
  ram.store(PAGE_TABLES, 8, BigInt(pdp | 3)); // present, writable
  for (let gib = 0; gib < MAPPED_GIB; gib++) {
    const pde = pdp + 0x1000 * (gib + 1);
    ram.store(pdp + 8 * gib, 8, BigInt(pde | 3));
    for (let i = 0; i < 512; i++) ram.store(pde + 8 * i, 8, BigInt(gib * GIB + i * 2 * MIB + 0x83)); // large pages
  }
  ram.write(PROGRAM, image);
  vcpu.enterLongMode(PROGRAM, STACK, PAGE_TABLES);
}

/** A run under way. */
class Run {
  readonly vmm: Vmm;
  readonly #ram: GuestRam;
  readonly #device: DeviceLink;
  readonly #check: TranslationCheck;
  readonly #options: RunOptions;
  readonly #submits: boolean;
  readonly #steps: Step[] = [];
  #name = "";

  constructor(
    vm: Vm,
    vcpu: Vcpu,
    ram: GuestRam,
    device: DeviceLink,
    hostFrames: readonly number[],
    options: RunOptions,
  ) {
    this.#ram = ram;
    this.#device = device;
    this.#options = options;
    this.#check = new TranslationCheck(device, ram, hostFrames);
    // Where tables may be out of sync, they are right only when a workload is submitted.
    this.#submits = device.client.hello.config["oos"] === true;
    const { tellsStores = true, maxSlots = vm.maxSlots, patience } = options;
    this.vmm = new Vmm(vm, vcpu, ram, device, {
      onOut: (port, value) => this.#out(port, value),
      onIn: (port) => port === Port.SEED ? options.seed ?? 1 : 0xffff_ffff,
      onStore: (...store) => this.#check.sawStore(...store),
      tellsStores,
      maxSlots,
      ...(patience === undefined ? {} : { patience }),
    });
  }

  /** What it came to. */
  async result(): Promise<RunResult> {
    const stats = await this.#device.call("stats");
    const { exits, loads, stores, traps, posted, refused, interrupts, slots } = this.vmm;
    return {
      steps: this.#steps,
      exits,
      loads,
      stores,
      traps,
      posted,
      batches: this.#device.batches,
      refused,
      interrupts,
      slotChanges: slots.changes,
      slotUpdates: slots.durations,
      stats,
    };
  }

  async #out(port: number, value: number): Promise<boolean> {
    switch (port) {
      case Port.NAME:
        this.#name = this.#ram.text(value);
        return true;
      case Port.STEP:
        await this.#step(value);
        return true;
      case Port.SUBMIT:
        await this.#check.submit();
        return true;
      case Port.EVENT:
        await this.#device.call("debug_raise", "gt0", 1);
        return true;
      case Port.FAIL:
        throw new GuestError(`The guest found something wrong: guest.c:${value}`);
      case Port.END:
        return false;
      default:
        throw new GuestError(`The guest wrote to port 0x${port.toString(16)}, where nothing is`);
    }
  }

  async #step(number: number): Promise<void> {
    if (this.#submits) await this.#check.submit();
    const check = await this.#check.compare();
    const { exits, traps, slots } = this.vmm;
    const before = this.#steps.reduce(
      (sum, step) => ({ exits: sum.exits + step.exits, traps: sum.traps + step.traps }),
      { exits: 0, traps: 0 },
    );
    slots.commit();
    const step: Step = {
      number,
      name: this.#name,
      exits: exits - before.exits,
      traps: traps.length - before.traps,
      slots: slots.count,
      protectedPages: slots.protectedPages.size,
      check,
    };
    this.#steps.push(step);
    this.#options.onStep?.(step);
  }
}
