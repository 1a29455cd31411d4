import { assertEquals } from "@std/assert";
import { assertInvariants } from "../../src/gtt/invariants.ts";
import { Attached, refusal } from "../scenarios/attached.ts";
import { PAGE, tablePage } from "../scenarios/guest_pages.ts";

/** Caps of engine.md §15. */
const MAX_MMS = 4096;
const MAX_TABLES = 65536;

Deno.test("mm_create stops at 4,096 page tables and goes on when one has ended", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  const ids = await Promise.all(Array.from({ length: MAX_MMS }, () => vmm.call("mm_create", 4, null)));
  assertEquals([ids[0], ids.at(-1)], [0, MAX_MMS - 1]);
  assertEquals((await refusal(vmm.call("mm_create", 3, null))).code, "ENOMEM");
  assertEquals((await refusal(vmm.call("submit", 3, [0, 0, 0, 0]))).code, "ENOMEM");
  assertEquals(await device.counter("mmsReclaimed"), 0); // a reclaim frees no mm: none is tried
  device.assertSound();

  // The guest, too, can only have so many: the message fails and is counted.
  await vmm.call("mmio_write", 0, 0x78838, 8, 0x10000);
  await vmm.call("mmio_write", 0, 0x78818, 4, 4);
  assertEquals(await device.counter("badG2vNotifications"), 1);

  await vmm.call("mm_destroy", 17);
  assertEquals(await vmm.call("mm_create", 3, null), MAX_MMS);
  await vmm.call("reset");
  assertEquals(await device.counter("mms"), 0);
  device.assertSound();
});

/** First frames of PDE tables and of PTE tables: 128 of the first with 512 of the second each would be one too many. */
const PDES = 0x100;
const PTES = 0x400;
/** PTE tables of one page of PDEs. */
const PER_PDE = 512;
/** RAM for 65,536 PTE tables behind all that; zero pages, so nearly none of it is touched. */
const RAM = (PTES + MAX_TABLES) * PAGE;

/** Writes `count` full PDE tables from the given one on. */
async function writeDirectories(device: Attached, from: number, count: number): Promise<void> {
  const writes: Promise<number>[] = [];
  for (let i = from; i < from + count; i++) {
    const children = Array.from({ length: PER_PDE }, (_, j) => [j, (PTES + i * PER_PDE + j) * PAGE + 3]);
    writes.push(device.vmm.call("mem_write", (PDES + i) * PAGE, tablePage(Object.fromEntries(children))));
  }
  await Promise.all(writes);
}

Deno.test("mm_create that needs more than 65,536 shadow tables fails and leaves nothing", async () => {
  await using device = await Attached.start({ ram: RAM });
  const { vmm } = device;
  await writeDirectories(device, 0, 128);
  // PDP -> 128 PDE tables -> 65,536 PTE tables: with the directories that is beyond the cap.
  const entries = Array.from({ length: 128 }, (_, i) => [i, (PDES + i) * PAGE + 3]);
  await vmm.call("mem_write", 0x11 * PAGE, tablePage(Object.fromEntries(entries)));
  await vmm.call("mem_write", 0x10 * PAGE, tablePage({ 0: 0x11003 }));

  assertEquals((await refusal(vmm.call("mm_create", 4, [0x10000, 0, 0, 0]))).code, "ENOMEM");
  assertEquals(await device.counter("tablesBuilt"), MAX_TABLES);
  assertEquals(await device.counter("shadowTables"), 0);
  assertEquals(await device.counter("protectedFrames"), 0);
  assertInvariants(device.engine);

  // With the last PDE table gone it fits: 1 + 1 + 127 + 127 * 512 tables.
  await vmm.call("mem_write", 0x11 * PAGE + 127 * 8, new Uint8Array(8));
  const big = await vmm.call("mm_create", 4, [0x10000, 0, 0, 0]);
  assertEquals(await device.counter("shadowTables"), 129 + 127 * PER_PDE);
  assertInvariants(device.engine);

  // The next tree reclaims it, for it is this vGPU's own and not pinned ...
  await vmm.call(
    "mem_write",
    0x20 * PAGE,
    tablePage({ 0: (PDES + 126) * PAGE + 3, 1: (PDES + 127) * PAGE + 3 }),
  );
  await vmm.call("mem_write", 0x21 * PAGE, tablePage({ 0: 0x20003 }));
  const small = await vmm.call("mm_create", 4, [0x21000, 0, 0, 0]);
  assertEquals((await vmm.call("state"))["mms"], [[big, 4, 1, 0, false], [small, 4, 1, 0, true]]);
  assertEquals(await device.counter("shadowTables"), 4 + 2 * PER_PDE);
  assertInvariants(device.engine);

  // ... and a pin of the first the second.
  await vmm.call("mm_pin", big);
  assertEquals((await vmm.call("state"))["lru"], [big]);
  await vmm.call("reset_gtt");
  assertEquals(await device.counter("shadowTables"), 0);
  assertInvariants(device.engine);
});

Deno.test("init_page_track stops at 65,536 tracks and goes on when one was cleaned", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  await Promise.all(Array.from({ length: 65536 }, (_, i) => vmm.call("init_page_track", i % 512)));
  assertEquals((await refusal(vmm.call("init_page_track", 1))).code, "ENOMEM");
  await vmm.call("clean_page_track", 100);
  assertEquals(await vmm.call("init_page_track", 1), 65536);
  device.assertSound();
});

Deno.test("ram_map stops at its cap and goes on when one region went", async () => {
  await using device = await Attached.start({ ram: 0 });
  const { vmm } = device;
  for (let i = 0; i < 256; i++) await vmm.call("ram_map", { gpa: 2 * i * PAGE, size: PAGE });
  assertEquals((await refusal(vmm.call("ram_map", { gpa: 0x1000, size: PAGE }))).code, "ENOSPC");
  await vmm.call("ram_unmap", { gpa: 0, size: PAGE });
  await vmm.call("ram_map", { gpa: 0x1000, size: PAGE });
});
