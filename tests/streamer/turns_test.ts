import { assert, assertEquals } from "@std/assert";
import { connect } from "../../protocol/connect.ts";
import { RamMap } from "../../src/memory/ram_map.ts";
import { le32, PAGE } from "../scenarios/guest_pages.ts";
import { DeviceProcess, TempFolder } from "../scenarios/process.ts";
import { address, ARB_CHECK, END, GGTT, NOOP, spinner, start, store, WAIT, wait } from "./commands.ts";
import { type EngineName, ENGINES, Guest, REGISTER } from "./guest.ts";

/** Pages of a surface: 1 MiB. */
const SURFACE_PAGES = 256;
const SURFACE = 0x2000_0000;

/** XY_COLOR_BLT, 32 bits a pixel, of a whole surface with rows of a page. */
function fill(gma: number, rows: number, colour: number): number[] {
  return [0x5430_0005, 0x03f0_1000, 0, rows * 2 ** 16 + 1024, ...address(gma), colour];
}

/** XY_SRC_COPY_BLT, the same. */
function copy(to: number, from: number, rows: number): number[] {
  const corner = rows * 2 ** 16 + 1024;
  return [0x54f0_0008, 0x03cc_1000, 0, corner, ...address(to), 0, 0x1000, ...address(from)];
}

function zeroes(length: number): number[] {
  return new Array<number>(length).fill(0);
}

Deno.test("a batch that never ends answers no message later, and others' engines run", async () => {
  await using guest = await Guest.start();
  const batches = ["rcs0", "bcs0", "vcs0"] as const;
  for (const [index, engine] of batches.entries()) {
    const at = guest.batch + index * PAGE;
    // One only goes round; the second is busy with stores; the third jumps once in a hundred commands.
    const body = [[NOOP], store(guest.data, 1), new Array<number>(100).fill(ARB_CHECK)][index]!;
    await guest.put(at, [...body, ...start(at)]);
    await guest.startRing(engine, start(at));
  }
  const observer = await guest.device.connect("observer");
  for (let i = 0; i < 20; i++) {
    await guest.readAt(0x2358);
    assertEquals(typeof (await observer.call("stats"))["csCommands"], "number");
  }
  await guest.assertWorks("vecs0");
  for (const [index, engine] of batches.entries()) {
    await guest.put(guest.batch + index * PAGE, [END]);
    await guest.settle(engine);
  }
});

Deno.test("a peer that asks without a pause does not keep engines from running", async () => {
  await using guest = await Guest.start();
  // Thousands of commands, many turns: while questions come one after the other.
  await guest.startBatch("rcs0", [...new Array<number>(4000).fill(ARB_CHECK), ...store(guest.data, 1)]);
  let asked = 0;
  while ((await guest.read("rcs0", "status") & 0x18) !== 0) asked++;
  assertEquals(await guest.get(guest.data), [1]);
  assert(asked < 10_000, `${asked} questions`);
});

Deno.test("a blit of a megabyte is done in slices, between which others run", async () => {
  await using guest = await Guest.start({ ram: 0x80_0000 });
  for (let page = 0; page < SURFACE_PAGES; page++) {
    await guest.table.map(SURFACE + page * PAGE, 0x40_0000 + page * PAGE);
  }
  await guest.put(guest.batch, [
    ...fill(SURFACE, SURFACE_PAGES, 0x1122_3344),
    ...copy(SURFACE + 128 * PAGE, SURFACE, 128),
    ...store(guest.data, 1),
    END,
  ]);
  await guest.startRing("bcs0", start(guest.batch));
  const { served } = guest.device.service;
  let isFirst = true;
  for (; served.isRunnable; isFirst = false) {
    await guest.readAt(0x2358);
    if (isFirst) await guest.assertWorks("vcs0");
  }
  assertEquals(isFirst, false);
  await guest.settle("bcs0");
  assertEquals(await guest.get(guest.data), [1]);
  const bytes = await guest.vmm.call("mem_read", 0x40_0000, SURFACE_PAGES * PAGE);
  assertEquals(new Uint32Array(bytes.slice().buffer).every((pixel) => pixel === 0x1122_3344), true);
  assertEquals(await guest.device.counter("csBlits"), 2);
});

