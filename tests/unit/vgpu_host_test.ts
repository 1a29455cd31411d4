import { assertEquals } from "@std/assert";
import { RamMap } from "../../src/memory/ram_map.ts";
import { FaultInjection } from "../../src/vgpu/fault_injection.ts";
import { HostGgtt } from "../../src/vgpu/host_ggtt.ts";
import { HostPages } from "../../src/vgpu/host_pages.ts";
import { VgpuHost } from "../../src/vgpu/vgpu_host.ts";

const GRAPHICS_MEMORY = 0x100000;

/** A host over 16 pages of RAM at 0x4000, and what it asked its listener. */
function makeHost() {
  const ram = new RamMap();
  ram.map({ gpa: 0x4000, size: 0x10000 });
  const asked: [number, boolean][] = [];
  return { ram, asked, host: new VgpuHost(ram, GRAPHICS_MEMORY, (gfn, on) => asked.push([gfn, on])) };
}

Deno.test("VgpuHost answers for RAM and for nothing else", () => {
  const { ram, host } = makeHost();
  using _ram = ram;
  const lanes = new Uint32Array(1024).fill(7);
  assertEquals([host.isValidGfn(4), host.isValidGfn(3), host.isValidGfn(0x14)], [true, false, false]);
  assertEquals([host.gfnToMfn(4), host.gfnToMfn(3)], [0x100004, -1]);
  assertEquals([host.readEntry(0x3ff8, lanes), host.readPage(3, lanes), host.protect(3, true)], [
    -14,
    -14,
    -22,
  ]);
  assertEquals(lanes.every((lane) => lane === 7), true); // untouched
  assertEquals([host.readPage(4, lanes), lanes.every((lane) => lane === 0)], [0, true]);
});

Deno.test("VgpuHost protect() tells its listener and keeps account", () => {
  const { ram, asked, host } = makeHost();
  using _ram = ram;
  host.protect(5, true);
  host.protect(6, true);
  host.protect(5, false);
  host.protect(99, true); // no RAM: nobody is told
  assertEquals([...host.protectedFrames], [6]);
  assertEquals(asked, [[5, true], [6, true], [5, false]]);
});

Deno.test("HostPages gives each mapped page a frame of its own and zeroed memory", () => {
  const pages = new HostPages();
  const made = Array.from({ length: 3 }, () => pages.alloc());
  assertEquals(made.map(({ mfn }) => mfn), [-1, -1, -1]);
  for (const page of made) pages.map(page);
  assertEquals(new Set(made.map(({ mfn }) => mfn)).size, 3);

  made[0]!.lanes.fill(9);
  pages.free(made[0]!);
  assertEquals(pages.alloc().lanes.every((lane) => lane === 0), true);
});

Deno.test("HostPages does not give a freed frame out again at once", () => {
  const pages = new HostPages();
  const frames = Array.from({ length: 500 }, () => {
    const page = pages.alloc();
    pages.map(page);
    const { mfn } = page;
    pages.free(page);
    return mfn;
  });
  assertEquals(new Set(frames).size, 500);
});

Deno.test("HostPages uses freed frames again in the long run, each once", () => {
  const pages = new HostPages();
  const seen = new Set<number>();
  for (let round = 0; round < 10; round++) {
    const live = Array.from({ length: 2000 }, () => pages.alloc());
    for (const page of live) pages.map(page);
    assertEquals(new Set(live.map(({ mfn }) => mfn)).size, live.length); // no two live pages share one
    for (const page of live) {
      seen.add(page.mfn);
      pages.free(page);
    }
  }
  assertEquals(seen.size < 5000, true, `${seen.size} frames for 2000 pages at once`);
});

Deno.test("HostPages takes back a page that was never mapped", () => {
  const pages = new HostPages();
  pages.free(pages.alloc());
  const page = pages.alloc();
  pages.map(page);
  assertEquals(page.mfn > 0, true);
});

Deno.test("HostGgtt target() is the frame of a present entry", () => {
  const ggtt = new HostGgtt(GRAPHICS_MEMORY);
  ggtt.store(2, 0x64001, 0x8000_0001); // bit 63 is no frame
  ggtt.store(3, 0x65000, 0);
  assertEquals([0x2000, 0x2fff, 0x3000, 0x4000].map((gma) => ggtt.target(gma)), [0x100064, 0x100064, -1, -1]);
});

Deno.test("FaultInjection makes each service fail for its frame until the fault is lifted", () => {
  const { ram, host } = makeHost();
  using _ram = ram;
  const faults = new FaultInjection(host);
  const lanes = new Uint32Array(1024);
  const answers = () => [
    faults.isValidGfn(5),
    faults.gfnToMfn(5),
    faults.readPage(5, lanes),
    faults.readEntry(0x5008, lanes),
    faults.protect(5, true),
    faults.protect(5, false),
  ];
  const healthy = answers();
  assertEquals(healthy, [true, 0x100005, 0, 0, 0, 0]);
  for (const fault of ["invalid", "p2m", "read", "wp", "unwp"] as const) faults.setFrame(fault, 5, true);
  assertEquals(answers(), [false, -1, -14, -14, -22, -22]);
  assertEquals(faults.isValidGfn(6), true); // another frame
  for (const fault of ["invalid", "p2m", "read", "wp", "unwp"] as const) faults.setFrame(fault, 5, false);
  assertEquals(answers(), healthy);
});

Deno.test("FaultInjection makes the next n allocations and mappings fail", () => {
  const { ram, host } = makeHost();
  using _ram = ram;
  const faults = new FaultInjection(host);
  faults.setCount("alloc", 2);
  assertEquals([faults.allocPage(), faults.allocPage()], [null, null]);
  const page = faults.allocPage()!;
  faults.setCount("dma", 1);
  assertEquals([faults.mapPage(page), faults.mapPage(page)], [false, true]);
  faults.setCount("alloc", 5);
  faults.setCount("alloc", 0);
  assertEquals(faults.allocPage() === null, false);
});
