import { assertEquals } from "@std/assert";
import type { Client } from "../../protocol/client.ts";
import { createDevice, INVALID_ADDR, type PpgttMm } from "../../mod.ts";
import { walkPpgtt } from "../../src/inspect/walk.ts";
import { Attached } from "./attached.ts";
import { GMA4, le64, ROOTS4, TREE4 } from "./guest_pages.ts";

/** Registers of the render engine, which are plain storage today. */
const PLAIN = 0x2030;
const IMR = 0x44304;
const IIR = 0x44308;
const IER = 0x4430c;
const GDRST = 0x941c;
const TLB = [0x4260, 0x4264, 0x4268, 0x426c, 0x4270];

async function read(vmm: Client, offset: number, size: 1 | 2 | 4 | 8 = 4): Promise<number | bigint> {
  return await vmm.call("mmio_read", 0, offset, size);
}

async function write(
  vmm: Client,
  offset: number,
  size: 1 | 2 | 4 | 8,
  value: number | bigint,
): Promise<void> {
  await vmm.call("mmio_write", 0, offset, size, value);
}

Deno.test("a plain register takes accesses of 1, 2, 4 and 8 bytes", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  assertEquals(await read(vmm, PLAIN, 8), 0);
  await write(vmm, PLAIN, 8, 0x8877_6655_4433_2211n);
  assertEquals([await read(vmm, PLAIN), await read(vmm, PLAIN + 4)], [0x4433_2211, 0x8877_6655]);
  await write(vmm, PLAIN + 1, 1, 0xaa);
  await write(vmm, PLAIN + 6, 2, 0xbbcc);
  assertEquals(await read(vmm, PLAIN, 8), 0xbbcc_6655_4433_aa11n);
  assertEquals([await read(vmm, PLAIN + 3, 1), await read(vmm, PLAIN + 2, 2)], [0x44, 0x4433]);
  assertEquals(await device.counter("badAccesses"), 0);
});

Deno.test("a register that acts takes the same sizes, 8 bytes being two registers", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  await write(vmm, IIR, 8, 0xffff_ffff_ffff_ffffn); // acknowledges nothing, enables all
  assertEquals([await read(vmm, IIR), await read(vmm, IER)], [0, 0xffff_ffff]);
  assertEquals(await read(vmm, IIR, 8), 0xffff_ffff_0000_0000n);
  await write(vmm, IMR, 1, 0);
  await write(vmm, IMR + 2, 2, 0x1234);
  assertEquals(await read(vmm, IMR), 0x1234_ff00);
  assertEquals([await read(vmm, IMR + 3, 1), await read(vmm, IMR, 2)], [0x12, 0xff00]);
});

Deno.test("an access that is not aligned to its size reads ones and writes nothing", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  for (const [offset, size] of [[IMR + 1, 2], [IMR + 2, 4], [IMR, 8]] as const) {
    assertEquals(
      await read(vmm, offset, size),
      [0, 0, 0xffff, 0, 0xffff_ffff, 0, 0, 0, 2n ** 64n - 1n][size],
    );
    await write(vmm, offset, size, 0);
  }
  assertEquals(await read(vmm, IMR), 0xffff_ffff);
  assertEquals(await device.counter("badAccesses"), 6);
});

Deno.test("registers end at 2 MiB, and nothing answers up to the GTT window", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  await write(vmm, 0x1f_fffc, 4, 0x1234);
  await write(vmm, 0x20_0000, 4, 0x1234);
  await write(vmm, 0x7f_fff8, 8, 0x1234);
  assertEquals(await read(vmm, 0x1f_fffc), 0x1234);
  assertEquals([await read(vmm, 0x20_0000), await read(vmm, 0x7f_fff8, 8)], [0, 0]);
  assertEquals(await device.counter("badAccesses"), 0);
});

Deno.test("the reset register reads 0 at once", async () => {
  await using device = await Attached.start();
  for (const value of [0x1, 0x20, 0xffff_ffff]) {
    await write(device.vmm, GDRST, 4, value);
    assertEquals(await read(device.vmm, GDRST), 0);
  }
});

Deno.test("a TLB invalidation reads 0 at once and is counted", async () => {
  await using device = await Attached.start();
  for (const offset of TLB) {
    await write(device.vmm, offset, 4, 1);
    assertEquals(await read(device.vmm, offset), 0);
  }
  assertEquals(await device.counter("tlbInvalidations"), 5);
  await write(device.vmm, 0x4274, 4, 1); // the next register is none of them
  assertEquals([await read(device.vmm, 0x4274), await device.counter("tlbInvalidations")], [1, 5]);
});

