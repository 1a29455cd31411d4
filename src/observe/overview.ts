/**
 * What there is, in one look: address spaces with their tables, and totals.
 *
 * @module
 */

import {
  ENTRIES,
  frameOf,
  isLarge,
  kindName,
  LARGE_FRAMES,
  largeFrameOf,
  PRESENT,
  PTE,
  TABLE_KINDS,
} from "../gtt/entry.ts";
import type { RamView, Snapshot, SpaceView, TableView, WindowView } from "./snapshot.ts";
import { counted } from "./space_lines.ts";
import { TableGraph } from "./table_graph.ts";
import { hex } from "../inspect/target.ts";

/** One address space. */
export interface SpaceOverview {
  /** Its handle. */
  readonly id: number;
  /** Levels. */
  readonly level: 3 | 4;
  /** Guest frames of its roots, by slot; -1 where there is none. */
  readonly roots: number[];
  /** References. */
  readonly refs: number;
  /** Pins. */
  readonly pins: number;
  /** Whether the shadow exists. */
  readonly isShadowed: boolean;
  /** Tables that no other address space leads to. */
  readonly ownTables: number;
  /** Tables that others lead to, too. */
  readonly sharedTables: number;
  /** Tables that are behind the guest's, or may be. */
  readonly outOfSync: number;
  /** Entries of distinct leaf tables that lead to guest RAM, and frames of 2 MiB pages. */
  readonly leaves: number;
}

/** What there is. */
export interface Overview {
  /** How tables follow the guest's. */
  readonly tracking: "trapped" | "untracked";
  /** Whether large pages are offered. */
  readonly hugePages: boolean;
  /** Whether the engine gave up on its guest. */
  readonly failsafe: boolean;
  /** Events recorded. */
  readonly recordedEvents: number;
  /** Address spaces in creation order. */
  readonly spaces: SpaceOverview[];
  /** Totals. */
  readonly totals: {
    /** Tables by kind: `PTE` to `PML4`. */
    readonly tables: Record<string, number>;
    /** All tables. */
    readonly allTables: number;
    /** Of 64 KiB pages. */
    readonly tables64k: number;
    /** Standing for a 2 MiB page that is split. */
    readonly splitPages: number;
    /** Behind the guest's, or may be. */
    readonly outOfSync: number;
    /** Entries that wait for the flush. */
    readonly queued: number;
    /** Guest frames that are tables whose stores trap. */
    readonly trapped: number;
    /** Leaves of all tables that lead to guest RAM. */
    readonly leaves: number;
    /** Distinct frames that they lead to. */
    readonly frames: number;
  };
  /** Guest RAM. */
  readonly ram: readonly RamView[];
  /** The GGTT's windows, with the entries that the guest has present. */
  readonly windows: (WindowView & { readonly present: number })[];
  /** Page tracks of the VMM. */
  readonly tracks: number;
}

/**
 * Looks at everything.
 *
 * @param snapshot The moment.
 * @returns What there is.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sketch } from "../../tests/unit/inspect_snapshot.ts";
 * import { overview } from "./overview.ts";
 *
 * const snapshot = sketch({
 *   tables: [
 *     { kind: 2, gfn: 0x10, mfn: 0x9000, guest: { 0: 0x11003 }, shadow: { 0: 0x9001003 } },
 *     { kind: 1, gfn: 0x11, mfn: 0x9001, guest: { 4: 0x5003, 5: 0x5003 }, shadow: { 4: 0x100005003, 5: 0x100005003 } },
 *   ],
 *   spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
 * });
 * const { spaces: [space], totals } = overview(snapshot);
 * assertEquals([space?.ownTables, space?.leaves, totals.leaves, totals.frames], [2, 2, 2, 1]);
 * ```
 */
