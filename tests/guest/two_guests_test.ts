/** Two vGPUs for two guests at once. */

import { assertEquals } from "@std/assert";
import type { Agent } from "./agent.ts";
import { assertLeads, CHECKED, checkGgttPage, checkIdentity } from "./checks.ts";
import { Guest } from "./guest.ts";
import { guestTest } from "./guest_test_case.ts";
import { announce, build4, settle, withdraw } from "./page_tables.ts";
import { Vgpu } from "./vgpu.ts";

const GMA = 0x8080604000n;
const NAMES = ["a", "b"] as const;

guestTest("two vgpus in two guests", async ({ bench, scope, step }) => {
  await using stack = new AsyncDisposableStack();
  const pairs = await Promise.all(NAMES.map(async (name) => {
    const vgpu = stack.use(await Vgpu.start(scope, `vgpu-${name}`));
    const guest = stack.use(await Guest.boot(bench, { name, vgpus: [vgpu.socket] }));
    return { vgpu, guest };
  }));

  await step("each guest works with its own, while the other does too", async () => {
    await Promise.all(pairs.map(async ({ vgpu, guest: { agent } }) => {
      await checkIdentity(agent, "0000:00:02.0");
      const [page] = await agent.pages(1) as [bigint];
      await checkGgttPage(agent, vgpu, page);
      for (let round = 0; round < 5; round++) {
        const table = await build4(agent, GMA, page);
        await announce(agent, table);
        await assertLeads(vgpu, await vgpu.newPageTable([]), GMA, page);
        await withdraw(agent, table);
      }
    }));
  });

  await step("what one guest stores the other does not see", async () => {
    const [first, second] = pairs.map(({ guest: { agent } }) => agent) as [Agent, Agent];
    const same = 0x1f0100;
    await first.write(0, same, 4, 0x11111111);
    await second.write(0, same, 4, 0x22222222);
    assertEquals(await first.read(0, same, 4), 0x11111111n);
    assertEquals(await second.read(0, same, 4), 0x22222222n);
    const [page] = await first.pages(1) as [bigint];
    await checkGgttPage(first, pairs[0]!.vgpu, page);
    await second.write(2, Number(CHECKED) + 0x100, 8, 0x3333333333333333n);
    await settle(second);
    assertEquals(await first.peek(page + 0x100n, 8), 0x0123456789abcdefn ^ page);
  });
});
