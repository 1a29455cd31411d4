import { assertEquals } from "@std/assert";
import { createDevice } from "../../mod.ts";
import { EINVAL, OK } from "../../src/gtt/errno.ts";

Deno.test("Vgpu read() and write() refuse what no region has and change nothing", () => {
  using device = createDevice();
  const { vgpu } = device;
  const out = Uint32Array.of(7, 7);
  const accesses = [[1, 0, 4], [3, 0, 4], [9, 0, 4], [-1, 0, 4], [0, -4, 4], [0, 0xffffff, 2], [
    0,
    2 ** 24,
    1,
  ]] as const;
  for (const [region, offset, size] of accesses) {
    assertEquals([vgpu.read(region, offset, size, out), vgpu.write(region, offset, size, 0, 0)], [
      EINVAL,
      EINVAL,
    ]);
  }
  for (const size of [0, 3, 5, 6, 7, 16, -1, NaN]) assertEquals(vgpu.read(0, 0, size, out), EINVAL);
  assertEquals(out, Uint32Array.of(7, 7));
  assertEquals([vgpu.counters.bar0Reads, vgpu.counters.bar0Writes], [0, 0]);
});

Deno.test("Vgpu read() fills both lanes whatever the size", () => {
  using device = createDevice();
  const out = Uint32Array.of(7, 7);
  for (const [region, size] of [[0, 1], [0, 4], [2, 2], [7, 4], [7, 1]] as const) {
    out.fill(0xdeadbeef);
    assertEquals(device.vgpu.read(region, 0x40, size, out), OK);
    assertEquals(out, Uint32Array.of(0, 0));
  }
});

Deno.test("Vgpu read() of a misaligned register gives ones of its size", () => {
  using device = createDevice();
  const out = new Uint32Array(2);
  const read = (offset: number, size: number) => {
    device.vgpu.read(0, offset, size, out);
    return [...out];
  };
  assertEquals(read(1, 2), [0xffff, 0]);
  assertEquals(read(2, 4), [0xffffffff, 0]);
  assertEquals(read(4, 8), [0xffffffff, 0xffffffff]);
  assertEquals(device.vgpu.counters.badAccesses, 3);
});

Deno.test("Vgpu enterFailsafe() counts once until the next reset", () => {
  using device = createDevice();
  device.vgpu.bar0.enterFailsafe();
  device.vgpu.bar0.enterFailsafe();
  assertEquals(device.vgpu.counters.failsafes, 1);
  device.vgpu.reset();
  device.vgpu.bar0.enterFailsafe();
  assertEquals(device.vgpu.counters.failsafes, 2);
});
