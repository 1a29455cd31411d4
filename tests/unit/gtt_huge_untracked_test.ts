import { assertEquals } from "@std/assert";
import { ENOMEM, OK } from "../../src/gtt/errno.ts";
import { assertInvariants } from "../../src/gtt/invariants.ts";
import type { Device, DeviceOptions } from "../../src/vgpu/device.ts";
import {
  ABSENT,
  announce,
  entryOf,
  leads,
  PDE_PAGE,
  pdeTable,
  PTE_PAGE,
  ROOTS,
  SHIFTED,
  SHIFTED_MFN,
  start,
  table64k,
  to,
  WHOLE,
} from "./gtt_huge_guest.ts";

/** Present, writable, page size; and IPS without it. */
const [LARGE, IPS] = [0x83n, 0x803n];

/** A device that traps nothing, whose PDE table has these entries. */
function startUntracked(
  entries: Readonly<Record<number, bigint>>,
  options: Partial<DeviceOptions> = {},
): Device {
  const device = start({ tracking: "untracked", ...options });
  for (const [index, value] of Object.entries(entries)) write(device, PDE_PAGE, Number(index), value);
  return device;
}

/** A guest store that nobody hears of. */
function write(device: Device, gfn: number, index: number, value: bigint): void {
  device.ram.write(gfn * 4096 + 8 * index, new Uint8Array(BigUint64Array.of(value).buffer));
}

/** Syncs. @returns The result. */
function sync({ vgpu: { gtt } }: Device): number {
  const rc = gtt.syncOosPages();
  assertInvariants(gtt);
  return rc;
}

Deno.test("a sync follows 2 MiB pages that came, moved and went without notice", () => {
  using device = startUntracked({ 3: to(WHOLE, LARGE), 4: to(SHIFTED, LARGE) });
  const mm = announce(device);
  assertEquals([3, 4].map((pde) => leads(device, mm, pde, 5)[1]), ["0x100205", "0x20000c"]);
  write(device, PDE_PAGE, 3, to(SHIFTED, LARGE));
  write(device, PDE_PAGE, 4, to(WHOLE, LARGE));
  assertEquals(sync(device), OK);
  assertEquals([3, 4].map((pde) => leads(device, mm, pde, 5)[1]), ["0x20000c", "0x100205"]);
  for (const index of [3, 4]) write(device, PDE_PAGE, index, 0n);
  assertEquals(sync(device), OK);
  assertEquals([3, 4].map((pde) => leads(device, mm, pde, 5)[1]), [null, null]);
  assertEquals(device.vgpu.gtt.parts.tables.size, 1);
});

Deno.test("the data in a split page is never read as a table", () => {
  using device = startUntracked({ 4: to(SHIFTED, LARGE) });
  write(device, SHIFTED, 0, to(WHOLE)); // would be a leaf
  announce(device);
  const { gtt } = device.vgpu;
  const before = gtt.counters.compared;
  assertEquals(sync(device), OK);
  assertEquals(gtt.counters.compared - before, 1);
  const child = gtt.parts.tables.byMfn(pdeTable(device).target(4))!;
  assertEquals(child.target(0), SHIFTED_MFN);
});

Deno.test("a 2 MiB page that is not all RAM is the guest's mistake: it maps nothing, others are followed", () => {
  using device = startUntracked({ 3: to(WHOLE, LARGE), 4: to(SHIFTED, LARGE) });
  const mm = announce(device);
  const { gtt } = device.vgpu;
  write(device, PDE_PAGE, 3, to(ABSENT, LARGE));
  write(device, PDE_PAGE, 4, to(WHOLE, LARGE));
  assertEquals(typeof gtt.submit(3, ROOTS), "object");
  assertEquals([3, 4].map((pde) => leads(device, mm, pde)), [
    [-1, null, true],
    [WHOLE * 4096, "0x100200", true],
  ]);
  assertEquals(gtt.counters.badLargePages, 1);
  assertEquals(sync(device), OK);
  assertEquals(gtt.counters.badLargePages, 1); // nothing is gained from looking again,
  device.mapRam({ gpa: ABSENT * 4096, size: 0x200000, mfn: 0x300001 }); // until RAM comes
  assertInvariants(gtt);
  assertEquals(leads(device, mm, 3, 5), [(ABSENT + 5) * 4096, "0x300006", true]);
  device.unmapRam(ABSENT * 4096, 0x200000);
  assertInvariants(gtt);
  assertEquals(leads(device, mm, 3, 5), [-1, null, true]);
});

