/**
 * A guest that builds contexts, rings, page tables and batches by hand and submits them, over the socket: every test of
 * the command streamers starts from it.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { Client } from "../../protocol/client.ts";
import { loadLibc } from "../../src/platform/libc.ts";
import { Attached, type AttachOptions, type Notice } from "../scenarios/attached.ts";
import { le32, PAGE } from "../scenarios/guest_pages.ts";
import { END, start } from "./commands.ts";
import { Context } from "./context.ts";
import { PageTable } from "./page_table.ts";

loadLibc(); // here and not in the first test that maps a file, which would seem to leak it

/** What is known of each engine (`guest.md` §5.3, §6.1). */
export const ENGINES = {
  rcs0: { base: 0x2000, bank: 0x44300, shift: 0, summary: 1 << 0, reset: 1 << 1 },
  bcs0: { base: 0x22000, bank: 0x44300, shift: 16, summary: 1 << 1, reset: 1 << 3 },
  vcs0: { base: 0x12000, bank: 0x44310, shift: 0, summary: 1 << 2, reset: 1 << 2 },
  vecs0: { base: 0x1a000, bank: 0x44330, shift: 0, summary: 1 << 6, reset: 1 << 4 },
} as const;
/** An engine by its name in Linux. */
export type EngineName = keyof typeof ENGINES;
/** All of them. */
export const ENGINE_NAMES = Object.keys(ENGINES) as EngineName[];

/** Registers of an engine, from its base. */
export const REGISTER = {
  tail: 0x30,
  head: 0x34,
  start: 0x38,
  ipehr: 0x68,
  acthd: 0x74,
  statusPage: 0x80,
  mode: 0x9c,
  interruptMask: 0xa8,
  eir: 0xb0,
  emr: 0xb4,
  esr: 0xb8,
  resetControl: 0xd0,
  submissionPort: 0x230,
  status: 0x234,
  statusContext: 0x238,
  ringMode: 0x29c,
  timestamp: 0x358,
  contextStatus: 0x370,
  contextStatusPointer: 0x3a0,
  gpr: 0x600,
} as const;
/** Resets engines. */
export const GDRST = 0x941c;
/** What faulted, and where. */
export const FAULT = 0x4094;
/** The page of a fault. */
export const FAULT_ADDRESS = 0x4b10;

/** Where the vGPU's hidden graphics memory begins. */
export const HIDDEN = 640 << 20;
/** A window of the GGTT that is not this vGPU's. */
export const FOREIGN = 0x1000_0000;
const GTT_WINDOW = 0x80_0000;
/** The first frame that tests do not place things in by hand. */
const FIRST_FRAME = 0x40;

/** The default page table: batches. Four pages. */
export const BATCH = 0x1_2345_6000;
/** The default page table: data. Two pages, which do not follow one another in memory. */
export const DATA = 0x7f00_1234_5000;
/** The default page table: a page that may only be read. */
export const READ_ONLY = 0x6000;
/** An address that the default page table does not map. */
export const NOWHERE = 0x4444_0000_0000;
const BATCH_PAGES = 4;

/** PCI configuration space: the guest lets the device answer, and reach memory. */
const COMMAND = 0x04;
const MEMORY_AND_MASTER = 0x0006;
/** The write pointer of the status buffer after a reset. */
const RESET_POINTER = 5;
const ENTRIES = 6;
/** Round trips that are tried before a test gives up on an engine. */
const MAX_POLLS = 20_000;

/** An entry of the context-status buffer: what happened, and to whom. */
export type Event = readonly [status: number, id: number];

/** What a guest wants. */
export interface GuestOptions extends AttachOptions {
  /** Levels of the default page table; default 4. */
  readonly level?: 3 | 4;
  /** Whether the guest makes engines ready; default true. */
  readonly isReady?: boolean;
}

