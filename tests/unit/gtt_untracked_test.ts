import { assertEquals } from "@std/assert";
import { PDE, PDP, PTE } from "../../src/gtt/entry.ts";
import { EFAULT, EINVAL, OK } from "../../src/gtt/errno.ts";
import { assertInvariants } from "../../src/gtt/invariants.ts";
import type { PpgttMm } from "../../src/gtt/mm.ts";
import { engineState } from "../../src/inspect/state.ts";
import {
  announce,
  fill,
  gma,
  LEAF,
  PDE_PAGE,
  PDP_PAGE,
  PML4_PAGE,
  PTE_PAGE,
  ROOTS,
  rootsAt,
  shadowOf,
  start,
  store,
  to,
} from "./gtt_untracked_guest.ts";

Deno.test("g2vCreatePpgttMm() translates at once and asks nobody to protect when nothing can trap", () => {
  const asked: number[] = [];
  using device = start({ onProtect: (gfn) => asked.push(gfn) });
  const { gtt } = device.vgpu;
  const mm = announce(gtt);
  assertEquals(shadowOf(gtt, mm, gma(0)), "0x100040");
  assertEquals(gtt.gmaToGpa(mm, 0x123, 0), LEAF * 4096 + 0x123);
  device.store(PTE_PAGE * 4096, new Uint8Array(8));
  gtt.submit(4, ROOTS);
  gtt.g2vDestroyPpgttMm(4, ROOTS);
  assertEquals(asked, []);
});

Deno.test("submit() follows a leaf that changed without notice", () => {
  using device = start();
  const { gtt } = device.vgpu;
  const mm = announce(gtt);
  store(device.ram, PTE_PAGE, 0, to(0x41));
  store(device.ram, PTE_PAGE, 511, to(0x42));
  assertEquals(shadowOf(gtt, mm, gma(0)), "0x100040");
  gtt.submit(4, ROOTS, () => {
    assertEquals(shadowOf(gtt, mm, gma(0)), "0x100041");
    assertEquals(shadowOf(gtt, mm, gma(0, 0, 0, 511)), "0x100042");
  });
  assertEquals(gtt.counters.synced, 5); // the four tables as they were made, and the one
});

Deno.test("submit() follows a leaf that went: it leads to scratch with its flags", () => {
  using device = start();
  const { gtt } = device.vgpu;
  const mm = announce(gtt);
  store(device.ram, PTE_PAGE, 0, 0n);
  gtt.submit(4, ROOTS);
  assertEquals(shadowOf(gtt, mm, gma(0)), "sPTE");
  assertEquals(gtt.gmaToGpa(mm, 0, 0), -1);
});

Deno.test("submit() follows a directory entry at every level", () => {
  using device = start();
  const { gtt } = device.vgpu;
  const mm = announce(gtt);
  for (const [page, moved] of [[PDE_PAGE, 0x23], [PDP_PAGE, 0x22], [PML4_PAGE, 0x21]] as const) {
    // A tree of its own below the moved entry, down to frame 0x50 + level.
    for (let gfn = moved; gfn < 0x23; gfn++) store(device.ram, gfn, 0, to(gfn + 1));
    store(device.ram, 0x23, 0, to(moved + 0x30));
    store(device.ram, page, 0, to(moved));
    gtt.submit(4, ROOTS);
    assertEquals(shadowOf(gtt, mm, gma(0)), `0x1000${(moved + 0x30).toString(16)}`);
  }
  const live = engineState(gtt).spts.map(([gfn, kind]) => [gfn, kind]);
  assertEquals(live, [[0x10, "PML4"], [0x21, "PDP"], [0x22, "PDE"], [0x23, "PTE"]]);
});