export function overview(snapshot: Snapshot): Overview {
  const { tracking, hugePages, failsafe, recordedEvents, spaces, ram, tracks } = snapshot.parts;
  const tables = [...snapshot.parts.tables.values()];
  const frames = new Set<number>();
  const leaves = new Map(tables.map((table) => [table, leavesOf(snapshot, table, frames)]));
  const reached = reachedBy(snapshot);
  const users = new Map<TableView, number>();
  for (const space of spaces) {
    for (const table of reached(space)) users.set(table, (users.get(table) ?? 0) + 1);
  }
  const isBehind = (table: TableView) => {
    return tracking === "trapped" ? table.isOutOfSync : !table.isLookedAt;
  };
  const sum = (list: readonly TableView[], of: (table: TableView) => number) => {
    return list.reduce((total, table) => total + of(table), 0);
  };
  return {
    tracking,
    hugePages,
    failsafe,
    recordedEvents,
    spaces: spaces.map((space) => {
      const { id, level, refs, pins, isShadowed } = space;
      const tables = reached(space);
      const sharedTables = tables.filter((table) => users.get(table)! > 1).length;
      return {
        id,
        level,
        roots: rootFrames(space),
        refs,
        pins,
        isShadowed,
        ownTables: tables.length - sharedTables,
        sharedTables,
        outOfSync: tables.filter(isBehind).length,
        leaves: sum(tables, (table) => leaves.get(table)!),
      };
    }),
    totals: {
      tables: Object.fromEntries(
        TABLE_KINDS.map((kind) => [kindName(kind), tables.filter((table) => table.kind === kind).length]),
      ),
      allTables: tables.length,
      tables64k: tables.filter(({ span }) => span !== 1).length,
      splitPages: tables.filter(({ isSplit }) => isSplit).length,
      outOfSync: tables.filter(isBehind).length,
      queued: sum(tables, ({ queued }) => queued.length),
      trapped: tables.filter(({ isTracked }) => isTracked).length,
      leaves: sum(tables, (table) => leaves.get(table)!),
      frames: frames.size,
    },
    ram,
    windows: snapshot.parts.windows.map((window) => ({ ...window, present: presentIn(snapshot, window) })),
    tracks: tracks.length,
  };
}

/**
 * What there is, as lines.
 *
 * @param seen What was looked at.
 * @returns Lines without line ends.
 */
export function overviewLines(seen: Overview): string[] {
  const { tracking, hugePages, failsafe, recordedEvents, spaces, totals, ram, windows, tracks } = seen;
  const behind = tracking === "trapped" ? "out of sync" : "not looked at";
  const modes = [
    tracking === "trapped" ? "stores to tables are trapped" : "tables are compared, nothing is trapped",
    ...hugePages ? ["large pages are offered"] : [],
    ...failsafe ? ["FAILSAFE: the engine gave up on this guest"] : [],
    ...recordedEvents > 0 ? [`${recordedEvents} events recorded`] : [],
  ];
  const lines = [modes.join("; ")];
  for (const { gpa, size, mfn, kind, readonly } of ram) {
    lines.push(
      `RAM ${hex(gpa)}–${hex(gpa + size - 1)} at mfn ${hex(mfn)}, ${kind}${readonly ? ", read-only" : ""}`,
    );
  }
  for (const { name, base, size, present } of windows) {
    lines.push(
      `GGTT ${name} ${hex(base)}–${hex(base + size - 1)}: ${present} of ${size / 4096} entries present`,
    );
  }
  if (tracks > 0) lines.push(`${counted(tracks, "page track")} of the VMM`);
  const kinds = Object.entries(totals.tables).reverse().map(([kind, count]) => `${count} ${kind}`).join(", ");
  lines.push(
    `${
      counted(totals.allTables, "table")
    }: ${kinds}; ${totals.outOfSync} ${behind}, ${totals.queued} entries queued`,
  );
  const forms = [];
  if (totals.tables64k > 0) forms.push(`${totals.tables64k} of 64 KiB pages`);
  if (totals.splitPages > 0) forms.push(`${totals.splitPages} for split 2 MiB pages`);
  if (forms.length > 0) lines.push(`  of these ${forms.join(", ")}`);
  lines.push(`${totals.leaves} leaves mapped, to ${counted(totals.frames, "frame")}`);
  if (spaces.length === 0) return [...lines, "no address spaces"];
  const rows = [
    ["space", "level", "roots", "refs", "pins", "tables", "shared", behind, "leaves", ""],
    ...spaces.map(({ id, level, roots, refs, pins, isShadowed, ...counts }) => [
      `${id}`,
      `${level}`,
      roots.map((gfn) => gfn < 0 ? "–" : hex(gfn)).join(" "),
      `${refs}`,
      `${pins}`,
      `${counts.ownTables + counts.sharedTables}`,
      `${counts.sharedTables}`,
      `${counts.outOfSync}`,
      `${counts.leaves}`,
      isShadowed ? "" : "not shadowed",
    ]),
  ];
  return [...lines, ...aligned(rows)];
}

