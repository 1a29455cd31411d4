/**
 * The device that a server serves: what its method handlers share.
 *
 * @module
 */

import { RpcError } from "../../protocol/errors.ts";
import { INVALID_ADDR } from "../gtt/address.ts";
import { OK } from "../gtt/errno.ts";
import type { PpgttMm } from "../gtt/mm.ts";
import type { PageTrack } from "../gtt/page_track.ts";
import { RamMap } from "../memory/ram_map.ts";
import { TableWitness } from "../inspect/table_witness.ts";
import { TranslationWitness } from "../inspect/translation_witness.ts";
import { WitnessCounters } from "../inspect/witness_counters.ts";
import { Device, type DeviceOptions } from "../vgpu/device.ts";
import type { Background } from "./background.ts";
import type { Log } from "./rpc_session.ts";
import type { Vmm } from "./vmm.ts";

/** User tracks that one VMM may hold: they cost a little each, and handles are never given twice. */
export const MAX_USER_TRACKS = 65536;

/** Commands of each engine in a turn: a tenth of a millisecond or two for a virtual CPU that waits meanwhile. */
const ENGINE_TURN = 256;

/** Options of the device behind a server. */
export interface ServedDeviceOptions
  extends Omit<DeviceOptions, "ram" | "onProtect" | "interrupts" | "witness" | "faults" | "tracking"> {
  /** Whether page tables are compared with the guest's before each workload. Default false. */
  readonly verify?: boolean;
}

/** A device, the VMM attached to it, and that VMM's page tracks. */
export class ServedDevice implements Background {
  /** What a user track's handler returns: 0 unless a test wants otherwise. */
  userTrackResult = OK;
  /** The VMM's page tracks by handle. */
  readonly userTracks = new Map<number, PageTrack>();
  /** What the witness has seen of this VMM's guest. */
  witnessed: WitnessCounters = new WitnessCounters();
  readonly #options: ServedDeviceOptions;
  readonly #debug: boolean;
  readonly #log: Log;
  #device: Device;
  #vmm: Vmm | null = null;
  #nextTrack = 0;

  /**
   * @param options Options of the device; it is initialised at once.
   * @param debug Whether faults may be injected.
   * @param log Told of what the witness finds.
   * @throws {RangeError} When an option is out of range.
   */
  constructor(options: ServedDeviceOptions, debug: boolean, log: Log = () => {}) {
    this.#options = options;
    this.#debug = debug;
    this.#log = log;
    this.#device = this.#make(options);
    this.#device.init();
  }

  /** The attached VMM, if there is one. */
  get vmm(): Vmm | null {
    return this.#vmm;
  }

  /** The device. */
  get device(): Device {
    return this.#device;
  }

  /** Replaces the device by another one that is not initialised. @throws {RangeError} As `Device`. */
  replace(options: ServedDeviceOptions): Device {
    const device = this.#make(options);
    this.#device[Symbol.dispose]();
    this.#forgetVmm();
    return this.#device = device;
  }

  /**
   * A VMM wants to drive the device.
   *
   * @returns Whether it may: there is one VMM at a time.
   */
  attach(vmm: Vmm): boolean {
    if (this.#vmm !== null) return false;
    this.#vmm = vmm;
    if (vmm.tracking !== "trapped") this.replace(this.#options).init();
    return true;
  }

  /** A VMM is gone: whatever its guest left behind goes too, and the next one finds a fresh device. */
  detach(vmm: Vmm): void {
    if (this.#vmm !== vmm) return;
    this.#vmm = null;
    this.replace(this.#options).init();
  }

  /** Whether the engines have something to do, and their VMM is there to hear of it. */
  get isRunnable(): boolean {
    return this.#device.vgpu.isRunnable && this.#vmm?.isBehind !== true;
  }

  /** Whether all they would do is wait. */
  get isWaiting(): boolean {
    return this.#device.vgpu.isWaiting;
  }

  /** A turn for the engines. */
  run(): void {
    this.#device.vgpu.runEngines(ENGINE_TURN);
  }

  /** The engines drop what they have. */
  abandon(): void {
    this.#device.vgpu.abandonEngines();
  }

  /** The address space with this handle. @throws {RpcError} ENOENT if there is none (any more). */
  mm(id: number): PpgttMm {
    const mm = this.#device.vgpu.gtt.mm(id);
    if (mm === undefined) throw new RpcError("ENOENT", `no mm ${id}: it was destroyed, or never created`);
    return mm;
  }

  /**
   * The user track with this handle. It is gone when it was cleaned, by the VMM, in failsafe mode or by initialising anew.
   *
   * @throws {RpcError} ENOENT if there is none (any more).
   */
  track(id: number): PageTrack {
    const track = this.userTracks.get(id);
    if (track?.registered === true) return track;
    this.userTracks.delete(id);
    throw new RpcError("ENOENT", `no page track ${id}: it was cleaned, or never made`);
  }

  /** Makes a page track for the VMM: each store to the frame is told it as `tracked_write`. @returns Its handle. */
  addTrack(gfn: number): number {
    if (this.userTracks.size >= MAX_USER_TRACKS) this.#dropDeadTracks();
    if (this.userTracks.size >= MAX_USER_TRACKS) {
      throw new RpcError("ENOMEM", `there are ${MAX_USER_TRACKS} page tracks already: clean some first`);
    }
    const id = this.#nextTrack++;
    const track = this.#device.vgpu.gtt.initPageTrack(gfn, (_track, gpa, bytes) => {
      this.#vmm?.trackedWrite(id, gfn, gpa, bytes);
      return this.userTrackResult;
    });
    this.userTracks.set(id, track);
    return id;
  }

  /** Translates an address of an address space or of the GGTT. @returns Guest physical address, or -1. */
  translate(space: number | "ggtt", lo: number, hi: number): number {
    const { gtt } = this.#device.vgpu;
    if (space !== "ggtt") return gtt.gmaToGpa(this.mm(space), lo, hi);
    return hi === 0 ? gtt.ggttGmaToGpa(lo) : INVALID_ADDR;
  }

  /** Forgets tracks that failsafe mode or initialising anew ended. */
  #dropDeadTracks(): void {
    for (const [id, track] of this.userTracks) {
      if (!track.registered) this.userTracks.delete(id);
    }
  }

  #forgetVmm(): void {
    this.userTracks.clear();
    this.userTrackResult = OK;
  }

  #make({ verify = false, ...options }: ServedDeviceOptions): Device {
    this.witnessed = new WitnessCounters();
    const ram = new RamMap();
    const tracking = this.#vmm?.tracking ?? "trapped";
    const Witness = tracking === "trapped" ? TableWitness : TranslationWitness;
    return new Device({
      ...options,
      ram,
      tracking,
      faults: this.#debug,
      onProtect: (gfn, on) => this.#vmm?.protect(gfn, on),
      interrupts: { msi: () => this.#vmm?.msi(), intx: (asserted) => this.#vmm?.intx(asserted) },
      witness: verify
        ? (gtt) => new Witness(gtt, ram, this.witnessed, (text) => this.#mismatch(text))
        : undefined,
    });
  }

  #mismatch(text: string): void {
    this.#log("error", "a shadow table is not what the guest's says", {
      session: this.#vmm?.id ?? 0,
      what: text,
    });
  }
}
