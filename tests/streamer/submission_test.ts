import { assertEquals } from "@std/assert";
import { END, GGTT, NOOP, spinner, start, store } from "./commands.ts";
import { IMAGE } from "./context.ts";
import { ENGINE_NAMES, Guest } from "./guest.ts";

/** Entries of the context-status buffer (`guest.md` §7.4). */
const ACTIVE = 0x01;
const LITE_RESTORE = 0x8002;
const SWITCH = 0x14;
const IDLE = 0x18;

for (const engine of ENGINE_NAMES) {
  Deno.test(`${engine} runs one context, and tells that it began and ended`, async () => {
    await using guest = await Guest.start();
    const context = await guest.context(engine);
    await context.append(store(guest.global + 8, 0x1234, GGTT));
    await guest.submit(engine, context);
    await guest.settle(engine);
    assertEquals(await guest.words(guest.globalPage + 8, 1), [0x1234]);
    assertEquals(await guest.events(engine), [[ACTIVE, 0], [IDLE, context.id]]);
  });
}

Deno.test("two contexts that are submitted together run one after the other", async () => {
  await using guest = await Guest.start();
  const [first, second] = [await guest.context("vcs0"), await guest.context("vcs0")];
  await first.append(store(guest.global, 1, GGTT));
  await second.append(store(guest.global, 2, GGTT));
  await guest.submit("vcs0", first, second);
  await guest.settle("vcs0");
  assertEquals(await guest.words(guest.globalPage, 1), [2]);
  assertEquals(await guest.events("vcs0"), [[ACTIVE, 0], [SWITCH, first.id], [IDLE, second.id]]);
  assertEquals(await first.get(IMAGE.head), first.tail);
  assertEquals(await second.get(IMAGE.head), second.tail);
});

Deno.test("a context that is submitted again while it runs goes on with what was added: lite restore", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("rcs0");
  await guest.put(guest.batch, spinner(guest.batch));
  await context.append(start(guest.batch));
  await guest.submit("rcs0", context);
  await guest.stall();
  assertEquals(await guest.events("rcs0"), [[ACTIVE, 0]]);

  await context.append(store(guest.global, 0x77, GGTT));
  await guest.submit("rcs0", context);
  assertEquals(await guest.events("rcs0"), [[LITE_RESTORE, context.id]]); // at once, the batch spins still
  await guest.stall();
  assertEquals(await guest.words(guest.globalPage, 1), [0]);

  await guest.put(guest.batch, [END]);
  await guest.settle("rcs0");
  assertEquals(await guest.words(guest.globalPage, 1), [0x77]);
  assertEquals(await guest.events("rcs0"), [[IDLE, context.id]]);
});

Deno.test("a lite restore replaces the pair: the second context of the new one runs afterwards", async () => {
  await using guest = await Guest.start();
  const [context, old, next] = [
    await guest.context("bcs0"),
    await guest.context("bcs0"),
    await guest.context("bcs0"),
  ];
  await guest.put(guest.batch, spinner(guest.batch));
  await context.append(start(guest.batch));
  await old.append(store(guest.global, 1, GGTT));
  await next.append(store(guest.global + 4, 2, GGTT));
  await guest.submit("bcs0", context, old);
  await guest.stall();
  await guest.submit("bcs0", context, next);
  assertEquals(await guest.events("bcs0"), [[ACTIVE, 0], [LITE_RESTORE, context.id]]);
  await guest.put(guest.batch, [END]);
  await guest.settle("bcs0");
  assertEquals(await guest.words(guest.globalPage, 2), [0, 2]);
  assertEquals(await guest.events("bcs0"), [[SWITCH, context.id], [IDLE, next.id]]);
});

Deno.test("a lite restore of the second context of a pair is one, too", async () => {
  await using guest = await Guest.start();
  const [first, second] = [await guest.context("vecs0"), await guest.context("vecs0")];
  await guest.put(guest.batch, spinner(guest.batch));
  await first.append([NOOP]);
  await second.append(start(guest.batch));
  await guest.submit("vecs0", first, second);
  await guest.stall();
  await guest.submit("vecs0", second);
  await guest.put(guest.batch, [END]);
  await guest.settle("vecs0");
  assertEquals(await guest.events("vecs0"), [
    [ACTIVE, 0],
    [SWITCH, first.id],
    [LITE_RESTORE, second.id],
    [IDLE, second.id],
  ]);
});

