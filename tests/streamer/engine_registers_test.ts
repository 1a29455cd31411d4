import { assertEquals } from "@std/assert";
import { ENGINE_NAMES, ENGINES, Guest, HIDDEN } from "./guest.ts";

const ONES = 0xffff_ffff;

for (const engine of ENGINE_NAMES) {
  const { base } = ENGINES[engine];

  Deno.test(`${engine}: registers after power-on`, async () => {
    await using guest = await Guest.start({ isReady: false });
    const found: Record<string, number> = {};
    for (const [name, offset] of Object.entries(AFTER_POWER_ON)) {
      const [at] = offset;
      found[name] = await guest.readAt(base + at);
    }
    const wanted = Object.fromEntries(
      Object.entries(AFTER_POWER_ON).map(([name, [, value]]) => [name, value]),
    );
    assertEquals(found, wanted);
  });

  Deno.test(`${engine}: registers that keep what is written`, async () => {
    await using guest = await Guest.start();
    const kept = [0x98, 0xa8, 0xb4, 0x270, 0x28c, 0x4d0, 0x4fc, 0x600, 0x67c];
    for (const [index, offset] of kept.entries()) await guest.writeAt(base + offset, 0x1234_0000 + index);
    for (const [index, offset] of kept.entries()) {
      assertEquals(await guest.readAt(base + offset), 0x1234_0000 + index, offset.toString(16));
    }
    await guest.writeAt(base + 0x600, 0x1234_5678);
    await guest.writeAt(base + 0x604, 0);
    await guest.vmm.call("mmio_write", 0, base + 0x601, 1, 0xab);
    await guest.vmm.call("mmio_write", 0, base + 0x606, 2, 0xcdef);
    assertEquals(await guest.vmm.call("mmio_read", 0, base + 0x600, 8), 0xcdef_0000_1234_ab78n);
  });

  Deno.test(`${engine}: registers whose upper half says what counts`, async () => {
    await using guest = await Guest.start();
    for (const offset of [0x50, 0xc0, 0xd4, 0x244]) {
      await guest.writeAt(base + offset, 0x00ff_1234);
      assertEquals(await guest.readAt(base + offset), 0x34);
      await guest.writeAt(base + offset, 0x0030_0000);
      assertEquals(await guest.readAt(base + offset), 0x04);
      await guest.writeAt(base + offset, 0x0000_ffff);
      assertEquals(await guest.readAt(base + offset), 0x04);
    }
  });

  Deno.test(`${engine}: registers that may only be read`, async () => {
    await using guest = await Guest.start();
    const before = await guest.device.counter("badRegisterWrites");
    const fixed = [0x5c, 0x68, 0x6c, 0x74, 0xb8, 0x234, 0x238, 0x358, 0x35c, 0x370, 0x39c, 0x3a8];
    for (const offset of fixed) await guest.writeAt(base + offset, ONES);
    for (const offset of fixed.filter((each) => each !== 0x358)) {
      assertEquals(await guest.readAt(base + offset), 0, offset.toString(16));
    }
    assertEquals(await guest.device.counter("badRegisterWrites"), before + fixed.length);
  });

  Deno.test(`${engine}: EIR is cleared by ones, and cannot be set`, async () => {
    await using guest = await Guest.start();
    await guest.writeAt(base + 0xb0, 1);
    assertEquals(await guest.readAt(base + 0xb0), 0);
    await guest.startRing(engine, [0xe000_0000]);
    await guest.halt();
    await guest.writeAt(base + 0xb0, 0xfffe);
    assertEquals(await guest.readAt(base + 0xb0), 1);
    await guest.writeAt(base + 0xb0, 1);
    assertEquals(await guest.readAt(base + 0xb0), 0);
  });

  Deno.test(`${engine}: RESET_CTL grants what it is asked for, at once`, async () => {
    await using guest = await Guest.start();
    await guest.writeAt(base + 0xd0, 0x0001_0001);
    assertEquals(await guest.readAt(base + 0xd0), 3);
    await guest.writeAt(base + 0xd0, 0x0002_0000); // not the guest's to take
    assertEquals(await guest.readAt(base + 0xd0), 3);
    await guest.writeAt(base + 0xd0, 0x0001_0000);
    assertEquals(await guest.readAt(base + 0xd0), 0);
    await guest.writeAt(base + 0xd0, 0x0002_0002);
    assertEquals(await guest.readAt(base + 0xd0), 0);
  });

  Deno.test(`${engine}: the submission port reads 0, and the buffer's pointers take their bits only`, async () => {
    await using guest = await Guest.start();
    await guest.writeAt(base + 0x230, 0x1234);
    assertEquals(await guest.readAt(base + 0x230), 0);
    await guest.writeAt(base + 0x3a0, ONES);
    assertEquals(await guest.readAt(base + 0x3a0), 0x0707);
    await guest.writeAt(base + 0x3a0, 0x0700_0300);
    assertEquals(await guest.readAt(base + 0x3a0), 0x0307);
  });

  Deno.test(`${engine}: the status page is in the vGPU's own graphics memory, or 0`, async () => {
    await using guest = await Guest.start();
    await guest.writeAt(base + 0x80, HIDDEN + 0x5000);
    for (const wrong of [0x1000, 0x1000_0000, 0xffff_f000, HIDDEN - 4096, HIDDEN + (384 << 20)]) {
      await guest.writeAt(base + 0x80, wrong);
      assertEquals(await guest.readAt(base + 0x80), HIDDEN + 0x5000);
    }
    await guest.writeAt(base + 0x80, 64 << 20); // the aperture
    assertEquals(await guest.readAt(base + 0x80), 64 << 20);
    await guest.writeAt(base + 0x80, 0);
    assertEquals(await guest.readAt(base + 0x80), 0);
  });

  Deno.test(`${engine}: the counter runs, and has 64 bits`, async () => {
    await using guest = await Guest.start();
    const read = async () => BigInt(await guest.vmm.call("mmio_read", 0, base + 0x358, 8));
    const first = await read();
    const begin = performance.now();
    while (performance.now() - begin < 20) await guest.readAt(base + 0x35c);
    const second = await read();
    const ticks = Number(second - first);
    assertEquals(ticks > 12_000 * 19, true, `${ticks}`); // 12 MHz
  });
}

/** Offset and value. */
const AFTER_POWER_ON: Readonly<Record<string, readonly [number, number]>> = {
  TAIL: [0x30, 0],
  HEAD: [0x34, 0],
  ACTHD: [0x74, 0],
  INSTDONE: [0x6c, 0],
  HWS_PGA: [0x80, 0],
  MI_MODE: [0x9c, 0x200],
  IMR: [0xa8, ONES],
  EIR: [0xb0, 0],
  EMR: [0xb4, ONES],
  ESR: [0xb8, 0],
  RESET_CTL: [0xd0, 0],
  EXECLIST_STATUS: [0x234, 0],
  EXECLIST_STATUS_HI: [0x238, 0],
  RING_MODE: [0x29c, 0],
  CSB_0: [0x370, 0],
  CSB_POINTER: [0x3a0, 0x0707],
  GPR: [0x600, 0],
};
