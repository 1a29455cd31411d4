import { assertEquals } from "@std/assert";
import { Attached } from "./attached.ts";
import { announceTree4, GMA3_SLOT2, GMA4, le64, PAGE, TREE3, TREE4, writePages } from "./guest_pages.ts";
import type { Client } from "../../protocol/client.ts";

const PVINFO = 0x78000;
const NOTIFY = PVINFO + 0x818;
const PDP = PVINFO + 0x838;

/** Tells the device of a page table as a guest does: low and high half of each root, then the message. */
async function announce(vmm: Client, roots: readonly bigint[], message: number): Promise<void> {
  const writes = roots.flatMap((root, slot): [number, 4, bigint][] => [
    [PDP + 8 * slot, 4, root & 0xffffffffn],
    [PDP + 8 * slot + 4, 4, root >> 32n],
  ]);
  await vmm.call("mmio_write_many", 0, [...writes, [NOTIFY, 4, BigInt(message)]]);
}

/** Handles and references of the announced page tables. */
async function mms(vmm: Client): Promise<unknown> {
  return ((await vmm.call("state"))["mms"] as unknown[][]).map(([id, level, refs]) => [id, level, refs]);
}

Deno.test("PVINFO tells magic, version, capabilities and the vGPU's parts", async () => {
  await using device = await Attached.start();
  const read = (offset: number, size: 2 | 4 | 8) => device.vmm.call("mmio_read", 0, PVINFO + offset, size);

  assertEquals(await read(0, 8), 0x4776544776544776n);
  assertEquals(await read(8, 2), 1);
  assertEquals(await read(0xa, 2), 0);
  assertEquals(await read(0x10, 4), 0xc);
  assertEquals(await read(0x40, 4), 64 << 20);
  assertEquals(await read(0x44, 4), 64 << 20);
  assertEquals(await read(0x48, 4), 640 << 20);
  assertEquals(await read(0x4c, 4), 384 << 20);
  assertEquals(await read(0x50, 4), 4);
  assertEquals(await device.counter("badPvinfoReads"), 0);
});

Deno.test("PVINFO tells the parts and fences that the device was started with", async () => {
  const parts = {
    apertureBase: 0,
    apertureSize: 1 << 20,
    hiddenBase: 256 << 20,
    hiddenSize: 2 << 20,
    fences: 8,
  };
  await using device = await Attached.start({ device: parts });
  const read = (offset: number) => device.vmm.call("mmio_read", 0, PVINFO + offset, 4);

  assertEquals(await read(0x40), 0);
  assertEquals(await read(0x44), 1 << 20);
  assertEquals(await read(0x48), 256 << 20);
  assertEquals(await read(0x4c), 2 << 20);
  assertEquals(await read(0x50), 8);
});

Deno.test("g2v creates a 4-level page table on message 4 and ends it on message 5", async () => {
  await using device = await Attached.start();
  await writePages(device.vmm, TREE4);

  await announce(device.vmm, [0x10000n, 0n, 0n, 0n], 4);
  assertEquals(await mms(device.vmm), [[0, 4, 1]]);
  assertEquals(await device.vmm.call("gma_to_gpa", 0, GMA4 + 0x123), 0x64123);
  device.assertSound();

  await announce(device.vmm, [0x10000n, 0n, 0n, 0n], 5);
  assertEquals(await mms(device.vmm), []);
  assertEquals(await device.counter("shadowTables"), 0);
  assertEquals(await device.counter("g2vNotifications"), 2);
  assertEquals(await device.counter("badG2vNotifications"), 0);
});

Deno.test("g2v creates a 3-level page table on message 2 and ends it on message 3", async () => {
  await using device = await Attached.start();
  await writePages(device.vmm, TREE3);

  await announce(device.vmm, [0x21001n, 0n, 0x24001n, 0n], 2);
  assertEquals(await mms(device.vmm), [[0, 3, 1]]);
  assertEquals(await device.vmm.call("gma_to_gpa", 0, GMA3_SLOT2 + 8), 0x67008);

  await announce(device.vmm, [0x21001n, 0n, 0x24001n, 0n], 3);
  assertEquals(await mms(device.vmm), []);
});

Deno.test("g2v counts references when the same page table is announced twice", async () => {
  await using device = await Attached.start();
  await writePages(device.vmm, TREE4);

  await announce(device.vmm, [0x10000n, 0n, 0n, 0n], 4);
  await announce(device.vmm, [0x10000n, 0n, 0n, 0n], 4);
  assertEquals(await mms(device.vmm), [[0, 4, 2]]);
  await announce(device.vmm, [0x10000n, 0n, 0n, 0n], 5);
  assertEquals(await mms(device.vmm), [[0, 4, 1]]);
});

Deno.test("g2v ignores roots 1 to 3 of a 4-level page table", async () => {
  await using device = await Attached.start();
  await writePages(device.vmm, TREE4);

  await announce(device.vmm, [0x10000n, 0x99999000n, 0xfffff000n, 0x13000n], 4);
  assertEquals(await device.counter("shadowTables"), 4);
  await announce(device.vmm, [0x10000n, 1n, 2n, 3n], 5);
  assertEquals(await mms(device.vmm), []);
});

Deno.test("g2v takes both halves of the roots with 8-byte writes", async () => {
  await using device = await Attached.start();
  await writePages(device.vmm, TREE4);

  await device.vmm.call("mmio_write", 0, PDP, 8, 0x10000);
  await device.vmm.call("mmio_write", 0, NOTIFY, 4, 4);
  assertEquals(await device.vmm.call("mm_find", 4, [0x10000, 0, 0, 0]), 0);
});

