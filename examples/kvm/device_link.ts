/**
 * The VMM's side of the protocol: a client, and stores that need no answer.
 *
 * A call costs a round trip, and the vCPU waits for it. Stores to the GTT window may be *posted*: they give rise to no
 * notification that the VMM must have before the guest goes on. They are gathered, and leave as one `mmio_write_many` before
 * the next call of any kind; as the device works through a connection in order, nobody can tell the difference. All other
 * stores are calls: a notification of PVINFO may announce a page table, and the answer comes after every `page_track`.
 *
 * @module
 */

import type { Client } from "../../protocol/client.ts";
import { MAX_WRITES } from "../../protocol/limits.ts";
import type { MethodName, Params, Result } from "../../protocol/methods.ts";

/** Regions of the device, as VFIO numbers them. */
export const Region = { REGISTERS: 0, APERTURE: 2, CONFIG: 7 } as const;
/** Where the GTT window starts in region 0. */
export const GTT_WINDOW = 0x80_0000;

/** A width of an access, in bytes. */
export type Size = 1 | 2 | 4 | 8;

/** A device at the other end of a connection. */
export class DeviceLink {
  /** The connection. Calls made here directly overtake posted stores. */
  readonly client: Client;
  /** Messages with posted stores that were sent. */
  batches = 0;
  #posted: [offset: number, size: Size, value: number | bigint][] = [];

  constructor(client: Client) {
    this.client = client;
  }

  /** Calls a method, after everything that was posted. */
  call<M extends MethodName>(method: M, ...params: Params<M>): Promise<Result<M>> {
    this.flush();
    return this.client.call(method, ...params);
  }

  /** Reads from a region, for the guest. */
  async read(region: number, offset: number, size: Size): Promise<bigint> {
    return BigInt(await this.call("mmio_read", region, offset, size));
  }

  /**
   * Stores to a region, for the guest.
   *
   * @returns Settles when the guest may go on; `null` if it may at once, because the store was posted.
   */
  write(region: number, offset: number, size: Size, value: bigint): Promise<null> | null {
    if (region !== Region.REGISTERS || offset < GTT_WINDOW) {
      return this.call("mmio_write", region, offset, size, onWire(value));
    }
    if (this.#posted.length === MAX_WRITES) this.flush();
    this.#posted.push([offset, size, onWire(value)]);
    return null;
  }

  /** Sends posted stores. */
  flush(): void {
    if (this.#posted.length === 0) return;
    this.batches++;
    // The promise only bounds a sender's memory; here a call follows soon, and waits.
    this.client.notify("mmio_write_many", Region.REGISTERS, this.#posted);
    this.#posted = [];
  }
}

/** A 64-bit value as the client takes it: a number where that is exact. */
export function onWire(value: bigint): number | bigint {
  return value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}
