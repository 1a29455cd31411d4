import { assert, assertEquals } from "@std/assert";
import { le64, PAGE } from "../scenarios/guest_pages.ts";
import { address, END, pipeControl, spinner, start, store, storeQword, WAIT, wait } from "./commands.ts";
import { IMAGE } from "./context.ts";
import { FAULT, GDRST, Guest } from "./guest.ts";

/** An address of the default table that shares no table with others. */
const GMA = 0x112_3456_7000;
/** How the VMM learns of stores to page tables. */
const TRACKING = ["trapped", "untracked"] as const;
/** Invalidates the TLB of the render engine. */
const TLB_INVALIDATE = 0x4260;

/** Runs a store to {@linkcode GMA}. */
async function storeAt(guest: Guest, value: number, gma = GMA): Promise<void> {
  await guest.runBatch("rcs0", store(gma, value));
}

for (const tracking of TRACKING) {
  Deno.test(`${tracking}: a binding that changed is another one for the next submission`, async () => {
    await using guest = await Guest.start({ tracking });
    const [a, b] = [guest.page(), guest.page()];
    await guest.table.announce();
    await guest.table.map(GMA, a);
    await storeAt(guest, 1);
    await guest.table.map(GMA, b);
    await storeAt(guest, 2);
    await guest.table.setEntry(GMA, 0);
    await storeAt(guest, 3);
    await guest.table.map(GMA, a);
    await guest.runBatch("rcs0", [0x1700_0003, ...address(guest.data), ...address(GMA)]);
    assertEquals([await guest.words(a, 1), await guest.words(b, 1), await guest.get(guest.data)], [[1], [2], [
      1,
    ]]);
    assertEquals(await guest.device.counter("verifiedSubmissions"), 4);
    guest.device.assertSound();
  });

  Deno.test(`${tracking}: a directory that changed is another one for the next submission, at every level`, async () => {
    await using guest = await Guest.start({ tracking });
    await guest.table.announce();
    const [a, b] = [guest.page(), guest.page()];
    const other = guest.newTable();
    await guest.table.map(GMA, a);
    await other.map(GMA, b);
    await storeAt(guest, 1);
    for (const level of [2, 3, 4]) {
      const index = Math.floor(GMA / 2 ** (12 + 9 * (level - 1))) % 512;
      const entry = await guest.table.directoryOf(GMA, level) + 8 * index;
      const before = await guest.vmm.call("mem_read", entry, 8);
      await guest.vmm.call("mem_write", entry, le64(await other.directoryOf(GMA, level - 1) + 3));
      await storeAt(guest, level);
      assertEquals([await guest.words(a, 1), await guest.words(b, 1)], [[1], [level]]);
      await guest.vmm.call("mem_write", entry, before.slice());
    }
    await storeAt(guest, 9);
    assertEquals(await guest.words(a, 1), [9]);
    guest.device.assertSound();
  });

  Deno.test(`${tracking}: a page table that the GPU writes counts after the command that invalidates`, async () => {
    for (
      const [engine, invalidate] of [
        ["rcs0", pipeControl(1 << 18)],
        ["bcs0", [0x1304_0001, 0, 0]],
      ] as const
    ) {
      await using guest = await Guest.start({ tracking });
      const [a, b] = [guest.page(), guest.page()];
      await guest.table.map(GMA, a);
      const table = await guest.table.directoryOf(GMA, 1);
      await guest.table.map(GMA + 2 ** 21, table); // the table is seen through itself
      const entry = GMA + 2 ** 21 + await guest.table.entryOf(GMA) % PAGE;
      await guest.runBatch(engine, [
        ...store(GMA, 1),
        ...storeQword(entry, b + 3, 0),
        ...invalidate,
        ...store(GMA, 2),
      ]);
      assertEquals([await guest.words(a, 1), await guest.words(b, 1)], [[1], [2]]);
      guest.device.assertSound();
    }
  });

  Deno.test(`${tracking}: what was mapped while a batch runs is there after a lite restore`, async () => {
    await using guest = await Guest.start({ tracking });
    const [a, b] = [guest.page(), guest.page()];
    await guest.table.map(GMA, a);
    const context = await guest.contextOf("rcs0");
    await guest.put(guest.batch, spinner(guest.batch));
    await guest.put(guest.batch + PAGE, [...store(GMA, 5), ...store(GMA + PAGE, 6), END]);
    await context.append(start(guest.batch));
    await guest.submit("rcs0", context);
    await guest.stall();
    await guest.table.map(GMA, b);
    await guest.table.map(GMA + PAGE, a);
    await context.append(start(guest.batch + PAGE));
    await guest.submit("rcs0", context);
    await guest.put(guest.batch, [END]);
    await guest.settle("rcs0");
    assertEquals([await guest.words(a, 1), await guest.words(b, 1)], [[6], [5]]);
    assertEquals(await guest.device.counter("verifiedSubmissions"), 2);
  });

  Deno.test(`${tracking}: a table that was never announced lives as long as its context runs`, async () => {
    await using guest = await Guest.start({ tracking });
    await guest.startBatch("rcs0", spinner(guest.batch));
    await guest.stall();
    assertEquals((await guest.vmm.call("state"))["mms"], [[0, 4, 1, 1, true]]);
    await guest.put(guest.batch, [END]);
    await guest.settle("rcs0");
    assertEquals((await guest.vmm.call("state"))["mms"], []);
    assertEquals(await guest.device.counter("shadowTables"), 0);
    guest.device.assertSound();
  });

  Deno.test(`${tracking}: a table that the guest takes back while its context runs stays until the end`, async () => {
    await using guest = await Guest.start({ tracking });
    const page = guest.page();
    await guest.table.map(GMA, page);
    await guest.table.announce();
    await guest.put(guest.batch + PAGE, [...store(GMA, 7), END]);
    await guest.put(guest.batch, spinner(guest.batch));
    await guest.startRing("rcs0", [...start(guest.batch), ...start(guest.batch + PAGE)]);
    await guest.stall();
    await guest.table.withdraw();
    assertEquals((await guest.vmm.call("state"))["mms"], [[0, 4, 1, 1, true]]);
    await guest.put(guest.batch, [END]);
    await guest.settle("rcs0");
    assertEquals(await guest.words(page, 1), [7]);
    assertEquals((await guest.vmm.call("state"))["mms"], []);
    guest.device.assertSound();
  });

  Deno.test(`${tracking}: a table that ends at once while its context runs leads nowhere`, async () => {
    await using guest = await Guest.start({ tracking });
    await guest.table.announce();
    await guest.startBatch("rcs0", spinner(guest.batch));
    await guest.stall();
    await guest.vmm.call("mm_destroy", 0);
    await guest.halt();
    assertEquals(await guest.readAt(FAULT), 1);
    guest.device.assertSound();
    await guest.writeAt(GDRST, 0x2);
    await guest.resume("rcs0");
    await guest.assertWorks("rcs0");
  });

  Deno.test(`${tracking}: roots that changed in the context are another table for the next submission`, async () => {
    await using guest = await Guest.start({ tracking });
    const page = guest.page();
    const other = guest.newTable();
    await other.map(guest.batch, guest.table.gpaOf(guest.batch));
    await other.map(GMA, page);
    await guest.put(guest.batch, [...store(GMA, 8), END]);
    const context = await guest.contextOf("bcs0");
    await context.set(IMAGE.pdp0, other.roots[0]!);
    await context.append(start(guest.batch));
    await guest.submit("bcs0", context);
    await guest.settle("bcs0");
    assertEquals(await guest.words(page, 1), [8]);
  });

  Deno.test(`${tracking}: a page that was a table is data, and a table elsewhere, for the next submission`, async () => {
    await using guest = await Guest.start({ tracking });
    await guest.table.announce();
    const [a, b] = [guest.page(), guest.page()];
    await guest.table.map(GMA, a);
    await storeAt(guest, 1);
    const table = await guest.table.directoryOf(GMA, 1);
    const directory = await guest.table.directoryOf(GMA, 2);
    const index = Math.floor(GMA / 2 ** 21) % 512;
    await guest.vmm.call("mem_write", directory + 8 * index, new Uint8Array(8)); // unlinked,
    await guest.vmm.call("mem_write", table, new Uint8Array(PAGE));
    await guest.vmm.call("mem_write", table, le64(b + 3)); // and a PTE table of another part
    await guest.vmm.call("mem_write", directory + 8 * (index + 1), le64(table + 3));
    const gma = (Math.floor(GMA / 2 ** 21) + 1) * 2 ** 21;
    await guest.runBatch("rcs0", [...store(gma, 2), ...store(GMA, 3)]);
    assertEquals([await guest.words(a, 1), await guest.words(b, 1)], [[1], [2]]);
    guest.device.assertSound();
  });

  Deno.test(`${tracking}: RAM that goes while a batch runs takes what led there`, async () => {
    await using guest = await Guest.start({ tracking });
    const ram = { gpa: 0x1000_0000, size: 2 * PAGE };
    await guest.vmm.call("ram_map", ram);
    await guest.table.map(GMA, ram.gpa);
    await guest.table.map(GMA + PAGE, ram.gpa + PAGE);
    await guest.put(guest.batch, spinner(guest.batch));
    await guest.put(guest.batch + PAGE, [...store(GMA, 1), ...store(guest.data, 2), END]);
    await guest.startRing("rcs0", [...start(guest.batch), ...start(guest.batch + PAGE)]);
    await guest.stall();
    await guest.vmm.call("ram_unmap", ram);
    guest.device.assertSound();
    await guest.put(guest.batch, [END]);
    await guest.settle("rcs0");
    assertEquals(await guest.get(guest.data), [2]);
    assertEquals(await guest.device.counter("csBadWrites"), 1);

    await guest.vmm.call("ram_map", ram); // other RAM, empty
    await storeAt(guest, 3);
    assertEquals(await guest.words(ram.gpa, 1), [3]);
  });

  Deno.test(`${tracking}: RAM of a batch or of its tables that goes halts the engine, and a reset helps`, async () => {
    await using guest = await Guest.start({ tracking });
    const ram = { gpa: 0x1000_0000, size: 16 * PAGE };
    await guest.vmm.call("ram_map", ram);
    let next = ram.gpa;
    const take = () => (next += PAGE) - PAGE;
    const gma = GMA + 2 ** 39; // below an entry of the root that is free
    const tables = [take(), take(), take()];
    const link = async (table: number, shift: number, to: number) => {
      await guest.vmm.call("mem_write", table + 8 * (Math.floor(gma / 2 ** shift) % 512), le64(to + 3));
    };
    const build = async () => {
      await link(guest.table.roots[0]!, 39, tables[0]!);
      await link(tables[0]!, 30, tables[1]!);
      await link(tables[1]!, 21, tables[2]!);
      await link(tables[2]!, 12, guest.table.gpaOf(guest.batch));
    };
    await build();
    await guest.put(guest.batch, spinner(gma));
    await guest.startRing("rcs0", start(gma));
    await guest.stall();
    await guest.vmm.call("ram_unmap", ram);
    await guest.halt();
    assertEquals(await guest.readAt(FAULT), 1);
    guest.device.assertSound();

    await guest.vmm.call("ram_map", ram);
    await build();
    await guest.writeAt(GDRST, 0x2);
    await guest.resume("rcs0");
    guest.forgetContexts();
    await guest.put(guest.batch, [...store(guest.data, 6), END]);
    await guest.runRing("rcs0", start(gma));
    assertEquals(await guest.get(guest.data), [6]);
    guest.device.assertSound();
  });

  Deno.test(`${tracking}: what a batch stores to its own table counts for the next submission`, async () => {
    await using guest = await Guest.start({ tracking });
    await guest.table.announce();
    const pages = [guest.page(), guest.page(), guest.page(), guest.page()];
    const window = GMA + 2 ** 30; // through which the guest's own table page is seen
    await guest.table.map(GMA, pages[0]!);
    await guest.table.map(window, await guest.table.directoryOf(GMA, 1));
    const entry = window + 8 * (Math.floor(GMA / PAGE) % 512);
    // A qword; two halves; a qword that is none of one entry; a blit of a byte.
    const changes = [
      ["rcs0", storeQword(entry, pages[1]! + 3, 0)],
      ["vcs0", [...store(entry, pages[2]! + 3), ...store(entry + 4, 0)]],
      ["vecs0", storeQword(entry - 4, 0, pages[3]! + 3)],
      ["bcs0", [0x5400_0005, 0x00f0_1000, 0, 0x0001_0001, ...address(entry + 1), pages[0]! / 256 & 0xff]],
    ] as const;
    for (const [index, [engine, change]] of changes.entries()) {
      await guest.runBatch(engine, change);
      await storeAt(guest, 0x100 + index);
    }
    const found: number[] = [];
    for (const page of pages) found.push(...await guest.words(page, 1));
    assertEquals(found, [0x103, 0x100, 0x101, 0x102]);
    guest.device.assertSound();
  });
}

