/**
 * Two snapshots: what changed from one to the other, of one process or of two. Shadows are compared by what they mean: host
 * frames are other ones in another process, or when a table was built anew.
 *
 * @module
 */

import {
  ENTRIES,
  FLAGS_LO,
  FRAME_HI,
  frameOf,
  isLarge,
  kindName,
  LARGE_FLAGS_LO,
  PRESENT,
  PTE,
} from "../gtt/entry.ts";
import { entryFrame, hexEntry } from "./entry_text.ts";
import type { RamFrames } from "./ram_frames.ts";
import { GGTT_CHUNK, type Snapshot, type SpaceView, type TableView } from "./snapshot.ts";
import { counted } from "./space_lines.ts";
import { ENTRY_BYTES, TableGraph } from "./table_graph.ts";
import { TableMatches, wayTo } from "./table_matches.ts";
import { hex } from "../inspect/target.ts";
import { tableText } from "./sentences.ts";
import { Judge } from "./verdict.ts";

/** Changes that are told one by one, of each sort, if nobody says how many. */
export const CHANGES = 200;

/** How much is told. */
export interface SnapshotDiffOptions {
  /** Changes told of each sort; default {@linkcode CHANGES}. */
  readonly limit?: number | undefined;
}

/** Entries that changed in one way, neighbours. */
export interface EntryChange {
  /** The table and where it is; `GGTT`. */
  readonly table: string;
  /** Kind of the entries. */
  readonly kind: string;
  /** First index. */
  readonly first: number;
  /** Last index. */
  last: number;
  /** First graphics address; `null` if no root leads there. */
  readonly from: number | null;
  /** Last graphics address. */
  to: number | null;
  /** Which side changed. */
  readonly side: "both" | "guest" | "shadow";
  /** What became of the entries: of the guest's, if these changed. */
  readonly how: "added" | "removed" | "changed";
  /** The guest's first entry before and after, 16 digits. */
  readonly guest: [before: string, after: string];
  /** The shadow's. */
  readonly shadow: [before: string, after: string];
}

/** A list that may be longer than what is told. */
export interface Changes<T> {
  /** The first ones. */
  readonly told: T[];
  /** How many there are. */
  count: number;
}

/** What changed. */
export interface SnapshotDiff {
  /** Whether nothing did: neither address spaces, nor tables, nor entries, nor the GGTT, nor RAM. */
  readonly isSame: boolean;
  /** Whether both are of one engine; else numbers mean nothing to one another. */
  readonly isSameEngine: boolean;
  /** What the devices are set up for, RAM, windows. */
  readonly setup: string[];
  /** Address spaces that came, went, changed. */
  readonly spaces: Changes<string>;
  /** Tables that came. */
  readonly added: Changes<string>;
  /** Tables that went. */
  readonly removed: Changes<string>;
  /** Entries of tables that are in both. */
  readonly entries: Changes<EntryChange>;
  /** Entries of the GGTT. */
  readonly ggtt: Changes<EntryChange>;
  /** How tables follow the guest's now, and how many of them did so otherwise; no change of what is mapped. */
  readonly states: Record<string, number>;
}

/**
 * Compares two snapshots.
 *
 * @param before One.
 * @param after The other one.
 * @param options How much is told.
 * @returns What changed.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sketch } from "../../tests/unit/inspect_snapshot.ts";
 * import { diffSnapshots, snapshotDiffLines } from "./snapshot_diff.ts";
 *
 * const table = { kind: 1, gfn: 0x11, mfn: 0x9001 } as const;
 * const before = sketch({ tables: [{ ...table, guest: { 4: 0x5003 }, shadow: { 4: 0x100005003 } }] });
 * const after = sketch({ tables: [{ ...table, guest: { 4: 0x6003 }, shadow: { 4: 0x100006003 } }] });
 * assertEquals(diffSnapshots(before, before).isSame, true);
 * assertEquals(snapshotDiffLines(diffSnapshots(before, after)), [
 *   "1 entry changed",
 *   "* PTE[4] of the PTE table of gfn 0x11 (no root leads there) · guest 0x0000000000005003 → 0x0000000000006003 · shadow 0x0000000100005003 → 0x0000000100006003",
 * ]);
 * ```
 */
