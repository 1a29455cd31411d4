import { assert, assertEquals, assertMatch } from "@std/assert";
import { Client } from "../../protocol/client.ts";
import type { VgpuGtt } from "../../src/gtt/vgpu_gtt.ts";
import {
  type CheckResult,
  checkTranslations,
  type GuestKnowledge,
  MAX_PROBLEMS,
} from "../../src/inspect/check.ts";
import { DeviceService } from "../../src/server/device_service.ts";
import {
  announceTree3,
  announceTree4,
  le32,
  PAGE,
  ROOTS4,
  TREE4,
  uniformPage,
  writePages,
} from "../scenarios/guest_pages.ts";
import { sessionStream } from "../session_stream.ts";

/** Guest RAM is frames 0 to 0x3ff, at host frames 0x100000 and up; the guest stored two GGTT entries. */
const GUEST: GuestKnowledge = {
  mfnOf: (gfn) => gfn < 0x400 ? gfn + 0x100000 : -1,
  ggtt: new Map([[0x4000, [0x64001, 0]], [0x4001, [0x70000, 0]]]),
};

/** Builds both trees and the GGTT, lets `spoil` change the engine's inside, and checks. */
async function check(spoil: (gtt: VgpuGtt, ggtt: Uint32Array) => void = () => {}): Promise<CheckResult> {
  const service = new DeviceService({});
  await using client = await Client.open(sessionStream(service), { role: "vmm" });
  await client.call("ram_map", { gpa: 0, size: 0x400000 });
  await announceTree4(client);
  await announceTree3(client);
  await client.call("mmio_write_many", 0, [[0x820000, 8, 0x64001], [0x820008, 8, 0x70000]]);
  const { vgpu, host } = service.served.device;
  spoil(vgpu.gtt, host.ggtt.lanes);
  return await checkTranslations(client, GUEST);
}

/** The shadow of a guest page's table, and the first lane of one of its entries. */
function shadowTable(gtt: VgpuGtt, gfn: number) {
  return [...gtt.parts.tables.all()].find((table) => table.gfn === gfn)!;
}

Deno.test("checkTranslations() compares every entry of every table, and walks every leaf", async () => {
  assertEquals(await check(), {
    spaces: 2,
    tables: 4 + 4,
    entries: 8 * 512,
    walks: 2 + 2,
    ggttEntries: 1, // the other is not present
    problems: [],
    wrong: 0,
  });
});

Deno.test("checkTranslations() compares a shared table once", async () => {
  const service = new DeviceService({});
  await using client = await Client.open(sessionStream(service), { role: "vmm" });
  await client.call("ram_map", { gpa: 0, size: 0x400000 });
  const gfns = [0x10, 0x11, 0x12] as const;
  await writePages(client, Object.fromEntries(gfns.map((gfn) => [gfn, uniformPage((gfn + 1) * PAGE + 3)])));
  await writePages(client, { 0x13: uniformPage(0x64003) });
  await client.call("mm_create", 4, [...ROOTS4]);
  await client.call("mm_create", 4, [...ROOTS4]);
  const { spaces, tables, walks, wrong } = await checkTranslations(client, { ...GUEST, ggtt: new Map() });
  assertEquals([spaces, tables, walks, wrong], [2, 4, 512, 0]);
});

Deno.test("checkTranslations() finds a leaf that leads to the wrong frame, by table and by walk", async () => {
  const { wrong, problems } = await check((gtt) => shadowTable(gtt, 0x13).lanes[2 * 4] = 0x00065083);
  assertEquals(wrong, 2);
  assertMatch(problems[0]!, /^PTE table of gfn 0x13, entry 4: guest says 0x100064, shadow says "0x100065"/);
  assertMatch(problems[1]!, /^mm 0, gma 0x80806042a8, shadow: guest says 0x100064/);
});

Deno.test("checkTranslations() finds wrong flags", async () => {
  const { wrong, problems } = await check((gtt) => shadowTable(gtt, 0x13).lanes[2 * 4]! ^= 0x2);
  assertEquals(wrong, 1);
  assertMatch(problems[0]!, /^PTE table of gfn 0x13, entry 4, flags: guest says 0x83, shadow says "0x81"/);
});

