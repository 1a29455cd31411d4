import { assertEquals, assertStringIncludes } from "@std/assert";
import type { Client } from "../../protocol/client.ts";
import { Attached, refusal } from "./attached.ts";

const MASTER = 0x44200;
const ENABLE = 0x8000_0000;
const GT0_ISR = 0x44300;
const GT0_IMR = 0x44304;
const GT0_IIR = 0x44308;
const GT0_IER = 0x4430c;

const COMMAND = 0x04;
const MEMORY_AND_MASTER = 0x0006;
const STATUS = 0x06;
const MSI_CONTROL = 0x92;
const POWER_STATE = 0xd4;

/** What the device told, since the last look. */
function told(device: Attached): unknown[] {
  return device.notices.splice(0);
}

/** A guest that uses interrupts as i915 does. */
class Guest implements AsyncDisposable {
  readonly device: Attached;
  readonly vmm: Client;

  private constructor(device: Attached) {
    this.device = device;
    this.vmm = device.vmm;
  }

  /** A guest that has enabled bits 0, 3, 8 and 11 of both halves of bank gt0, with MSI or without. */
  static async start({ msi = true }: { msi?: boolean } = {}): Promise<Guest> {
    const guest = new Guest(await Attached.start({ debug: true }));
    await guest.configure(COMMAND, 2, MEMORY_AND_MASTER);
    if (msi) await guest.configure(MSI_CONTROL, 2, 1);
    await guest.write(GT0_IER, 0x0909_0909);
    await guest.write(GT0_IMR, 0xf6f6_f6f6);
    await guest.write(MASTER, ENABLE);
    assertEquals(told(guest.device), []);
    return guest;
  }

  async read(offset: number): Promise<number> {
    return Number(await this.vmm.call("mmio_read", 0, offset, 4));
  }

  async write(offset: number, value: number): Promise<void> {
    await this.vmm.call("mmio_write", 0, offset, 4, value);
  }

  async configure(offset: number, size: 1 | 2 | 4, value: number): Promise<void> {
    await this.vmm.call("mmio_write", 7, offset, size, value);
  }

  /** Whether the status register says that an interrupt is due by the line. */
  async status(): Promise<boolean> {
    return (Number(await this.vmm.call("mmio_read", 7, STATUS, 2)) & 0x8) !== 0;
  }

  /** The hardware behind bank gt0 raises events. @returns What the device told the VMM for it. */
  async raise(bits: number): Promise<unknown[]> {
    await this.vmm.call("debug_raise", "gt0", bits);
    return told(this.device);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.device[Symbol.asyncDispose]();
  }
}

Deno.test("an event sends one message, however many follow until it is handled", async () => {
  await using guest = await Guest.start();
  assertEquals(await guest.raise(0x1), [["irq", 0]]);
  assertEquals(await guest.raise(0x1), []);
  assertEquals(await guest.raise(0x0100_0000), []);
  assertEquals(await guest.read(GT0_IIR), 0x0100_0001);
  assertEquals((await guest.vmm.call("stats"))["msis"], 1);
});

Deno.test("a handler as i915's acknowledges an event, and the next event sends the next message", async () => {
  await using guest = await Guest.start();
  for (let i = 0; i < 3; i++) {
    assertEquals(await guest.raise(0x101), [["irq", 0]]);
    await guest.write(MASTER, 0);
    assertEquals(await guest.read(MASTER), 0x1); // bank gt0, lower half
    assertEquals(await guest.read(GT0_IIR), 0x101);
    await guest.write(GT0_IIR, 0x101);
    assertEquals(await guest.read(MASTER), 0);
    await guest.write(MASTER, ENABLE);
    assertEquals(told(guest.device), []);
  }
});

Deno.test("enabling the master again sends another message for what is left", async () => {
  await using guest = await Guest.start();
  await guest.raise(0x101);
  await guest.write(MASTER, 0);
  await guest.write(GT0_IIR, 0x100);
  await guest.write(MASTER, ENABLE);
  assertEquals(told(guest.device), [["irq", 0]]);
  assertEquals(await guest.read(MASTER), ENABLE + 0x1);
});

