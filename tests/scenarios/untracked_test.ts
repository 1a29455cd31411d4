import { assertEquals } from "@std/assert";
import type { Client } from "../../protocol/client.ts";
import { loadLibc } from "../../src/platform/libc.ts";
import { Attached } from "./attached.ts";
import { announceTree4, GMA4, le64, PAGE, ROOTS4, tablePage, TREE4 } from "./guest_pages.ts";

/** The TLB-invalidate register of the render engine. */
const TLB_INVALIDATE = 0x4260;

loadLibc(); // here and not in the first test that maps a file, which would seem to leak it

/** A device with a VMM that cannot trap stores; its RAM is a file that the guest writes without telling anybody. */
async function attach(): Promise<{ device: Attached; path: string }> {
  const device = await Attached.start({ ram: 0, tracking: "untracked" });
  const path = `${device.folder}/ram`;
  Deno.writeFileSync(path, new Uint8Array(0x80000));
  await device.vmm.call("ram_map", { gpa: 0, size: 0x80000, path });
  return { device, path };
}

/** The guest stores, behind everybody's back. */
function guestWrites(path: string, gpa: number, bytes: Uint8Array): void {
  using file = Deno.openSync(path, { write: true });
  file.seekSync(gpa, Deno.SeekMode.Start);
  file.writeSync(bytes);
}

/** Where the shadow leads, and whether the guest's own tables agree. */
async function translation(vmm: Client, mm: number, gma: number): Promise<unknown[]> {
  const { shadow, agrees } = await vmm.call("translate", mm, gma);
  return [shadow, agrees];
}

Deno.test("a VMM that cannot trap stores is asked for none, and its guest's tables are followed", async () => {
  const { device, path } = await attach();
  await using _device = device;
  const { vmm, notices } = device;
  for (const [gfn, page] of Object.entries(TREE4)) guestWrites(path, Number(gfn) * PAGE, page);
  const mm = await vmm.call("mm_create", 4, [...ROOTS4]);
  assertEquals(await translation(vmm, mm, GMA4), ["0x100064", true]);

  guestWrites(path, 0x13 * PAGE + 4 * 8, le64(0x70003));
  assertEquals((await translation(vmm, mm, GMA4))[1], false); // the guest has not said that it changed anything
  await vmm.notify("mmio_write", 0, TLB_INVALIDATE, 4, 1);
  assertEquals(await translation(vmm, mm, GMA4), ["0x100070", true]);
  assertEquals(await vmm.call("mmio_read", 0, TLB_INVALIDATE, 4), 0);

  guestWrites(path, 0x13 * PAGE + 4 * 8, le64(0x71003));
  await vmm.call("submit", 4, [...ROOTS4]);
  assertEquals(await translation(vmm, mm, GMA4), ["0x100071", true]);
  assertEquals(notices, []);
  device.assertSound();
});

Deno.test("TLB invalidations cost no look, a translation looks at the tables on its way, once", async () => {
  const { device, path } = await attach();
  await using _device = device;
  const { vmm } = device;
  for (const [gfn, page] of Object.entries(TREE4)) guestWrites(path, Number(gfn) * PAGE, page);
  const mm = await vmm.call("mm_create", 4, [...ROOTS4]);
  const compared = await device.counter("compared");
  guestWrites(path, 0x13 * PAGE + 4 * 8, le64(0x70003));

  await vmm.call("mmio_write_many", 0, Array.from({ length: 2000 }, () => [TLB_INVALIDATE, 4, 1] as const));
  assertEquals([await device.counter("compared"), await device.counter("tlbInvalidations")], [
    compared,
    2000,
  ]);

  for (let i = 0; i < 3; i++) assertEquals(await translation(vmm, mm, GMA4), ["0x100070", true]);
  assertEquals(await device.counter("compared") - compared, Object.keys(TREE4).length);
  device.assertSound();
});

Deno.test("a page recycled at another level is followed without a trap", async () => {
  const { device, path } = await attach();
  await using _device = device;
  const { vmm } = device;
  for (const [gfn, page] of Object.entries(TREE4)) guestWrites(path, Number(gfn) * PAGE, page);
  const mm = await vmm.call("mm_create", 4, [...ROOTS4]);
  // The PTE table (0x13) becomes the PDE table, and the PDE table (0x12) its PTE table.
  guestWrites(path, 0x11 * PAGE + 2 * 8, le64(0x13003));
  guestWrites(path, 0x13 * PAGE, tablePage({ 3: 0x12003 }));
  guestWrites(path, 0x12 * PAGE, tablePage({ 4: 0x66003 }));
  await vmm.call("sync_oos_pages");
  assertEquals(await translation(vmm, mm, GMA4), ["0x100066", true]);
  device.assertSound();
});

Deno.test("the VMM after one that could not trap stores is asked to trap them", async () => {
  const { device } = await attach();
  await using _device = device;
  const { vmm } = device;
  assertEquals((await vmm.call("state"))["tracking"], "untracked");
  await vmm.close();
  const next = await device.nextVmm();
  const notices: number[] = [];
  next.on("page_track", (gfn, on) => on && notices.push(gfn));
  await next.call("ram_map", { gpa: 0, size: 0x80000 });
  await announceTree4(next);
  assertEquals([(await next.call("state"))["tracking"], notices], ["trapped", [0x10, 0x11, 0x12, 0x13]]);
});