Deno.test("checkTranslations() finds a high flag that was lost", async () => {
  const { wrong } = await check((gtt) => shadowTable(gtt, 0x13).lanes[2 * 4 + 1]! |= 0x80000000);
  assert(wrong > 0);
});

Deno.test("checkTranslations() finds an entry that the shadow lacks", async () => {
  const { wrong, problems } = await check((gtt) => shadowTable(gtt, 0x13).lanes.fill(0, 8, 10));
  assert(wrong > 0);
  assertMatch(problems[0]!, /entry 4: the guest maps it, the shadow does not/);
});

Deno.test("checkTranslations() finds an entry that only the shadow has", async () => {
  const { wrong, problems } = await check((gtt) => shadowTable(gtt, 0x13).store(9, 0x64003, 1));
  assertEquals(wrong, 1);
  assertMatch(problems[0]!, /PTE table of gfn 0x13, entry 9: guest says sPTE, shadow says "0x100064"/);
});

Deno.test("checkTranslations() finds a directory entry that leads to another table", async () => {
  const { wrong, problems } = await check((gtt) => {
    const [pde, other] = [shadowTable(gtt, 0x12), shadowTable(gtt, 0x22)];
    const mfn = other.page.mfn;
    pde.store(3, ((mfn & 0xfffff) << 12 | 3) >>> 0, Math.floor(mfn / 2 ** 20));
  });
  assert(wrong > 0);
  assertMatch(problems[0]!, /PDE table of gfn 0x12, entry 3, table: guest says 19, shadow says 34/);
});

Deno.test("checkTranslations() finds a directory entry that leads nowhere", async () => {
  const { wrong } = await check((gtt) => shadowTable(gtt, 0x11).lanes.fill(0));
  assert(wrong > 0);
});

Deno.test("checkTranslations() finds a wrong GGTT entry", async () => {
  const { wrong, problems } = await check((_gtt, ggtt) => ggtt[2 * 0x4000] = 0x99001);
  assertEquals(wrong, 1);
  assertMatch(problems[0]!, /^GGTT entry 16384, shadow: guest says 0x100064/);
});

Deno.test("checkTranslations() finds a GGTT entry that the device never took", async () => {
  const { wrong } = await check((gtt) => gtt.parts.ggtt.entries.fill(0));
  assert(wrong > 0);
});

Deno.test("checkTranslations() finds a shadow that is stale because a half store waits", async () => {
  const service = new DeviceService({});
  await using client = await Client.open(sessionStream(service), { role: "vmm" });
  await client.call("ram_map", { gpa: 0, size: 0x400000 });
  await announceTree4(client);
  await client.call("mem_write", 0x13 * PAGE + 32, le32(0x70083));
  assert((await checkTranslations(client, { ...GUEST, ggtt: new Map() })).wrong > 0);
  await client.call("flush_post_shadow");
  assertEquals((await checkTranslations(client, { ...GUEST, ggtt: new Map() })).wrong, 0);
});

Deno.test("checkTranslations() knows that a frame outside RAM leads to scratch", async () => {
  const service = new DeviceService({});
  await using client = await Client.open(sessionStream(service), { role: "vmm" });
  await client.call("ram_map", { gpa: 0, size: 0x400000 });
  await writePages(client, { ...TREE4, 0x13: uniformPage(0x400003) });
  await client.call("mm_create", 4, [...ROOTS4]);
  assertEquals((await checkTranslations(client, { ...GUEST, ggtt: new Map() })).wrong, 0);
});

Deno.test("checkTranslations() counts every wrong entry but tells only the first", async () => {
  const { wrong, problems } = await check((gtt) => {
    for (let i = 0; i < 512; i++) shadowTable(gtt, 0x13).store(i, 0x64003, 1);
  });
  assert(wrong >= 510);
  assertEquals(problems.length, MAX_PROBLEMS);
});
