import { assertEquals } from "@std/assert";
import { address, NOOP, pipeControl, store } from "./commands.ts";
import { ENGINES, Guest, READ_ONLY } from "./guest.ts";

/** PIPE_CONTROL, second dword. */
const IMMEDIATE = 1 << 14;
const DEPTH = 2 << 14;
const TIME = 3 << 14;
const INDEX = 1 << 21;
const TO_REGISTER = 1 << 23;
const GLOBAL = 1 << 24;

/** MI_FLUSH_DW, first dword: 4 dwords or 5. */
const FLUSH = 0x1300_0002;
const FLUSH_QWORD = 0x1300_0003;
/** Its address is one of the GGTT. */
const FLUSH_GLOBAL = 4;

Deno.test("PIPE_CONTROL stores a qword by the PPGTT, the GGTT, or the context's status page", async () => {
  await using guest = await Guest.start();
  const context = await guest.contextOf("rcs0");
  await guest.put(guest.data, [9, 9, 9, 9]);
  await guest.runRing("rcs0", [
    ...pipeControl(IMMEDIATE, guest.data + 8, 0x11, 0x12),
    ...pipeControl(IMMEDIATE + GLOBAL, guest.global + 8, 0x21, 0x22),
    ...pipeControl(0x0034_4c1c, 0xd0, 0x31, 0x32), // as Linux invalidates
    ...pipeControl(IMMEDIATE + INDEX + GLOBAL, 0xc00, 0x41, 0x42),
    ...pipeControl(0x0110_4080, guest.global + 16, 0x51, 0), // as Linux ends a request
  ]);
  assertEquals(await guest.get(guest.data, 4), [9, 9, 0x11, 0x12]);
  assertEquals(await guest.words(guest.globalPage, 6), [0, 0, 0x21, 0x22, 0x51, 0]);
  assertEquals(await guest.words(context.status + 0xd0, 2), [0x31, 0x32]);
  assertEquals(await guest.words(guest.statusPages.rcs0 + 0xc00, 2), [0x41, 0x42]);
});

Deno.test("PIPE_CONTROL's address has bits 47 to 3", async () => {
  await using guest = await Guest.start();
  const [lo, hi] = address(guest.data);
  await guest.runBatch("rcs0", [0x7a00_0004, IMMEDIATE, lo + 7, hi + 0xffff_0000, 1, 2]);
  assertEquals(await guest.get(guest.data, 3), [1, 2, 0]);
});

Deno.test("PIPE_CONTROL without a post-sync operation stores nothing", async () => {
  await using guest = await Guest.start();
  await guest.put(guest.data, [9, 9]);
  await guest.runBatch("rcs0", [...pipeControl(0x0010_1021, guest.data, 1, 2), ...pipeControl(0)]);
  assertEquals(await guest.get(guest.data, 2), [9, 9]);
});

Deno.test("PIPE_CONTROL counts no pixels, and stores the time", async () => {
  await using guest = await Guest.start();
  await guest.put(guest.data, [9, 9, 9, 9]);
  const before = await guest.readAt(0x2358);
  await guest.runBatch("rcs0", [
    ...pipeControl(DEPTH, guest.data, 1, 2),
    ...pipeControl(TIME, guest.data + 8, 1, 2),
  ]);
  const after = await guest.readAt(0x2358);
  const [depth, depthHigh, time, timeHigh] = await guest.get(guest.data, 4);
  assertEquals([depth, depthHigh, timeHigh], [0, 0, 0]);
  assertEquals(before <= time! && time! <= after, true, `${before} ${time} ${after}`);
});

Deno.test("PIPE_CONTROL stores to a register instead of memory", async () => {
  await using guest = await Guest.start();
  await guest.runBatch("rcs0", pipeControl(IMMEDIATE + TO_REGISTER, 0x2620, 0x66, 0x77));
  assertEquals([await guest.readAt(0x2620), await guest.readAt(0x2624)], [0x66, 0]);
});

