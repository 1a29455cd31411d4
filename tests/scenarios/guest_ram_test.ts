import { assertEquals, assertStringIncludes } from "@std/assert";
import type { Client } from "../../protocol/client.ts";
import { loadLibc } from "../../src/platform/libc.ts";
import { Attached, refusal } from "./attached.ts";
import { announceTree4, GMA4, le64, PAGE, ROOTS4, tablePage, TREE4, writePages } from "./guest_pages.ts";
import { Lines } from "./lines.ts";

loadLibc(); // here and not in the first test that maps a file, which would seem to leak it

/** What the shadow of an address leads to. */
async function shadow(vmm: Client, mm: number, gma: number): Promise<unknown> {
  return (await vmm.call("translate", mm, gma))["shadow"];
}

Deno.test("ram_map adds zeroed local RAM with host frames from 0x100000 on", async () => {
  await using device = await Attached.start({ ram: 0 });
  assertEquals(await device.vmm.call("ram_map", { gpa: 0x2000, size: 0x2000 }), {
    kind: "local",
    mfn: 0x100002,
  });
  assertEquals(await device.vmm.call("mem_read", 0x2000, 0x2000), new Uint8Array(0x2000));
  assertEquals(await device.counter("ramRegions"), 1);
});

Deno.test("ram_map takes the host frames that the VMM gives", async () => {
  await using device = await Attached.start({ ram: 0 });
  assertEquals(await device.vmm.call("ram_map", { gpa: 0, size: 0x100000, mfn: 0x500000 }), {
    kind: "local",
    mfn: 0x500000,
  });
  const mm = await announceTree4(device.vmm);
  assertEquals(await shadow(device.vmm, mm, GMA4), "0x500064");
});

Deno.test("ram_map shares a file both ways", async () => {
  await using device = await Attached.start({ ram: 0 });
  const path = `${device.folder}/ram`;
  await Deno.writeFile(path, new Uint8Array(0x4000));
  const { kind } = await device.vmm.call("ram_map", { gpa: 0x10000, size: 0x2000, path, offset: 0x1000 });
  assertEquals(kind, "file");

  await device.vmm.call("mem_write", 0x10ffc, le64(0x1122334455667788n));
  assertEquals((await Deno.readFile(path)).subarray(0x1ffc, 0x2004), le64(0x1122334455667788n));
  using file = await Deno.open(path, { write: true });
  await file.seek(0x1010, Deno.SeekMode.Start);
  await file.write(le64(0x55));
  assertEquals(await device.vmm.call("mem_read", 0x10010, 8), le64(0x55));
});

Deno.test("ram_map walks the guest's tables in a shared file", async () => {
  await using device = await Attached.start({ ram: 0 });
  const path = `${device.folder}/ram`;
  const image = new Uint8Array(0x80000);
  for (const [gfn, page] of Object.entries(TREE4)) image.set(page, Number(gfn) * PAGE);
  await Deno.writeFile(path, image);
  await device.vmm.call("ram_map", { gpa: 0, size: 0x80000, path });

  const mm = await device.vmm.call("mm_create", 4, [...ROOTS4]);
  assertEquals(await shadow(device.vmm, mm, GMA4), "0x100064");
  device.assertSound();
});

Deno.test("ram_map refuses a file that is too short, naming the sizes", async () => {
  await using device = await Attached.start({ ram: 0 });
  const path = `${device.folder}/short`;
  await Deno.writeFile(path, new Uint8Array(4096));
  const error = await refusal(device.vmm.call("ram_map", { gpa: 0x1000, size: 0x2000, path }));
  assertEquals(error.code, "EINVAL");
  assertStringIncludes(error.message, "Cannot map RAM at 0x1000: file is 4096 bytes: need 8192");
  assertEquals(await device.counter("ramRegions"), 0);
});

Deno.test("ram_map refuses what is not there or no file, and the session lives", async () => {
  await using device = await Attached.start({ ram: 0 });
  const map = (path: string) => device.vmm.call("ram_map", { gpa: 0, size: PAGE, path });
  assertEquals((await refusal(map(`${device.folder}/none`))).code, "ENOENT");
  assertEquals((await refusal(map(device.folder))).code, "EINVAL");
  assertEquals((await refusal(map(device.path))).code, "EINVAL"); // the device's own socket
  assertEquals((await refusal(map("relative"))).code, "EINVAL");
  assertEquals((await refusal(map(""))).code, "EINVAL");
  assertEquals(await device.counter("ramRegions"), 0);
});

