/**
 * The engine's lists as plain values: what `state` answers and what recorded traces compare.
 *
 * @module
 */

import { kindName } from "../gtt/entry.ts";
import { pageForm } from "./tree.ts";
import type { ShadowTable } from "../gtt/shadow_table.ts";
import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";

/**
 * Name, count and flags of one shadow table: gfn, kind, references, whether stores trap, trapped stores. A kind is "PTE" to
 * "PML4", or "PTE 64K" or "PTE 2M" (see `PageForm`).
 */
export type TableState = [gfn: number, kind: string, refs: number, tracked: boolean, writeCount: number];

/** One address space: number, level, references, pins, whether it is shadowed. */
export type MmState = [id: number, level: number, refs: number, pins: number, shadowed: boolean];

/** A table and its queued entries. */
export type QueuedState = [gfn: number, indices: number[]];

/** The engine's lists. */
export interface EngineState {
  /** Live shadow tables by frame, then kind. */
  spts: TableState[];
  /** Tables out of sync, by frame, in list order. */
  oos: number[];
  /** Tables that own a snapshot, by frame, in list order. */
  oosUse: number[];
  /** The post-shadow list in order. */
  post: QueuedState[];
  /** Tables with queued entries that are not listed. */
  postStray: QueuedState[];
  /** Address spaces in creation order. */
  mms: MmState[];
  /** Address spaces in order of last use, the longest unused first. */
  lru: number[];
  /** Number of live shadow tables. */
  nspt: number;
}

/** Takes the lists of an engine. */
export function engineState(gtt: VgpuGtt): EngineState {
  const { tables, oos, post, mms } = gtt.parts;
  const live = [...tables.all()].sort((a, b) => a.gfn - b.gfn || a.kind - b.kind || a.span - b.span);
  const kindText = (table: ShadowTable) =>
    [kindName(table.kind), ...Object.values(pageForm(table))].join(" ");
  const frames = (set: Iterable<ShadowTable>) => [...set].map((table) => table.gfn);
  const queue = (table: ShadowTable): QueuedState => [table.gfn, table.queuedIndices()];
  return {
    spts: live.map((t) => [t.gfn, kindText(t), t.refs, t.enabled, t.writeCount]),
    oos: frames(oos.outOfSync),
    oosUse: frames(oos.attached),
    post: [...post.listed].map(queue),
    postStray: live.filter((table) => !post.listed.has(table)).map(queue).filter(([, bits]) =>
      bits.length > 0
    ),
    mms: [...mms.all()].map((mm) => [mm.id, mm.level, mm.refs, mm.pins, mm.shadowed]),
    lru: [...gtt.gvt.lru].filter((mm) => mms.get(mm.id) === mm).map((mm) => mm.id),
    nspt: tables.size,
  };
}
