/**
 * One virtual GPU: regions that a guest reads and writes, in front of the GTT engine.
 *
 * Region numbers are those of vfio-pci: 0 registers and GTT window, 2 aperture, 7 PCI configuration space. An
 * access that no region has (a region that does not exist, an offset beyond its end, a size other than 1, 2,
 * 4 or 8) is the *peer's* mistake and is refused. Any other access is the *guest's* and is always answered.
 *
 * @module
 */

import type { GraphicsMemory } from "../gtt/address.ts";
import { EINVAL, OK } from "../gtt/errno.ts";
import type { GttHost } from "../gtt/host.ts";
import type { GvtGtt } from "../gtt/gvt_gtt.ts";
import { VgpuGtt } from "../gtt/vgpu_gtt.ts";
import type { RamMap } from "../memory/ram_map.ts";
import { CommandStreamers, type StreamerEvents } from "../streamer/command_streamers.ts";
import { type EngineInfo, RING } from "../streamer/engines.ts";
import { StreamerCounters } from "../streamer/streamer_counters.ts";
import type { StreamerWitness } from "../streamer/witness.ts";
import { Aperture } from "./aperture.ts";
import { Bar0 } from "./bar0.ts";
import { CommandRegisters, EngineRegisters } from "./engine_registers.ts";
import { EventLog } from "./event_log.ts";
import type { HostGgtt } from "./host_ggtt.ts";
import { INTERRUPT_BANKS } from "./interrupt_banks.ts";
import { Interrupts, type InterruptSink } from "./interrupts.ts";
import { modelOf } from "./models.ts";
import { BAR0_SIZE, BAR2_SIZE, CONFIG_SIZE, PciConfig } from "./pci.ts";
import { PlatformRegisters } from "./platform_registers.ts";
import { RegisterFile } from "./register_file.ts";
import { type Block, REGISTERS } from "./registers.ts";
import { Timestamp } from "./timestamp.ts";
import { Tlb } from "./tlb.ts";
import { VgpuCounters } from "./vgpu_counters.ts";
import type { VgpuConfig } from "./vgpu_options.ts";

/** Region of registers and GTT window. */
export const REGION_BAR0 = 0;
/** Region of the aperture. */
export const REGION_APERTURE = 2;
/** Region of PCI configuration space. */
export const REGION_CONFIG = 7;

/** Sizes of the regions that exist, bytes. */
export const REGION_SIZES: ReadonlyMap<number, number> = new Map([
  [REGION_BAR0, BAR0_SIZE],
  [REGION_APERTURE, BAR2_SIZE],
  [REGION_CONFIG, CONFIG_SIZE],
]);

/** The same by number, for the way of each access. */
const SIZE_OF_REGION: readonly number[] = Array.from(
  { length: 9 },
  (_, region) => REGION_SIZES.get(region) ?? 0,
);

/** The banks of the engines' interrupts, by number. */
const ENGINE_BANKS = [
  INTERRUPT_BANKS.gt0,
  INTERRUPT_BANKS.gt1,
  INTERRUPT_BANKS.gt2,
  INTERRUPT_BANKS.gt3,
] as const;

/** Nobody to interrupt. */
const DEAF: InterruptSink = { msi() {}, intx() {} };

/** What a vGPU is built from. */
export interface VgpuParts {
  /** Sizes and identity. */
  readonly config: VgpuConfig;
  /** The graphics memory that the vGPU owns. */
  readonly gm: GraphicsMemory;
  /** The device it belongs to. */
  readonly gvt: GvtGtt;
  /** The engine's host. */
  readonly host: GttHost;
  /** The host's GGTT, to which `host` stores. */
  readonly ggtt: HostGgtt;
  /** Guest RAM. */
  readonly ram: RamMap;
  /** Where interrupts go. Default: nowhere. */
  readonly interrupts?: InterruptSink;
  /** The time, milliseconds, never going back. Default `performance.now`. */
  readonly clock?: () => number;
  /** Checks page tables and translations while engines use them. Default: nobody. */
  readonly witness?: ((gtt: VgpuGtt) => StreamerWitness) | undefined;
  /** Where is noted what happens. Default: a log of its own. */
  readonly events?: EventLog;
}

/**
 * A virtual GPU.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, OK, REGION_BAR0 } from "../../mod.ts";
 *
 * using device = createDevice();
 * const value = new Uint32Array(2);
 * assertEquals(device.vgpu.read(REGION_BAR0, 0x78000, 8, value), OK);
 * assertEquals(new TextDecoder().decode(value.buffer).slice(0, 3), "vGT"); // PVINFO's magic
 * ```
 */
export class Vgpu {
  /** Sizes and identity. */
  readonly config: VgpuConfig;
  /** The engine. */
  readonly gtt: VgpuGtt;
  /** What the regions have seen. */
  readonly counters: VgpuCounters = new VgpuCounters();
  /** What the engines have done. */
  readonly streamerCounters: StreamerCounters = new StreamerCounters();
  /** What happened lately. */
  readonly events: EventLog;
  /** PCI configuration space. */
  readonly pci: PciConfig;
  /** The registers of region 0. */
  readonly registers: RegisterFile<Block>;
  /** The interrupt tree. */
  readonly interrupts: Interrupts;
  /** Region 0. */
  readonly bar0: Bar0;
  readonly #aperture: Aperture;
  readonly #streamers: CommandStreamers;
  readonly #engineRegisters: EngineRegisters;
  readonly #platform: PlatformRegisters;

