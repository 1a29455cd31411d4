/**
 * Which table leads to which: at how many graphics addresses a table is, and at which ones.
 *
 * Tables are shared: 512 entries of a guest's PML4 may lead to one scratch tree, and a hostile guest has 2^36 ways down to one
 * leaf table. So nothing here follows all ways. Each table is looked at once, kind by kind from the roots down; a child's kind
 * is below its parent's, so that ends whatever leads where. The number of ways is added up, and a few are made from the
 * bottom up.
 *
 * @module
 */

import {
  ENTRIES,
  frameOf,
  IPS,
  isLarge,
  kindName,
  largeFrameOf,
  PDE,
  PRESENT,
  PTE,
  type TableKind,
} from "../gtt/entry.ts";
import type { Side } from "./entry_text.ts";
import type { Snapshot, SpaceView, TableView } from "./snapshot.ts";

/** Bytes of graphics memory that one entry of each kind of table stands for, by kind; of a PML4 table 512 GiB. */
export const ENTRY_BYTES: readonly number[] = [0, 2 ** 12, 2 ** 21, 2 ** 30, 2 ** 39];

/** A place in an address space where a table is. */
export interface Place {
  /** The address space. */
  readonly space: SpaceView;
  /** Root slot. */
  readonly slot: number;
  /** Graphics address of the table's first entry. */
  readonly base: number;
  /** Indices of the entries on the way from the root, of which the last one leads to the table. */
  readonly path: readonly number[];
}

/** What is known of a table: at how many places it is, and the first way there. */
interface Node {
  count: number;
  /** The table that leads there; `null`: a root does. */
  readonly parent: TableView | null;
  /** The entry that does, or the root slot. */
  readonly index: number;
  /** Whose root. */
  readonly space: SpaceView | null;
}

/**
 * The tables of address spaces, as one side has them.
 *
 * @example Two entries lead to one table
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sketch } from "../../tests/unit/inspect_snapshot.ts";
 * import { TableGraph } from "./table_graph.ts";
 *
 * const pde = { kind: 2, gfn: 0x10, mfn: 0x9000, shadow: { 0: 0x9001003, 3: 0x9001003 } } as const;
 * const pte = { kind: 1, gfn: 0x11, mfn: 0x9001 } as const;
 * const snapshot = sketch({
 *   tables: [pde, pte],
 *   spaces: [{ level: 3, roots: [0, 0x10000], shadowRoots: [0, 0x9000000] }],
 * });
 * const graph = new TableGraph(snapshot, "shadow");
 * const table = snapshot.tableAt(0x9001)!;
 * assertEquals(graph.count(table), 2);
 * assertEquals([...graph.places(table)].map(({ base, path }) => [base, path]), [[0x40000000, [0]], [0x40600000, [3]]]);
 * ```
 */
export class TableGraph {
  /** Tables that the roots lead to, directories first. */
  readonly reached: readonly TableView[];
  readonly #snapshot: Snapshot;
  readonly #side: Side;
  readonly #spaces: readonly SpaceView[];
  readonly #nodes = new Map<TableView, Node>();
  readonly #byKind: readonly TableView[][] = [[], [], [], [], []];
  /** Tables by frame and form, for the guest's side. */
  #byGfn: Map<number, TableView> | null = null;

