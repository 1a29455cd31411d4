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
import { RamError, RamMap, type RamRegion, type RamRegionOptions } from "../memory/ram_map.ts";
import type { Recorder } from "../recording/recorder.ts";
import { TableWitness } from "../inspect/table_witness.ts";
import { TranslationWitness } from "../inspect/translation_witness.ts";
import { WitnessCounters } from "../inspect/witness_counters.ts";
import { Device, type DeviceOptions } from "../vgpu/device.ts";
import { EventLog } from "../vgpu/event_log.ts";
import type { Background } from "./background.ts";
import { RecordedAccess, type RegionAccess } from "./region_access.ts";
import type { Log } from "./rpc_session.ts";
import type { Vmm } from "./vmm.ts";

/** User tracks that one VMM may hold: they cost a little each, and handles are never given twice. */
export const MAX_USER_TRACKS = 65536;

/** Commands of each engine in a turn: a tenth of a millisecond or two for a virtual CPU that waits meanwhile. */
const ENGINE_TURN = 256;

/** Options of the device behind a server. */
export interface ServedDeviceOptions
  extends
    Omit<DeviceOptions, "ram" | "onProtect" | "interrupts" | "witness" | "events" | "faults" | "tracking"> {
  /** Whether page tables are compared with the guest's before each workload. Default false. */
  readonly verify?: boolean;
}

/** What a device learns from outside that is no message: the time, and the content of its guest's memory. */
export interface DeviceInputs {
  /** RAM for a device that is made: a map without regions. */
  ram(): RamMap;
  /** The time, milliseconds, never going back. */
  now(): number;
}

/** Who may be at the other end of a device's inputs. */
export interface ServedDeviceParts {
  /** Told of what the witness finds. */
  readonly log?: Log;
  /** Records what comes in. Default: nobody. */
  readonly recorder?: Recorder | null;
  /** What the device learns from outside. Default: what the recorder lets it know, or else the options' clock. */
  readonly inputs?: DeviceInputs;
}

/** A device, the VMM attached to it, and that VMM's page tracks. */
export class ServedDevice implements Background {
  /** What a user track's handler returns: 0 unless a test wants otherwise. */
  userTrackResult = OK;
  /** The VMM's page tracks by handle. */
  readonly userTracks = new Map<number, PageTrack>();
  /** What happened lately, whoever was attached. */
  readonly events: EventLog = new EventLog();
  /** What the witness has seen of this VMM's guest. */
  witnessed: WitnessCounters = new WitnessCounters();
  readonly #options: ServedDeviceOptions;
  readonly #debug: boolean;
  readonly #log: Log;
  readonly #recorder: Recorder | null;
  readonly #recordedAccess: RecordedAccess | null;
  readonly #inputs: DeviceInputs;
  #device: Device;
  #vmm: Vmm | null = null;
  #nextTrack = 0;

  /**
   * @param options Options of the device; it is initialised at once.
   * @param debug Whether faults may be injected.
   * @param parts Log, recorder, inputs.
   * @throws {RangeError} When an option is out of range.
   */
  constructor(options: ServedDeviceOptions, debug: boolean, parts: ServedDeviceParts = {}) {
    const { log = () => {}, recorder = null } = parts;
    const { clock = () => performance.now() } = options;
    this.#options = options;
    this.#debug = debug;
    this.#log = log;
    this.#recorder = recorder;
    this.#inputs = parts.inputs ?? recorder ?? { ram: () => new RamMap(), now: clock };
    this.#device = this.#make(options);
    this.#recordedAccess = recorder === null ? null : new RecordedAccess(recorder, this.#device.vgpu);
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

  /** Through which a VMM passes on what its guest loads and stores. */
  get access(): RegionAccess {
    return this.#recordedAccess ?? this.#device.vgpu;
  }

  /** Who records what comes in, or `null`. */
  get recorder(): Recorder | null {
    return this.#recorder;
  }

  /** Events recorded so far; 0: nothing is recorded. */
  get recordedEvents(): number {
    return this.#recorder?.events ?? 0;
  }

  /** Replaces the device by another one that is not initialised. @throws {RangeError} As `Device`. */
  replace(options: ServedDeviceOptions): Device {
    const device = this.#make(options);
    this.#device[Symbol.dispose]();
    this.#forgetVmm();
    if (this.#recordedAccess !== null) this.#recordedAccess.vgpu = device.vgpu;
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
    this.events.add("attach", vmm.id, vmm.tracking === "trapped" ? 0 : 1);
    if (vmm.tracking !== "trapped") this.replace(this.#options).init();
    this.#recorder?.attach(vmm.tracking);
    return true;
  }

  /** A VMM is gone: whatever its guest left behind goes too, and the next one finds a fresh device. */
  detach(vmm: Vmm): void {
    if (this.#vmm !== vmm) return;
    this.#recorder?.digest(this.#device);
    this.#vmm = null;
    this.events.add("detach", vmm.id);
    this.replace(this.#options).init();
    this.#recorder?.detach();
  }

  /** Adds guest RAM: see {@linkcode Device.mapRam}. */
  mapRam(options: RamRegionOptions): RamRegion {
    const added = () => this.#device.ram.regions.find(({ gpa }) => gpa === options.gpa);
    return this.#record((recorder, region = added()) => {
      if (region !== undefined) recorder.map(region);
    }, () => this.#device.mapRam(options));
  }

  /** Removes guest RAM: see {@linkcode Device.unmapRam}. */
  unmapRam(gpa: number, size: number): void {
    this.#record((recorder) => recorder.unmap(gpa, size), () => this.#device.unmapRam(gpa, size));
  }

  /** Resets the vGPU: see {@linkcode Vgpu.reset}. */
  reset(): void {
    this.#record((recorder) => recorder.reset(), () => this.#device.vgpu.reset());
  }

  /** The VMM may have missed an interrupt: sends it again if it is due. */
  resendInterrupts(): void {
    this.#record((recorder) => recorder.resend(), () => this.#device.vgpu.interrupts.resend());
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
    const { vgpu } = this.#device;
    const recorder = this.#recorder;
    if (recorder === null) return vgpu.runEngines(ENGINE_TURN);
    recorder.begin();
    try {
      vgpu.runEngines(ENGINE_TURN);
    } catch (error) {
      recorder.bug(error);
      throw error;
    } finally {
      recorder.end();
      recorder.turn();
    }
  }

  /** The engines drop what they have. */
  abandon(): void {
    this.#record((recorder) => recorder.abandon(), () => this.#device.vgpu.abandonEngines());
  }

  /** See {@linkcode Background.idle}. */
  idle(): number {
    return this.#recorder === null ? Infinity : this.#recorder.idle(this.#device);
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

  /** Does something of which an event is recorded; something refused, with a `RamError`, was none. */
  #record<T>(event: (recorder: Recorder, result?: T) => void, run: () => T): T {
    const recorder = this.#recorder;
    if (recorder === null) return run();
    recorder.begin();
    try {
      const result = run();
      event(recorder, result);
      return result;
    } catch (error) {
      if (!(error instanceof RamError)) {
        recorder.bug(error);
        event(recorder);
      }
      throw error;
    } finally {
      recorder.end();
    }
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
    const ram = this.#inputs.ram();
    const tracking = this.#vmm?.tracking ?? "trapped";
    const Witness = tracking === "trapped" ? TableWitness : TranslationWitness;
    return new Device({
      ...options,
      ram,
      tracking,
      clock: () => this.#inputs.now(),
      faults: this.#debug,
      events: this.events,
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