  /**
   * A vGPU in its reset state; the engine is not initialised.
   *
   * @param parts What it is built from.
   */
  constructor(parts: VgpuParts) {
    const { config, gvt, host, gm, ggtt, ram, interrupts = DEAF } = parts;
    const { clock = () => performance.now(), witness, events = new EventLog() } = parts;
    const { counters } = this;
    this.events = events;
    this.config = config;
    this.gtt = new VgpuGtt(gvt, host, gm);
    events.follow(this.gtt.counters);
    this.pci = new PciConfig(config.deviceId);
    this.registers = new RegisterFile(REGISTERS, {
      interrupts: { written: () => this.interrupts.update() },
      tlb: new Tlb(this.gtt, counters, ram, events),
      engines: {
        written: (offset, value) => this.#engineRegisters.written(offset, value),
        live: (offset) => this.#engineRegisters.live(offset),
      },
      platform: { written: (offset, value) => this.#platform.written(offset, value) },
    }, counters);
    this.interrupts = new Interrupts(this.registers, this.pci, counters, interrupts);
    const timestamp = new Timestamp(modelOf(config.deviceId).timestampHz, clock);
    this.#streamers = new CommandStreamers({
      gm,
      gtt: this.gtt,
      ggtt,
      ram,
      registers: new CommandRegisters(this.registers),
      clock: timestamp,
      counters: this.streamerCounters,
      raise: (engine, events) => this.#raise(engine, events),
      witness: witness?.(this.gtt),
      events: streamerEvents(events),
    });
    this.#engineRegisters = new EngineRegisters(
      this.registers,
      gm,
      timestamp,
      counters,
      () => this.#streamers,
      {
        fullReset: () => this.gtt.unshadowAll(),
        mayEnableRunList: () => this.#isAware(),
        mayAccessMemory: () => this.pci.mayAccessMemory,
      },
    );
    this.#platform = new PlatformRegisters(this.registers, counters, config.fences, () => this.#isAware());
    this.bar0 = new Bar0({
      config,
      gtt: this.gtt,
      registers: this.registers,
      interrupts: this.interrupts,
      counters,
      events,
      onFailsafe: () => this.#streamers.forgetAll(),
    });
    this.#aperture = new Aperture(ggtt, ram, this.gtt, counters);
  }

  /**
   * The guest reads.
   *
   * @param region 0, 2 or 7.
   * @param offset Bytes; the access must end within the region.
   * @param size 1, 2, 4 or 8.
   * @param out Receives the value as two lanes.
   * @returns 0, also for the guest's own mistakes; -EINVAL for an access that no region has.
   *
   * @example PCI configuration space
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL, OK, REGION_CONFIG } from "../../mod.ts";
   *
   * using device = createDevice();
   * const out = new Uint32Array(2);
   * assertEquals(device.vgpu.read(REGION_CONFIG, 0, 4, out), OK);
   * assertEquals(out[0], 0x19128086);
   * assertEquals(device.vgpu.read(REGION_CONFIG, 0xfe, 4, out), EINVAL); // ends beyond the region
   * ```
   */
  read(region: number, offset: number, size: number, out: Uint32Array): number {
    if (!isAccess(region, offset, size)) return EINVAL;
    if (region === REGION_BAR0) {
      this.counters.bar0Reads++;
      this.bar0.read(offset, size, out);
    } else if (region === REGION_APERTURE) {
      this.counters.apertureReads++;
      this.#aperture.read(offset, size, out);
    } else {
      this.counters.configReads++;
      out[0] = out[1] = 0;
      for (let i = 0; i < size; i++) out[i >> 2]! |= this.pci.readByte(offset + i) << (8 * (i & 3));
    }
    return OK;
  }

  /**
   * The guest writes.
   *
   * @param region 0, 2 or 7.
   * @param offset Bytes; the access must end within the region.
   * @param size 1, 2, 4 or 8.
   * @param lo Low lane of the value.
   * @param hi High lane of the value, for size 8.
   * @returns 0, also for the guest's own mistakes; -EINVAL for an access that no region has.
   *
   * @example A guest's mistake is answered, a peer's is refused
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL, OK, REGION_BAR0 } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { vgpu } = device;
   * assertEquals(vgpu.write(REGION_BAR0, 0x2031, 4, 0, 0), OK); // not aligned: dropped and counted
   * assertEquals(vgpu.counters.badAccesses, 1);
   * assertEquals(vgpu.write(1, 0, 4, 0, 0), EINVAL); // no such region
   * ```
   */
  write(region: number, offset: number, size: number, lo: number, hi: number): number {
    if (!isAccess(region, offset, size)) return EINVAL;
    if (region === REGION_BAR0) {
      this.counters.bar0Writes++;
      this.bar0.write(offset, size, lo, hi);
    } else if (region === REGION_APERTURE) {
      this.counters.apertureWrites++;
      this.#aperture.write(offset, size, lo, hi);
    } else {
      this.counters.configWrites++;
      for (let i = 0; i < size; i++) this.pci.writeByte(offset + i, (i < 4 ? lo : hi) >>> (8 * (i & 3)));
      // The guest may have changed whether and how interrupts are sent.
      this.interrupts.update();
    }
    return OK;
  }

  /**
   * Whether the engines have something to do: {@linkcode runEngines} is to be called when nothing more urgent waits.
   * Not while the guest keeps the device from memory: it is no bus master, or asleep.
   *
   * @returns Whether some engine has commands and can go on.
   */
  get isRunnable(): boolean {
    return this.pci.mayAccessMemory && this.#streamers.isRunnable;
  }

  /**
   * Whether all that the engines would do now is wait: for a semaphore, or for the CPU to change a batch.
   *
   * @returns Whether their next turn may as well come a moment later.
   */
  get isWaiting(): boolean {
    return this.#streamers.isWaiting;
  }

  /**
   * A turn for the engines: they carry out the commands that were submitted.
   *
   * @param budget Commands of each engine at most; a blit costs by its size.
   *
   * @example Nothing was submitted
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice } from "../../mod.ts";
   *
   * using device = createDevice();
   * assertEquals(device.vgpu.isRunnable, false);
   * device.vgpu.runEngines(1000);
   * assertEquals(device.vgpu.streamerCounters.csCommands, 0);
   * ```
   */
  runEngines(budget: number): void {
    if (this.isRunnable) this.#streamers.run(budget);
  }

  /** The engines drop everything that was submitted, as if they hung: after a bug of this program's own. */
  abandonEngines(): void {
    this.#streamers.forgetAll();
  }

  /**
   * Resets the device (`guest.md` §1.3): configuration space, registers and the engine (`intel_vgpu_reset_gtt`,
   * `engine.md` §12). The interrupt line is lowered; guest RAM stays.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, REGION_CONFIG } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { vgpu } = device;
   * vgpu.gtt.createMm(3, null);
   * vgpu.write(REGION_CONFIG, 0x04, 2, 0x7, 0); // command
   * vgpu.reset();
   * assertEquals([vgpu.gtt.mm(0), vgpu.pci.readByte(0x04)], [undefined, 0]);
   * ```
   */
  reset(): void {
    this.counters.deviceResets++;
    this.events.add("reset", -1);
    this.pci.reset();
    this.bar0.reset();
    this.#engineRegisters.reset();
    this.#platform.reset();
    this.#streamers.forgetAll();
    this.gtt.resetGtt();
  }

  /** An engine's events go to its part of its bank, unless the engine masks them (`guest.md` §6.1, §6.2). */
  #raise({ base, bank, shift }: EngineInfo, events: number): void {
    const unmasked = (events << shift) & ~this.registers.get(base + RING.IMR);
    if (unmasked !== 0) this.interrupts.raise(ENGINE_BANKS[bank], unmasked);
  }

  /** Whether the guest has looked at PVINFO. One that has not, and acts as if it had the GPU, is given up. */
  #isAware(): boolean {
    if (this.bar0.pvinfo.wasRead) return true;
    this.bar0.enterFailsafe();
    return false;
  }
}

