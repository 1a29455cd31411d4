import { assertEquals } from "@std/assert";
import type { Client } from "../../protocol/client.ts";
import { Attached } from "./attached.ts";

type Size = 1 | 2 | 4 | 8;

async function read(vmm: Client, offset: number, size: Size): Promise<number> {
  return Number(await vmm.call("mmio_read", 7, offset, size));
}

async function write(vmm: Client, offset: number, size: Size, value: number): Promise<void> {
  await vmm.call("mmio_write", 7, offset, size, value);
}

Deno.test("configuration space names a Skylake GT2", async () => {
  await using device = await Attached.start();
  assertEquals(await read(device.vmm, 0x00, 4), 0x19128086);
  assertEquals(await read(device.vmm, 0x08, 4), 0x03800006); // class 0380, revision 6
  assertEquals(await read(device.vmm, 0x0e, 1), 0); // one function, an ordinary header
  assertEquals(await read(device.vmm, 0x2c, 2), 0x8086);
  assertEquals(await read(device.vmm, 0x3d, 1), 1); // INTA
  assertEquals(await read(device.vmm, 0x50, 2), 0xc0); // 4 GiB of GGTT, no stolen memory
  assertEquals(await read(device.vmm, 0xfc, 4), 0); // no OpRegion
});

Deno.test("configuration space has the device id of the options", async () => {
  await using device = await Attached.start({ device: { deviceId: 0x5912 } });
  assertEquals(await read(device.vmm, 0x02, 2), 0x5912);
});

Deno.test("identity and configuration registers do not change when written", async () => {
  await using device = await Attached.start();
  const offsets = [0x00, 0x08, 0x0c, 0x2c, 0x30, 0x34, 0x50, 0xfc];
  const before = await Promise.all(offsets.map((offset) => read(device.vmm, offset, 4)));
  for (const offset of offsets) await write(device.vmm, offset, 4, 0xffffffff);
  // Only the cache line size, byte 0x0c, is a guest's to set.
  const after = await Promise.all(offsets.map((offset) => read(device.vmm, offset, 4)));
  assertEquals(after, before.map((value, i) => offsets[i] === 0x0c ? value | 0xff : value));
});

Deno.test("BARs tell their sizes when all ones are written", async () => {
  await using device = await Attached.start();
  for (const offset of [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30]) {
    await write(device.vmm, offset, 4, 0xffffffff);
  }
  const [low0, high0, low2, high2, bar4, bar5, rom] = await Promise.all(
    [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30].map((offset) => read(device.vmm, offset, 4)),
  );
  assertEquals((low0! & 0xfffffff0) >>> 0, 0xff000000); // 16 MiB
  assertEquals([low0! & 0x7, high0], [0x4, 0xffffffff]); // a 64-bit memory BAR
  assertEquals((low2! & 0xfffffff0) >>> 0, 0xf0000000); // 256 MiB
  assertEquals([low2! & 0x7, high2], [0x4, 0xffffffff]);
  assertEquals([bar4, bar5, rom], [0, 0, 0]);
});

Deno.test("BARs keep an address and their type bits", async () => {
  await using device = await Attached.start();
  await write(device.vmm, 0x10, 4, 0xfd12_3456);
  await write(device.vmm, 0x14, 4, 0x1);
  assertEquals(await read(device.vmm, 0x10, 4), 0xfd00_0004);
  assertEquals(await read(device.vmm, 0x14, 4), 1);
  assertEquals(await device.vmm.call("mmio_read", 7, 0x10, 8), 0x1_fd00_0004);
});

Deno.test("the command register keeps memory, master and interrupt-disable bits only", async () => {
  await using device = await Attached.start();
  await write(device.vmm, 0x04, 2, 0x0406);
  assertEquals(await read(device.vmm, 0x04, 2), 0x0406);
  await write(device.vmm, 0x04, 2, 0xffff);
  assertEquals(await read(device.vmm, 0x04, 2) & 0xf800, 0); // reserved
  assertEquals(await read(device.vmm, 0x06, 2) & 0x10, 0x10); // still says that there are capabilities
});

Deno.test("the capability chain leads to MSI and power management and ends", async () => {
  await using device = await Attached.start();
  const ids: number[] = [];
  for (let at = await read(device.vmm, 0x34, 1); at !== 0; at = await read(device.vmm, at + 1, 1)) {
    ids.push(await read(device.vmm, at, 1));
    assertEquals(ids.length < 10, true, "the chain has no end");
  }
  assertEquals(ids, [0x05, 0x01]);
});