Deno.test("g2v counts a message that fails or is not known and goes on", async () => {
  await using device = await Attached.start();
  await announce(device.vmm, [0x10000n, 0n, 0n, 0n], 5); // never created
  assertEquals(await device.counter("badG2vNotifications"), 1);
  await announce(device.vmm, [0x7fff_ffff_f000n, 0n, 0n, 0n], 4); // no RAM there
  assertEquals(await device.counter("badG2vNotifications"), 2);
  await announce(device.vmm, [0n, 0n, 0n, 0n], 8);
  await announce(device.vmm, [0n, 0n, 0n, 0n], 0xffffffff);
  await announce(device.vmm, [0n, 0n, 0n, 0n], 0);
  assertEquals(await device.counter("badG2vNotifications"), 5);
  assertEquals(await mms(device.vmm), []);
  device.assertSound();
});

Deno.test("g2v accepts the legacy and context messages without doing anything", async () => {
  await using device = await Attached.start();
  for (const message of [1, 6, 7]) await device.vmm.call("mmio_write", 0, NOTIFY, 4, message);
  assertEquals(await device.counter("g2vNotifications"), 3);
  assertEquals(await device.counter("badG2vNotifications"), 0);
});

Deno.test("PVINFO counts reads that mean nothing and answers them", async () => {
  await using device = await Attached.start();
  assertEquals(await device.vmm.call("mmio_read", 0, PVINFO + 0x14, 4), 0);
  assertEquals(await device.vmm.call("mmio_read", 0, PVINFO + 0x830, 4), 0xffffffff);
  assertEquals(await device.vmm.call("mmio_read", 0, PVINFO + 0xff8, 8), 0);
  assertEquals(await device.counter("badPvinfoReads"), 3);
  assertEquals(await device.vmm.call("mmio_read", 0, PVINFO + 0x81c, 4), 0);
  assertEquals(await device.counter("badPvinfoReads"), 3);
});

Deno.test("PVINFO drops and counts writes to registers that cannot be written", async () => {
  await using device = await Attached.start();
  for (const offset of [0x0, 0x10, 0x40, 0x50, 0x81c, 0x800, 0x860, 0xffc]) {
    const before = await device.vmm.call("mmio_read", 0, PVINFO + offset, 4);
    await device.vmm.call("mmio_write", 0, PVINFO + offset, 4, 0x12345678);
    assertEquals(await device.vmm.call("mmio_read", 0, PVINFO + offset, 4), before);
  }
  assertEquals(await device.counter("badPvinfoWrites"), 8);
});

Deno.test("PVINFO keeps what is written to the registers that can be written", async () => {
  await using device = await Attached.start();
  for (const offset of [0x804, 0x830, 0x834, 0x838, 0x854, 0x858, 0x85c]) {
    await device.vmm.call("mmio_write", 0, PVINFO + offset, 4, offset + 0x51000000);
    assertEquals(await device.vmm.call("mmio_read", 0, PVINFO + offset, 4), offset + 0x51000000);
  }
  assertEquals(await device.counter("badPvinfoWrites"), 0);
});

Deno.test("PVINFO gives up on a guest that says it is out of resources", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);

  await device.vmm.call("mmio_write", 0, PVINFO + 0x808, 4, 1);
  await device.vmm.call("mmio_write", 0, PVINFO + 0x814, 4, 1);
  assertEquals(await device.counter("failsafes"), 1);
  assertEquals((await device.vmm.call("state"))["failsafe"], true);

  // Nothing is emulated any more: a message only stays where it was written ...
  await announce(device.vmm, [0x10000n, 0n, 0n, 0n], 4);
  assertEquals(await mms(device.vmm), [[mm, 4, 1]]);
  assertEquals(await device.vmm.call("mmio_read", 0, NOTIFY, 4), 4);
  // ... and an entry of the GTT window is kept without effect on the host's table.
  await device.vmm.call("mmio_write", 0, 0x820000, 8, 0x64001);
  assertEquals(await device.vmm.call("mmio_read", 0, 0x820000, 8), 0x64001);
  assertEquals((await device.vmm.call("translate", "ggtt", 0x4000000))["shadow"], "S");

  // A store to a table page ends the whole shadow instead of being followed (engine.md §15, 23).
  assertEquals(await device.vmm.call("mem_write", 0x13 * PAGE + 32, le64(0x70083)), 0);
  assertEquals(await device.counter("shadowTables"), 0);
  assertEquals(await device.counter("protectedFrames"), 0);
  device.assertSound();
});

Deno.test("reset leaves failsafe mode and puts PVINFO back", async () => {
  await using device = await Attached.start();
  await device.vmm.call("mmio_write", 0, PVINFO + 0x808, 4, 1);
  await device.vmm.call("mmio_write", 0, PVINFO, 8, 0);
  assertEquals(await device.vmm.call("mmio_read", 0, PVINFO, 8), 0); // plain storage

  await device.vmm.call("reset");
  assertEquals((await device.vmm.call("state"))["failsafe"], false);
  assertEquals(await device.vmm.call("mmio_read", 0, PVINFO, 8), 0x4776544776544776n);
  await writePages(device.vmm, TREE4);
  await announce(device.vmm, [0x10000n, 0n, 0n, 0n], 4);
  assertEquals(await mms(device.vmm), [[0, 4, 1]]);
});
