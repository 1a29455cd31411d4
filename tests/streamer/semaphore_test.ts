import { assertEquals } from "@std/assert";
import { END, GGTT, start, store, WAIT, wait } from "./commands.ts";
import { le32 } from "../scenarios/guest_pages.ts";
import { ENGINE_NAMES, GDRST, Guest, NOWHERE } from "./guest.ts";

const HIGH = 0x8000_0000;

for (
  const [test, data, satisfied, not] of [
    ["above", 5, [6, HIGH], [5, 4]],
    ["atLeast", 5, [5, HIGH], [4, 0]],
    ["below", 5, [4, 0], [5, HIGH]],
    ["atMost", 5, [5, 4], [6, HIGH]],
    ["equal", 5, [5, 5], [4, 6]],
    ["other", 5, [4, HIGH], [5, 5]],
  ] as const
) {
  Deno.test(`MI_SEMAPHORE_WAIT for memory that is ${test} its data`, async () => {
    await using guest = await Guest.start();
    for (const [index, value] of satisfied.entries()) {
      await guest.put(guest.data, [value]);
      await guest.runBatch("rcs0", [
        ...wait(guest.data, WAIT[test], data),
        ...store(guest.data + 8, index + 1),
      ]);
      assertEquals(await guest.get(guest.data + 8), [index + 1]);
    }
    for (const value of not) {
      await guest.put(guest.data, [value]);
      await guest.startBatch("rcs0", [...wait(guest.data, WAIT[test], data), ...store(guest.data + 8, 99)]);
      await guest.stall();
      assertEquals(await guest.get(guest.data + 8), [2]);
      await guest.put(guest.data, [satisfied[0]]); // by the CPU
      await guest.settle("rcs0");
      assertEquals(await guest.get(guest.data + 8), [99]);
      await guest.put(guest.data + 8, [2]);
    }
  });
}

Deno.test("engines hand over to one another by semaphores", async () => {
  await using guest = await Guest.start();
  // Each waits for its number and counts on: the last in the order of names first.
  for (const [index, engine] of ENGINE_NAMES.entries()) {
    const context = await guest.contextOf(engine);
    const turn = ENGINE_NAMES.length - 1 - index;
    await context.append([
      ...wait(guest.global, WAIT.equal, turn, GGTT),
      ...store(guest.global + 0x10 + 4 * turn, 0x100 + index, GGTT),
      ...store(guest.global, turn + 1, GGTT),
    ]);
    await guest.submit(engine, context);
  }
  for (const engine of ENGINE_NAMES) await guest.settle(engine);
  assertEquals(await guest.words(guest.globalPage + 0x10, 4), [0x103, 0x102, 0x101, 0x100]);
});

Deno.test("an engine that waits leaves the others running, and the VMM its answers", async () => {
  await using guest = await Guest.start();
  await guest.startRing("bcs0", wait(guest.global, WAIT.equal, 1, GGTT));
  await guest.stall();
  for (const engine of ["rcs0", "vcs0", "vecs0"] as const) await guest.assertWorks(engine);
  assertEquals(await guest.read("bcs0", "statusContext"), (await guest.contextOf("bcs0")).id);
  await guest.vmm.call("mem_write", guest.globalPage, le32(1));
  await guest.settle("bcs0");
});

Deno.test("a semaphore is satisfied by a store through the aperture", async () => {
  await using guest = await Guest.start();
  const page = guest.page();
  const gma = 64 << 20; // the vGPU's part of the aperture begins here
  await guest.setGlobal(gma, page + 1);
  await guest.startRing("rcs0", wait(gma + 0x80, WAIT.equal, 0x77, GGTT));
  await guest.stall();
  await guest.vmm.call("mmio_write", 2, gma + 0x80, 4, 0x77);
  await guest.settle("rcs0");
});

Deno.test("a semaphore where nothing is mapped reads 0", async () => {
  await using guest = await Guest.start();
  await guest.runBatch("rcs0", [...wait(NOWHERE, WAIT.equal, 0), ...store(guest.data, 1)]);
  assertEquals(await guest.get(guest.data), [1]);
});

Deno.test("a semaphore by the GGTT without privilege does not wait", async () => {
  await using guest = await Guest.start();
  await guest.runBatch("rcs0", [...wait(guest.global, WAIT.equal, 1, GGTT), ...store(guest.data, 1)]);
  assertEquals(await guest.get(guest.data), [1]);
});

Deno.test("a waiting engine takes a lite restore and goes on waiting", async () => {
  await using guest = await Guest.start();
  const context = await guest.contextOf("vcs0");
  await context.append(wait(guest.global, WAIT.equal, 1, GGTT));
  await guest.submit("vcs0", context);
  await guest.stall();
  await context.append(store(guest.global + 4, 2, GGTT));
  await guest.submit("vcs0", context);
  await guest.stall();
  assertEquals(await guest.events("vcs0"), [[0x01, 0], [0x8002, context.id]]);
  assertEquals(await guest.words(guest.globalPage + 4, 1), [0]);
  await guest.vmm.call("mem_write", guest.globalPage, le32(1));
  await guest.settle("vcs0");
  assertEquals(await guest.words(guest.globalPage + 4, 1), [2]);
});

Deno.test("a waiting engine is reset", async () => {
  await using guest = await Guest.start();
  await guest.put(guest.batch, [...wait(guest.data, WAIT.equal, 1), END]);
  await guest.startRing("vecs0", start(guest.batch));
  await guest.stall();
  await guest.writeAt(GDRST, 1 << 4);
  await guest.resume("vecs0");
  await guest.assertWorks("vecs0");
  guest.device.assertSound();
});

Deno.test("MI_SEMAPHORE_SIGNAL and mailbox updates are skipped by their lengths", async () => {
  await using guest = await Guest.start();
  await guest.runBatch("rcs0", [
    ...[0x0d80_0000, 0x0500_0000],
    ...[0x0b00_0001, 0x0500_0000, 0x0500_0000],
    ...store(guest.data, 1),
  ]);
  assertEquals(await guest.get(guest.data), [1]);
});
