import { assertEquals } from "@std/assert";
import { END, GGTT, spinner, start, store, WAIT, wait } from "./commands.ts";
import { IMAGE } from "./context.ts";
import { ENGINE_NAMES, type EngineName, ENGINES, FAULT, GDRST, Guest, NOWHERE } from "./guest.ts";

const STOP = 0x0100_0100;
const GO = 0x0100_0000;
const MODE_IDLE = 0x200;

/** An engine that loops for ever. */
async function spin(guest: Guest, engine: EngineName, at = guest.batch): Promise<void> {
  await guest.put(at, spinner(at));
  await guest.startRing(engine, start(at));
  await guest.stall();
}

for (const engine of ENGINE_NAMES) {
  Deno.test(`${engine} that hangs is reset alone, and works again`, async () => {
    await using guest = await Guest.start();
    for (const [index, each] of ENGINE_NAMES.entries()) await spin(guest, each, guest.batch + 0x1000 * index);
    const before = await guest.read(engine, "statusContext");
    assertEquals(before !== 0, true);
    await guest.write(engine, "mode", STOP);
    assertEquals(await guest.read(engine, "mode") & MODE_IDLE, MODE_IDLE);
    await guest.writeAt(ENGINES[engine].base + 0xd0, 0x0001_0001);
    assertEquals(await guest.read(engine, "resetControl"), 3);
    await guest.writeAt(GDRST, ENGINES[engine].reset);
    assertEquals(await guest.readAt(GDRST), 0);
    await guest.writeAt(ENGINES[engine].base + 0xd0, 0x0001_0000);
    assertEquals(await guest.read(engine, "resetControl"), 0);
    assertEquals([await guest.read(engine, "status"), await guest.read(engine, "statusContext")], [0, 0]);
    assertEquals(await guest.read(engine, "contextStatusPointer") & 7, 5);
    assertEquals(await guest.read(engine, "mode"), MODE_IDLE);
    assertEquals(await guest.read(engine, "interruptMask"), 0xffff_ffff);

    await guest.resume(engine);
    await guest.assertWorks(engine);
    for (const other of ENGINE_NAMES) {
      assertEquals(await guest.read(other, "statusContext") !== 0, other !== engine);
    }
    guest.device.assertSound();
  });
}

for (const [what, mask] of [["all engines", 0x1], ["what every bit says", 0xffff_ffff]] as const) {
  Deno.test(`a reset of ${what} ends what runs everywhere and keeps the GGTT and what was announced`, async () => {
    await using guest = await Guest.start();
    await guest.table.announce();
    for (const [index, each] of ENGINE_NAMES.entries()) await spin(guest, each, guest.batch + 0x1000 * index);
    await guest.writeAt(GDRST, mask);
    assertEquals(guest.device.service.served.isRunnable, false);
    assertEquals((await guest.vmm.call("state"))["mms"], [[0, 4, 1, 0, false]]);
    guest.device.assertSound();
    for (const engine of ENGINE_NAMES) {
      await guest.resume(engine);
      await guest.assertWorks(engine);
    }
    guest.forgetContexts();
    await guest.runBatch("rcs0", store(guest.data, 0x99));
    assertEquals(await guest.get(guest.data), [0x99]);
    assertEquals((await guest.vmm.call("state"))["mms"], [[0, 4, 1, 0, true]]);
  });
}

Deno.test("a reset of other engines' bits, or of none, ends nothing", async () => {
  await using guest = await Guest.start();
  await spin(guest, "bcs0");
  for (const mask of [0, 1 << 1, 1 << 2, 1 << 4, 1 << 5, 1 << 7]) await guest.writeAt(GDRST, mask);
  assertEquals(await guest.read("bcs0", "statusContext") !== 0, true);
  await guest.put(guest.batch, [END]);
  await guest.settle("bcs0");
});

Deno.test("a reset drops what waits, and the half of a submission", async () => {
  await using guest = await Guest.start();
  await spin(guest, "rcs0");
  const waiting = await guest.context("rcs0");
  await waiting.append(store(guest.global, 1, GGTT));
  await guest.submit("rcs0", waiting);
  await guest.write("rcs0", "submissionPort", 0x1234);
  await guest.write("rcs0", "submissionPort", 0x1234);
  await guest.writeAt(GDRST, 0x2);
  await guest.resume("rcs0");
  await guest.assertWorks("rcs0"); // four stores again make one
  assertEquals(await guest.words(guest.globalPage, 1), [0]);
});

Deno.test("a context that hung goes on behind its batch after a reset, as Linux makes it", async () => {
  await using guest = await Guest.start();
  await spin(guest, "rcs0");
  const context = await guest.contextOf("rcs0");
  await guest.writeAt(GDRST, 0x2);
  await guest.resume("rcs0");
  await context.set(IMAGE.head, context.tail);
  await context.append(store(guest.global, 0x321, GGTT));
  await guest.submit("rcs0", context);
  await guest.settle("rcs0");
  assertEquals(await guest.words(guest.globalPage, 1), [0x321]);
});

Deno.test("a context that a reset ended was not saved", async () => {
  await using guest = await Guest.start();
  await spin(guest, "rcs0");
  const context = await guest.contextOf("rcs0");
  const before = await guest.words(context.image, 1024);
  await guest.writeAt(GDRST, 0x2);
  assertEquals(await guest.words(context.image, 1024), before);
});

