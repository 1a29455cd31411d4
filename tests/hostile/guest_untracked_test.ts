import { assert, assertEquals } from "@std/assert";
import { ENOMEM, OK } from "../../src/gtt/errno.ts";
import { assertInvariants } from "../../src/gtt/invariants.ts";
import { MAX_SHADOW_TABLES } from "../../src/gtt/shadow_tables.ts";
import { Random } from "../model/random.ts";
import { assertContained } from "../model/untracked_shadow.ts";
import {
  announce,
  fill,
  gma,
  LEAF,
  PDE_PAGE,
  PDP_PAGE,
  PML4_PAGE,
  ROOTS,
  rootsAt,
  shadowOf,
  start,
  store,
  to,
} from "../unit/gtt_untracked_guest.ts";
import type { Device } from "../../src/vgpu/device.ts";

const page = new Uint8Array(4096);

/** The engine is sound, and nothing leads out of the guest's RAM. */
function assertSound(device: Device): void {
  assertInvariants(device.vgpu.gtt);
  assertContained(device);
}

Deno.test("an untrapped page that is every level of its own tree follows its stores as every level", () => {
  using device = start();
  const { gtt } = device.vgpu;
  fill(device.ram, PML4_PAGE, to(PML4_PAGE));
  const mm = announce(gtt);
  assertEquals([gtt.parts.tables.size, gtt.counters.compared], [4, 4]);
  for (
    const value of [
      0n,
      to(LEAF),
      to(0x11),
      to(0x200),
      to(LEAF) | 0x80n,
      0xffff_ffff_ffff_ffffn,
      to(PML4_PAGE),
    ]
  ) {
    store(device.ram, PML4_PAGE, 7, value);
    assertEquals(gtt.syncOosPages(), OK);
    assertSound(device);
    assertEquals(typeof gtt.submit(4, ROOTS), "object");
  }
  assertEquals(shadowOf(gtt, mm, gma(511, 7, 7, 300)), "0x100010");
  fill(device.ram, PML4_PAGE, 0n);
  assertEquals(gtt.syncOosPages(), OK);
  assertEquals(gtt.parts.tables.size, 1);
  assertSound(device);
});

Deno.test("untrapped cycles of pages are finite trees, however they are turned", () => {
  using device = start();
  const { gtt } = device.vgpu;
  const cycle = [0x10, 0x11, 0x12, 0x13];
  for (let turn = 0; turn < 16; turn++) {
    for (const [i, gfn] of cycle.entries()) fill(device.ram, gfn, to(cycle[(i + 1 + turn % 3) % 4]!));
    if (turn === 0) { for (const gfn of cycle) announce(gtt, 4, rootsAt(gfn)); }
    assertEquals(gtt.syncOosPages(), OK);
    assert(gtt.parts.tables.size <= 16, `${gtt.parts.tables.size} tables of 4 pages as 4 kinds`);
    assertSound(device);
  }
});

for (
  const [what, value] of [
    ["of all ones", 0xffff_ffff_ffff_ffffn],
    ["of doubles that are no numbers", 0x7ff8_0000_0001_1003n],
    ["of minus zeros", 0x8000_0000_0000_0000n],
    ["that maps the last frame there can be", 0x3fff_ffff_f003n],
    ["of large pages", to(LEAF) | 0x80n],
  ] as const
) {
  Deno.test(`an untrapped table ${what} harms nothing at any level, before and after`, () => {
    using device = start();
    const { gtt } = device.vgpu;
    const mm = announce(gtt);
    for (let gfn = PML4_PAGE; gfn < PML4_PAGE + 4; gfn++) {
      assert(device.ram.read(gfn * 4096, page));
      fill(device.ram, gfn, value);
      assertEquals(gtt.syncOosPages(), OK);
      assertSound(device);
      assertEquals(gtt.syncOosPages(), OK);
      device.ram.write(gfn * 4096, page);
      assertEquals(gtt.syncOosPages(), OK);
      assertEquals(shadowOf(gtt, mm, gma(0)), "0x100040");
      assertSound(device);
    }
  });
}
Deno.test("untrapped pages of noise are shadowed, changed and dropped at every level", () => {
  using device = start();
  const { gtt } = device.vgpu;
  const random = new Random(5);
  const noise = () => Uint8Array.from({ length: 4096 }, () => random.below(256));
  for (let round = 0; round < 30; round++) {
    for (let gfn = 1; gfn < 12; gfn++) {
      const bytes = noise();
      const entries = new BigUint64Array(bytes.buffer);
      // Most of it would lead far out of RAM; let some of it stay.
      for (let i = 0; i < 512; i += 3) entries[i]! &= 0x8000_0000_0000_ffffn;
      device.ram.write(gfn * 4096, bytes);
    }
    const root = 1 + random.below(11);
    gtt.g2vCreatePpgttMm(4, rootsAt(root));
    gtt.g2vCreatePpgttMm(3, Uint32Array.of(root << 12, 0, 0x3000, 0, 0, 0, 0x4000, 0));
    assertEquals(gtt.syncOosPages(), OK);
    assertSound(device);
    if (round % 7 === 6) gtt.resetGtt();
  }
});

Deno.test("an untrapped guest that wants more than 65,536 tables gets 65,536, and all it wants of fewer", () => {
  using device = start();
  const { gtt } = device.vgpu;
  // 128 PDE tables of 512 PTE tables each, one directory above them, are too many.
  const [firstPde, firstPte] = [0x1000, 0x2000];
  device.mapRam({ gpa: firstPde * 4096, size: (firstPte - firstPde + 128 * 512) * 4096 });
  const pdes = new BigUint64Array(512);
  for (let pde = 0; pde < 128; pde++) {
    for (let i = 0; i < 512; i++) pdes[i] = to(firstPte + 512 * pde + i);
    device.ram.write((firstPde + pde) * 4096, new Uint8Array(pdes.buffer));
  }
  const mm = announce(gtt); // a small tree, still
  for (let i = 0; i < 128; i++) store(device.ram, PDP_PAGE, 1 + i, to(firstPde + i));
  store(device.ram, firstPte, 0, to(LEAF + 1)); // behind the first PDE table
  store(device.ram, firstPte + 128 * 512 - 1, 511, to(LEAF + 2)); // behind the last

  assertEquals(gtt.submit(4, ROOTS, () => assert(false, "it ran")), ENOMEM);
  assertEquals(gtt.parts.tables.size, MAX_SHADOW_TABLES);
  assertEquals(typeof gtt.createMm(4, rootsAt(0x20)), "object"); // it takes the shadow of the other
  assertEquals([mm.shadowed, gtt.parts.tables.size], [false, 1]);
  gtt.resetGtt();

  // With one PDE table less it fits.
  store(device.ram, PDP_PAGE, 1, 0n);
  const again = announce(gtt);
  assertEquals(gtt.parts.tables.size, 4 + 127 + 127 * 512);
  const last = gma(0, 128, 511, 511);
  assertEquals(gtt.gmaToGpa(again, last % 2 ** 32, Math.floor(last / 2 ** 32)), (LEAF + 2) * 4096);
  store(device.ram, PDE_PAGE, 9, to(firstPte));
  assertEquals(gtt.syncOosPages(), OK);
  assertEquals(gtt.gmaToGpa(again, 9 << 21, 0), (LEAF + 1) * 4096);
  gtt.resetGtt();
  assertSound(device);
});
