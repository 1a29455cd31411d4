import { assertEquals } from "@std/assert";
import { OK } from "../../src/gtt/errno.ts";
import { PTE } from "../../src/gtt/entry.ts";
import type { ShadowTable } from "../../src/gtt/shadow_table.ts";
import { createDevice } from "../../src/vgpu/device.ts";

// The page went out of sync at the second entry of the change, with a snapshot of memory that had all of it: no sync found
// that the other entries had changed.
Deno.test("dispatchRange() gives a table all of a change when the page goes out of sync on the way", () => {
  using device = createDevice({ oos: true });
  device.mapRam({ gpa: 0, size: 0x10000 });
  const { gtt } = device.vgpu;
  const table = gtt.parts.tables.obtain(PTE, 2) as ShadowTable;
  const page = BigUint64Array.from({ length: 512 }, (_, i) => BigInt(i % 16) << 12n | 3n);
  assertEquals(device.store(0x2000, new Uint8Array(page.buffer)), OK);
  assertEquals([table.enabled, gtt.counters.outOfSync], [false, 1]);
  assertEquals(gtt.syncOosPages(), OK);
  for (let i = 0; i < 512; i++) assertEquals(table.target(i), 0x100000 + i % 16);
});

// What a table out of sync shows is what its snapshot says. A leaf that was led to what the guest wants now would stay
// there when the guest takes that back before the sync.
Deno.test("ramAdded() looks at the snapshot of a table that is out of sync", () => {
  using device = createDevice({ oos: true });
  device.mapRam({ gpa: 0, size: 0x4000 });
  const { gtt } = device.vgpu;
  const table = gtt.parts.tables.obtain(PTE, 2) as ShadowTable;
  const store = (gfn: number) => device.store(0x2000, Uint8Array.of(3, 16 * gfn, 0, 0, 0, 0, 0, 0));
  device.mapRam({ gpa: 0x5000, size: 0x1000 });
  for (let i = 0; i < 2; i++) store(5);
  assertEquals(table.enabled, false);
  device.unmapRam(0x5000, 0x1000);
  store(6);
  device.mapRam({ gpa: 0x6000, size: 0x1000 });
  store(5);
  assertEquals(gtt.syncOosPages(), OK);
  assertEquals(table.target(0), device.gvt.globalScratch);
});
