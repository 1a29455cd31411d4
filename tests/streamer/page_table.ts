/**
 * A guest's own page table, of 3 or 4 levels, as a driver without tricks builds it in its memory.
 *
 * @module
 */

import type { Client } from "../../protocol/client.ts";
import { le64, PAGE } from "../scenarios/guest_pages.ts";

/** Entries that lead on: present and writable. */
const LEADS = 3;
const PDP_REGISTERS = 0x78838;
const NOTIFY = 0x78818;

/** A PPGTT in guest memory. */
export class PageTable {
  /** Its levels. */
  readonly level: 3 | 4;
  /** Its roots, PDP 0 first: what context images and notifications name. */
  readonly roots: readonly number[];
  readonly #vmm: Client;
  readonly #allocate: () => number;
  /** Tables by the path of indexes that leads to them. */
  readonly #tables = new Map<string, number>();
  /** Where pages lead, as they were mapped. */
  readonly #pages = new Map<number, number>();

  /**
   * An empty table.
   *
   * @param vmm Stores to guest memory.
   * @param allocate Gives an empty page of it.
   * @param level 3 or 4.
   */
  constructor(vmm: Client, allocate: () => number, level: 3 | 4) {
    this.level = level;
    this.#vmm = vmm;
    this.#allocate = allocate;
    this.roots = level === 4 ? [allocate(), 0, 0, 0] : [allocate(), allocate(), allocate(), allocate()];
  }

  /** Maps a page. @param flags Present and writable by default. */
  async map(gma: number, gpa: number, flags = LEADS): Promise<void> {
    this.#pages.set(gma, gpa);
    await this.#vmm.call("mem_write", await this.entryOf(gma), le64(gpa + flags));
  }

  /** Makes a page's entry this value, whatever it says. */
  async setEntry(gma: number, value: number): Promise<void> {
    await this.#vmm.call("mem_write", await this.entryOf(gma), le64(value));
  }

  /** Where an address leads. */
  gpaOf(gma: number): number {
    const offset = gma % PAGE;
    const page = this.#pages.get(gma - offset);
    if (page === undefined) throw new Error(`0x${gma.toString(16)} is not mapped`);
    return page + offset;
  }

  /** Guest physical address of the last-level entry of a page; tables on the way are made. */
  async entryOf(gma: number): Promise<number> {
    return await this.directoryOf(gma, 1) + 8 * this.#index(gma, 1);
  }

  /** The table of a level on the way to a page, 1 for the last; it is made if it is not there. */
  async directoryOf(gma: number, level: number): Promise<number> {
    const slot = Math.floor(gma / 2 ** 30) % 4;
    let table = this.level === 4 ? this.roots[0]! : this.roots[slot]!;
    let path = this.level === 4 ? "" : `${slot}`;
    for (let each = this.level === 4 ? 4 : 2; each > level; each--) {
      const index = this.#index(gma, each);
      path += `/${index}`;
      let next = this.#tables.get(path);
      if (next === undefined) {
        this.#tables.set(path, next = this.#allocate());
        await this.#vmm.call("mem_write", table + 8 * index, le64(next + LEADS));
      }
      table = next;
    }
    return table;
  }

  /** Tells the device that the table begins, as the guest does. */
  async announce(): Promise<void> {
    await this.#notify(this.level === 4 ? 4 : 2);
  }

  /** Tells the device that the table ends. */
  async withdraw(): Promise<void> {
    await this.#notify(this.level === 4 ? 5 : 3);
  }

  async #notify(code: number): Promise<void> {
    for (const [index, root] of this.roots.entries()) {
      await this.#vmm.call("mmio_write", 0, PDP_REGISTERS + 8 * index, 8, root);
    }
    await this.#vmm.call("mmio_write", 0, NOTIFY, 4, code);
  }

  #index(gma: number, level: number): number {
    return Math.floor(gma / 2 ** (12 + 9 * (level - 1))) % 512;
  }
}
