/** A guest on QEMU's `q35` machine with more than 4 GiB of RAM, and a root port to plug vGPUs into. */

import { assert, assertEquals } from "@std/assert";
import { assertLeads, checkGgttPage, checkIdentity, takeVgpu } from "./checks.ts";
import { Guest } from "./guest.ts";
import { guestTest } from "./guest_test_case.ts";
import { Hotplug } from "./hotplug.ts";
import { announce, build4, withdraw } from "./page_tables.ts";
import { Vgpu } from "./vgpu.ts";

const CYCLES = 10;
const FOUR_GIB = 1n << 32n;
const GMA = 0x8080604000n;

guestTest("vgpu in a guest on q35 with 6 GiB of RAM", async ({ bench, scope, step }) => {
  await using vgpu = await Vgpu.start(scope);
  await using plugged = await Vgpu.start(scope, "plugged");
  const more = ["-device", "pcie-root-port,id=root,slot=1,chassis=1,addr=05.0"];
  await using guest = await Guest.boot(bench, {
    machine: "q35",
    memory: "6G",
    vgpus: [vgpu.socket],
    more,
  });
  const { agent } = guest;

  await step("a guest finds the vGPU with its BARs, and PVINFO in it", async () => {
    await checkIdentity(agent, "0000:00:02.0");
  });

  await step("pages and tables above 4 GiB are translated", async () => {
    const [page] = await agent.pages(1) as [bigint];
    assert(page >= FOUR_GIB, "Linux gives out its highest pages first");
    await checkGgttPage(agent, vgpu, page);
    const table = await build4(agent, GMA, page);
    assert(table.roots[0]! >= FOUR_GIB);
    const old = await vgpu.pageTables();
    await announce(agent, table);
    await assertLeads(vgpu, await vgpu.newPageTable(old), GMA + 0x10n, page + 0x10n);
    await withdraw(agent, table);
    assertEquals(await vgpu.pageTables(), old);
  });

  await step("a vGPU is plugged into a root port and out again", async () => {
    const hotplug = new Hotplug(guest, { bus: "root" });
    await agent.command("unmap");
    const before = await plugged.holdings();
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      await hotplug.plug(plugged.socket, "0000:01:00.0");
      await hotplug.unplug("0000:01:00.0");
    }
    await plugged.holdsAgain(before);
    await takeVgpu(agent); // the other one is still there
  });
});
