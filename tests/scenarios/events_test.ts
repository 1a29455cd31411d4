import { assert, assertEquals } from "@std/assert";
import type { Client } from "../../protocol/client.ts";
import { type EventsAnswer, readEvents } from "../../src/observe/event_reader.ts";
import { EVENTS_KEPT, EVENTS_TOLD } from "../../src/vgpu/event_log.ts";
import { NOOP, start } from "../streamer/commands.ts";
import { Guest } from "../streamer/guest.ts";
import { Attached } from "./attached.ts";
import { ROOTS4, TREE4, writePages } from "./guest_pages.ts";

/** A PPGTT address of the streamers' guest that is not mapped. */
const NOWHERE = 0x7f00_0000;
const TLB_INVALIDATE = 0x4260;
/** PVINFO: the first root, and the notification. */
const PVINFO_PDP = 0x78838;
const G2V_NOTIFY = 0x78818;

async function eventsOf(client: Client, since = 0): Promise<EventsAnswer> {
  return await client.call("events", since) as unknown as EventsAnswer;
}

/** Events as kind and text. */
function told({ events }: EventsAnswer): [string, string][] {
  return events.map(({ kind, text }) => [kind, text]);
}

Deno.test("events tell who attached, what came of notifications, and resets", async () => {
  await using device = await Attached.start();
  const observer = await device.connect("observer");
  const { last } = await eventsOf(observer);
  await writePages(device.vmm, TREE4);
  for (const root of [ROOTS4[0]!, 0xffff_f000]) {
    await device.vmm.notify("mmio_write", 0, PVINFO_PDP, 8, root); // the second one is no RAM
    await device.vmm.notify("mmio_write", 0, G2V_NOTIFY, 4, 4);
  }
  await device.vmm.notify("mmio_write", 0, TLB_INVALIDATE, 4, 1);
  await device.vmm.call("reset");
  assertEquals(told(await eventsOf(observer, last)), [
    ["g2v", "4-level page table begins, root 0x10000"],
    ["sync", "page tables: 0 brought up to date, 4 built, 0 freed, 0 entries flushed"],
    ["g2v", "4-level page table begins, root 0xfffff000: failed with -22"],
    ["sync", "page tables: 0 brought up to date, 1 built, 1 freed, 0 entries flushed"],
    ["tlb", "TLBs invalidated"],
    ["reset", "the device reset"],
    ["sync", "page tables: 0 brought up to date, 0 built, 4 freed, 0 entries flushed"],
  ]);
  assertEquals(told(await eventsOf(observer)).slice(0, 2), [
    ["attach", "VMM attached, session 1; it traps stores to page tables"],
    ["ram", "guest RAM 0x0–0x3fffff added"],
  ]);
});

Deno.test("events tell submissions with their engine and address space, and faults with their address", async () => {
  await using guest = await Guest.start();
  const observer = await guest.device.connect("observer");
  const { last } = await eventsOf(observer);
  const context = await guest.context("bcs0");
  await context.append(start(NOWHERE));
  await guest.submit("bcs0", context);
  await guest.halt();
  const { events } = await eventsOf(observer, last);
  const [submit, fault] = ["submit", "fault"].map((kind) => events.find((event) => event.kind === kind));
  assert(submit !== undefined && fault !== undefined && submit.n < fault.n && submit.t <= fault.t);
  assertEquals(
    submit.text.replace(/mm \d+/, "mm N"),
    `bcs0 begins context 0x${(context.descriptor - context.descriptor % 4096).toString(16)} on mm N`,
  );
  assertEquals(fault.text, `bcs0: PPGTT address 0x${NOWHERE.toString(16)} leads nowhere`);
});

Deno.test("events tell that a context is done", async () => {
  await using guest = await Guest.start();
  const { last } = await eventsOf(guest.vmm);
  await guest.runRing("rcs0", [NOOP, NOOP]);
  const { events } = await eventsOf(guest.vmm, last);
  const own = events.filter(({ kind }) => kind === "submit" || kind === "complete");
  assertEquals(own.map(({ kind, text }) => [kind, text.split(" ")[0]]), [["submit", "rcs0"], [
    "complete",
    "rcs0",
  ]]);
});

Deno.test("a VMM that goes is told, and numbers go on with the next", async () => {
  await using device = await Attached.start();
  const observer = await device.connect("observer");
  const { last } = await eventsOf(observer);
  await device.vmm.close();
  await device.nextVmm();
  const after = await eventsOf(observer, last);
  assertEquals(after.events.map(({ n, kind }) => [n, kind]), [[last + 1, "detach"], [last + 2, "attach"]]);
});

Deno.test("whoever asks late is told how much is lost", async () => {
  await using device = await Attached.start();
  const { vmm } = device;
  const { last } = await eventsOf(vmm);
  for (let i = 0; i < EVENTS_KEPT + 100; i++) await vmm.notify("mmio_write", 0, TLB_INVALIDATE, 4, 1);
  const late = await eventsOf(vmm, last);
  assertEquals([late.lost, late.events.length, late.last], [100, EVENTS_TOLD, last + EVENTS_KEPT + 100]);
  assertEquals(late.events[0]?.n, last + 101);
  assert(late.now >= late.events.at(-1)!.t);
  const all = await readEvents(vmm, last);
  assertEquals([all.lost, all.events.length, all.last], [100, EVENTS_KEPT, late.last]);
  assertEquals((await eventsOf(vmm, late.last + 5)).events, []); // a number of another device's
});
