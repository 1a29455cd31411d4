/**
 * Region 0 of a vGPU, 16 MiB: registers from 0, with the PVINFO page among them, and the GTT window from 8
 * MiB. This file decodes addresses; what a register does is in the table of registers and in its block.
 *
 * A guest's wrong access does what the hardware would do: a read gives all ones, a write is dropped, and it
 * is counted.
 *
 * @module
 */

import { frameOf, PAGE_SIZE } from "../gtt/entry.ts";
import { OK } from "../gtt/errno.ts";
import { GTT_START_OFFSET } from "../gtt/ggtt.ts";
import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
import type { EventLog } from "./event_log.ts";
import { G2V, G2V_NOTIFY, Pvinfo, PVINFO_OFFSET, PVINFO_SIZE } from "./pvinfo.ts";
import type { Interrupts } from "./interrupts.ts";
import type { RegisterFile } from "./register_file.ts";
import { REGISTERS_SIZE } from "./register_table.ts";
import type { VgpuCounters } from "./vgpu_counters.ts";
import type { VgpuConfig } from "./vgpu_options.ts";

/**
 * Sizes of accesses that the exceptions take: everything else takes 1, 2, 4 and 8 bytes. Sizes are powers of
 * two, so a set of them is their sum. Whatever the size, an access is aligned to it.
 */
const SIZES = {
  gttWindow: 4 | 8,
  pvinfoWrites: 4 | 8,
} as const;

/** What region 0 is built from. */
export interface Bar0Parts {
  /** What the PVINFO page tells the guest. */
  readonly config: VgpuConfig;
  /** The engine behind the GTT window and the notifications. */
  readonly gtt: VgpuGtt;
  /** The registers. */
  readonly registers: RegisterFile;
  /** Silenced in failsafe mode. */
  readonly interrupts: Interrupts;
  /** Counts the guest's mistakes. */
  readonly counters: VgpuCounters;
  /** Told when failsafe mode begins. */
  onFailsafe(): void;
  /** What happens is noted there. */
  readonly events: EventLog;
}

/**
 * Region 0 of one vGPU.
 *
 * @example A register keeps what is written, a GTT entry reaches the engine
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, GTT_START_OFFSET } from "../../mod.ts";
 *
 * using device = createDevice();
 * const { config: { apertureBase: gma }, vgpu: { bar0, gtt } } = device;
 * const out = new Uint32Array(2);
 * bar0.write(0x2030, 4, 0xabc, 0);
 * bar0.read(0x2030, 4, out);
 * assertEquals(out[0], 0xabc);
 * bar0.write(GTT_START_OFFSET + gma / 4096 * 8, 4, 0x5001, 0);
 * assertEquals(gtt.ggttGmaToGpa(gma), 0x5000);
 * ```
 */
export class Bar0 {
  readonly #gtt: VgpuGtt;
  readonly #registers: RegisterFile;
  readonly #interrupts: Interrupts;
  readonly #counters: VgpuCounters;
  readonly #onFailsafe: () => void;
  readonly #events: EventLog;
  /** The PVINFO page. */
  readonly pvinfo: Pvinfo;

  /**
   * Region 0 in its reset state.
   *
   * @param parts What it is built from.
   */
  constructor({ config, gtt, registers, interrupts, counters, onFailsafe, events }: Bar0Parts) {
    this.#gtt = gtt;
    this.#registers = registers;
    this.#interrupts = interrupts;
    this.#counters = counters;
    this.#onFailsafe = onFailsafe;
    this.#events = events;
    this.pvinfo = new Pvinfo(config);
  }

  /**
   * Puts every register back to its reset value, lowers the interrupt line and leaves failsafe mode. The engine
   * is not reset.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { bar0, gtt } = device.vgpu;
   * bar0.write(0x2030, 4, 0xabc, 0);
   * bar0.enterFailsafe();
   * bar0.reset();
   * const out = new Uint32Array(2);
   * bar0.read(0x2030, 4, out);
   * assertEquals([out[0], gtt.failsafe], [0, false]);
   * ```
   */
  reset(): void {
    this.#gtt.failsafe = false;
    this.pvinfo.reset();
    this.#registers.reset();
    this.#interrupts.reset();
  }

