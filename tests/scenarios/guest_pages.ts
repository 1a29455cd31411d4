/**
 * A guest's memory: table pages and two small trees whose every translation is known by hand.
 *
 * @module
 */

import type { Client } from "../../protocol/client.ts";

/** Bytes a page. */
export const PAGE = 4096;
/** Guest RAM of a scenario: 4 MiB, frames 0 to 0x3ff. */
export const RAM_BYTES = 0x400000;

/** 64-bit values as they lie in guest memory. */
export function le64(...values: readonly (number | bigint)[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values.map(BigInt)).buffer);
}

/** 32-bit values as they lie in guest memory. */
export function le32(...values: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

/** A table page with these entries by index; all others are 0. */
export function tablePage(entries: Readonly<Record<number, number | bigint>>): Uint8Array {
  const page = new BigUint64Array(512);
  for (const [index, value] of Object.entries(entries)) page[Number(index)] = BigInt(value);
  return new Uint8Array(page.buffer);
}

/** A table page with all entries alike. */
export function uniformPage(value: number | bigint): Uint8Array {
  return new Uint8Array(new BigUint64Array(512).fill(BigInt(value)).buffer);
}

/** Writes table pages by frame. */
export async function writePages(vmm: Client, pages: Readonly<Record<number, Uint8Array>>): Promise<void> {
  for (const [gfn, page] of Object.entries(pages)) await vmm.call("mem_write", Number(gfn) * PAGE, page);
}

/**
 * The 4-level tree: root 0x10000; PML4 (gfn 0x10) [1] → PDP (0x11) [2] → PDE (0x12) [3] → PTE (0x13), whose entries
 * [4] and [5] lead to frames 0x64 (flags 0x83) and 0x65 (flags 0x1).
 */
export const TREE4: Readonly<Record<number, Uint8Array>> = {
  0x10: tablePage({ 1: 0x11003 }),
  0x11: tablePage({ 2: 0x12003 }),
  0x12: tablePage({ 3: 0x13003 }),
  0x13: tablePage({ 4: 0x64083, 5: 0x65001 }),
};
/** Its roots, as a guest gives them: without the present bit. */
export const ROOTS4: readonly number[] = [0x10000, 0, 0, 0];
/** The address of its first leaf: 1 << 39 | 2 << 30 | 3 << 21 | 4 << 12. */
export const GMA4 = 0x80_8060_4000;

/**
 * The 3-level tree: root slots 0 and 2. Slot 0: PDE (gfn 0x21) [3] → PTE (0x22) [4] → frame 0x66. Slot 2: PDE (0x24) [0]
 * → PTE (0x25) [511] → frame 0x67.
 */
export const TREE3: Readonly<Record<number, Uint8Array>> = {
  0x21: tablePage({ 3: 0x22003 }),
  0x22: tablePage({ 4: 0x66003 }),
  0x24: tablePage({ 0: 0x25003 }),
  0x25: tablePage({ 511: 0x67003 }),
};
/** Its roots. */
export const ROOTS3: readonly number[] = [0x21001, 0, 0x24001, 0];
/** The address of the leaf below slot 0: 3 << 21 | 4 << 12. */
export const GMA3_SLOT0 = 0x60_4000;
/** The address of the leaf below slot 2: 2 << 30 | 511 << 12. */
export const GMA3_SLOT2 = 0x801f_f000;

/** Writes the 4-level tree and announces it. @returns The mm's handle. */
export async function announceTree4(vmm: Client): Promise<number> {
  await writePages(vmm, TREE4);
  return await vmm.call("mm_create", 4, [...ROOTS4]);
}

/** Writes the 3-level tree and announces it. @returns The mm's handle. */
export async function announceTree3(vmm: Client): Promise<number> {
  await writePages(vmm, TREE3);
  return await vmm.call("mm_create", 3, [...ROOTS3]);
}
