import { assertEquals, assertThrows } from "@std/assert";
import { PTE } from "../../src/gtt/entry.ts";
import { OK } from "../../src/gtt/errno.ts";
import type { ShadowTable } from "../../src/gtt/shadow_table.ts";
import { RamMap } from "../../src/memory/ram_map.ts";
import { Device } from "../../src/vgpu/device.ts";
import { graphicsMemory, vgpuConfig } from "../../src/vgpu/vgpu_options.ts";

/** A device with a track on frames 0x10 and 0x11, and the stores that they were told of. */
function tracked(result = OK) {
  const device = new Device({ ram: new RamMap() });
  device.init();
  device.ram.map({ gpa: 0, size: 0x40000 });
  const calls: [gpa: number, bytes: number][] = [];
  for (const gfn of [0x10, 0x11]) {
    const track = device.vgpu.gtt.initPageTrack(gfn, (_track, gpa, bytes) => {
      calls.push([gpa, bytes]);
      return result;
    });
    device.vgpu.gtt.enablePageTrack(track);
  }
  return { device, calls };
}

for (
  const [gpa, length] of [[0x10000, 1], [0x10003, 2], [0x10008, 8], [0x10004, 8], [0x10ff0, 16], [
    0x10fff,
    1,
  ]] as const
) {
  Deno.test(`Device store() of ${length} bytes at 0x${gpa.toString(16)} is one store`, () => {
    const { device, calls } = tracked();
    using _device = device;
    assertEquals(device.store(gpa, new Uint8Array(length)), OK);
    assertEquals(calls, [[gpa, length]]);
  });
}

Deno.test("Device store() of more than one instruction's length tells a user track once, exactly", () => {
  const { device, calls } = tracked();
  using _device = device;
  device.store(0x10014, new Uint8Array(18));
  assertEquals(calls, [[0x10014, 18]]);
});

Deno.test("Device store() that crosses a page tells each page its own part", () => {
  const { device, calls } = tracked();
  using _device = device;
  device.store(0x10ffc, new Uint8Array(8));
  assertEquals(calls, [[0x10ffc, 4], [0x11000, 4]]);
});

Deno.test("Device store() tells only tracked pages", () => {
  const { device, calls } = tracked();
  using _device = device;
  device.store(0xf000, new Uint8Array(0x1008));
  assertEquals(calls, [[0x10000, 8]]);
  calls.length = 0;
  device.store(0x10000, new Uint8Array(0x3000));
  assertEquals(calls, [[0x10000, 0x1000], [0x11000, 0x1000]]);
});

Deno.test("Device store() tells all and returns the first error", () => {
  const { device, calls } = tracked(-6);
  using _device = device;
  assertEquals(device.store(0x10ff0, new Uint8Array(64)), -6);
  assertEquals(calls, [[0x10ff0, 16], [0x11000, 48]]);
});

for (const [gpa, length] of [[0x10014, 18], [0x10ffc, 8], [0xfff0, 0x1020]] as const) {
  Deno.test(`Device store() of ${length} bytes at 0x${gpa.toString(16)} reaches each shadow entry it touches`, () => {
    using device = new Device({ ram: new RamMap() });
    device.init();
    device.ram.map({ gpa: 0, size: 0x40000 });
    const { gtt } = device.vgpu;
    const tables = [0x10, 0x11].map((gfn) => gtt.parts.tables.obtain(PTE, gfn) as ShadowTable);
    const before = new Uint8Array(0x40000);
    for (let at = 0; at < before.length; at += 8) before.set([0x03, 0x50], at);
    device.ram.write(0, before); // behind the engine's back
    assertEquals(device.store(gpa, before.subarray(gpa, gpa + length)), OK);
    for (const table of tables) {
      for (let index = 0; index < 512; index++) {
        const at = table.gfn * 4096 + 8 * index;
        const isTouched = at + 8 > gpa && at < gpa + length;
        assertEquals(table.target(index), isTouched ? 0x100005 : 0, `gfn ${table.gfn}, entry ${index}`);
      }
    }
  });
}

Deno.test("Device store() outside of RAM is nothing and null", () => {
  const { device, calls } = tracked();
  using _device = device;
  assertEquals(device.store(0x3fffc, new Uint8Array(8)), null);
  assertEquals(calls, []);
});

Deno.test("Device init() can be done once", () => {
  using device = new Device({ ram: new RamMap() });
  assertEquals([device.init(), device.init()], [0, -16]);
  using unsupported = new Device({ ram: new RamMap(), platformSupported: false });
  assertEquals(unsupported.init(), -19);
});

for (
  const [options, message] of [
    [{ deviceId: 0x10000 }, "deviceId"],
    [{ deviceId: -1 }, "deviceId"],
    [{ deviceId: 1.5 }, "deviceId"],
    [{ fences: 33 }, "fences"],
    [{ fences: NaN }, "fences"],
    [{ hiddenBase: 0x8000000 }, "hidden"],
    [{ apertureBase: 100 }, "multiple of 4096"],
    [{ apertureSize: -4096 }, "multiple of 4096"],
    [{ apertureSize: 0x20000000 }, "aperture"],
    [{ hiddenSize: 2 ** 32 }, "hidden window"],
  ] as const
) {
  Deno.test(`graphicsMemory() refuses ${JSON.stringify(options)}`, () => {
    assertThrows(() => graphicsMemory(vgpuConfig(options)), RangeError, message);
  });
}

Deno.test("graphicsMemory() accepts windows that fill what there is, or nothing", () => {
  const all = {
    apertureBase: 0,
    apertureSize: 256 << 20,
    hiddenBase: 256 << 20,
    hiddenSize: 4096 * 2 ** 20 - 2 ** 28,
  };
  assertEquals(graphicsMemory(vgpuConfig(all)).isValid(2 ** 32 - 1), true);
  const none = { apertureSize: 0, hiddenSize: 0 };
  assertEquals(graphicsMemory(vgpuConfig(none)).isValid(64 << 20), false);
});