  /**
   * The guest reads (`engine.md` §7.3, `guest.md` §1.2). Where nothing answers it reads 0, a wrong access
   * reads all ones.
   *
   * @param offset 0 to the region's size minus `size`.
   * @param size 1, 2, 4 or 8.
   * @param out Receives the value as two lanes.
   *
   * @example A GTT entry has no 2-byte halves
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, GTT_START_OFFSET } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { bar0, counters } = device.vgpu;
   * const out = new Uint32Array(2);
   * bar0.read(GTT_START_OFFSET, 2, out);
   * assertEquals([out[0], counters.badAccesses], [0xffff, 1]);
   * bar0.read(0x400000, 4, out); // between the registers and the GTT window
   * assertEquals([out[0], counters.badAccesses], [0, 1]);
   * ```
   */
  read(offset: number, size: number, out: Uint32Array): void {
    out[0] = out[1] = 0;
    if (offset >= GTT_START_OFFSET) {
      this.#readGtt(offset, size, out);
    } else if ((offset & (size - 1)) !== 0) {
      this.#readsOnes(size, out);
    } else if (isPvinfo(offset)) {
      this.#readPvinfo(offset - PVINFO_OFFSET, size, out);
    } else if (offset < REGISTERS_SIZE) {
      if (this.#gtt.failsafe) this.#registers.readStored(offset, size, out);
      else this.#registers.read(offset, size, out);
    }
  }

  /**
   * The guest writes (`engine.md` §7.3, §8.6, `guest.md` §2). A wrong access is dropped and counted.
   *
   * @param offset 0 to the region's size minus `size`.
   * @param size 1, 2, 4 or 8.
   * @param lo Low lane of the value.
   * @param hi High lane of the value, for size 8.
   *
   * @example The guest announces a 4-level page table
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, G2V, G2V_NOTIFY, PVINFO_OFFSET, PVINFO_PDP } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { bar0, gtt } = device.vgpu;
   * bar0.write(PVINFO_OFFSET + PVINFO_PDP, 8, 0x1000, 0);
   * bar0.write(PVINFO_OFFSET + G2V_NOTIFY, 4, G2V.level4Create, 0);
   * assertEquals([gtt.mm(0)?.level, gtt.mm(0)?.roots[0]], [4, 0x1000]);
   * ```
   */
  write(offset: number, size: number, lo: number, hi: number): void {
    if (offset >= GTT_START_OFFSET) {
      this.#writeGtt(offset, size, lo, hi);
    } else if ((offset & (size - 1)) !== 0) {
      this.#counters.badAccesses++;
    } else if (isPvinfo(offset)) {
      this.#writePvinfo(offset - PVINFO_OFFSET, size, lo, hi);
    } else if (offset < REGISTERS_SIZE) {
      this.#writeRegister(offset, size, lo, hi);
    }
  }

  /**
   * Gives up on the guest: no emulation and no interrupt any more, region 0 is plain storage until the next
   * reset (`engine.md` §15, 23).
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, G2V, G2V_NOTIFY, PVINFO_OFFSET } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { bar0, counters, gtt } = device.vgpu;
   * bar0.write(PVINFO_OFFSET + 0x808, 4, 1, 0); // the guest is out of resources
   * assertEquals([gtt.failsafe, counters.failsafes], [true, 1]);
   * bar0.write(PVINFO_OFFSET + G2V_NOTIFY, 4, G2V.level4Create, 0);
   * assertEquals(gtt.mm(0), undefined);
   * ```
   */
  enterFailsafe(): void {
    if (this.#gtt.failsafe) return;
    this.#gtt.failsafe = true;
    this.#interrupts.silence();
    this.#onFailsafe();
    this.#counters.failsafes++;
    this.#events.add("failsafe");
  }

  #readsOnes(size: number, out: Uint32Array): void {
    this.#counters.badAccesses++;
    out[0] = size >= 4 ? 0xffffffff : 2 ** (8 * size) - 1;
    out[1] = size === 8 ? 0xffffffff : 0;
  }

  #readGtt(offset: number, size: number, out: Uint32Array): void {
    if (isGttAccess(offset, size) && this.#gtt.emulateGttMmioRead(offset, size, out) === OK) return;
    this.#readsOnes(size, out);
  }

  #writeGtt(offset: number, size: number, lo: number, hi: number): void {
    if (!isGttAccess(offset, size)) this.#counters.badAccesses++;
    else if (this.#gtt.failsafe) this.#gtt.parts.ggtt.keep(offset, size, lo, hi);
    else if (this.#gtt.emulateGttMmioWrite(offset, size, lo, hi) !== OK) this.#counters.badAccesses++;
  }

  #readPvinfo(offset: number, size: number, out: Uint32Array): void {
    this.pvinfo.wasRead = true;
    if (!this.pvinfo.isReadable(offset, size)) this.#counters.badPvinfoReads++;
    for (let i = 0; i < size; i++) out[i >> 2]! |= this.pvinfo.readByte(offset + i) << (8 * (i & 3));
  }

  #writePvinfo(offset: number, size: number, lo: number, hi: number): void {
    if (this.#gtt.failsafe) {
      for (let i = 0; i < size; i++) this.pvinfo.storeByte(offset + i, (i < 4 ? lo : hi) >>> (8 * (i & 3)));
    } else if ((size & SIZES.pvinfoWrites) === 0) {
      this.#counters.badPvinfoWrites++;
    } else {
      this.#writePvinfoRegister(offset, lo);
      if (size === 8) this.#writePvinfoRegister(offset + 4, hi);
    }
  }

