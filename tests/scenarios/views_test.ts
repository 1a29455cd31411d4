import { assertEquals } from "@std/assert";
import type { Client } from "../../protocol/client.ts";
import { REGISTERS } from "../../src/vgpu/registers.ts";
import { Attached, refusal } from "./attached.ts";
import {
  announceTree3,
  announceTree4,
  GMA3_SLOT0,
  GMA3_SLOT2,
  GMA4,
  le32,
  le64,
  PAGE,
  ROOTS4,
  tablePage,
  uniformPage,
  writePages,
} from "./guest_pages.ts";

/** A step of a walk without the frame of its table, which in a shadow is the device's own affair. */
function withoutFrame(steps: unknown): unknown[] {
  return (steps as Record<string, unknown>[]).map(({ table, index }) => [table, index]);
}

Deno.test("tree tells every entry of a 4-level shadow", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  const pte = { t: "PTE", g: 0x13, r: 1, e: [[4, "0x83", "0x100064"], [5, "0x1", "0x100065"]] };
  const pde = { t: "PDE", g: 0x12, r: 1, e: [[3, "0x3", pte]] };
  const pdp = { t: "PDP", g: 0x11, r: 1, e: [[2, "0x3", pde]] };
  const pml4 = { t: "PML4", g: 0x10, r: 1, e: [[1, "0x3", pdp]] };
  assertEquals(await device.vmm.call("tree", mm), { level: 4, shadowed: true, roots: [[0, "0x0", pml4]] });
});

Deno.test("tree tells every entry of a 3-level shadow", async () => {
  await using device = await Attached.start();
  const mm = await announceTree3(device.vmm);
  const slot0 = { t: "PTE", g: 0x22, r: 1, e: [[4, "0x3", "0x100066"]] };
  const slot2 = { t: "PTE", g: 0x25, r: 1, e: [[511, "0x3", "0x100067"]] };
  assertEquals(await device.vmm.call("tree", mm), {
    level: 3,
    shadowed: true,
    roots: [
      [0, "0x1", { t: "PDE", g: 0x21, r: 1, e: [[3, "0x3", slot0]] }],
      [2, "0x1", { t: "PDE", g: 0x24, r: 1, e: [[0, "0x3", slot2]] }],
    ],
  });
});

Deno.test("tree names a shared table once and counts its references", async () => {
  await using device = await Attached.start();
  await writePages(device.vmm, {
    0x10: uniformPage(0x11003),
    0x11: uniformPage(0x12003),
    0x12: uniformPage(0x13003),
    0x13: uniformPage(0x64019),
  });
  const mm = await device.vmm.call("mm_create", 4, [...ROOTS4]);
  const tree = await device.vmm.call("tree", mm);
  const [[, , pml4]] = tree["roots"] as [
    [number, string, { e: [number, string, Record<string, unknown>][] }],
  ];
  assertEquals(pml4.e.length, 512);
  assertEquals(pml4.e[0]![2]["r"], 512);
  assertEquals(pml4.e.slice(1).every(([, , child]) => child["seen"] === 0x11), true);
  assertEquals(await device.counter("shadowTables"), 4);
  assertEquals(await device.vmm.call("gma_to_gpa", mm, 0xffff_ffff_fabcn), 0x64abc);
  device.assertSound();
});

Deno.test("tree refuses what does not fit a message", async () => {
  await using device = await Attached.start();
  const leaf = uniformPage(0x64003);
  const directory = tablePage(
    Object.fromEntries(Array.from({ length: 200 }, (_, i) => [i, (0x100 + i) * PAGE + 3])),
  );
  await writePages(device.vmm, { 0x21: directory });
  for (let i = 0; i < 200; i++) await device.vmm.call("mem_write", (0x100 + i) * PAGE, leaf);
  const mm = await device.vmm.call("mm_create", 3, [0x21001, 0, 0, 0]);
  assertEquals((await refusal(device.vmm.call("tree", mm))).code, "E2BIG");
  assertEquals(await device.vmm.call("gma_to_gpa", mm, 0), 0x64000);
});

