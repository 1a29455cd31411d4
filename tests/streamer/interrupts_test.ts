import { assertEquals } from "@std/assert";
import {
  END,
  GGTT,
  NOOP,
  pipeControl,
  spinner,
  start,
  store,
  USER_INTERRUPT,
  WAIT,
  wait,
} from "./commands.ts";
import { ENGINE_NAMES, type EngineName, ENGINES, GDRST, Guest } from "./guest.ts";

const MASTER = 0x44200;
const ENABLE = 0x8000_0000;
const MSI_CONTROL = 0x92;

/** Events of an engine, bits of its part of a bank (`guest.md` §6.1). */
const USER = 0x1;
const ERROR = 0x8;
const FLUSH = 0x10;
const SWITCH = 0x100;
const SEMAPHORE = 0x800;

/** A guest that has every event of every engine in its banks, with the master off. */
async function listening(): Promise<Guest> {
  const guest = await Guest.start();
  await guest.vmm.call("mmio_write", 7, MSI_CONTROL, 2, 1);
  for (const bank of [0x44300, 0x44310, 0x44330]) {
    await guest.writeAt(bank + 0xc, 0xffff_ffff);
    await guest.writeAt(bank + 0x4, 0);
  }
  for (const engine of ENGINE_NAMES) await guest.write(engine, "interruptMask", 0);
  return guest;
}

/** What a bank has of an engine, in the engine's own position; it is acknowledged. */
async function taken(guest: Guest, engine: EngineName): Promise<number> {
  const { bank, shift } = ENGINES[engine];
  const all = await guest.readAt(bank + 0x8);
  await guest.writeAt(bank + 0x8, all);
  return all >>> shift & 0xffff;
}

for (const engine of ENGINE_NAMES) {
  const { bank, shift, summary } = ENGINES[engine];

  Deno.test(`${engine} interrupts by its mask, its half of its bank and the master, as a message`, async () => {
    await using guest = await listening();
    await guest.write(engine, "interruptMask", ~(SWITCH << shift) >>> 0);
    await guest.runRing(engine, [USER_INTERRUPT]);
    assertEquals(await guest.readAt(bank + 0x8), SWITCH << shift);
    assertEquals(await guest.readAt(MASTER), summary);
    assertEquals(guest.interrupts(), []);
    await guest.writeAt(MASTER, ENABLE);
    assertEquals(guest.interrupts(), [["irq", 0]]);

    await guest.writeAt(bank + 0x8, SWITCH << shift);
    await guest.runRing(engine, [NOOP]); // unasked for, a notification comes
    assertEquals(guest.interrupts(), [["irq", 0]]);
  });

  Deno.test(`${engine} masks what RING_IMR has set in the bank's position`, async () => {
    await using guest = await listening();
    await guest.write(engine, "interruptMask", ~(USER << shift) >>> 0);
    await guest.runRing(engine, [USER_INTERRUPT]);
    assertEquals(await taken(guest, engine), USER);
    await guest.write(engine, "interruptMask", 0xffff_ffff);
    await guest.runRing(engine, [USER_INTERRUPT]);
    assertEquals(await taken(guest, engine), 0);
    await guest.write(engine, "interruptMask", ~((USER | SWITCH) << (16 - shift)) >>> 0); // the other half
    await guest.runRing(engine, [USER_INTERRUPT]);
    assertEquals(await guest.readAt(bank + 0x8), 0);
  });
}

Deno.test("each command that interrupts has its own event", async () => {
  await using guest = await listening();
  await guest.runRing("rcs0", [USER_INTERRUPT]);
  assertEquals(await taken(guest, "rcs0"), USER | SWITCH);
  await guest.runRing("rcs0", pipeControl(0x100));
  assertEquals(await taken(guest, "rcs0"), FLUSH | SWITCH);
  await guest.runRing("bcs0", [0x1300_0102, 0, 0, 0]); // MI_FLUSH_DW
  assertEquals(await taken(guest, "bcs0"), FLUSH | SWITCH);
  await guest.runRing("vcs0", [0x1300_0182, 0, 0, 0]); // with the flag above its length
  assertEquals(await taken(guest, "vcs0"), FLUSH | SWITCH);
  await guest.startRing("vecs0", [0xe000_0000, 0]);
  await guest.halt();
  assertEquals(await taken(guest, "vecs0"), ERROR | SWITCH); // it had begun
});

