import { assertEquals } from "@std/assert";
import { Attached, refusal } from "../scenarios/attached.ts";
import {
  announceTree4,
  GMA4,
  le32,
  le64,
  PAGE,
  ROOTS4,
  tablePage,
  TREE4,
  uniformPage,
  writePages,
} from "../scenarios/guest_pages.ts";
import { assertContained } from "./isolation.ts";

/** Small windows: the isolation check looks at every entry of them. */
const SMALL = { apertureBase: 0, apertureSize: 1 << 20, hiddenBase: 256 << 20, hiddenSize: 1 << 20 };

/** A 4-level page table with this root page: it is created, looked at, stored to, and nothing of it stays. */
async function survives(device: Attached, root: number): Promise<void> {
  const { vmm } = device;
  const mm = await vmm.call("mm_create", 4, [root, 0, 0, 0]);
  assertContained(device.service);
  await vmm.call("tree", mm);
  for (const gma of [0, GMA4, 2 ** 48 - 8, 2 ** 47]) {
    const walk = await vmm.call("translate", mm, gma);
    assertEquals([walk["agrees"], walk["guest"]], [true, await vmm.call("gma_to_gpa", mm, gma)]);
  }
  await vmm.call("submit", 4, [root, 0, 0, 0]);
  assertContained(device.service);
  await vmm.call("mm_destroy", mm);
  assertEquals(await device.counter("shadowTables"), 0);
  assertEquals(await device.counter("protectedFrames"), 0);
  assertContained(device.service);
}

Deno.test("mm_create survives one page as every level", async () => {
  await using device = await Attached.start({ device: SMALL });
  await writePages(device.vmm, { 0x10: uniformPage(0x10003) });
  await survives(device, 0x10000);
});

Deno.test("mm_create survives a page that leads to itself in one entry", async () => {
  await using device = await Attached.start({ device: SMALL });
  await writePages(device.vmm, { 0x10: tablePage({ 511: 0x10003 }) });
  await survives(device, 0x10000);
});

Deno.test("mm_create survives cycles of two and four pages", async () => {
  await using device = await Attached.start({ device: SMALL });
  await writePages(device.vmm, { 0x10: uniformPage(0x11003), 0x11: uniformPage(0x10003) });
  await survives(device, 0x10000);
  await writePages(device.vmm, {
    0x20: tablePage({ 0: 0x21003, 1: 0x23003 }),
    0x21: tablePage({ 0: 0x22003, 1: 0x20003 }),
    0x22: tablePage({ 0: 0x23003, 1: 0x21003 }),
    0x23: tablePage({ 0: 0x20003, 1: 0x22003 }),
  });
  await survives(device, 0x20000);
});

Deno.test("a store to a page that is every level reaches every table of it", async () => {
  await using device = await Attached.start({ device: SMALL });
  const { vmm } = device;
  await writePages(vmm, { 0x10: uniformPage(0x10003) });
  const mm = await vmm.call("mm_create", 4, [0x10000, 0, 0, 0]);
  // The same entry as a PML4E, PDPE, PDE and PTE at once.
  for (const value of [0, 0x11003, 0x10003, 0x3000, 0x10083, 0x7_ffff_f003, 0xffff_ffff_ffff_ffffn]) {
    await vmm.call("mem_write", 0x10000 + 8 * 7, le64(value));
    assertContained(device.service);
    await vmm.call("mem_write", 0x10000 + 8 * 7, le32(0x12003));
    await vmm.call("mem_write", 0x10000 + 8 * 7 + 4, le32(0));
    assertContained(device.service);
    await vmm.call("flush_post_shadow");
    assertContained(device.service);
  }
  await vmm.call("mem_write", 0x10000, new Uint8Array(PAGE));
  assertContained(device.service);
  await vmm.call("mm_destroy", mm);
  assertEquals(await device.counter("shadowTables"), 0);
});

Deno.test("a page announced as a root of both levels is a table of every kind", async () => {
  await using device = await Attached.start({ device: SMALL });
  const { vmm } = device;
  await writePages(vmm, { 0x10: uniformPage(0x10003) });
  const four = await vmm.call("mm_create", 4, [0x10000, 0, 0, 0]);
  const three = await vmm.call("mm_create", 3, [0x10001, 0x10001, 0x10001, 0x10001]);
  assertEquals(await device.counter("shadowTables"), 4);
  assertContained(device.service);
  assertEquals(await vmm.call("gma_to_gpa", three, 0xffff_f123), 0x10123);
  await vmm.call("mm_destroy", four);
  assertContained(device.service);
  assertEquals((await vmm.call("translate", three, 0x4000_0000))["agrees"], true);
  await vmm.call("mm_destroy", three);
  assertEquals(await device.counter("shadowTables"), 0);
});

