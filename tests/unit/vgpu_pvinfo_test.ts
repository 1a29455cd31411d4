import { assertEquals } from "@std/assert";
import { Pvinfo } from "../../src/vgpu/pvinfo.ts";
import { vgpuConfig } from "../../src/vgpu/vgpu_options.ts";

/** Offsets of all 1024 registers whose write has this outcome. */
function offsets(outcome: string): number[] {
  const all = Array.from({ length: 1024 }, (_, i) => 4 * i);
  return all.filter((offset) => new Pvinfo(vgpuConfig({})).writeRegister(offset, 1) === outcome);
}

Deno.test("Pvinfo writeRegister() stores the registers of guest.md §2.4 only", () => {
  const pdps = Array.from({ length: 8 }, (_, i) => 0x838 + 4 * i);
  assertEquals(offsets("stored"), [0x804, 0x830, 0x834, ...pdps, 0x858, 0x85c]);
});

Deno.test("Pvinfo writeRegister() notifies at one register", () => {
  assertEquals(offsets("notify"), [0x818]);
});

Deno.test("Pvinfo writeRegister() asks for failsafe at four registers", () => {
  assertEquals(offsets("failsafe"), [0x808, 0x80c, 0x810, 0x814]);
});

Deno.test("Pvinfo roots are the PDP registers as lanes", () => {
  const pvinfo = new Pvinfo(vgpuConfig({}));
  pvinfo.writeRegister(0x838, 0x10000);
  pvinfo.writeRegister(0x83c, 0x12);
  pvinfo.writeRegister(0x854, 0xffffffff);
  assertEquals(pvinfo.roots, Uint32Array.of(0x10000, 0x12, 0, 0, 0, 0, 0, 0xffffffff));
});

Deno.test("Pvinfo offers large pages exactly when the vGPU has them", () => {
  const capabilities = [{}, { hugePages: false }, { hugePages: true }].map((options) => {
    return new Pvinfo(vgpuConfig(options)).register(0x10);
  });
  assertEquals(capabilities, [0xc, 0xc, 0x1c]);
});

Deno.test("Pvinfo isReadable() takes the ranges of guest.md §2.4 whole", () => {
  const pvinfo = new Pvinfo(vgpuConfig({}));
  const readable = (offset: number, size: number) => pvinfo.isReadable(offset, size);
  assertEquals([readable(0, 8), readable(8, 2), readable(0x10, 4), readable(0x50, 4), readable(0x81c, 4)], [
    true,
    true,
    true,
    true,
    true,
  ]);
  assertEquals([
    readable(0x14, 4),
    readable(0x50, 8),
    readable(0x3c, 4),
    readable(0x81c, 8),
    readable(0x818, 4),
  ], [
    false,
    false,
    false,
    false,
    false,
  ]);
});

Deno.test("Pvinfo reset() forgets the guest and what it wrote", () => {
  const pvinfo = new Pvinfo(vgpuConfig({}));
  pvinfo.writeRegister(0x838, 0x10000);
  pvinfo.storeByte(0, 0);
  pvinfo.reset();
  assertEquals([pvinfo.register(0x838), pvinfo.readByte(0)], [0, 0x76]);
});
