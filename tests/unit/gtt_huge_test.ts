import { assert, assertEquals } from "@std/assert";
import { EINVAL, ENOMEM, ENXIO, OK } from "../../src/gtt/errno.ts";
import { assertInvariants } from "../../src/gtt/invariants.ts";
import { isTable, shadowTree } from "../../src/inspect/tree.ts";
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
  store,
  storeHalf,
  to,
  WHOLE,
} from "./gtt_huge_guest.ts";

/** Present, writable, page size. */
const LARGE = 0x83n;

Deno.test("a 2 MiB page whose host frames are one piece is shadowed as one entry, with all its flags", () => {
  using device = start();
  // Dirty, IPS and a high bit; bits 12 to 20 are flags of a 2 MiB page.
  store(device, PDE_PAGE, 3, to(WHOLE + 0x1ff, 0x4000_0000_0000_08c3n));
  const mm = announce(device);
  assertEquals(entryOf(pdeTable(device), 3), to(0x100200 + 0x1ff, 0x4000_0000_0000_08c3n));
  assertEquals(pdeTable(device).target(3), 0x100200);
  assertEquals(leads(device, mm, 3, 0x123), [(WHOLE + 0x123) * 4096, "0x100323", true]);
  assertEquals(device.vgpu.gtt.parts.tables.size, 1);
});

for (const [pat, flags] of [[0n, 0x3n], [1n, 0x83n]] as const) {
  Deno.test(`a 2 MiB page of several pieces is split into 512 entries when its PAT bit is ${pat}`, () => {
    using device = start();
    store(device, PDE_PAGE, 3, to(SHIFTED, 0x4000_0000_0000_08d3n | pat << 12n));
    const mm = announce(device);
    const { tables } = device.vgpu.gtt.parts;
    const child = tables.byMfn(pdeTable(device).target(3))!;
    assertEquals(entryOf(pdeTable(device), 3), to(child.page.mfn, 0x4000_0000_0000_0013n));
    for (const i of [0, 1, 511]) {
      assertEquals(entryOf(child, i), to(SHIFTED_MFN + i, 0x4000_0000_0000_0850n | flags));
    }
    assertEquals([child.isSplit, child.refs, child.registered, tables.size], [true, 1, false, 2]);
    assertEquals([...device.host.protectedFrames], [PDE_PAGE]);
    assertEquals(leads(device, mm, 3, 0x123), [(SHIFTED + 0x123) * 4096, "0x20012a", true]);
  });
}

Deno.test("a 2 MiB page of two regions that follow one another is one piece", () => {
  using device = start();
  device.mapRam({ gpa: ABSENT * 4096, size: 0x1000 });
  device.mapRam({ gpa: (ABSENT + 1) * 4096, size: 0x1ff000 });
  store(device, PDE_PAGE, 3, to(ABSENT, LARGE));
  announce(device);
  assertEquals(entryOf(pdeTable(device), 3), to(0x100000 + ABSENT, LARGE));
});

for (const fault of ["invalid", "p2m"] as const) {
  for (const frame of [0, 200, 511]) {
    Deno.test(`a trapped 2 MiB page is refused whole when frame ${frame} fails (${fault})`, () => {
      using device = start({ faults: true });
      store(device, PDE_PAGE, 3, to(PTE_PAGE));
      store(device, PTE_PAGE, 5, to(0x40));
      const mm = announce(device);
      device.faults!.setFrame(fault, SHIFTED + frame, true);
      const before = entryOf(pdeTable(device), 3);

      assertEquals(store(device, PDE_PAGE, 3, to(SHIFTED, LARGE)), ENXIO);

      assertEquals(entryOf(pdeTable(device), 3), before); // the old entry and its table live on (§13, 15)
      assertEquals(device.vgpu.gtt.parts.tables.size, 2);
      assertEquals(device.vgpu.gtt.counters.badLargePages, 1);
      assertEquals(leads(device, mm, 3, 5), [0x40000, "0x100040", false]);
      device.faults!.setFrame(fault, SHIFTED + frame, false);
      assertEquals(store(device, PDE_PAGE, 3, to(SHIFTED, LARGE)), OK);
      assertEquals(leads(device, mm, 3, 5), [(SHIFTED + 5) * 4096, "0x20000c", true]);
    });
  }
}

