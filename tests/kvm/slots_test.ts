import { assert, assertEquals, assertThrows } from "@std/assert";
import { PAGE, type RamRegion } from "../../examples/kvm/guest_ram.ts";
import { planSlots, type Slot } from "../../examples/kvm/slots.ts";

const RAM: readonly RamRegion[] = [{ gpa: 0, size: 64 * PAGE }, { gpa: 0x1_0000_0000, size: 16 * PAGE }];
const HIGH = 0x10_0000;
const PLENTY = 1000;

/** Slots as text: where, how many pages, whether read-only. */
function text(slots: readonly Slot[]): string[] {
  return slots.map(({ gpa, size, isReadOnly }) => `${gpa / PAGE}+${size / PAGE} ${isReadOnly ? "RO" : "RW"}`);
}

Deno.test("planSlots() makes one slot of each region when nothing is protected", () => {
  assertEquals(text(planSlots(RAM, [], PLENTY)), ["0+64 RW", `${HIGH}+16 RW`]);
});

Deno.test("planSlots() cuts a region at a protected page", () => {
  assertEquals(text(planSlots(RAM, [10], PLENTY)), ["0+10 RW", "10+1 RO", "11+53 RW", `${HIGH}+16 RW`]);
});

Deno.test("planSlots() joins neighbours, in any order of asking", () => {
  assertEquals(
    text(planSlots(RAM, [12, 10, 20, 11], PLENTY)),
    ["0+10 RW", "10+3 RO", "13+7 RW", "20+1 RO", "21+43 RW", `${HIGH}+16 RW`],
  );
});

Deno.test("planSlots() leaves no empty slot at the ends of a region", () => {
  assertEquals(
    text(planSlots(RAM, [0, 63, HIGH, HIGH + 15], PLENTY)),
    ["0+1 RO", "1+62 RW", "63+1 RO", `${HIGH}+1 RO`, `${HIGH + 1}+14 RW`, `${HIGH + 15}+1 RO`],
  );
});

Deno.test("planSlots() ignores protected pages that are no RAM", () => {
  assertEquals(text(planSlots(RAM, [64, 1000, HIGH + 16], PLENTY)), ["0+64 RW", `${HIGH}+16 RW`]);
});

Deno.test("planSlots() protects larger blocks when slots are few, and every page that was asked for", () => {
  const pages = [1, 5, 9, 13, 40, 60];
  const slots = planSlots(RAM, pages, 8);
  assert(slots.length <= 8, text(slots).join(", "));
  for (const page of pages) {
    const slot = slots.find(({ gpa, size }) => page * PAGE >= gpa && page * PAGE < gpa + size);
    assertEquals(slot?.isReadOnly, true, `page ${page} in ${text(slots).join(", ")}`);
  }
  assertEquals(slots.reduce((sum, { size }) => sum + size, 0), 80 * PAGE);
});

Deno.test("planSlots() refuses fewer slots than there are regions", () => {
  assertThrows(() => planSlots(RAM, [3], 1), Error, "1 slots are too few for 2 regions");
});
