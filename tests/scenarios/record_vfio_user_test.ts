// Devices that record what hypervisors do over vfio-user, whose RAM is shared and changes while nobody says so.

import { assertEquals } from "@std/assert";
import { VfioUserDevice } from "../vfio_user/device.ts";
import { close, memfd, pokeEntry } from "../vfio_user/peer_libc.ts";
import { Command, peerTest } from "../vfio_user/session_peer.ts";
import { dmaMap, dmaUnmap, storeMany } from "../vfio_user/wire.ts";
import { TempFolder } from "./process.ts";
import { assertReplays, lookAt, type Moment } from "./recorded.ts";

const PAGE = 4096;
const PAGES = 64;
/** Above 4 GiB, so that every lane counts. */
const BASE = 0x1_4000_0000;
const [PDP, NOTIFY, LEVEL4_CREATE, TLB_INVALIDATE] = [0x78838, 0x78818, 4, 0x4260];
const OWN_ENTRY = 0x800000 + 8 * 0x4000;
const APERTURE = 2;

peerTest("a hypervisor whose guest builds and changes page tables is replayed", async () => {
  await using folder = new TempFolder();
  const path = `${folder.path}/recording.jsonl`;
  const moments: Moment[] = [];
  {
    await using device = await VfioUserDevice.start("--record", path);
    await using observer = await device.observe();
    const memory = memfd(PAGES * PAGE);
    const link = (table: number, index: number, page: number) =>
      pokeEntry(memory, table * PAGE + 8 * index, BASE + page * PAGE + 3);
    using peer = device.attach();
    peer.ok(Command.DMA_MAP, dmaMap(BASE, PAGES * PAGE), [memory]);
    peer.ok(Command.DMA_MAP, dmaMap(0xc0000, PAGE, 1)); // ROM, which stays the hypervisor's
    for (const [table, next] of [[1, 2], [2, 3], [3, 4], [4, 5]] as const) link(table, 0, next);
    peer.store(7, 4, 2, 6);
    peer.store(0, PDP, 8, BASE + PAGE);
    peer.store(0, NOTIFY, 4, LEVEL4_CREATE);
    peer.assertServed();
    moments.push(await lookAt(observer));

    for (let frame = 6; frame < 40; frame++) {
      link(4, frame, frame);
      peer.store(0, TLB_INVALIDATE, 4, 1);
      await observer.call("translate", 0, frame * PAGE);
    }
    const stores = Array.from(
      { length: 100 },
      (_, i) => [0, OWN_ENTRY + 8 * i, 8, BASE + i * PAGE + 1] as const,
    );
    peer.post(Command.REGION_WRITE_MULTI, storeMany(...stores));
    pokeEntry(memory, 7 * PAGE, 0x1234);
    const offset = (0x4000 + 7) * PAGE;
    assertEquals(peer.load(APERTURE, offset, 8), 0x1234n); // memory through the aperture
    peer.store(APERTURE, offset, 8, 0x77);
    pokeEntry(memory, 7 * PAGE + 8, 9);
    assertEquals([peer.load(APERTURE, offset, 8), peer.load(APERTURE, offset + 8, 8)], [0x77n, 9n]);
    peer.load(0, 0x2358, 4); // the time
    moments.push(await lookAt(observer));

    peer.ok(Command.DEVICE_RESET);
    moments.push(await lookAt(observer));
    peer.ok(Command.DMA_UNMAP, dmaUnmap(BASE, PAGES * PAGE));
    close(memory);
    peer[Symbol.dispose]();
    await device.idle(1);
    await observer.close();
    assertEquals((await device.process.stop()).code, 0);
  }
  await assertReplays(path, moments);
});
