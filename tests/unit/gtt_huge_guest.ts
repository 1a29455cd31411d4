/**
 * A guest with large pages, for tests of `engine.md` §17: table pages in low RAM, and runs of 2 MiB that are one piece on
 * the host, several, or not all there.
 *
 * @module
 */

import { assert } from "@std/assert";
import { PDE, PTE } from "../../src/gtt/entry.ts";
import { assertInvariants } from "../../src/gtt/invariants.ts";
import type { PpgttMm } from "../../src/gtt/mm.ts";
import type { ShadowTable } from "../../src/gtt/shadow_table.ts";
import { walkPpgtt } from "../../src/inspect/walk.ts";
import { createDevice, type Device, type DeviceOptions } from "../../src/vgpu/device.ts";

/** Frames of the tables: a PDE table, and pages that its entries may lead to. */
export const [PDE_PAGE, PTE_PAGE, OTHER_PTE_PAGE] = [0x10, 0x11, 0x12] as const;
/** Its roots at level 3. */
export const ROOTS: Uint32Array = Uint32Array.of(PDE_PAGE << 12, 0, 0, 0, 0, 0, 0, 0);
/** First frames of 2 MiB: one piece on the host at 0x100200; one piece not at a multiple of 512; nothing yet. */
export const [WHOLE, SHIFTED, ABSENT] = [0x200, 0x400, 0x600] as const;
/** Where the host has {@linkcode SHIFTED}. */
export const SHIFTED_MFN = 0x200007;

/** An entry that leads to a frame: present and writable unless other flags are given. */
export function to(gfn: number, flags = 0x3n): bigint {
  return BigInt(gfn) << 12n | flags;
}

/** A device that takes large pages, with its guest's RAM. */
export function start(options: Omit<DeviceOptions, "ram"> = {}): Device {
  const device = createDevice({ hugePages: true, ...options });
  device.mapRam({ gpa: 0, size: 0x100000 });
  device.mapRam({ gpa: WHOLE * 4096, size: 0x200000 });
  device.mapRam({ gpa: SHIFTED * 4096, size: 0x200000, mfn: SHIFTED_MFN });
  return device;
}

/** A guest store of a whole entry: RAM, then whoever tracks the page. @returns The result of the latter. */
export function store(device: Device, gfn: number, index: number, value: bigint): number {
  const rc = device.store(gfn * 4096 + 8 * index, new Uint8Array(BigUint64Array.of(value).buffer));
  assert(rc !== null, "a store outside RAM");
  assertInvariants(device.vgpu.gtt);
  return rc;
}

/** A guest store of one half of an entry, 0 the low one. */
export function storeHalf(device: Device, gfn: number, index: number, half: 0 | 1, value: number): number {
  const rc = device.store(gfn * 4096 + 8 * index + 4 * half, new Uint8Array(Uint32Array.of(value).buffer));
  assert(rc !== null, "a store outside RAM");
  assertInvariants(device.vgpu.gtt);
  return rc;
}

/** An address space of 3 levels, which must be there. */
export function announce({ vgpu: { gtt } }: Device): PpgttMm {
  gtt.g2vCreatePpgttMm(3, ROOTS);
  const mm = gtt.findPpgttMm(3, ROOTS);
  assert(mm?.shadowed, "the address space was not created");
  assertInvariants(gtt);
  return mm;
}

/** The shadow of the PDE table. */
export function pdeTable({ vgpu: { gtt } }: Device): ShadowTable {
  return gtt.parts.tables.find(PDE_PAGE, PDE)!;
}

/** The shadow of a PTE table of 64 KiB pages. */
export function table64k({ vgpu: { gtt } }: Device, gfn: number): ShadowTable | undefined {
  return gtt.parts.tables.find(gfn, PTE, 16);
}

/** An entry of a shadow table. */
export function entryOf(table: ShadowTable, index: number): bigint {
  return BigInt(table.lanes[2 * index]!) | BigInt(table.lanes[2 * index + 1]!) << 32n;
}

/** Where an address of PDE and PTE index leads: guest address by `gma_to_gpa`, shadow by the view, and whether they agree. */
export function leads({ vgpu: { gtt } }: Device, mm: PpgttMm, pde: number, pte = 0): unknown[] {
  const gma = pde * 2 ** 21 + pte * 2 ** 12;
  const { shadow, agrees } = walkPpgtt(gtt, mm, gma, 0);
  return [gtt.gmaToGpa(mm, gma, 0), shadow, agrees];
}