Deno.test("submit() follows a 3-level tree in each of its four roots", () => {
  using device = start();
  const { gtt } = device.vgpu;
  const roots = Uint32Array.of(0x20000, 0, 0x21000, 0, 0x22000, 0, 0x23000, 0);
  const mm = announce(gtt, 3, roots);
  for (let slot = 0; slot < 4; slot++) {
    store(device.ram, 0x20 + slot, slot, to(0x30 + slot));
    store(device.ram, 0x30 + slot, slot, to(0x50 + slot));
  }
  gtt.submit(3, roots);
  for (let slot = 0; slot < 4; slot++) {
    assertEquals(shadowOf(gtt, mm, gma(0, slot, slot, slot)), `0x10005${slot}`);
  }
});

Deno.test("submit() brings its own address space up to date only, syncOosPages() all", () => {
  using device = start();
  const { gtt } = device.vgpu;
  store(device.ram, 0x20, 0, to(0x21));
  for (const gfn of [0x21, 0x22]) store(device.ram, gfn, 0, to(gfn + 1));
  store(device.ram, 0x23, 0, to(LEAF));
  const [one, two] = [announce(gtt), announce(gtt, 4, rootsAt(0x20))];
  store(device.ram, PTE_PAGE, 0, to(0x41));
  store(device.ram, 0x23, 0, to(0x42));
  const leaves = () => [PTE_PAGE, 0x23].map((gfn) => gtt.parts.tables.find(gfn, PTE)?.target(0));
  gtt.submit(4, ROOTS);
  assertEquals(leaves(), [0x100041, 0x100040]);
  assertEquals(gtt.syncOosPages(), OK);
  assertEquals(leaves(), [0x100041, 0x100042]);
  assertEquals([one, two].map((mm) => shadowOf(gtt, mm, gma(0))), ["0x100041", "0x100042"]);
});

for (
  const [from, into] of [
    [PTE_PAGE, [PDE_PAGE, 7]],
    [PTE_PAGE, [PDP_PAGE, 7]],
    [PTE_PAGE, [PML4_PAGE, 7]],
    [PDE_PAGE, [PML4_PAGE, 7]],
  ] as const
) {
  Deno.test(`submit() never reads page 0x${from.toString(16)} as what it was when it became a child of 0x${into[0].toString(16)}`, () => {
    using device = start();
    const { gtt } = device.vgpu;
    const mm = announce(gtt);
    // The parent lets go of the page, another directory takes it, and its content is of the new kind: as the old one,
    // each of its entries would be a mistake that is counted.
    store(device.ram, from - 1, 0, 0n);
    fill(device.ram, from, 0n);
    store(device.ram, from, 3, to(0x200)); // no RAM: a bad leaf or a bad table
    store(device.ram, from, 4, to(0x30));
    store(device.ram, into[0], into[1], to(from));
    const { badLeaves, badTables } = gtt.counters;
    gtt.submit(4, ROOTS);
    const asLeaf = into[0] === PDE_PAGE;
    assertEquals(
      [gtt.counters.badLeaves - badLeaves, gtt.counters.badTables - badTables],
      asLeaf ? [1, 0] : [0, 1],
    );
    assertEquals(shadowOf(gtt, mm, gma(0)), null);
    assertEquals(gtt.parts.tables.find(from, asLeaf ? PTE : into[0] === PDP_PAGE ? PDE : PDP)?.refs, 1);
  });
}

Deno.test("a table that a hundred entries share is compared once a sync", () => {
  using device = start();
  const { gtt } = device.vgpu;
  // As a guest does it: every entry that is not used leads to scratch tables.
  fill(device.ram, 0x20, to(LEAF));
  fill(device.ram, 0x21, to(0x20));
  fill(device.ram, 0x22, to(0x21));
  fill(device.ram, PML4_PAGE, to(0x22));
  store(device.ram, PML4_PAGE, 0, to(PDP_PAGE));
  const mms = [announce(gtt)];
  for (let gfn = 0x80; gfn < 0x90; gfn++) {
    fill(device.ram, gfn, to(0x22));
    mms.push(announce(gtt, 4, rootsAt(gfn)));
  }
  const tables = gtt.parts.tables.size;
  assertEquals(tables, 4 + 3 + 16);
  const before = gtt.counters.compared;
  fill(device.ram, 0x20, to(0x41));
  assertEquals(gtt.syncOosPages(), OK);
  assertEquals(gtt.counters.compared - before, tables);
  for (const mm of mms) assertEquals(shadowOf(gtt, mm, gma(511, 255, 100, 3)), "0x100041");
});

