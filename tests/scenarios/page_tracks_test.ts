import { assertEquals } from "@std/assert";
import { Attached, refusal } from "./attached.ts";
import {
  announceTree4,
  GMA4,
  le32,
  le64,
  PAGE,
  ROOTS4,
  tablePage,
  TREE4,
  writePages,
} from "./guest_pages.ts";

Deno.test("mm_create asks for protection of each table page before it answers", async () => {
  await using device = await Attached.start();
  await writePages(device.vmm, TREE4);
  const created = device.vmm.call("mm_create", 4, [...ROOTS4]);
  assertEquals(device.notices, []);
  await created;
  assertEquals(device.notices, [0x10, 0x11, 0x12, 0x13].map((gfn) => ["page_track", gfn, true]));
});

Deno.test("mm_destroy gives every protected page back before it answers", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  device.notices.length = 0;
  await device.vmm.call("mm_destroy", mm);
  assertEquals(
    device.notices.toSorted(([, a], [, b]) => Number(a) - Number(b)),
    [0x10, 0x11, 0x12, 0x13].map((gfn) => ["page_track", gfn, false]),
  );
  assertEquals(await device.counter("protectedFrames"), 0);
});

Deno.test("a posted g2v message makes its notifications before the next answer", async () => {
  await using device = await Attached.start();
  await writePages(device.vmm, TREE4);
  device.vmm.notify("mmio_write", 0, 0x78838, 8, 0x10000);
  device.vmm.notify("mmio_write", 0, 0x78818, 4, 4);
  await device.vmm.call("mmio_read", 0, 0x78000, 4);
  assertEquals(device.notices.length, 4);
});

Deno.test("mem_write to a table page builds and protects the new child before it answers", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  await device.vmm.call("mem_write", 0x30 * PAGE, tablePage({ 4: 0x77003 }));
  device.notices.length = 0;

  assertEquals(await device.vmm.call("mem_write", 0x12 * PAGE + 8 * 3, le64(0x30003)), 0);
  assertEquals(device.notices, [["page_track", 0x30, true], ["page_track", 0x13, false]]);
  assertEquals((await device.vmm.call("translate", mm, GMA4))["shadow"], "0x100077");
  device.assertSound();
});

Deno.test("page_wrote applies a store that the VMM let through to shared RAM", async () => {
  await using device = await Attached.start({ debug: true });
  const mm = await announceTree4(device.vmm);
  await device.vmm.call("debug_poke", 0x13 * PAGE + 32, le64(0x70083)); // RAM only: the shadow does not know
  assertEquals((await device.vmm.call("translate", mm, GMA4))["agrees"], false);
  assertEquals(await device.vmm.call("page_wrote", 0x13 * PAGE + 32, 8), 0);
  assertEquals((await device.vmm.call("translate", mm, GMA4))["shadow"], "0x100070");
});

Deno.test("page_wrote answers the error of a store that cannot be a table entry", async () => {
  await using device = await Attached.start();
  await announceTree4(device.vmm);
  assertEquals(await device.vmm.call("page_wrote", 0x13 * PAGE, 2), -22);
  assertEquals(await device.vmm.call("page_wrote", 0x13 * PAGE, 0), 0); // nothing was stored
  assertEquals(await device.vmm.call("page_wrote", 0x20 * PAGE, 2), 0); // tracked by nobody
  assertEquals(await device.vmm.call("page_wrote", 2 ** 51, 8), 0);
  assertEquals(await device.counter("badTrappedStores"), 1);
  device.assertSound();
});

Deno.test("page_wrote of a whole table page brings the shadow up to date", async () => {
  await using device = await Attached.start({ debug: true });
  const mm = await announceTree4(device.vmm);
  await device.vmm.call("debug_poke", 0x13 * PAGE, tablePage({ 4: 0x71003, 6: 0x72003 }));
  assertEquals(await device.vmm.call("page_wrote", 0x13 * PAGE, PAGE), 0);
  const shadow = async (gma: number) => (await device.vmm.call("translate", mm, gma))["shadow"];
  assertEquals(await shadow(GMA4), "0x100071");
  assertEquals(await shadow(GMA4 + PAGE), "sPTE"); // entry 5 is gone
  assertEquals(await shadow(GMA4 + 2 * PAGE), "0x100072");
});

Deno.test("tracked_write tells each store to a frame with an enabled user track, before the answer", async () => {
  await using device = await Attached.start();
  const track = await device.vmm.call("init_page_track", 0x40);
  await device.vmm.call("mem_write", 0x40008, le64(1));
  assertEquals(device.notices, []);

  await device.vmm.call("enable_page_track", track);
  assertEquals(device.notices, [["page_track", 0x40, true]]);
  await device.vmm.call("mem_write", 0x40008, le64(2));
  await device.vmm.call("mem_write", 0x40ffe, new Uint8Array(2));
  await device.vmm.call("mem_write", 0x41000, le64(3)); // another frame
  assertEquals(device.notices.slice(1), [
    ["tracked_write", track, 0x40, 0x40008, 8],
    ["tracked_write", track, 0x40, 0x40ffe, 2],
  ]);

  await device.vmm.call("disable_page_track", track);
  assertEquals(device.notices.at(-1), ["page_track", 0x40, false]);
  await device.vmm.call("mem_write", 0x40008, le64(4));
  assertEquals(device.notices.length, 4);
});

