/**
 * A guest in this process that has the blitter work: a driver's set-up, and one context whose ring is full of starts of
 * one batch.
 *
 * @module
 */

import {
  BANK_IER,
  BANK_IIR,
  BANK_IMR,
  createDevice,
  type Device,
  G2V,
  G2V_NOTIFY,
  GTT_START_OFFSET,
  INTERRUPT_BANKS,
  MASTER_IRQ,
  PVINFO_OFFSET,
  PVINFO_PDP,
} from "../../mod.ts";
import { MemoryBacking, type PageComparison } from "../../src/memory/memory_backing.ts";
import type { Recorder } from "../../src/recording/recorder.ts";
import { SilentVmm } from "../../src/replay/silent_vmm.ts";
import type { RegionAccess } from "../../src/server/region_access.ts";
import { ServedDevice } from "../../src/server/served_device.ts";
import { ENGINES, RING } from "../../src/streamer/engines.ts";
import { NOOP, start } from "../streamer/commands.ts";
import { IMAGE } from "../streamer/context.ts";
import { shuffled } from "./order.ts";

/** Bytes a page. */
export const PAGE = 4096;
const ENTRIES = 512;
const RAM_BYTES = 64 << 20;
/** Frames of the guest's memory. */
export const FRAMES = RAM_BYTES / PAGE;
/** Commands in a turn, as the server gives them. */
const TURN = 256;
/** Graphics memory of the vGPU's own: contexts, rings, status page. */
const OWN = 640 << 20;
/** PPGTT: the batch, and two surfaces of 1024 rows of 4096 bytes. */
const BATCH = 0x1000_0000;
export const FROM = 0x2000_0000;
export const TO = 0x3000_0000;
export const ROWS = 1024;
export const SURFACE_BYTES = ROWS * PAGE;
/** A step in the ring: the start of a batch, filled up to 16 bytes. */
const STEP = 16;
export const STEPS = PAGE / STEP;

const { base: BLITTER } = ENGINES.find(({ name }) => name === "bcs0")!;
/** The bank of the blitter's interrupts. */
const { isr: BANK } = INTERRUPT_BANKS.gt0;
const ALL = 0xffff_ffff;

/** The device that a guest works on, and the guest's memory. */
export interface Machine extends Disposable {
  /** The device. */
  readonly device: Device;
  /** Takes loads and stores. */
  readonly access: RegionAccess;
  /** The guest stores where page tables may be. */
  store(gpa: number, bytes: Uint8Array): void;
  /** The guest stores elsewhere. */
  poke(gpa: number, bytes: Uint8Array): void;
  /** The engines carry out what was submitted. */
  work(): void;
}

/** A device by itself, with RAM of its own. */
export function plainMachine(tracking: "trapped" | "untracked"): Machine {
  const device = createDevice({ tracking });
  device.mapRam({ gpa: 0, size: RAM_BYTES });
  const { vgpu, ram } = device;
  return {
    device,
    access: vgpu,
    store(gpa, bytes) {
      if (device.store(gpa, bytes) === null) throw new Error("the guest stores where it has no memory");
    },
    poke: (gpa, bytes) => void ram.write(gpa, bytes),
    work() {
      while (vgpu.isRunnable) vgpu.runEngines(TURN);
    },
    [Symbol.dispose]: () => device[Symbol.dispose](),
  };
}

/** A device as it is served, with memory that it shares with the guest, which writes it without a word. */
export function sharedMachine(recorder: Recorder | null, compare: PageComparison): Machine {
  const served = new ServedDevice({}, false, { recorder });
  served.attach(new SilentVmm("untracked"));
  const buffer = new ArrayBuffer(RAM_BYTES);
  const backing = new MemoryBacking("mapped", buffer, false, () => {}, compare);
  served.mapRam({ gpa: 0, size: RAM_BYTES, backing });
  const memory = new Uint8Array(buffer);
  const store = (gpa: number, bytes: Uint8Array) => memory.set(bytes, gpa);
  return {
    device: served.device,
    access: served.access,
    store,
    poke: store,
    work() {
      while (served.isRunnable) served.run();
    },
    [Symbol.dispose]: () => served.device[Symbol.dispose](),
  };
}

/** A guest with one context on the blitter, whose ring is full of starts of one batch. */
export class BlitterGuest {
  readonly device: Device;
  readonly #machine: Machine;
  readonly #port = BLITTER + RING.ELSP;
  readonly #frames: Iterator<number>;
  readonly #root: number;
  readonly #tables = new Map<string, number>();
  readonly #batch: number;
  readonly #image: number;
  readonly #tail = new Uint32Array(1);
  readonly #tailBytes = new Uint8Array(this.#tail.buffer);
  #nextOwn = OWN;
  #descriptor = 0;