Deno.test("a create with a bad 2 MiB page undoes the good ones before it", () => {
  using device = start();
  const { gtt } = device.vgpu;
  store(device, PDE_PAGE, 0, to(SHIFTED, LARGE));
  store(device, PDE_PAGE, 1, to(PTE_PAGE));
  store(device, PDE_PAGE, 2, to(WHOLE, LARGE));
  store(device, PDE_PAGE, 3, to(ABSENT, LARGE));
  assertEquals(gtt.createMm(3, ROOTS), ENXIO);
  assertEquals([gtt.parts.tables.size, device.host.protectedFrames.size], [0, 0]);
  assertInvariants(gtt);
});

Deno.test("a split page without memory for its table is refused, the old entry stays", () => {
  using device = start({ faults: true });
  store(device, PDE_PAGE, 3, to(WHOLE, LARGE));
  const mm = announce(device);
  device.vgpu.gtt.pinMm(mm);
  for (const [fault, rc] of [["alloc", ENOMEM], ["dma", EINVAL]] as const) {
    device.faults!.setCount(fault, 1);
    assertEquals(store(device, PDE_PAGE, 3, to(SHIFTED, LARGE)), rc);
    assertEquals(entryOf(pdeTable(device), 3), to(0x100200, LARGE));
  }
});

Deno.test("a split page whose memory comes from its own tree's reclaim ends with it", () => {
  using device = start({ faults: true });
  const mm = announce(device);
  device.faults!.setCount("alloc", 1);
  assertEquals(store(device, PDE_PAGE, 3, to(SHIFTED, LARGE)), OK);
  assertEquals([mm.shadowed, device.vgpu.gtt.parts.tables.size], [false, 0]);
});

Deno.test("a 2 MiB page is removed as an entry that leads to a scratch table and is a page no more", () => {
  using device = start();
  store(device, PDE_PAGE, 3, to(WHOLE + 1, LARGE));
  store(device, PDE_PAGE, 4, to(SHIFTED + 1, LARGE));
  const mm = announce(device);
  const { tables, scratch } = device.vgpu.gtt.parts;
  for (const index of [3, 4]) assertEquals(store(device, PDE_PAGE, index, 0n), OK);
  for (const index of [3, 4]) {
    assertEquals(entryOf(pdeTable(device), index), to(scratch.mfn[2]!, 0x3n));
    assertEquals(leads(device, mm, index), [-1, null, true]);
  }
  assertEquals(tables.size, 1);
});

Deno.test("an entry changes between table, whole page and split page, the new target before the old", () => {
  using device = start();
  store(device, PTE_PAGE, 5, to(0x40));
  const mm = announce(device);
  const targets: [bigint, unknown[], number][] = [
    [to(PTE_PAGE), [0x40000, "0x100040", true], 2],
    [to(SHIFTED, LARGE), [(SHIFTED + 5) * 4096, "0x20000c", true], 2],
    [to(WHOLE, LARGE), [(WHOLE + 5) * 4096, "0x100205", true], 1],
  ];
  for (const from of targets) {
    for (const into of targets) {
      for (const [value, wanted, tables] of [from, into]) {
        assertEquals(store(device, PDE_PAGE, 3, value), OK);
        assertEquals(leads(device, mm, 3, 5), wanted);
        assertEquals(device.vgpu.gtt.parts.tables.size, tables);
      }
    }
  }
});

Deno.test("gmaToGpa() reads the entry of a 2 MiB page live", () => {
  using device = start();
  store(device, PDE_PAGE, 3, to(WHOLE, LARGE));
  store(device, PDE_PAGE, 4, to(SHIFTED, LARGE));
  const mm = announce(device);
  const { gtt } = device.vgpu;
  for (const index of [3, 4]) {
    const poke = (value: bigint) => {
      const bytes = new Uint8Array(BigUint64Array.of(value).buffer);
      device.ram.write(PDE_PAGE * 4096 + 8 * index, bytes);
      return gtt.gmaToGpa(mm, index << 21 | 0x5abc, 0);
    };
    assertEquals(poke(to(ABSENT, LARGE)), ABSENT * 4096 + 0x5abc); // no RAM: not asked
    assertEquals(poke(to(PTE_PAGE)), -1); // a table that the shadow does not have
    assertEquals(poke(0n), -1);
  }
});

