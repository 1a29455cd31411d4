import { assertEquals } from "@std/assert";
import { Attached, refusal } from "./attached.ts";
import {
  announceTree4,
  GMA4,
  le32,
  le64,
  PAGE,
  ROOTS3,
  ROOTS4,
  tablePage,
  TREE3,
  TREE4,
  writePages,
} from "./guest_pages.ts";

Deno.test("submit finds an announced page table and leaves its references and pins as they were", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  assertEquals(await device.vmm.call("submit", 4, [...ROOTS4]), { mm, created: false });
  assertEquals((await device.vmm.call("state"))["mms"], [[mm, 4, 1, 0, true]]);
  device.assertSound();
});

Deno.test("submit makes a page table that was never announced and lets it go afterwards", async () => {
  await using device = await Attached.start();
  await writePages(device.vmm, TREE3);
  const { mm, created } = await device.vmm.call("submit", 3, [...ROOTS3]);
  assertEquals(created, true);
  assertEquals((await device.vmm.call("state"))["mms"], []);
  assertEquals((await refusal(device.vmm.call("mm_pin", mm))).code, "ENOENT");
  assertEquals(await device.counter("shadowTables"), 0);
  assertEquals(await device.counter("tablesBuilt"), 4);
  device.assertSound();
});

Deno.test("submit applies the half stores that wait", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  await device.vmm.call("mem_write", 0x13 * PAGE + 32, le32(0x70083));
  await device.vmm.call("mem_write", 0x13 * PAGE + 36, le32(0));
  assertEquals((await device.vmm.call("translate", mm, GMA4))["shadow"], "sPTE");
  await device.vmm.call("submit", 4, [...ROOTS4]);
  assertEquals((await device.vmm.call("translate", mm, GMA4))["shadow"], "0x100070");
  assertEquals((await device.vmm.call("state"))["post"], []);
});

Deno.test("submit brings pages that are out of sync in sync", async () => {
  await using device = await Attached.start({ device: { oos: true } });
  const mm = await announceTree4(device.vmm);
  for (const frame of [0x70, 0x71, 0x72]) {
    await device.vmm.call("mem_write", 0x13 * PAGE + 32, le64(frame * PAGE + 3));
  }
  assertEquals((await device.vmm.call("state"))["oos"], [0x13]);
  assertEquals((await device.vmm.call("translate", mm, GMA4))["agrees"], false);

  await device.vmm.call("submit", 4, [...ROOTS4]);
  assertEquals((await device.vmm.call("state"))["oos"], []);
  assertEquals((await device.vmm.call("translate", mm, GMA4))["shadow"], "0x100072");
});

Deno.test("submit shadows a page table again whose shadow was reclaimed", async () => {
  await using device = await Attached.start({ debug: true });
  const mm = await announceTree4(device.vmm);
  await device.vmm.call("debug_inject", { kind: "alloc", n: 1 });
  await writePages(device.vmm, TREE3);
  await device.vmm.call("mm_create", 3, [...ROOTS3]);
  assertEquals(((await device.vmm.call("state"))["mms"] as unknown[])[0], [mm, 4, 1, 0, false]);

  assertEquals(await device.vmm.call("submit", 4, [...ROOTS4]), { mm, created: false });
  assertEquals((await device.vmm.call("translate", mm, GMA4))["shadow"], "0x100064");
  device.assertSound();
});

Deno.test("submit of a page table that cannot be shadowed leaves nothing", async () => {
  await using device = await Attached.start();
  assertEquals((await refusal(device.vmm.call("submit", 4, [0x7_0000_0000, 0, 0, 0]))).code, "EINVAL");
  assertEquals((await refusal(device.vmm.call("submit", 2, [...ROOTS4]))).code, "EINVAL");
  await writePages(device.vmm, { ...TREE4, 0x12: tablePage({ 0: 0x13003, 3: 0x200083 }) }); // a large page
  assertEquals((await refusal(device.vmm.call("submit", 4, [...ROOTS4]))).code, "EINVAL");
  const { mms, nspt } = await device.vmm.call("state");
  assertEquals([mms, nspt], [[], 0]);
  assertEquals(await device.counter("protectedFrames"), 0);
  device.assertSound();
});