Deno.test("MSI keeps a 64-bit address and data and can be enabled, nothing else", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  const msi = await read(vmm, 0x34, 1);
  await write(vmm, msi + 4, 4, 0xfee0_1003);
  await write(vmm, msi + 8, 4, 0x12);
  await write(vmm, msi + 12, 2, 0x4041);
  await write(vmm, msi + 2, 2, 0xffff);
  assertEquals(await read(vmm, msi + 4, 4), 0xfee0_1000);
  assertEquals(await read(vmm, msi + 8, 4), 0x12);
  assertEquals(await read(vmm, msi + 12, 4), 0x4041);
  assertEquals(await read(vmm, msi + 2, 2), 0x0081); // 64-bit capable, one vector, enabled
});

Deno.test("a kernel sizes a BAR and puts its address back", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  for (const [offset, size] of [[0x10, 16 << 20], [0x18, 256 << 20]] as const) {
    await write(vmm, offset, 8, 0x38_4000_0000);
    const before = [await read(vmm, offset, 4), await read(vmm, offset + 4, 4)] as const;
    const masks: bigint[] = [];
    for (const half of [0, 1]) {
      await write(vmm, offset + 4 * half, 4, 0xffff_ffff);
      masks.push(BigInt(await read(vmm, offset + 4 * half, 4)));
      await write(vmm, offset + 4 * half, 4, before[half]!);
    }
    const mask = (masks[1]! << 32n) | (masks[0]! & ~0xfn);
    assertEquals(2n ** 64n - mask, BigInt(size));
    assertEquals(await read(vmm, offset, 8), 0x38_4000_0000 + (before[0] & 0xf));
  }
});

Deno.test("accesses of any size and alignment see the same bytes", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  await write(vmm, 0x92, 8, 0x12_fee0_1001); // control, address, and half of its upper part
  const bytes: number[] = [];
  for (let at = 0x90; at < 0x9e; at++) bytes.push(await read(vmm, at, 1));
  assertEquals(bytes, [0x05, 0xd0, 0x81, 0x00, 0xe0, 0xfe, 0x12, 0, 0, 0, 0, 0, 0, 0]);
  assertEquals(await read(vmm, 0x91, 2), 0x81d0);
  assertEquals(await read(vmm, 0x93, 4), 0x12fee000);
  assertEquals(await vmm.call("mmio_read", 7, 0x8f, 8), 0x12fe_e000_81d0_0500n);
});

Deno.test("a write that spans fields changes each as its own rules say", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  await write(vmm, 0x02, 4, 0x0006_ffff); // device id and command
  assertEquals([await read(vmm, 0x02, 2), await read(vmm, 0x04, 2)], [0x1912, 0x0006]);
  await write(vmm, 0x04, 4, 0xffff_0007); // command and status
  assertEquals([await read(vmm, 0x04, 2), await read(vmm, 0x06, 2)], [0x0007, 0x0010]);
  await write(vmm, 0x3a, 4, 0x0b0b_ffff); // nothing, interrupt line, pin
  assertEquals([await read(vmm, 0x3a, 2), await read(vmm, 0x3c, 2)], [0, 0x010b]);
});

Deno.test("the power state is D0 or D3, and waking up keeps everything", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  const power = await read(vmm, await read(vmm, 0x34, 1) + 1, 1);
  assertEquals([await read(vmm, power, 1), await read(vmm, power + 2, 2)], [0x01, 0x0003]); // 1.2: no D1, D2, PME
  assertEquals(await read(vmm, power + 4, 2), 0x0008); // D0, no soft reset
  await write(vmm, 0x10, 4, 0xfd00_0000);
  await vmm.call("mmio_write", 0, 0x2030, 4, 0x1234);
  await write(vmm, power + 4, 2, 0xffff);
  assertEquals(await read(vmm, power + 4, 2), 0x000b);
  for (const [written, kept] of [[1, 3], [2, 3], [0, 0], [1, 0], [2, 0]] as const) {
    await write(vmm, power + 4, 2, written);
    assertEquals(await read(vmm, power + 4, 2), 0x0008 | kept);
  }
  assertEquals([await read(vmm, 0x10, 4), await vmm.call("mmio_read", 0, 0x2030, 4)], [0xfd00_0004, 0x1234]);
});

Deno.test("reset puts configuration space back", async () => {
  await using device = await Attached.start();
  await write(device.vmm, 0x10, 4, 0xfd000000);
  await write(device.vmm, 0x04, 2, 0x6);
  await device.vmm.call("reset");
  assertEquals(await read(device.vmm, 0x10, 4), 0x4);
  assertEquals(await read(device.vmm, 0x04, 2), 0);
  assertEquals(await read(device.vmm, 0x00, 4), 0x19128086);
});
