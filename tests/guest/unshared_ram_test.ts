/** A guest whose RAM the device cannot reach, because QEMU was started without a shared memfd. */

import { assertEquals } from "@std/assert";
import { checkIdentity } from "./checks.ts";
import { Guest } from "./guest.ts";
import { guestTest } from "./guest_test_case.ts";
import {
  announce,
  APERTURE,
  build4,
  invalidateTlb,
  pageEntry,
  setEntry,
  setGgttEntry,
  settle,
} from "./page_tables.ts";
import { Vgpu } from "./vgpu.ts";

const GMA = 0x8080604000n;
/** The host frame of guest frame 0 (`protocol/README.md` §4). */
const FIRST_HOST_FRAME = 0x100000n;
const HINT = /guest RAM is not shared: add -object memory-backend-memfd\S*,share=on/g;

guestTest("vgpu in a guest whose RAM is not shared", async ({ bench, scope, step }) => {
  await using vgpu = await Vgpu.start(scope);
  await using guest = await Guest.boot(bench, { vgpus: [vgpu.socket], shared: false });
  const { agent } = guest;

  await step("the guest boots and has its vGPU", async () => {
    await checkIdentity(agent, "0000:00:02.0");
  });

  await step("the device says once what is wrong", () => {
    assertEquals([...vgpu.log.matchAll(HINT)].length, 1, vgpu.log);
    return Promise.resolve();
  });

  await step("a load through the aperture reads 0, at once, and a posted store arrives", async () => {
    const [page] = await agent.pages(1) as [bigint];
    await agent.poke(page, 8, 0x1111);
    await setGgttEntry(agent, APERTURE, page);
    assertEquals(await agent.read(2, Number(APERTURE), 8), 0n);
    await agent.write(2, Number(APERTURE), 8, 0x2222);
    await settle(agent);
    assertEquals(await agent.peek(page, 8), 0x2222n);
  });

  await step("page tables in it are read while the notification is posted", async () => {
    const [page, next] = await agent.pages(2) as [bigint, bigint];
    const table = await build4(agent, GMA, page);
    await announce(agent, table);
    const mm = await vgpu.newPageTable([]);
    assertEquals((await vgpu.translate(mm, GMA)).shadow, hostFrame(page));
    await setEntry(agent, table.pte, 4, pageEntry(next));
    await invalidateTlb(agent);
    assertEquals((await vgpu.translate(mm, GMA)).shadow, hostFrame(next));
  });
});

/** What the device calls the frame of a page of the guest. */
function hostFrame(page: bigint): string {
  return `0x${(page / 4096n + FIRST_HOST_FRAME).toString(16)}`;
}
