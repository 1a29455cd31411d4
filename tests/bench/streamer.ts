/**
 * The command streamers and the blitter: a guest in this process submits over and over, and the engines have their turns
 * as a server's loop would give them when no message waits.
 *
 * The guest's frames are in no order, as those of a guest that has run for long, so nothing gains from neighbours; where
 * they are in order the row says so.
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
import { ENGINES, RING } from "../../src/streamer/engines.ts";
import { END, NOOP, start } from "../streamer/commands.ts";
import { IMAGE } from "../streamer/context.ts";
import { shuffled } from "./order.ts";
import { nanoseconds, report, reportOnly } from "./sample.ts";

const PAGE = 4096;
const ENTRIES = 512;
const RAM_BYTES = 64 << 20;
const FRAMES = RAM_BYTES / PAGE;
/** Commands in a turn, as the server gives them. */
const TURN = 256;
/** Graphics memory of the vGPU's own: contexts, rings, status page. */
const OWN = 640 << 20;
/** PPGTT: the batch, and two surfaces of 1024 rows of 4096 bytes. */
const BATCH = 0x1000_0000;
const FROM = 0x2000_0000;
const TO = 0x3000_0000;
const ROWS = 1024;
const SURFACE_BYTES = ROWS * PAGE;
/** A step in the ring: the start of a batch, filled up to 16 bytes. */
const STEP = 16;
const STEPS = PAGE / STEP;

const { base: BLITTER } = ENGINES.find(({ name }) => name === "bcs0")!;
/** The bank of the blitter's interrupts. */
const { isr: BANK } = INTERRUPT_BANKS.gt0;
const ALL = 0xffff_ffff;

