import { assertEquals } from "@std/assert";
import {
  address,
  GGTT,
  loadImmediate,
  loadRegister,
  moveRegister,
  pipeControl,
  store,
  storeRegister,
} from "./commands.ts";
import { ENGINE_NAMES, ENGINES, FAULT, GDRST, Guest, HIDDEN } from "./guest.ts";

for (const engine of ENGINE_NAMES) {
  const gpr = ENGINES[engine].base + 0x600;

  Deno.test(`${engine} moves values between memory and its registers`, async () => {
    await using guest = await Guest.start();
    await guest.put(guest.data, [0x1111]);
    await guest.runBatch(engine, [
      ...loadRegister(gpr, guest.data),
      ...loadImmediate([gpr + 4, 0x2222], [gpr + 0x7c, 0x3333]),
      ...moveRegister(gpr, gpr + 0x40),
      ...storeRegister(gpr + 0x40, guest.data + 4),
      ...storeRegister(gpr + 4, guest.data + 0xffc),
      ...storeRegister(gpr + 0x7c, guest.data + 0x1000),
    ]);
    assertEquals(await guest.get(guest.data, 2), [0x1111, 0x1111]);
    assertEquals(await guest.get(guest.data + 0xffc, 2), [0x2222, 0x3333]);
    assertEquals(await guest.readAt(gpr + 4), 0x2222);
  });

  Deno.test(`${engine} reads the counter, which goes on`, async () => {
    await using guest = await Guest.start();
    const at = ENGINES[engine].base + 0x358;
    const before = await guest.readAt(at);
    await guest.runBatch(engine, [
      ...storeRegister(at, guest.data),
      ...moveRegister(at, gpr),
      ...storeRegister(gpr, guest.data + 4),
    ]);
    const after = await guest.readAt(at);
    const [first, second] = await guest.get(guest.data, 2);
    assertEquals([before <= first!, first! <= second!, second! <= after, before < after], [
      true,
      true,
      true,
      true,
    ]);
  });
}

Deno.test("registers are loaded from and stored to the GGTT by the ring", async () => {
  await using guest = await Guest.start();
  await guest.vmm.call("mem_write", guest.globalPage, Uint8Array.of(0x34, 0x12, 0, 0));
  await guest.runRing("rcs0", [
    ...loadRegister(0x2608, guest.global, GGTT),
    ...storeRegister(0x2608, guest.global + 8, GGTT),
  ]);
  assertEquals(await guest.words(guest.globalPage, 3), [0x1234, 0, 0x1234]);
});

Deno.test("MI_LOAD_REGISTER_IMM loads as many pairs as its length says, nine as the driver and 128 at most", async () => {
  await using guest = await Guest.start();
  const nine = Array.from({ length: 9 }, (_, i) => [0x1f_0000 + 4 * i, 0x900 + i] as const);
  const most = Array.from({ length: 128 }, (_, i) => [0x1f_1000 + 4 * i, 0xa00 + i] as const);
  await guest.runBatch("rcs0", [
    ...loadImmediate(...nine),
    ...loadImmediate(...most),
    ...store(guest.data, 1),
  ]);
  assertEquals(await guest.readAt(0x1f_0000), 0x900);
  assertEquals([await guest.readAt(0x1f_0020), await guest.readAt(0x1f_0024)], [0x908, 0]);
  assertEquals([await guest.readAt(0x1f_11fc), await guest.readAt(0x1f_1200)], [0xa7f, 0]);
  assertEquals(await guest.get(guest.data), [1]);
});

Deno.test("an offset in a command has bits 22 to 2", async () => {
  await using guest = await Guest.start();
  await guest.runBatch("rcs0", loadImmediate([0xff80_0000 + 0x2600 + 3, 0x55]));
  assertEquals(await guest.readAt(0x2600), 0x55);
});

Deno.test("mode registers take masked stores from commands, too", async () => {
  await using guest = await Guest.start();
  await guest.writeAt(0x7004, 0x0003_0003);
  await guest.runBatch("rcs0", loadImmediate([0x7004, 0x0042_0042], [0x2580, 0x0007_0004]));
  assertEquals([await guest.readAt(0x7004), await guest.readAt(0x2580)], [0x43, 4]);
});

