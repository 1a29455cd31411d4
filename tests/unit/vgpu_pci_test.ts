import { assertEquals } from "@std/assert";
import { CONFIG_SIZE, PciConfig } from "../../src/vgpu/pci.ts";

Deno.test("PciConfig readByte() gives the device id of its options", () => {
  const pci = new PciConfig(0x1612);
  assertEquals([0, 1, 2, 3].map((offset) => pci.readByte(offset)), [0x86, 0x80, 0x12, 0x16]);
});

Deno.test("PciConfig writeByte() changes single bytes of a wider field", () => {
  const pci = new PciConfig(0x1912);
  pci.writeByte(0x13, 0xfd); // the highest byte of BAR 0
  assertEquals([0x10, 0x11, 0x12, 0x13].map((offset) => pci.readByte(offset)), [0x04, 0, 0, 0xfd]);
});

Deno.test("PciConfig reset() undoes every write to every byte", () => {
  const pci = new PciConfig(0x1912);
  const bytes = () => Array.from({ length: CONFIG_SIZE }, (_, offset) => pci.readByte(offset));
  const before = bytes();
  for (let offset = 0; offset < CONFIG_SIZE; offset++) pci.writeByte(offset, 0xff);
  assertEquals(bytes().some((byte, offset) => byte !== before[offset]), true);
  pci.reset();
  assertEquals(bytes(), before);
});

Deno.test("PciConfig writeByte() of zeros never clears a read-only bit", () => {
  const pci = new PciConfig(0x1912);
  const before = Array.from({ length: CONFIG_SIZE }, (_, offset) => pci.readByte(offset));
  for (let offset = 0; offset < CONFIG_SIZE; offset++) pci.writeByte(offset, 0);
  assertEquals(before.map((_, offset) => pci.readByte(offset)), before);
});