export function diffSnapshots(
  before: Snapshot,
  after: Snapshot,
  { limit = CHANGES }: SnapshotDiffOptions = {},
): SnapshotDiff {
  return new SnapshotDiffer(before, after, limit).diff();
}

/** Meaning of shadow entries of one snapshot. */
class Meanings {
  readonly snapshot: Snapshot;
  readonly graph: TableGraph;
  readonly judge: Judge;
  readonly #ram: RamFrames;

  constructor(snapshot: Snapshot) {
    this.snapshot = snapshot;
    this.graph = new TableGraph(snapshot, "shadow");
    this.judge = new Judge(snapshot);
    this.#ram = this.judge.ram;
  }

  /** What a host frame is: a table, or a scratch page's name, or a guest frame; else the host frame, as a negative number. */
  target(mfn: number, isDirectory: boolean): TableView | string | number {
    const table = isDirectory ? this.snapshot.tableAt(mfn) : undefined;
    if (table !== undefined) return table;
    const scratch = this.snapshot.scratchName(mfn);
    if (scratch !== null) return scratch;
    const gfn = this.#ram.gfnOf(mfn);
    return gfn < 0 ? -1 - mfn : gfn;
  }
}

class SnapshotDiffer {
  readonly #before: Meanings;
  readonly #after: Meanings;
  readonly #limit: number;
  readonly #matches: TableMatches;
  readonly #entries: Changes<EntryChange> = { told: [], count: 0 };
  readonly #ggtt: Changes<EntryChange> = { told: [], count: 0 };
  readonly #states: Record<string, number> = {};
  /** The run that an entry may continue, told or not. */
  #run: EntryChange | null = null;

  constructor(before: Snapshot, after: Snapshot, limit: number) {
    this.#before = new Meanings(before);
    this.#after = new Meanings(after);
    this.#limit = limit;
    this.#matches = new TableMatches(before, after);
  }

