import { assertEquals } from "@std/assert";
import { createDevice, type Device } from "../../src/vgpu/device.ts";
import {
  BANK_IER,
  BANK_IIR,
  BANK_IMR,
  INTERRUPT_BANKS,
  MASTER_ENABLE,
  MASTER_IRQ,
} from "../../src/vgpu/interrupt_banks.ts";

const { gt0 } = INTERRUPT_BANKS;

/** A guest lets every event of bank gt0 through. */
function enable({ vgpu }: Device): void {
  vgpu.write(0, gt0.isr + BANK_IMR, 4, 0, 0);
  vgpu.write(0, gt0.isr + BANK_IER, 4, 0xffffffff, 0);
  vgpu.write(0, MASTER_IRQ, 4, MASTER_ENABLE, 0);
}

function enableMsi({ vgpu }: Device): void {
  vgpu.write(7, 0x04, 2, 0x6, 0); // command: memory, bus master
  vgpu.write(7, 0x92, 2, 0x1, 0); // MSI control
}

/** A device whose interrupts are let through, and what it told. */
function enabled(): { device: Device; told: (boolean | "msi")[] } {
  const told: (boolean | "msi")[] = [];
  const device = createDevice({
    interrupts: { msi: () => void told.push("msi"), intx: (asserted) => void told.push(asserted) },
  });
  enable(device);
  return { device, told };
}

Deno.test("Interrupts raise() without anybody to hear it only changes registers", () => {
  using device = createDevice();
  enable(device);
  device.vgpu.interrupts.raise(gt0, 1);
  assertEquals([device.vgpu.interrupts.isAsserted, device.vgpu.registers.get(MASTER_IRQ)], [
    true,
    0x80000001,
  ]);
});

Deno.test("Interrupts resend() tells a newcomer what is due, once", () => {
  const { device, told } = enabled();
  using _ = device;
  const { interrupts } = device.vgpu;
  interrupts.resend();
  assertEquals(told.splice(0), []);
  interrupts.raise(gt0, 1);
  assertEquals(told.splice(0), [true]);
  interrupts.resend();
  assertEquals(told.splice(0), [true]);
  enableMsi(device);
  assertEquals(told.splice(0), [false, "msi"]);
  interrupts.resend();
  assertEquals(told.splice(0), ["msi"]);
  device.vgpu.write(0, gt0.isr + BANK_IIR, 4, 1, 0);
  interrupts.resend();
  assertEquals(told, []);
});

Deno.test("Interrupts show the interrupt in every register before it is told", () => {
  const seen: unknown[] = [];
  const look = () => {
    const { pci, registers } = device.vgpu;
    seen.push([pci.readByte(0x06), registers.get(MASTER_IRQ), registers.get(gt0.isr + BANK_IIR)]);
  };
  using device = createDevice({ interrupts: { msi: look, intx: look } });
  enable(device);
  device.vgpu.interrupts.raise(gt0, 1);
  enableMsi(device);
  assertEquals(seen, [[0x18, 0x80000001, 1], [0x10, 0x80000001, 1], [0x10, 0x80000001, 1]]);
});

Deno.test("Interrupts work again after the reset that ends failsafe mode", () => {
  const { device, told } = enabled();
  using _ = device;
  device.vgpu.bar0.enterFailsafe();
  device.vgpu.reset();
  enable(device);
  device.vgpu.interrupts.raise(gt0, 1);
  assertEquals(told, [true]);
});

Deno.test("Interrupts state() tells the banks that differ from their reset values", () => {
  const { device } = enabled();
  using _ = device;
  const { interrupts } = device.vgpu;
  device.vgpu.write(0, INTERRUPT_BANKS.pch.isr + BANK_IMR, 4, 0xfffdffff, 0);
  const banks = [["gt0", 0, 0, 0xffffffff], ["pch", 0xfffdffff, 0, 0]] as const;
  assertEquals(interrupts.state(), { master: MASTER_ENABLE, pending: false, msi: false, intx: false, banks });
  interrupts.raise(gt0, 0x10000);
  const { master, pending, intx } = interrupts.state();
  assertEquals([master, pending, intx], [0x80000002, true, true]);
});
