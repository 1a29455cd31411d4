/**
 * Page tables that the guest builds in its own RAM, as its driver would.
 *
 * @module
 */

import type { Agent } from "./agent.ts";

/** Offsets in region 0 and the codes of notifications (`src/vgpu/guest.md` §2). */
export const PVINFO = 0x78000;
const PDP = PVINFO + 0x838;
const NOTIFY = PVINFO + 0x818;
const CREATE = { 3: 2, 4: 4 } as const;
const DESTROY = { 3: 3, 4: 5 } as const;

/** Offset of the GTT window: one entry of 8 bytes for each page of the global table. */
export const GTT = 0x800000;
/** The render engine's TLB invalidation register. */
export const TLB_INVALIDATE = 0x4260;
/** First graphics address of the part that the aperture shows. */
export const APERTURE = 0x4000000n;
/** First graphics address of the part that it does not show. */
export const HIDDEN = 0x28000000n;

const DIRECTORY = 0x3n; // present, writable
const CACHED = 0x83n; // a page, as Linux writes it

/** The entry of a directory that leads to a table. */
export function directoryEntry(table: bigint): bigint {
  return table | DIRECTORY;
}

/** The entry of the last level that leads to a page. */
export function pageEntry(page: bigint): bigint {
  return page | CACHED;
}

/** Stores an entry of a table in RAM. */
export async function setEntry(agent: Agent, table: bigint, index: number, entry: bigint): Promise<void> {
  await agent.poke(table + 8n * BigInt(index), 8, entry);
}

/** The indices of an address: PML4, PDP, PDE, PTE. */
export function indices(gma: bigint): [pml4: number, pdp: number, pde: number, pte: number] {
  const at = (shift: bigint) => Number(gma >> shift & 0x1ffn);
  return [at(39n), at(30n), at(21n), at(12n)];
}

/** A page table with one page, and every table on the way to it. */
export interface Built {
  /** Number of levels. */
  readonly level: 3 | 4;
  /** What is announced. */
  readonly roots: readonly bigint[];
  /** PML4 and PDP table; empty with 3 levels. */
  readonly upper: readonly bigint[];
  /** The table of page directory entries on the way. */
  readonly pde: bigint;
  /** The table of the last level. */
  readonly pte: bigint;
}

/** Builds a 4-level table that maps `gma` to `page`. */
export async function build4(agent: Agent, gma: bigint, page: bigint): Promise<Built> {
  const [pml4, pdp, pde, pte] = await agent.pages(4) as [bigint, bigint, bigint, bigint];
  const index = indices(gma);
  await setEntry(agent, pml4, index[0], directoryEntry(pdp));
  await setEntry(agent, pdp, index[1], directoryEntry(pde));
  await setEntry(agent, pde, index[2], directoryEntry(pte));
  await setEntry(agent, pte, index[3], pageEntry(page));
  return { level: 4, roots: [pml4], upper: [pml4, pdp], pde, pte };
}

/** Builds a 3-level table, four directories, that maps `gma` to `page`. */
export async function build3(agent: Agent, gma: bigint, page: bigint): Promise<Built> {
  const [pte, ...roots] = await agent.pages(5) as [bigint, ...bigint[]];
  const index = indices(gma);
  const pde = roots[index[1]]!;
  await setEntry(agent, pde, index[2], directoryEntry(pte));
  await setEntry(agent, pte, index[3], pageEntry(page));
  return { level: 3, roots, upper: [], pde, pte };
}

/** Announces a page table by PVINFO. */
export async function announce(
  agent: Agent,
  { level, roots }: Pick<Built, "level" | "roots">,
): Promise<void> {
  await notify(agent, roots, CREATE[level]);
}

/** Takes it back. */
export async function withdraw(
  agent: Agent,
  { level, roots }: Pick<Built, "level" | "roots">,
): Promise<void> {
  await notify(agent, roots, DESTROY[level]);
}

/** Tells the device that tables have changed. */
export async function invalidateTlb(agent: Agent): Promise<void> {
  await agent.write(0, TLB_INVALIDATE, 4, 1);
  await settle(agent);
}

/** Has the device do all that it was told: stores are posted, and a load waits for those before it. */
export async function settle(agent: Agent): Promise<void> {
  await agent.read(0, PVINFO, 4);
}

/** Offset in region 0 of the global entry for a graphics address. */
export function ggttEntry(gma: bigint): number {
  return GTT + 8 * Number(gma >> 12n);
}

/** Stores an entry of the global table. */
export async function setGgttEntry(agent: Agent, gma: bigint, page: bigint): Promise<void> {
  await agent.write(0, ggttEntry(gma), 8, page | 1n);
  await settle(agent);
}

async function notify(agent: Agent, roots: readonly bigint[], code: number): Promise<void> {
  for (const [index, root] of roots.entries()) {
    await agent.write(0, PDP + 8 * index, 4, root & 0xffffffffn);
    await agent.write(0, PDP + 8 * index + 4, 4, root >> 32n);
  }
  await agent.write(0, NOTIFY, 4, code);
  await settle(agent);
}
