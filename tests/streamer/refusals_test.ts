import { assertEquals } from "@std/assert";
import { END, GGTT, NOOP, spinner, start, store } from "./commands.ts";
import { IMAGE } from "./context.ts";
import { FAULT, FOREIGN, GDRST, Guest, HIDDEN } from "./guest.ts";

/** Bits of a descriptor. */
const VALID = 1;
const PRIVILEGED = 0x100;
const FOUR_LEVELS = 0x18;
/** Where the vGPU's hidden graphics memory ends: 384 MiB behind its beginning. */
const HIDDEN_END = HIDDEN + (384 << 20);

/** What is left of a refused submission: nothing ran, no context ended; and the engine runs after a reset. */
async function assertRefused(guest: Guest, marker: number): Promise<void> {
  await guest.stall();
  assertEquals(await guest.words(marker, 1), [0]);
  const events = await guest.events("rcs0");
  assertEquals(events.filter(([status]) => (status & 0x18) !== 0), []);
  assertEquals(await guest.device.counter("csRefusedSubmissions"), 1);
  await guest.writeAt(GDRST, 0x2);
  await guest.resume("rcs0");
  await guest.assertWorks("rcs0");
}

for (
  const [why, descriptor] of [
    ["without the valid bit", PRIVILEGED + FOUR_LEVELS],
    ["without the privilege bit", VALID + FOUR_LEVELS],
    ["in addressing mode 0", VALID + PRIVILEGED],
    ["in addressing mode 2", VALID + PRIVILEGED + 0x10],
  ] as const
) {
  Deno.test(`a context ${why} is refused at once, without an event`, async () => {
    await using guest = await Guest.start();
    const context = await guest.context("rcs0");
    await context.append(store(guest.global, 1, GGTT));
    const lo = context.descriptor - context.descriptor % 4096 + descriptor;
    await guest.submitRaw("rcs0", 0, 0, context.id, lo);
    assertEquals(await guest.events("rcs0"), []);
    assertEquals(await guest.read("rcs0", "status"), 0);
    await assertRefused(guest, guest.globalPage);
  });

  Deno.test(`a pair whose second context is ${why} is refused whole, if there is one`, async () => {
    await using guest = await Guest.start();
    const [first, second] = [await guest.context("rcs0"), await guest.context("rcs0")];
    await first.append(store(guest.global, 1, GGTT));
    await second.append(store(guest.global + 4, 1, GGTT));
    const lo = (second.descriptor - second.descriptor % 4096) + descriptor;
    await guest.submitRaw("rcs0", second.id, lo, first.id, first.descriptor);
    await guest.stall();
    const isThere = (descriptor & VALID) !== 0;
    assertEquals(await guest.words(guest.globalPage, 2), [isThere ? 0 : 1, 0]);
    assertEquals(await guest.device.counter("csRefusedSubmissions"), isThere ? 1 : 0);
  });
}

Deno.test("a context outside the vGPU's graphics memory is refused", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("rcs0");
  await context.append(store(guest.global, 1, GGTT));
  await guest.setGlobal(FOREIGN, context.status + 1);
  await guest.setGlobal(FOREIGN + 4096, context.image + 1);
  await guest.submitRaw("rcs0", 0, 0, context.id, FOREIGN + context.descriptor % 4096);
  await assertRefused(guest, guest.globalPage);
});

Deno.test("a context that only begins in the vGPU's graphics memory is refused", async () => {
  await using guest = await Guest.start();
  await guest.submitRaw("rcs0", 0, 0, 0x20, HIDDEN_END - 4096 + VALID + PRIVILEGED + FOUR_LEVELS);
  await assertRefused(guest, guest.globalPage);
});

Deno.test("a context whose registers lead nowhere is refused", async () => {
  await using guest = await Guest.start();
  const gma = await guest.mapGlobal(guest.page()); // and no second page
  await guest.submitRaw("rcs0", 0, 0, 0x20, gma + VALID + PRIVILEGED + FOUR_LEVELS);
  await assertRefused(guest, guest.globalPage);
});

for (
  const [why, index, value] of [
    ["whose ring is another's graphics memory", IMAGE.start, FOREIGN],
    ["whose ring ends outside the vGPU's graphics memory", IMAGE.start, HIDDEN_END - 4096],
    ["without a ring", IMAGE.ringControl, 0x1000],
    ["whose head is behind its ring", IMAGE.head, 0x2000],
  ] as const
) {
  Deno.test(`a context ${why} is refused`, async () => {
    await using guest = await Guest.start();
    const context = await guest.context("rcs0", { pages: 2 });
    await context.append(store(guest.global, 1, GGTT));
    await context.set(index, value);
    await guest.submit("rcs0", context);
    await assertRefused(guest, guest.globalPage);
  });
}

Deno.test("a context whose page table cannot be shadowed is refused, and an engine that hangs so can be reset", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("rcs0");
  await context.append(store(guest.global, 1, GGTT));
  await context.set(IMAGE.pdp0, 0x4000_0000); // no RAM
  await guest.submit("rcs0", context);
  await assertRefused(guest, guest.globalPage);
});

Deno.test("a ring whose page is not mapped is a fault of the GGTT", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("vcs0");
  await context.append([NOOP]);
  const ring = await context.get(IMAGE.start);
  await guest.setGlobal(ring, 0);
  await guest.submit("vcs0", context);
  await guest.stall();
  assertEquals(await guest.readAt(FAULT), 0x1801); // valid, GGTT, engine 1
  assertEquals(await guest.readAt(0x4b10), ring / 4096);
  assertEquals(await guest.readAt(0x4b14), 0x10);
  assertEquals(await guest.events("vcs0"), [[0x01, 0]]);
});

