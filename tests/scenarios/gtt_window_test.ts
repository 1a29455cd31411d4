import { assertEquals } from "@std/assert";
import { Attached, refusal } from "./attached.ts";

/** First entry of the vGPU's aperture part (64 MiB) and of its hidden part (640 MiB). */
const APERTURE = 0x800000 + 8 * 0x4000;
const HIDDEN = 0x800000 + 8 * 0x28000;
const ONES = 0xffff_ffff_ffff_ffffn;

Deno.test("the GTT window keeps 8-byte entries and leads to their frames", async () => {
  await using device = await Attached.start();
  await device.vmm.call("mmio_write", 0, APERTURE, 8, 0x64001);
  await device.vmm.call("mmio_write", 0, HIDDEN, 8, 0x8000_0000_0006_5003n);

  assertEquals(await device.vmm.call("mmio_read", 0, APERTURE, 8), 0x64001);
  assertEquals(await device.vmm.call("mmio_read", 0, HIDDEN, 8), 0x8000_0000_0006_5003n);
  assertEquals(await device.vmm.call("gma_to_gpa", "ggtt", 0x4000abc), 0x64abc);
  assertEquals(await device.vmm.call("gma_to_gpa", "ggtt", 0x28000abc), 0x65abc);
  const walk = await device.vmm.call("translate", "ggtt", 0x28000000);
  assertEquals([walk["guest"], walk["shadow"], walk["agrees"]], [0x65000, "0x100065", true]);
});

Deno.test("the GTT window takes an entry as two halves, each at once", async () => {
  await using device = await Attached.start();
  await device.vmm.call("mmio_write", 0, APERTURE, 4, 0x64001);
  assertEquals((await device.vmm.call("translate", "ggtt", 0x4000000))["shadow"], "0x100064");
  await device.vmm.call("mmio_write", 0, APERTURE + 4, 4, 1); // frame 0x100064 of the guest, which is no RAM
  assertEquals(await device.vmm.call("mmio_read", 0, APERTURE, 8), 0x1_0006_4001);
  assertEquals(await device.vmm.call("mmio_read", 0, APERTURE, 4), 0x64001);
  assertEquals(await device.vmm.call("mmio_read", 0, APERTURE + 4, 4), 1);
  assertEquals((await device.vmm.call("translate", "ggtt", 0x4000000))["shadow"], "S");
  await device.vmm.call("mmio_write", 0, APERTURE + 4, 4, 0);
  assertEquals((await device.vmm.call("translate", "ggtt", 0x4000000))["shadow"], "0x100064");
});

Deno.test("the GTT window aims an entry of a frame that is no RAM at scratch and keeps the guest's value", async () => {
  await using device = await Attached.start();
  await device.vmm.call("mmio_write", 0, APERTURE, 8, 0x400001);
  assertEquals(await device.vmm.call("mmio_read", 0, APERTURE, 8), 0x400001);
  const walk = await device.vmm.call("translate", "ggtt", 0x4000000);
  assertEquals([walk["shadow"], walk["agrees"]], ["S", true]);
  assertEquals(await device.counter("badLeaves"), 1);
});

Deno.test("the GTT window drops and counts stores outside the vGPU's parts; reads give 0", async () => {
  await using device = await Attached.start();
  // Just below and just above each part, the first and the last entry of the window.
  const outside = [
    APERTURE - 8,
    0x800000 + 8 * 0x8000,
    HIDDEN - 8,
    0x800000 + 8 * 0x40000,
    0x800000,
    0xfffff8,
  ];
  for (const offset of outside) {
    await device.vmm.call("mmio_write", 0, offset, 8, 0x64001);
    assertEquals(await device.vmm.call("mmio_read", 0, offset, 8), 0);
  }
  assertEquals(await device.counter("badGgttWrites"), outside.length);
  assertEquals(await device.counter("badAccesses"), 0);
});

Deno.test("the GTT window accepts the first and last entry of each part", async () => {
  await using device = await Attached.start();
  for (const offset of [APERTURE, 0x800000 + 8 * 0x7fff, HIDDEN, 0x800000 + 8 * 0x3ffff]) {
    await device.vmm.call("mmio_write", 0, offset, 8, 0x64001);
    assertEquals(await device.vmm.call("mmio_read", 0, offset, 8), 0x64001);
  }
  assertEquals(await device.counter("badGgttWrites"), 0);
});

Deno.test("the GTT window answers accesses of other sizes or alignments with ones, drops and counts them", async () => {
  await using device = await Attached.start();
  await device.vmm.call("mmio_write", 0, APERTURE, 8, 0x64001);
  const accesses: readonly (readonly [offset: number, size: 1 | 2 | 4 | 8, ones: number | bigint])[] = [
    [APERTURE, 1, 0xff],
    [APERTURE, 2, 0xffff],
    [APERTURE + 2, 4, 0xffffffff],
    [APERTURE + 1, 8, ONES],
    [APERTURE + 4, 8, ONES],
  ];
  for (const [offset, size, ones] of accesses) {
    assertEquals(await device.vmm.call("mmio_read", 0, offset, size), ones);
    await device.vmm.call("mmio_write", 0, offset, size, 0);
  }
  assertEquals(await device.counter("badAccesses"), 2 * accesses.length);
  assertEquals(await device.vmm.call("mmio_read", 0, APERTURE, 8), 0x64001);
  assertEquals(await device.vmm.call("mmio_read", 0, APERTURE + 8, 8), 0);
});