Deno.test("another context waits without a word until the running one ends, and then begins", async () => {
  await using guest = await Guest.start();
  const [running, waiting] = [await guest.context("rcs0"), await guest.context("rcs0")];
  await guest.put(guest.batch, spinner(guest.batch));
  await running.append(start(guest.batch));
  await waiting.append(store(guest.global, 5, GGTT));
  await guest.submit("rcs0", running);
  await guest.stall();
  await guest.submit("rcs0", waiting);
  await guest.stall();
  assertEquals(await guest.events("rcs0"), [[ACTIVE, 0]]);
  assertEquals(await guest.words(guest.globalPage, 1), [0]);

  await guest.put(guest.batch, [END]);
  await guest.settle("rcs0");
  assertEquals(await guest.words(guest.globalPage, 1), [5]);
  assertEquals(await guest.events("rcs0"), [[IDLE, running.id], [ACTIVE, 0], [IDLE, waiting.id]]);
});

Deno.test("the same context under another id is another one, and waits", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("rcs0");
  await guest.put(guest.batch, spinner(guest.batch));
  await context.append(start(guest.batch));
  await guest.submit("rcs0", context);
  await guest.stall();
  await guest.submitRaw("rcs0", 0, 0, 0x7e0, context.descriptor);
  assertEquals(await guest.events("rcs0"), [[ACTIVE, 0]]);
  await guest.put(guest.batch, [END]);
  await guest.settle("rcs0");
  assertEquals(await guest.events("rcs0"), [[IDLE, context.id], [ACTIVE, 0], [IDLE, 0x7e0]]);
});

Deno.test("a context runs to the tail that it had when it was submitted", async () => {
  await using guest = await Guest.start();
  const [first, second] = [await guest.context("rcs0"), await guest.context("rcs0")];
  await guest.put(guest.batch, spinner(guest.batch));
  await first.append(start(guest.batch));
  await second.append(store(guest.global, 1, GGTT));
  await guest.submit("rcs0", first, second);
  await guest.stall();
  await second.append(store(guest.global, 2, GGTT)); // after the submission
  await guest.put(guest.batch, [END]);
  await guest.settle("rcs0");
  assertEquals(await guest.words(guest.globalPage, 1), [1]);
  assertEquals(await second.get(IMAGE.head), 16);
  await guest.submit("rcs0", second);
  await guest.settle("rcs0");
  assertEquals(await guest.words(guest.globalPage, 1), [2]);
});

Deno.test("a context goes on where its head was saved, and repeats nothing", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("rcs0");
  for (let i = 1; i <= 3; i++) {
    // MI_ATOMIC: adds to what is there.
    await context.append([0x1744_0509 + 0x80_0000, guest.global % 2 ** 32, 0, ...new Array(8).fill(0)]);
    await guest.submit("rcs0", context);
    await guest.settle("rcs0");
    assertEquals(await guest.words(guest.globalPage, 1), [i]);
    assertEquals(await context.get(IMAGE.head), context.tail);
  }
});

Deno.test("a context without commands begins and ends", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("vcs0");
  await context.moveTo(0x40);
  await guest.submit("vcs0", context);
  await guest.settle("vcs0");
  assertEquals(await guest.events("vcs0"), [[ACTIVE, 0], [IDLE, context.id]]);
  assertEquals(await context.get(IMAGE.head), 0x40);
});

Deno.test("a ring goes on at its beginning when it comes to its end, also in the middle of a command", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("bcs0", { pages: 2 });
  await context.moveTo(0x1ff8);
  await context.append([...store(guest.global, 0xabc, GGTT), ...store(guest.global + 4, 0xdef, GGTT)]);
  assertEquals(await context.get(IMAGE.tail), 0x18);
  await guest.submit("bcs0", context);
  await guest.settle("bcs0");
  assertEquals(await guest.words(guest.globalPage, 2), [0xabc, 0xdef]);
  assertEquals(await context.get(IMAGE.head), 0x18);
});

