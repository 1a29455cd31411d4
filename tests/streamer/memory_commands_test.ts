import { assertEquals } from "@std/assert";
import { address, END, GGTT, NOOP, start, startGlobal, store, storeQword } from "./commands.ts";
import { ENGINE_NAMES, FAULT, FOREIGN, Guest, NOWHERE, READ_ONLY } from "./guest.ts";

/** The last dword of the first page of data, and the first one of the second. */
const LAST = 0xffc;

for (const engine of ENGINE_NAMES) {
  Deno.test(`${engine} stores data by the PPGTT and by the GGTT`, async () => {
    await using guest = await Guest.start();
    await guest.runBatch(engine, [
      ...store(guest.data + 4, 0x1111),
      ...storeQword(guest.data + 8, 0x2222, 0x3333),
    ]);
    assertEquals(await guest.get(guest.data, 5), [0, 0x1111, 0x2222, 0x3333, 0]);
    await guest.runRing(engine, [
      ...store(guest.global + 4, 0x4444, GGTT),
      ...storeQword(guest.global + 8, 0x5555, 0x6666, GGTT),
      ...store(guest.data, 0x7777), // by the context's own table, from the ring
    ]);
    assertEquals(await guest.words(guest.globalPage, 5), [0, 0x4444, 0x5555, 0x6666, 0]);
    assertEquals(await guest.get(guest.data), [0x7777]);
  });
}

Deno.test("MI_STORE_DATA_IMM of a qword across pages stores each half where its page is", async () => {
  await using guest = await Guest.start();
  await guest.runBatch("rcs0", storeQword(guest.data + LAST, 0xaaaa, 0xbbbb));
  assertEquals(await guest.get(guest.data + LAST - 4, 4), [0, 0xaaaa, 0xbbbb, 0]);
});

Deno.test("MI_STORE_DATA_IMM ignores what is above 48 bits and below a dword", async () => {
  await using guest = await Guest.start();
  const [lo, hi] = address(guest.data + 4);
  await guest.runBatch("rcs0", [0x1000_0002, lo + 3, hi + 0xffff_0000, 0x1234]);
  assertEquals(await guest.get(guest.data, 3), [0, 0x1234, 0]);
});

Deno.test("MI_STORE_DATA_IMM stores as many dwords or qwords as its length says, 1,022 at most", async () => {
  await using guest = await Guest.start();
  const many = Array.from({ length: 1022 }, (_, i) => 0x100 + i);
  await guest.runBatch("rcs0", [
    ...[0x1000_03ff, ...address(guest.data + 8), ...many],
    ...[0x1000_0003, ...address(guest.data), 1, 2],
    ...[0x1020_0005, ...address(guest.data + LAST), 3, 4, 5, 6],
  ]);
  assertEquals(await guest.get(guest.data, 4), [1, 2, 0x100, 0x101]);
  assertEquals(await guest.get(guest.data + LAST - 4, 6), [0x100 + 1020, 3, 4, 5, 6, 0]);
});

Deno.test("MI_STORE_DATA_IMM of qwords leaves a dword over alone", async () => {
  await using guest = await Guest.start();
  await guest.runBatch("rcs0", [0x1020_0004, ...address(guest.data), 1, 2, 3, ...store(guest.data + 16, 4)]);
  assertEquals(await guest.get(guest.data, 5), [1, 2, 0, 0, 4]);
});

Deno.test("a batch without privilege reaches nothing by the GGTT", async () => {
  await using guest = await Guest.start();
  await guest.runBatch("rcs0", [
    ...store(guest.global, 1, GGTT),
    0x1240_0002,
    0x2358,
    ...address(guest.global),
    0x1080_0001, // MI_STORE_DATA_INDEX into the engine's status page
    0x800,
    2,
    ...store(guest.data, 0x99),
  ]);
  assertEquals(await guest.words(guest.globalPage, 1), [0]);
  assertEquals(await guest.words(guest.statusPages.rcs0 + 0x800, 1), [0]);
  assertEquals(await guest.get(guest.data), [0x99]); // and goes on
  assertEquals(await guest.device.counter("csPrivilegeViolations"), 3);
});

