import { assertEquals } from "@std/assert";
import { PTE } from "../../src/gtt/entry.ts";
import { ENXIO, OK } from "../../src/gtt/errno.ts";
import { engineState } from "../../src/inspect/state.ts";
import {
  announce,
  entryOf,
  leads,
  OTHER_PTE_PAGE,
  PDE_PAGE,
  pdeTable,
  PTE_PAGE,
  SHIFTED,
  start,
  store,
  storeHalf,
  table64k,
  to,
  WHOLE,
} from "./gtt_huge_guest.ts";

/** A PDE whose PTE table has 64 KiB pages: present, writable, IPS. */
const IPS = 0x803n;

Deno.test("a PTE table of 64 KiB pages has sixteen entries for each that counts", () => {
  using device = start();
  store(device, PDE_PAGE, 3, to(PTE_PAGE, IPS));
  store(device, PTE_PAGE, 16, to(SHIFTED + 0x1f, 0x8000_0000_0000_009bn)); // bits 12 to 15 are no frame
  store(device, PTE_PAGE, 17, to(0x40)); // does not count
  store(device, PTE_PAGE, 5, to(0x41)); // nor does this, of a page that is not present
  const mm = announce(device);
  const table = table64k(device, PTE_PAGE)!;
  assertEquals(entryOf(pdeTable(device), 3), to(table.page.mfn)); // without IPS
  for (const i of [0, 1, 15]) {
    assertEquals(entryOf(table, 16 + i), to(0x200007 + 16 + i, 0x8000_0000_0000_009bn));
    assertEquals(leads(device, mm, 3, 16 + i)[0], (SHIFTED + 16 + i) * 4096);
    assertEquals(leads(device, mm, 3, 16 + i)[2], true);
  }
  assertEquals([entryOf(table, 5), entryOf(table, 32)], [0n, 0n]);
  assertEquals(leads(device, mm, 3, 5), [-1, null, true]);
});

Deno.test("frames of a 64 KiB page that are no RAM lead to scratch, the others to their own", () => {
  using device = start();
  store(device, PDE_PAGE, 3, to(PTE_PAGE, IPS));
  store(device, PTE_PAGE, 0, to(SHIFTED));
  device.unmapRam(SHIFTED * 4096, 0x200000);
  device.mapRam({ gpa: (SHIFTED + 2) * 4096, size: 0x1000 });
  const mm = announce(device);
  assertEquals([1, 2, 3].map((pte) => leads(device, mm, 3, pte)[1]), ["S", "0x100402", "S"]);
  device.mapRam({ gpa: (SHIFTED + 3) * 4096, size: 0x1000 });
  assertEquals([1, 2, 3].map((pte) => leads(device, mm, 3, pte)[1]), ["S", "0x100402", "0x100403"]);
  device.unmapRam((SHIFTED + 2) * 4096, 0x1000);
  assertEquals([1, 2, 3].map((pte) => leads(device, mm, 3, pte)[1]), ["S", "S", "0x100403"]);
  assertEquals(device.vgpu.gtt.counters.badLeaves, 15);
});

Deno.test("a store to an entry that does not count changes nothing, one to another changes sixteen", () => {
  using device = start();
  store(device, PDE_PAGE, 3, to(PTE_PAGE, IPS));
  store(device, PTE_PAGE, 16, to(WHOLE));
  announce(device);
  const table = table64k(device, PTE_PAGE)!;
  const before = table.lanes.slice();
  assertEquals(store(device, PTE_PAGE, 17, to(0x40)), OK);
  assertEquals(store(device, PTE_PAGE, 18, to(0x99)), OK); // no RAM: nobody looks
  assertEquals(storeHalf(device, PTE_PAGE, 19, 0, 1), OK);
  assertEquals([table.lanes, table.queued], [before, null]);
  assertEquals(store(device, PTE_PAGE, 16, to(SHIFTED)), OK);
  for (let i = 0; i < 16; i++) assertEquals(table.target(16 + i), 0x200007 + i);
  assertEquals(store(device, PTE_PAGE, 16, 0n), OK);
  const { scratch } = device.vgpu.gtt.parts;
  for (let i = 0; i < 16; i++) assertEquals(entryOf(table, 16 + i), to(scratch.mfn[PTE]!));
  assertEquals(entryOf(table, 32), 0n);
});

Deno.test("a trapped 64 KiB page with a frame that fails is refused whole", () => {
  using device = start({ faults: true });
  store(device, PDE_PAGE, 3, to(PTE_PAGE, IPS));
  store(device, PTE_PAGE, 16, to(WHOLE));
  announce(device);
  const table = table64k(device, PTE_PAGE)!;
  const before = table.lanes.slice();
  device.faults!.setFrame("p2m", SHIFTED + 15, true);
  assertEquals(store(device, PTE_PAGE, 16, to(SHIFTED)), ENXIO);
  assertEquals(table.lanes, before);
});

Deno.test("half stores to a 64 KiB page remove its sixteen entries until the flush", () => {
  using device = start();
  store(device, PDE_PAGE, 3, to(PTE_PAGE, IPS));
  store(device, PTE_PAGE, 16, to(WHOLE));
  const mm = announce(device);
  const table = table64k(device, PTE_PAGE)!;
  storeHalf(device, PTE_PAGE, 16, 0, Number(to(SHIFTED)));
  assertEquals(table.queuedIndices(), [16]);
  assertEquals([16, 31].map((pte) => leads(device, mm, 3, pte)[1]), ["sPTE", "sPTE"]);
  assertEquals(device.vgpu.gtt.flushPostShadow(), OK);
  assertEquals([16, 31].map((pte) => leads(device, mm, 3, pte)[1]), ["0x200007", "0x200016"]);
});