Deno.test("a ring's pages are wherever the GGTT says", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("bcs0", { pages: 3 });
  await context.moveTo(0xff8);
  await context.append([...new Array(1024).fill(NOOP), ...store(guest.global, 0x321, GGTT)]);
  await guest.submit("bcs0", context);
  await guest.settle("bcs0");
  assertEquals(await guest.words(guest.globalPage, 1), [0x321]);
});

Deno.test("the write pointer goes round six entries, also in the registers", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("rcs0");
  const pointers: number[] = [];
  for (let i = 0; i < 7; i++) {
    await context.append([NOOP]);
    await guest.submit("rcs0", context);
    await guest.settle("rcs0");
    pointers.push(await guest.read("rcs0", "contextStatusPointer") & 7);
    assertEquals(await guest.events("rcs0"), [[ACTIVE, 0], [IDLE, context.id]]);
    assertEquals(await guest.words(guest.statusPages.rcs0 + 0x7c, 1), [pointers[i]!]);
  }
  assertEquals(pointers, [1, 3, 5, 1, 3, 5, 1]);
});

Deno.test("events that the guest does not take are overwritten, and the pointer is right", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("rcs0");
  for (let i = 0; i < 5; i++) {
    await context.append([NOOP]);
    await guest.submit("rcs0", context);
    await guest.settle("rcs0");
  }
  assertEquals(await guest.words(guest.statusPages.rcs0 + 0x40, 12), [
    ...[ACTIVE, 0, IDLE, context.id, ACTIVE, 0, IDLE, context.id, ACTIVE, 0, IDLE, context.id],
  ]);
  assertEquals(await guest.words(guest.statusPages.rcs0 + 0x7c, 1), [3]);
});

Deno.test("registers have the same entries as the status page", async () => {
  await using guest = await Guest.start();
  const [first, second] = [await guest.context("vcs0"), await guest.context("vcs0")];
  await guest.submit("vcs0", first, second);
  await guest.settle("vcs0");
  const entries: number[] = [];
  for (let i = 0; i < 6; i++) entries.push(await guest.readAt(0x12370 + 4 * i));
  assertEquals(entries, [ACTIVE, 0, SWITCH, first.id, IDLE, second.id]);
  await guest.writeAt(0x12370, 0x1234);
  assertEquals(await guest.readAt(0x12370), ACTIVE); // read-only
});

Deno.test("the first event after power-on is in entry 0, without a guest that sets the pointer", async () => {
  await using guest = await Guest.start({ isReady: false });
  await guest.vmm.call("mmio_write", 7, 0x04, 2, 0x0006);
  await guest.vmm.call("mmio_read", 0, 0x78000, 8);
  assertEquals(await guest.read("rcs0", "contextStatusPointer") & 7, 7);
  await guest.write("rcs0", "ringMode", 0x8000_8000);
  const context = await guest.context("rcs0", { id: 0x60 });
  await guest.submit("rcs0", context); // and without a status page
  await guest.settle("rcs0");
  assertEquals(await guest.read("rcs0", "contextStatusPointer") & 7, 1);
  assertEquals([await guest.readAt(0x2370), await guest.readAt(0x2378), await guest.readAt(0x237c)], [
    ...[ACTIVE, IDLE, 0x60],
  ]);
});

Deno.test("the status registers tell which context runs, and that nothing does", async () => {
  await using guest = await Guest.start();
  const [first, second] = [await guest.context("rcs0"), await guest.context("rcs0")];
  await guest.put(guest.batch, spinner(guest.batch));
  await first.append(start(guest.batch));
  assertEquals(await guest.read("rcs0", "mode") & 0x200, 0x200);
  await guest.submit("rcs0", first, second);
  await guest.stall();
  assertEquals(await guest.read("rcs0", "statusContext"), first.id);
  assertEquals(await guest.read("rcs0", "status") & 0x4_0018, 0x4_0018); // both slots, the first is active
  assertEquals(await guest.read("rcs0", "mode") & 0x200, 0);
  assertEquals(await guest.read("bcs0", "mode") & 0x200, 0x200);
  await guest.put(guest.batch, [END]);
  await guest.settle("rcs0");
  assertEquals(await guest.read("rcs0", "statusContext"), 0);
  assertEquals(await guest.read("rcs0", "mode") & 0x200, 0x200);
});

