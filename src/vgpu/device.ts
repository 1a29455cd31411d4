/**
 * A device put together: guest RAM, one GPU with its engine's shared state, and one vGPU on it.
 *
 * @module
 */

import { GraphicsMemory, type GraphicsMemoryLayout } from "../gtt/address.ts";
import { GvtGtt, type GvtOptions } from "../gtt/gvt_gtt.ts";
import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
import type { GttHost } from "../gtt/host.ts";
import { PAGE_SIZE } from "../gtt/entry.ts";
import { OK } from "../gtt/errno.ts";
import { RamMap, type RamRegion, type RamRegionOptions } from "../memory/ram_map.ts";
import type { EventLog } from "./event_log.ts";
import { FaultInjection } from "./fault_injection.ts";
import type { StreamerWitness } from "../streamer/witness.ts";
import type { InterruptSink } from "./interrupts.ts";
import { Vgpu } from "./vgpu.ts";
import { type ProtectListener, VgpuHost } from "./vgpu_host.ts";
import { graphicsMemory, type VgpuConfig, vgpuConfig, type VgpuOptions } from "./vgpu_options.ts";

/** The longest store that one CPU instruction makes, bytes. */
const MAX_SINGLE_STORE = 16;

/** How a device is made. */
export interface DeviceOptions extends VgpuOptions, GvtOptions {
  /** Guest RAM; it may be filled before or after. The device disposes of it. */
  readonly ram: RamMap;
  /** Told when trapping of a frame's stores should start or stop. */
  readonly onProtect?: ProtectListener;
  /** Where the vGPU's interrupts go. Default: nowhere. */
  readonly interrupts?: InterruptSink;
  /** The time, milliseconds, never going back. Default `performance.now`. */
  readonly clock?: () => number;
  /** Checks page tables and translations while engines use them. Default: nobody. */
  readonly witness?: ((gtt: VgpuGtt) => StreamerWitness) | undefined;
  /** Where is noted what happens. Default: a log of its own. */
  readonly events?: EventLog;
  /** Whether faults can be injected. Default false. */
  readonly faults?: boolean;
  /** Another layout of graphics memory than that of the options. */
  readonly layout?: GraphicsMemoryLayout;
}

/**
 * A GPU with one vGPU and its guest's RAM.
 *
 * @example A guest in a few lines: RAM, a page table, a workload
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { Device, OK, RamMap } from "../../mod.ts";
 *
 * using device = new Device({ ram: new RamMap() });
 * assertEquals(device.init(), OK);
 * device.mapRam({ gpa: 0, size: 0x10000 });
 * device.store(0x1000, Uint8Array.of(3, 0x20, 0, 0, 0, 0, 0, 0)); // PDE 0 leads to the PTE table in frame 2
 * device.store(0x2000, Uint8Array.of(3, 0x50, 0, 0, 0, 0, 0, 0)); // PTE 0 maps frame 5
 * const { gtt } = device.vgpu;
 * let gpa = 0;
 * gtt.submit(3, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0), (mm) => gpa = gtt.gmaToGpa(mm, 0xabc, 0));
 * assertEquals(gpa, 0x5abc);
 * ```
 */
export class Device {
  /** Guest RAM. */
  readonly ram: RamMap;
  /** State that vGPUs of one GPU share. */
  readonly gvt: GvtGtt;
  /** The vGPU. */
  readonly vgpu: Vgpu;
  /** The host without faults. */
  readonly host: VgpuHost;
  /** Injected faults, if the device was made for them. */
  readonly faults: FaultInjection | null;
  /** Sizes and identity of the vGPU. */
  readonly config: VgpuConfig;

