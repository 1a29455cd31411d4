/** A guest on QEMU's `pc` machine: every kind of access, both tables, a reset in the middle. */

import { assert, assertEquals } from "@std/assert";
import type { Agent, Size, Times } from "./agent.ts";
import { assertLeads, checkGgttPage, checkIdentity } from "./checks.ts";
import { Guest } from "./guest.ts";
import { guestTest } from "./guest_test_case.ts";
import {
  announce,
  APERTURE,
  build3,
  build4,
  directoryEntry,
  ggttEntry,
  HIDDEN,
  invalidateTlb,
  pageEntry,
  PVINFO,
  setEntry,
  setGgttEntry,
  settle,
  withdraw,
} from "./page_tables.ts";
import { Vgpu } from "./vgpu.ts";

/** A register that does nothing but keep what is written. */
const PLAIN = 0x1f0000;
/** An entry of the global table. */
const ENTRY = ggttEntry(APERTURE + 0x200000n);
const SIZES: readonly Size[] = [1, 2, 4, 8];
const VALUE = 0x8877665544332211n;
/** Indices 1, 2, 3, 4 of a 4-level table. */
const GMA4 = 0x8080604000n;
/** Indices 2, 3, 4 of a 3-level table. */
const GMA3 = 0x80604000n;
const PAGE = 4096n;

/** The bytes of {@link VALUE} from an offset. */
function part(offset: number, size: Size): bigint {
  return VALUE >> BigInt(8 * offset) & (1n << BigInt(8 * size)) - 1n;
}

/** Every aligned piece of 8 bytes in a BAR reads as it should, and after a store of each piece they are whole. */
async function checkPieces(agent: Agent, bar: number, at: number, sizes: readonly Size[]): Promise<void> {
  await agent.write(bar, at, 8, VALUE);
  for (const size of sizes) {
    for (let offset = 0; offset < 8; offset += size) {
      assertEquals(await agent.read(bar, at + offset, size), part(offset, size));
    }
  }
  for (const size of sizes) {
    await agent.write(bar, at, 8, 0);
    for (let offset = 0; offset < 8; offset += size) {
      await agent.write(bar, at + offset, size, part(offset, size));
    }
    assertEquals(await agent.read(bar, at, 8), VALUE);
  }
}

