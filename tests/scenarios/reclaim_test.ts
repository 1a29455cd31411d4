import { assertEquals } from "@std/assert";
import { Attached, refusal } from "./attached.ts";
import { announceTree3, announceTree4, GMA4, le64, PAGE, ROOTS3, ROOTS4, tablePage } from "./guest_pages.ts";

Deno.test("reclaim takes the shadow of the longest unused page table and the next pin rebuilds it", async () => {
  await using device = await Attached.start({ debug: true });
  const { vmm } = device;
  const old = await announceTree4(vmm);
  const recent = await announceTree3(vmm);
  assertEquals((await vmm.call("state"))["lru"], [old, recent]);

  await vmm.call("debug_inject", { kind: "alloc", n: 1 });
  await vmm.call("mem_write", 0x40 * PAGE, tablePage({}));
  const made = await vmm.call("mm_create", 4, [0x40000, 0, 0, 0]);
  const { mms, lru } = await vmm.call("state");
  assertEquals(mms, [[old, 4, 1, 0, false], [recent, 3, 1, 0, true], [made, 4, 1, 0, true]]);
  assertEquals(lru, [recent, made]);
  assertEquals(await device.counter("mmsReclaimed"), 1);
  assertEquals(await vmm.call("gma_to_gpa", old, GMA4), null); // translates nothing meanwhile
  assertEquals(await vmm.call("tree", old), { level: 4, shadowed: false, roots: [] });
  device.assertSound();

  await vmm.call("mm_pin", old);
  assertEquals(await vmm.call("gma_to_gpa", old, GMA4), 0x64000);
  assertEquals((await vmm.call("state"))["lru"], [recent, made, old]);
  device.assertSound();
});

Deno.test("reclaim follows the order of use, not of creation", async () => {
  await using device = await Attached.start({ debug: true });
  const { vmm } = device;
  const first = await announceTree4(vmm);
  const second = await announceTree3(vmm);
  await vmm.call("submit", 4, [...ROOTS4]);
  await vmm.call("debug_inject", { kind: "alloc", n: 1 });
  await vmm.call("mem_write", 0x40 * PAGE, tablePage({}));
  await vmm.call("mm_create", 4, [0x40000, 0, 0, 0]);
  const { mms } = await vmm.call("state");
  assertEquals((mms as unknown[][]).map(([id, , , , shadowed]) => [id, shadowed]).slice(0, 2), [
    [first, true],
    [second, false],
  ]);
});

Deno.test("reclaim spares what is pinned; with nothing else the create fails and leaves nothing", async () => {
  await using device = await Attached.start({ debug: true });
  const { vmm } = device;
  const mm = await announceTree4(vmm);
  await vmm.call("mm_pin", mm);
  await vmm.call("debug_inject", { kind: "alloc", n: 1 });
  assertEquals((await refusal(vmm.call("mm_create", 3, [...ROOTS3]))).code, "ENOMEM");
  assertEquals((await vmm.call("state"))["mms"], [[mm, 4, 1, 1, true]]);
  assertEquals(await vmm.call("gma_to_gpa", mm, GMA4), 0x64000);
  device.assertSound();
});

Deno.test("a page that cannot be mapped for DMA fails the create without reclaiming", async () => {
  await using device = await Attached.start({ debug: true });
  const { vmm } = device;
  const mm = await announceTree4(vmm);
  await vmm.call("debug_inject", { kind: "dma", n: 1 });
  await vmm.call("mem_write", 0x40 * PAGE, tablePage({}));
  assertEquals((await refusal(vmm.call("mm_create", 4, [0x40000, 0, 0, 0]))).code, "EINVAL");
  assertEquals((await vmm.call("state"))["mms"], [[mm, 4, 1, 0, true]]);
  device.assertSound();
});

Deno.test("a trapped store that reclaims its own tree completes and frees the tree afterwards", async () => {
  await using device = await Attached.start({ debug: true });
  const { vmm } = device;
  const mm = await announceTree4(vmm);
  await vmm.call("mem_write", 0x30 * PAGE, tablePage({ 4: 0x77003 }));
  await vmm.call("debug_inject", { kind: "alloc", n: 1 });
  assertEquals(await vmm.call("mem_write", 0x12 * PAGE + 24, le64(0x30003)), 0); // builds a table: needs a page
  assertEquals((await vmm.call("state"))["mms"], [[mm, 4, 1, 0, false]]);
  assertEquals(await device.counter("shadowTables"), 0);
  device.assertSound();

  await vmm.call("mm_pin", mm);
  assertEquals((await vmm.call("translate", mm, GMA4))["shadow"], "0x100077");
  device.assertSound();
});

Deno.test("a trapped store without memory and with its tree pinned leaves the old entry live", async () => {
  await using device = await Attached.start({ debug: true });
  const { vmm } = device;
  const mm = await announceTree4(vmm);
  await vmm.call("mm_pin", mm);
  await vmm.call("mem_write", 0x30 * PAGE, tablePage({ 4: 0x77003 }));
  await vmm.call("debug_inject", { kind: "alloc", n: 1 });
  assertEquals(await vmm.call("mem_write", 0x12 * PAGE + 24, le64(0x30003)), -12);
  assertEquals((await vmm.call("translate", mm, GMA4))["shadow"], "0x100064");
  device.assertSound();
});

Deno.test("debug methods are not there when the device was started without --debug", async () => {
  await using device = await Attached.start();
  const error = await refusal(device.vmm.call("debug_inject", { kind: "alloc", n: 1 }));
  assertEquals(error.code, "ENOSYS");
  assertEquals(error.message.includes("--debug"), true);
});
