import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { announceTree4, le64, PAGE, ROOTS4, TREE4 } from "./guest_pages.ts";
import { Inspected, type Json } from "./inspected.ts";
import type { DeviceProcess } from "./process.ts";

/** The next line as JSON. */
async function nextJson({ stdout }: DeviceProcess): Promise<Json> {
  return JSON.parse((await stdout.next())!);
}

/** The next line as JSON for which `is` holds. */
async function findJson({ stdout }: DeviceProcess, is: (value: Json) => boolean): Promise<Json> {
  return JSON.parse(await stdout.find((line) => is(JSON.parse(line))));
}

Deno.test("inspect top --once tells every kind of rate in one block, without an escape code", async () => {
  await using device = await Inspected.start("trapped");
  await announceTree4(device.vmm);
  const { code, stdout, stderr } = await device.inspect("top", "--once", "--interval", "0.1");
  assertEquals([code, stderr], [0, ""]);
  assertEquals(stdout.includes("\x1b"), false);
  for (
    const text of [
      "1 address space, 4 tables",
      "registers and GTT",
      "rcs0 0",
      "trapped stores 0",
      "mistakes ",
    ]
  ) {
    assertStringIncludes(stdout, text);
  }
  assertMatch(stdout, /^changed most +no table$/m);
});

for (const tracking of ["trapped", "untracked"] as const) {
  Deno.test(`inspect top counts what happens, and names the tables that change, where stores are ${tracking}`, async () => {
    await using device = await Inspected.start(tracking);
    const { vmm } = device;
    await device.storePages(TREE4);
    const mm = await vmm.call("mm_create", 4, [...ROOTS4]);
    await using top = device.follow("top", "--json", "--interval", "0.2");
    await nextJson(top);
    for (let i = 0; i < 30; i++) await vmm.call("mmio_read", 0, 0x78000, 4);
    for (let index = 0; index < 7; index++) {
      await device.store(0x13 * PAGE + 8 * (100 + index), le64(0x70003));
    }
    let reads = 0;
    const changed = new Map<number, number>();
    while (reads < 30 || (changed.get(0x13) ?? 0) < 7) {
      const { seconds, isAnew, perSecond, hottest, stats } = await nextJson(top);
      assertEquals([isAnew, stats.shadowTables], [false, 4]);
      reads += Math.round(perSecond.bar0Reads * seconds);
      for (const { gfn, kind, entries, spaces } of hottest) {
        assertEquals([kind, spaces], ["PTE", [mm]]);
        changed.set(gfn, (changed.get(gfn) ?? 0) + entries);
      }
    }
    assertEquals([reads, [...changed]], [30, [[0x13, 7]]]);
    assertEquals(await top.stop("SIGINT").then(({ code, signal }) => [code, signal]), [0, null]);
  });
}

Deno.test("inspect top goes on when another VMM comes, and no rate is ever negative", async () => {
  await using device = await Inspected.start("trapped");
  for (let i = 0; i < 1000; i++) await device.vmm.call("mmio_read", 0, 0x78000, 4);
  await using top = device.follow("top", "--json", "--interval", "0.1");
  await nextJson(top);
  await using next = await device.nextVmm();
  await next.call("mmio_read", 0, 0x78000, 4);
  const { perSecond, stats } = await findJson(top, ({ isAnew }) => isAnew);
  assertEquals(stats.bar0Reads <= 1, true);
  assert(Object.values(perSecond as Record<string, number>).every((rate) => rate >= 0));
  assertEquals(await top.stop("SIGTERM").then(({ code }) => code), 0);
});

Deno.test("inspect top and events end with a message when the device ends", async () => {
  await using device = await Inspected.start("trapped");
  await using top = device.follow("top", "--json", "--interval", "0.1");
  await using events = device.follow("events", "--json");
  await nextJson(top);
  await nextJson(events);
  await device.stop();
  assertEquals([await top.exited(), await events.exited()], [1, 1]);
  assertMatch(await top.log.rest(), /^the device is gone: .*\n$/);
  assertMatch(await events.log.rest(), /^the device is gone: .*\n$/);
});

Deno.test("inspect events follows what happens until it is interrupted", async () => {
  await using device = await Inspected.start("trapped");
  await using events = device.follow("events", "--json");
  const attached = await findJson(events, ({ kind }) => kind === "attach");
  assertEquals([attached.n, attached.values.untracked, typeof attached.t], [1, 0, "number"]);
  await announceTree4(device.vmm);
  await device.vmm.notify("mmio_write", 0, 0x4260, 4, 1);
  const built = await findJson(events, ({ kind }) => kind === "sync");
  assertEquals(built.values.built, 4);
  assertEquals(await events.stop("SIGINT").then(({ code, signal }) => [code, signal]), [0, null]);

  const once = await device.inspect("events", "--once", "--kind", "attach,ram");
  assertEquals(once.code, 0);
  assertEquals(once.stdout.split("\n").map((line) => line.split(/ +/)[3]), ["attach", "ram", undefined]);
  const later = await device.inspect("events", "--once", "--since", String(attached.n));
  assertEquals(later.stdout.includes(" attach "), false);
});
