/**
 * A guest with very many page tables, for what is measured by the table.
 *
 * @module
 */

import { createDevice, type Device, type PpgttMm } from "../../mod.ts";
import { shuffled } from "./order.ts";

const PAGE = 4096;
const ENTRIES = 512;
/** Frames of its RAM. */
export const RAM_FRAMES: number = 1 << 15;
const PRESENT_WRITABLE = 0x3;

/** A guest with one address space of so many table pages, anywhere in its RAM. */
export class TableGuest {
  readonly device: Device;
  readonly mm: PpgttMm;
  /** Frames of the PTE tables, in order of their addresses. */
  readonly pteTables: number[] = [];
  readonly roots: Uint32Array = new Uint32Array(8);
  readonly #frames: IterableIterator<number>;

  /**
   * @param tables How many PTE tables it has; a few directories come on top.
   * @param fd The RAM, shared; without it the device's own.
   * @param device The device, without RAM yet; default: one where nothing traps.
   */
  constructor(tables: number, fd?: number, device: Device = createDevice({ tracking: "untracked" })) {
    this.device = device;
    const size = RAM_FRAMES * PAGE;
    this.device.mapRam(fd === undefined ? { gpa: 0, size } : { gpa: 0, size, fd });
    this.#frames = shuffled(RAM_FRAMES).values();
    const root = this.#table([this.#table(this.#directories(tables))]);
    this.roots[0] = root * PAGE;
    const mm = this.device.vgpu.gtt.createMm(4, this.roots);
    if (typeof mm === "number") throw new Error(`cannot create the PPGTT: ${mm}`);
    this.mm = mm;
  }

  /** How many tables are compared by a look at all. */
  get tables(): number {
    return this.device.vgpu.gtt.parts.tables.size;
  }

  /** Stores an entry. */
  store(table: number, index: number, frame: number): void {
    this.#entry[0] = (frame * PAGE) | PRESENT_WRITABLE;
    this.device.ram.write(table * PAGE + 8 * index, this.#bytes);
  }

  readonly #entry = new Uint32Array(2);
  readonly #bytes = new Uint8Array(this.#entry.buffer);

  #directories(tables: number): number[] {
    const directories: number[] = [];
    for (let first = 0; first < tables; first += ENTRIES) {
      const below: number[] = [];
      for (let i = first; i < Math.min(first + ENTRIES, tables); i++) {
        below.push(this.#table(Array.from({ length: ENTRIES }, (_, leaf) => (i + leaf) % RAM_FRAMES)));
      }
      this.pteTables.push(...below);
      directories.push(this.#table(below));
    }
    return directories;
  }

  #table(frames: readonly number[]): number {
    const table = this.#frames.next().value!;
    frames.forEach((frame, index) => this.store(table, index, frame));
    return table;
  }
}