Deno.test("ram_map refuses regions that overlap, in guest or host frames", async () => {
  await using device = await Attached.start({ ram: 0 });
  await device.vmm.call("ram_map", { gpa: 0x10000, size: 0x4000 });
  for (
    const [gpa, size] of [[0x10000, 0x4000], [0xf000, 0x2000], [0x13000, 0x1000], [0, 0x100000]] as const
  ) {
    assertEquals((await refusal(device.vmm.call("ram_map", { gpa, size }))).code, "EEXIST");
  }
  assertEquals(
    (await refusal(device.vmm.call("ram_map", { gpa: 0x80000, size: PAGE, mfn: 0x100013 }))).code,
    "EEXIST",
  );
  await device.vmm.call("ram_map", { gpa: 0x14000, size: PAGE });
  await device.vmm.call("ram_map", { gpa: 0xf000, size: PAGE });
  assertEquals(await device.counter("ramRegions"), 3);
});

Deno.test("ram_map refuses regions that are not of whole pages or beyond 46 bits", async () => {
  await using device = await Attached.start({ ram: 0 });
  const wrong = [
    { gpa: 1, size: PAGE },
    { gpa: 0, size: 100 },
    { gpa: 0, size: 0 },
    { gpa: 2 ** 46, size: PAGE },
    { gpa: 2 ** 46 - PAGE, size: 2 * PAGE },
    { gpa: 0, size: PAGE, offset: PAGE }, // an offset into no file
  ];
  for (const ram of wrong) assertEquals((await refusal(device.vmm.call("ram_map", ram))).code, "EINVAL");
  // The last page there is, with host frames of its own, is fine.
  await device.vmm.call("ram_map", { gpa: 2 ** 46 - PAGE, size: PAGE, mfn: 5 });
});

Deno.test("ram_unmap takes exactly what was mapped", async () => {
  await using device = await Attached.start({ ram: 0 });
  await device.vmm.call("ram_map", { gpa: 0x10000, size: 0x4000 });
  for (const [gpa, size] of [[0x10000, 0x2000], [0x11000, 0x3000], [0x20000, 0x4000]] as const) {
    assertEquals((await refusal(device.vmm.call("ram_unmap", { gpa, size }))).code, "ENOENT");
  }
  await device.vmm.call("ram_unmap", { gpa: 0x10000, size: 0x4000 });
  assertEquals((await refusal(device.vmm.call("ram_unmap", { gpa: 0x10000, size: 0x4000 }))).code, "ENOENT");
  assertEquals((await refusal(device.vmm.call("mem_read", 0x10000, 1))).code, "EFAULT");
});

Deno.test("mem_read and mem_write cross regions that touch and refuse what is not all RAM", async () => {
  await using device = await Attached.start({ ram: 0 });
  await device.vmm.call("ram_map", { gpa: 0, size: PAGE });
  await device.vmm.call("ram_map", { gpa: PAGE, size: PAGE, mfn: 0x700000 });
  await device.vmm.call("mem_write", PAGE - 3, new Uint8Array([1, 2, 3, 4, 5, 6]));
  assertEquals(await device.vmm.call("mem_read", PAGE - 4, 8), new Uint8Array([0, 1, 2, 3, 4, 5, 6, 0]));

  assertEquals(
    (await refusal(device.vmm.call("mem_write", 2 * PAGE - 2, new Uint8Array(4).fill(9)))).code,
    "EFAULT",
  );
  assertEquals(await device.vmm.call("mem_read", 2 * PAGE - 2, 2), new Uint8Array(2)); // none of it was written
  assertEquals((await refusal(device.vmm.call("mem_read", 2 * PAGE - 2, 4))).code, "EFAULT");
  assertEquals((await refusal(device.vmm.call("mem_read", 2 ** 51, 4))).code, "EFAULT");
  assertEquals(await device.vmm.call("mem_read", 0, 0), new Uint8Array(0));
});

Deno.test("mem_write refuses read-only RAM, mem_read does not", async () => {
  await using device = await Attached.start({ ram: 0 });
  const path = `${device.folder}/rom`;
  await Deno.writeFile(path, tablePage({ 0: 0x77 }));
  await device.vmm.call("ram_map", { gpa: 0, size: PAGE, path, readonly: true });
  assertEquals((await refusal(device.vmm.call("mem_write", 0, le64(1)))).code, "EFAULT");
  assertEquals(await device.vmm.call("mem_read", 0, 8), le64(0x77));
});

Deno.test("mem_write moves 2 MiB at once and refuses more", async () => {
  await using device = await Attached.start();
  const bytes = new Uint8Array(0x200000).map((_, i) => i % 251);
  await device.vmm.call("mem_write", 0x100000, bytes);
  assertEquals(await device.vmm.call("mem_read", 0x100000, 0x200000), bytes);
  assertEquals((await refusal(device.vmm.call("mem_read", 0, 0x200001))).code, "EINVAL");
});

