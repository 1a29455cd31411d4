/**
 * A device put together: guest RAM, one GPU with its engine's shared state, and one vGPU on it.
 *
 * @module
 */

import { GraphicsMemory, type GraphicsMemoryLayout } from "../gtt/address.ts";
import { GvtGtt, type GvtOptions } from "../gtt/gvt_gtt.ts";
import type { GttHost } from "../gtt/host.ts";
import { PAGE_SIZE } from "../gtt/entry.ts";
import { OK } from "../gtt/errno.ts";
import { RamMap, type RamRegion, type RamRegionOptions } from "../memory/ram_map.ts";
import { FaultInjection } from "./fault_injection.ts";
import { Vgpu } from "./vgpu.ts";
import { type ProtectListener, VgpuHost } from "./vgpu_host.ts";
import { graphicsMemory, type VgpuConfig, vgpuConfig, type VgpuOptions } from "./vgpu_options.ts";

/** The longest store that one CPU instruction makes, bytes: longer ones are taken as a row of entries. */
const MAX_SINGLE_STORE = 16;
/** Bytes an entry. */
const ENTRY_BYTES = 8;

/** How a device is made. */
export interface DeviceOptions extends VgpuOptions, GvtOptions {
  /** Guest RAM; it may be filled before or after. The device disposes of it. */
  readonly ram: RamMap;
  /** Told when trapping of a frame's stores should start or stop. */
  readonly onProtect?: ProtectListener;
  /** Whether faults can be injected. Default false. */
  readonly faults?: boolean;
  /** Another layout of graphics memory than that of the options. */
  readonly layout?: GraphicsMemoryLayout;
}

/** A GPU with one vGPU and its guest's RAM. */
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
   * @throws {RangeError} When an option is out of range.
   */
  constructor(options: DeviceOptions) {
    const { ram, onProtect, faults, layout, platformSupported, oos, oosPoolPages, ...vgpu } = options;
    this.ram = ram;
    this.config = vgpuConfig(vgpu);
    const gm = layout === undefined ? graphicsMemory(this.config) : new GraphicsMemory(layout);
    this.host = new VgpuHost(ram, gm.layout.total, onProtect);
    this.faults = faults === true ? new FaultInjection(this.host) : null;
    const host: GttHost = this.faults ?? this.host;
    this.gvt = new GvtGtt(host, {
      ...(platformSupported === undefined ? {} : { platformSupported }),
      ...(oos === undefined ? {} : { oos }),
      ...(oosPoolPages === undefined ? {} : { oosPoolPages }),
    });
    this.vgpu = new Vgpu({ config: this.config, gm, gvt: this.gvt, host, ggtt: this.host.ggtt, ram });
  }

  /** Initialises the engine. @returns 0, or the first error of the two init functions. */
  init(): number {
    const rc = this.gvt.init();
    return rc === OK ? this.vgpu.gtt.init() : rc;
  }

  /**
   * Adds guest RAM; translations follow, and frames that are tracked are protected (again).
   *
   * @throws {RamError} As {@linkcode RamMap.map}; nothing has changed then.
   */
  mapRam(options: RamRegionOptions): RamRegion {
    const region = this.ram.map(options);
    const first = region.gpa / PAGE_SIZE;
    for (const [gfn, { enabled }] of this.vgpu.gtt.parts.tracks.frames) {
      const isInside = gfn >= first && gfn < first + region.size / PAGE_SIZE;
      if (enabled > 0 && isInside) this.host.protect(gfn, true);
    }
    this.vgpu.gtt.ramChanged();
    return region;
  }

  /**
   * Removes guest RAM; translations follow.
   *
   * @throws {RamError} As {@linkcode RamMap.unmap}; nothing has changed then.
   */
  unmapRam(gpa: number, size: number): void {
    this.ram.unmap(gpa, size);
    this.host.forgetProtection(gpa / PAGE_SIZE, size / PAGE_SIZE);
    this.vgpu.gtt.ramChanged();
  }

  /**
   * A guest store: RAM first, then whoever tracks the pages.
   *
   * @param gpa First byte.
   * @param bytes What is stored.
   * @returns The result of the page tracks as for {@linkcode stored}, or `null` if it is not writable RAM; then nothing changed.
   */
  store(gpa: number, bytes: Uint8Array): number | null {
    if (!this.ram.write(gpa, bytes)) return null;
    return this.stored(gpa, bytes.length);
  }

  /**
   * A store already reached guest RAM: tells whoever tracks the pages. Up to 16 bytes within one page are one store, as one
   * instruction makes it. Anything else is taken as a row of 8-byte stores, one to each entry touched, in ascending order.
   *
   * @param gpa First byte.
   * @param length Bytes stored.
   * @returns 0, or the first error of a track.
   */
  stored(gpa: number, length: number): number {
    const { gtt } = this.vgpu;
    if (gtt.parts.tracks.enabledTracks === 0) return OK;
    if (length <= MAX_SINGLE_STORE && gpa % PAGE_SIZE + length <= PAGE_SIZE) {
      return gtt.dispatchStore(gpa, length);
    }
    let result = OK;
    const end = gpa + length;
    for (let page = gpa - gpa % PAGE_SIZE; page < end; page += PAGE_SIZE) {
      if ((gtt.parts.tracks.at(page / PAGE_SIZE)?.enabled ?? 0) === 0) continue;
      const first = Math.max(page, gpa - gpa % ENTRY_BYTES);
      for (let entry = first; entry < Math.min(page + PAGE_SIZE, end); entry += ENTRY_BYTES) {
        const rc = gtt.dispatchStore(entry, ENTRY_BYTES);
        if (result === OK) result = rc;
      }
    }
    return result;
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
 * @returns The device; dispose of it to give its RAM back.
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