Deno.test("an event that comes while the master is off is told when it is on", async () => {
  await using guest = await Guest.start();
  await guest.write(MASTER, 0);
  assertEquals(await guest.raise(0x1), []);
  await guest.write(MASTER, ENABLE);
  assertEquals(told(guest.device), [["irq", 0]]);
});

Deno.test("a masked event is lost, also for who unmasks it later", async () => {
  await using guest = await Guest.start();
  await guest.write(GT0_IMR, 0xffff_fffe);
  assertEquals(await guest.raise(0x100), []);
  await guest.write(GT0_IMR, 0);
  assertEquals([told(guest.device), await guest.read(GT0_IIR)], [[], 0]);
});

Deno.test("an event that came before its mask was set is still told", async () => {
  await using guest = await Guest.start();
  await guest.write(MASTER, 0);
  await guest.raise(0x1);
  await guest.write(GT0_IMR, 0xffff_ffff);
  await guest.write(MASTER, ENABLE);
  assertEquals(told(guest.device), [["irq", 0]]);
});

Deno.test("an event that is not enabled stays in IIR and is told when it is enabled", async () => {
  await using guest = await Guest.start();
  await guest.write(GT0_IER, 0x100);
  assertEquals(await guest.raise(0x1), []);
  assertEquals([await guest.read(GT0_IIR), await guest.read(MASTER)], [0x1, ENABLE]);
  await guest.write(GT0_IER, 0x101);
  assertEquals(told(guest.device), [["irq", 0]]);
});

Deno.test("IIR loses exactly the bits and bytes that are written as ones", async () => {
  await using guest = await Guest.start();
  await guest.raise(0x0909_0909);
  await guest.write(GT0_IIR, 0);
  assertEquals(await guest.read(GT0_IIR), 0x0909_0909);
  await guest.write(GT0_IIR, 0xf6f6_f601);
  assertEquals(await guest.read(GT0_IIR), 0x0909_0908);
  await guest.vmm.call("mmio_write", 0, GT0_IIR + 1, 1, 0xff);
  assertEquals(await guest.read(GT0_IIR), 0x0909_0008);
  await guest.vmm.call("mmio_write", 0, GT0_IIR + 2, 2, 0x0900);
  assertEquals(await guest.read(GT0_IIR), 0x0009_0008);
});

Deno.test("each bank shows as its own bits of the master register", async () => {
  const banks = [
    ["gt0", 0x44300, 0x0000_ffff, 0],
    ["gt0", 0x44300, 0xffff_0000, 1],
    ["gt1", 0x44310, 0x0000_ffff, 2],
    ["gt1", 0x44310, 0xffff_0000, 3],
    ["gt2", 0x44320, 0x0000_ffff, 4],
    ["gt2", 0x44320, 0xffff_0000, 5],
    ["gt3", 0x44330, 0x0000_ffff, 6],
    ["pipeA", 0x44400, 0xffff_ffff, 16],
    ["pipeB", 0x44410, 0xffff_ffff, 17],
    ["pipeC", 0x44420, 0xffff_ffff, 18],
    ["port", 0x44440, 0xffff_ffff, 20],
    ["misc", 0x44460, 0xffff_ffff, 22],
    ["pch", 0xc4000, 0xffff_ffff, 23],
    ["pcu", 0x444e0, 0xffff_ffff, 30],
  ] as const;
  await using guest = await Guest.start();
  for (const [bank, isr, bits, summary] of banks) {
    await guest.write(isr + 0x4, 0);
    await guest.write(isr + 0xc, 0xffff_ffff);
    await guest.vmm.call("debug_raise", bank, bits);
    assertEquals(await guest.read(MASTER), ENABLE + 2 ** summary, bank);
    await guest.write(isr + 0x8, bits);
    assertEquals(await guest.read(MASTER), ENABLE, bank);
  }
  assertEquals(told(guest.device), banks.map(() => ["irq", 0]));
});