/** A guest whose engines are ready for contexts. */
export class Guest implements AsyncDisposable {
  /** The device. */
  readonly device: Attached;
  /** Its VMM. */
  readonly vmm: Client;
  /** Guest physical addresses of the engines' status pages. */
  readonly statusPages: Record<EngineName, number> = { rcs0: 0, bcs0: 0, vcs0: 0, vecs0: 0 };
  /** A page table for most tests. */
  readonly table: PageTable;
  /** Mismatches that the witness has to find. */
  expectedMismatches = 0;
  /** Translations that the witness has to find late; `null`: any number, of a guest that changes tables it uses. */
  expectedLate: number | null = 0;
  /** A page of the GGTT that commands may use. */
  global = 0;
  /** Its guest physical address. */
  globalPage = 0;
  #nextFrame = FIRST_FRAME;
  #nextGma = HIDDEN;
  #nextId = 1;
  readonly #pointers: Record<EngineName, number> = { rcs0: 5, bcs0: 5, vcs0: 5, vecs0: 5 };
  readonly #contexts = new Map<EngineName, Context>();

  private constructor(device: Attached, level: 3 | 4) {
    this.device = device;
    this.vmm = device.vmm;
    this.table = new PageTable(this.vmm, () => this.page(), level);
  }

  /** Starts a device that verifies page tables, and a guest on it. */
  static async start(options: GuestOptions = {}): Promise<Guest> {
    const device = { verify: true, ...options.device };
    const guest = new Guest(await Attached.start({ ...options, device }), options.level ?? 4);
    try {
      await guest.#mapDefaults(options.level ?? 4);
      if (options.isReady ?? true) await guest.ready();
      return guest;
    } catch (error) {
      await guest.device[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #mapDefaults(level: 3 | 4): Promise<void> {
    const { table } = this;
    for (let i = 0; i < BATCH_PAGES; i++) await table.map(this.#within(BATCH, level) + i * PAGE, this.page());
    const second = this.page();
    await table.map(this.#within(DATA, level), this.page());
    await table.map(this.#within(DATA, level) + PAGE, second);
    await table.map(READ_ONLY, this.page(), 1);
    this.globalPage = this.page();
    this.global = await this.mapGlobal(this.globalPage);
  }

  /** Addresses of the default table, for as many bits as its levels give. */
  #within(gma: number, level: 3 | 4): number {
    return level === 4 ? gma : gma % 2 ** 32;
  }

  /** Where batches are. */
  get batch(): number {
    return this.#within(BATCH, this.table.level);
  }

  /** Where data is. */
  get data(): number {
    return this.#within(DATA, this.table.level);
  }

  /** Lets the device reach memory, looks at PVINFO and makes every engine ready, with a status page and its pointers as Linux leaves them. */
  async ready(): Promise<void> {
    await this.vmm.call("mmio_write", 7, COMMAND, 2, MEMORY_AND_MASTER);
    await this.vmm.call("mmio_read", 0, 0x78000, 8);
    for (const engine of ENGINE_NAMES) {
      this.statusPages[engine] = this.page();
      await this.resume(engine, await this.mapGlobal(this.statusPages[engine]));
    }
  }

  /** Makes an engine ready after power-on or a reset. @param statusPage GGTT address; default: as it was. */
  async resume(engine: EngineName, statusPage?: number): Promise<void> {
    this.#pointers[engine] = RESET_POINTER;
    const page = this.statusPages[engine];
    await this.vmm.call("mem_write", page + 0x40, new Uint8Array(8 * ENTRIES).fill(0xff));
    await this.vmm.call("mem_write", page + 0x7c, le32(RESET_POINTER));
    await this.write(engine, "contextStatusPointer", 0xffff_0505);
    await this.write(engine, "ringMode", 0x8000_8000);
    await this.write(engine, "mode", 0x0100_0000);
    if (statusPage !== undefined) await this.write(engine, "statusPage", statusPage);
    await this.write(engine, "eir", 0xffff_ffff);
    await this.write(engine, "emr", 0xffff_fffe);
  }

  /** An empty page of guest memory. @returns Guest physical address. */
  page(): number {
    return this.#nextFrame++ * PAGE;
  }

  /** Maps pages one after the other in the vGPU's part of the GGTT. @returns Graphics address of the first. */
  async mapGlobal(...pages: readonly number[]): Promise<number> {
    const gma = this.#nextGma;
    this.#nextGma += PAGE * pages.length;
    for (const [i, gpa] of pages.entries()) await this.setGlobal(gma + i * PAGE, gpa + 1);
    return gma;
  }

  /** Stores an entry of the GGTT. */
  async setGlobal(gma: number, entry: number): Promise<void> {
    await this.vmm.call("mmio_write", 0, GTT_WINDOW + 8 * (gma / PAGE), 8, entry);
  }

  /** An empty page table. */
  newTable(level: 3 | 4 = 4): PageTable {
    return new PageTable(this.vmm, () => this.page(), level);
  }

  /** A new context with an empty ring. */
  async context(
    engine: EngineName,
    { table = this.table, pages = 1, id }: { table?: PageTable; pages?: number; id?: number } = {},
  ): Promise<Context> {
    const own = [this.page(), this.page()] as const;
    const ringPages = Array.from({ length: pages }, () => this.page());
    return await Context.make(this.vmm, {
      base: ENGINES[engine].base,
      gma: await this.mapGlobal(...own),
      pages: own,
      ring: await this.mapGlobal(...ringPages),
      ringPages,
      id: id ?? 0x20 * this.#nextId++,
      table,
    });
  }

  /** Reads a register of an engine. */
  async read(engine: EngineName, register: keyof typeof REGISTER): Promise<number> {
    return await this.readAt(ENGINES[engine].base + REGISTER[register]);
  }

  /** Writes a register of an engine. */
  async write(engine: EngineName, register: keyof typeof REGISTER, value: number): Promise<void> {
    await this.writeAt(ENGINES[engine].base + REGISTER[register], value);
  }

  /** Reads a register. */
  async readAt(offset: number): Promise<number> {
    return Number(await this.vmm.call("mmio_read", 0, offset, 4));
  }

  /** Writes a register. */
  async writeAt(offset: number, value: number): Promise<void> {
    await this.vmm.call("mmio_write", 0, offset, 4, value);
  }

  /** Submits one context or two to an engine. */
  async submit(engine: EngineName, first: Context, second?: Context): Promise<void> {
    await this.submitRaw(engine, second?.id ?? 0, second?.descriptor ?? 0, first.id, first.descriptor);
  }

  /** Stores four dwords to the submission port. */
  async submitRaw(engine: EngineName, ...dwords: readonly [number, number, number, number]): Promise<void> {
    await Promise.all(dwords.map((dword) => this.write(engine, "submissionPort", dword)));
  }

  /** Waits, by looking at registers, until an engine has nothing submitted any more. */
  async settle(engine: EngineName): Promise<void> {
    for (let left = MAX_POLLS; (await this.read(engine, "status") & 0x18) !== 0; left--) {
      if (left === 0) throw new Error(`${engine} does not come to an end: ${await this.describe(engine)}`);
    }
  }

  /** Waits until engines have nothing to do but wait: they are idle, hang, spin or poll. */
  async stall(): Promise<void> {
    const { served } = this.device.service;
    for (let left = MAX_POLLS; served.isRunnable && !served.isWaiting; left--) {
      if (left === 0) throw new Error("the engines work on and on");
      await this.readAt(GDRST);
    }
  }

  /** Waits until every engine is idle, stopped or hangs. */
  async halt(): Promise<void> {
    const { served } = this.device.service;
    for (let left = MAX_POLLS; served.isRunnable; left--) {
      if (left === 0) throw new Error("the engines go on and on");
      await this.readAt(GDRST);
    }
  }

  /** What the status buffer told since the last look; entries are taken as Linux takes them. */
  async events(engine: EngineName): Promise<Event[]> {
    const page = this.statusPages[engine];
    const words = await this.words(page + 0x40, 16);
    const events: Event[] = [];
    for (let at = this.#pointers[engine]; at !== words[15]; this.#pointers[engine] = at) {
      assert(words[15]! < ENTRIES, `write pointer ${words[15]}`);
      at = (at + 1) % ENTRIES;
      events.push([words[2 * at]!, words[2 * at + 1]!]);
      await this.vmm.call("mem_write", page + 0x40 + 8 * at, new Uint8Array(8).fill(0xff));
    }
    return events;
  }

  /** The interrupts that came since the last look. */
  interrupts(): Notice[] {
    return this.device.notices.splice(0).filter(([name]) => name === "irq" || name === "intx");
  }

  /** Runs commands in the ring of an engine's own context, to their end. */
  async runRing(engine: EngineName, commands: readonly number[]): Promise<void> {
    await this.startRing(engine, commands);
    await this.settle(engine);
  }

  /** Submits commands in the ring of an engine's own context. */
  async startRing(engine: EngineName, commands: readonly number[]): Promise<void> {
    const context = await this.contextOf(engine);
    await context.append(commands);
    await this.submit(engine, context);
  }

  /** Runs a batch, in the default page table, to its end. */
  async runBatch(engine: EngineName, commands: readonly number[]): Promise<void> {
    await this.startBatch(engine, commands);
    await this.settle(engine);
  }

  /** Submits a batch. */
  async startBatch(engine: EngineName, commands: readonly number[]): Promise<void> {
    await this.put(this.batch, [...commands, END]);
    await this.startRing(engine, start(this.batch));
  }

  /** The context in which {@linkcode runRing} and {@linkcode runBatch} work. */
  async contextOf(engine: EngineName): Promise<Context> {
    let context = this.#contexts.get(engine);
    if (context === undefined) this.#contexts.set(engine, context = await this.context(engine, { pages: 4 }));
    return context;
  }

  /** Forgets the engines' own contexts: what they were at was lost. */
  forgetContexts(): void {
    this.#contexts.clear();
  }

  /** Stores dwords where an address of the default page table leads. */
  async put(gma: number, dwords: readonly number[]): Promise<void> {
    for (let done = 0; done < dwords.length;) {
      const at = gma + 4 * done;
      const part = dwords.slice(done, done + (PAGE - at % PAGE) / 4);
      await this.vmm.call("mem_write", this.table.gpaOf(at), le32(...part));
      done += part.length;
    }
  }

  /** Loads dwords from where an address of the default page table leads. */
  async get(gma: number, count = 1): Promise<number[]> {
    const words: number[] = [];
    while (words.length < count) {
      const at = gma + 4 * words.length;
      const part = Math.min(count - words.length, (PAGE - at % PAGE) / 4);
      words.push(...await this.words(this.table.gpaOf(at), part));
    }
    return words;
  }

  /** Loads dwords of guest memory. */
  async words(gpa: number, count: number): Promise<number[]> {
    const bytes = await this.vmm.call("mem_read", gpa, 4 * count);
    return [...new Uint32Array(bytes.slice().buffer)];
  }

  /** Runs something on an engine that shows that it works, after whatever was before. */
  async assertWorks(engine: EngineName): Promise<void> {
    const context = await this.context(engine);
    const value = 0x600d_0000 + context.id;
    await context.append([0x1040_0002, this.global + 0xff8, 0, value]);
    await this.events(engine);
    await this.submit(engine, context);
    await this.settle(engine);
    assertEquals(await this.words(this.globalPage + 0xff8, 1), [value]);
    assertEquals(await this.events(engine), [[0x01, 0], [0x18, context.id]]);
  }

  /** Where an engine is, for people. */
  async describe(engine: EngineName): Promise<string> {
    const names = ["head", "tail", "acthd", "ipehr", "eir", "status", "statusContext", "mode"] as const;
    const values: string[] = [];
    for (const name of names) values.push(`${name} 0x${(await this.read(engine, name)).toString(16)}`);
    return values.join(", ");
  }

  /**
   * Stops everything. Whatever a test did, no context ran by a shadow table that was wrong, and none by one that only
   * the witness put right: nobody changes tables while it looks.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    const { verifyMismatches, verifyLate } = this.device.service.served.witnessed;
    await this.device[Symbol.asyncDispose]();
    assertEquals([verifyMismatches, verifyLate], [this.expectedMismatches, this.expectedLate ?? verifyLate]);
  }
}
