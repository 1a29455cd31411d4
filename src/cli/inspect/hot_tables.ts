/**
 * The tables that change most, and whose they are.
 *
 * @module
 */

import { ENTRIES, frameOf, isLarge, kindName, PRESENT, PTE } from "../../gtt/entry.ts";
import type { Snapshot, TableView } from "../../observe/snapshot.ts";

/** A table that changed. */
export interface HotTable {
  /** Its number. */
  readonly serial: number;
  /** Kind of table. */
  readonly kind: string;
  /** Guest frame. */
  readonly gfn: number;
  /** Entries that changed, on either side. */
  readonly entries: number;
  /** Address spaces that lead to it, ascending. */
  readonly spaces: readonly number[];
}

/**
 * The tables that changed most.
 *
 * @param snapshot The second of two.
 * @param changed Entries that changed between them, by serial.
 * @param limit How many tables at most.
 * @returns The one that changed most first.
 */
export function hotTables(
  snapshot: Snapshot,
  changed: ReadonlyMap<number, number>,
  limit: number,
): HotTable[] {
  const hot = [...changed].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, limit).flatMap(
    ([serial, entries]) => {
      const table = snapshot.parts.tables.get(serial);
      return table === undefined ? [] : [{ table, entries, spaces: new Set<number>() }];
    },
  );
  if (hot.length === 0) return [];
  const owners = new Map(hot.map(({ table, spaces }) => [table, spaces]));
  for (const space of snapshot.parts.spaces) {
    const seen = new Set<TableView>();
    const visit = (table: TableView) => {
      if (seen.has(table)) return;
      seen.add(table);
      owners.get(table)?.add(space.id);
      if (table.kind !== PTE) { for (const child of children(snapshot, table)) visit(child); }
    };
    for (const [, root] of snapshot.rootTables(space)) visit(root);
  }
  return hot.map(({ table: { serial, kind, gfn }, entries, spaces }) => ({
    serial,
    kind: kindName(kind),
    gfn,
    entries,
    spaces: [...spaces].sort((a, b) => a - b),
  }));
}

function* children(snapshot: Snapshot, { kind, shadow }: TableView): Generator<TableView> {
  let last = -1;
  for (let index = 0; index < ENTRIES; index++) {
    const lo = shadow[2 * index]!;
    if ((lo & PRESENT) === 0 || isLarge(kind, lo)) continue;
    const mfn = frameOf(lo, shadow[2 * index + 1]!);
    if (mfn === last) continue; // a guest's scratch table, 512 times
    last = mfn;
    const child = snapshot.tableAt(mfn);
    if (child !== undefined) yield child;
  }
}