for (
  const [what, offset, value] of [
    ["the submission port", 0x2230, 0],
    ["another engine's submission port", 0x2_2230, 0],
    ["GDRST", GDRST, 1],
    ["MI_MODE", 0x209c, 0x0100_0100],
    ["the status page", 0x2080, HIDDEN],
    ["RING_MODE", 0x229c, 0x8000_0000],
    ["the master of interrupts", 0x44200, 0x8000_0000],
    ["an interrupt enable of a bank", 0x4430c, 0xffff_ffff],
    ["PVINFO's notification", 0x78818, 4],
    ["PVINFO's roots", 0x78838, 0x1000],
    ["PVINFO's end of resources", 0x78808, 1],
    ["a TLB invalidation", 0x4260, 1],
    ["the context-status buffer", 0x2398, 0x18],
    ["the fuses", 0x51000, 0],
    ["a fence of others", 0x10_0020, 1],
    ["beyond the registers", 0x20_0000, 1],
    ["the GTT window", 0x7f_fffc, 1],
  ] as const
) {
  Deno.test(`a command cannot store to ${what}`, async () => {
    await using guest = await Guest.start();
    const [status, shown] = [await guest.vmm.call("state"), await guest.readAt(offset)];
    const commands = [
      ...loadImmediate([offset, value], [offset, value], [offset, value], [offset, value]),
      ...store(guest.data, 1),
    ];
    await guest.runBatch("rcs0", commands);
    await guest.runRing("rcs0", [
      ...loadImmediate([offset, value]),
      ...pipeControl(0x0080_4000, offset, value),
      ...store(guest.data + 4, 2),
    ]);
    assertEquals(await guest.get(guest.data, 2), [1, 2]);
    assertEquals(await guest.readAt(offset), shown);
    const now = await guest.vmm.call("state");
    assertEquals([now["mms"], now["failsafe"], now["interrupts"]], [
      ...[status["mms"], status["failsafe"], status["interrupts"]],
    ]);
    assertEquals(await guest.device.counter("engineResets"), 0);
    assertEquals(await guest.device.counter("csBadRegisterWrites"), 6);
  });
}

for (
  const [what, offset, value] of [
    ["the engine's interrupt mask", 0x20a8, 0xffff_0000],
    ["another engine's interrupt mask", 0x2_20a8, 0xffff_0000],
    ["an interrupt mask of a bank", 0x44304, 0xffff_0000],
    ["the error mask", 0x20b4, 0x0000_00ff],
    ["the roots", 0x2270, 0x1000],
    ["another engine's general-purpose register", 0x2_2600, 5],
  ] as const
) {
  Deno.test(`a command stores to ${what} by the ring, but not in a batch without privilege`, async () => {
    await using guest = await Guest.start();
    await guest.runBatch("rcs0", []);
    const before = await guest.readAt(offset);
    await guest.runBatch("rcs0", [
      ...loadImmediate([offset, value]),
      ...pipeControl(0x0080_4000, offset, value),
    ]);
    assertEquals(await guest.device.counter("csBadRegisterWrites"), 2);
    assertEquals(await guest.readAt(offset), before);
    await guest.runRing("rcs0", loadImmediate([offset, value]));
    assertEquals(await guest.device.counter("csBadRegisterWrites"), 2);
    assertEquals(await guest.readAt(offset), value);
  });
}

Deno.test("registers that are not there, and PVINFO, read 0 for commands", async () => {
  await using guest = await Guest.start();
  await guest.put(guest.data, [1, 1, 1]);
  await guest.runBatch("rcs0", [
    ...storeRegister(0x78000, guest.data),
    ...storeRegister(0x20_0000, guest.data + 4),
    ...storeRegister(0x7f_fffc, guest.data + 8),
  ]);
  assertEquals(await guest.get(guest.data, 3), [0, 0, 0]);
  assertEquals(await guest.readAt(FAULT), 0);
});

Deno.test("MI_STORE_REGISTER_MEM with bit 21 depends on the predicate", async () => {
  await using guest = await Guest.start();
  const predicate = 0x2418;
  await guest.runBatch("rcs0", [
    ...loadImmediate([0x2600, 7], [predicate, 0]),
    ...storeRegister(0x2600, guest.data, 0x20_0000),
    ...loadImmediate([predicate, 1]),
    ...storeRegister(0x2600, guest.data + 4, 0x20_0000),
  ]);
  assertEquals(await guest.get(guest.data, 2), [0, 7]);
});

Deno.test("a load from a page that is not mapped loads 0", async () => {
  await using guest = await Guest.start();
  await guest.runBatch("rcs0", [...loadImmediate([0x2600, 7]), 0x1480_0002, 0x2600, ...address(0x9000)]);
  assertEquals(await guest.readAt(0x2600), 0);
});

Deno.test("MI_NOOP stores its number where bit 22 says so", async () => {
  await using guest = await Guest.start();
  await guest.runRing("vcs0", [0x0040_0000 + 0x12_3456, 0x0000_0777]);
  assertEquals(await guest.readAt(0x12094), 0x12_3456);
});
