/**
 * What several guests are checked for.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { Agent, Bar } from "./agent.ts";
import { APERTURE, ggttEntry, PVINFO, setGgttEntry, settle } from "./page_tables.ts";
import type { Vgpu } from "./vgpu.ts";

const MIB = 1 << 20;
/** Offset in configuration space. */
export const COMMAND = 0x04;
/** What the guest allows the vGPU there. */
export const MEMORY_AND_BUS_MASTER = 0x6;
/** The graphics address that {@linkcode checkGgttPage} uses. */
export const CHECKED: bigint = APERTURE + 0x123000n;
const MAGIC = 0x4776544776544776n;

/** The guest finds the vGPU and may use it. @returns Its BARs. */
export async function takeVgpu(agent: Agent): Promise<Map<number, Bar>> {
  await agent.find();
  const bars = await agent.map();
  await agent.writeConfig(COMMAND, 2, MEMORY_AND_BUS_MASTER);
  return bars;
}

/** The guest sees the vGPU as it should be. */
export async function checkIdentity(agent: Agent, name: string): Promise<void> {
  const found = await agent.find();
  assertEquals(found, { name, vendor: 0x8086, device: 0x1912, class: 0x038000, revision: 0x06 });
  const bars = await takeVgpu(agent);
  assertEquals([...bars].map(([index, { size }]) => [index, size / MIB]), [[0, 16], [2, 256]]);
  for (const { gpa, size } of bars.values()) assertEquals(gpa % size, 0);
  assertEquals(await agent.readConfig(0x50, 2), 0xc0n); // 8 MiB of entries, nothing stolen
  assertEquals(await agent.readConfig(0xfc, 4), 0n); // no OpRegion
  assertEquals(await agent.read(0, PVINFO, 8), MAGIC);
  assertEquals(await agent.read(0, PVINFO + 8, 2), 1n);
}

/** An entry that the guest stores in its global table leads to its page, for the device and through the aperture. */
export async function checkGgttPage(agent: Agent, vgpu: Vgpu, page: bigint): Promise<void> {
  const gma = CHECKED;
  const value = 0x0123456789abcdefn ^ page;
  await agent.poke(page + 0x100n, 8, value);
  await setGgttEntry(agent, gma, page);
  assertEquals(await agent.read(0, ggttEntry(gma), 8), page | 1n);
  const walk = await vgpu.translate("ggtt", gma + 0x100n);
  assertEquals(walk.guest, Number(page + 0x100n));
  assert(walk.agrees, JSON.stringify(walk));
  assertEquals(await agent.read(2, Number(gma) + 0x100, 8), value);
  await agent.write(2, Number(gma) + 0x108, 8, ~value & 0xffffffffffffffffn);
  await settle(agent);
  assertEquals(await agent.peek(page + 0x108n, 8), ~value & 0xffffffffffffffffn);
}

/** The device says that this address leads to this guest physical address, by the guest's tables and by its shadow. */
export async function assertLeads(vgpu: Vgpu, mm: number, gma: bigint, gpa: bigint | null): Promise<void> {
  const walk = await vgpu.translate(mm, gma);
  assertEquals(walk.guest, gpa === null ? null : Number(gpa), JSON.stringify(walk));
  assert(walk.agrees, JSON.stringify(walk));
}