/** Finds the tables of address spaces; those with the same roots have the same ones. */
function reachedBy(snapshot: Snapshot): (space: SpaceView) => readonly TableView[] {
  const graph = new TableGraph(snapshot, "shadow");
  const children = new Map<TableView, readonly TableView[]>();
  for (const table of graph.reached) children.set(table, [...graph.children(table)]);
  const known = new Map<string, readonly TableView[]>();
  return (space) => {
    const key = space.shadowRoots.join();
    const before = known.get(key);
    if (before !== undefined) return before;
    const found = new Set(snapshot.rootTables(space).map(([, table]) => table));
    // What is added meanwhile comes later.
    for (const table of found) for (const child of children.get(table) ?? []) found.add(child);
    const tables = [...found];
    known.set(key, tables);
    return tables;
  };
}

/** Rows as columns: roots to the left, numbers to the right. */
function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) => {
    return row.map((text, column) => {
      return column === 2 || column === row.length - 1
        ? text.padEnd(widths[column]!)
        : text.padStart(widths[column]!);
    }).join("  ").trimEnd();
  });
}

/** Guest frames of the roots that are looked at; trailing slots that are empty are left out. */
function rootFrames({ level, roots }: SpaceView): number[] {
  const frames = Array.from({ length: level === 4 ? 1 : 4 }, (_, slot) => {
    const [lo, hi] = [roots[2 * slot]!, roots[2 * slot + 1]!];
    return lo === 0 && hi === 0 ? -1 : frameOf(lo, hi);
  });
  while (frames.length > 1 && frames.at(-1) === -1) frames.pop();
  return frames;
}

/** Counts the leaves of a table that lead to guest RAM, and notes where. */
function leavesOf(snapshot: Snapshot, { kind, shadow }: TableView, frames: Set<number>): number {
  let leaves = 0;
  let before = -1;
  for (let index = 0; index < ENTRIES; index++) {
    const lo = shadow[2 * index]!;
    if ((lo & PRESENT) === 0) continue;
    const isPage = isLarge(kind, lo);
    if (kind !== PTE && !isPage) continue;
    const hi = shadow[2 * index + 1]!;
    if (isPage) {
      const first = largeFrameOf(lo, hi);
      leaves += LARGE_FRAMES;
      for (let i = 0; i < LARGE_FRAMES; i++) frames.add(first + i);
      continue;
    }
    const frame = frameOf(lo, hi);
    if (frame !== before && snapshot.scratchName(frame) !== null) continue;
    leaves++;
    if (frame !== before) frames.add(frame);
    before = frame;
  }
  return leaves;
}

/** Entries of a window that the guest has present. */
function presentIn(snapshot: Snapshot, { base, size }: WindowView): number {
  let present = 0;
  for (let index = base / 4096; index < (base + size) / 4096; index++) {
    const chunk = snapshot.parts.ggtt.get(index >>> 9);
    if (((chunk?.guest[2 * (index % ENTRIES)] ?? 0) & PRESENT) !== 0) present++;
  }
  return present;
}
