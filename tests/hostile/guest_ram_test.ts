import { assertEquals } from "@std/assert";
import type { Client } from "../../protocol/client.ts";
import { loadLibc } from "../../src/platform/libc.ts";
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
  writePages,
} from "../scenarios/guest_pages.ts";
import { assertContained } from "./isolation.ts";

loadLibc(); // here and not in the first test that maps a file, which would seem to leak it

/** Where the tree's tables are, and where its leaves lead. */
const TABLES = { gpa: 0x10000, size: 0x10000 };
const LEAVES = { gpa: 0x60000, size: 0x20000 };

/** A device with the 4-level tree, its tables and its leaves in regions of their own. */
async function start(oos = false): Promise<Attached> {
  const windows = { apertureBase: 0, apertureSize: 1 << 20, hiddenBase: 256 << 20, hiddenSize: 1 << 20 };
  const device = await Attached.start({ device: { ...windows, oos }, ram: 0 });
  await device.vmm.call("ram_map", TABLES);
  await device.vmm.call("ram_map", LEAVES);
  await announceTree4(device.vmm);
  await device.vmm.call("mmio_write", 0, 0x800000, 8, 0x64001);
  return device;
}

async function shadow(vmm: Client, gma = GMA4): Promise<unknown> {
  return (await vmm.call("translate", 0, gma))["shadow"];
}

Deno.test("no shadow leads to RAM that was unmapped, nor to what came in its place", async () => {
  await using device = await start();
  const { vmm } = device;
  await vmm.call("ram_unmap", LEAVES);
  assertContained(device.service);
  assertEquals([null, "S", "sPTE"].includes(await shadow(vmm) as string | null), true);

  // Other RAM of the guest gets the host frames that the leaves had.
  await vmm.call("ram_map", { gpa: 0x800000, size: LEAVES.size, mfn: 0x100060 });
  assertContained(device.service);
  assertEquals([null, "S", "sPTE"].includes(await shadow(vmm) as string | null), true);
  assertEquals((await vmm.call("translate", "ggtt", 0))["shadow"], "S");
  await vmm.call("mmio_write", 2, 0, 8, 0x1234);
  assertEquals(await vmm.call("mem_read", 0x804000, 8), le64(0));
});

Deno.test("shadows follow RAM that comes back at another place of the host", async () => {
  await using device = await start();
  const { vmm } = device;
  await vmm.call("ram_unmap", LEAVES);
  await vmm.call("ram_map", { ...LEAVES, mfn: 0x700000 });
  assertContained(device.service);
  await vmm.call("submit", 4, [...ROOTS4]);
  assertEquals(await shadow(vmm), "0x700004");
  assertEquals((await vmm.call("translate", "ggtt", 0))["shadow"], "0x700004");
  assertContained(device.service);
});

Deno.test("table pages may lose their RAM at any time", async () => {
  await using device = await start();
  const { vmm } = device;
  await vmm.call("ram_unmap", TABLES);
  assertContained(device.service);
  assertEquals(await vmm.call("gma_to_gpa", 0, GMA4), null);
  assertEquals((await refusal(vmm.call("mem_write", 0x13020, le64(0x70003)))).code, "EFAULT");
  await vmm.call("page_wrote", 0x13020, 8); // the VMM trapped something all the same
  assertContained(device.service);
  await vmm.call("submit", 4, [...ROOTS4]).catch(() => {});
  assertContained(device.service);

  await vmm.call("ram_map", TABLES);
  await writePages(vmm, TREE4);
  assertContained(device.service);
  await vmm.call("submit", 4, [...ROOTS4]);
  assertEquals(await shadow(vmm), "0x100064");
  await vmm.call("mem_write", 0x13020, le64(0x70003)); // and is trapped again
  assertEquals(await shadow(vmm), "0x100070");
  assertContained(device.service);
});

Deno.test("table pages that are moved are protected where they are", async () => {
  await using device = await start();
  const { vmm } = device;
  await vmm.call("ram_unmap", TABLES);
  await vmm.call("ram_map", { ...TABLES, mfn: 0x700000 });
  await writePages(vmm, TREE4);
  await vmm.call("submit", 4, [...ROOTS4]);
  const frames = new Map<unknown, unknown>();
  for (const [name, gfn, on] of device.notices) if (name === "page_track") frames.set(gfn, on);
  // What the VMM was told last of every table's page.
  assertEquals([0x10, 0x11, 0x12, 0x13].map((gfn) => frames.get(gfn)), [true, true, true, true]);
  assertEquals(await device.counter("protectedFrames"), 4);
});