  /**
   * @param snapshot Where the tables are.
   * @param side Whose entries count: the guest's as they are now, or the shadow's.
   * @param spaces Whose roots; default all.
   */
  constructor(snapshot: Snapshot, side: Side, spaces: readonly SpaceView[] = snapshot.parts.spaces) {
    this.#snapshot = snapshot;
    this.#side = side;
    const reach = (
      table: TableView,
      count: number,
      parent: TableView | null,
      index: number,
      space: SpaceView | null,
    ) => {
      const node = this.#nodes.get(table);
      if (node !== undefined) {
        node.count += count;
        return;
      }
      this.#nodes.set(table, { count, parent, index, space });
      this.#byKind[table.kind]!.push(table);
    };
    this.#spaces = spaces;
    for (const space of spaces) {
      for (const [slot, table] of this.#roots(space)) reach(table, 1, null, slot, space);
    }
    for (let kind = 4; kind > PTE; kind--) {
      for (const parent of this.#byKind[kind]!) {
        const { count } = this.#nodes.get(parent)!;
        this.#eachChild(parent, (child, first, last) => {
          reach(child, count * (last - first + 1), parent, first, null);
        });
      }
    }
    this.reached = this.#byKind.toReversed().flat();
  }

  /**
   * Whether the roots lead to a table.
   *
   * @param table A table of the snapshot.
   */
  has(table: TableView): boolean {
    return this.#nodes.has(table);
  }

  /**
   * At how many graphics addresses a table is, over all address spaces.
   *
   * @param table A table of the snapshot.
   * @returns 0 if no root leads to it.
   */
  count(table: TableView): number {
    return this.#nodes.get(table)?.count ?? 0;
  }

  /**
   * The places of a table, one after another; there may be billions, so take a few.
   *
   * @param table A table of the snapshot.
   * @returns Places, in the order of the tables that lead there.
   */
  *places(table: TableView): Generator<Place> {
    if (!this.#nodes.has(table)) return;
    for (const space of this.#spaces) {
      for (const [slot, root] of this.#roots(space)) {
        if (root === table) yield { space, slot, base: slot * ROOT_BYTES, path: [] };
      }
    }
    for (const parent of this.#byKind[table.kind + 1] ?? []) {
      const indices = this.#indicesOf(parent, table);
      if (indices.length === 0) continue;
      for (const { base, path, ...place } of this.places(parent)) {
        for (const index of indices) {
          yield { ...place, base: base + index * ENTRY_BYTES[parent.kind]!, path: [...path, index] };
        }
      }
    }
  }

  /**
   * A place of a table.
   *
   * @param table A table of the snapshot.
   * @returns One of them, or `null` if no root leads to it.
   */
  place(table: TableView): Place | null {
    const node = this.#nodes.get(table);
    if (node === undefined) return null;
    const { parent, index, space } = node;
    if (parent === null) return { space: space!, slot: index, base: index * ROOT_BYTES, path: [] };
    const { base, path, ...place } = this.place(parent)!;
    return { ...place, base: base + index * ENTRY_BYTES[parent.kind]!, path: [...path, index] };
  }

  /**
   * The tables that a directory leads to, each once.
   *
   * @param table A directory.
   */
  children(table: TableView): Set<TableView> {
    const found = new Set<TableView>();
    if (table.kind !== PTE) this.#eachChild(table, (child) => found.add(child));
    return found;
  }

  /**
   * The table that an entry of a directory leads to.
   *
   * @param table A directory.
   * @param index Entry, 0..511.
   * @returns The table, or `undefined`: nothing, scratch, or what is no table of this snapshot.
   */
  child(table: TableView, index: number): TableView | undefined {
    const lanes = this.#side === "guest" ? table.guest : table.shadow;
    if (lanes === null) return undefined;
    const [lo, hi] = [lanes[2 * index]!, lanes[2 * index + 1]!];
    const { kind } = table;
    if ((lo & PRESENT) === 0 || kind === PTE) return undefined;
    if (this.#side === "shadow") {
      const child = isLarge(kind, lo) ? undefined : this.#snapshot.tableAt(frameOf(lo, hi));
      return child?.kind === kind - 1 ? child : undefined;
    }
    if (isLarge(kind, lo)) return this.#splitOf(table, index, largeFrameOf(lo, hi));
    const has64k = this.#snapshot.parts.hugePages && kind === PDE && (lo & IPS) !== 0;
    return this.#ofGuest(frameOf(lo, hi), (kind - 1) as TableKind, has64k ? 16 : 1);
  }

  #eachChild(table: TableView, visit: (child: TableView, first: number, last: number) => void): void {
    const lanes = this.#side === "guest" ? table.guest : table.shadow;
    if (lanes === null) return;
    let first = 0;
    let before: TableView | undefined;
    for (let index = 0; index <= ENTRIES; index++) {
      const lane = 2 * index;
      const isAlike = index > 0 && index < ENTRIES && lanes[lane] === lanes[lane - 2] &&
        lanes[lane + 1] === lanes[lane - 1] && before?.isSplit !== true;
      if (isAlike) continue;
      const child = index < ENTRIES ? this.child(table, index) : undefined;
      if (index > 0 && child === before && index < ENTRIES) continue;
      if (before !== undefined) visit(before, first, index - 1);
      [first, before] = [index, child];
    }
  }

  /** The entries of a directory that lead to a table. */
  #indicesOf(parent: TableView, table: TableView): number[] {
    const [lanes, frame] = this.#side === "guest" ? [parent.guest, table.gfn] : [parent.shadow, table.mfn];
    const found: number[] = [];
    for (let index = 0; index < ENTRIES && lanes !== null; index++) {
      if (frameOf(lanes[2 * index]!, lanes[2 * index + 1]!) !== frame && !table.isSplit) continue;
      if (this.child(parent, index) === table) found.push(index);
    }
    return found;
  }

  #roots(space: SpaceView): [slot: number, table: TableView][] {
    if (this.#side === "shadow") return this.#snapshot.rootTables(space);
    const { level, roots } = space;
    const kind = level === 4 ? 4 : PDE;
    const found: [number, TableView][] = [];
    for (let slot = 0; slot < (level === 4 ? 1 : 4); slot++) {
      const [lo, hi] = [roots[2 * slot]!, roots[2 * slot + 1]!];
      const table = lo === 0 && hi === 0 ? undefined : this.#ofGuest(frameOf(lo, hi), kind, 1);
      if (table !== undefined && space.isShadowed) found.push([slot, table]);
    }
    return found;
  }

  /** The table of a split page that an entry of the guest is. */
  #splitOf({ shadow }: TableView, index: number, gfn: number): TableView | undefined {
    const table = this.#snapshot.tableAt(frameOf(shadow[2 * index]!, shadow[2 * index + 1]!));
    return table?.isSplit === true && table.gfn === gfn ? table : undefined;
  }

  #ofGuest(gfn: number, kind: TableKind, span: number): TableView | undefined {
    if (this.#byGfn === null) {
      this.#byGfn = new Map();
      for (const table of this.#snapshot.parts.tables.values()) {
        if (!table.isSplit) this.#byGfn.set(keyOf(table.gfn, table.kind, table.span), table);
      }
    }
    return this.#byGfn.get(keyOf(gfn, kind, span));
  }
}

/**
 * A way as text.
 *
 * @param place Where a table is.
 * @returns E.g. `space 3 > root 0 > PML4[0] > PDP[3]`.
 */
export function placeText({ space, slot, path }: Place): string {
  const kinds = path.map((index, i) =>
    `${kindName(((space.level === 4 ? 4 : 2) - i) as TableKind)}[${index}]`
  );
  return [`space ${space.id}`, `root ${slot}`, ...kinds].join(" > ");
}

/** Bytes of graphics memory that one root of level 3 stands for. */
const ROOT_BYTES = 2 ** 30;

function keyOf(gfn: number, kind: TableKind, span: number): number {
  return gfn * 16 + kind * 2 + (span === 1 ? 0 : 1);
}