Deno.test("of the master register a guest writes bit 31 only, and of ISR nothing", async () => {
  await using guest = await Guest.start();
  await guest.write(MASTER, 0x7fff_ffff);
  assertEquals(await guest.read(MASTER), 0);
  await guest.write(MASTER, 0xffff_ffff);
  assertEquals(await guest.read(MASTER), ENABLE);
  await guest.write(GT0_ISR, 0xffff_ffff);
  assertEquals(await guest.read(GT0_ISR), 0);
  assertEquals(await guest.device.counter("badRegisterWrites"), 1);
});

Deno.test("without MSI the line is asserted until the event is acknowledged", async () => {
  await using guest = await Guest.start({ msi: false });
  assertEquals(await guest.raise(0x1), [["intx", true]]);
  assertEquals(await guest.raise(0x100), []);
  assertEquals(await guest.status(), true);
  await guest.write(GT0_IIR, 0x1);
  assertEquals(told(guest.device), []);
  await guest.write(GT0_IIR, 0x100);
  assertEquals([told(guest.device), await guest.status()], [[["intx", false]], false]);
  assertEquals((await guest.vmm.call("stats"))["intxEdges"], 2);
});

Deno.test("the master register's bit 31 lowers and raises the line", async () => {
  await using guest = await Guest.start({ msi: false });
  await guest.raise(0x1);
  await guest.write(MASTER, 0);
  await guest.write(MASTER, ENABLE);
  assertEquals(told(guest.device), [["intx", false], ["intx", true]]);
});

Deno.test("the command register forbids the line, but the status register still tells", async () => {
  await using guest = await Guest.start({ msi: false });
  await guest.configure(COMMAND, 2, 0x0400 | MEMORY_AND_MASTER);
  assertEquals(await guest.raise(0x1), []);
  assertEquals(await guest.status(), true);
  await guest.configure(COMMAND + 1, 1, 0x00);
  assertEquals(told(guest.device), [["intx", true]]);
  await guest.configure(COMMAND + 1, 1, 0x04);
  assertEquals(told(guest.device), [["intx", false]]);
});

Deno.test("enabling MSI lowers the line and sends the message, disabling it raises the line", async () => {
  await using guest = await Guest.start({ msi: false });
  await guest.raise(0x1);
  told(guest.device);
  await guest.configure(MSI_CONTROL, 2, 1);
  assertEquals([told(guest.device), await guest.status()], [[["intx", false], ["irq", 0]], false]);
  await guest.configure(MSI_CONTROL, 2, 0);
  assertEquals(told(guest.device), [["intx", true]]);
});

Deno.test("a message waits until the device is a bus master", async () => {
  await using guest = await Guest.start();
  await guest.configure(COMMAND, 2, 0x0002);
  assertEquals(await guest.raise(0x1), []);
  await guest.configure(COMMAND, 2, MEMORY_AND_MASTER);
  assertEquals(told(guest.device), [["irq", 0]]);
});

Deno.test("a device in D3 interrupts nobody, and tells what is due when it is in D0 again", async () => {
  for (const [msi, notice] of [[true, ["irq", 0]], [false, ["intx", true]]] as const) {
    await using guest = await Guest.start({ msi });
    await guest.configure(POWER_STATE, 2, 3);
    assertEquals(await guest.raise(0x1), []);
    await guest.configure(POWER_STATE, 2, 0);
    assertEquals(told(guest.device), [notice]);
  }
});

Deno.test("reset lowers the line and masks every event", async () => {
  await using guest = await Guest.start({ msi: false });
  await guest.raise(0x1);
  told(guest.device);
  await guest.vmm.call("reset");
  assertEquals([told(guest.device), await guest.status()], [[["intx", false]], false]);
  const registers = [MASTER, GT0_ISR, GT0_IMR, GT0_IIR, GT0_IER];
  assertEquals(await Promise.all(registers.map((each) => guest.read(each))), [0, 0, 0xffff_ffff, 0, 0]);
  assertEquals(await guest.raise(0x1), []);
  assertEquals(await guest.device.counter("deviceResets"), 1);
});