  diff(): SnapshotDiff {
    const [before, after] = [this.#before.snapshot.parts, this.#after.snapshot.parts];
    const setup = this.#setup();
    const spaces = this.#spaces();
    const { tables } = this.#matches;
    const kept = new Set(tables.values());
    const gone = [...before.tables.values()].filter((table) => !tables.has(table));
    const come = [...after.tables.values()].filter((table) => !kept.has(table));
    for (const [one, other] of tables) this.#table(one, other);
    this.#compareGgtt();
    const [added, removed] = [this.#list(come, this.#after.graph), this.#list(gone, this.#before.graph)];
    const changes = [spaces, added, removed, this.#entries, this.#ggtt];
    return {
      isSame: setup.length === 0 && changes.every(({ count }) => count === 0),
      isSameEngine: before.engine === after.engine,
      setup,
      spaces,
      added,
      removed,
      entries: this.#entries,
      ggtt: this.#ggtt,
      states: this.#states,
    };
  }

  #setup(): string[] {
    const [before, after] = [this.#before.snapshot.parts, this.#after.snapshot.parts];
    const found: string[] = [];
    for (const name of ["tracking", "hugePages", "failsafe"] as const) {
      if (before[name] !== after[name]) found.push(`${name}: ${before[name]} → ${after[name]}`);
    }
    const ram = ({ gpa, size }: { gpa: number; size: number }) => `${hex(gpa)}–${hex(gpa + size - 1)}`;
    const [one, other] = [before.ram.map(ram), after.ram.map(ram)];
    if (one.join() !== other.join()) {
      found.push(`RAM: ${one.join(", ") || "none"} → ${other.join(", ") || "none"}`);
    }
    const window = ({ name, base, size }: { name: string; base: number; size: number }) => {
      return `${name} ${hex(base)}–${hex(base + size - 1)}`;
    };
    const [windows, others] = [before.windows.map(window), after.windows.map(window)];
    if (windows.join() !== others.join()) found.push(`windows: ${windows.join(", ")} → ${others.join(", ")}`);
    return found;
  }

  #spaces(): Changes<string> {
    const { spaces } = this.#matches;
    const kept = new Set(spaces.values());
    const found: string[] = [];
    for (const space of this.#before.snapshot.parts.spaces) {
      if (!spaces.has(space)) {
        found.push(`- space ${space.id} (${space.level} levels, root ${rootText(space)}) ended`);
      }
    }
    for (const space of this.#after.snapshot.parts.spaces) {
      if (!kept.has(space)) {
        found.push(`+ space ${space.id} (${space.level} levels, root ${rootText(space)}) began`);
      }
    }
    for (const [one, other] of spaces) {
      const what: string[] = [];
      if (rootText(one) !== rootText(other)) what.push(`root ${rootText(one)} → ${rootText(other)}`);
      for (const name of ["refs", "pins"] as const) {
        if (one[name] !== other[name]) what.push(`${name} ${one[name]} → ${other[name]}`);
      }
      if (one.isShadowed !== other.isShadowed) {
        what.push(other.isShadowed ? "shadowed again" : "lost its shadow");
      }
      const id = one.id === other.id ? `${one.id}` : `${one.id}, now ${other.id}`;
      if (what.length > 0) found.push(`* space ${id}: ${what.join(", ")}`);
    }
    return { told: found.slice(0, this.#limit), count: found.length };
  }

  #list(tables: readonly TableView[], graph: TableGraph): Changes<string> {
    const told = tables.slice(0, this.#limit).map((table) => `${tableText(table)} (${placed(graph, table)})`);
    return { told, count: tables.length };
  }

  #table(one: TableView, other: TableView): void {
    const [was, is] = [this.#before.judge.table(one).text, this.#after.judge.table(other).text];
    if (was !== is) {
      const change = `${was} → ${is}`;
      this.#states[change] = (this.#states[change] ?? 0) + 1;
    }
    // A mirror keeps the pages that did not change.
    const isSameEngine = this.#before.snapshot.parts.engine === this.#after.snapshot.parts.engine;
    if (isSameEngine && one.shadow === other.shadow && one.guest === other.guest) return;
    this.#run = null;
    const isDirectory = one.kind !== PTE;
    let side = 0;
    for (let index = 0; index < ENTRIES; index++) {
      const isAlike = isAsBefore(one.shadow, index) && isAsBefore(other.shadow, index) &&
        isAsBefore(one.guest, index) && isAsBefore(other.guest, index);
      if (!isAlike) {
        const isGuest = this.#guestDiffers(one, other, index);
        const mayBeLarge = isDirectory && one.kind < 4;
        const isShadow = this.#shadowDiffers(one.shadow, other.shadow, index, isDirectory, mayBeLarge);
        side = (isGuest ? GUEST : 0) | (isShadow ? SHADOW : 0);
      }
      if (side !== 0) this.#entry(one, other, index, side);
    }
  }

  #guestDiffers({ guest }: TableView, { guest: now }: TableView, index: number): boolean {
    if (guest === null || now === null) return index === 0 && guest !== now;
    return guest[2 * index] !== now[2 * index] || guest[2 * index + 1] !== now[2 * index + 1];
  }

  /** Whether two entries of shadows mean something else. */
  #shadowDiffers(
    one: Uint32Array,
    other: Uint32Array,
    at: number,
    isDirectory: boolean,
    mayBeLarge: boolean,
  ): boolean {
    const [lo, hi] = [one[2 * at]!, one[2 * at + 1]!];
    const [nowLo, nowHi] = [other[2 * at]!, other[2 * at + 1]!];
    const isPage = mayBeLarge && isLarge(2, lo);
    const flags = isPage ? LARGE_FLAGS_LO : FLAGS_LO;
    if (((lo ^ nowLo) & FLAGS_LO) !== 0 || ((hi ^ nowHi) & ~FRAME_HI) !== 0) return true;
    if (((lo ^ nowLo) & flags) !== 0 && isPage) return true;
    // What is not present leads nowhere.
    if ((lo & PRESENT) === 0) return false;
    const was = this.#before.target(
      frameOf(lo, hi) - (isPage ? (lo >>> 12) % 512 : 0),
      isDirectory && !isPage,
    );
    const is = this.#after.target(
      frameOf(nowLo, nowHi) - (isPage ? (nowLo >>> 12) % 512 : 0),
      isDirectory && !isPage,
    );
    if (typeof was !== "object") return was !== is;
    return this.#matches.tables.get(was) !== is;
  }

