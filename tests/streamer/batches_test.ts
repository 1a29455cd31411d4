import { assertEquals } from "@std/assert";
import { address, END, loadImmediate, NOOP, SECOND_LEVEL, start, store } from "./commands.ts";
import { FAULT, GDRST, Guest, NOWHERE } from "./guest.ts";

/** Pages of the default page table that hold batches. */
function pages(guest: Guest): [number, number, number, number] {
  return [guest.batch, guest.batch + 0x1000, guest.batch + 0x2000, guest.batch + 0x3000];
}

/** MI_CONDITIONAL_BATCH_BUFFER_END with its comparison. */
function endUnlessAbove(gma: number, value: number, flags = 0): number[] {
  return [0x1b20_0002 + flags, value, ...address(gma)];
}

Deno.test("a batch returns to the ring", async () => {
  await using guest = await Guest.start();
  await guest.put(guest.batch, [...store(guest.data, 1), END, ...store(guest.data, 9)]);
  await guest.runRing("rcs0", [...start(guest.batch), ...store(guest.data + 4, 2)]);
  assertEquals(await guest.get(guest.data, 2), [1, 2]);
});

Deno.test("a second-level batch returns to the batch that started it", async () => {
  await using guest = await Guest.start();
  const [first, second, third] = pages(guest);
  await guest.put(first, [...start(second, SECOND_LEVEL), ...store(guest.data + 4, 2), END]);
  await guest.put(second, [...start(third), ...store(guest.data, 9)]); // chained: does not return
  await guest.put(third, [...store(guest.data, 1), END]);
  await guest.runRing("bcs0", [...start(first), ...store(guest.data + 8, 3)]);
  assertEquals(await guest.get(guest.data, 3), [1, 2, 3]);
});

Deno.test("a batch that is chained returns to the ring, not to the batch before it", async () => {
  await using guest = await Guest.start();
  const [first, second] = pages(guest);
  await guest.put(first, [...start(second), ...store(guest.data, 9), END]);
  await guest.put(second, [...store(guest.data + 4, 2), END]);
  await guest.runRing("vcs0", [...start(first), ...store(guest.data + 8, 3)]);
  assertEquals(await guest.get(guest.data, 3), [0, 2, 3]);
});

Deno.test("a ring's start with the second-level bit is an ordinary one", async () => {
  await using guest = await Guest.start();
  const [first, second] = pages(guest);
  await guest.put(first, [...start(second, SECOND_LEVEL), ...store(guest.data, 1), END]);
  await guest.put(second, [END]);
  await guest.runRing("vecs0", [...start(first, SECOND_LEVEL), ...store(guest.data + 4, 2)]);
  assertEquals(await guest.get(guest.data, 2), [1, 2]);
});

Deno.test("a batch's address loses its two low bits and what is above 48", async () => {
  await using guest = await Guest.start();
  await guest.put(guest.batch, [...store(guest.data, 1), END]);
  const [lo, hi] = address(guest.batch);
  await guest.runRing("rcs0", [0x1880_0101, lo + 3, hi + 0xffff_0000]);
  assertEquals(await guest.get(guest.data), [1]);
});

Deno.test("a command that lies across pages is fetched from where each of them is", async () => {
  await using guest = await Guest.start();
  for (const [index, from] of [0xffc, 0xff8, 0xff4].entries()) {
    await guest.put(guest.batch + from, [...store(guest.data + 4 * index, index + 1), END]);
    await guest.runRing("rcs0", start(guest.batch + from));
  }
  assertEquals(await guest.get(guest.data, 3), [1, 2, 3]);
});

Deno.test("a command of which a part is not mapped is not carried out: a fault, and the engine stays there", async () => {
  await using guest = await Guest.start();
  const end = guest.batch + 0x4000; // where the mapped pages end
  await guest.put(guest.data, [0x77]);
  await guest.put(end - 12, [0x1000_0002, ...address(guest.data)]); // its data would be in the next page
  await guest.startRing("rcs0", start(end - 12));
  await guest.halt();
  assertEquals(await guest.get(guest.data), [0x77]);
  assertEquals([await guest.readAt(FAULT), await guest.readAt(0x4b10)], [1, end / 4096]);
  const at = await guest.read("rcs0", "acthd") + await guest.readAt(0x205c) * 2 ** 32;
  assertEquals(at, end - 12);
});