Deno.test("the ring's registers show where the engine is", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("rcs0");
  await guest.put(guest.batch, spinner(guest.batch));
  await context.append([NOOP, NOOP, ...start(guest.batch), NOOP]);
  await guest.submit("rcs0", context);
  await guest.stall();
  assertEquals(await guest.read("rcs0", "tail"), context.tail);
  assertEquals(await guest.read("rcs0", "start"), await context.get(IMAGE.start));
  const head = await guest.read("rcs0", "head");
  assertEquals(head >= 8 && head <= 20, true, `head ${head}`);
  const at = await guest.read("rcs0", "acthd") + await guest.readAt(0x205c) * 2 ** 32;
  assertEquals(at >= guest.batch && at < guest.batch + 20, true, `at 0x${at.toString(16)}`);
  await guest.put(guest.batch, [END]);
  await guest.settle("rcs0");
  assertEquals(await guest.read("rcs0", "head"), await guest.read("rcs0", "tail"));
});

Deno.test("the context's clock counts on from one submission to the next", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("rcs0");
  await guest.put(guest.batch, spinner(guest.batch));
  await context.append(start(guest.batch));
  await guest.submit("rcs0", context);
  await guest.stall();
  await guest.put(guest.batch, [END]);
  await guest.settle("rcs0");
  const first = await context.get(IMAGE.timestamp);
  assertEquals(first > 0, true);
  await guest.put(guest.batch, spinner(guest.batch));
  await context.append(start(guest.batch));
  await guest.submit("rcs0", context);
  await guest.stall();
  await guest.put(guest.batch, [END]);
  await guest.settle("rcs0");
  assertEquals(await context.get(IMAGE.timestamp) > first, true);
});

Deno.test("general-purpose registers belong to the context, and a new one has zeroes", async () => {
  await using guest = await Guest.start();
  const [a, b] = [await guest.context("rcs0"), await guest.context("rcs0")];
  await a.append([0x1100_0003, 0x2600, 0x11, 0x267c, 0x12]);
  await b.append([0x1240_0002, 0x2600, guest.global, 0, 0x1240_0002, 0x267c, guest.global + 4, 0]);
  await guest.submit("rcs0", a, b);
  await guest.settle("rcs0");
  assertEquals(await guest.words(guest.globalPage, 2), [0, 0]);
  await a.append([0x1240_0002, 0x2600, guest.global, 0, 0x1240_0002, 0x267c, guest.global + 4, 0]);
  await guest.submit("rcs0", a);
  await guest.settle("rcs0");
  assertEquals(await guest.words(guest.globalPage, 2), [0x11, 0x12]);
});

Deno.test("a context whose control inhibits the restore begins with zeroes whatever its image says", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("rcs0");
  await context.set(IMAGE.control, 0x000f_0009);
  await context.set(IMAGE.gpr0, 0x99);
  await context.append([0x1240_0002, 0x2600, guest.global, 0]);
  await guest.vmm.call("mem_write", guest.globalPage, Uint8Array.of(1, 2, 3, 4));
  await guest.submit("rcs0", context);
  await guest.settle("rcs0");
  assertEquals(await guest.words(guest.globalPage, 1), [0]);
});

Deno.test("a context's end changes nothing of its image but head, clock and registers of its own", async () => {
  await using guest = await Guest.start();
  const context = await guest.context("bcs0");
  await context.append([NOOP]);
  const before = await guest.words(context.image, 1024);
  const status = await guest.words(context.status, 1024);
  await guest.submit("bcs0", context);
  await guest.settle("bcs0");
  const after = await guest.words(context.image, 1024);
  const changed = after.flatMap((value, index) => value === before[index] ? [] : [index]);
  assertEquals(changed.filter((index) => index !== IMAGE.head && index !== IMAGE.timestamp), []);
  assertEquals(await guest.words(context.status, 1024), status);
});
