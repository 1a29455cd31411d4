import { assertEquals } from "@std/assert";
import { Attached, refusal } from "./attached.ts";
import { announceTree4, GMA4, le64, PAGE, ROOTS4 } from "./guest_pages.ts";

const ENTRY = 0x800000 + 8 * 0x4000;
const GMA = 0x4000000;

for (const method of ["reset", "reset_gtt"] as const) {
  Deno.test(`${method} ends every page table, pinned or not, and unprotects their pages`, async () => {
    await using device = await Attached.start({ device: { oos: true } });
    const { vmm } = device;
    const mm = await announceTree4(vmm);
    await vmm.call("mm_pin", mm);
    await vmm.call("mm_ref", mm);
    for (let i = 0; i < 2; i++) await vmm.call("mem_write", 0x13 * PAGE + 32, le64(0x70003)); // out of sync
    device.notices.length = 0;

    await vmm.call(method);
    assertEquals(device.notices.toSorted(([, a], [, b]) => Number(a) - Number(b)), [
      ["page_track", 0x10, false],
      ["page_track", 0x11, false],
      ["page_track", 0x12, false],
    ]);
    const { mms, spts, oos, oosUse, post, lru } = await vmm.call("state");
    assertEquals([mms, spts, oos, oosUse, post, lru], [[], [], [], [], [], []]);
    assertEquals((await refusal(vmm.call("mm_unpin", mm))).code, "ENOENT");
    assertEquals((await refusal(vmm.call("gma_to_gpa", mm, GMA4))).code, "ENOENT");
    assertEquals(await device.counter("freeOosPages"), 8192);
    device.assertSound();

    // Handles are never given again.
    assertEquals(await vmm.call("mm_create", 4, [...ROOTS4]), mm + 1);
  });

  Deno.test(`${method} keeps the guest's view of the GGTT and aims the host's at scratch`, async () => {
    await using device = await Attached.start();
    const { vmm } = device;
    await vmm.call("mmio_write", 0, ENTRY, 8, 0x64001);
    await vmm.call("mem_write", 0x64000, le64(7));
    await vmm.call(method);
    assertEquals(await vmm.call("mmio_read", 0, ENTRY, 8), 0x64001);
    assertEquals(await vmm.call("gma_to_gpa", "ggtt", GMA), 0x64000);
    assertEquals((await vmm.call("translate", "ggtt", GMA))["shadow"], "S");
    assertEquals(await vmm.call("mmio_read", 2, GMA, 8), 0);
  });

  Deno.test(`${method} leaves guest RAM and user tracks alone`, async () => {
    await using device = await Attached.start();
    const { vmm } = device;
    const track = await vmm.call("init_page_track", 0x40);
    await vmm.call("enable_page_track", track);
    await vmm.call(method);
    device.notices.length = 0;
    await vmm.call("mem_write", 0x40000, le64(7));
    assertEquals(device.notices, [["tracked_write", track, 0x40, 0x40000, 8]]);
    assertEquals(await vmm.call("mem_read", 0x40000, 8), le64(7));
    device.assertSound();
  });
}

Deno.test("reset_ggtt aims the host's entries at scratch and touches no page table", async () => {
  await using device = await Attached.start({ debug: true });
  const { vmm } = device;
  const mm = await announceTree4(vmm);
  await vmm.call("mmio_write", 0, ENTRY, 8, 0x64003);
  await vmm.call("reset_ggtt");
  assertEquals(await vmm.call("debug_host_ggtt", 0x4000), { e: ["S", "0x1"] });
  assertEquals(await vmm.call("mmio_read", 0, ENTRY, 8), 0x64003);
  assertEquals(await vmm.call("gma_to_gpa", mm, GMA4), 0x64000);
});

Deno.test("reset puts registers back", async () => {
  await using device = await Attached.start();
  await device.vmm.call("mmio_write", 0, 0x2030, 4, 0x1234);
  await device.vmm.call("reset");
  assertEquals(await device.vmm.call("mmio_read", 0, 0x2030, 4), 0);
});

Deno.test("init and clean work in their order and refuse any other", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  const mm = await announceTree4(vmm);
  assertEquals((await refusal(vmm.call("gvt_init_gtt"))).code, "EBUSY");
  assertEquals((await refusal(vmm.call("vgpu_init_gtt"))).code, "EBUSY");
  assertEquals((await refusal(vmm.call("gvt_clean_gtt"))).code, "EBUSY"); // a vGPU is set up

  await vmm.call("vgpu_clean_gtt");
  assertEquals((await refusal(vmm.call("vgpu_clean_gtt"))).code, "ENODEV");
  assertEquals((await refusal(vmm.call("mm_create", 4, null))).code, "ENODEV");
  assertEquals((await refusal(vmm.call("mm_pin", mm))).code, "ENOENT");
  assertEquals((await refusal(vmm.call("reset_gtt"))).code, "ENODEV");
  assertEquals((await refusal(vmm.call("gtt_mmio_write", ENTRY, 8, 1))).code, "ENODEV");
  assertEquals(await vmm.call("gma_to_gpa", "ggtt", GMA), null);
  assertEquals(await device.counter("protectedFrames"), 0);

  await vmm.call("gvt_clean_gtt");
  assertEquals((await refusal(vmm.call("vgpu_init_gtt"))).code, "ENODEV");
  await vmm.call("gvt_init_gtt");
  await vmm.call("vgpu_init_gtt");
  assertEquals(await vmm.call("gtt_mmio_read", ENTRY, 8), 0); // a fresh table
  assertEquals(await vmm.call("mm_create", 4, [...ROOTS4]), mm + 1);
  device.assertSound();
});

Deno.test("init fails on a platform that is not supported, and without memory, and can be tried again", async () => {
  await using device = await Attached.start({ debug: true });
  const { vmm } = device;
  await vmm.call("vgpu_clean_gtt");
  await vmm.call("gvt_clean_gtt");
  await vmm.call("debug_inject", { kind: "platform", n: 0 });
  assertEquals((await refusal(vmm.call("gvt_init_gtt"))).code, "ENODEV");
  await vmm.call("debug_inject", { kind: "platform", n: 1 });
  await vmm.call("debug_inject", { kind: "alloc", n: 1 });
  assertEquals((await refusal(vmm.call("gvt_init_gtt"))).code, "ENOMEM");
  await vmm.call("gvt_init_gtt");
  await vmm.call("debug_inject", { kind: "dma", n: 1 });
  assertEquals((await refusal(vmm.call("vgpu_init_gtt"))).code, "ENOMEM");
  await vmm.call("vgpu_init_gtt");
  const mm = await announceTree4(vmm);
  assertEquals(await vmm.call("gma_to_gpa", mm, GMA4), 0x64000);
});

Deno.test("ram_map after reset does not bring back GGTT mappings that the reset removed", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  await vmm.call("mmio_write", 0, ENTRY, 8, 0x5001);
  await vmm.call("reset");
  await vmm.call("ram_map", { gpa: 0x10000000, size: PAGE });
  const { guest, shadow } = await vmm.call("translate", "ggtt", GMA);
  assertEquals([guest, shadow], [0x5000, "S"]); // the guest's view survives, the hardware's mapping does not
});