Deno.test("a new address space on known tables translates at once what those did not know yet", () => {
  using device = start();
  const { gtt } = device.vgpu;
  announce(gtt);
  store(device.ram, PDE_PAGE, 1, to(0x23)); // nobody has looked since
  store(device.ram, 0x23, 0, to(0x41));
  store(device.ram, 0x20, 5, to(PDP_PAGE));
  const other = announce(gtt, 4, rootsAt(0x20));
  assertEquals(shadowOf(gtt, other, gma(5, 0, 1)), "0x100041");
});

Deno.test("a large page maps nothing, is counted, and spares its neighbours", () => {
  using device = start();
  const { gtt } = device.vgpu;
  store(device.ram, PDE_PAGE, 1, to(0x60) | 0x80n);
  const mm = announce(gtt);
  assertEquals([shadowOf(gtt, mm, gma(0)), shadowOf(gtt, mm, gma(0, 0, 1))], ["0x100040", null]);
  store(device.ram, PDE_PAGE, 0, to(0x60) | 0x80n);
  store(device.ram, PDE_PAGE, 2, to(0x14));
  store(device.ram, 0x14, 0, to(0x41));
  assertEquals(gtt.syncOosPages(), OK);
  assertEquals(shadowOf(gtt, mm, gma(0)), null); // not what it led to before
  assertEquals(shadowOf(gtt, mm, gma(0, 0, 2)), "0x100041");
  assertEquals(gtt.counters.badLargePages, 2);
  gtt.syncOosPages();
  assertEquals(gtt.counters.badLargePages, 2); // a known mistake is not looked at again
  store(device.ram, PDE_PAGE, 0, to(PTE_PAGE));
  gtt.syncOosPages();
  assertEquals(shadowOf(gtt, mm, gma(0)), "0x100040");
});

Deno.test("a table outside RAM maps nothing, is counted, and is there as soon as its RAM is", () => {
  using device = start();
  const { gtt } = device.vgpu;
  store(device.ram, PDE_PAGE, 0, to(0x200));
  const mm = announce(gtt);
  assertEquals([shadowOf(gtt, mm, gma(0)), gtt.counters.badTables], [null, 1]);
  gtt.syncOosPages();
  assertEquals(gtt.counters.badTables, 1);
  device.mapRam({ gpa: 0x1ff000, size: 0x10000 });
  store(device.ram, 0x200, 0, to(LEAF));
  gtt.syncOosPages();
  assertEquals(shadowOf(gtt, mm, gma(0)), "0x100040");
});

Deno.test("a leaf outside RAM leads to the device's scratch page, and to its frame as soon as that is RAM", () => {
  using device = start();
  const { gtt } = device.vgpu;
  const mm = announce(gtt);
  store(device.ram, PTE_PAGE, 0, to(0x204));
  gtt.submit(4, ROOTS);
  assertEquals([shadowOf(gtt, mm, gma(0)), gtt.counters.badLeaves], ["S", 1]);
  device.mapRam({ gpa: 0x200000, size: 0x10000 });
  assertEquals(shadowOf(gtt, mm, gma(0)), "0x100204");
  device.unmapRam(0x200000, 0x10000);
  assertEquals(shadowOf(gtt, mm, gma(0)), "S");
  device.mapRam({ gpa: 0x200000, size: 0x10000 });
  assertEquals(shadowOf(gtt, mm, gma(0)), "0x100204");
});

