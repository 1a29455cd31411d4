/** Attaching and detaching, many times. */

import { checkGgttPage, checkIdentity } from "./checks.ts";
import { Guest } from "./guest.ts";
import { guestTest } from "./guest_test_case.ts";
import { Hotplug } from "./hotplug.ts";
import { Vgpu } from "./vgpu.ts";

const CYCLES = 50;
const ADDRESS = "04.0";
const NAME = "0000:00:04.0";

guestTest("vgpu plugged into a running guest and out again", async ({ bench, scope, step }) => {
  await using vgpu = await Vgpu.start(scope);
  await using guest = await Guest.boot(bench);
  const { agent } = guest;
  const hotplug = new Hotplug(guest, { addr: ADDRESS });
  const before = await vgpu.holdings();

  await step("a vGPU that is plugged in works", async () => {
    await hotplug.plug(vgpu.socket, NAME);
    await checkIdentity(agent, NAME);
    await checkGgttPage(agent, vgpu, (await agent.pages(1))[0]!);
    await agent.command("unmap");
    await hotplug.unplug(NAME);
    await vgpu.holdsAgain(before);
  });

  await step(`nothing is left of ${CYCLES} guests' visits`, async () => {
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      await hotplug.plug(vgpu.socket, NAME);
      await hotplug.unplug(NAME);
    }
    await vgpu.holdsAgain(before);
  });

  await step("a vGPU works after them as at first", async () => {
    await hotplug.plug(vgpu.socket, NAME);
    await checkIdentity(agent, NAME);
    await checkGgttPage(agent, vgpu, (await agent.pages(1))[0]!);
  });
});