Deno.test("a split page without memory is made up for by the next sync", () => {
  using device = startUntracked({ 3: to(WHOLE, LARGE) }, { faults: true });
  const mm = announce(device);
  device.vgpu.gtt.pinMm(mm);
  write(device, PDE_PAGE, 3, to(SHIFTED, LARGE));
  write(device, PDE_PAGE, 4, to(SHIFTED, LARGE));
  write(device, PDE_PAGE, 5, to(WHOLE, LARGE));
  write(device, PDE_PAGE, 6, to(ABSENT, LARGE));
  device.faults!.setCount("alloc", 1);
  assertEquals(sync(device), ENOMEM);
  assertEquals([3, 4].map((pde) => leads(device, mm, pde)[1]), [null, null]);
  assertEquals(sync(device), OK);
  const shadows = [3, 4, 5, 6].map((pde) => leads(device, mm, pde)[1]);
  assertEquals(shadows, ["0x200007", "0x200007", "0x100200", null]);
});

Deno.test("a sync follows the IPS bit and the entries that count", () => {
  using device = startUntracked({ 3: to(PTE_PAGE) });
  write(device, PTE_PAGE, 0, to(WHOLE));
  write(device, PTE_PAGE, 1, to(0x40));
  const mm = announce(device);
  assertEquals(leads(device, mm, 3, 1)[1], "0x100040");
  write(device, PDE_PAGE, 3, to(PTE_PAGE, IPS));
  assertEquals(sync(device), OK);
  assertEquals(leads(device, mm, 3, 1)[1], "0x100201");
  const table = table64k(device, PTE_PAGE)!;
  write(device, PTE_PAGE, 1, to(0x41)); // does not count
  write(device, PTE_PAGE, 16, to(SHIFTED));
  const { counters } = device.vgpu.gtt;
  const before = counters.synced;
  assertEquals(sync(device), OK);
  assertEquals([table.target(1), table.target(16), table.target(31)], [0x100201, 0x200007, 0x200016]);
  write(device, PTE_PAGE, 2, to(0x42));
  assertEquals(sync(device), OK);
  assertEquals(counters.synced - before, 1); // the second sync had nothing to do
  write(device, PTE_PAGE, 16, 0n);
  assertEquals(sync(device), OK);
  assertEquals([16, 31].map((pte) => leads(device, mm, 3, pte)[1]), ["sPTE", "sPTE"]);
});

Deno.test("one guest page as both kinds of PTE table is compared as each", () => {
  using device = startUntracked({ 3: to(PTE_PAGE), 4: to(PTE_PAGE, IPS) });
  const mm = announce(device);
  write(device, PTE_PAGE, 0, to(SHIFTED));
  write(device, PTE_PAGE, 1, to(0x40));
  assertEquals(sync(device), OK);
  assertEquals([3, 4].map((pde) => leads(device, mm, pde, 1)[1]), ["0x100040", "0x200008"]);
});

Deno.test("frames of a 64 KiB page that come are mapped", () => {
  using device = startUntracked({ 3: to(PTE_PAGE, IPS) });
  write(device, PTE_PAGE, 0, to(ABSENT));
  const mm = announce(device);
  const shadows = () => [0, 6, 7].map((pte) => leads(device, mm, 3, pte)[1]);
  assertEquals(shadows(), ["S", "S", "S"]);
  for (const [frame, wanted] of [[0, ["0x100600", "S", "S"]], [7, ["0x100600", "S", "0x100607"]]] as const) {
    device.mapRam({ gpa: (ABSENT + frame) * 4096, size: 0x1000 });
    assertInvariants(device.vgpu.gtt);
    assertEquals(shadows(), [...wanted]);
  }
});

Deno.test("without large pages a 2 MiB page maps nothing where nothing traps", () => {
  using device = startUntracked({ 3: to(WHOLE, LARGE), 4: to(PTE_PAGE, IPS) }, { hugePages: false });
  const mm = announce(device);
  assertEquals(leads(device, mm, 3), [-1, null, true]);
  assertEquals(entryOf(pdeTable(device), 4), to(pdeTable(device).target(4), IPS));
});
