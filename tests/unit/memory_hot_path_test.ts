// Single loads and stores of the guest's: right at every place and size, and without a view for each.

import { assertEquals } from "@std/assert";
import { createDevice, GTT_START_OFFSET, REGION_APERTURE, REGION_BAR0 } from "../../mod.ts";
import { RamMap } from "../../src/memory/ram_map.ts";
import { counting, Guest, KINDS, testKinds } from "./memory_kinds.ts";

const PAGE = 4096;

/** A device with RAM behind the first page of its aperture, and the offset of that page's GTT entry. */
function start() {
  const device = createDevice();
  device.ram.map({ gpa: 0, size: 16 * PAGE });
  const gma = device.config.apertureBase;
  const entry = GTT_START_OFFSET + gma / PAGE * 8;
  device.vgpu.write(REGION_BAR0, entry, 8, 0x5001, 0);
  return { device, vgpu: device.vgpu, gma, entry };
}

/** How many views of typed arrays are made meanwhile. */
function countViews(during: () => void): number {
  const prototype: Uint8Array = Object.getPrototypeOf(Uint8Array.prototype);
  const subarray = prototype.subarray;
  let views = 0;
  prototype.subarray = function (this: Uint8Array, ...range) {
    views++;
    return subarray.apply(this, range);
  };
  try {
    during();
  } finally {
    prototype.subarray = subarray;
  }
  return views;
}

testKinds("read() and write() of up to 9 bytes reach exactly these, at any alignment", KINDS, (kind) => {
  using guest = new Guest(kind);
  guest.map(0, PAGE);
  const before = counting(40).map((byte) => byte + 100);
  for (let length = 1; length <= 9; length++) {
    for (let at = 0; at < 16; at++) {
      guest.ram.write(0, before);
      const expected = before.slice();
      expected.set(counting(length), at);
      const around = new Uint8Array(40);
      const out = new Uint8Array(length + 2).fill(7);

      assertEquals(guest.ram.write(at, counting(length)), true);
      assertEquals(guest.ram.read(0, around), true);
      assertEquals(guest.ram.read(at, out.subarray(1, 1 + length)), true);

      assertEquals([around, out], [expected, Uint8Array.of(7, ...counting(length), 7)]);
    }
  }
});

Deno.test("read() and write() of a few bytes give and take values with their highest bits set", () => {
  using ram = new RamMap();
  ram.map({ gpa: 0, size: PAGE });
  const out = new Uint8Array(8);

  assertEquals(ram.write(PAGE - 8, Uint8Array.of(0x80, 0x90, 0xa0, 0xf0, 0xff, 0xfe, 0xfd, 0xfc)), true);
  assertEquals(ram.read(PAGE - 8, out), true);
  assertEquals(out.toHex(), "8090a0f0fffefdfc");
});

Deno.test("a write of no bytes to read-only RAM succeeds, of one does not", () => {
  using ram = new RamMap();
  ram.map({ gpa: 0, size: PAGE, readonly: true });

  assertEquals([ram.write(8, new Uint8Array(0)), ram.write(8, new Uint8Array(1))], [true, false]);
});

Deno.test("the GTT gives and takes four bytes at any place of an entry", () => {
  const { device, entry } = start();
  using _ = device;
  const { ggtt } = device.vgpu.gtt.parts;
  const [lo, hi] = [0x8433_2211, 0x9877_6655];
  for (const store of [ggtt.write.bind(ggtt), ggtt.keep.bind(ggtt)]) {
    for (let within = 0; within <= 4; within++) {
      const expected = new DataView(Uint32Array.of(lo, hi).buffer);
      const out = Uint32Array.of(7, 7);
      store(entry, 8, lo, hi);

      assertEquals(ggtt.read(entry + within, 4, out), 0);
      assertEquals(out, Uint32Array.of(expected.getUint32(within, true), 0));

      expected.setUint32(within, 0xf1e2_d3c4, true);
      store(entry + within, 4, 0xf1e2_d3c4, 0x5555_5555);
      assertEquals(ggtt.read(entry, 8, out), 0);
      assertEquals(out, new Uint32Array(expected.buffer));
    }
  }
});

Deno.test("the GTT hands the host the whole entry after a store to either half", () => {
  const { device, vgpu, gma, entry } = start();
  using _ = device;
  const { ggtt } = device.host;

  vgpu.write(REGION_BAR0, entry, 4, 0x6001, 0);
  assertEquals(ggtt.target(gma), device.ram.mfnOf(6));
  vgpu.write(REGION_BAR0, entry + 4, 4, 1, 0); // frame 0x100006, which is no RAM
  assertEquals(ggtt.target(gma), device.gvt.globalScratch);
  vgpu.write(REGION_BAR0, entry + 4, 4, 0, 0);
  assertEquals(ggtt.target(gma), device.ram.mfnOf(6));
});

Deno.test("a guest's load or store makes no view, through the GTT window or the aperture", () => {
  const { device, vgpu, gma, entry } = start();
  using _ = device;
  const out = new Uint32Array(2);
  assertEquals(countViews(() => void new Uint8Array(2).subarray(1)), 1);

  const views = countViews(() => {
    for (const [offset, size] of [[entry, 8], [entry, 4], [entry + 4, 4]] as const) {
      vgpu.read(REGION_BAR0, offset, size, out);
      vgpu.write(REGION_BAR0, offset, size, offset === entry ? 0x5001 : 0, 0);
    }
    for (const size of [1, 2, 4, 8]) {
      for (const at of [0, 8, 13]) {
        vgpu.write(REGION_APERTURE, gma + at, size, 0x8765_4321, 0x0fed_cba9);
        vgpu.read(REGION_APERTURE, gma + at, size, out);
      }
    }
  });

  assertEquals(views, 0);
  assertEquals(out, Uint32Array.of(0x8765_4321, 0x0fed_cba9));
});