Deno.test("a batch of the GGTT has the ring's privilege", async () => {
  await using guest = await Guest.start();
  const page = guest.page();
  const batch = await guest.mapGlobal(page);
  const words = [...store(guest.global, 1, GGTT), ...store(guest.data, 2), END];
  await guest.vmm.call("mem_write", page, new Uint8Array(Uint32Array.from(words).buffer));
  await guest.runRing("rcs0", [...startGlobal(batch), ...store(guest.global + 4, 3, GGTT)]);
  assertEquals(await guest.words(guest.globalPage, 2), [1, 3]);
  assertEquals(await guest.get(guest.data), [2]);
});

Deno.test("a batch of the PPGTT cannot start one of the GGTT: its address is one of its own", async () => {
  await using guest = await Guest.start();
  const page = guest.page();
  const batch = await guest.mapGlobal(page);
  const other = guest.page();
  await guest.table.map(batch, other); // the same address, elsewhere
  const write = (gpa: number, ...words: number[]) =>
    guest.vmm.call("mem_write", gpa, new Uint8Array(Uint32Array.from(words).buffer));
  await write(page, ...store(guest.global, 1, GGTT), END);
  await write(other, ...store(guest.data, 2), ...store(guest.global, 3, GGTT), END);
  await guest.put(guest.batch, startGlobal(batch));
  await guest.runRing("rcs0", start(guest.batch));
  assertEquals(await guest.words(guest.globalPage, 1), [0]);
  assertEquals(await guest.get(guest.data), [2]);
});

Deno.test("privilege that a second-level batch has not is there again behind it", async () => {
  await using guest = await Guest.start();
  const page = guest.page();
  const batch = await guest.mapGlobal(page);
  const words = [...start(guest.batch, GGTT), ...store(guest.global + 4, 4, GGTT), END];
  await guest.vmm.call("mem_write", page, new Uint8Array(Uint32Array.from(words).buffer));
  await guest.put(guest.batch, [...store(guest.global, 1, GGTT), ...store(guest.data, 2), END]);
  await guest.runRing("rcs0", startGlobal(batch));
  assertEquals(await guest.words(guest.globalPage, 2), [0, 4]);
  assertEquals(await guest.get(guest.data), [2]);
});

Deno.test("MI_STORE_DATA_INDEX stores into the engine's status page, or the context's own", async () => {
  await using guest = await Guest.start();
  const context = await guest.contextOf("bcs0");
  await guest.runRing("bcs0", [
    ...[0x1080_0001, 0x0ff0, 0x11], // bits 11..2 of the offset count
    ...[0x1080_0001, 0xf803, 0x12],
    ...[0x10a0_0001, 0x0808, 0x13],
    ...[0x1080_0002, 0x0ff8, 0x14, 0x15], // a qword
  ]);
  assertEquals(await guest.words(guest.statusPages.bcs0 + 0xff0, 4), [0x11, 0, 0x14, 0x15]);
  assertEquals(await guest.words(guest.statusPages.bcs0 + 0x800, 1), [0x12]);
  assertEquals(await guest.words(context.status + 0x808, 1), [0x13]);
});

