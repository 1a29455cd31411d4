/**
 * Which table of one snapshot is which of another one, and which address space: by their numbers if one engine had both; else
 * by what they are, or by where they are.
 *
 * @module
 */

import type { Snapshot, SpaceView, TableView } from "./snapshot.ts";
import { placeText, TableGraph } from "./table_graph.ts";

/** Pairs of two snapshots. */
export class TableMatches {
  /** Address spaces of the first one, with those of the second one that they are. */
  readonly spaces: ReadonlyMap<SpaceView, SpaceView>;
  /** Tables of the first one, with those of the second one that they are. */
  readonly tables: ReadonlyMap<TableView, TableView>;

  /**
   * @param before One snapshot.
   * @param after Another one.
   */
  constructor(before: Snapshot, after: Snapshot) {
    this.spaces = matchSpaces(before, after);
    this.tables = matchTables(before, after, this.spaces);
  }
}

function matchSpaces(before: Snapshot, after: Snapshot): Map<SpaceView, SpaceView> {
  const isSameEngine = before.parts.engine === after.parts.engine;
  const keys: ((space: SpaceView) => string)[] = [
    ({ level, roots, id }) => `${level} ${id} ${usedRoots(level, roots)}`,
    ({ level, roots }) => `${level} ${usedRoots(level, roots)}`,
    ({ level, id }) => `${level} ${id}`,
    ({ level }) => `${level}`,
  ];
  // In one engine a number is never used twice, and roots do not change.
  return match(before.parts.spaces, after.parts.spaces, isSameEngine ? keys.slice(0, 1) : keys);
}

function matchTables(
  before: Snapshot,
  after: Snapshot,
  spaces: ReadonlyMap<SpaceView, SpaceView>,
): Map<TableView, TableView> {
  const isSameEngine = before.parts.engine === after.parts.engine;
  const form = ({ kind, span, isSplit }: TableView) => `${kind} ${span} ${isSplit}`;
  const keys: ((table: TableView) => string | null)[] = [
    (table) => `${form(table)} ${table.gfn}`,
    pathKey(before, after, spaces, form),
  ];
  if (isSameEngine) keys.unshift((table) => `${form(table)} ${table.gfn} ${table.serial}`);
  return match([...before.parts.tables.values()], [...after.parts.tables.values()], keys);
}

/** The way to a table, where address spaces are named alike in both snapshots. */
function pathKey(
  before: Snapshot,
  after: Snapshot,
  spaces: ReadonlyMap<SpaceView, SpaceView>,
  form: (table: TableView) => string,
): (table: TableView) => string | null {
  const names = new Map<SpaceView, string>();
  let number = 0;
  for (const [one, other] of spaces) {
    names.set(one, `${number}`);
    names.set(other, `${number++}`);
  }
  const graphs = [new TableGraph(before, "shadow"), new TableGraph(after, "shadow")];
  return (table) => {
    const place = graphs.find((graph) => graph.has(table))?.place(table);
    if (place === null || place === undefined) return null;
    const name = names.get(place.space);
    const { slot, path } = place;
    return name === undefined ? null : `${form(table)} ${name} ${slot} ${path.join(" ")}`;
  };
}

/** Pairs what has one key, the first of each with the first; what is left by the next key. */
function match<T>(
  before: readonly T[],
  after: readonly T[],
  keys: readonly ((each: T) => string | null)[],
): Map<T, T> {
  const pairs = new Map<T, T>();
  const taken = new Set<T>();
  for (const key of keys) {
    const left = Map.groupBy(after.filter((each) => !taken.has(each)), key);
    for (const each of before) {
      if (pairs.has(each)) continue;
      const name = key(each);
      if (name === null) continue;
      const found = left.get(name)?.shift();
      if (found === undefined) continue;
      pairs.set(each, found);
      taken.add(found);
    }
  }
  return pairs;
}

function usedRoots(level: 3 | 4, roots: Uint32Array): string {
  return (level === 4 ? roots.subarray(0, 2) : roots).join();
}

/**
 * Where a table is, in words.
 *
 * @param graph Knows the ways.
 * @param table The table.
 * @returns The first way to it, or `null` if no root leads there.
 */
export function wayTo(graph: TableGraph, table: TableView): string | null {
  const place = graph.place(table);
  return place === null ? null : placeText(place);
}