Deno.test("mem_write of a whole protected table page keeps the shadow right", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  const leaves = Array.from({ length: 512 }, (_, i) => (0x100 + i) * PAGE + 3);
  assertEquals(await device.vmm.call("mem_write", 0x13 * PAGE, le64(...leaves)), 0);
  for (const index of [0, 4, 5, 255, 511]) {
    const gma = GMA4 - 4 * PAGE + index * PAGE;
    assertEquals(await shadow(device.vmm, mm, gma), `0x100${(0x100 + index).toString(16)}`);
  }
  device.assertSound();
});

Deno.test("mem_write over several table pages at once keeps every shadow right", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  // PDE [3] now leads to a table in frame 0x14, which is written by the same store, as is the old table 0x13.
  const bytes = new Uint8Array(3 * PAGE);
  bytes.set(tablePage({ 3: 0x14003 }), 0);
  bytes.set(tablePage({ 4: 0x70003 }), PAGE);
  bytes.set(tablePage({ 4: 0x71003 }), 2 * PAGE);
  assertEquals(await device.vmm.call("mem_write", 0x12 * PAGE, bytes), 0);
  assertEquals(await shadow(device.vmm, mm, GMA4), "0x100071");
  device.assertSound();
});

Deno.test("mem_write that begins and ends inside entries keeps the shadow right", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  // 20 bytes from the middle of entry 3 to the end of entry 5.
  const bytes = new Uint8Array(20);
  bytes.set(le64(0x72003, 0x73003), 4);
  assertEquals(await device.vmm.call("mem_write", 0x13 * PAGE + 28, bytes), 0);
  assertEquals(await shadow(device.vmm, mm, GMA4), "0x100072");
  assertEquals(await shadow(device.vmm, mm, GMA4 + PAGE), "0x100073");
  device.assertSound();
});

Deno.test("mem_write that crosses from a table page into the next handles both", async () => {
  await using device = await Attached.start();
  await writePages(device.vmm, {
    0x10: tablePage({ 0: 0x11003, 511: 0x11003 }),
    0x11: tablePage({ 0: 0x12003 }),
  });
  const mm = await device.vmm.call("mm_create", 4, [...ROOTS4]);
  // The last entry of the PML4 goes, the first of the PDP gets another table.
  assertEquals(await device.vmm.call("mem_write", 0x11 * PAGE - 8, le64(0, 0x30003)), 0);
  assertEquals((await device.vmm.call("state"))["spts"], [
    [0x10, "PML4", 1, true, 0],
    [0x11, "PDP", 1, true, 0],
    [0x30, "PDE", 1, true, 0],
  ]);
  assertEquals(await device.vmm.call("gma_to_gpa", mm, 0), null);
  device.assertSound();
});

for (const size of [1, 2, 3, 5, 6, 7, 9, 12, 15, 16]) {
  Deno.test(`mem_write answers -22 for a store of ${size} bytes into a table page; the RAM has it`, async () => {
    await using device = await Attached.start();
    const mm = await announceTree4(device.vmm);
    const bytes = new Uint8Array(size).fill(0xff);
    assertEquals(await device.vmm.call("mem_write", 0x13 * PAGE + 64, bytes), -22);
    assertEquals(await device.vmm.call("mem_read", 0x13 * PAGE + 64, size), bytes);
    assertEquals(await shadow(device.vmm, mm, GMA4), "0x100064");
    assertEquals(await device.counter("badTrappedStores"), 1);
    device.assertSound();
  });
}

Deno.test("mem_write of no bytes changes nothing", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  assertEquals(await device.vmm.call("mem_write", 0x3ff000, new Uint8Array(0)), 0);
  assertEquals(await device.vmm.call("mem_write", 0x13 * PAGE + 32, new Uint8Array(0)), 0);
  assertEquals(await shadow(device.vmm, mm, GMA4), "0x100064");
  device.assertSound();
});

Deno.test("ram_unmap under a shadow leaves nothing of it reachable and the engine sound", async () => {
  await using device = await Attached.start({ ram: 0x60000 });
  await device.vmm.call("ram_map", { gpa: 0x60000, size: 0x10000 });
  const mm = await announceTree4(device.vmm);
  assertEquals(await shadow(device.vmm, mm, GMA4), "0x100064");

  await device.vmm.call("ram_unmap", { gpa: 0x60000, size: 0x10000 });
  device.assertSound();
  // The frame is no RAM: whatever the shadow says, it is not that frame's old memory.
  await device.vmm.call("ram_map", { gpa: 0x800000, size: 0x10000, mfn: 0x100060 });
  device.assertSound();
  assertEquals([null, "S", "sPTE"].includes(await shadow(device.vmm, mm, GMA4) as string), true);
});