Deno.test("MI_COPY_MEM_MEM copies a dword between tables", async () => {
  await using guest = await Guest.start();
  await guest.put(guest.data + LAST, [0xc0de]);
  await guest.vmm.call("mem_write", guest.globalPage + 4, Uint8Array.of(0xad, 0xde));
  const copy = (
    flags: number,
    to: number,
    from: number,
  ) => [0x1700_0003 + flags, ...address(to), ...address(from)];
  await guest.runRing("vcs0", [
    ...copy(0, guest.data, guest.data + LAST),
    ...copy(GGTT, guest.data + 4, guest.global + 4), // bit 22: the source
    ...copy(0x20_0000, guest.global + 8, guest.data + LAST), // bit 21: the destination
    ...copy(GGTT + 0x20_0000, guest.global + 12, guest.global + 4),
  ]);
  assertEquals(await guest.get(guest.data, 2), [0xc0de, 0xdead]);
  assertEquals(await guest.words(guest.globalPage + 4, 3), [0xdead, 0xc0de, 0xdead]);
  await guest.runBatch("vcs0", [
    ...copy(GGTT, guest.data + 16, guest.global + 4),
    ...copy(0x20_0000, guest.global + 16, guest.data + LAST),
  ]);
  assertEquals([await guest.get(guest.data + 16), await guest.words(guest.globalPage + 16, 1)], [[0], [0]]);
});

Deno.test("a store to a page that may only be read is dropped without a fault", async () => {
  await using guest = await Guest.start();
  await guest.put(READ_ONLY, [0x5a5a, 0x5b5b]);
  await guest.runBatch("rcs0", [
    ...store(READ_ONLY, 1),
    0x1700_0003,
    ...address(guest.data),
    ...address(READ_ONLY + 4), // it can be read
  ]);
  assertEquals(await guest.get(READ_ONLY), [0x5a5a]);
  assertEquals(await guest.get(guest.data), [0x5b5b]);
  assertEquals([await guest.device.counter("csBadWrites"), await guest.readAt(FAULT)], [1, 0]);
});

Deno.test("one read-only entry on the way is enough, at every level", async () => {
  await using guest = await Guest.start();
  const gma = 0x55_5555_5000;
  for (const level of [2, 3, 4]) {
    const table = guest.newTable();
    await table.map(guest.batch, guest.table.gpaOf(guest.batch));
    const page = guest.page();
    await table.map(gma, page);
    // Make the entry that leads to the table below this level read-only.
    const index = Math.floor(gma / 2 ** (12 + 9 * (level - 1))) % 512;
    const entry = await table.directoryOf(gma, level) + 8 * index;
    const [lo] = await guest.words(entry, 1);
    await guest.vmm.call("mem_write", entry, Uint8Array.of((lo! & 0xff) - 2));
    await guest.put(guest.batch, [...store(gma, 1), END]);
    const context = await guest.context("rcs0", { table });
    await context.append(start(guest.batch));
    await guest.submit("rcs0", context);
    await guest.settle("rcs0");
    assertEquals(await guest.words(page, 1), [0], `level ${level}`);
  }
});

for (
  const [what, map] of [
    ["is not mapped", () => Promise.resolve()],
    ["is mapped to no RAM", (guest: Guest) => guest.table.setEntry(NOWHERE, 0x4000_0003)],
    ["has no page table", (guest: Guest) => guest.table.setEntry(NOWHERE + 0x20_0000, 3)],
  ] as const
) {
  Deno.test(`data that ${what} reads 0 and drops stores, and the batch goes on`, async () => {
    await using guest = await Guest.start();
    await map(guest);
    await guest.put(guest.data, [0x11, 0x22, 0x33]);
    await guest.runBatch("rcs0", [
      ...store(NOWHERE, 0x99),
      0x1700_0003,
      ...address(guest.data),
      ...address(NOWHERE),
      0x1480_0002,
      0x2600,
      ...address(NOWHERE),
      ...store(guest.data + 4, 0x77),
    ]);
    assertEquals(await guest.get(guest.data, 3), [0, 0x77, 0x33]);
    assertEquals(await guest.device.counter("csBadReads"), 2);
    assertEquals(await guest.device.counter("csBadWrites"), 1);
    assertEquals(await guest.readAt(0x4b10), Math.floor(NOWHERE / 4096) % 2 ** 32);
  });
}