for (
  const [what, entry] of [
    ["beyond RAM", 0x400003],
    ["at the end of the address space", 0x3fff_ffff_f003],
    ["all ones", 0xffff_ffff_ffff_ffffn],
    ["with every bit but the address", 0xffff_c000_0000_0f7fn],
  ] as const
) {
  for (const [kind, gfn] of [["PML4", 0x10], ["PDP", 0x11], ["PDE", 0x12]] as const) {
    Deno.test(`mm_create of a tree with a ${kind} entry ${what} succeeds whole or leaves nothing`, async () => {
      await using device = await Attached.start({ device: SMALL });
      const { vmm } = device;
      await writePages(vmm, { ...TREE4, [gfn]: tablePage({ 0: entry, 1: 0x11003, 2: 0x12003, 3: 0x13003 }) });
      const created = await vmm.call("mm_create", 4, [...ROOTS4]).catch((error) => error.code);
      assertContained(device.service);
      if (created === 0) await vmm.call("mm_destroy", 0);
      else assertEquals(created, "EINVAL");
      const { spts, mms } = await vmm.call("state");
      assertEquals([spts, mms, await device.counter("protectedFrames")], [[], [], 0]);
    });
  }
}

Deno.test("a PTE beyond RAM or of any bits leads to scratch", async () => {
  await using device = await Attached.start({ device: SMALL });
  const { vmm } = device;
  const entries = { 0: 0x400003, 1: 0xffff_ffff_ffff_ffffn, 2: 0x3fff_ffff_f083n, 3: 0x8000_0000_0000_0001n };
  await writePages(vmm, { ...TREE4, 0x13: tablePage(entries) });
  const mm = await vmm.call("mm_create", 4, [...ROOTS4]);
  assertContained(device.service);
  const shadow = async (index: number) =>
    (await vmm.call("translate", mm, GMA4 + (index - 4) * PAGE))["shadow"];
  assertEquals([await shadow(0), await shadow(1), await shadow(2)], ["S", "S", "S"]);
  assertEquals(await shadow(3), "0x100000"); // frame 0 with the highest bit set
});

for (
  const [roots, outcome] of [
    [[0x21081, 0, 0, 0], "EINVAL"], // bits 0 and 7: a 1 GiB leaf
    [[0, 0, 0, 0x21081], "EINVAL"],
    [[0x21080, 0, 0, 0], "empty"], // a leaf that is not present
    [[0x80, 0x80, 0x80, 0x80], "empty"],
    [[0x7fff_ffff_f000, 0, 0, 0], "EINVAL"],
    [[0xffff_ffff_ffff_ffffn, 0, 0, 0], "EINVAL"],
  ] as const
) {
  Deno.test(`mm_create of level 3 with roots ${roots.map((root) => root.toString(16))} is ${outcome}`, async () => {
    await using device = await Attached.start({ device: SMALL });
    const { vmm } = device;
    const call = vmm.call("mm_create", 3, [...roots]);
    if (outcome === "empty") {
      const mm = await call;
      assertEquals(await vmm.call("tree", mm), { level: 3, shadowed: true, roots: [] });
      assertEquals(await vmm.call("gma_to_gpa", mm, 0), null);
      assertEquals((await vmm.call("translate", mm, 0))["shadow"], null);
    } else {
      assertEquals((await refusal(call)).code, outcome);
    }
    assertEquals(await device.counter("shadowTables"), 0);
    assertContained(device.service);
  });
}

Deno.test("mm_create keeps the tables of good roots out when a later root is bad", async () => {
  await using device = await Attached.start({ device: SMALL });
  await writePages(device.vmm, { 0x21: tablePage({ 3: 0x22003 }) });
  assertEquals(
    (await refusal(device.vmm.call("mm_create", 3, [0x21001, 0x21001, 0x22001, 0x81]))).code,
    "EINVAL",
  );
  assertEquals(await device.counter("shadowTables"), 0);
  assertContained(device.service);
});