/** What engines tell, noted in a log. */
function streamerEvents(events: EventLog): StreamerEvents {
  return {
    began(engine, context, mm, isGoingOn) {
      events.noteTables();
      events.add("submit", engine, context, mm, isGoingOn ? 1 : 0);
    },
    completed(engine, context) {
      events.noteTables();
      events.add("complete", engine, context);
    },
    refused: (engine, context) => events.add("refuse", engine, context),
    faulted: (engine, gma, isGgtt) => events.add("fault", engine, gma, isGgtt ? 1 : 0),
    halted: (engine, dword, gma) => events.add("command", engine, dword, gma),
    reset: (engine) => events.add("reset", engine),
  };
}

/**
 * Whether some region has this access.
 *
 * @param region Region number.
 * @param offset Bytes, of any sign.
 * @param size Bytes; only 1, 2, 4 and 8 are accesses.
 * @returns Whether {@linkcode Vgpu.read} and {@linkcode Vgpu.write} take it.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { isAccess, REGION_CONFIG } from "./vgpu.ts";
 *
 * assertEquals([isAccess(REGION_CONFIG, 252, 4), isAccess(REGION_CONFIG, 253, 4)], [true, false]);
 * assertEquals([isAccess(REGION_CONFIG, 0, 3), isAccess(3, 0, 4)], [false, false]);
 * ```
 */
export function isAccess(region: number, offset: number, size: number): boolean {
  const isSize = size === 1 || size === 2 || size === 4 || size === 8;
  return isSize && offset >= 0 && offset + size <= (SIZE_OF_REGION[region] ?? 0);
}