  /** Everything that a driver does before its first submission. */
  constructor(machine: Machine, frames: Int32Array = shuffled(FRAMES)) {
    this.#machine = machine;
    this.device = machine.device;
    this.#frames = frames.values();
    this.#root = this.#frame();
    this.#batch = this.#frame();
    this.#map(BATCH, this.#batch);
    for (const surface of [FROM, TO]) {
      // The last row of a surface that begins within a page ends in another one.
      for (let at = 0; at <= SURFACE_BYTES; at += PAGE) this.#map(surface + at, this.#frame());
    }
    const { access: vgpu } = machine;
    vgpu.write(7, 0x04, 2, 0x0006, 0); // memory, bus master
    vgpu.write(7, 0x92, 2, 0x0001, 0); // MSI
    vgpu.read(0, PVINFO_OFFSET, 8, new Uint32Array(2));
    for (
      const [register, value] of [
        [BLITTER + RING.HWS_PGA, this.#own(this.#frame())],
        [BLITTER + RING.RING_MODE, 0x8000_8000],
        [BLITTER + RING.IMR, 0],
        [BANK + BANK_IMR, 0],
        [BANK + BANK_IER, ALL],
        [MASTER_IRQ, 0x8000_0000],
      ] as const
    ) {
      vgpu.write(0, register, 4, value, 0);
    }
    // The guest announces its page table: one that it did not is shadowed anew for each submission.
    vgpu.write(0, PVINFO_OFFSET + PVINFO_PDP, 8, this.#root * PAGE, 0);
    vgpu.write(0, PVINFO_OFFSET + G2V_NOTIFY, 4, G2V.level4Create, 0);
    this.#image = this.#makeContext();
  }

  /** Writes the batch. */
  setBatch(commands: readonly number[]): void {
    this.#store(this.#batch, ...commands);
  }

  /** Submits so many steps of the ring, has them run to their end and takes the interrupt. */
  run(steps: number): void {
    const { access: vgpu } = this.#machine;
    this.#tail[0] = (this.#tail[0]! + steps * STEP) % PAGE;
    this.#machine.poke(this.#image + 4 * IMAGE.tail, this.#tailBytes);
    vgpu.write(0, this.#port, 4, 0, 0);
    vgpu.write(0, this.#port, 4, 0, 0);
    vgpu.write(0, this.#port, 4, 1, 0);
    vgpu.write(0, this.#port, 4, this.#descriptor, 0);
    this.#machine.work();
    vgpu.write(0, BANK + BANK_IIR, 4, ALL, 0);
  }

  /** Throws unless everything ran that was asked for. */
  check(): void {
    const { csFaults, csSkippedBlits, csRefusedSubmissions, csBadReads, csBadWrites, submissionsBcs0 } =
      this.device.vgpu.streamerCounters;
    const wrong = csFaults + csSkippedBlits + csRefusedSubmissions + csBadReads + csBadWrites;
    if (wrong > 0 || submissionsBcs0 === 0 || this.device.vgpu.counters.msis < submissionsBcs0) {
      throw new Error(
        `the engine did not do what was asked: ${JSON.stringify(this.device.vgpu.streamerCounters)}`,
      );
    }
  }

  #makeContext(): number {
    const [status, image, ring] = [this.#frame(), this.#frame(), this.#frame()];
    const gma = this.#own(status);
    this.#own(image);
    const words = new Uint32Array(PAGE / 4);
    words[IMAGE.control] = 0x000f_0008;
    words[IMAGE.start] = this.#own(ring);
    words[IMAGE.ringControl] = 1;
    words[IMAGE.pdp0] = this.#root * PAGE;
    this.#store(image, ...words);
    for (let step = 0; step < STEPS; step++) this.#storeAt(ring * PAGE + step * STEP, ...start(BATCH), NOOP);
    this.#descriptor = gma + 0x119; // valid, 4 levels, privileged
    return image * PAGE;
  }

  #frame(): number {
    return this.#frames.next().value!;
  }

  /** Maps a frame in the GGTT. @returns Its graphics address. */
  #own(frame: number): number {
    const gma = this.#nextOwn;
    this.#nextOwn += PAGE;
    this.#machine.access.write(0, GTT_START_OFFSET + 8 * (gma / PAGE), 8, frame * PAGE + 1, 0);
    return gma;
  }

  /** Maps a frame in the PPGTT. */
  #map(gma: number, frame: number): void {
    let table = this.#root;
    let path = "";
    for (let level = 3; level > 0; level--) {
      const index = Math.floor(gma / PAGE / ENTRIES ** level) % ENTRIES;
      path += `/${index}`;
      let next = this.#tables.get(path);
      if (next === undefined) {
        this.#tables.set(path, next = this.#frame());
        this.#storeAt(table * PAGE + 8 * index, next * PAGE + 3, 0);
      }
      table = next;
    }
    this.#storeAt(table * PAGE + 8 * ((gma / PAGE) % ENTRIES), frame * PAGE + 3, 0);
  }

  #store(frame: number, ...dwords: readonly number[]): void {
    this.#storeAt(frame * PAGE, ...dwords);
  }

  #storeAt(gpa: number, ...dwords: readonly number[]): void {
    this.#machine.store(gpa, new Uint8Array(Uint32Array.from(dwords).buffer));
  }
}

/** A corner of a rectangle. */
function corner(x: number, y: number): number {
  return y * 2 ** 16 + x;
}

/** XY_SRC_COPY_BLT of 32-bit pixels between surfaces with rows of a page. */
export function copy(to: number, from: number, width: number): number[] {
  return [0x54f0_0008, 0x03cc_1000, 0, corner(width, ROWS), to, 0, 0, 0x1000, from, 0];
}

/** XY_FAST_COPY_BLT, the same. */
export function fastCopy(to: number, from: number, width: number): number[] {
  return [0x5080_0008, 0x0300_1000, 0, corner(width, ROWS), to, 0, 0, 0x1000, from, 0];
}

/** XY_COLOR_BLT, the same. */
export function fill(to: number, width: number): number[] {
  return [0x5430_0005, 0x03f0_1000, 0, corner(width, ROWS), to, 0, 0x1234_5678];
}