Deno.test("a status page outside the vGPU's graphics memory is refused, and none is taken", async () => {
  await using guest = await Guest.start();
  const page = await guest.read("rcs0", "statusPage");
  await guest.write("rcs0", "statusPage", FOREIGN);
  assertEquals(await guest.read("rcs0", "statusPage"), page);
  await guest.assertWorks("rcs0");
  await guest.write("rcs0", "statusPage", 0);
  assertEquals(await guest.read("rcs0", "statusPage"), 0);
});

Deno.test("a status page that leads nowhere costs its copy of the entries and nothing else", async () => {
  await using guest = await Guest.start();
  await guest.setGlobal(await guest.read("rcs0", "statusPage"), 0);
  const context = await guest.context("rcs0");
  await context.append(store(guest.global, 7, GGTT));
  await guest.submit("rcs0", context);
  await guest.settle("rcs0");
  assertEquals(await guest.words(guest.globalPage, 1), [7]);
  assertEquals([await guest.readAt(0x2370), await guest.readAt(0x2378)], [0x01, 0x18]);
  assertEquals(await guest.readAt(FAULT), 0);
});

Deno.test("a submission before run lists are enabled does nothing, nor count for the next", async () => {
  await using guest = await Guest.start({ isReady: false });
  const context = await guest.context("bcs0");
  await context.append(store(guest.global, 1, GGTT));
  await guest.submit("bcs0", context);
  await guest.write("bcs0", "submissionPort", 0);
  assertEquals(guest.device.service.served.isRunnable, false);
  await guest.ready();
  assertEquals(await guest.words(guest.globalPage, 1), [0]);
  await guest.assertWorks("bcs0");
});

Deno.test("a submission of a guest that is no bus master is dropped, and touches no memory", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("rcs0");
  await context.append(store(guest.global, 1, GGTT));
  await guest.vmm.call("mmio_write", 7, 0x04, 2, 0x0002);
  const bad = await guest.device.counter("badRegisterWrites");
  await guest.submit("rcs0", context);
  assertEquals(guest.device.service.served.isRunnable, false);
  assertEquals(await guest.words(guest.globalPage, 1), [0]);
  assertEquals(await guest.device.counter("badRegisterWrites"), bad + 4);
  await guest.vmm.call("mmio_write", 7, 0x04, 2, 0x0006);
  await guest.assertWorks("rcs0");
});

Deno.test("an engine waits while its guest is no bus master, and goes on when it is again", async () => {
  await using guest = await Guest.start();
  await guest.write("rcs0", "mode", 0x0100_0100);
  await guest.startRing("rcs0", store(guest.global, 1, GGTT));
  await guest.vmm.call("mmio_write", 7, 0x04, 2, 0x0002);
  await guest.write("rcs0", "mode", 0x0100_0000);
  assertEquals(guest.device.service.served.isRunnable, false);
  assertEquals(await guest.words(guest.globalPage, 1), [0]);
  await guest.vmm.call("mmio_write", 7, 0x04, 2, 0x0006);
  await guest.settle("rcs0");
  assertEquals(await guest.words(guest.globalPage, 1), [1]);
});

Deno.test("run lists that are enabled before PVINFO was read are those of a guest without an idea: failsafe", async () => {
  await using guest = await Guest.start({ isReady: false });
  await guest.write("rcs0", "ringMode", 0x8000_8000);
  assertEquals((await guest.vmm.call("state"))["failsafe"], true);
  const context = await guest.context("rcs0");
  await context.append(store(guest.global, 1, GGTT));
  await guest.submit("rcs0", context);
  assertEquals(guest.device.service.served.isRunnable, false);
  assertEquals(await guest.words(guest.globalPage, 1), [0]);
});

Deno.test("RING_MODE keeps what it may, without bit 0", async () => {
  await using guest = await Guest.start();
  await guest.write("vecs0", "ringMode", 0x0003_0003);
  assertEquals(await guest.read("vecs0", "ringMode"), 0x8002);
  await guest.write("vecs0", "ringMode", 0x8000_0000);
  assertEquals(await guest.read("vecs0", "ringMode"), 0x0002);
});

Deno.test("failsafe mode ends what runs", async () => {
  await using guest = await Guest.start();
  await guest.startBatch("rcs0", spinner(guest.batch));
  await guest.stall();
  await guest.writeAt(0x78808, 1); // out of resources
  assertEquals(guest.device.service.served.isRunnable, false);
  guest.device.assertSound();
  await guest.vmm.call("reset");
  await guest.ready();
  guest.global = await guest.mapGlobal(guest.globalPage);
  await guest.assertWorks("rcs0");
});

Deno.test("a third submission while two are there replaces the one that waits", async () => {
  await using guest = await Guest.start();
  const contexts = [await guest.context("rcs0"), await guest.context("rcs0"), await guest.context("rcs0")];
  await guest.put(guest.batch, spinner(guest.batch));
  await contexts[0]!.append(start(guest.batch));
  await contexts[1]!.append(store(guest.global, 1, GGTT));
  await contexts[2]!.append(store(guest.global + 4, 2, GGTT));
  for (const context of contexts) await guest.submit("rcs0", context);
  await guest.put(guest.batch, [END]);
  await guest.settle("rcs0");
  assertEquals(await guest.words(guest.globalPage, 2), [0, 2]);
  assertEquals(await guest.device.counter("csRefusedSubmissions"), 1);
});