guestTest("vgpu in a guest on pc", async ({ bench, scope, step }) => {
  await using vgpu = await Vgpu.start(scope);
  await using guest = await Guest.boot(bench, { machine: "pc", vgpus: [vgpu.socket] });
  const { agent } = guest;

  await step("a guest finds the vGPU with its BARs, and PVINFO in it", async () => {
    await checkIdentity(agent, "0000:00:02.0");
  });

  await step("registers are read and written by 1, 2, 4 and 8 bytes", async () => {
    await checkPieces(agent, 0, PLAIN, SIZES);
    assertEquals(await agent.read(0, PVINFO, 4), 0x76544776n);
  });

  await step("the GTT window is read and written by 4 and 8 bytes, and by no less", async () => {
    await checkPieces(agent, 0, ENTRY, [4, 8]);
    const bad = await vgpu.stat("badAccesses");
    assertEquals(await agent.read(0, ENTRY, 2), 0xffffn);
    await agent.write(0, ENTRY, 1, 0);
    assertEquals(await agent.read(0, ENTRY, 8), VALUE);
    assertEquals(await vgpu.stat("badAccesses"), bad + 2);
  });

  await step("the aperture shows the page of a global entry, by 1, 2, 4 and 8 bytes", async () => {
    const [page] = await agent.pages(1);
    const [gma, at] = [APERTURE + 0x40000n, Number(APERTURE) + 0x40010];
    await setGgttEntry(agent, gma, page!);
    await checkPieces(agent, 2, at, SIZES);
    assertEquals(await agent.peek(page! + 0x10n, 8), VALUE);
    await agent.poke(page! + 0x18n, 8, ~VALUE & 0xffffffffffffffffn);
    assertEquals(await agent.read(2, at + 8, 8), ~VALUE & 0xffffffffffffffffn);
  });

  await step("a global entry leads to the guest's page", async () => {
    const [first, second] = await agent.pages(2);
    await checkGgttPage(agent, vgpu, first!);
    await checkGgttPage(agent, vgpu, second!);
  });

  await step("a flood of global entries arrives whole and in order", async () => {
    const [page] = await agent.pages(1);
    const entries = 0x4000;
    await agent.command("flood", 0, ggttEntry(HIDDEN), 8, entries, page! | 1n, 0);
    await agent.command("flood", 0, ggttEntry(HIDDEN), 8, entries / 2, 0n, 0);
    await settle(agent);
    report("accesses, most of them stores to the GTT window", await agent.times());
    for (const index of [0, entries / 2 - 1, entries / 2, entries - 1]) {
      const wanted = index < entries / 2 ? null : Number(page!);
      assertEquals(
        (await vgpu.translate("ggtt", HIDDEN + PAGE * BigInt(index))).guest,
        wanted,
        `entry ${index}`,
      );
    }
  });

  await step("a 4-level table is translated, and changes after the next TLB invalidation", async () => {
    const old = await vgpu.pageTables();
    const [page, next, far] = await agent.pages(3) as [bigint, bigint, bigint];
    const table = await build4(agent, GMA4, page);
    await announce(agent, table);
    const mm = await vgpu.newPageTable(old);
    await assertLeads(vgpu, mm, GMA4 + 0xabcn, page + 0xabcn);

    await setEntry(agent, table.pte, 4, pageEntry(next)); // an entry changes
    await setEntry(agent, table.pte, 5, pageEntry(page)); // another comes
    assert(!(await vgpu.translate(mm, GMA4)).agrees);
    await invalidateTlb(agent);
    await assertLeads(vgpu, mm, GMA4, next);
    await assertLeads(vgpu, mm, GMA4 + PAGE, page);

    const [more] = await agent.pages(1); // a whole table comes
    await setEntry(agent, more!, 511, pageEntry(far));
    await setEntry(agent, table.pde, 9, directoryEntry(more!));
    await invalidateTlb(agent);
    const distant = GMA4 + (6n << 21n) + (507n << 12n);
    await assertLeads(vgpu, mm, distant, far);

    await setEntry(agent, table.pde, 9, 0n); // and goes
    await setEntry(agent, table.pte, 5, 0n);
    await invalidateTlb(agent);
    await assertLeads(vgpu, mm, distant, null);
    await assertLeads(vgpu, mm, GMA4 + PAGE, null);

    await withdraw(agent, table);
    assertEquals(await vgpu.pageTables(), old);
  });

  await step("a 3-level table is translated, and changes after the next TLB invalidation", async () => {
    const old = await vgpu.pageTables();
    const [page, next] = await agent.pages(2) as [bigint, bigint];
    const table = await build3(agent, GMA3, page);
    await announce(agent, table);
    const mm = await vgpu.newPageTable(old);
    await assertLeads(vgpu, mm, GMA3 + 0x123n, page + 0x123n);
    await setEntry(agent, table.pte, 4, pageEntry(next));
    await setEntry(agent, table.pte, 7, pageEntry(page));
    await invalidateTlb(agent);
    await assertLeads(vgpu, mm, GMA3, next);
    await assertLeads(vgpu, mm, GMA3 + 3n * PAGE, page);
    await withdraw(agent, table);
    assertEquals(await vgpu.pageTables(), old);
  });

  await step("pages of a table serve again at other levels", async () => {
    const old = await vgpu.pageTables();
    const [page] = await agent.pages(1) as [bigint];
    const table = await build4(agent, GMA4, page);
    await announce(agent, table);
    const mm = await vgpu.newPageTable(old);
    await assertLeads(vgpu, mm, GMA4, page);

    // The page directory and the last table change places, without a word.
    const [pml4, pdp] = table.upper as [bigint, bigint];
    for (const recycled of [table.pde, table.pte]) await agent.fill(recycled, 0n);
    await setEntry(agent, pdp, 2, directoryEntry(table.pte));
    await setEntry(agent, table.pte, 3, directoryEntry(table.pde));
    await setEntry(agent, table.pde, 4, pageEntry(page));
    await invalidateTlb(agent);
    await assertLeads(vgpu, mm, GMA4, page);

    // The PDP table becomes a page that is mapped, and a page directory takes its place.
    await agent.fill(table.pte, 0n);
    await setEntry(agent, pml4, 1, directoryEntry(table.pte));
    const [fresh] = await agent.pages(1) as [bigint];
    await setEntry(agent, table.pte, 2, directoryEntry(fresh));
    await setEntry(agent, fresh, 3, directoryEntry(table.pde));
    await setEntry(agent, table.pde, 4, pageEntry(pdp));
    await agent.fill(pdp, 0x5a5a5a5a5a5a5a5an);
    await invalidateTlb(agent);
    await assertLeads(vgpu, mm, GMA4, pdp);

    // Another root made of the first one's pages.
    await withdraw(agent, table);
    for (const recycled of [pml4, table.pte, fresh, table.pde]) await agent.fill(recycled, 0n);
    const again = { level: 4, roots: [table.pde] } as const;
    await setEntry(agent, table.pde, 1, directoryEntry(fresh));
    await setEntry(agent, fresh, 2, directoryEntry(table.pte));
    await setEntry(agent, table.pte, 3, directoryEntry(pml4));
    await setEntry(agent, pml4, 4, pageEntry(page));
    await announce(agent, again);
    await assertLeads(vgpu, await vgpu.newPageTable(old), GMA4, page);
    await withdraw(agent, again);
    assertEquals(await vgpu.pageTables(), old);
  });

  await step("a sweep over the aperture sees the pages of its entries", async () => {
    const pages = await agent.pages(8);
    let all = 0n;
    for (const [index, page] of pages.entries()) {
      await agent.fill(page, BigInt(index) << 32n, 3n);
      await setGgttEntry(agent, APERTURE + PAGE * BigInt(index), page);
      for (let at = 0n; at < 512n; at++) all ^= (BigInt(index) << 32n) + 3n * at;
    }
    await agent.times();
    assertEquals(BigInt(`0x${await agent.command("sweep", 2, APERTURE, 8, 512 * pages.length)}`), all);
    report("loads from the aperture", await agent.times());
    await agent.command("sweep", 0, PLAIN, 4, 4096);
    report("loads of registers", await agent.times());
    await agent.command("flood", 0, PLAIN, 4, 4096, 0, 1);
    await settle(agent);
    report("stores to registers", await agent.times());
  });

  await step("the vGPU is as new after a reset of the machine in the middle of stores", async () => {
    const table = await build4(agent, GMA4, (await agent.pages(1))[0]!);
    await announce(agent, table);
    assertEquals((await vgpu.pageTables()).length, 1);
    await agent.write(0, PLAIN, 4, 0x1234);
    await agent.begin("flood", 0, ggttEntry(HIDDEN), 8, 0x18000, table.pte | 1n, 0);
    await guest.reset();
    assertEquals(await vgpu.pageTables(), []);
    await checkIdentity(agent, "0000:00:02.0");
    assertEquals(await agent.read(0, PLAIN, 4), 0n);
    await checkGgttPage(agent, vgpu, (await agent.pages(1))[0]!);
  });
});

/** Says how long accesses took. What is too long is for a person to judge: a test machine may be busy. */
function report(what: string, { count, total, longest }: Times): void {
  const us = (ns: number) => `${(ns / 1000).toFixed(1)} µs`;
  const text = `${count} ${what}: ${us(total / count)} each, the longest ${us(longest)}\n`;
  Deno.stderr.writeSync(new TextEncoder().encode(text));
}