Deno.test("two half stores make a 2 MiB page at the flush, which fails until all of it is there", () => {
  using device = start();
  store(device, PDE_PAGE, 3, to(SHIFTED, LARGE));
  const mm = announce(device);
  const { gtt } = device.vgpu;
  storeHalf(device, PDE_PAGE, 3, 0, Number(to(WHOLE, LARGE)));
  assertEquals([leads(device, mm, 3)[1], gtt.parts.tables.size], [null, 1]);
  storeHalf(device, PDE_PAGE, 3, 1, 0x40000000);
  assertEquals(gtt.flushPostShadow(), OK);
  assertEquals(entryOf(pdeTable(device), 3), to(0x100200, LARGE | 0x4000_0000_0000_0000n));
  storeHalf(device, PDE_PAGE, 3, 0, Number(to(ABSENT, LARGE)));
  assertEquals([gtt.flushPostShadow(), gtt.flushPostShadow()], [ENXIO, ENXIO]);
  device.mapRam({ gpa: ABSENT * 4096, size: 0x200000 });
  assertEquals(leads(device, mm, 3)[1], null); // what is queued waits for the flush
  assertEquals(gtt.flushPostShadow(), OK);
  assertEquals(leads(device, mm, 3), [ABSENT * 4096, "0x100600", true]);
});

for (
  const [what, gfn, shadow] of [["one entry", WHOLE, "0x100205"], ["split", SHIFTED, "0x20000c"]] as const
) {
  Deno.test(`RAM that goes takes a 2 MiB page (${what}), and brings it back when it comes`, () => {
    using device = start();
    store(device, PDE_PAGE, 3, to(gfn, LARGE));
    const mm = announce(device);
    device.unmapRam(gfn * 4096, 0x200000);
    assertInvariants(device.vgpu.gtt);
    assertEquals(leads(device, mm, 3, 5)[1], null);
    assertEquals(device.vgpu.gtt.parts.tables.size, 1);
    // Half of it is not enough.
    const mfn = gfn === SHIFTED ? SHIFTED_MFN : 0x100200;
    device.mapRam({ gpa: gfn * 4096, size: 0x100000, mfn });
    assertEquals(leads(device, mm, 3, 5)[1], null);
    device.mapRam({ gpa: (gfn + 256) * 4096, size: 0x100000, mfn: mfn + 256 });
    assertInvariants(device.vgpu.gtt);
    assertEquals(leads(device, mm, 3, 5), [(gfn + 5) * 4096, shadow, true]);
  });
}

Deno.test("RAM that goes in part takes the whole of a split page", () => {
  using device = start();
  device.mapRam({ gpa: ABSENT * 4096, size: 0x100000 });
  device.mapRam({ gpa: (ABSENT + 256) * 4096, size: 0x100000, mfn: 0x300000 });
  store(device, PDE_PAGE, 3, to(ABSENT, LARGE));
  const mm = announce(device);
  assertEquals([0, 300].map((pte) => leads(device, mm, 3, pte)[1]), ["0x100600", "0x30002c"]);
  device.unmapRam((ABSENT + 256) * 4096, 0x100000);
  assertInvariants(device.vgpu.gtt);
  assertEquals([0, 300].map((pte) => leads(device, mm, 3, pte)[1]), [null, null]);
  device.mapRam({ gpa: (ABSENT + 256) * 4096, size: 0x100000 }); // now it is one piece
  assertEquals([0, 300].map((pte) => leads(device, mm, 3, pte)), [
    [ABSENT * 4096, "0x100600", true],
    [(ABSENT + 300) * 4096, "0x10072c", true],
  ]);
  assertEquals(device.vgpu.gtt.parts.tables.size, 1);
});

Deno.test("RAM that brings a split page back may cost the tree that it is in", () => {
  using device = start({ faults: true });
  const { gtt } = device.vgpu;
  store(device, PDE_PAGE, 3, to(SHIFTED, LARGE));
  const mm = announce(device);
  device.unmapRam(SHIFTED * 4096, 0x200000);
  device.faults!.setCount("alloc", 1);
  device.mapRam({ gpa: SHIFTED * 4096, size: 0x200000, mfn: SHIFTED_MFN });
  assertInvariants(gtt);
  assertEquals([mm.shadowed, gtt.parts.tables.size, gtt.counters.mmsReclaimed], [false, 0, 1]);
  assertEquals(gtt.pinMm(mm), OK);
  assertEquals(leads(device, mm, 3), [SHIFTED * 4096, "0x200007", true]);
});

