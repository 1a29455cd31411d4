/**
 * A context object in a guest's memory (`guest.md` §7.1, §7.2), and its ring.
 *
 * @module
 */

import type { Client } from "../../protocol/client.ts";
import { le32, PAGE } from "../scenarios/guest_pages.ts";
import type { PageTable } from "./page_table.ts";

/** Indexes of values in the page of registers. */
export const IMAGE = {
  control: 0x03,
  head: 0x05,
  tail: 0x07,
  start: 0x09,
  ringControl: 0x0b,
  timestamp: 0x23,
  pdp0: 0x33,
  gpr0: 0x69,
} as const;

/** What a context is made of. */
export interface ContextParts {
  /** Offset of the engine's registers. */
  readonly base: number;
  /** GGTT address of the context. */
  readonly gma: number;
  /** Guest physical addresses of its two pages. */
  readonly pages: readonly [status: number, registers: number];
  /** GGTT address of the ring. */
  readonly ring: number;
  /** Guest physical addresses of the ring's pages. */
  readonly ringPages: readonly number[];
  /** What the guest calls it. */
  readonly id: number;
  /** Its page table. */
  readonly table: PageTable;
}

/** A context and its ring. */
export class Context {
  /** Guest physical address of its own status page. */
  readonly status: number;
  /** Guest physical address of its page of registers. */
  readonly image: number;
  /** What the guest calls it: the upper half of its descriptor. */
  readonly id: number;
  /** The lower half of its descriptor. */
  descriptor: number;
  /** Where its commands end, bytes from the ring's start. */
  tail = 0;
  readonly #vmm: Client;
  readonly #parts: ContextParts;

  private constructor(vmm: Client, parts: ContextParts) {
    this.#vmm = vmm;
    this.#parts = parts;
    [this.status, this.image] = parts.pages;
    this.id = parts.id;
    // Valid, privileged, 3 or 4 levels.
    this.descriptor = parts.gma + 0x101 + (parts.table.level === 4 ? 0x18 : 0x08);
  }

  /** Writes the context as Linux's driver does before its first use. */
  static async make(vmm: Client, parts: ContextParts): Promise<Context> {
    const context = new Context(vmm, parts);
    const { base, ring, ringPages, table } = parts;
    const words = new Uint32Array(PAGE / 4);
    const put = (index: number, offset: number, value: number) => {
      words[index - 1] = base + offset;
      words[index] = value;
    };
    words[0x01] = 0x1100_101b;
    put(IMAGE.control, 0x244, 0x000f_0008);
    put(IMAGE.head, 0x34, 0);
    put(IMAGE.tail, 0x30, 0);
    put(IMAGE.start, 0x38, ring);
    put(IMAGE.ringControl, 0x3c, (ringPages.length - 1) * PAGE + 1);
    words[0x21] = 0x1100_1011;
    put(IMAGE.timestamp, 0x3a8, 0);
    for (const [pdp, root] of table.roots.entries()) {
      put(IMAGE.pdp0 - 4 * pdp - 2, 0x274 + 8 * pdp, 0);
      put(IMAGE.pdp0 - 4 * pdp, 0x270 + 8 * pdp, root);
    }
    words[0x51] = 0x1100_1057;
    for (let lane = 0; lane < 32; lane++) put(IMAGE.gpr0 + 2 * lane, 0x600 + 4 * lane, 0);
    await vmm.call("mem_write", context.image, new Uint8Array(words.buffer));
    return context;
  }

  /** Writes commands behind those that are there and moves the tail, as seen in memory; nothing is submitted. */
  async append(commands: readonly number[]): Promise<void> {
    await this.fill(commands);
    await this.set(IMAGE.tail, this.tail);
  }

  /** Writes commands behind those that are there; the tail in memory stays. */
  async fill(commands: readonly number[]): Promise<void> {
    const { ringPages } = this.#parts;
    const padded = commands.length % 2 === 0 ? commands : [...commands, 0];
    for (let done = 0; done < padded.length;) {
      const offset = this.tail % PAGE;
      const part = padded.slice(done, done + (PAGE - offset) / 4);
      await this.#vmm.call("mem_write", ringPages[Math.floor(this.tail / PAGE)]! + offset, le32(...part));
      this.tail = (this.tail + 4 * part.length) % (PAGE * ringPages.length);
      done += part.length;
    }
  }

  /** Begins an empty ring in the middle: head and tail are here. */
  async moveTo(offset: number): Promise<void> {
    this.tail = offset;
    await this.set(IMAGE.head, offset);
    await this.set(IMAGE.tail, offset);
  }

  /** Stores a value of the page of registers. */
  async set(index: number, value: number): Promise<void> {
    await this.#vmm.call("mem_write", this.image + 4 * index, le32(value));
  }

  /** Loads a value of the page of registers. */
  async get(index: number): Promise<number> {
    return new DataView((await this.#vmm.call("mem_read", this.image + 4 * index, 4)).slice().buffer)
      .getUint32(
        0,
        true,
      );
  }
}