Deno.test("mmio_read refuses what no region has and the session lives", async () => {
  await using device = await Attached.start();
  assertEquals((await refusal(device.vmm.call("mmio_read", 0, 0xfffffc, 8))).code, "EINVAL");
  assertEquals((await refusal(device.vmm.call("mmio_read", 1, 0, 4))).code, "EINVAL");
  assertEquals((await refusal(device.vmm.call("mmio_write", 7, 0xfe, 4, 0))).code, "EINVAL");
  assertEquals((await refusal(device.vmm.call("mmio_read", 0, 2 ** 51, 4))).code, "EINVAL");
  assertEquals(await device.vmm.call("mmio_read", 0, 0xfffff8, 8), 0);
});

Deno.test("mmio_write_many carries its stores out in order", async () => {
  await using device = await Attached.start();
  await device.vmm.call("mmio_write_many", 0, [
    [APERTURE, 8, 0x64001],
    [APERTURE + 8, 8, 0x65001],
    [APERTURE, 8, 0x66001],
  ]);
  assertEquals(await device.vmm.call("gma_to_gpa", "ggtt", 0x4000000), 0x66000);
  assertEquals(await device.vmm.call("gma_to_gpa", "ggtt", 0x4001000), 0x65000);
});

Deno.test("mmio_write takes effect as a notification, before the next call", async () => {
  await using device = await Attached.start();
  device.vmm.notify("mmio_write", 0, APERTURE, 8, 0x64001);
  device.vmm.notify("mmio_write", 0, APERTURE, 8, 0x65001);
  assertEquals(await device.vmm.call("mmio_read", 0, APERTURE, 8), 0x65001);
});

Deno.test("registers keep what is written; between them and the window nothing answers", async () => {
  await using device = await Attached.start();
  await device.vmm.call("mmio_write", 0, 0x2000, 8, 0x1122334455667788n);
  assertEquals(await device.vmm.call("mmio_read", 0, 0x2000, 4), 0x55667788);
  assertEquals(await device.vmm.call("mmio_read", 0, 0x2004, 2), 0x3344);
  assertEquals(await device.vmm.call("mmio_read", 0, 0x2007, 1), 0x11);
  await device.vmm.call("mmio_write", 0, 0x200000, 4, 5);
  assertEquals(await device.vmm.call("mmio_read", 0, 0x200000, 4), 0);
  assertEquals(await device.counter("badAccesses"), 0);
});

Deno.test("gtt_mmio_read and gtt_mmio_write are the engine's functions with its result codes", async () => {
  await using device = await Attached.start();
  await device.vmm.call("gtt_mmio_write", APERTURE, 8, 0x64001);
  assertEquals(await device.vmm.call("gtt_mmio_read", APERTURE, 4), 0x64001);
  for (const [offset, bytes] of [[APERTURE, 2], [APERTURE, 0], [APERTURE, 16], [APERTURE + 4, 8]] as const) {
    assertEquals((await refusal(device.vmm.call("gtt_mmio_read", offset, bytes))).code, "EINVAL");
    assertEquals((await refusal(device.vmm.call("gtt_mmio_write", offset, bytes, 0))).code, "EINVAL");
  }
});

Deno.test("ggtt_validate_range and the address functions keep to the two windows", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  assertEquals(await vmm.call("ggtt_validate_range", 0x4000000, 0x4000000), true);
  assertEquals(await vmm.call("ggtt_validate_range", 0x4000000, 0x4000001), false);
  assertEquals(await vmm.call("ggtt_validate_range", 0x7ffffff, 0), true);
  assertEquals(await vmm.call("ggtt_validate_range", 0x8000000, 0), false);
  assertEquals(await vmm.call("ggtt_validate_range", 0x4000000, ONES), false);
  assertEquals(await vmm.call("ggtt_validate_range", ONES, 2), false);
  // One end in each window: not a range (engine.md §15, 3).
  assertEquals(await vmm.call("ggtt_validate_range", 0x7fff000, 0x28000000 - 0x7fff000 + 0x1000), false);
  assertEquals(await vmm.call("ggtt_gmadr_g2h", 0x4000123), 0x4000123);
  assertEquals((await refusal(vmm.call("ggtt_gmadr_g2h", 0))).code, "EACCES");
  assertEquals(await vmm.call("ggtt_gmadr_h2g", 0x1000), 0x4001000);
  assertEquals(await vmm.call("ggtt_gmadr_h2g", 0x10001000), 0x28001000);
  assertEquals((await refusal(vmm.call("ggtt_gmadr_h2g", 0x1_0000_0000))).code, "EACCES");
  assertEquals(await vmm.call("ggtt_index_g2h", 0x4001), 0x4001);
  assertEquals(await vmm.call("ggtt_index_h2g", 1), 0x4001);
  assertEquals((await refusal(vmm.call("ggtt_index_g2h", 0))).code, "EACCES");
});