Deno.test("submit that fails at the flush leaves an announced page table unpinned with its references", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  await device.vmm.call("mem_write", 0x13 * PAGE + 36, le32(0x7)); // the frame is now beyond all RAM
  assertEquals((await refusal(device.vmm.call("submit", 4, [...ROOTS4]))).code, "ENXIO");
  assertEquals((await refusal(device.vmm.call("submit", 4, [...ROOTS4]))).code, "ENXIO"); // until the guest repairs it
  assertEquals((await device.vmm.call("state"))["mms"], [[mm, 4, 1, 0, true]]);

  await device.vmm.call("mem_write", 0x13 * PAGE + 32, le64(0x70003));
  assertEquals(await device.vmm.call("submit", 4, [...ROOTS4]), { mm, created: false });
  device.assertSound();
});

Deno.test("submit that fails at the sync leaves an announced page table unpinned with its references", async () => {
  await using device = await Attached.start({ device: { oos: true } });
  const mm = await announceTree4(device.vmm);
  for (const frame of [0x70, 0x71]) {
    await device.vmm.call("mem_write", 0x13 * PAGE + 32, le64(frame * PAGE + 3));
  }
  await device.vmm.call("mem_write", 0x13 * PAGE + 32, le64(0x7_0000_0003));
  assertEquals((await refusal(device.vmm.call("submit", 4, [...ROOTS4]))).code, "ENXIO");
  assertEquals((await device.vmm.call("state"))["mms"], [[mm, 4, 1, 0, true]]);
  device.assertSound();
});

Deno.test("pins and references count and end where they should", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  const mm = await announceTree4(vmm);
  const state = async () => (await vmm.call("state"))["mms"];

  await vmm.call("mm_unpin", mm); // without a pin: nothing (engine.md §15, 11)
  assertEquals(await state(), [[mm, 4, 1, 0, true]]);
  await vmm.call("mm_pin", mm);
  await vmm.call("mm_pin", mm);
  await vmm.call("mm_unpin", mm);
  await vmm.call("mm_ref", mm);
  assertEquals(await state(), [[mm, 4, 2, 1, true]]);
  assertEquals(await vmm.call("mm_unref", mm), 1);
  assertEquals(await vmm.call("mm_unref", mm), 0); // ends although pinned (engine.md §8.6)
  assertEquals(await state(), []);
  for (const method of ["mm_pin", "mm_unpin", "mm_ref", "mm_unref", "mm_destroy", "tree"] as const) {
    assertEquals((await refusal(vmm.call(method, mm))).code, "ENOENT");
  }
  assertEquals((await refusal(vmm.call("gma_to_gpa", mm, 0))).code, "ENOENT");
  assertEquals((await refusal(vmm.call("translate", mm, 0))).code, "ENOENT");
});

Deno.test("mm_create without roots is an empty address space", async () => {
  await using device = await Attached.start();
  const mm = await device.vmm.call("mm_create", 4, null);
  assertEquals(await device.vmm.call("gma_to_gpa", mm, GMA4), null);
  assertEquals(await device.vmm.call("tree", mm), { level: 4, shadowed: true, roots: [] });
  assertEquals(await device.vmm.call("mm_find", 4, [0, 9, 9, 9]), mm);
  assertEquals(await device.vmm.call("mm_find", 3, [0, 0, 0, 0]), null);
});

Deno.test("mm_create fails for other levels and takes no handle", async () => {
  await using device = await Attached.start();
  for (const level of [0, 1, 2, 5, 255]) {
    assertEquals((await refusal(device.vmm.call("mm_create", level, [...ROOTS4]))).code, "EINVAL");
    assertEquals((await refusal(device.vmm.call("g2v_create_ppgtt_mm", level))).code, "EINVAL");
  }
  assertEquals(await device.vmm.call("mm_create", 4, null), 0);
});

Deno.test("mm_create twice with the same roots shares the shadow tables", async () => {
  await using device = await Attached.start();
  const first = await announceTree4(device.vmm);
  const second = await device.vmm.call("mm_create", 4, [...ROOTS4]);
  assertEquals(second, first + 1);
  assertEquals((await device.vmm.call("state"))["spts"], [
    [0x10, "PML4", 2, true, 0],
    [0x11, "PDP", 1, true, 0],
    [0x12, "PDE", 1, true, 0],
    [0x13, "PTE", 1, true, 0],
  ]);
  assertEquals(await device.vmm.call("mm_find", 4, [...ROOTS4]), first);
  await device.vmm.call("mm_destroy", first);
  assertEquals((await device.vmm.call("translate", second, GMA4))["shadow"], "0x100064");
  device.assertSound();
});