Deno.test("one guest page is a table of 4 KiB pages and of 64 KiB pages at once", () => {
  using device = start();
  store(device, PDE_PAGE, 3, to(PTE_PAGE));
  store(device, PDE_PAGE, 4, to(PTE_PAGE, IPS));
  store(device, PTE_PAGE, 0, to(WHOLE));
  store(device, PTE_PAGE, 1, to(0x40));
  const mm = announce(device);
  assertEquals([3, 4].map((pde) => leads(device, mm, pde, 1)[1]), ["0x100040", "0x100201"]);
  assertEquals(engineState(device.vgpu.gtt).spts.map(([gfn, kind, refs]) => [gfn, kind, refs]), [
    [PDE_PAGE, "PDE", 1],
    [PTE_PAGE, "PTE", 1],
    [PTE_PAGE, "PTE 64K", 1],
  ]);
  assertEquals(store(device, PTE_PAGE, 1, to(0x41)), OK);
  assertEquals([3, 4].map((pde) => leads(device, mm, pde, 1)[1]), ["0x100041", "0x100201"]);
  assertEquals(store(device, PTE_PAGE, 0, to(SHIFTED)), OK);
  assertEquals([3, 4].map((pde) => leads(device, mm, pde, 0)[1]), ["0x200007", "0x200007"]);
  assertEquals([3, 4].map((pde) => leads(device, mm, pde, 1)[1]), ["0x100041", "0x200008"]);
});

Deno.test("only the IPS bit of a PDE changes, and its table is read the other way", () => {
  using device = start();
  store(device, PDE_PAGE, 3, to(PTE_PAGE));
  store(device, PTE_PAGE, 0, to(WHOLE));
  store(device, PTE_PAGE, 1, to(0x40));
  const mm = announce(device);
  const asked = device.host.protectedFrames;
  for (const [flags, shadow] of [[IPS, "0x100201"], [0x3n, "0x100040"], [IPS, "0x100201"]] as const) {
    assertEquals(store(device, PDE_PAGE, 3, to(PTE_PAGE, flags)), OK);
    assertEquals(leads(device, mm, 3, 1)[1], shadow);
    assertEquals([device.vgpu.gtt.parts.tables.size, [...asked]], [2, [PDE_PAGE, PTE_PAGE]]);
  }
});

Deno.test("IPS means nothing in a 2 MiB page, nor above a PDE", () => {
  using device = start();
  store(device, 0x20, 0, to(0x21, IPS)); // PML4
  store(device, 0x21, 0, to(PDE_PAGE, IPS)); // PDP
  store(device, PDE_PAGE, 0, to(WHOLE, 0x883n));
  const { gtt } = device.vgpu;
  const mm = gtt.createMm(4, Uint32Array.of(0x20000, 0, 0, 0, 0, 0, 0, 0));
  assertEquals(typeof mm, "object");
  assertEquals(entryOf(pdeTable(device), 0), to(0x100200, 0x883n));
  assertEquals(engineState(gtt).spts.map(([, kind]) => kind), ["PDE", "PML4", "PDP"]);
});

Deno.test("a PTE table of 64 KiB pages goes out of sync by stores that count, and comes back with sixteen entries", () => {
  using device = start({ oos: true });
  store(device, PDE_PAGE, 3, to(PTE_PAGE, IPS));
  const mm = announce(device);
  const { gtt } = device.vgpu;
  const table = table64k(device, PTE_PAGE)!;
  for (let i = 1; i < 16; i++) store(device, PTE_PAGE, i, to(WHOLE + i));
  assertEquals([table.writeCount, table.enabled], [0, true]);
  for (const index of [0, 16]) store(device, PTE_PAGE, index, to(WHOLE + index));
  assertEquals([table.writeCount, table.enabled], [2, false]);
  store(device, PTE_PAGE, 0, to(SHIFTED)); // nobody hears of these
  store(device, PTE_PAGE, 16, 2n);
  store(device, PTE_PAGE, 33, to(0x40));
  assertEquals(leads(device, mm, 3, 1)[1], "0x100201");
  assertEquals(gtt.syncOosPages(), OK);
  assertEquals([0, 15].map((pte) => leads(device, mm, 3, pte)), [
    [SHIFTED * 4096, "0x200007", true],
    [(SHIFTED + 15) * 4096, "0x200016", true],
  ]);
  for (let i = 0; i < 16; i++) assertEquals(entryOf(table, 16 + i), 2n); // as the guest has it (§13, 18)
  assertEquals([entryOf(table, 33), table.enabled], [0n, true]);
});

Deno.test("a change of a whole page goes to every 64 KiB page of it", () => {
  using device = start();
  store(device, PDE_PAGE, 3, to(OTHER_PTE_PAGE, IPS));
  announce(device);
  const page = BigUint64Array.from({ length: 512 }, (_, i) => to(WHOLE + i));
  assertEquals(device.store(OTHER_PTE_PAGE * 4096, new Uint8Array(page.buffer)), OK);
  const table = table64k(device, OTHER_PTE_PAGE)!;
  for (let i = 0; i < 512; i++) assertEquals(table.target(i), 0x100200 + i);
});