Deno.test("a host that changes its mind about a frame leaves no half of a split page", () => {
  using device = start();
  store(device, PDE_PAGE, 3, to(WHOLE, LARGE));
  announce(device);
  const run = device.host.gfnRun.bind(device.host);
  let asked = 0;
  device.host.gfnRun = (gfn, frames) => ++asked > 2 ? 0 : run(gfn, frames);
  assertEquals(store(device, PDE_PAGE, 3, to(SHIFTED, LARGE)), ENXIO);
  assertEquals(entryOf(pdeTable(device), 3), to(0x100200, LARGE));
  assertEquals(device.vgpu.gtt.parts.tables.size, 1);
});

Deno.test("RAM where a split page lies is no table page: other shadows are not rebuilt", () => {
  using device = start();
  store(device, PDE_PAGE, 3, to(SHIFTED, LARGE));
  announce(device);
  const table = pdeTable(device);
  device.unmapRam(SHIFTED * 4096, 0x200000);
  assertEquals(pdeTable(device) === table, true);
});

Deno.test("a reset, a clean and a destroy leave nothing of large pages", () => {
  using device = start();
  const { gtt } = device.vgpu;
  for (const end of [() => gtt.resetGtt(), () => gtt.destroyMm(gtt.findPpgttMm(3, ROOTS)!)]) {
    store(device, PDE_PAGE, 3, to(WHOLE, LARGE));
    store(device, PDE_PAGE, 4, to(SHIFTED, LARGE));
    announce(device);
    assertEquals(gtt.parts.tables.size, 2);
    end();
    assertInvariants(gtt);
    assertEquals([gtt.parts.tables.size, device.host.protectedFrames.size], [0, 0]);
  }
});

Deno.test("a 1 GiB page and a large level-3 root are refused with large pages as without", () => {
  using device = start();
  const { gtt } = device.vgpu;
  assertEquals(gtt.createMm(3, Uint32Array.of(0x10081, 0, 0, 0, 0, 0, 0, 0)), EINVAL);
  store(device, 0x20, 0, to(0x21)); // PML4
  store(device, 0x21, 0, to(WHOLE, LARGE)); // PDP
  assertEquals(gtt.createMm(4, Uint32Array.of(0x20000, 0, 0, 0, 0, 0, 0, 0)), EINVAL);
  assertEquals(gtt.counters.badLargePages, 1);
  assertEquals(gtt.parts.tables.size, 0);
});

Deno.test("without large pages a 2 MiB page is refused, and IPS is copied and ignored", () => {
  using device = start({ hugePages: false });
  store(device, PDE_PAGE, 3, to(PTE_PAGE, 0x803n));
  store(device, PTE_PAGE, 1, to(0x40));
  const mm = announce(device);
  assertEquals(entryOf(pdeTable(device), 3), to(pdeTable(device).target(3), 0x803n));
  assertEquals(leads(device, mm, 3, 1), [0x40000, "0x100040", true]);
  assertEquals(store(device, PDE_PAGE, 4, to(WHOLE, LARGE)), EINVAL);
});

Deno.test("the tree shows a 2 MiB page as a frame with its flags, or as a table that is split", () => {
  using device = start();
  store(device, PDE_PAGE, 3, to(WHOLE + 1, LARGE));
  store(device, PDE_PAGE, 4, to(SHIFTED, LARGE));
  const mm = announce(device);
  const root = shadowTree(device.vgpu.gtt, mm).roots[0]![2];
  assert(isTable(root));
  assertEquals(root.e[0], [3, "0x1083", "0x100200"]);
  const [index, flags, child] = root.e[1]!;
  assert(isTable(child));
  assertEquals([index, flags], [4, "0x3"]);
  assertEquals({ ...child, e: child.e.slice(0, 2) }, {
    t: "PTE",
    g: SHIFTED,
    r: 1,
    p: "2M",
    e: [[0, "0x3", "0x200007"], [1, "0x3", "0x200008"]],
  });
});
