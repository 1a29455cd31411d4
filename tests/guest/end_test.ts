/** What is left when one of the two ends without a word. */

import { assert, assertEquals } from "@std/assert";
import { CHECKED, checkGgttPage, checkIdentity, takeVgpu } from "./checks.ts";
import { Guest } from "./guest.ts";
import { guestTest } from "./guest_test_case.ts";
import { announce, build4, PVINFO } from "./page_tables.ts";
import { Vgpu } from "./vgpu.ts";

const GMA = 0x8080604000n;
const ALL_ONES = 0xffffffffffffffffn;

guestTest("vgpu whose guest or device is killed", async ({ bench, scope, step }) => {
  await using vgpu = await Vgpu.start(scope);
  const before = await vgpu.holdings();

  await step("nothing of a killed guest is left", async () => {
    await using guest = await Guest.boot(bench, { name: "first", vgpus: [vgpu.socket] });
    await takeVgpu(guest.agent);
    const page = (await guest.agent.pages(1))[0]!;
    await checkGgttPage(guest.agent, vgpu, page);
    await announce(guest.agent, await build4(guest.agent, GMA, page));
    assert((await vgpu.holdings()).memfds.length > 0, "the guest's RAM is mapped");
    await guest.kill();
    await vgpu.holdsAgain(before);
    assertEquals(await vgpu.pageTables(), []);
  });

  await using guest = await Guest.boot(bench, { name: "second", vgpus: [vgpu.socket] });

  await step("the next guest is served as the first was", async () => {
    await checkIdentity(guest.agent, "0000:00:02.0");
    assertEquals((await vgpu.translate("ggtt", CHECKED)).guest, null);
    await checkGgttPage(guest.agent, vgpu, (await guest.agent.pages(1))[0]!);
  });

  await step("a guest survives its device and reads all ones", async () => {
    await vgpu.kill();
    assertEquals(await guest.agent.read(0, PVINFO, 8), ALL_ONES);
    assertEquals(await guest.agent.read(2, Number(CHECKED), 8), ALL_ONES);
    await guest.agent.write(0, PVINFO + 0x818, 4, 4);
    assert(await guest.runs());
    const page = (await guest.agent.pages(1))[0]!;
    await guest.agent.poke(page, 8, 1);
    assertEquals(await guest.agent.peek(page, 8), 1n);
  });
});