Deno.test("a batch that runs out of its pages is a fault behind the last one", async () => {
  await using guest = await Guest.start();
  await guest.put(guest.batch + 0x3ff0, store(guest.data, 1));
  await guest.startRing("vecs0", start(guest.batch + 0x3ff0));
  await guest.halt();
  assertEquals(await guest.get(guest.data), [1]);
  assertEquals(await guest.readAt(FAULT), 0x3001); // the video enhancement engine, PPGTT
  assertEquals(await guest.readAt(0x4b10), guest.batch / 4096 + 4);
  assertEquals(await guest.read("vecs0", "statusContext"), (await guest.contextOf("vecs0")).id);
  assertEquals(await guest.events("vecs0"), [[0x01, 0]]);
});

Deno.test("a batch at the end of the address space goes on at its beginning", async () => {
  await using guest = await Guest.start();
  const last = 2 ** 48 - 4096;
  await guest.table.map(last, guest.page());
  await guest.table.map(0, guest.page());
  await guest.put(last + 0xff8, [0x1000_0002, guest.data % 2 ** 32]);
  await guest.put(0, [Math.floor(guest.data / 2 ** 32), 0x31, END]);
  await guest.runRing("rcs0", start(last + 0xff8));
  assertEquals(await guest.get(guest.data), [0x31]);
});

Deno.test("a batch may change what comes next", async () => {
  await using guest = await Guest.start();
  await guest.runBatch("rcs0", [...store(guest.batch + 16, END), ...store(guest.data, 1)]);
  assertEquals(await guest.get(guest.data), [0]);
});

Deno.test("a conditional end ends the batch where memory is not above its data", async () => {
  await using guest = await Guest.start();
  await guest.put(guest.data, [0x8000_0001]);
  await guest.runBatch("rcs0", [
    ...endUnlessAbove(guest.data, 0x8000_0000), // above: goes on; unsigned
    ...store(guest.data + 4, 1),
    ...endUnlessAbove(guest.data, 0x8000_0001), // equal: ends
    ...store(guest.data + 8, 2),
  ]);
  assertEquals(await guest.get(guest.data + 4, 2), [1, 0]);
});

Deno.test("a conditional end without its comparison does nothing", async () => {
  await using guest = await Guest.start();
  await guest.runBatch("rcs0", [0x1b00_0002, 0xffff_ffff, ...address(guest.data), ...store(guest.data, 1)]);
  assertEquals(await guest.get(guest.data), [1]);
});

Deno.test("a conditional end with a mask compares what the mask leaves", async () => {
  await using guest = await Guest.start();
  await guest.put(guest.data, [0xff05, 0x00ff]);
  await guest.runBatch("rcs0", [
    ...endUnlessAbove(guest.data, 0x0004, 1 << 19),
    ...store(guest.data + 8, 1),
    ...endUnlessAbove(guest.data, 0x0005, 1 << 19),
    ...store(guest.data + 12, 2),
  ]);
  assertEquals(await guest.get(guest.data + 8, 2), [1, 0]);
});

Deno.test("a conditional end in a second-level batch ends all batches, or its own where bit 18 says so", async () => {
  await using guest = await Guest.start();
  const [first, second] = pages(guest);
  await guest.put(first, [...start(second, SECOND_LEVEL), ...store(guest.data, 1), END]);
  await guest.put(second, endUnlessAbove(guest.data, 5));
  await guest.runRing("rcs0", [...start(first), ...store(guest.data + 4, 2)]);
  assertEquals(await guest.get(guest.data, 2), [0, 2]);
  await guest.put(second, endUnlessAbove(guest.data, 5, 1 << 18));
  await guest.runRing("rcs0", start(first));
  assertEquals(await guest.get(guest.data), [1]);
});

Deno.test("a conditional end by the GGTT needs privilege", async () => {
  await using guest = await Guest.start();
  await guest.runBatch("rcs0", [...endUnlessAbove(guest.global, 5, 1 << 22), ...store(guest.data, 1)]);
  assertEquals(await guest.get(guest.data), [1]);
});

Deno.test("a predicated start on the render engine depends on its register", async () => {
  await using guest = await Guest.start();
  const [first, second] = pages(guest);
  await guest.put(first, [
    ...loadImmediate([0x241c, 0]),
    ...start(second, SECOND_LEVEL + (1 << 15)),
    ...store(guest.data, 1),
    ...loadImmediate([0x241c, 1]),
    ...start(second, SECOND_LEVEL + (1 << 15)),
    END,
  ]);
  await guest.put(second, [0x1740_0003 - 0x40_0000, ...address(guest.data + 4), ...address(guest.data), END]);
  await guest.runRing("rcs0", start(first));
  assertEquals(await guest.get(guest.data, 2), [1, 1]); // copied behind the store, not before
});