/** A guest with one context on the blitter, whose ring is full of starts of one batch. */
class BlitterGuest {
  readonly device: Device;
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
  constructor(tracking: "trapped" | "untracked", frames: Int32Array = shuffled(FRAMES)) {
    this.device = createDevice({ tracking });
    this.device.mapRam({ gpa: 0, size: RAM_BYTES });
    this.#frames = frames.values();
    this.#root = this.#frame();
    this.#batch = this.#frame();
    this.#map(BATCH, this.#batch);
    for (const surface of [FROM, TO]) {
      // The last row of a surface that begins within a page ends in another one.
      for (let at = 0; at <= SURFACE_BYTES; at += PAGE) this.#map(surface + at, this.#frame());
    }
    const { vgpu } = this.device;
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
    const { vgpu, ram } = this.device;
    this.#tail[0] = (this.#tail[0]! + steps * STEP) % PAGE;
    ram.write(this.#image + 4 * IMAGE.tail, this.#tailBytes);
    vgpu.write(0, this.#port, 4, 0, 0);
    vgpu.write(0, this.#port, 4, 0, 0);
    vgpu.write(0, this.#port, 4, 1, 0);
    vgpu.write(0, this.#port, 4, this.#descriptor, 0);
    while (vgpu.isRunnable) vgpu.runEngines(TURN);
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
    this.device.vgpu.write(0, GTT_START_OFFSET + 8 * (gma / PAGE), 8, frame * PAGE + 1, 0);
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
    if (this.device.store(gpa, new Uint8Array(Uint32Array.from(dwords).buffer)) === null) {
      throw new Error("the guest stores where it has no memory");
    }
  }
}

/** A corner of a rectangle. */
function corner(x: number, y: number): number {
  return y * 2 ** 16 + x;
}

/** XY_SRC_COPY_BLT of 32-bit pixels between surfaces with rows of a page. */
function copy(to: number, from: number, width: number): number[] {
  return [0x54f0_0008, 0x03cc_1000, 0, corner(width, ROWS), to, 0, 0, 0x1000, from, 0];
}

/** XY_FAST_COPY_BLT, the same. */
function fastCopy(to: number, from: number, width: number): number[] {
  return [0x5080_0008, 0x0300_1000, 0, corner(width, ROWS), to, 0, 0, 0x1000, from, 0];
}

/** XY_COLOR_BLT, the same. */
function fill(to: number, width: number): number[] {
  return [0x5430_0005, 0x03f0_1000, 0, corner(width, ROWS), to, 0, 0x1234_5678];
}

/** What memcpy makes of as many bytes as a surface has, MB/s. */
function memcpyRate(): number {
  const [from, to] = [new Uint8Array(SURFACE_BYTES).fill(1), new Uint8Array(SURFACE_BYTES).fill(2)];
  return 1e3 / nanoseconds(BLITS * SURFACE_BYTES, () => {
    for (let i = 0; i < BLITS; i++) to.set(from);
  });
}

/** Empty batches a second. */
function batchRows(tracking: "trapped" | "untracked"): void {
  const guest = new BlitterGuest(tracking);
  guest.setBatch([END]);
  for (
    const [name, submissions, steps] of [
      ["empty batches, each submitted by itself", 1000, 1],
      ["empty batches, 255 in a submission", 10, STEPS - 1],
    ] as const
  ) {
    const each = nanoseconds(submissions * steps, () => {
      for (let i = 0; i < submissions; i++) guest.run(steps);
    });
    reportOnly(`${name}, ${tracking}`, "/s", 1e9 / each);
  }
  guest.check();
  guest.device[Symbol.dispose]();
}

/** Bytes a second by the blitter, beside memcpy. */
function blitRows(): void {
  const guest = new BlitterGuest("trapped");
  const rate = (command: readonly number[], bytes: number) => {
    guest.setBatch([...command, END]);
    return 1e3 / nanoseconds(BLITS * bytes, () => {
      for (let i = 0; i < BLITS; i++) guest.run(1);
    });
  };
  const [wide, short] = [PAGE / 4, SHORT_ROW / 4];
  for (
    const [name, command] of [
      ["XY_SRC_COPY_BLT, 1024 × 1024 pixels of 32 bits", copy(TO, FROM, wide)],
      ["XY_FAST_COPY_BLT, the same", fastCopy(TO, FROM, wide)],
      ["XY_COLOR_BLT, the same", fill(TO, wide)],
    ] as const
  ) {
    report({
      name,
      unit: "MB/s",
      ours: rate(command, SURFACE_BYTES),
      reference: memcpyRate(),
      against: "memcpy",
      target: 4,
      isRate: true,
    });
  }
  const further = rate(copy(TO + 100, FROM, wide), SURFACE_BYTES);
  reportOnly("XY_SRC_COPY_BLT, 4 MiB to 100 bytes further in their pages", "MB/s", further);
  reportOnly("XY_SRC_COPY_BLT, rows of 64 bytes", "MB/s", rate(copy(TO, FROM, short), SHORT_ROW * ROWS));
  reportOnly("XY_COLOR_BLT, rows of 64 bytes", "MB/s", rate(fill(TO, short), SHORT_ROW * ROWS));
  guest.check();
  guest.device[Symbol.dispose]();
}

/** The same copy where a surface's frames follow one another. */
function orderedRow(): void {
  const guest = new BlitterGuest("trapped", Int32Array.from({ length: FRAMES - 1 }, (_, index) => index + 1));
  guest.setBatch([...copy(TO, FROM, PAGE / 4), END]);
  const each = nanoseconds(BLITS * SURFACE_BYTES, () => {
    for (let i = 0; i < BLITS; i++) guest.run(1);
  });
  reportOnly("XY_SRC_COPY_BLT, 4 MiB, frames in order", "MB/s", 1e3 / each);
  guest.check();
  guest.device[Symbol.dispose]();
}

/** Bytes of a short row: a character's, or a cursor's. */
const SHORT_ROW = 64;
/** Blits that are timed as one. */
const BLITS = 8;

batchRows("trapped");
batchRows("untracked");
blitRows();
orderedRow();
