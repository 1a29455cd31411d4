import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { GMA4, le64, PAGE, ROOTS3, ROOTS4, TREE3, TREE4 } from "./guest_pages.ts";
import { Inspected, type Json } from "./inspected.ts";
import { run } from "./process.ts";

/** Where the guest keeps its first leaf of the 4-level tree. */
const LEAF4 = 0x13 * PAGE + 8 * 4;
/** A register that keeps what is written: the tail of the render engine's ring. */
const RING_TAIL = 0x2030;
/** GGTT entry of the first page of the aperture's part. */
const GGTT_ENTRY = 0x4000000 / PAGE;

for (const tracking of ["trapped", "untracked"] as const) {
  /** A device whose guest has announced both trees. */
  const start = async (...args: string[]) => {
    const device = await Inspected.start(tracking, ...args);
    await device.storePages({ ...TREE4, ...TREE3 });
    const four = await device.vmm.call("mm_create", 4, [...ROOTS4]);
    const three = await device.vmm.call("mm_create", 3, [...ROOTS3]);
    return { device, four, three };
  };
  const where = `of a guest whose stores are ${tracking}`;

  Deno.test(`inspect ls tells what there is, ${where}`, async () => {
    const { device, four, three } = await start();
    await using _device = device;
    const { code, stdout } = await device.inspect("ls");
    assertEquals(code, 0);
    assertStringIncludes(stdout, "1 PML4, 1 PDP, 3 PDE, 3 PTE");
    await device.vmm.call("mm_destroy", three);
    const [, { source, server, overview }] = await device.inspectJson("ls");
    assertMatch(source, /\/s$/);
    assertMatch(server, /^vgtt\//);
    assertEquals([overview.tracking, overview.totals.allTables], [tracking, 4]);
    assertEquals(overview.spaces.map(({ id, level, roots }: Json) => [id, level, roots]), [[four, 4, [
      0x10,
    ]]]);
  });

  Deno.test(`inspect tree shows what changed between two runs, ${where}`, async () => {
    const { device, four } = await start();
    await using _device = device;
    const before = await device.inspect("tree", `${four}`);
    assertEquals(before.code, 0);
    assertMatch(
      before.stdout,
      /^= +0x8080604000–0x8080604fff · PTE\[4\] · P W PAT · gfn 0x64 → mfn 0x100064$/m,
    );
    await device.store(LEAF4, le64(0x70003));
    await device.store(LEAF4 + 16, le64(0x71001));
    await device.invalidate();
    const after = await device.inspect("tree", `${four}`);
    assertMatch(after.stdout, /^= +0x8080604000–0x8080604fff · PTE\[4\] · P W · gfn 0x70 → mfn 0x100070$/m);
    assertMatch(after.stdout, /^= +0x8080606000–0x8080606fff · PTE\[6\] · P · gfn 0x71 → mfn 0x100071$/m);
    const [, { spaces: [space] }] = await device.inspectJson("tree", `${four}`, "--depth", "1");
    assertEquals([space.id, space.level, space.roots[0].table.kind, space.roots[0].table.is], [
      four,
      4,
      "PML4",
      "open",
    ]);
    const [, { spaces }] = await device.inspectJson("tree");
    assertEquals(spaces.length, 2);
  });

  Deno.test(`inspect walk follows both sides, before a change and after it, ${where}`, async () => {
    const { device, four, three } = await start();
    await using _device = device;
    const gma = `0x${(GMA4 + 0x123).toString(16)}`;
    const [code, before] = await device.inspectJson("walk", `${four}`, gma);
    assertEquals([code, before.guest.address, before.shadow.frame, before.verdict.class], [
      0,
      0x64123,
      0x100064,
      "same",
    ]);
    assertEquals(before.steps.map(({ table, index }: Json) => [table, index]), [
      ["PML4", 1],
      ["PDP", 2],
      ["PDE", 3],
      ["PTE", 4],
    ]);
    await device.store(LEAF4, le64(0x70003));
    await device.invalidate();
    const [, after] = await device.inspectJson("walk", `${four}`, gma);
    assertEquals([after.guest.address, after.shadow.frame], [0x70123, 0x100070]);
    const nothing = await device.inspect("walk", `${three}`, "0x1000");
    assertEquals(nothing.code, 0);
    assertStringIncludes(nothing.stdout, "not present");
  });

  Deno.test(`inspect who finds what leads to a frame, before a change and after it, ${where}`, async () => {
    const { device } = await start();
    await using _device = device;
    assertStringIncludes((await device.inspect("who", "0x64")).stdout, "PTE[4] of the PTE table of gfn 0x13");
    const [, table] = await device.inspectJson("who", "0x13");
    assertEquals(table.tables.map(({ text }: Json) => text), ["PTE table of gfn 0x13"]);
    await device.store(LEAF4, le64(0x70003));
    await device.invalidate();
    assertStringIncludes((await device.inspect("who", "0x64")).stdout, "nothing maps it");
    const [code, who] = await device.inspectJson("who", "0x70");
    assertEquals([code, who.gfn, who.mfn, who.mappings.length], [0, 0x70, 0x100070, 1]);
    assertEquals(who.mappings[0].addresses[0].from, GMA4);
  });

  Deno.test(`inspect ggtt shows what changed between two runs, ${where}`, async () => {
    const { device } = await start();
    await using _device = device;
    const [, { counts }] = await device.inspectJson("ggtt");
    assertEquals([counts.same, counts.wrong], [0, 0]);
    await device.vmm.notify("mmio_write", 0, 0x800000 + 8 * GGTT_ENTRY, 8, 0x64001);
    const { code, stdout } = await device.inspect("ggtt", "--range", "0x400_0000-0x400_0fff");
    assertEquals(code, 0);
    assertStringIncludes(stdout, "GGTT[16384] · P · gfn 0x64 → mfn 0x100064");
    assertStringIncludes((await device.inspect("walk", "ggtt", "0x4000000")).stdout, "gfn 0x64");
  });

  Deno.test(`inspect diff --against tells what changed since a snapshot was saved, ${where}`, async () => {
    const { device, four } = await start();
    await using _device = device;
    assertEquals((await device.inspect("save", "before")).code, 0);
    const same = await device.inspect("diff", "--against", "before");
    assertEquals(same.code, 0, same.stdout);
    await device.store(LEAF4, le64(0x70003));
    await device.invalidate();
    const changed = await device.inspect("diff", "--against", "before");
    assertEquals(changed.code, 1, changed.stdout);
    assertStringIncludes(changed.stdout, "PTE[4]");
    assertEquals((await device.inspectJson("diff", "--against", "before"))[1].isSame, false);
    const [, saved] = await device.inspectJson("save", "after");
    assertEquals([saved.spaces, saved.tables], [2, 8]);
    await device.vmm.call("mm_destroy", four);
    // What was saved needs no device.
    const here = { INIT_CWD: device.folder.path };
    const saves = await run("inspect", ["diff", "--snapshot", "after", "--against", "before"], here);
    assertEquals(saves.code, 1);
    assertStringIncludes(saves.stdout, "from before to after");
    const tree = await run("inspect", ["tree", `${four}`, "--snapshot", "after"], here);
    assertMatch(tree.stdout, /gfn 0x70 → mfn 0x100070/);
  });

  Deno.test(`inspect finds in a recording what it saw in the device, ${where}`, async () => {
    const { device, four } = await start("--record", "recording");
    await using _device = device;
    await device.store(LEAF4, le64(0x70003));
    await device.invalidate();
    await device.inspect("save", "live");
    const [, { overview: { recordedEvents } }] = await device.inspectJson("ls");
    await device.store(LEAF4, le64(0x71003));
    await device.invalidate();
    await device.vmm.close();
    await device.stop();
    const look = (command: string[], to: number) =>
      run("inspect", [...command, "--recording", "recording", "--to", `${to}`], {
        INIT_CWD: device.folder.path,
      });
    const then = await look(["diff", "--against", "live"], recordedEvents);
    assertEquals([then.code, then.stderr], [0, ""], then.stdout);
    const before = await look(["walk", `${four}`, `${GMA4}`], recordedEvents);
    assertStringIncludes(before.stdout, "gpa 0x70000");
    const { code, stdout, stderr } = await run("inspect", ["tree", "--recording", "recording"], {
      INIT_CWD: device.folder.path,
    });
    assertEquals([code, stdout], [0, "no address spaces\n"]);
    const [, last] = /its VMM has gone by then: --to (\d+) looks/.exec(stderr)!;
    assertStringIncludes((await look(["walk", `${four}`, `${GMA4}`], Number(last))).stdout, "gpa 0x71000");
  });

  Deno.test(`inspect regs tells what the guest wrote, ${where}`, async () => {
    const { device } = await start();
    await using _device = device;
    await device.vmm.notify("mmio_write", 0, RING_TAIL, 4, 0x1238);
    const { code, stdout } = await device.inspect("regs", "rcs0", "--changed");
    assertEquals(code, 0);
    assertMatch(stdout, /^\* +RING_TAIL +rcs0 +0x2030 +0x00001238 +reset 0x0/m);
    const [, { registers }] = await device.inspectJson("regs", "0x2030");
    assertEquals(
      registers.map(({ name, engine, offset, value, reset }: Json) => [name, engine, offset, value, reset]),
      [
        ["RING_TAIL", "rcs0", RING_TAIL, 0x1238, 0],
      ],
    );
    assertStringIncludes((await device.inspect("regs", "0x2030")).stdout, "RING_TAIL: ");
  });
}

Deno.test("inspect diff finds an entry that changed behind the engine's back, and exits with 1", async () => {
  await using device = await Inspected.start("trapped");
  const { vmm } = device;
  await device.storePages(TREE4);
  const mm = await vmm.call("mm_create", 4, [...ROOTS4]);
  const right = await device.inspect("diff");
  assertEquals([right.code, right.stdout.includes("!")], [0, false], right.stdout);

  await vmm.call("debug_poke", LEAF4, le64(0x70083));
  for (const args of [["diff"], ["diff", `${mm}`], ["diff", "--quiet-guest"]]) {
    const wrong = await device.inspect(...args);
    assertEquals(wrong.code, 1);
    assertMatch(
      wrong.stdout,
      /^! space \d+ > root 0 > PML4\[1\] > PDP\[2\] > PDE\[3\] > PTE\[4\] · 0x8080604000–0x8080604fff/m,
    );
  }
  const [code, diff] = await device.inspectJson("diff", `${mm}`);
  assertEquals([code, diff.counts.wrong, diff.counts.pending, diff.tables, diff.more], [1, 1, 0, 4, 0]);
  assertEquals(diff.differences.map(({ from, to, entries }: Json) => [from, to, entries]), [[
    GMA4,
    GMA4 + 0xfff,
    1,
  ]]);
  const walk = await device.inspect("walk", `${mm}`, "0x80_8060_4000");
  assertEquals(walk.code, 1);
  assertMatch(walk.stdout, /^! /m);
  const tree = await device.inspect("tree", `${mm}`);
  assertEquals(tree.code, 0); // it shows; diff judges
  assertMatch(tree.stdout, /^! +0x8080604000–0x8080604fff/m);

  await device.store(LEAF4, le64(0x70083));
  assertEquals((await device.inspect("diff")).code, 0);
});

Deno.test("inspect diff tells what waits for the guest's invalidation, which is not wrong", async () => {
  await using device = await Inspected.start("untracked");
  await device.storePages(TREE4);
  const mm = await device.vmm.call("mm_create", 4, [...ROOTS4]);
  await device.store(LEAF4, le64(0x70083));
  const waits = await device.inspect("diff", `${mm}`);
  assertEquals(waits.code, 0, waits.stdout);
  assertMatch(waits.stdout, /^\? .*PTE\[4\]/m);
  const [, { counts }] = await device.inspectJson("diff", `${mm}`);
  assertEquals([counts.pending >= 1, counts.wrong], [true, 0]);
  await device.invalidate();
  const done = await device.inspect("diff", `${mm}`);
  assertEquals([done.code, done.stdout.includes("?")], [0, false], done.stdout);
});

Deno.test("inspect shows a page that is out of sync", async () => {
  await using device = await Inspected.start("trapped", "--oos");
  await device.storePages(TREE4);
  const mm = await device.vmm.call("mm_create", 4, [...ROOTS4]);
  for (let i = 0; i < 4; i++) await device.store(LEAF4, le64(0x70083 + 0x1000 * i));
  assertStringIncludes((await device.inspect("ls")).stdout, "1 out of sync");
  const { stdout } = await device.inspect("tree", `${mm}`);
  assertStringIncludes(stdout, "out of sync");
  const { code } = await device.inspect("diff");
  assertEquals(code, 0);
});

Deno.test("inspect follows a guest that is gone, and one that comes", async () => {
  await using device = await Inspected.start("trapped");
  await device.storePages(TREE4);
  await device.vmm.call("mm_create", 4, [...ROOTS4]);
  await using _next = await device.nextVmm();
  const { code, stdout } = await device.inspect("tree");
  assertEquals([code, stdout], [0, "no address spaces\n"]);
});
