/**
 * A guest whose stores nobody traps, for tests of `engine.md` §16: RAM, stores straight to it, and a tree of four levels,
 * one table page a level.
 *
 * @module
 */

import { assert } from "@std/assert";
import { assertInvariants } from "../../src/gtt/invariants.ts";
import type { PpgttMm } from "../../src/gtt/mm.ts";
import type { VgpuGtt } from "../../src/gtt/vgpu_gtt.ts";
import { walkPpgtt } from "../../src/inspect/walk.ts";
import type { RamMap } from "../../src/memory/ram_map.ts";
import { createDevice, type Device, type DeviceOptions } from "../../src/vgpu/device.ts";

/** Frames of RAM. */
export const FRAMES = 0x100;
/** Frames of the tree's tables; entry 0 of each leads to the next, and to {@linkcode LEAF}. */
export const [PML4_PAGE, PDP_PAGE, PDE_PAGE, PTE_PAGE, LEAF] = [0x10, 0x11, 0x12, 0x13, 0x40] as const;
/** Its roots. */
export const ROOTS: Uint32Array = rootsAt(PML4_PAGE);

/** The four roots of an address space of which only the first is used. */
export function rootsAt(gfn: number): Uint32Array {
  return Uint32Array.of(gfn << 12, 0, 0, 0, 0, 0, 0, 0);
}

/** A present, writable entry that leads to a frame. */
export function to(gfn: number): bigint {
  return BigInt(gfn) << 12n | 3n;
}

/** A guest store that nobody hears of. */
export function store(ram: RamMap, gfn: number, index: number, value: bigint): void {
  assert(ram.write(gfn * 4096 + 8 * index, new Uint8Array(BigUint64Array.of(value).buffer)));
}

/** Fills a table page with one value. */
export function fill(ram: RamMap, gfn: number, value: bigint): void {
  assert(ram.write(gfn * 4096, new Uint8Array(new BigUint64Array(512).fill(value).buffer)));
}

/** Writes the tree. */
export function writeTree(ram: RamMap): void {
  for (const gfn of [PML4_PAGE, PDP_PAGE, PDE_PAGE]) store(ram, gfn, 0, to(gfn + 1));
  store(ram, PTE_PAGE, 0, to(LEAF));
}

/** A device that traps nothing, with RAM and the tree in it, not announced yet. */
export function start(options: Omit<DeviceOptions, "ram"> = {}): Device {
  const device = createDevice({ tracking: "untracked", ...options });
  device.mapRam({ gpa: 0, size: FRAMES * 4096 });
  writeTree(device.ram);
  return device;
}

/** An address space, which must be there. */
export function announce(gtt: VgpuGtt, level = 4, roots = ROOTS): PpgttMm {
  gtt.g2vCreatePpgttMm(level, roots);
  const mm = gtt.findPpgttMm(level, roots);
  assert(mm?.shadowed, "the address space was not created");
  return mm;
}

/** Where the shadow of an address leads: a host frame, the name of a scratch page, or null. */
export function shadowOf(gtt: VgpuGtt, mm: PpgttMm, gma: number): string | null {
  assertInvariants(gtt);
  return walkPpgtt(gtt, mm, gma % 2 ** 32, Math.floor(gma / 2 ** 32)).shadow;
}

/** The address that these indices of PML4, PDP, PDE and PTE select. */
export function gma(pml4: number, pdp = 0, pde = 0, pte = 0): number {
  return pml4 * 2 ** 39 + pdp * 2 ** 30 + pde * 2 ** 21 + pte * 2 ** 12;
}
