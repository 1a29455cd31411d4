import { assertEquals } from "@std/assert";
import type { Client } from "../../protocol/client.ts";
import { checkTranslations } from "../../src/inspect/check.ts";
import { Attached } from "./attached.ts";
import { le64, PAGE, RAM_BYTES, tablePage, writePages } from "./guest_pages.ts";

/** First frames of 2 MiB: one piece on the host at 0x100200; and 0x400, where the host has two pieces. */
const [WHOLE, PIECES] = [0x200, 0x400] as const;
/**
 * PML4 (gfn 0x10) [1] → PDP (0x11) [2] → PDE (0x12): [0] a 2 MiB page of one piece, [1] one of two pieces, [2] one that is
 * not present, [3] and [4] the page 0x13 as a table of 4 KiB pages and of 64 KiB pages.
 */
const TREE: Readonly<Record<number, Uint8Array>> = {
  0x10: tablePage({ 1: 0x11003 }),
  0x11: tablePage({ 2: 0x12003 }),
  0x12: tablePage({
    0: WHOLE * PAGE + 0x1083,
    1: PIECES * PAGE + 0x83,
    2: 0x82,
    3: 0x13003,
    4: 0x13803,
  }),
  0x13: tablePage({ 0: WHOLE * PAGE + 3, 1: 0x64003, 16: PIECES * PAGE + 3 }),
};
const ROOTS = [0x10000, 0, 0, 0];
/** The address of PDE index and PTE index. */
const gma = (pde: number, pte = 0) => 2 ** 39 + 2 * 2 ** 30 + pde * 2 ** 21 + pte * 2 ** 12;

/** A device that offers large pages, and a guest with RAM and the tree. */
async function attach(tracking: "trapped" | "untracked" = "trapped"): Promise<Attached> {
  const device = await Attached.start({ device: { hugePages: true }, tracking });
  await device.vmm.call("ram_map", { gpa: PIECES * PAGE, size: 0x100000 });
  await device.vmm.call("ram_map", { gpa: PIECES * PAGE + 0x100000, size: 0x100000, mfn: 0x300000 });
  await writePages(device.vmm, TREE);
  return device;
}

/** The host frame of a guest frame. */
function mfnOf(gfn: number): number {
  if (gfn < RAM_BYTES / PAGE + 256) return gfn + 0x100000;
  return gfn < PIECES + 512 ? gfn - PIECES - 256 + 0x300000 : -1;
}

/** Where addresses lead. */
async function leads(vmm: Client, mm: number, addresses: readonly number[]): Promise<unknown[]> {
  return await Promise.all(addresses.map(async (address) => {
    const { guest, shadow, agrees } = await vmm.call("translate", mm, address);
    return [guest, shadow, agrees];
  }));
}

Deno.test("the capability says that large pages may be used, and is clear otherwise", async () => {
  for (const [options, capabilities] of [[{}, 0xc], [{ hugePages: true }, 0x1c]] as const) {
    await using device = await Attached.start({ device: options });
    assertEquals(await device.vmm.call("mmio_read", 0, 0x78010, 4), capabilities);
    assertEquals(device.vmm.hello.config["hugePages"], capabilities === 0x1c);
    await device.vmm.call("reset");
    assertEquals(await device.vmm.call("mmio_read", 0, 0x78010, 4), capabilities);
  }
});

for (const tracking of ["trapped", "untracked"] as const) {
  Deno.test(`a guest's large pages are translated and follow its stores, ${tracking}`, async () => {
    await using device = await attach(tracking);
    const { vmm } = device;
    const mm = await vmm.call("mm_create", 4, [...ROOTS]);
    const addresses = [gma(0, 5), gma(1, 5), gma(1, 300), gma(2), gma(3, 1), gma(4, 1), gma(4, 31)];
    assertEquals(await leads(vmm, mm, addresses), [
      [(WHOLE + 5) * PAGE, "0x100205", true],
      [(PIECES + 5) * PAGE, "0x100405", true],
      [(PIECES + 300) * PAGE, "0x30002c", true],
      [null, null, true],
      [0x64000, "0x100064", true],
      [(WHOLE + 1) * PAGE, "0x100201", true],
      [(PIECES + 15) * PAGE, "0x10040f", true],
    ]);
    assertEquals(await vmm.call("gma_to_gpa", mm, gma(1, 300) + 0xabc), (PIECES + 300) * PAGE + 0xabc);
    const result = await checkTranslations(vmm, { mfnOf, ggtt: new Map() });
    assertEquals([result.problems, result.tables, result.walks], [[], 5, 3 + 3 + 3 + 32]);

    await vmm.call("mem_write", 0x12000, le64(PIECES * PAGE + 0x83));
    await vmm.call("mem_write", 0x12008, le64(WHOLE * PAGE + 0x83));
    await vmm.call("mem_write", 0x13000 + 16 * 8, le64(WHOLE * PAGE + 3));
    await vmm.call("submit", 4, [...ROOTS]);
    assertEquals((await leads(vmm, mm, addresses)).map((lead) => (lead as unknown[])[1]), [
      "0x100405",
      "0x100205",
      "0x10032c",
      null,
      "0x100064",
      "0x100201",
      "0x10020f",
    ]);
    assertEquals((await checkTranslations(vmm, { mfnOf, ggtt: new Map() })).problems, []);
    device.assertSound();
  });
}

Deno.test("a large page whose RAM the VMM takes is not mapped any more, and is again when it comes back", async () => {
  await using device = await attach();
  const { vmm } = device;
  const mm = await vmm.call("mm_create", 4, [...ROOTS]);
  await vmm.call("ram_unmap", { gpa: PIECES * PAGE + 0x100000, size: 0x100000 });
  assertEquals((await leads(vmm, mm, [gma(1), gma(4, 16)])).map((lead) => (lead as unknown[])[1]), [
    null,
    "0x100400",
  ]);
  assertEquals(await vmm.call("gma_to_gpa", mm, gma(1)), null);
  await vmm.call("ram_map", { gpa: PIECES * PAGE + 0x100000, size: 0x100000 });
  assertEquals(await leads(vmm, mm, [gma(1, 300)]), [[(PIECES + 300) * PAGE, "0x10052c", true]]);
  assertEquals((await vmm.call("stats"))["wholeLargePages"], 2);
  device.assertSound();
});