/** Accesses to guest memory that a turn of an engine may take for each command of its share, on average. */
const ACCESSES_PER_COMMAND = 20;

/** Gives two turns to an engine that runs a batch without an end, and looks at what they take. */
async function assertBounded(guest: Guest, engine: EngineName, batch: number): Promise<void> {
  const { vgpu, ram } = guest.device.service.served.device;
  // An engine that is stopped does not run by itself: turns are given here.
  await guest.write(engine, "mode", 0x0100_0100);
  await guest.startRing(engine, start(batch));
  let accesses = 0;
  const { read, write, readDword, copy } = RamMap.prototype;
  ram.read = (gpa, out) => (accesses++, read.call(ram, gpa, out));
  ram.write = (gpa, bytes) => (accesses++, write.call(ram, gpa, bytes));
  ram.readDword = (gpa) => (accesses++, readDword.call(ram, gpa));
  ram.copy = (from, to, length) => (accesses += 2, copy.call(ram, from, to, length));
  vgpu.write(0, ENGINES[engine].base + REGISTER.mode, 4, 0x0100_0000, 0);
  for (let turn = 0; turn < 2; turn++) {
    accesses = 0;
    vgpu.runEngines(256);
    assert(accesses > 2 && accesses < 256 * ACCESSES_PER_COMMAND, `${accesses}`);
  }
  assertEquals(vgpu.isRunnable, true);
}

for (
  const [what, engine, commands] of [
    [
      "stores of a thousand dwords",
      "rcs0",
      (guest: Guest) => [0x1000_03ff, ...address(guest.data), ...zeroes(1022)],
    ],
    ["loads of registers", "vcs0", () => [0x1100_00ff, ...zeroes(256)]],
    ["arithmetic", "vecs0", () => [0x0d00_00ff, ...zeroes(256)]],
    ["blits of a gigabyte", "bcs0", () => [0x5430_0005, 0x03f0_0000, 0, 0x7fff_7fff, SURFACE, 0, 0]],
    [
      "copies of a gigabyte",
      "bcs0",
      () => [0x54f0_0008, 0x03cc_0000, 0, 0x7fff_7fff, SURFACE, 0, 0, 0, SURFACE + 0x123, 0],
    ],
    ["blits of single pixels", "bcs0", () => [0x5430_0005, 0x03f0_0000, 0, 0x7fff_0001, SURFACE, 0, 0]],
    ["empty blits", "bcs0", () => [0x5430_0005, 0x03f0_0000, 0, 0, SURFACE, 0, 0]],
  ] as const
) {
  Deno.test(`a turn of ${what} takes a bounded number of accesses to memory`, async () => {
    await using guest = await Guest.start();
    const page = guest.page();
    for (let i = 0; i < 32; i++) await guest.table.map(SURFACE + i * PAGE, page); // a row of a blit
    await guest.put(guest.batch, [...commands(guest), ...start(guest.batch)]);
    await assertBounded(guest, engine, guest.batch);
  });
}

Deno.test("a turn of commands of 64 pages takes a bounded number of accesses to memory", async () => {
  await using guest = await Guest.start();
  const [page, last] = [guest.page(), guest.page()];
  for (let i = 0; i < 64; i++) await guest.table.map(SURFACE + i * PAGE, page);
  await guest.table.map(SURFACE + 64 * PAGE, last);
  await guest.put(SURFACE, [0x7000_ffff]); // 65,537 dwords
  await guest.put(SURFACE + 64 * PAGE + 4, start(SURFACE));
  await assertBounded(guest, "rcs0", SURFACE);
});

Deno.test("a submission at the end of a burst that fills turns is worked on without another message", async () => {
  await using guest = await Guest.start();
  await guest.put(guest.batch, [...store(guest.data, 7), END]);
  const context = await guest.contextOf("vcs0");
  await context.append(start(guest.batch));
  const { served } = guest.device.service;
  const posted = (offset: number, value: number) => guest.vmm.notify("mmio_write", 0, offset, 4, value);
  for (let index = 0; index < 20_000; index++) posted(0x1f_0000, index);
  const port = ENGINES.vcs0.base + REGISTER.submissionPort;
  for (const dword of [0, 0, context.id, context.descriptor]) posted(port, dword);
  const begun = () => served.device.vgpu.streamerCounters.submissionsVcs0 > 0 && !served.isRunnable;
  // Only timers and the socket go on: nothing is asked.
  for (let left = 200; left > 0 && !begun(); left--) await new Promise((resolve) => setTimeout(resolve, 10));
  assertEquals(begun(), true);
  assertEquals(await guest.get(guest.data), [7]);
});