Deno.test("RAM with a table in it goes and comes back: what it mapped does the same", () => {
  using device = start();
  const { gtt } = device.vgpu;
  device.mapRam({ gpa: 0x200000, size: 0x10000 });
  store(device.ram, PDE_PAGE, 1, to(0x200));
  store(device.ram, 0x200, 0, to(LEAF));
  const mm = announce(gtt);
  const both = () => [shadowOf(gtt, mm, gma(0)), shadowOf(gtt, mm, gma(0, 0, 1))];
  assertEquals(both(), ["0x100040", "0x100040"]);
  device.unmapRam(0x200000, 0x10000);
  assertEquals(both(), ["0x100040", null]);
  device.mapRam({ gpa: 0x200000, size: 0x10000 });
  store(device.ram, 0x200, 0, to(0x41)); // fresh RAM is empty
  gtt.submit(4, ROOTS);
  assertEquals(both(), ["0x100040", "0x100041"]);
});

Deno.test("an address space whose root went waits for its RAM and a pin", () => {
  using device = start();
  const { gtt } = device.vgpu;
  device.mapRam({ gpa: 0x200000, size: 0x1000 });
  store(device.ram, 0x200, 0, to(PDP_PAGE));
  const mm = announce(gtt, 4, rootsAt(0x200));
  device.unmapRam(0x200000, 0x1000);
  assertEquals([mm.alive, mm.shadowed, gtt.parts.tables.size], [true, false, 0]);
  assertEquals(gtt.submit(4, rootsAt(0x200)), EINVAL);
  assertEquals(gtt.syncOosPages(), OK);
  device.mapRam({ gpa: 0x200000, size: 0x1000 });
  store(device.ram, 0x200, 0, to(PDP_PAGE));
  gtt.submit(4, rootsAt(0x200));
  assertEquals(shadowOf(gtt, mm, gma(0)), "0x100040");
});

for (
  const [what, level, roots] of [
    ["outside RAM", 4, rootsAt(0x200)],
    ["outside RAM in slot 3", 3, Uint32Array.of(0x10000, 0, 0, 0, 0, 0, 0x200000, 0)],
    ["that is a large page", 3, Uint32Array.of(0x10081, 0, 0, 0, 0, 0, 0, 0)],
  ] as const
) {
  Deno.test(`createMm() of a root ${what} is refused and leaves nothing`, () => {
    using device = start();
    const { gtt } = device.vgpu;
    assertEquals(gtt.createMm(level, roots), EINVAL);
    assertEquals([gtt.parts.tables.size, gtt.parts.oos.attached.size, gtt.parts.mms.size], [0, 0, 0]);
  });
}

Deno.test("a table page that cannot be read counts as empty until it can be", () => {
  using device = start({ faults: true });
  const { gtt } = device.vgpu;
  store(device.ram, PDP_PAGE, 1, to(0x22));
  store(device.ram, 0x22, 0, to(0x23));
  store(device.ram, 0x23, 0, to(0x41));
  const mm = announce(gtt);
  device.faults!.setFrame("read", PDE_PAGE, true);
  store(device.ram, 0x23, 0, to(0x42));
  assertEquals([gtt.submit(4, ROOTS), gtt.syncOosPages()], [EFAULT, EFAULT]);
  assertEquals([shadowOf(gtt, mm, gma(0)), shadowOf(gtt, mm, gma(0, 1))], [null, "0x100042"]);
  assertEquals(gtt.createMm(4, ROOTS), EFAULT);
  device.faults!.setFrame("read", PDE_PAGE, false);
  assertEquals(gtt.syncOosPages(), OK);
  assertEquals(shadowOf(gtt, mm, gma(0)), "0x100040");
});

Deno.test("gmaToGpa() goes through directories as they were at the last sync, and reads the leaf now", () => {
  using device = start();
  const { gtt } = device.vgpu;
  const mm = announce(gtt);
  store(device.ram, PTE_PAGE, 0, to(0x41));
  assertEquals(gtt.gmaToGpa(mm, 0, 0), 0x41000);
  store(device.ram, PDE_PAGE, 0, 0n);
  assertEquals(gtt.gmaToGpa(mm, 0, 0), 0x41000);
  gtt.syncOosPages();
  assertEquals(gtt.gmaToGpa(mm, 0, 0), -1);
});