Deno.test("PIPE_CONTROL in a batch without privilege reaches the context's status page and no GGTT", async () => {
  await using guest = await Guest.start();
  const context = await guest.contextOf("rcs0");
  await guest.runBatch("rcs0", [
    ...pipeControl(IMMEDIATE + GLOBAL, guest.global, 1, 1),
    ...pipeControl(IMMEDIATE + GLOBAL + INDEX, 0x800, 2, 2),
    ...pipeControl(IMMEDIATE + INDEX, 0x100, 3, 3),
  ]);
  assertEquals(await guest.words(guest.globalPage, 2), [0, 0]);
  assertEquals(await guest.words(guest.statusPages.rcs0 + 0x800, 2), [0, 0]);
  assertEquals(await guest.words(context.status + 0x100, 2), [3, 3]);
});

for (const engine of ["bcs0", "vcs0", "vecs0"] as const) {
  Deno.test(`MI_FLUSH_DW on ${engine} stores a dword or a qword by each table`, async () => {
    await using guest = await Guest.start();
    const context = await guest.contextOf(engine);
    await guest.put(guest.data, [9, 9, 9, 9]);
    const invalidate = engine === "vcs0" ? 0x80 : 0;
    await guest.runRing(engine, [
      ...[FLUSH + IMMEDIATE + invalidate, ...address(guest.data), 0x11],
      ...[FLUSH_QWORD + IMMEDIATE + invalidate, ...address(guest.data + 8), 0x12, 0x13],
      ...[FLUSH + IMMEDIATE, guest.global + 8 + FLUSH_GLOBAL, 0, 0x21],
      ...[FLUSH + IMMEDIATE + INDEX + (1 << 18) + invalidate, 0xd0, 0, 0x31],
      ...[FLUSH + IMMEDIATE + INDEX, 0xc00 + FLUSH_GLOBAL, 0, 0x41],
    ]);
    assertEquals(await guest.get(guest.data, 4), [0x11, 9, 0x12, 0x13]);
    assertEquals(await guest.words(guest.globalPage + 8, 2), [0x21, 0]);
    assertEquals(await guest.words(context.status + 0xd0, 1), [0x31]);
    assertEquals(await guest.words(guest.statusPages[engine] + 0xc00, 1), [0x41]);
  });

  Deno.test(`MI_FLUSH_DW on ${engine} stores the time, or nothing`, async () => {
    await using guest = await Guest.start();
    await guest.put(guest.data, [9, 9, 9, 9, 9, 9]);
    const clock = ENGINES[engine].base + 0x358;
    const before = await guest.readAt(clock);
    await guest.runBatch(engine, [
      ...[FLUSH + TIME, ...address(guest.data), 1],
      ...[FLUSH_QWORD, ...address(guest.data + 8), 1, 1],
      ...[0x1300_0001, 0, 0], // as short as it can be
      ...[FLUSH_QWORD + IMMEDIATE, ...address(READ_ONLY), 1, 1],
      ...store(guest.data + 16, 7),
    ]);
    const after = await guest.readAt(clock);
    const [time, high, ...others] = await guest.get(guest.data, 6);
    assertEquals(before <= time! && time! <= after, true, `${before} ${time} ${after}`);
    assertEquals([high, ...others], [0, 9, 9, 7, 9]);
  });
}

Deno.test("MI_FLUSH_DW in a batch without privilege reaches no GGTT", async () => {
  await using guest = await Guest.start();
  await guest.runBatch("bcs0", [
    ...[FLUSH + IMMEDIATE, guest.global + FLUSH_GLOBAL, 0, 1],
    ...[FLUSH + IMMEDIATE + INDEX, 0x800 + FLUSH_GLOBAL, 0, 2],
    NOOP,
  ]);
  assertEquals(await guest.words(guest.globalPage, 1), [0]);
  assertEquals(await guest.words(guest.statusPages.bcs0 + 0x800, 1), [0]);
});

Deno.test("a status page that is not there takes no index, and costs nothing else", async () => {
  await using guest = await Guest.start();
  await guest.write("bcs0", "statusPage", 0);
  const context = await guest.contextOf("bcs0");
  await context.append([FLUSH + IMMEDIATE + INDEX, 0x40 + FLUSH_GLOBAL, 0, 1, ...store(guest.data, 1)]);
  await guest.submit("bcs0", context);
  await guest.settle("bcs0");
  assertEquals(await guest.get(guest.data), [1]);
  assertEquals(await guest.device.counter("csBadWrites"), 1);
});