Deno.test("scratch is no channel: what one context stores where nothing is mapped another does not find", async () => {
  await using guest = await Guest.start();
  const [one, other] = [guest.newTable(), guest.newTable()];
  const entries = guest.newTable();
  for (const table of [one, other, entries]) {
    await table.map(guest.batch, guest.table.gpaOf(guest.batch));
    await table.map(guest.data, guest.table.gpaOf(guest.data));
  }
  const [first, second] = [
    await guest.context("rcs0", { table: one }),
    await guest.context("rcs0", { table: other }),
  ];
  await guest.put(guest.data, [1, 1, 1]);
  for (const gma of [NOWHERE, guest.data + 0x1000, guest.batch + 0x1000]) {
    await guest.put(guest.batch, [...store(gma, 0x5ec2e7), END]);
    await first.append(start(guest.batch));
    await guest.submit("rcs0", first);
    await guest.settle("rcs0");
    await guest.put(guest.batch, [0x1700_0003, ...address(guest.data), ...address(gma), END]);
    await second.append(start(guest.batch));
    await guest.submit("rcs0", second);
    await guest.settle("rcs0");
    assertEquals(await guest.get(guest.data), [0]);
  }
});

Deno.test("the GGTT outside the vGPU's windows is nobody's", async () => {
  await using guest = await Guest.start();
  const page = guest.page();
  await guest.setGlobal(FOREIGN, page + 1);
  // As if another vGPU had mapped it, and its guest had the same RAM.
  const { host, ram } = guest.device.service.served.device;
  host.storeGgtt(FOREIGN / 4096, ram.mfnOf(page / 4096) * 4096 + 1, 1);
  await guest.runRing("rcs0", [
    ...store(FOREIGN, 1, GGTT),
    ...store(0xffff_f000, 1, GGTT),
    0x1040_0002, // beyond the whole table
    0,
    1,
    1,
    ...store(guest.global, 2, GGTT),
  ]);
  assertEquals(await guest.words(page, 1), [0]);
  assertEquals(await guest.words(guest.globalPage, 1), [2]);
  assertEquals(await guest.device.counter("csBadWrites"), 3);
  assertEquals(await guest.readAt(FAULT), 0x801);
});

Deno.test("a page of the GGTT that leads to no RAM, and read-only RAM, keep what they have", async () => {
  await using guest = await Guest.start();
  const gma = await guest.mapGlobal(0x4000_0000);
  const path = `${guest.device.folder}/rom`;
  await Deno.writeFile(path, new Uint8Array(4096).fill(0x42));
  await guest.vmm.call("ram_map", { gpa: 0x8000_0000, size: 4096, path, readonly: true });
  const rom = await guest.mapGlobal(0x8000_0000);
  await guest.table.map(NOWHERE, 0x8000_0000);
  await guest.runRing("rcs0", [
    ...store(gma, 1, GGTT),
    ...store(rom, 1, GGTT),
    ...store(NOWHERE, 1),
    ...[0x1740_0003 + 0x20_0000, ...address(guest.global), ...address(rom)],
  ]);
  assertEquals(await guest.device.counter("csBadWrites"), 3);
  assertEquals([...await Deno.readFile(path)].filter((byte) => byte !== 0x42), []);
  assertEquals(await guest.words(guest.globalPage, 1), [0x4242_4242]);
});

Deno.test("a 3-level table takes addresses of 32 bits, in four roots", async () => {
  await using guest = await Guest.start({ level: 3 });
  const pages: number[] = [];
  for (const slot of [0, 1, 2, 3]) {
    pages.push(guest.page());
    await guest.table.map(slot * 2 ** 30 + 0x3fff_f000, pages[slot]!);
  }
  await guest.runBatch("bcs0", [
    ...[0, 1, 2, 3].flatMap((slot) => store(slot * 2 ** 30 + 0x3fff_f004, 0x100 + slot)),
    NOOP,
  ]);
  const found: number[] = [];
  for (const page of pages) found.push(...await guest.words(page, 2));
  assertEquals(found, [0, 0x100, 0, 0x101, 0, 0x102, 0, 0x103]);
});