Deno.test("nothing waits for a flush and no pool of out-of-sync pages is there when nothing can trap", () => {
  using device = start({ oos: true, oosPoolPages: 3 });
  const { gtt } = device.vgpu;
  announce(gtt);
  assertEquals(device.gvt.oosPool, null);
  assertEquals(device.store(PTE_PAGE * 4096, new Uint8Array(4)), OK); // half an entry
  assertEquals(device.store(PTE_PAGE * 4096, new Uint8Array(4096)), OK);
  assertEquals([gtt.flushPostShadow(), gtt.counters.trappedStores], [OK, 0]);
  const { spts, oos, oosUse, post } = engineState(gtt);
  assertEquals(spts.map(([, , , tracked, writes]) => [tracked, writes]), [0, 1, 2, 3].map(() => [false, 0]));
  assertEquals([oos, oosUse, post], [[0x10, 0x11, 0x12, 0x13], [0x10, 0x11, 0x12, 0x13], []]);
});

Deno.test("a user track on a table page is told of stores, and the table is not", () => {
  using device = start();
  const { gtt } = device.vgpu;
  const mm = announce(gtt);
  const told: number[] = [];
  const track = gtt.initPageTrack(PTE_PAGE, (_, gpa) => (told.push(gpa), OK));
  assertEquals(gtt.enablePageTrack(track), OK);
  device.store(PTE_PAGE * 4096, new Uint8Array(8));
  assertEquals([told, shadowOf(gtt, mm, gma(0))], [[PTE_PAGE * 4096], "0x100040"]);
  gtt.cleanPageTrack(track);
  gtt.submit(4, ROOTS);
  assertEquals(shadowOf(gtt, mm, gma(0)), "sPTE");
});

Deno.test("failsafe mode gives up no shadow when nothing can trap", () => {
  using device = start();
  const { gtt } = device.vgpu;
  const mm = announce(gtt);
  gtt.failsafe = true;
  device.store(PTE_PAGE * 4096, new Uint8Array(BigUint64Array.of(to(0x41)).buffer));
  assertEquals(mm.shadowed, true);
  gtt.syncOosPages();
  assertEquals(shadowOf(gtt, mm, gma(0)), "0x100041");
});

for (const end of ["resetGtt", "clean"] as const) {
  Deno.test(`${end}() leaves no table and no snapshot, and a new start finds everything`, () => {
    using device = start();
    const { gtt } = device.vgpu;
    announce(gtt);
    assertEquals(gtt[end](), OK);
    assertEquals([gtt.parts.tables.size, gtt.parts.oos.attached.size, gtt.parts.oos.outOfSync.size], [
      0,
      0,
      0,
    ]);
    assertInvariants(gtt);
    if (end === "clean") gtt.init();
    store(device.ram, PTE_PAGE, 0, to(0x41));
    assertEquals(shadowOf(gtt, announce(gtt), gma(0)), "0x100041");
  });
}

Deno.test("syncOosPages() skips address spaces without a shadow, and the next submit rebuilds theirs", () => {
  using device = start({ faults: true });
  const { gtt } = device.vgpu;
  const mm = announce(gtt);
  device.faults!.setCount("alloc", 1); // the next table needs a reclaim
  const other = gtt.createMm(4, rootsAt(0x20)) as PpgttMm;
  assertEquals([mm.shadowed, other.shadowed], [false, true]);
  store(device.ram, PTE_PAGE, 0, to(0x41));
  assertEquals(gtt.syncOosPages(), OK);
  assertEquals(shadowOf(gtt, mm, gma(0)), null);
  gtt.submit(4, ROOTS);
  assertEquals(shadowOf(gtt, mm, gma(0)), "0x100041");
});