  #entry(one: TableView, other: TableView, index: number, side: number): void {
    const { graph } = this.#after;
    this.#add(this.#entries, index, side, [one.guest, other.guest, one.shadow, other.shadow], index, () => {
      const place = graph.place(other);
      const bytes = ENTRY_BYTES[other.kind]!;
      const from = place === null ? null : place.base + index * bytes;
      const to = from === null ? null : from + bytes - 1;
      return { table: `${tableText(other)} (${placed(graph, other)})`, kind: kindName(other.kind), from, to };
    }, ENTRY_BYTES[other.kind]!);
  }

  #compareGgtt(): void {
    this.#run = null;
    const [before, after] = [this.#before.snapshot.parts.ggtt, this.#after.snapshot.parts.ggtt];
    for (const [chunk, { guest: nowGuest, host: nowHost }] of after) {
      const { guest, host } = before.get(chunk) ?? EMPTY_CHUNK;
      for (let at = 0; at < GGTT_CHUNK; at++) {
        const lane = 2 * at;
        const side = (guest[lane] !== nowGuest[lane] || guest[lane + 1] !== nowGuest[lane + 1] ? GUEST : 0) |
          (this.#shadowDiffers(host, nowHost, at, false, false) ? SHADOW : 0);
        if (side === 0) continue;
        const index = chunk * GGTT_CHUNK + at;
        this.#add(this.#ggtt, index, side, [guest, nowGuest, host, nowHost], at, () => {
          return { table: "GGTT", kind: "GGTT", from: index * 4096, to: index * 4096 + 4095 };
        }, 4096);
      }
    }
  }

  /** Adds a changed entry to the run before it, or begins one. */
  #add(
    changes: Changes<EntryChange>,
    index: number,
    side: number,
    [guest, nowGuest, shadow, nowShadow]: readonly (Uint32Array | null)[],
    at: number,
    where: () => Pick<EntryChange, "table" | "kind" | "from" | "to">,
    bytes: number,
  ): void {
    const isGuest = (side & GUEST) !== 0 && guest !== null && nowGuest !== null;
    const how = howOf(isGuest ? guest! : shadow!, isGuest ? nowGuest! : nowShadow!, at);
    const run = this.#run;
    changes.count++;
    if (run !== null && run.last === index - 1 && run.side === SIDES[side] && run.how === how) {
      run.last = index;
      if (run.to !== null) run.to += bytes;
      return;
    }
    const isTold = changes.told.length < this.#limit;
    const place = isTold ? where() : { table: "", kind: "", from: null, to: null };
    this.#run = {
      ...place,
      first: index,
      last: index,
      side: SIDES[side]!,
      how,
      guest: [hexAt(guest!, at), hexAt(nowGuest!, at)],
      shadow: [hexAt(shadow!, at), hexAt(nowShadow!, at)],
    };
    if (isTold) changes.told.push(this.#run);
  }
}

const [GUEST, SHADOW] = [1, 2];
const SIDES: readonly EntryChange["side"][] = ["both", "guest", "shadow", "both"];
const EMPTY_CHUNK = { guest: new Uint32Array(2 * GGTT_CHUNK), host: new Uint32Array(2 * GGTT_CHUNK) };

