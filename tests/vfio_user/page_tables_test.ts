// Page tables in memory that a VMM shares: the guest announces them and then changes them behind the device's back.

import { assertEquals, assertRejects } from "@std/assert";
import type { Client } from "../../protocol/client.ts";
import { RpcError } from "../../protocol/errors.ts";
import { VfioUserDevice } from "./device.ts";
import type { Peer } from "./peer.ts";
import { close, memfd, pokeEntry } from "./peer_libc.ts";
import { Command, peerTest } from "./session_peer.ts";
import { access, dmaMap, payload, storeMany } from "./wire.ts";

const PAGE = 4096;
const PAGES = 64;
/** Above 4 GiB, so that every lane counts. */
const BASE = 0x1_4000_0000;
const PRESENT_WRITABLE = 3;
const PDP = 0x78838;
const NOTIFY = 0x78818;
const [LEVEL3_CREATE, LEVEL4_CREATE, LEVEL4_DESTROY] = [2, 4, 5];
const TLB_INVALIDATE = 0x4260;

/** A guest whose RAM is shared with a device process. */
class Guest implements Disposable {
  readonly #memory = memfd(PAGES * PAGE);
  readonly #peer: Peer;
  readonly #observer: Client;

  constructor(peer: Peer, observer: Client) {
    this.#peer = peer;
    this.#observer = observer;
    peer.ok(Command.DMA_MAP, dmaMap(BASE, PAGES * PAGE), [this.#memory]);
  }

  /** Writes an entry of a table, telling nobody. Tables and frames are numbers of pages in RAM. */
  link(table: number, index: number, frame: number): void {
    pokeEntry(this.#memory, table * PAGE + 8 * index, this.address(frame) + PRESENT_WRITABLE);
  }

  /** Clears an entry of a table. */
  clear(table: number, index: number): void {
    pokeEntry(this.#memory, table * PAGE + 8 * index, 0);
  }

  /** Where a page is. */
  address(page: number): number {
    return BASE + page * PAGE;
  }

  /** Writes the roots and notifies the device. */
  notify(message: number, ...roots: readonly number[]): void {
    for (const [index, root] of roots.entries()) this.#peer.store(0, PDP + 8 * index, 8, this.address(root));
    this.#peer.store(0, NOTIFY, 4, message);
    this.#peer.assertServed();
  }

  /** Says that page tables have changed. */
  invalidate(engine = 0): void {
    this.#peer.store(0, TLB_INVALIDATE + 4 * engine, 4, 1);
    this.#peer.assertServed();
  }

  /** Where the guest's tables lead an address, in pages of RAM, and whether the shadow leads there too. */
  async walk(mm: number, gma: number): Promise<[page: number | null, agrees: boolean]> {
    const { guest, agrees } = await this.#observer.call("translate", mm, gma) as {
      guest: number | null;
      agrees: boolean;
    };
    return [guest === null ? null : (guest - BASE) / PAGE, agrees];
  }

  [Symbol.dispose](): void {
    close(this.#memory);
  }
}

peerTest(
  "4-level tables are shadowed when they are announced, and follow the guest's at each invalidation",
  async () => {
    await using device = await VfioUserDevice.start();
    await using observer = await device.observe();
    using peer = device.attach();
    using guest = new Guest(peer, observer);
    const far = (1 << 12) * 7;
    for (const [table, next] of [[1, 2], [2, 3], [3, 4], [4, 5]] as const) guest.link(table, 0, next);
    guest.link(4, 7, 6);

    guest.notify(LEVEL4_CREATE, 1);
    assertEquals([await guest.walk(0, 0), await guest.walk(0, far)], [[5, true], [6, true]]);

    guest.link(4, 0, 20); // another frame
    guest.clear(4, 7); // no frame any more
    assertEquals([await guest.walk(0, 0), await guest.walk(0, far)], [[20, false], [null, false]]);
    guest.invalidate();
    assertEquals([await guest.walk(0, 0), await guest.walk(0, far)], [[20, true], [null, true]]);

    guest.link(10, 0, 21);
    guest.link(3, 0, 10); // another page table
    guest.link(3, 1, 4); // the old one elsewhere
    guest.invalidate(3);
    assertEquals([await guest.walk(0, 0), await guest.walk(0, 2 << 20)], [[21, true], [20, true]]);

    // Pages change their roles: the page table becomes a directory, and the directory a page table.
    guest.clear(3, 1);
    guest.link(3, 0, 22);
    guest.link(10, 0, 3);
    guest.link(2, 0, 10);
    guest.invalidate();
    assertEquals(await guest.walk(0, 0), [22, true]);

    guest.notify(LEVEL4_DESTROY, 1);
    await assertRejects(() => guest.walk(0, 0), RpcError, "no mm 0");
    peer.assertServed();
  },
);

peerTest(
  "3-level tables are shadowed when they are announced, and follow the guest's at each invalidation",
  async () => {
    await using device = await VfioUserDevice.start();
    await using observer = await device.observe();
    using peer = device.attach();
    using guest = new Guest(peer, observer);
    const gib = 1 << 30;
    for (const directory of [1, 2, 3, 4]) {
      guest.link(directory, 0, 10 + directory);
      guest.link(10 + directory, 0, 20 + directory);
    }

    guest.notify(LEVEL3_CREATE, 1, 2, 3, 4);
    const walks = () => Promise.all([0, 1, 2, 3].map((slot) => guest.walk(0, slot * gib)));
    assertEquals(await walks(), [[21, true], [22, true], [23, true], [24, true]]);

    guest.link(12, 0, 30);
    guest.link(3, 0, 14);
    guest.clear(4, 0);
    guest.invalidate();
    assertEquals(await walks(), [[21, true], [30, true], [24, true], [null, true]]);
  },
);

peerTest("many invalidations in one message cost no look at the guest's tables", async () => {
  await using device = await VfioUserDevice.start();
  await using observer = await device.observe();
  using peer = device.attach();
  using guest = new Guest(peer, observer);
  for (const [table, next] of [[1, 2], [2, 3], [3, 4], [4, 5]] as const) guest.link(table, 0, next);
  guest.notify(LEVEL4_CREATE, 1);
  const before = await observer.call("stats");
  guest.link(4, 0, 20);

  const stores = Array.from({ length: 2700 }, (_, i) => [0, TLB_INVALIDATE + 4 * (i % 5), 4, 1] as const);
  peer.post(Command.REGION_WRITE_MULTI, storeMany(...stores));
  peer.assertServed();

  const after = await observer.call("stats");
  const moved = ["compared", "tlbInvalidations"].map((name) => after[name]! - before[name]!);
  assertEquals(moved, [0, 2700]);
  assertEquals(await guest.walk(0, 0), [20, true]);

  // Also where one store covers all the registers.
  const all = payload(access(0, TLB_INVALIDATE, 20), new Uint8Array(20).fill(1));
  guest.link(4, 0, 21);
  peer.ok(Command.REGION_WRITE, all);
  assertEquals([await guest.walk(0, 0), (await observer.call("stats"))["compared"]], [
    [21, true],
    after["compared"]! + 8, // its four tables, twice
  ]);
  guest.link(4, 0, 22);
  guest.invalidate();
  assertEquals(await guest.walk(0, 0), [22, true]);
});

peerTest("tables are followed as far as they can be when the guest points them at nothing", async () => {
  await using device = await VfioUserDevice.start();
  await using observer = await device.observe();
  using peer = device.attach();
  using guest = new Guest(peer, observer);
  for (const [table, next] of [[1, 2], [2, 3], [3, 4], [4, 5]] as const) guest.link(table, 0, next);
  guest.notify(LEVEL4_CREATE, 1);

  guest.link(4, 0, PAGES + 7); // no RAM
  guest.invalidate();
  guest.link(4, 0, 6);
  guest.invalidate();

  assertEquals(await guest.walk(0, 0), [6, true]);
  peer.assertServed();
});

peerTest("tables go with their RAM, and come again with it", async () => {
  await using device = await VfioUserDevice.start();
  await using observer = await device.observe();
  {
    using peer = device.attach();
    using guest = new Guest(peer, observer);
    for (const [table, next] of [[1, 2], [2, 3], [3, 4], [4, 5]] as const) guest.link(table, 0, next);
    guest.notify(LEVEL4_CREATE, 1);
    assertEquals(await guest.walk(0, 0), [5, true]);
  }
  await device.idle(1);
  await assertRejects(() => observer.call("translate", 0, 0), RpcError, "no mm 0");
  using peer = device.attach();
  using guest = new Guest(peer, observer);
  for (const [table, next] of [[1, 2], [2, 3], [3, 4], [4, 5]] as const) guest.link(table, 0, next);
  guest.notify(LEVEL4_CREATE, 1);
  assertEquals(await guest.walk(0, 0), [5, true]);
});