  /**
   * A device whose engine is not initialised.
   *
   * @param options Guest RAM, and what differs from the defaults.
   * @throws {RangeError} When an option is out of range.
   *
   * @example
   * ```ts
   * import { assertEquals, assertThrows } from "@std/assert";
   * import { Device, RamMap } from "../../mod.ts";
   *
   * using ram = new RamMap();
   * assertEquals(new Device({ ram }).vgpu.gtt.initialised, false);
   * assertThrows(() => new Device({ ram, fences: 33 }), RangeError, "fences must be 0..32");
   * ```
   */
  constructor(options: DeviceOptions) {
    const { ram, onProtect, interrupts, clock, witness, events, faults, layout, ...others } = options;
    const { platformSupported, tracking, oos, oosPoolPages, ...vgpu } = others;
    this.ram = ram;
    this.config = vgpuConfig(vgpu);
    const gm = layout === undefined ? graphicsMemory(this.config) : new GraphicsMemory(layout);
    this.host = new VgpuHost(ram, gm.layout.total, onProtect);
    this.faults = faults === true ? new FaultInjection(this.host) : null;
    const host: GttHost = this.faults ?? this.host;
    this.gvt = new GvtGtt(host, {
      hugePages: this.config.hugePages,
      ...(platformSupported === undefined ? {} : { platformSupported }),
      ...(tracking === undefined ? {} : { tracking }),
      ...(oos === undefined ? {} : { oos }),
      ...(oosPoolPages === undefined ? {} : { oosPoolPages }),
    });
    this.vgpu = new Vgpu({
      config: this.config,
      gm,
      gvt: this.gvt,
      host,
      ggtt: this.host.ggtt,
      ram,
      ...(interrupts === undefined ? {} : { interrupts }),
      ...(clock === undefined ? {} : { clock }),
      ...(witness === undefined ? {} : { witness }),
      ...(events === undefined ? {} : { events }),
    });
  }

  /**
   * Initialises the engine: the GPU, then the vGPU (`engine.md` §6.1, §6.2).
   *
   * @returns 0, or the first error of the two init functions.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { Device, EBUSY, OK, RamMap } from "../../mod.ts";
   *
   * using device = new Device({ ram: new RamMap() });
   * assertEquals([device.init(), device.init()], [OK, EBUSY]);
   * ```
   */
  init(): number {
    const rc = this.gvt.init();
    return rc === OK ? this.vgpu.gtt.init() : rc;
  }

  /**
   * Adds guest RAM; translations follow, and frames that are tracked are protected (again)
   * (`engine.md` §15, 30).
   *
   * @param options The region's place, and its file if it has one.
   * @returns The region.
   * @throws {RamError} As {@linkcode RamMap.map}; nothing has changed then.
   *
   * @example A GGTT entry that was there before its RAM
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, GTT_START_OFFSET } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { config: { apertureBase: gma }, gvt, host, vgpu: { gtt } } = device;
   * gtt.emulateGttMmioWrite(GTT_START_OFFSET + gma / 4096 * 8, 8, 0x5001, 0);
   * assertEquals(host.ggtt.target(gma), gvt.globalScratch);
   * device.mapRam({ gpa: 0, size: 0x10000 });
   * assertEquals(host.ggtt.target(gma), 0x100005);
   * ```
   */
  mapRam(options: RamRegionOptions): RamRegion {
    const region = this.ram.map(options);
    const first = region.gpa / PAGE_SIZE;
    const frames = region.size / PAGE_SIZE;
    for (const gfn of this.vgpu.gtt.trackedFrames(first, frames)) this.host.protect(gfn, true);
    this.vgpu.gtt.ramAdded(first, frames);
    this.vgpu.events.add("ram", region.gpa, region.size, 1);
    return region;
  }

