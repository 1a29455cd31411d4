/**
 * Out-of-sync pages (engine.md §10, §15 24 and 31).
 *
 * A pool of snapshots: a table has one (`snapshot`, listed in `oosUse`) or not; the free ones are all alike.
 *
 * @module
 */

import { isPresent } from "./entry.ts";
import { EFAULT, EINVAL, ENXIO } from "./host.ts";
import type { ShadowTable, Vgpu } from "./vgpu.ts";

/** Trapped writes at which a PTE table goes out of sync. */
const OOS_THRESHOLD = 2;

/** What a trapped store does besides its work: counting, snapshot, going out of sync (§9.3, 5). */
export function countStore(vgpu: Vgpu, table: ShadowTable, index: number, entry: bigint): number {
  if (!vgpu.config.oos) return 0;
  table.writeCount++;
  if (table.snapshot !== null) table.snapshot[index] = entry;
  if (table.kind !== "PTE" || table.writeCount < OOS_THRESHOLD) return 0;
  if (table.snapshot === null) attach(vgpu, table);
  return takeOutOfSync(vgpu, table);
}

/** Gives a table a snapshot of its guest page; on failure it has none. */
function attach(vgpu: Vgpu, table: ShadowTable): void {
  if (vgpu.oosUse.length >= vgpu.config.oosPool) {
    const oldest = vgpu.oosUse[0];
    if (oldest === undefined || syncTable(vgpu, oldest) !== 0) return;
    detach(vgpu, oldest);
  }
  const page = vgpu.host.readPage(table.gfn);
  if (page === undefined) return;
  table.snapshot = page;
  vgpu.oosUse.push(table);
}

/** Gives a snapshot back to the pool. */
function detach(vgpu: Vgpu, table: ShadowTable): void {
  table.writeCount = 0;
  table.snapshot = null;
  vgpu.oosUse = vgpu.oosUse.filter((other) => other !== table);
  vgpu.oosList = vgpu.oosList.filter((other) => other !== table);
}

/** Stops trapping stores to a table; tracking goes first (§15, 21d). */
function takeOutOfSync(vgpu: Vgpu, table: ShadowTable): number {
  if (table.snapshot === null) return EINVAL;
  const rc = vgpu.tracks.disable(table.track);
  if (rc === 0 && !vgpu.oosList.includes(table)) vgpu.oosList.push(table);
  return rc;
}

/** Traps stores to a table again and brings its shadow up to date (§10). */
function syncTable(vgpu: Vgpu, table: ShadowTable): number {
  const { snapshot, track } = table;
  if (snapshot === null) throw new Error(`Table ${table.kind} ${table.gfn} has no out-of-sync page`);
  const wasEnabled = track.enabled;
  const rc = vgpu.tracks.enable(track);
  if (rc !== 0) return rc;
  const page = vgpu.host.readPage(table.gfn);
  if (page === undefined) {
    if (!wasEnabled) vgpu.tracks.disable(track);
    return EFAULT;
  }
  vgpu.oosList = vgpu.oosList.filter((other) => other !== table);
  for (const [index, entry] of page.entries()) {
    // A bit is cleared only where the entry did not change (§10).
    if (entry === snapshot[index] && !table.queued.delete(index)) continue;
    const translated = isPresent(entry) ? vgpu.host.translate(entry) : entry;
    if (translated === undefined) return ENXIO;
    snapshot[index] = entry;
    table.entries[index] = translated;
  }
  table.writeCount = 0;
  vgpu.postList = vgpu.postList.filter((other) => other !== table);
  return 0;
}

/** `intel_vgpu_sync_oos_pages`. */
export function syncOosPages(vgpu: Vgpu): number {
  for (const table of vgpu.oosList) {
    const rc = syncTable(vgpu, table);
    if (rc !== 0) return rc;
  }
  return 0;
}
