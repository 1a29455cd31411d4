/**
 * Plays a recording against a device as a VMM would: guest RAM is mapped, region accesses are forwarded, and the guest's
 * memory changes as stores do, so that writes to table pages are trapped.
 *
 * @module
 */

import type { Client } from "../../protocol/client.ts";
import { PAGE_SIZE } from "../gtt/entry.ts";
import type { RecordedEvent, RecordedPage } from "./recording.ts";

/** The largest access that one call carries; a longer recorded one is split. */
const MAX_ACCESS = 8;
/** RAM is mapped in whole multiples of this, bytes. */
const RAM_GRANULE = 64 << 20;

/** Accesses that were served, by kind. */
export interface Served {
  /** Reads of region 0 and configuration space. */
  reads: number;
  /** Writes to region 0 and configuration space, without those to the GTT window. */
  writes: number;
  /** Stores to the GTT window. */
  ggttStores: number;
  /** Pages of guest memory given whole. */
  pages: number;
  /** Stores to guest memory that changed an entry of a page given before. */
  stores: number;
}

/** Bytes of guest RAM that a recording needs. */
export function ramSize(events: readonly RecordedEvent[]): number {
  const end = events.reduce(
    (most, event) => event.kind === "page" ? Math.max(most, event.gpa + PAGE_SIZE) : most,
    1,
  );
  return Math.ceil(end / RAM_GRANULE) * RAM_GRANULE;
}

/** Plays the events of a recording. */
export class RecordingPlayer {
  /** What was served so far. */
  readonly served: Served = { reads: 0, writes: 0, ggttStores: 0, pages: 0, stores: 0 };
  readonly #client: Client;
  readonly #gttOffset: number;
  /** Guest pages as they are now. */
  readonly #pages = new Map<number, BigUint64Array>();

  /**
   * @param client A VMM's connection.
   * @param gttOffset Where the GTT window begins in region 0, bytes.
   */
  constructor(client: Client, gttOffset: number) {
    this.#client = client;
    this.#gttOffset = gttOffset;
  }

  /** Plays one event. Settles when it is answered, or, for a posted write, when there is room for more. */
  async play(event: RecordedEvent): Promise<void> {
    if (event.kind === "page") return await this.#page(event);
    if (event.kind === "read") return await this.#read(event.region, event.offset, event.size);
    const { region, offset, size, value } = event;
    if (region === 0 && offset >= this.#gttOffset) this.served.ggttStores++;
    else this.served.writes++;
    await this.#client.notify("mmio_write", region, offset, size as 1 | 2 | 4 | 8, value);
  }

  async #read(region: number, offset: number, size: number): Promise<void> {
    this.served.reads++;
    for (let done = 0; done < size;) {
      const part = Math.min(MAX_ACCESS, size - done);
      await this.#client.call("mmio_read", region, offset + done, part as 1 | 2 | 4 | 8);
      done += part;
    }
  }

  async #page({ gpa, bytes }: RecordedPage): Promise<void> {
    const now = new BigUint64Array(bytes.buffer, bytes.byteOffset, PAGE_SIZE / 8);
    const before = this.#pages.get(gpa);
    this.#pages.set(gpa, now);
    if (before === undefined) {
      this.served.pages++;
      await this.#client.call("mem_write", gpa, bytes);
      return;
    }
    const stores: Promise<number>[] = [];
    for (const [index, entry] of now.entries()) {
      if (before[index] === entry) continue;
      this.served.stores++;
      stores.push(this.#client.call("mem_write", gpa + 8 * index, bytes.subarray(8 * index, 8 * index + 8)));
    }
    await Promise.all(stores);
  }
}