Deno.test("translate tells both walks of a 4-level address, step by step", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  const walk = await device.vmm.call("translate", mm, GMA4 + 0x123);
  assertEquals([walk["guest"], walk["shadow"], walk["agrees"]], [0x64123, "0x100064", true]);
  assertEquals(walk["guestSteps"], [
    { table: "PML4", frame: "0x10", index: 1, entry: "0x11003" },
    { table: "PDP", frame: "0x11", index: 2, entry: "0x12003" },
    { table: "PDE", frame: "0x12", index: 3, entry: "0x13003" },
    { table: "PTE", frame: "0x13", index: 4, entry: "0x64083" },
  ]);
  assertEquals(withoutFrame(walk["shadowSteps"]), [["PML4", 1], ["PDP", 2], ["PDE", 3], ["PTE", 4]]);
  assertEquals((walk["shadowSteps"] as { entry: string }[])[3]!.entry, "0x100064083");
});

Deno.test("translate tells both walks of a 3-level address", async () => {
  await using device = await Attached.start();
  const mm = await announceTree3(device.vmm);
  const walk = await device.vmm.call("translate", mm, GMA3_SLOT2 + 8);
  assertEquals([walk["guest"], walk["shadow"], walk["agrees"]], [0x67008, "0x100067", true]);
  assertEquals(walk["guestSteps"], [
    { table: "PDE", frame: "0x24", index: 0, entry: "0x25003" },
    { table: "PTE", frame: "0x25", index: 511, entry: "0x67003" },
  ]);
  // Address bits above 31 mean nothing to a 3-level table.
  assertEquals(await device.vmm.call("gma_to_gpa", mm, 0xabcd_0000_0000_0000n + BigInt(GMA3_SLOT0)), 0x66000);
  assertEquals((await device.vmm.call("translate", mm, 0x1_0000_0000 + GMA3_SLOT0))["guest"], 0x66000);
});

Deno.test("translate and gma_to_gpa agree that nothing is mapped, at every level", async () => {
  await using device = await Attached.start();
  const mm = await announceTree4(device.vmm);
  const depths: readonly (readonly [gma: number, steps: number])[] = [
    [0, 1], // PML4 [0]
    [0x80_0000_0000, 2], // PDP [0]
    [0x80_8000_0000, 3], // PDE [0]
    [0x80_8060_0000, 4], // PTE [0]
  ];
  for (const [gma, steps] of depths) {
    const walk = await device.vmm.call("translate", mm, gma);
    assertEquals([walk["guest"], walk["shadow"], walk["agrees"]], [null, null, true]);
    assertEquals((walk["guestSteps"] as unknown[]).length, steps);
    assertEquals(await device.vmm.call("gma_to_gpa", mm, gma), null);
  }
});

Deno.test("translate tells when the shadow is stale", async () => {
  await using device = await Attached.start({ debug: true });
  const mm = await announceTree4(device.vmm);
  await device.vmm.call("debug_poke", 0x13 * PAGE + 32, le64(0x70083));
  const walk = await device.vmm.call("translate", mm, GMA4);
  assertEquals([walk["guest"], walk["shadow"], walk["agrees"]], [0x70000, "0x100064", false]);
});

Deno.test("translate tells what the guest's memory does not let it read", async () => {
  await using device = await Attached.start({ debug: true });
  const mm = await announceTree4(device.vmm);
  await device.vmm.call("debug_inject", { kind: "read", gfn: 0x13, on: true });
  const { guest, guestSteps } = await device.vmm.call("translate", mm, GMA4);
  assertEquals(guest, null);
  assertEquals((guestSteps as unknown[]).at(-1), {
    table: "PTE",
    frame: "0x13",
    index: 4,
    entry: "unreadable",
  });
  assertEquals(await device.vmm.call("gma_to_gpa", mm, GMA4), null);
});

Deno.test("translate and gma_to_gpa of the GGTT keep to the windows", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  const nothing = { guest: null, shadow: null, agrees: true, guestSteps: [], shadowSteps: [] };
  assertEquals(await vmm.call("translate", "ggtt", 0x3fff000), nothing);
  assertEquals(await vmm.call("gma_to_gpa", "ggtt", 0x3ffffff), null);
  assertEquals(await vmm.call("gma_to_gpa", "ggtt", 0x4000abc), 0xabc); // empty, presence is not asked
  assertEquals(await vmm.call("gma_to_gpa", "ggtt", 0x8000000), null);
  assertEquals(await vmm.call("gma_to_gpa", "ggtt", 0x1_0400_0000), null);
  assertEquals(await vmm.call("gma_to_gpa", "ggtt", 0xffff_ffff_ffff_ffffn), null);
  assertEquals((await refusal(vmm.call("translate", "ggtt", 0x1_0400_0000))).code, "EINVAL");
});

