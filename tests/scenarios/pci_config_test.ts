import { assertEquals } from "@std/assert";
import type { Client } from "../../protocol/client.ts";
import { Attached } from "./attached.ts";

type Size = 1 | 2 | 4;

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

Deno.test("reset puts configuration space back", async () => {
  await using device = await Attached.start();
  await write(device.vmm, 0x10, 4, 0xfd000000);
  await write(device.vmm, 0x04, 2, 0x6);
  await device.vmm.call("reset");
  assertEquals(await read(device.vmm, 0x10, 4), 0x4);
  assertEquals(await read(device.vmm, 0x04, 2), 0);
  assertEquals(await read(device.vmm, 0x00, 4), 0x19128086);
});