Deno.test("tracked_write reaches every track of a frame, oldest first, and protection is asked for once", async () => {
  await using device = await Attached.start();
  const tracks = [
    await device.vmm.call("init_page_track", 0x40),
    await device.vmm.call("init_page_track", 0x40),
  ];
  for (const track of tracks) await device.vmm.call("enable_page_track", track);
  await device.vmm.call("enable_page_track", tracks[0]!); // enabling twice is no error
  await device.vmm.call("mem_write", 0x40000, le64(1));
  assertEquals(device.notices, [
    ["page_track", 0x40, true],
    ...tracks.map((track) => ["tracked_write", track, 0x40, 0x40000, 8] as const),
  ]);

  await device.vmm.call("clean_page_track", tracks[0]!);
  assertEquals(device.notices.length, 3); // still protected for the other
  await device.vmm.call("clean_page_track", tracks[1]!);
  assertEquals(device.notices.at(-1), ["page_track", 0x40, false]);
});

Deno.test("a user track and a shadow table on one frame are both told of a store", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  const track = await device.vmm.call("init_page_track", 0x13);
  await device.vmm.call("enable_page_track", track);
  device.notices.length = 0;

  await device.vmm.call("mem_write", 0x13 * PAGE + 32, le64(0x70083));
  assertEquals(device.notices, [["tracked_write", track, 0x13, 0x13020, 8]]);
  assertEquals((await device.vmm.call("translate", mm, GMA4))["shadow"], "0x100070");

  // The table goes, the track keeps the frame protected.
  device.notices.length = 0;
  await device.vmm.call("mm_destroy", mm);
  assertEquals(device.notices.some(([name, gfn]) => name === "page_track" && gfn === 0x13), false);
  device.assertSound();
});

Deno.test("find_tracked_page tells the newest track of a frame", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  assertEquals(await vmm.call("find_tracked_page", 0x13), null);
  const track = await vmm.call("init_page_track", 0x13);
  assertEquals(await vmm.call("find_tracked_page", 0x13), { kind: "user", tracked: false, track });
  await vmm.call("enable_page_track", track);
  assertEquals(await vmm.call("find_tracked_page", 0x13), { kind: "user", tracked: true, track });
  await announceTree4(vmm);
  assertEquals(await vmm.call("find_tracked_page", 0x13), { kind: "ppgtt", tracked: true });
  assertEquals(await vmm.call("find_tracked_page", 2 ** 40 - 1), null);
});

Deno.test("enable_page_track fails for a frame that is no RAM and tells nobody", async () => {
  await using device = await Attached.start();
  const track = await device.vmm.call("init_page_track", 0x4000);
  assertEquals((await refusal(device.vmm.call("enable_page_track", track))).code, "EINVAL");
  assertEquals(device.notices, []);
  assertEquals(await device.vmm.call("find_tracked_page", 0x4000), { kind: "user", tracked: false, track });
});

Deno.test("track handles are dead after they are cleaned and are not given again", async () => {
  await using device = await Attached.start();
  const track = await device.vmm.call("init_page_track", 0x40);
  await device.vmm.call("clean_page_track", track);
  for (const method of ["clean_page_track", "enable_page_track", "disable_page_track"] as const) {
    assertEquals((await refusal(device.vmm.call(method, track))).code, "ENOENT");
    assertEquals((await refusal(device.vmm.call(method, 99))).code, "ENOENT");
  }
  assertEquals(await device.vmm.call("init_page_track", 0x40), track + 1);
});

Deno.test("track handles die when the engine is initialised anew, and in failsafe mode with the next store", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  const [cleaned, failsafed] = [
    await vmm.call("init_page_track", 0x40),
    await vmm.call("init_page_track", 0x41),
  ];
  await vmm.call("enable_page_track", failsafed);
  await vmm.call("mmio_write", 0, 0x78808, 4, 1);
  assertEquals(await vmm.call("mem_write", 0x41000, le64(1)), 0);
  assertEquals((await refusal(vmm.call("disable_page_track", failsafed))).code, "ENOENT");
  assertEquals(device.notices, [["page_track", 0x41, true], ["page_track", 0x41, false]]);

  await vmm.call("vgpu_clean_gtt");
  await vmm.call("vgpu_init_gtt");
  assertEquals((await refusal(vmm.call("enable_page_track", cleaned))).code, "ENOENT");
});

Deno.test("a half store to a table page goes to scratch at once and to its target with the flush", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  const shadow = async () => (await device.vmm.call("translate", mm, GMA4))["shadow"];

  assertEquals(await device.vmm.call("mem_write", 0x13 * PAGE + 32, le32(0x70083)), 0);
  assertEquals(await shadow(), "sPTE");
  assertEquals(await device.vmm.call("mem_write", 0x13 * PAGE + 36, le32(0)), 0);
  assertEquals((await device.vmm.call("state"))["post"], [[0x13, [4]]]);
  assertEquals(await device.vmm.call("gma_to_gpa", mm, GMA4), 0x70000); // follows guest memory meanwhile

  await device.vmm.call("flush_post_shadow");
  assertEquals(await shadow(), "0x100070");
  assertEquals((await device.vmm.call("state"))["post"], []);
});

Deno.test("a store whose leaf cannot be translated leaves the old entry live", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  assertEquals(await device.vmm.call("mem_write", 0x13 * PAGE + 32, le64(0x7_0000_0083)), -6);
  assertEquals((await device.vmm.call("translate", mm, GMA4))["shadow"], "0x100064");
  assertEquals(await device.vmm.call("mem_read", 0x13 * PAGE + 32, 8), le64(0x7_0000_0083));
});

Deno.test("a store of a large page is refused and leaves the sub-tree live", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  assertEquals(await device.vmm.call("mem_write", 0x12 * PAGE + 24, le64(0x200083)), -22);
  const walk = await device.vmm.call("translate", mm, GMA4);
  assertEquals([walk["shadow"], walk["agrees"]], ["0x100064", false]);
  assertEquals(await device.counter("badLargePages"), 1);
  assertEquals(await device.counter("shadowTables"), 4);
  device.assertSound();
});