Deno.test("half stores all over every table page keep the engine sound", async () => {
  await using device = await Attached.start({ device: SMALL });
  const { vmm } = device;
  const mm = await announceTree4(vmm);
  const values = [0, 1, 0x10003, 0x13083, 0x64003, 0x400003, 0xffffffff, 0x80];
  for (const gfn of [0x13, 0x12, 0x11, 0x10]) {
    for (let lane = 0; lane < 1024; lane += 3) {
      const rc = await vmm.call("mem_write", gfn * PAGE + 4 * lane, le32(values[lane % values.length]!));
      assertEquals(rc, 0);
    }
    assertContained(device.service);
    await vmm.call("flush_post_shadow").catch(() => {}); // some entries are large pages or lead beyond RAM
    assertContained(device.service);
    await vmm.call("submit", 4, [...ROOTS4]).catch(() => {});
    assertContained(device.service);
  }
  // The guest repairs its tables: whatever is still queued can be applied.
  await writePages(vmm, TREE4);
  await vmm.call("flush_post_shadow");
  assertContained(device.service);
  assertEquals((await vmm.call("translate", mm, GMA4))["shadow"], "0x100064");
  assertEquals((await vmm.call("state"))["post"], []);
});

Deno.test("a half store to a directory frees the whole tree below and the flush brings it back", async () => {
  await using device = await Attached.start({ device: SMALL });
  const { vmm } = device;
  const mm = await announceTree4(vmm);
  await vmm.call("mem_write", 0x10 * PAGE + 8, le32(0x11003));
  assertEquals(await device.counter("shadowTables"), 1);
  assertEquals((await vmm.call("translate", mm, GMA4))["shadow"], null); // scratch while it waits
  assertEquals(await vmm.call("gma_to_gpa", mm, GMA4), null);
  await vmm.call("mem_write", 0x13 * PAGE + 32, le64(0x70003)); // no table's page any more
  await vmm.call("flush_post_shadow");
  assertEquals((await vmm.call("translate", mm, GMA4))["shadow"], "0x100070");
  assertContained(device.service);
});

Deno.test("the flush survives entries that free tables which wait themselves", async () => {
  await using device = await Attached.start({ device: SMALL });
  const { vmm } = device;
  const mm = await announceTree4(vmm);
  await vmm.call("mem_write", 0x30 * PAGE, tablePage({ 4: 0x77003 }));
  // Half store to the PDE, full store back, half store into the PTE table, half store that leads the PDE elsewhere.
  await vmm.call("mem_write", 0x12 * PAGE + 24, le32(0x13003));
  await vmm.call("mem_write", 0x12 * PAGE + 24, le64(0x13003));
  await vmm.call("mem_write", 0x13 * PAGE + 32, le32(0x70003));
  await vmm.call("mem_write", 0x12 * PAGE + 24, le32(0x30003));
  await vmm.call("flush_post_shadow");
  assertContained(device.service);
  assertEquals((await vmm.call("translate", mm, GMA4))["shadow"], "0x100077");
  assertEquals(await vmm.call("find_tracked_page", 0x13), null);
});

Deno.test("huge fan-out is shadowed table by table and given back whole", async () => {
  await using device = await Attached.start({ device: SMALL, ram: 64 << 20 });
  const { vmm } = device;
  // 512 PDPs of 8 PDEs each, all leading to one PTE table: 1 + 512 + 4096 + 1 tables.
  const first = (gfn: number, count: number) =>
    Object.fromEntries(
      Array.from({ length: count }, (_, i) => [i, (gfn + i) * PAGE + 3]),
    );
  await vmm.call("mem_write", 0x10 * PAGE, tablePage(first(0x200, 512)));
  const writes: Promise<number>[] = [];
  for (let i = 0; i < 512; i++) {
    writes.push(vmm.call("mem_write", (0x200 + i) * PAGE, tablePage(first(0x1000 + 8 * i, 8))));
  }
  for (let i = 0; i < 4096; i++) {
    writes.push(vmm.call("mem_write", (0x1000 + i) * PAGE, uniformPage(0x13003)));
  }
  await Promise.all(writes);
  await vmm.call("mem_write", 0x13 * PAGE, uniformPage(0x64003));

  const mm = await vmm.call("mm_create", 4, [0x10000, 0, 0, 0]);
  assertEquals(await device.counter("shadowTables"), 1 + 512 + 4096 + 1);
  assertEquals((await vmm.call("state"))["nspt"], 4610);
  assertEquals(await vmm.call("gma_to_gpa", mm, 511 * 2 ** 39 + 7 * 2 ** 30 + 0xabc), 0x64abc);
  assertContained(device.service);
  await vmm.call("mm_destroy", mm);
  assertEquals(await device.counter("shadowTables"), 0);
  assertContained(device.service);
});
