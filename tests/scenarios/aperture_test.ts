import { assertEquals } from "@std/assert";
import { Attached } from "./attached.ts";
import { announceTree4, GMA4, le64, PAGE } from "./guest_pages.ts";

/** First address of the vGPU's part of the aperture, and its entry in the GTT window. */
const GMA = 0x4000000;
const ENTRY = 0x800000 + 8 * 0x4000;

/** A device whose first two aperture pages lead to guest frames 0x64 and 0x70. */
async function startMapped(): Promise<Attached> {
  const device = await Attached.start();
  await device.vmm.call("mmio_write_many", 0, [[ENTRY, 8, 0x64001], [ENTRY + 8, 8, 0x70001]]);
  return device;
}

Deno.test("the aperture leads through the GGTT to guest RAM, both ways", async () => {
  await using device = await startMapped();
  await device.vmm.call("mem_write", 0x64123, new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]));
  assertEquals(await device.vmm.call("mmio_read", 2, GMA + 0x123, 8), 0x0807060504030201n);
  assertEquals(await device.vmm.call("mmio_read", 2, GMA + 0x125, 2), 0x0403);
  assertEquals(await device.vmm.call("mmio_read", 2, GMA + 0x124, 1), 2);

  await device.vmm.call("mmio_write", 2, GMA + 0xff8, 4, 0xa1b2c3d4);
  assertEquals(
    await device.vmm.call("mem_read", 0x64ff6, 8),
    new Uint8Array([0, 0, 0xd4, 0xc3, 0xb2, 0xa1, 0, 0]),
  );
  assertEquals(await device.counter("badApertureAccesses"), 0);
});

Deno.test("the aperture follows an access that crosses into the next page", async () => {
  await using device = await startMapped();
  await device.vmm.call("mmio_write", 2, GMA + 0xffd, 8, 0x8877665544332211n);
  assertEquals(await device.vmm.call("mem_read", 0x64ffd, 3), new Uint8Array([0x11, 0x22, 0x33]));
  assertEquals(await device.vmm.call("mem_read", 0x70000, 5), new Uint8Array([0x44, 0x55, 0x66, 0x77, 0x88]));
  assertEquals(await device.vmm.call("mem_read", 0x65000, 1), new Uint8Array([0]));
  assertEquals(await device.vmm.call("mmio_read", 2, GMA + 0xffd, 8), 0x8877665544332211n);
  assertEquals(await device.vmm.call("mmio_read", 2, GMA + 0xfff, 4), 0x66554433);
});

Deno.test("the aperture gives 0 and drops writes where no entry leads to RAM, and counts them", async () => {
  await using device = await startMapped();
  // Entry on scratch, outside the vGPU's part, past both.
  for (const gma of [GMA + 2 * PAGE, 0, 0xffffff8]) {
    await device.vmm.call("mmio_write", 2, gma, 8, 0x1234);
    assertEquals(await device.vmm.call("mmio_read", 2, gma, 8), 0);
  }
  assertEquals(await device.counter("badApertureAccesses"), 6);
});

Deno.test("the aperture serves the mapped half of an access whose other half leads nowhere", async () => {
  await using device = await startMapped();
  await device.vmm.call("mmio_write", 2, GMA + PAGE + 0xffe, 4, 0x44332211);
  assertEquals(await device.vmm.call("mem_read", 0x70ffe, 2), new Uint8Array([0x11, 0x22]));
  assertEquals(await device.vmm.call("mmio_read", 2, GMA + PAGE + 0xffe, 4), 0x2211);
  assertEquals(await device.counter("badApertureAccesses"), 2);
});

Deno.test("the aperture fails harmlessly when the RAM behind an entry was unmapped later", async () => {
  await using device = await Attached.start({ ram: 0x64000 });
  await device.vmm.call("ram_map", { gpa: 0x64000, size: PAGE });
  await device.vmm.call("mmio_write", 0, ENTRY, 8, 0x64001);
  await device.vmm.call("mmio_write", 2, GMA, 4, 0x1234);
  assertEquals(await device.vmm.call("mmio_read", 2, GMA, 4), 0x1234);

  await device.vmm.call("ram_unmap", { gpa: 0x64000, size: PAGE });
  assertEquals(await device.vmm.call("mmio_read", 2, GMA, 4), 0);
  await device.vmm.call("mmio_write", 2, GMA, 4, 0x5678);
  assertEquals(await device.counter("badApertureAccesses"), 2);
});

Deno.test("the aperture does not lead into other RAM that has the host frame of what was unmapped", async () => {
  await using device = await Attached.start({ ram: 0x64000 });
  await device.vmm.call("ram_map", { gpa: 0x64000, size: PAGE });
  await device.vmm.call("mmio_write", 0, ENTRY, 8, 0x64001);
  await device.vmm.call("ram_unmap", { gpa: 0x64000, size: PAGE });
  await device.vmm.call("ram_map", { gpa: 0x800000, size: PAGE, mfn: 0x100064 });
  await device.vmm.call("mem_write", 0x800000, le64(7));

  assertEquals(await device.vmm.call("mmio_read", 2, GMA, 8), 0);
  await device.vmm.call("mmio_write", 2, GMA, 8, 9);
  assertEquals(await device.vmm.call("mem_read", 0x800000, 8), le64(7));
});

Deno.test("the aperture leads to a frame's new RAM after it was unmapped and mapped again", async () => {
  await using device = await Attached.start({ ram: 0x64000 });
  await device.vmm.call("ram_map", { gpa: 0x64000, size: PAGE });
  await device.vmm.call("mmio_write", 0, ENTRY, 8, 0x64001);
  await device.vmm.call("ram_unmap", { gpa: 0x64000, size: PAGE });
  await device.vmm.call("ram_map", { gpa: 0x64000, size: PAGE, mfn: 0x500000 });
  await device.vmm.call("mem_write", 0x64000, le64(7));
  assertEquals(await device.vmm.call("mmio_read", 2, GMA, 8), 7);
});

Deno.test("the aperture drops a write to read-only RAM", async () => {
  await using device = await Attached.start({ ram: 0 });
  await device.vmm.call("ram_map", { gpa: 0, size: PAGE, readonly: true });
  await device.vmm.call("mmio_write", 0, ENTRY, 8, 0x1);
  await device.vmm.call("mmio_write", 2, GMA, 4, 0x1234);
  assertEquals(await device.vmm.call("mmio_read", 2, GMA, 4), 0);
  assertEquals(await device.counter("badApertureAccesses"), 1);
});

Deno.test("a store through the aperture into a table page keeps the shadow right", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  await device.vmm.call("mmio_write", 0, ENTRY, 8, 0x13001); // the page of the PTE table
  await device.vmm.call("mmio_write", 2, GMA + 8 * 4, 8, 0x70083);

  const walk = await device.vmm.call("translate", mm, GMA4);
  assertEquals([walk["guest"], walk["shadow"], walk["agrees"]], [0x70000, "0x100070", true]);
  assertEquals(await device.counter("trappedStores"), 1);
  device.assertSound();
});

Deno.test("a half store through the aperture into a table page waits for the flush", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  await device.vmm.call("mmio_write", 0, ENTRY, 8, 0x13001);
  await device.vmm.call("mmio_write", 2, GMA + 8 * 4, 4, 0x70083);
  assertEquals((await device.vmm.call("translate", mm, GMA4))["shadow"], "sPTE");
  assertEquals((await device.vmm.call("state"))["post"], [[0x13, [4]]]);

  await device.vmm.call("flush_post_shadow");
  assertEquals((await device.vmm.call("translate", mm, GMA4))["shadow"], "0x100070");
  device.assertSound();
});