Deno.test("state tells every list", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  const first = await announceTree4(vmm);
  const second = await announceTree3(vmm);
  await vmm.call("mm_pin", first);
  await vmm.call("mem_write", 0x22 * PAGE + 32, le32(0));
  assertEquals(await vmm.call("state"), {
    spts: [
      [0x10, "PML4", 1, true, 0],
      [0x11, "PDP", 1, true, 0],
      [0x12, "PDE", 1, true, 0],
      [0x13, "PTE", 1, true, 0],
      [0x21, "PDE", 1, true, 0],
      [0x22, "PTE", 1, true, 0],
      [0x24, "PDE", 1, true, 0],
      [0x25, "PTE", 1, true, 0],
    ],
    oos: [],
    oosUse: [],
    post: [[0x22, [4]]],
    postStray: [],
    mms: [[first, 4, 1, 1, true], [second, 3, 1, 0, true]],
    lru: [second, first],
    nspt: 8,
    failsafe: false,
    tracking: "trapped",
    interrupts: { master: 0, pending: false, msi: false, intx: false, banks: [] },
  });
});

Deno.test("stats count what happened", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  const before = await vmm.call("stats");
  await announceTree4(vmm);
  await vmm.call("mem_write", 0x13 * PAGE + 32, le64(0x70003));
  await vmm.call("mmio_read", 0, 0x820000, 8);
  await vmm.call("mmio_write", 0, 0x820000, 8, 1);
  await vmm.call("mmio_read", 2, 0, 1);
  await vmm.call("mmio_write", 2, 0, 1, 0);
  await vmm.call("mmio_read", 7, 0, 1);
  await vmm.call("mmio_write", 7, 0, 1, 0);
  await vmm.call("reset_gtt");
  const after = await vmm.call("stats");
  const grown = Object.entries(after).filter(([name, count]) => count !== before[name]).map((
    [name, count],
  ) => [
    name,
    count - before[name]!,
  ]);
  assertEquals(Object.fromEntries(grown), {
    bar0Reads: 1,
    bar0Writes: 1,
    apertureReads: 1,
    apertureWrites: 1,
    configReads: 1,
    configWrites: 1,
    badApertureAccesses: 2,
    ggttReads: 1,
    ggttWrites: 1,
    ggttFlushes: 2,
    mmsCreated: 1,
    tablesBuilt: 4,
    tablesFreed: 4,
    trappedStores: 1,
    resets: 1,
  });
});

/** A row of the answer to `registers`. */
interface Row {
  readonly name: string;
  readonly values: readonly (readonly [offset: number, value: number, engine?: string])[];
}

async function rowsOf(client: Client): Promise<Map<string, Row>> {
  const { rows } = await client.call("registers");
  return new Map((rows as Row[]).map((row) => [row.name, row]));
}

Deno.test("registers tells an observer every named register with its value", async () => {
  await using device = await Attached.start();
  await device.vmm.call("mmio_write", 0, 0x12080, 4, 0x0400_0000); // the video engine's status page
  const rows = await rowsOf(await device.connect("observer"));
  assertEquals(rows.size, REGISTERS.rows.length);
  assertEquals(rows.get("RING_HWS_PGA"), {
    name: "RING_HWS_PGA",
    at: "B+0x80",
    access: "rw",
    reset: "0x0",
    writable: "",
    commands: "none",
    note: REGISTERS.at(0x12080)!.note,
    values: [[0x2080, 0, "rcs0"], [0x22080, 0, "bcs0"], [0x12080, 0x0400_0000, "vcs0"], [
      0x1a080,
      0,
      "vecs0",
    ]],
  } as Row);
  assertEquals(rows.get("DFSM")!.values, [[0x51000, 0x5020_0000]]);
});

Deno.test("registers tells a live register's value of now, and changes none", async () => {
  let now = 1000;
  await using device = await Attached.start({ device: { clock: () => now } });
  const ticks = async () => (await rowsOf(device.vmm)).get("RING_TIMESTAMP")!.values[0]![1];
  assertEquals(await ticks(), 12_000_000);
  now = 2000;
  assertEquals(await ticks(), 24_000_000);
  assertEquals(device.service.served.device.vgpu.registers.get(0x2358), 0); // what the guest read last: nothing
});