/** Whether an entry is as the one before it. */
function isAsBefore(lanes: Uint32Array | null, index: number): boolean {
  return lanes !== null && index > 0 && lanes[2 * index] === lanes[2 * index - 2] &&
    lanes[2 * index + 1] === lanes[2 * index - 1];
}

function howOf(one: Uint32Array, other: Uint32Array, at: number): EntryChange["how"] {
  const [was, is] = [(one[2 * at]! & PRESENT) !== 0, (other[2 * at]! & PRESENT) !== 0];
  return was === is ? "changed" : is ? "added" : "removed";
}

function hexAt(lanes: Uint32Array | null, at: number): string {
  return lanes === null ? "unreadable" : hexEntry(lanes[2 * at]!, lanes[2 * at + 1]!);
}

function placed(graph: TableGraph, table: TableView): string {
  return wayTo(graph, table) ?? "no root leads there";
}

function rootText({ level, roots }: SpaceView): string {
  const kind = "root";
  const frames = Array.from({ length: level === 4 ? 1 : 4 }, (_, slot) => {
    const [lo, hi] = [roots[2 * slot]!, roots[2 * slot + 1]!];
    return lo === 0 && hi === 0 ? "–" : hex(entryFrame(kind, lo, hi));
  });
  return frames.join(" ");
}

/**
 * What changed, as lines: `+` came, `-` went, `*` changed.
 *
 * @param diff What changed.
 * @returns Lines without line ends.
 */
export function snapshotDiffLines(diff: SnapshotDiff): string[] {
  const { isSame, isSameEngine, setup, spaces, added, removed, entries, ggtt, states } = diff;
  const lines: string[] = [];
  if (!isSameEngine) {
    lines.push("of two engines: tables are matched by guest frame and kind, or by where they are");
  }
  if (isSame) lines.push("no difference");
  for (const each of setup) lines.push(`* ${each}`);
  section(lines, spaces, "address space", "changed", (text) => text);
  section(lines, added, "table", "added", (text) => `+ ${text}`);
  section(lines, removed, "table", "removed", (text) => `- ${text}`);
  entrySection(lines, entries, "changed");
  entrySection(lines, ggtt, "of the GGTT changed");
  for (const [change, count] of Object.entries(states)) lines.push(`  ${counted(count, "table")}: ${change}`);
  return lines;
}

function section<T>(
  lines: string[],
  { told, count }: Changes<T>,
  thing: string,
  what: string,
  text: (each: T) => string,
): void {
  if (count === 0) return;
  lines.push(`${counted(count, thing)} ${what}`, ...told.map(text));
  if (count > told.length) lines.push(`  … and ${count - told.length} more`);
}

function entrySection(lines: string[], { told, count }: Changes<EntryChange>, what: string): void {
  if (count === 0) return;
  lines.push(`${count} ${count === 1 ? "entry" : "entries"} ${what}`, ...told.map(changeLine));
  const shown = told.reduce((sum, { first, last }) => sum + last - first + 1, 0);
  if (count > shown) lines.push(`  … and ${count - shown} more`);
}

function changeLine({ table, kind, first, last, from, to, side, how, guest, shadow }: EntryChange): string {
  const sign = how === "added" ? "+" : how === "removed" ? "-" : "*";
  const index = first === last ? `${first}` : `${first}–${last}`;
  const parts = [kind === "GGTT" ? `${sign} GGTT[${index}]` : `${sign} ${kind}[${index}] of the ${table}`];
  if (from !== null && to !== null) parts.push(`${hex(from)}–${hex(to)}`);
  if (last > first) parts.push(`${last - first + 1} entries; the first:`);
  if (side !== "shadow") parts.push(`guest ${guest.join(" → ")}`);
  if (side !== "guest") parts.push(`${kind === "GGTT" ? "host" : "shadow"} ${shadow.join(" → ")}`);
  return parts.join(" · ");
}