Deno.test("pages may lose their RAM while they are out of sync or wait for the flush", async () => {
  for (const lost of [TABLES, LEAVES]) {
    await using device = await start(true);
    const { vmm } = device;
    for (const frame of [0x70, 0x71, 0x72]) await vmm.call("mem_write", 0x13020, le64(frame * PAGE + 3));
    await vmm.call("mem_write", 0x12000, le32(0x14003));
    await vmm.call("ram_unmap", lost);
    assertContained(device.service);
    for (const method of ["sync_oos_pages", "flush_post_shadow"] as const) {
      await vmm.call(method).catch(() => {});
      assertContained(device.service);
    }
    await vmm.call("ram_map", lost);
    assertContained(device.service);
    await vmm.call("reset");
    assertContained(device.service);
    assertEquals(await device.counter("protectedFrames"), 0);
  }
});

Deno.test("user tracks survive their frame's RAM", async () => {
  await using device = await start();
  const { vmm } = device;
  const track = await vmm.call("init_page_track", 0x61);
  await vmm.call("enable_page_track", track);
  await vmm.call("ram_unmap", LEAVES);
  assertContained(device.service);
  device.notices.length = 0;
  await vmm.call("ram_map", LEAVES);
  assertEquals(device.notices.filter(([, gfn]) => gfn === 0x61), [["page_track", 0x61, true]]); // new RAM, protected anew
  device.notices.length = 0;
  await vmm.call("mem_write", 0x61008, le64(1));
  assertEquals(device.notices, [["tracked_write", track, 0x61, 0x61008, 8]]);
  await vmm.call("ram_unmap", LEAVES);
  await vmm.call("clean_page_track", track);
  assertContained(device.service);
});

Deno.test("table pages in read-only RAM are shadowed, and cannot be stored to", async () => {
  await using device = await Attached.start({ ram: 0 });
  const { vmm } = device;
  const image = new Uint8Array(0x80000);
  for (const [gfn, page] of Object.entries(TREE4)) image.set(page, Number(gfn) * PAGE);
  await Deno.writeFile(`${device.folder}/rom`, image);
  await vmm.call("ram_map", { gpa: 0, size: image.length, path: `${device.folder}/rom`, readonly: true });
  await vmm.call("mm_create", 4, [...ROOTS4]);
  assertEquals(await shadow(vmm), "0x100064");
  assertEquals((await refusal(vmm.call("mem_write", 0x13020, le64(0)))).code, "EFAULT");
  assertEquals(await shadow(vmm), "0x100064");
  device.assertSound();
});

Deno.test("table pages in a file that shrinks are nobody's undoing", async () => {
  await using device = await Attached.start({ ram: 0 });
  const { vmm } = device;
  const path = `${device.folder}/ram`;
  await Deno.writeFile(path, new Uint8Array(0x80000));
  await vmm.call("ram_map", { gpa: 0, size: 0x80000, path });
  await announceTree4(vmm);
  await Deno.truncate(path, 0x11000); // the PDP, PDE and PTE tables are gone
  assertEquals((await refusal(vmm.call("mem_read", 0x13000, 8))).code, "EFAULT");
  assertEquals(await vmm.call("gma_to_gpa", 0, GMA4), null);
  await vmm.call("page_wrote", 0x13020, 8);
  await vmm.call("page_wrote", 0x13020, 4);
  await vmm.call("flush_post_shadow").catch(() => {});
  device.assertSound();
  await vmm.call("mm_destroy", 0);
  await vmm.call("mm_create", 4, [...ROOTS4]);
  device.assertSound();
});

Deno.test("a leaf may lead to the page of its own tables", async () => {
  await using device = await start();
  const { vmm } = device;
  await vmm.call("mem_write", 0x13000, tablePage({ 4: 0x13003, 5: 0x10003 }));
  assertContained(device.service);
  assertEquals(await shadow(vmm), "0x100013"); // the guest's page, not its shadow
  // Through the aperture the guest stores to its own table: the store is trapped like any other.
  await vmm.call("mmio_write", 0, 0x800000, 8, 0x13001);
  await vmm.call("mmio_write", 2, 32, 8, 0x64003);
  assertEquals(await shadow(vmm), "0x100064");
  assertContained(device.service);
});

for (
  const path of ["/proc/self/fd/2", "//proc//self/exe", "/proc/thread-self/fd/1", `/proc/${Deno.pid}/fd/2`]
) {
  Deno.test(`ram_map refuses ${path.replace(String(Deno.pid), "OWN-PID")}, the device's own`, async () => {
    await using device = await Attached.start({ ram: 0 });
    const { code, message } = await refusal(device.vmm.call("ram_map", { gpa: 0, size: 4096, path }));
    assertEquals(code, "EACCES", message);
  });
}