Deno.test("trapped: what a batch stores to its own table counts for its next command", async () => {
  await using guest = await Guest.start();
  const [a, b] = [guest.page(), guest.page()];
  const window = GMA + 2 ** 30 + PAGE; // an address that no translation of the other takes the place of
  await guest.table.map(GMA, a);
  await guest.table.map(window, await guest.table.directoryOf(GMA, 1));
  const entry = window + 8 * (Math.floor(GMA / PAGE) % 512);
  await guest.runBatch("rcs0", [...store(GMA, 1), ...storeQword(entry, b + 3, 0), ...store(GMA, 2)]);
  assertEquals([await guest.words(a, 1), await guest.words(b, 1)], [[1], [2]]);
});

Deno.test("trapped: a binding that changes counts for a batch that runs", async () => {
  await using guest = await Guest.start();
  const [a, b] = [guest.page(), guest.page()];
  await guest.vmm.call("mem_write", b, le64(1));
  await guest.table.map(GMA, a);
  await guest.startBatch("rcs0", wait(GMA, WAIT.equal, 1));
  await guest.stall();
  await guest.table.map(GMA, b);
  await guest.settle("rcs0");
});

Deno.test("untracked: a binding that changes counts for a batch that runs when a TLB is invalidated", async () => {
  await using guest = await Guest.start({ tracking: "untracked" });
  const [a, b] = [guest.page(), guest.page()];
  await guest.vmm.call("mem_write", b, le64(1));
  await guest.table.map(GMA, a);
  await guest.table.announce();
  await guest.startBatch("rcs0", wait(GMA, WAIT.equal, 1));
  await guest.stall();
  await guest.table.map(GMA, b);
  await guest.writeAt(TLB_INVALIDATE, 1);
  await guest.settle("rcs0");
});