Deno.test("a stopped engine fetches nothing, says that it is idle, and goes on where it was", async () => {
  await using guest = await Guest.start();
  await guest.put(guest.batch, spinner(guest.batch));
  await guest.startRing("vcs0", [...start(guest.batch), ...store(guest.global, 1, GGTT)]);
  await guest.stall();
  await guest.write("vcs0", "mode", STOP);
  assertEquals(await guest.read("vcs0", "mode"), 0x300);
  await guest.put(guest.batch, [END]);
  assertEquals(guest.device.service.served.isRunnable, false);
  assertEquals(await guest.words(guest.globalPage, 1), [0]);
  assertEquals(await guest.read("vcs0", "statusContext") !== 0, true); // for the error dump
  await guest.write("vcs0", "mode", GO);
  assertEquals(await guest.read("vcs0", "mode") & 0x100, 0); // it may be done, and idle, already
  await guest.settle("vcs0");
  assertEquals(await guest.words(guest.globalPage, 1), [1]);
});

Deno.test("a context that is submitted to a stopped engine begins when it goes on", async () => {
  await using guest = await Guest.start();
  await guest.write("rcs0", "mode", STOP);
  const context = await guest.context("rcs0");
  await context.append(store(guest.global, 1, GGTT));
  await guest.submit("rcs0", context);
  assertEquals(guest.device.service.served.isRunnable, false);
  assertEquals(await guest.read("rcs0", "mode"), 0x300);
  await guest.write("rcs0", "mode", GO);
  await guest.settle("rcs0");
  assertEquals(await guest.words(guest.globalPage, 1), [1]);
});

Deno.test("MI_MODE keeps its other bits, and the guest cannot say that it is idle", async () => {
  await using guest = await Guest.start();
  await guest.write("bcs0", "mode", 0x0201_0001);
  assertEquals(await guest.read("bcs0", "mode"), 0x201);
  await guest.write("bcs0", "mode", 0x0200_0000);
  assertEquals(await guest.read("bcs0", "mode"), 0x201);
});

for (const method of ["reset", "reset_gtt", "vgpu_clean_gtt"] as const) {
  Deno.test(`${method} in the middle of batches leaves nothing that runs through a table that has ended`, async () => {
    await using guest = await Guest.start();
    await guest.table.announce();
    await spin(guest, "rcs0");
    await guest.put(guest.batch + 0x1000, [...wait(guest.data, WAIT.equal, 1), END]);
    await guest.startRing("bcs0", start(guest.batch + 0x1000));
    await guest.stall();
    await guest.vmm.call(method);
    await guest.halt();
    if (method === "vgpu_clean_gtt") await guest.vmm.call("vgpu_init_gtt");
    guest.device.assertSound();
    assertEquals((await guest.vmm.call("state"))["mms"], []);
  });
}

Deno.test("reset in the middle of a batch is followed by a guest that begins anew", async () => {
  await using guest = await Guest.start();
  await spin(guest, "rcs0");
  await guest.vmm.call("reset");
  assertEquals(await guest.read("rcs0", "ringMode"), 0);
  assertEquals(await guest.read("rcs0", "contextStatusPointer") & 7, 7);
  // The host's GGTT leads to scratch now; the guest writes its entries again.
  guest.global = await guest.mapGlobal(guest.globalPage);
  await guest.ready();
  guest.forgetContexts();
  await guest.assertWorks("rcs0");
  await guest.runBatch("rcs0", store(guest.data, 5));
  assertEquals(await guest.get(guest.data), [5]);
});

Deno.test("a VMM that goes in the middle of a batch leaves nothing to do for the next one", async () => {
  await using guest = await Guest.start();
  await spin(guest, "rcs0");
  await guest.vmm.close();
  const next = await guest.device.nextVmm();
  assertEquals(guest.device.service.served.isRunnable, false);
  assertEquals((await next.call("stats"))["csCommands"], 0);
});

Deno.test("an engine that faulted is reset, and the next fault is told when the first was cleared", async () => {
  await using guest = await Guest.start();
  await guest.startRing("rcs0", start(NOWHERE));
  await guest.stall();
  await guest.startRing("bcs0", start(NOWHERE + 0x5000));
  await guest.stall();
  assertEquals([await guest.readAt(FAULT), await guest.readAt(0x4b10)], [0x0001, NOWHERE / 4096 % 2 ** 32]);
  await guest.writeAt(GDRST, 0x2 + 0x8);
  await guest.writeAt(FAULT, 0);
  for (const engine of ["rcs0", "bcs0"] as const) {
    await guest.resume(engine);
    await guest.assertWorks(engine);
  }
  guest.forgetContexts();
  await guest.startRing("vecs0", start(NOWHERE + 0x7000));
  await guest.stall();
  assertEquals([await guest.readAt(FAULT), await guest.readAt(0x4b10)], [
    0x3001,
    NOWHERE / 4096 % 2 ** 32 + 7,
  ]);
  assertEquals(await guest.readAt(0x4b14), Math.floor(NOWHERE / 2 ** 44));
});
