import { assertEquals } from "@std/assert";
import { le64, PAGE } from "../scenarios/guest_pages.ts";
import { address, store } from "./commands.ts";
import { FAULT, FAULT_ADDRESS, Guest, READ_ONLY } from "./guest.ts";

const FROM = 0x2000_0000;
const TO = 0x2300_0000;
const PAGES = 4;

/** XY_SRC_COPY_BLT of 8-bit pixels: rows of so many bytes, both surfaces with this pitch. */
function copy(to: number, from: number, bytes: number, rows: number, pitch: number): number[] {
  return [
    0x54c0_0008,
    0x00cc_0000 + pitch,
    0,
    rows * 2 ** 16 + bytes,
    ...address(to),
    0,
    pitch,
    ...address(from),
  ];
}

/** Maps pages one after the other whose frames go the other way. */
async function mapBackwards(guest: Guest, gma: number): Promise<void> {
  const frames = Array.from({ length: PAGES }, () => guest.page()).reverse();
  for (const [i, gpa] of frames.entries()) await guest.table.map(gma + i * PAGE, gpa);
}

/** Dwords that are all different. */
function dwords(count: number): number[] {
  return Array.from({ length: count }, (_, i) => Math.imul(i + 1, 0x9e3779b1) >>> 0);
}

/** The bytes of dwords. */
function bytesOf(words: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(words).buffer);
}

for (const tracking of ["trapped", "untracked"] as const) {
  Deno.test(`${tracking}: a copy finds each page of both surfaces, whatever its place in them`, async () => {
    await using guest = await Guest.start({ tracking });
    const words = dwords(PAGES * PAGE / 4);
    await mapBackwards(guest, FROM);
    await mapBackwards(guest, TO);
    await guest.put(FROM, words);

    // 120 rows of 100 bytes, one after the other, over the ends of pages that are not the same.
    await guest.runBatch("bcs0", copy(TO + 77, FROM + 1010, 100, 120, 100));

    const expected = new Uint8Array(PAGES * PAGE);
    expected.set(bytesOf(words).subarray(1010, 1010 + 12_000), 77);
    assertEquals(bytesOf(await guest.get(TO, words.length)), expected);
    assertEquals(await guest.readAt(FAULT), 0);
  });

  Deno.test(`${tracking}: a copy on itself is as if its source had been read before`, async () => {
    await using guest = await Guest.start({ tracking });
    const words = dwords(PAGES * PAGE / 4);
    await mapBackwards(guest, FROM);
    for (const [from, to] of [[300, 5100], [5100, 300], [40, 41], [41, 40]] as const) {
      await guest.put(FROM, words);

      await guest.runBatch("bcs0", copy(FROM + to, FROM + from, 200, 50, 200));

      const expected = bytesOf(words);
      expected.copyWithin(to, from, from + 10_000);
      assertEquals(bytesOf(await guest.get(FROM, words.length)), expected, `${from} to ${to}`);
    }
  });
}

Deno.test("a copy from what is not mapped stores 0, which is a fault; to a read-only page nothing, which is none", async () => {
  await using guest = await Guest.start();
  const words = dwords(PAGES * PAGE / 4);
  await mapBackwards(guest, FROM);
  await guest.put(FROM, words);
  await guest.runBatch("bcs0", copy(READ_ONLY, FROM, 64, 1, 64));
  assertEquals([await guest.get(READ_ONLY), await guest.readAt(FAULT)], [[0], 0]);

  await guest.runBatch("bcs0", copy(FROM, FROM + PAGES * PAGE - 4, 8, 1, 8));

  assertEquals(await guest.get(FROM, 3), [words.at(-1), 0, words[2]]);
  assertEquals([await guest.readAt(FAULT), await guest.readAt(FAULT_ADDRESS)], [
    1 + (2 << 12),
    (FROM + PAGES * PAGE) / PAGE,
  ]);
});

Deno.test("trapped: what a copy stores to the guest's own table counts for the next command", async () => {
  await using guest = await Guest.start();
  const [a, b] = [guest.page(), guest.page()];
  const window = FROM + 2 ** 30 + PAGE; // an address that no translation of the other takes the place of
  await guest.table.map(FROM, a);
  await guest.table.map(window, await guest.table.directoryOf(FROM, 1));
  await guest.vmm.call("mem_write", guest.table.gpaOf(guest.data), le64(b + 3));
  const entry = window + 8 * (Math.floor(FROM / PAGE) % 512);

  await guest.runBatch("bcs0", [...store(FROM, 1), ...copy(entry, guest.data, 8, 1, 8), ...store(FROM, 2)]);

  assertEquals([await guest.words(a, 1), await guest.words(b, 1)], [[1], [2]]);
  guest.device.assertSound();
});
