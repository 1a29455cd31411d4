/**
 * Trapped stores to guest tables and the post-shadow queue (engine.md §9.2–§9.5, §15).
 *
 * @module
 */

import { isPresent, withFrame } from "./entry.ts";
import { EFAULT, EINVAL, ENXIO, PAGE } from "./host.ts";
import { countStore } from "./oos.ts";
import { link, release, releaseChild, unshadow } from "./tables.ts";
import type { Track } from "./tracks.ts";
import type { ShadowTable, Vgpu } from "./vgpu.ts";

/** Tells every enabled track of the frame of a store, oldest first; the first error is the result (§15, 2c). */
export function trappedStore(vgpu: Vgpu, gpa: number, bytes: number, user: (gfn: number) => number): number {
  const gfn = Math.floor(gpa / PAGE);
  const told = vgpu.tracks.of(gfn).filter((track) => track.enabled);
  if (vgpu.host.counts.failsafe !== 0) {
    failSafe(vgpu, told);
    return 0;
  }
  let result = 0;
  for (const track of told) {
    if (!track.enabled) continue;
    const rc = track.table === null ? user(gfn) : held(vgpu, track.table, (t) => store(vgpu, t, gpa, bytes));
    result ||= rc;
  }
  return result;
}

/** Failsafe mode: the frame's users lose their tracks, a table's frame costs the whole shadow (§15, 23). */
function failSafe(vgpu: Vgpu, told: readonly Track[]): void {
  for (const track of told) if (track.table === null) vgpu.tracks.remove(track);
  if (told.every((track) => track.table === null)) return;
  vgpu.lru = [];
  for (const mm of vgpu.mms) unshadow(vgpu, mm);
}

/** Works on a table with one extra reference (§15, 21a). */
function held(vgpu: Vgpu, table: ShadowTable, work: (table: ShadowTable) => number): number {
  table.references++;
  const rc = work(table);
  release(vgpu, table);
  return rc;
}

/** One store to a table (§9.3). An entry that cannot be read counts as absent. */
function store(vgpu: Vgpu, table: ShadowTable, gpa: number, bytes: number): number {
  if (bytes !== 4 && bytes !== 8) return EINVAL;
  const index = Math.floor((gpa % PAGE) / 8);
  const entry = vgpu.host.readEntry(table.gfn, index) ?? 0n;
  if (bytes === 4) {
    queue(vgpu, table, index);
  } else {
    const rc = apply(vgpu, table, index, entry);
    if (rc !== 0) return rc;
  }
  return countStore(vgpu, table, index, entry);
}

/** Applies a full guest entry: add first, remove second (§9.4). */
function apply(vgpu: Vgpu, table: ShadowTable, index: number, entry: bigint): number {
  const old = shadowEntry(table, index);
  if (isPresent(entry)) {
    const rc = add(vgpu, table, index, entry);
    if (rc !== 0) return rc;
    releaseChild(vgpu, table, old);
  } else {
    removeEntry(vgpu, table, index);
  }
  return 0;
}

/** Stores the shadow of a present guest entry; a large page is refused as in populate (§15, 14). */
function add(vgpu: Vgpu, table: ShadowTable, index: number, entry: bigint): number {
  if (table.kind !== "PTE") return link(vgpu, table, index, entry);
  const translated = vgpu.host.translate(entry);
  if (translated === undefined) return ENXIO;
  table.entries[index] = translated;
  return 0;
}

/** Releases what an entry points to and aims it at scratch, its flags kept. */
function removeEntry(vgpu: Vgpu, table: ShadowTable, index: number): void {
  const old = shadowEntry(table, index);
  releaseChild(vgpu, table, old);
  table.entries[index] = withFrame(old, vgpu.scratch[table.kind]);
}

/** A store of half an entry (§9.5). */
function queue(vgpu: Vgpu, table: ShadowTable, index: number): void {
  if (!table.queued.has(index)) removeEntry(vgpu, table, index);
  table.queued.add(index);
  if (!vgpu.postList.includes(table)) vgpu.postList.push(table);
}

/** `intel_vgpu_flush_post_shadow`: the list as it was at the start (§15, 21b). */
export function flushPostShadow(vgpu: Vgpu): number {
  for (const table of [...vgpu.postList]) {
    if (!vgpu.postList.includes(table)) continue;
    const rc = held(vgpu, table, () => flushTable(vgpu, table));
    if (rc !== 0) return rc;
  }
  return 0;
}

/** Applies the queued entries of one table, in ascending order; stops at the first error. */
function flushTable(vgpu: Vgpu, table: ShadowTable): number {
  for (const index of [...table.queued].sort((a, b) => a - b)) {
    const entry = vgpu.host.readEntry(table.gfn, index);
    if (entry === undefined) return EFAULT;
    const rc = apply(vgpu, table, index, entry);
    if (rc !== 0) return rc;
    table.queued.delete(index);
  }
  vgpu.postList = vgpu.postList.filter((other) => other !== table);
  return 0;
}

function shadowEntry(table: ShadowTable, index: number): bigint {
  const entry = table.entries[index];
  if (entry === undefined) throw new Error(`Index ${index} is outside a table`);
  return entry;
}