Deno.test("an engine that waits for a semaphore tells it once, and again for the next, also after a reset", async () => {
  await using guest = await listening();
  const waitTwice = [
    ...wait(guest.global, WAIT.equal, 1, GGTT),
    ...wait(guest.global + 4, WAIT.equal, 1, GGTT),
  ];
  await guest.startRing("rcs0", waitTwice);
  await guest.stall();
  assertEquals(await taken(guest, "rcs0"), SEMAPHORE | SWITCH);
  for (let i = 0; i < 20; i++) await guest.readAt(GDRST); // it looks again and again
  assertEquals(await taken(guest, "rcs0"), 0);
  await guest.vmm.call("mem_write", guest.globalPage, Uint8Array.of(1, 0, 0, 0));
  while (await guest.read("rcs0", "head") < 16) continue;
  assertEquals(await taken(guest, "rcs0"), SEMAPHORE);

  await guest.writeAt(GDRST, 0x2);
  await guest.resume("rcs0");
  await guest.write("rcs0", "interruptMask", 0);
  guest.forgetContexts();
  await guest.startRing("rcs0", wait(guest.global + 8, WAIT.equal, 1, GGTT));
  await guest.stall();
  assertEquals(await taken(guest, "rcs0"), SEMAPHORE | SWITCH);
});

Deno.test("an end that lets a waiting context begin interrupts once, with both entries there", async () => {
  await using guest = await listening();
  const [running, waiting] = [await guest.context("rcs0"), await guest.context("rcs0")];
  await guest.put(guest.batch, spinner(guest.batch));
  await guest.put(guest.batch + 0x1000, spinner(guest.batch + 0x1000));
  await running.append(start(guest.batch));
  await waiting.append(start(guest.batch + 0x1000));
  await guest.submit("rcs0", running);
  await guest.submit("rcs0", waiting);
  await guest.stall();
  await taken(guest, "rcs0");
  await guest.events("rcs0");
  await guest.writeAt(MASTER, ENABLE);
  guest.interrupts();
  await guest.put(guest.batch, [END]);
  while (await guest.read("rcs0", "statusContext") !== waiting.id) continue;
  assertEquals(guest.interrupts(), [["irq", 0]]);
  assertEquals(await guest.events("rcs0"), [[0x18, running.id], [0x01, 0]]);
  assertEquals(await guest.device.counter("msis"), 1);
});

Deno.test("a lite restore and a switch to the second context interrupt", async () => {
  await using guest = await listening();
  const [first, second] = [await guest.context("vcs0"), await guest.context("vcs0")];
  await guest.put(guest.batch, spinner(guest.batch));
  await first.append(start(guest.batch));
  await second.append(wait(guest.global, WAIT.equal, 1, GGTT));
  await guest.submit("vcs0", first);
  assertEquals(await taken(guest, "vcs0"), SWITCH);
  await guest.stall();
  await guest.submit("vcs0", first, second);
  assertEquals(await taken(guest, "vcs0"), SWITCH);
  await guest.put(guest.batch, [END]);
  while (await guest.read("vcs0", "statusContext") !== second.id) continue;
  assertEquals(await taken(guest, "vcs0") & SWITCH, SWITCH);
});

Deno.test("what a request left in memory is there before its interrupt", async () => {
  await using guest = await listening();
  await guest.writeAt(MASTER, ENABLE);
  const seen: number[][] = [];
  let looked = Promise.resolve();
  guest.vmm.on("irq", () => {
    looked = looked.then(async () => void seen.push(await guest.words(guest.globalPage, 1)));
  });
  await guest.write("rcs0", "interruptMask", ~USER >>> 0);
  await guest.runRing("rcs0", [...store(guest.global, 0x5eed, GGTT), USER_INTERRUPT]);
  await looked;
  assertEquals(seen, [[0x5eed]]);
});

Deno.test("without messages the line goes up, and down when the guest has acknowledged", async () => {
  await using guest = await Guest.start();
  const { bank, shift } = ENGINES.rcs0;
  await guest.writeAt(bank + 0xc, SWITCH << shift);
  await guest.writeAt(bank + 0x4, 0);
  await guest.write("rcs0", "interruptMask", 0);
  await guest.writeAt(MASTER, ENABLE);
  await guest.runRing("rcs0", [NOOP]);
  assertEquals(guest.interrupts(), [["intx", true]]);
  await guest.writeAt(bank + 0x8, SWITCH << shift);
  assertEquals(guest.interrupts(), [["intx", false]]);
});
