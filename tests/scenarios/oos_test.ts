import { assertEquals } from "@std/assert";
import { Attached, refusal } from "./attached.ts";
import {
  announceTree4,
  GMA4,
  le32,
  le64,
  PAGE,
  ROOTS4,
  tablePage,
  TREE4,
  writePages,
} from "./guest_pages.ts";

/** The entry of the tree's first leaf. */
const LEAF = 0x13 * PAGE + 32;

/** A device with out-of-sync pages and the 4-level tree, as mm 0. */
async function startOos(pages = 8192): Promise<Attached> {
  const device = await Attached.start({ device: { oos: true, oosPoolPages: pages }, debug: true });
  await announceTree4(device.vmm);
  device.notices.length = 0;
  return device;
}

/** What the shadow of the first leaf leads to. */
async function shadow(device: Attached): Promise<unknown> {
  return (await device.vmm.call("translate", 0, GMA4))["shadow"];
}

Deno.test("a PTE table goes out of sync with the second trapped store", async () => {
  await using device = await startOos();
  await device.vmm.call("mem_write", LEAF, le64(0x70003));
  assertEquals(device.notices, []);
  assertEquals((await device.vmm.call("state"))["oos"], []);

  await device.vmm.call("mem_write", LEAF, le64(0x71003));
  assertEquals(device.notices, [["page_track", 0x13, false]]);
  const { oos, oosUse, spts } = await device.vmm.call("state");
  assertEquals([oos, oosUse], [[0x13], [0x13]]);
  assertEquals((spts as unknown[]).at(-1), [0x13, "PTE", 1, false, 2]);
  assertEquals(await shadow(device), "0x100071"); // the second store was still applied
  assertEquals(await device.counter("outOfSyncPages"), 1);
  assertEquals(await device.counter("freeOosPages"), 8191);
  device.assertSound();
});

Deno.test("stores to an out-of-sync table are not seen until it is synced", async () => {
  await using device = await startOos();
  for (const frame of [0x70, 0x71, 0x72, 0x73]) {
    await device.vmm.call("mem_write", LEAF, le64(frame * PAGE + 3));
  }
  assertEquals(await shadow(device), "0x100071");
  assertEquals(await device.vmm.call("gma_to_gpa", 0, GMA4), 0x73000); // reads guest memory
  assertEquals(await device.counter("trappedStores"), 2);

  device.notices.length = 0;
  await device.vmm.call("sync_oos_pages");
  assertEquals(device.notices, [["page_track", 0x13, true]]);
  assertEquals(await shadow(device), "0x100073");
  const { oos, oosUse, spts } = await device.vmm.call("state");
  assertEquals([oos, oosUse], [[], [0x13]]); // the snapshot stays attached
  assertEquals((spts as unknown[]).at(-1), [0x13, "PTE", 1, true, 0]);
  device.assertSound();
});

Deno.test("sync_oos_pages applies new, changed and removed entries", async () => {
  await using device = await startOos();
  for (let i = 0; i < 2; i++) await device.vmm.call("mem_write", LEAF, le64(0x64083));
  await device.vmm.call("mem_write", 0x13 * PAGE, tablePage({ 0: 0x80003, 4: 0x81083 })); // entry 5 is gone
  await device.vmm.call("sync_oos_pages");
  assertEquals(await shadow(device), "0x100081");
  assertEquals((await device.vmm.call("translate", 0, GMA4 - 4 * PAGE))["shadow"], "0x100080");
  assertEquals((await device.vmm.call("translate", 0, GMA4 + PAGE))["shadow"], null); // stored as it is: not present
  device.assertSound();
});

Deno.test("an attached snapshot is used again when the table goes out of sync once more", async () => {
  await using device = await startOos(1);
  for (let i = 0; i < 2; i++) await device.vmm.call("mem_write", LEAF, le64(0x70003));
  await device.vmm.call("sync_oos_pages");
  for (let i = 0; i < 2; i++) await device.vmm.call("mem_write", LEAF, le64(0x71003));
  assertEquals((await device.vmm.call("state"))["oos"], [0x13]);
  await device.vmm.call("mem_write", LEAF, le64(0x72003));
  await device.vmm.call("sync_oos_pages");
  assertEquals(await shadow(device), "0x100072");
  device.assertSound();
});

Deno.test("directory tables never go out of sync", async () => {
  await using device = await startOos();
  for (let i = 0; i < 5; i++) await device.vmm.call("mem_write", 0x12 * PAGE + 24, le64(0x13003));
  assertEquals((await device.vmm.call("state"))["oos"], []);
  assertEquals(device.notices, []);
});