Deno.test("in failsafe mode the line is lowered and no event comes until the reset", async () => {
  await using guest = await Guest.start({ msi: false });
  await guest.raise(0x1);
  told(guest.device);
  await guest.write(0x78808, 1); // the guest gives up
  assertEquals(told(guest.device), [["intx", false]]);
  await guest.write(MASTER, 0x8000_1234);
  assertEquals(await guest.raise(0x100), []);
  assertEquals([await guest.read(MASTER), await guest.read(GT0_IIR)], [0x8000_1234, 0x1]); // plain storage
  await guest.vmm.call("reset");
  assertEquals(told(guest.device), []);
});

Deno.test("a guest of the next VMM finds no interrupt of the guest before", async () => {
  await using guest = await Guest.start({ msi: false });
  await guest.raise(0x1);
  await guest.vmm.close();
  const next = await guest.device.nextVmm();
  assertEquals(await next.call("mmio_read", 0, GT0_IIR, 4), 0);
  assertEquals(await next.call("mmio_read", 7, STATUS, 2), 0x10);
  const { interrupts } = await next.call("state");
  assertEquals(interrupts, { master: 0, pending: false, msi: false, intx: false, banks: [] });
});

Deno.test("an observer raises events for another's guest, and sees what became of them", async () => {
  await using guest = await Guest.start();
  const observer = await guest.device.connect("observer");
  await observer.call("debug_raise", "gt0", 0x1);
  await guest.read(GT0_IIR); // what was told before is there now
  assertEquals(told(guest.device), [["irq", 0]]);
  assertEquals((await observer.call("state"))["interrupts"], {
    master: 0x8000_0001,
    pending: true,
    msi: true,
    intx: false,
    banks: [["gt0", 0xf6f6_f6f6, 0x1, 0x0909_0909]],
  });
});

Deno.test("debug_raise names the banks to who asks for another", async () => {
  await using guest = await Guest.start();
  const error = await refusal(guest.vmm.call("debug_raise", "toString", 1));
  assertEquals(error.code, "EINVAL");
  assertStringIncludes(error.message, "gt0, gt1, gt2, gt3, pipeA");
});

Deno.test("debug_init lowers the line of the engine that it ends", async () => {
  await using guest = await Guest.start({ msi: false });
  await guest.raise(0x1);
  told(guest.device);
  const windows = { apertureBase: 0, apertureSize: 4096, hiddenBase: 8192, hiddenSize: 4096 };
  await guest.vmm.call("debug_init", {
    ...windows,
    ggttTotal: 65536,
    mappableEnd: 8192,
    oosPool: 0,
    ramPages: 0,
  });
  assertEquals(told(guest.device), [["intx", false]]);
});

Deno.test("i915's way of setting interrupts up finds every IIR empty and every register as written", async () => {
  await using guest = await Guest.start();
  await guest.vmm.call("reset");
  await guest.write(MASTER, 0);
  const [gt, pcu, pch] = [[0x44300, 0x44310, 0x44320, 0x44330], 0x444e0, 0xc4000];
  for (const isr of [...gt, pcu, pch]) {
    await guest.write(isr + 0x4, 0xffff_ffff);
    assertEquals(await guest.read(isr + 0x4), 0xffff_ffff);
    await guest.write(isr + 0xc, 0);
    for (let twice = 0; twice < 2; twice++) {
      await guest.write(isr + 0x8, 0xffff_ffff);
      assertEquals(await guest.read(isr + 0x8), 0);
    }
  }
  for (const [i, ier] of [0x0909_0909, 0x0909_0909, 0, 0x0000_0909].entries()) {
    assertEquals(await guest.read(gt[i]! + 0x8), 0);
    await guest.write(gt[i]! + 0xc, ier);
    await guest.write(gt[i]! + 0x4, ~ier >>> 0);
    assertEquals(await guest.read(gt[i]! + 0x4), ~ier >>> 0);
  }
  assertEquals(await guest.read(pch + 0x8), 0);
  await guest.write(pch + 0xc, 0xffff_ffff);
  await guest.write(pch + 0x4, 0xfffd_ffff);
  await guest.write(MASTER, ENABLE);
  assertEquals(await guest.read(MASTER), ENABLE);
  assertEquals(told(guest.device), []);
});