Deno.test("MI_PREDICATE compares two registers and combines with what was there", async () => {
  await using guest = await Guest.start();
  const [load, loadInverted] = [2 << 6, 3 << 6];
  const [set, and, or, xor] = [0, 1 << 3, 2 << 3, 3 << 3];
  const [always, equal] = [0, 2];
  const predicate = (...bits: number[]) => 0x0600_0000 + bits.reduce((sum, bit) => sum + bit, 0);
  const show = (index: number) => [0x1200_0002, 0x2418, ...address(guest.data + 4 * index)];
  const sources = (a: number, b: number) => loadImmediate([0x2400, a], [0x2404, 0], [0x2408, b], [0x240c, 0]);
  await guest.runBatch("rcs0", [
    ...sources(5, 5),
    ...[predicate(load, set, equal), ...show(0)], // 1
    ...[predicate(loadInverted, set, equal), ...show(1)], // 0
    ...[predicate(load, or, equal), ...show(2)], // 0 or 1
    ...[predicate(load, xor, equal), ...show(3)], // 1 xor 1
    ...[predicate(load, and, equal), ...show(4)], // 0 and 1
    ...sources(5, 6),
    ...[predicate(load, set, always), ...show(5)], // 1
    ...[predicate(load, and, equal), ...show(6)], // 1 and 0
    ...loadImmediate([0x2418, 1]),
    ...[predicate(0), ...show(7)], // keeps
    ...loadImmediate([0x2404, 1], [0x2408, 5], [0x240c, 0]),
    ...[predicate(load, set, equal), ...show(8)], // the upper halves differ
    NOOP,
  ]);
  assertEquals(await guest.get(guest.data, 9), [1, 0, 1, 0, 0, 1, 0, 1, 0]);
});

Deno.test("an end in a ring ends nothing", async () => {
  await using guest = await Guest.start();
  await guest.runRing("rcs0", [END, ...store(guest.data, 1)]);
  assertEquals(await guest.get(guest.data), [1]);
});

for (
  const [what, engine, dword] of [
    ["of client 1", "rcs0", 0x2000_0000],
    ["of client 4", "bcs0", 0x8000_0000],
    ["of client 7", "vcs0", 0xffff_ffff],
    ["of the blitter on another engine", "rcs0", 0x54f0_0008],
  ] as const
) {
  Deno.test(`a command ${what} halts ${engine} and is told as an error`, async () => {
    await using guest = await Guest.start();
    await guest.startBatch(engine, [...store(guest.data, 1), dword, ...store(guest.data, 2)]);
    await guest.halt();
    assertEquals(await guest.get(guest.data), [1]);
    assertEquals([await guest.read(engine, "ipehr"), await guest.read(engine, "eir")], [dword, 1]);
    assertEquals(await guest.read(engine, "esr") & 1, 1);
    const context = await guest.contextOf(engine);
    assertEquals(await guest.read(engine, "statusContext"), context.id);
    assertEquals(await guest.events(engine), [[0x01, 0]]);
    await guest.write(engine, "eir", 1);
    assertEquals(await guest.read(engine, "eir"), 0);

    await guest.submit(engine, context); // more of it does not help
    await guest.halt();
    await guest.writeAt(GDRST, 1);
    assertEquals([await guest.read(engine, "esr"), await guest.read(engine, "eir")], [0, 0]);
    await guest.resume(engine);
    await guest.assertWorks(engine);
  });
}

Deno.test("an error that EMR masks halts without being told", async () => {
  await using guest = await Guest.start();
  await guest.write("rcs0", "emr", 0xffff_ffff);
  await guest.startRing("rcs0", [0xe000_0000]);
  await guest.halt();
  assertEquals([await guest.read("rcs0", "ipehr"), await guest.read("rcs0", "eir")], [0xe000_0000, 0]);
});

Deno.test("a command in the ring that ends behind the tail halts the engine", async () => {
  await using guest = await Guest.start();
  await guest.startRing("rcs0", [NOOP, NOOP, 0x1000_0002, guest.global]);
  await guest.halt();
  assertEquals([await guest.read("rcs0", "head"), await guest.read("rcs0", "eir")], [8, 1]);
});

Deno.test("a batch that is nowhere is a fault of its first page", async () => {
  await using guest = await Guest.start();
  await guest.startRing("bcs0", start(NOWHERE + 0x123_4568));
  await guest.halt();
  assertEquals([await guest.readAt(0x4b10), await guest.readAt(0x4b14)], [
    (NOWHERE / 4096 + 0x1234) % 2 ** 32,
    4,
  ]);
});