Deno.test("ram_unmap of the table pages leaves the engine sound; a submit after mapping again works", async () => {
  await using device = await Attached.start({ ram: 0 });
  await device.vmm.call("ram_map", { gpa: 0x10000, size: 0x10000 });
  await device.vmm.call("ram_map", { gpa: 0x60000, size: 0x10000 });
  const mm = await announceTree4(device.vmm);
  await device.vmm.call("ram_unmap", { gpa: 0x10000, size: 0x10000 });
  device.assertSound();
  assertEquals(await device.vmm.call("gma_to_gpa", mm, GMA4), null);

  await device.vmm.call("mm_destroy", mm);
  device.assertSound();
  await device.vmm.call("ram_map", { gpa: 0x10000, size: 0x10000 });
  const again = await announceTree4(device.vmm);
  assertEquals(await shadow(device.vmm, again, GMA4), "0x100064");
  device.assertSound();
});

/** Makes a memfd that cannot shrink, as QEMU's, says its path, and shows 8 bytes at 0x1000 for each line it is given. */
const MEMFD = `
import fcntl, os, sys
fd = os.memfd_create("ram", os.MFD_ALLOW_SEALING)
os.ftruncate(fd, 0x4000)
fcntl.fcntl(fd, 1033, 2)  # F_ADD_SEALS, F_SEAL_SHRINK
print(f"/proc/{os.getpid()}/fd/{fd}", flush=True)
for _ in sys.stdin:
    print(os.pread(fd, 8, 0x1000).hex(), flush=True)
`;

Deno.test("ram_map maps another process's memfd", async () => {
  await using device = await Attached.start({ ram: 0 });
  const python = new Deno.Command("python3", { args: ["-c", MEMFD], stdin: "piped", stdout: "piped" })
    .spawn();
  await using lines = new Lines(python.stdout);
  const input = python.stdin.getWriter();
  try {
    const path = await lines.next() ?? "";
    assertEquals(await device.vmm.call("ram_map", { gpa: 0, size: 0x4000, path }), {
      kind: "mapped",
      mfn: 0x100000,
    });
    await device.vmm.call("mem_write", 0x1000, new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]));
    await input.write(new TextEncoder().encode("\n"));
    assertEquals(await lines.next(), "0102030405060708");
    await device.vmm.call("ram_unmap", { gpa: 0, size: 0x4000 });
  } finally {
    await input.close();
    await python.status;
  }
});

Deno.test("ram_map of an unrelated page leaves a half store waiting for the flush", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  const mm = await announceTree4(vmm);
  await vmm.call("mem_write", 0x13 * PAGE + 4 * 8, le64(0x70083).subarray(0, 4));
  await vmm.call("ram_map", { gpa: 0x10000000, size: PAGE });
  assertEquals([await shadow(vmm, mm, GMA4), (await vmm.call("state"))["post"]], ["sPTE", [[0x13, [4]]]]);
  await vmm.call("flush_post_shadow");
  assertEquals(await shadow(vmm, mm, GMA4), "0x100070");
  device.assertSound();
});

Deno.test("ram_map of an unrelated page leaves a tree shadowed that could not be built anew", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  const mm = await announceTree4(vmm);
  assertEquals(await vmm.call("mem_write", 0x12 * PAGE + 5 * 8, le64(0x200083)), -22); // a large page, refused
  await vmm.call("ram_map", { gpa: 0x10000000, size: PAGE });
  assertEquals(await shadow(vmm, mm, GMA4), "0x100064");
  device.assertSound();
});

Deno.test("ram_map gives a waiting leaf its frame only with the flags that the guest gave it", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  await writePages(vmm, { ...TREE4, 0x13: tablePage({ 4: 0x10000083, 5: 0x10001083 }) }); // no RAM there yet
  const mm = await vmm.call("mm_create", 4, ROOTS4);
  // Read-only now, but refused, for the frame is still no RAM: the shadow keeps the writable entry on scratch.
  assertEquals(await vmm.call("mem_write", 0x13 * PAGE + 5 * 8, le64(0x10001001)), -6);
  await vmm.call("ram_map", { gpa: 0x10000000, size: 2 * PAGE });
  assertEquals([await shadow(vmm, mm, GMA4), await shadow(vmm, mm, GMA4 + PAGE)], ["0x110000", "S"]);
  await vmm.call("mem_write", 0x13 * PAGE + 5 * 8, le64(0x10001001)); // the guest's rewrite repairs it
  assertEquals(await shadow(vmm, mm, GMA4 + PAGE), "0x110001");
  device.assertSound();
});