Deno.test("half stores count for going out of sync, and the sync applies them", async () => {
  await using device = await startOos();
  await device.vmm.call("mem_write", LEAF, le32(0x70003));
  await device.vmm.call("mem_write", LEAF + 4, le32(0));
  assertEquals((await device.vmm.call("state"))["oos"], [0x13]);
  assertEquals(await shadow(device), "sPTE");
  await device.vmm.call("sync_oos_pages");
  assertEquals(await shadow(device), "0x100070");
  assertEquals((await device.vmm.call("state"))["post"], []);
  device.assertSound();
});

Deno.test("the oldest snapshot is taken when none is free, and its table is synced", async () => {
  await using device = await startOos(1);
  await writePages(device.vmm, { 0x14: tablePage({ 0: 0x90003 }) });
  await device.vmm.call("mem_write", 0x12 * PAGE + 8 * 4, le64(0x14003)); // a second PTE table
  for (const frame of [0x70, 0x71, 0x72]) await device.vmm.call("mem_write", LEAF, le64(frame * PAGE + 3));
  assertEquals((await device.vmm.call("state"))["oosUse"], [0x13]);

  device.notices.length = 0;
  for (let i = 0; i < 2; i++) await device.vmm.call("mem_write", 0x14 * PAGE, le64(0x91003));
  assertEquals(device.notices, [["page_track", 0x13, true], ["page_track", 0x14, false]]);
  const { oos, oosUse } = await device.vmm.call("state");
  assertEquals([oos, oosUse], [[0x14], [0x14]]);
  assertEquals(await shadow(device), "0x100072");
  device.assertSound();
});

Deno.test("sync_oos_pages reports a frame that cannot be translated and protects the page again", async () => {
  await using device = await startOos();
  for (let i = 0; i < 2; i++) await device.vmm.call("mem_write", LEAF, le64(0x70003));
  await device.vmm.call("mem_write", LEAF, le64(0x7_0000_0003));
  assertEquals((await refusal(device.vmm.call("sync_oos_pages"))).code, "ENXIO");
  const { oos, wp } = await device.vmm.call("debug_observe");
  assertEquals([oos, wp], [[], [0x10, 0x11, 0x12, 0x13]]);
  assertEquals(await shadow(device), "0x100070"); // stale until rewritten (engine.md §13, 19)
  device.assertSound();
});

Deno.test("sync_oos_pages that cannot protect or read the page leaves it out of sync", async () => {
  await using device = await startOos();
  for (const frame of [0x70, 0x71, 0x72]) await device.vmm.call("mem_write", LEAF, le64(frame * PAGE + 3));
  for (const [kind, code] of [["wp", "EINVAL"], ["read", "EFAULT"]] as const) {
    await device.vmm.call("debug_inject", { kind, gfn: 0x13, on: true });
    assertEquals((await refusal(device.vmm.call("sync_oos_pages"))).code, code);
    assertEquals((await device.vmm.call("state"))["oos"], [0x13]);
    await device.vmm.call("debug_inject", { kind, gfn: 0x13, on: false });
    device.assertSound();
  }
  await device.vmm.call("sync_oos_pages");
  assertEquals(await shadow(device), "0x100072");
});

Deno.test("a page that ends takes its snapshot and its place on the list with it", async () => {
  await using device = await startOos();
  for (let i = 0; i < 2; i++) await device.vmm.call("mem_write", LEAF, le64(0x70003));
  await device.vmm.call("mm_destroy", 0);
  const { oos, oosUse } = await device.vmm.call("state");
  assertEquals([oos, oosUse], [[], []]);
  assertEquals(await device.counter("freeOosPages"), 8192);
  await device.vmm.call("sync_oos_pages");
});

Deno.test("nothing goes out of sync when the device was started without", async () => {
  await using device = await Attached.start();
  await announceTree4(device.vmm);
  for (const frame of [0x70, 0x71, 0x72]) await device.vmm.call("mem_write", LEAF, le64(frame * PAGE + 3));
  assertEquals(await shadow(device), "0x100072");
  assertEquals(await device.counter("freeOosPages"), 0);
  await device.vmm.call("sync_oos_pages");
});

Deno.test("hello tells whether pages may go out of sync", async () => {
  await using device = await startOos();
  assertEquals(device.vmm.hello.config["oos"], true);
  await writePages(device.vmm, TREE4);
  assertEquals(await device.vmm.call("mm_find", 4, [...ROOTS4]), 0);
});
