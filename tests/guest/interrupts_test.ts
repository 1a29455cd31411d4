/** Interrupts that arrive in the guest. */

import { assertEquals } from "@std/assert";
import type { Agent } from "./agent.ts";
import { COMMAND, MEMORY_AND_BUS_MASTER, takeVgpu } from "./checks.ts";
import { until } from "./deadline.ts";
import { Guest } from "./guest.ts";
import { guestTest } from "./guest_test_case.ts";
import { Vgpu } from "./vgpu.ts";

const DEADLINE = 20_000;
const MASTER_IRQ = 0x44200;
const ENABLE = 0x80000000;
/** The first bank, "gt0". */
const [IMR, IIR, IER] = [0x44304, 0x44308, 0x4430c];

const MSI = 0x90;
/** A message for the first processor. */
const MSI_ADDRESS = 0xfee00000;
/** Linux counts what comes on this vector as "RES"; with one processor nobody else uses it. */
const RESCHEDULE_VECTOR = 0xfd;
const STATUS = 0x06;
const INTERRUPT_PENDING = 0x0008n;

/** How often the vector was hit. */
async function messages(agent: Agent): Promise<number> {
  const line = (await agent.file("/proc/interrupts")).split("\n").find((line) => line.includes("RES:"));
  return parseInt(line!.trim().split(/\s+/)[1]!);
}

/** The guest wants this event of the bank. */
async function enable(agent: Agent, bits: number): Promise<void> {
  await agent.write(0, IMR, 4, ~bits >>> 0);
  await agent.write(0, IER, 4, bits);
  await agent.write(0, MASTER_IRQ, 4, ENABLE);
}

guestTest("interrupts of a vgpu in a guest", async ({ bench, scope, step }) => {
  await using vgpu = await Vgpu.start(scope);
  await using guest = await Guest.boot(bench, { vgpus: [vgpu.socket] });
  const { agent } = guest;
  await takeVgpu(agent);

  await step("an event arrives as an MSI message, once, and again after it is acknowledged", async () => {
    await agent.writeConfig(MSI + 4, 4, MSI_ADDRESS);
    await agent.writeConfig(MSI + 8, 4, 0);
    await agent.writeConfig(MSI + 12, 2, RESCHEDULE_VECTOR);
    await agent.writeConfig(MSI + 2, 2, 1);
    await enable(agent, 0x1);
    const begin = await messages(agent);
    const arrived = (wanted: number) =>
      until(DEADLINE, () => `MSI ${wanted}\n${guest.tail()}\n${vgpu.log}`, async () => {
        return await messages(agent) >= begin + wanted ? true : null;
      });
    for (let round = 1; round <= 3; round++) {
      await vgpu.raise("gt0", 0x1);
      await arrived(round);
      await agent.write(0, MASTER_IRQ, 4, 0);
      assertEquals(await agent.read(0, IIR, 4), 1n);
      await agent.write(0, IIR, 4, 1);
      await agent.write(0, MASTER_IRQ, 4, ENABLE);
    }
    await vgpu.raise("gt0", 0x2); // an event that the guest has masked
    await vgpu.raise("gt0", 0x1);
    await arrived(4);
    assertEquals(await messages(agent), begin + 4);
    await agent.write(0, IIR, 4, 0xffffffff);
    await agent.writeConfig(MSI + 2, 2, 0);
  });

  await step("an event arrives by the interrupt line", async () => {
    const { name } = await agent.find();
    await agent.command("insmod", "/uio.ko");
    await agent.command("insmod", "/uio_pci_generic.ko");
    await agent.echo(`/sys/bus/pci/devices/${name}/driver_override`, "uio_pci_generic");
    await agent.echo("/sys/bus/pci/drivers_probe", name);
    await agent.command("uio_open");
    await takeVgpu(agent);
    await enable(agent, 0x1);
    for (let round = 1; round <= 3; round++) {
      await agent.writeConfig(COMMAND, 2, MEMORY_AND_BUS_MASTER); // the handler has forbidden the line
      await vgpu.raise("gt0", 0x1);
      assertEquals(await agent.command("uio_wait", DEADLINE), round.toString(16));
      assertEquals(await agent.readConfig(STATUS, 2) & INTERRUPT_PENDING, INTERRUPT_PENDING);
      await agent.write(0, IIR, 4, 1);
      assertEquals(await agent.readConfig(STATUS, 2) & INTERRUPT_PENDING, 0n);
    }
  });
});