  /**
   * Removes guest RAM; translations follow (`engine.md` §15, 30).
   *
   * @param gpa The region's guest physical address, bytes, exactly.
   * @param size The region's size, bytes, exactly.
   * @throws {RamError} As {@linkcode RamMap.unmap}; nothing has changed then.
   *
   * @example Page tables that are gone take their shadow with them
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, INVALID_ADDR, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.mapRam({ gpa: 0, size: 0x10000 });
   * const { gtt } = device.vgpu;
   * const mm = gtt.createMm(4, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0)) as PpgttMm;
   * device.unmapRam(0, 0x10000);
   * assertEquals([mm.alive, mm.shadowed, gtt.parts.tables.size], [true, false, 0]);
   * assertEquals(gtt.gmaToGpa(mm, 0, 0), INVALID_ADDR);
   * ```
   */
  unmapRam(gpa: number, size: number): void {
    const mfn = this.ram.mfnOf(gpa / PAGE_SIZE);
    this.ram.unmap(gpa, size);
    this.host.forgetProtection(gpa / PAGE_SIZE, size / PAGE_SIZE);
    this.vgpu.gtt.ramRemoved(gpa / PAGE_SIZE, mfn, size / PAGE_SIZE);
    this.vgpu.events.add("ram", gpa, size, 0);
  }

  /**
   * A guest store: RAM first, then whoever tracks the pages (`engine.md` §9.2).
   *
   * @param gpa First byte, any alignment.
   * @param bytes What is stored.
   * @returns The result of the page tracks as for {@linkcode stored}, or `null` if it is not writable RAM;
   *   then nothing changed, unless the host failed half way.
   *
   * @example The handler finds the new value in memory
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { host, vgpu: { gtt } } = device;
   * const entry = new Uint32Array(2);
   * gtt.enablePageTrack(gtt.initPageTrack(5, (_, gpa) => (host.readEntry(gpa, entry), EINVAL)));
   * assertEquals(device.store(0x5008, Uint8Array.of(7, 0, 0, 0)), EINVAL);
   * assertEquals(entry[0], 7);
   * assertEquals(device.store(0x99000, Uint8Array.of(7)), null);
   * ```
   */
  store(gpa: number, bytes: Uint8Array): number | null {
    if (!this.ram.write(gpa, bytes)) return null;
    return this.stored(gpa, bytes.length);
  }

  /**
   * A store already reached guest RAM: tells whoever tracks the pages (`engine.md` §9.2). Up to 16 bytes within
   * one page are one store, as one instruction makes it; anything else is a change of so many bytes.
   *
   * @param gpa First byte, any alignment.
   * @param length Bytes stored; 0 is no store.
   * @returns 0, or the first error of a track.
   *
   * @example A whole table page written at once
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, OK } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.mapRam({ gpa: 0, size: 0x10000 });
   * const { gtt } = device.vgpu;
   * const stores: number[] = [];
   * gtt.enablePageTrack(gtt.initPageTrack(5, (_, gpa, bytes) => (stores.push(gpa, bytes), OK)));
   * assertEquals(device.stored(0x5004, 4), OK);
   * assertEquals(stores.splice(0), [0x5004, 4]);
   * device.stored(0x4000, 0x1018); // frame 4 is not tracked
   * assertEquals(stores, [0x5000, 0x18]);
   * ```
   */
  stored(gpa: number, length: number): number {
    const { gtt } = this.vgpu;
    if (length === 0) return OK;
    const isSingle = length <= MAX_SINGLE_STORE && gpa % PAGE_SIZE + length <= PAGE_SIZE;
    return isSingle ? gtt.dispatchStore(gpa, length) : gtt.dispatchRange(gpa, length);
  }

  /** Gives guest RAM back. */
  [Symbol.dispose](): void {
    this.ram[Symbol.dispose]();
  }
}

/**
 * A device with RAM of its own, initialised: the shortest way to a vGPU in this process.
 *
 * @param options Options of the device; the RAM is made.
 * @returns The device; dispose of it to give its RAM back. On an unsupported platform its engine is not
 *   initialised.
 * @throws {RangeError} When an option is out of range.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice } from "../../mod.ts";
 *
 * using device = createDevice({ deviceId: 0x5912 });
 * device.ram.map({ gpa: 0, size: 0x10000 });
 * assertEquals(device.store(0x1000, new Uint8Array([1, 2, 3, 4])), 0);
 * assertEquals(device.vgpu.gtt.initialised, true);
 * ```
 */
export function createDevice(options: Omit<DeviceOptions, "ram"> = {}): Device {
  const device = new Device({ ...options, ram: new RamMap() });
  device.init();
  return device;
}