Deno.test("no engine stores after the answer that its guest is no bus master any more", async () => {
  await using guest = await Guest.start();
  await guest.put(guest.batch, [...spinner(guest.batch), ...store(guest.data, 7), END]);
  await guest.startRing("rcs0", start(guest.batch));
  await guest.stall();
  await guest.vmm.call("mmio_write", 7, 0x04, 2, 0x0002);
  await guest.put(guest.batch, [NOOP, NOOP, NOOP, NOOP, NOOP]);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assertEquals(await guest.get(guest.data), [0]);
  await guest.vmm.call("mmio_write", 7, 0x04, 2, 0x0006);
  await guest.settle("rcs0");
  assertEquals(await guest.get(guest.data), [7]);
});

Deno.test("an engine that only waits is looked at again when a message came, at once", async () => {
  await using guest = await Guest.start();
  await guest.startRing("rcs0", wait(guest.global, WAIT.equal, 1, GGTT));
  await guest.stall();
  assertEquals(guest.device.service.served.isWaiting, true);
  await guest.vmm.call("mem_write", guest.globalPage, le32(1));
  await guest.settle("rcs0");
});

Deno.test("a device process answers while a batch spins, and runs what comes meanwhile", async () => {
  await using folder = new TempFolder();
  const path = `${folder.path}/s`;
  await using device = await DeviceProcess.start("--socket-path", path, "--verify");
  const vmm = await connect(path, { role: "vmm" });
  try {
    await vmm.call("ram_map", { gpa: 0, size: 0x10_0000 });
    const write = (offset: number, value: number, size: 4 | 8 = 4) =>
      vmm.call("mmio_write", 0, offset, size, value);
    const read = async (offset: number) => Number(await vmm.call("mmio_read", 0, offset, 4));
    await vmm.call("mmio_write", 7, 0x04, 2, 0x0006);
    await vmm.call("mmio_read", 0, 0x78000, 8);
    // 640 MiB on: context (2 pages), ring, data; the page table's root is frame 0x20.
    const gma = 640 << 20;
    for (const [i, frame] of [0x10, 0x11, 0x12, 0x13].entries()) {
      await write(0x80_0000 + 8 * (gma / PAGE + i), frame * PAGE + 1, 8);
    }
    for (
      const [table, entry] of [[0x20, 0x21003], [0x21, 0x22003], [0x22, 0x23003], [0x23, 0x24003]] as const
    ) {
      await vmm.call("mem_write", table * PAGE, le32(entry, 0));
    }
    await vmm.call("mem_write", 0x24 * PAGE, le32(...spinner(0)));
    const ring = [...start(0), ...store(gma + 3 * PAGE, 0x77, GGTT), NOOP];
    await vmm.call("mem_write", 0x12 * PAGE, le32(...ring));
    const image = new Uint32Array(0x34);
    for (const [index, value] of [[7, 32], [9, gma + 2 * PAGE], [11, 1], [0x33, 0x20 * PAGE]] as const) {
      image[index] = value;
    }
    await vmm.call("mem_write", 0x11 * PAGE, new Uint8Array(image.buffer));
    await write(0x229c, 0x8000_8000);
    for (const dword of [0, 0, 0x20, gma + 0x119]) await write(0x2230, dword);
    for (let i = 0; i < 200; i++) assertEquals(await read(0x2238), 0x20); // spins
    assertEquals(await vmm.call("mem_read", 0x13 * PAGE, 4), le32(0));
    await vmm.call("mem_write", 0x24 * PAGE, le32(END));
    while (await read(0x2234) !== 0) continue;
    assertEquals(await vmm.call("mem_read", 0x13 * PAGE, 4), le32(0x77));
    const stats = await vmm.call("stats");
    assertEquals([stats["verifiedSubmissions"], stats["verifyMismatches"]], [1, 0]);
  } finally {
    await vmm.close();
  }
  assertEquals((await device.stop()).code, 0);
});