for (const offset of TLB) {
  Deno.test(`a TLB invalidation at 0x${offset.toString(16)} finds what an untracked guest changed`, () => {
    using device = createDevice({ tracking: "untracked" });
    device.mapRam({ gpa: 0, size: 0x400000 });
    for (const [gfn, page] of Object.entries(TREE4)) device.ram.write(Number(gfn) * 4096, page);
    const { gtt } = device.vgpu;
    const mm = gtt.createMm(4, new Uint32Array(le64(...ROOTS4).buffer));
    if (typeof mm === "number") throw new Error(`createMm: ${mm}`);
    const gpa = () => gtt.gmaToGpa(mm, GMA4 % 2 ** 32, Math.floor(GMA4 / 2 ** 32));
    device.ram.write(0x15 * 4096 + 4 * 8, le64(0x70003)); // another PTE table, for the same entry of
    device.ram.write(0x12 * 4096 + 3 * 8, le64(0x15003)); // the PDE table
    assertEquals(gpa(), 0x64000);
    device.vgpu.write(0, offset, 4, 1, 0);
    assertEquals(gpa(), 0x70000);
  });
}

Deno.test("a page table that cannot be read leads nowhere until it can, and is counted", () => {
  using device = createDevice({ tracking: "untracked", faults: true });
  device.mapRam({ gpa: 0, size: 0x400000 });
  for (const [gfn, page] of Object.entries(TREE4)) device.ram.write(Number(gfn) * 4096, page);
  const { gtt } = device.vgpu;
  const mm = gtt.createMm(4, new Uint32Array(le64(...ROOTS4).buffer)) as PpgttMm;
  const gpa = () => gtt.gmaToGpa(mm, GMA4 % 2 ** 32, Math.floor(GMA4 / 2 ** 32));
  device.faults!.setFrame("read", 0x12, true);
  assertEquals([gpa(), gtt.counters.badLooks], [0x64000, 0]); // as it was seen last
  device.vgpu.write(0, TLB[0]!, 4, 1, 0);
  assertEquals([gpa(), gtt.counters.badLooks], [INVALID_ADDR, 1]);
  device.faults!.setFrame("read", 0x12, false);
  device.vgpu.write(0, TLB[0]!, 4, 1, 0);
  assertEquals([gpa(), gtt.counters.badLooks], [0x64000, 1]);
});

Deno.test("TLB invalidations compare nothing by themselves, a walk only the tables that it comes to", () => {
  using device = createDevice({ tracking: "untracked" });
  device.mapRam({ gpa: 0, size: 0x400000 });
  for (const [gfn, page] of Object.entries(TREE4)) device.ram.write(Number(gfn) * 4096, page);
  const { vgpu } = device;
  const mm = vgpu.gtt.createMm(4, new Uint32Array(le64(...ROOTS4).buffer)) as PpgttMm;
  const before = vgpu.gtt.counters.compared;
  for (let i = 0; i < 1000; i++) vgpu.write(0, TLB[i % 5]!, 4, 1, 0);
  assertEquals([vgpu.counters.tlbInvalidations, vgpu.gtt.counters.compared], [1000, before]);
  for (let i = 0; i < 3; i++) vgpu.gtt.gmaToGpa(mm, GMA4 % 2 ** 32, Math.floor(GMA4 / 2 ** 32));
  assertEquals(vgpu.gtt.counters.compared, before + 3); // three directories; the leaf is read live
});

Deno.test("a TLB invalidation looks at once where RAM can only be read while a message is handled", () => {
  using device = createDevice({ tracking: "untracked" });
  const bytes = new Uint8Array(0x100000);
  for (const [gfn, page] of Object.entries(TREE4)) bytes.set(page, Number(gfn) * 4096);
  let isHandling = true;
  const remote = {
    read: (gpa: number, out: Uint8Array) =>
      isHandling && (out.set(bytes.subarray(gpa, gpa + out.length)), true),
    write: () => false,
  };
  device.mapRam({ gpa: 0, size: bytes.length, remote });
  const { gtt } = device.vgpu;
  const mm = gtt.createMm(4, new Uint32Array(le64(...ROOTS4).buffer)) as PpgttMm;
  bytes.set(le64(0x15003), 0x12 * 4096 + 3 * 8); // the PDE table leads to another PTE table
  bytes.set(le64(0x70003), 0x15 * 4096 + 4 * 8);
  device.vgpu.write(0, TLB[0]!, 4, 1, 0);
  isHandling = false;
  assertEquals(walkPpgtt(gtt, mm, GMA4 % 2 ** 32, Math.floor(GMA4 / 2 ** 32)).shadow, "0x100070");
  assertEquals(gtt.counters.badLooks, 0);
});

Deno.test("a TLB invalidation of a guest whose stores are trapped leaves out-of-sync pages to the workload", async () => {
  await using device = await Attached.start({ device: { oos: true } });
  const { vmm } = device;
  for (const [gfn, page] of Object.entries(TREE4)) await vmm.call("mem_write", Number(gfn) * 4096, page);
  await vmm.call("mm_create", 4, [...ROOTS4]);
  for (let i = 0; i < 3; i++) await vmm.call("mem_write", 0x13 * 4096 + 32, le64(0x70003 + i * 4096));
  await write(vmm, TLB[0]!, 4, 1);
  assertEquals((await vmm.call("state"))["oos"], [0x13]);
});

Deno.test("the GGTT's flush register is plain storage", async () => {
  await using device = await Attached.start();
  await write(device.vmm, 0x10_1008, 4, 1);
  assertEquals(await read(device.vmm, 0x10_1008), 1);
});