  #writePvinfoRegister(offset: number, value: number): void {
    const outcome = this.pvinfo.writeRegister(offset, value);
    if (outcome === "failsafe") this.enterFailsafe();
    else if (outcome === "dropped") this.#counters.badPvinfoWrites++;
    else if (outcome === "notify") this.#notify(this.pvinfo.register(G2V_NOTIFY));
  }

  /** A notification's result is not told to the guest (`engine.md` §8.6); it is counted. */
  #notify(message: number): void {
    this.#counters.g2vNotifications++;
    const { roots } = this.pvinfo;
    let rc = OK;
    if (message === G2V.level3Create) rc = this.#gtt.g2vCreatePpgttMm(3, roots);
    else if (message === G2V.level3Destroy) rc = this.#gtt.g2vDestroyPpgttMm(3, roots);
    else if (message === G2V.level4Create) rc = this.#gtt.g2vCreatePpgttMm(4, roots);
    else if (message === G2V.level4Destroy) rc = this.#gtt.g2vDestroyPpgttMm(4, roots);
    const isKnown = message >= G2V.legacy && message <= G2V.contextDestroy;
    if (rc !== OK || !isKnown) this.#counters.badG2vNotifications++;
    this.#events.add("g2v", message, frameOf(roots[0]!, roots[1]!) * PAGE_SIZE, rc);
    this.#events.noteTables();
  }

  #writeRegister(offset: number, size: number, lo: number, hi: number): void {
    if (!this.#gtt.failsafe) {
      this.#registers.write(offset, size, lo, hi);
    } else if (size < 8) {
      this.#registers.store(offset, size, lo);
    } else {
      this.#registers.store(offset, 4, lo);
      this.#registers.store(offset + 4, 4, hi);
    }
  }
}

/** Whether the GTT window takes an access. */
function isGttAccess(offset: number, size: number): boolean {
  return (size & SIZES.gttWindow) !== 0 && (offset & (size - 1)) === 0;
}

/** Whether an aligned access hits the PVINFO page. */
function isPvinfo(offset: number): boolean {
  return offset >= PVINFO_OFFSET && offset < PVINFO_OFFSET + PVINFO_SIZE;
}