for (const tracking of TRACKING) {
  Deno.test(`${tracking}: Linux's scratch tables, under every entry, cost one table a level`, async () => {
    await using guest = await Guest.start({ tracking });
    const [page, table, directory, pointers] = [guest.page(), guest.page(), guest.page(), guest.page()];
    const full = (entry: number) => new Uint8Array(new BigUint64Array(512).fill(BigInt(entry)).buffer);
    await guest.vmm.call("mem_write", table, full(page + 0x19));
    await guest.vmm.call("mem_write", directory, full(table + 0x1b));
    await guest.vmm.call("mem_write", pointers, full(directory + 0x1b));
    const linux = guest.newTable();
    await guest.vmm.call("mem_write", linux.roots[0]!, full(pointers + 0x1b));
    await linux.announce();
    assertEquals(await guest.device.counter("shadowTables"), 4);
    await linux.map(guest.batch, guest.table.gpaOf(guest.batch));
    await linux.map(guest.data, guest.table.gpaOf(guest.data));
    await guest.put(guest.batch, [...store(0x7fff_ffff_f000, 1), ...store(guest.data, 2), END]);
    const context = await guest.context("rcs0", { table: linux });
    await context.append(start(guest.batch));
    await guest.submit("rcs0", context);
    await guest.settle("rcs0");
    assertEquals([await guest.words(page, 1), await guest.get(guest.data)], [[0], [2]]);
    assertEquals(await guest.readAt(FAULT), 0);
    assertEquals(await guest.device.counter("shadowTables"), 10);
    guest.device.assertSound();
  });

  Deno.test(`${tracking}: 2 MiB pages lead nowhere while they are not offered`, async () => {
    await using guest = await Guest.start({ tracking });
    const directory = await guest.table.directoryOf(GMA, 2);
    const index = Math.floor(GMA / 2 ** 21) % 512;
    await guest.vmm.call("mem_write", directory + 8 * index, le64(0x20_0083));
    const before = await guest.words(0x20_0000 + GMA % 2 ** 21, 1);
    await guest.startBatch("rcs0", [...store(GMA, 0x1234), ...store(guest.data, 1)]);
    if (tracking === "untracked") {
      await guest.settle("rcs0");
      assertEquals(await guest.get(guest.data), [1]);
    } else {
      await guest.halt(); // the original refuses such a table
      assertEquals(await guest.device.counter("csRefusedSubmissions"), 1);
    }
    assertEquals(await guest.words(0x20_0000 + GMA % 2 ** 21, 1), before);
    guest.device.assertSound();
  });

  Deno.test(`${tracking}: pages of 2 MiB and 64 KiB lead to RAM where they are offered`, async () => {
    await using guest = await Guest.start({ tracking, ram: 0x80_0000, device: { hugePages: true } });
    await guest.table.announce();
    const directory = await guest.table.directoryOf(GMA, 2);
    const index = Math.floor(GMA / 2 ** 21) % 512;
    await guest.vmm.call("mem_write", directory + 8 * index, le64(0x60_0083)); // 2 MiB
    const table = guest.page();
    for (let i = 0; i < 16; i++) await guest.vmm.call("mem_write", table + 8 * i, le64(0x40_0003 + i * PAGE));
    await guest.vmm.call("mem_write", directory + 8 * (index + 1), le64(table + 0x803)); // IPS
    const small = (Math.floor(GMA / 2 ** 21) + 1) * 2 ** 21;
    await guest.runBatch("rcs0", [
      ...store(GMA + 0xa98, 1),
      ...store(small + 0xf004, 2),
      ...store(GMA - PAGE, 3),
    ]);
    assertEquals(await guest.words(0x60_0000 + GMA % 2 ** 21 + 0xa98, 1), [1]);
    assertEquals(await guest.words(0x60_0000 + GMA % 2 ** 21 - PAGE, 1), [3]);
    assertEquals(await guest.words(0x40_f004, 1), [2]);
    assert(
      await guest.device.counter(tracking === "trapped" ? "verifiedEntries" : "verifiedTranslations") > 0,
    );
    guest.device.assertSound();
  });
}
