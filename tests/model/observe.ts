/**
 * What a trace shows of the state: the state keys, and the dump of a shadow.
 *
 * @module
 */

import { childKind, flagsOf, frameOf, isPresent, TABLE_KINDS } from "./entry.ts";
import type { StateKeys, TableState, Tree, TreeChild, TreeNode } from "../../src/replay/trace.ts";
import type { Mm, ShadowTable, Vgpu } from "./vgpu.ts";

/** A number as the traces print it. */
export function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}

/** An entry as target and flags. */
export function describe(vgpu: Vgpu, entry: bigint): [target: string, flags: string] {
  return [vgpu.host.nameOf(frameOf(entry)), hex(flagsOf(entry))];
}

/** All state keys. */
export function stateOf(vgpu: Vgpu): StateKeys {
  const stray = vgpu.tables.filter((table) => table.queued.size > 0 && !vgpu.postList.includes(table));
  return {
    wp: [...vgpu.host.protectedFrames].sort((a, b) => a - b),
    oos: vgpu.oosList.map((table) => table.gfn),
    oosUse: vgpu.oosUse.map((table) => table.gfn),
    post: vgpu.postList.map(queuedOf),
    postStray: inOrder(stray).map(queuedOf),
    mms: vgpu.mms.map((mm) => [mm.id, mm.level, mm.references, mm.pins, mm.shadowed] as const),
    lru: vgpu.lru.map((mm) => mm.id),
    nspt: vgpu.tables.length,
  };
}

/** All shadow tables, by frame, then by kind. */
export function tablesOf(vgpu: Vgpu): TableState[] {
  return inOrder(vgpu.tables).map((table) =>
    [table.gfn, table.kind, table.references, table.track.enabled, table.writeCount] as const
  );
}

/** The shadow of an mm, depth first. */
export function treeOf(vgpu: Vgpu, mm: Mm): Tree {
  const seen = new Set<ShadowTable>();
  const roots = mm.shadowRoots.flatMap((root, slot) =>
    root === null ? [] : [[slot, hex(flagsOf(root.value)), childOf(vgpu, root.table, seen)] as const]
  );
  return { level: mm.level, shadowed: mm.shadowed, roots };
}

function childOf(vgpu: Vgpu, table: ShadowTable, seen: Set<ShadowTable>): TreeChild {
  if (seen.has(table)) return { seen: table.gfn };
  seen.add(table);
  const entries: Array<TreeNode["e"][number]> = [];
  for (const [index, entry] of table.entries.entries()) {
    if (entry === 0n) continue;
    const child = tableAt(vgpu, table, entry);
    const leadsTo = child === undefined ? vgpu.host.nameOf(frameOf(entry)) : childOf(vgpu, child, seen);
    entries.push([index, hex(flagsOf(entry)), leadsTo]);
  }
  return { t: table.kind, g: table.gfn, r: table.references, e: entries };
}

/** The table an entry of a directory leads to. */
function tableAt(vgpu: Vgpu, table: ShadowTable, entry: bigint): ShadowTable | undefined {
  if (table.kind === "PTE" || !isPresent(entry)) return undefined;
  const kind = childKind(table.kind);
  return vgpu.tables.find((other) => other.mfn === frameOf(entry) && other.kind === kind);
}

function queuedOf(table: ShadowTable): [gfn: number, indices: number[]] {
  return [table.gfn, [...table.queued].sort((a, b) => a - b)];
}

function inOrder(tables: readonly ShadowTable[]): ShadowTable[] {
  const rank = (table: ShadowTable) => TABLE_KINDS.indexOf(table.kind);
  return [...tables].sort((a, b) => a.gfn - b.gfn || rank(a) - rank(b));
}
