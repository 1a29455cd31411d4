/**
 * Shadow tables: obtaining, populating, releasing, and the reclaim that allocation may need
 * (engine.md §8.2–§8.5, §11, §15).
 *
 * @module
 */

import {
  childKind,
  ENTRIES,
  frameOf,
  isLarge,
  isLargeRoot,
  isPresent,
  isRootPresent,
  rootTableKind,
  type TableKind,
  withFrame,
} from "./entry.ts";
import { EINVAL, ENOMEM } from "./host.ts";
import { type Mm, ShadowTable, type Vgpu } from "./vgpu.ts";

/** Most shadow tables a vGPU may have (§15, Caps). */
const MAX_TABLES = 65_536;

/** Obtains the shadow table for a frame, with one reference for the caller, or a negative errno (§8.3). */
export function obtain(vgpu: Vgpu, kind: TableKind, gfn: number): ShadowTable | number {
  const known = vgpu.tables.find((table) => table.kind === kind && table.gfn === gfn);
  if (known !== undefined) {
    known.references++;
    return known;
  }
  const mfn = allocate(vgpu);
  if (mfn < 0) return mfn;
  const table = new ShadowTable(kind, gfn, mfn, vgpu.tracks);
  vgpu.tables.push(table);
  const rc = vgpu.tracks.enable(table.track) || populate(vgpu, table);
  if (rc === 0) return table;
  release(vgpu, table);
  return rc;
}

/** A mapped host page, or a negative errno. */
function allocate(vgpu: Vgpu): number {
  for (;;) {
    const page = vgpu.tables.length < MAX_TABLES ? vgpu.host.allocatePage("shadow") : undefined;
    if (page !== undefined) return vgpu.host.mapPage(page) ? page : EINVAL;
    if (!reclaim(vgpu)) return ENOMEM;
  }
}

/** Un-shadows the first unpinned mm of the LRU (§11). */
function reclaim(vgpu: Vgpu): boolean {
  const victim = vgpu.lru.find((mm) => mm.pins === 0);
  if (victim === undefined) return false;
  vgpu.lru = vgpu.lru.filter((mm) => mm !== victim);
  unshadow(vgpu, victim);
  return true;
}

/** Fills a new table from guest memory (§8.4). */
function populate(vgpu: Vgpu, table: ShadowTable): number {
  for (let index = 0; index < ENTRIES; index++) {
    const entry = vgpu.host.readEntry(table.gfn, index);
    if (entry === undefined || !isPresent(entry)) continue;
    if (table.kind === "PTE") {
      table.entries[index] = vgpu.host.translate(entry) ?? withFrame(entry, vgpu.globalScratch);
      continue;
    }
    const rc = link(vgpu, table, index, entry);
    if (rc !== 0) return rc;
  }
  return 0;
}

/** Obtains the child of a present directory entry and stores the shadow entry. */
export function link(vgpu: Vgpu, table: ShadowTable, index: number, entry: bigint): number {
  if (isLarge(table.kind, entry)) return EINVAL;
  const child = obtain(vgpu, childKind(table.kind), frameOf(entry));
  if (typeof child === "number") return child;
  table.entries[index] = withFrame(entry, child.mfn);
  return 0;
}

/** Gives one reference back; the last one frees the table and releases what it points to (§8.5). */
export function release(vgpu: Vgpu, table: ShadowTable): void {
  table.references--;
  if (table.references > 0) return;
  if (table.references < 0) throw new Error(`Table ${table.kind} ${table.gfn} is released once too often`);
  for (const entry of table.entries) releaseChild(vgpu, table, entry);
  vgpu.freeTable(table);
}

/** Releases what a shadow entry of a table points to (§9.4, 2). */
export function releaseChild(vgpu: Vgpu, table: ShadowTable, entry: bigint): void {
  if (table.kind === "PTE" || !isPresent(entry)) return;
  if (frameOf(entry) === vgpu.scratch[table.kind]) return;
  const child = vgpu.tables.find((other) => other.mfn === frameOf(entry));
  if (child === undefined) throw new Error(`An entry of ${table.kind} ${table.gfn} leads nowhere`);
  release(vgpu, child);
}

/** Shadows an mm (§8.2); undone when it fails (§15, 8). */
export function shadow(vgpu: Vgpu, mm: Mm): number {
  mm.shadowed = true;
  for (const [slot, root] of mm.roots.entries()) {
    if (mm.level === 4 && slot > 0) break;
    if (!isRootPresent(mm.level, root)) continue;
    const table = isLargeRoot(mm.level, root) ? EINVAL : obtain(vgpu, rootTableKind(mm.level), frameOf(root));
    if (typeof table === "number") {
      unshadow(vgpu, mm);
      return table;
    }
    mm.shadowRoots[slot] = { value: withFrame(root, table.mfn), table };
  }
  return 0;
}

/** Gives up the shadow of an mm (§8.5). */
export function unshadow(vgpu: Vgpu, mm: Mm): void {
  for (const [slot, root] of mm.shadowRoots.entries()) {
    if (root === null) continue;
    mm.shadowRoots[slot] = null;
    release(vgpu, root.table);
  }
  mm.shadowed = false;
}
