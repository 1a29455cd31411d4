import { assertEquals } from "@std/assert";
import { GuestGgtt } from "../../src/replay/guest_ggtt.ts";

const WINDOWS = {
  apertureBase: 0x4000000,
  apertureSize: 0x400000,
  hiddenBase: 0x20000000,
  hiddenSize: 0x800000,
};

const store = (gma: number, within: number, size: number, value: bigint) =>
  ({ kind: "write", region: 0, offset: 0x800000 + gma / 4096 * 8 + within, size, value }) as const;

Deno.test("GuestGgtt.follow() merges the halves of an entry", () => {
  const ggtt = new GuestGgtt(WINDOWS);
  ggtt.follow(store(0x4000000, 0, 8, 0x1_00005001n));
  ggtt.follow(store(0x4000000, 4, 4, 2n));
  ggtt.follow(store(0x4001000, 0, 4, 0x6001n));
  assertEquals([...ggtt.entries], [[0x4000, [0x5001, 2]], [0x4001, [0x6001, 0]]]);
});

Deno.test("GuestGgtt.follow() drops what lies outside the windows, and counts it", () => {
  const ggtt = new GuestGgtt(WINDOWS);
  ggtt.follow(store(0, 0, 8, 0x5001n));
  ggtt.follow(store(0x4400000, 0, 8, 0x5001n));
  ggtt.follow(store(0x207ff000, 0, 8, 0x5001n));
  assertEquals([[...ggtt.entries.keys()], ggtt.outside], [[0x207ff], 2]);
});
