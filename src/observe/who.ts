/**
 * Who maps a frame of the guest's: entries of page tables and of the GGTT that lead to it, on either side; whether it is a
 * table itself, and who is told of stores to it.
 *
 * Every entry of every table is looked at, by its lanes alone: ten thousand tables take a few dozen milliseconds.
 *
 * @module
 */

import {
  ENTRIES,
  FRAME_HI,
  FRAMES_64K,
  isLarge,
  kindName,
  LARGE_FRAMES,
  PDE,
  PRESENT,
  PTE,
} from "../gtt/entry.ts";
import { entryKind, flagLetters, type Side } from "./entry_text.ts";
import { CLASS_LETTERS, type Reason, reasonWords, type VerdictClass } from "./reasons.ts";
import { GGTT_CHUNK, type Snapshot, type TableView } from "./snapshot.ts";
import { counted } from "./space_lines.ts";
import { ENTRY_BYTES, placeText, TableGraph } from "./table_graph.ts";
import { hex } from "../inspect/target.ts";
import { tableText } from "./sentences.ts";
import { Judge } from "./verdict.ts";

/** Graphics addresses of a run that are told, and runs, if nobody says how many. */
const [ADDRESSES, RUNS] = [4, 100];
/** Frames whose low part one lane holds. */
const FRAMES_PER_HI = 0x100000;

/** How much is told. */
export interface WhoOptions {
  /** Graphics addresses told of each run; default 4. */
  readonly addresses?: number | undefined;
  /** Runs told at most, of tables and of the GGTT each; default 100. */
  readonly limit?: number | undefined;
}

/** Entries of one table, neighbours, that lead to the frame. */
export interface Mapping {
  /** On which side they do. */
  readonly side: "both" | Side;
  /** The table, in words. */
  readonly table: string;
  /** Kind of the table. */
  readonly kind: string;
  /** Its serial. */
  readonly serial: number;
  /** First index. */
  readonly first: number;
  /** Last index. */
  readonly last: number;
  /** Flags of the first entry: the guest's, or the shadow's where only that leads there. */
  readonly flags: string;
  /** How serious what is to be said of the first entry is. */
  readonly class: VerdictClass;
  /** Why it is as it is. */
  readonly reason: Reason;
  /** At how many graphics addresses these entries are, in all address spaces. */
  readonly count: number;
  /** The first few: address space, graphics addresses that lead to the frame, and the way to the table. */
  readonly addresses: {
    readonly space: number;
    readonly from: number;
    readonly to: number;
    readonly path: string;
  }[];
}

/** Entries of the GGTT, neighbours, that lead to the frame. */
export interface GgttMapping {
  /** On which side they do. */
  readonly side: "both" | Side;
  /** First entry. */
  readonly first: number;
  /** Last entry. */
  readonly last: number;
  /** First graphics address. */
  readonly from: number;
  /** Last graphics address. */
  readonly to: number;
  /** How serious what is to be said of the first entry is. */
  readonly class: VerdictClass;
  /** Why it is as it is. */
  readonly reason: Reason;
}

/** A table that the frame is. */
export interface TableRole {
  /** In words. */
  readonly text: string;
  /** Its serial. */
  readonly serial: number;
  /** Host frame of the shadow. */
  readonly mfn: number;
  /** Its references. */
  readonly refs: number;
  /** How it follows the guest's. */
  readonly state: string;
  /** Whether the guest's stores to it are trapped for it. */
  readonly isTracked: boolean;
}

/** What a frame is. */
export interface Who {
  /** Guest frame. */
  readonly gfn: number;
  /** Its host frame; -1 if it is no RAM. */
  readonly mfn: number;
  /** Tables that it is, or that stand for the 2 MiB page that it begins. */
  readonly tables: TableRole[];
  /** Handles of address spaces of which it is a root. */
  readonly roots: number[];
  /** Page tracks of the VMM. */
  readonly tracks: { readonly track: number; readonly isEnabled: boolean }[];
  /** Entries of page tables. */
  readonly mappings: Mapping[];
  /** Runs of them that are not told. */
  readonly moreMappings: number;
  /** Entries of the GGTT. */
  readonly ggtt: GgttMapping[];
  /** Runs of them that are not told. */
  readonly moreGgtt: number;
}

/**
 * Looks for a frame.
 *
 * @param snapshot The moment.
 * @param gfn Guest frame number.
 * @param options How much is told.
 * @returns What leads to it.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sketch } from "../../tests/unit/inspect_snapshot.ts";
 * import { whoLines, whoMaps } from "./who.ts";
 *
 * const snapshot = sketch({
 *   tables: [
 *     { kind: 2, gfn: 0x10, mfn: 0x9000, guest: { 0: 0x11003 }, shadow: { 0: 0x9001003 } },
 *     { kind: 1, gfn: 0x11, mfn: 0x9001, guest: { 4: 0x5003 }, shadow: { 4: 0x100005003 } },
 *   ],
 *   spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
 *   ggtt: { 0x400: [0x5001, 0x100005001] },
 * });
 * assertEquals(whoLines(whoMaps(snapshot, 5)), [
 *   "gfn 0x5: RAM, mfn 0x100005",
 *   "= both sides · PTE[4] of the PTE table of gfn 0x11 · P W · at 0x4000–0x4fff (space 0 > root 0 > PDE[0])",
 *   "= both sides · GGTT[1024] · 0x400000–0x400fff",
 * ]);
 * assertEquals(whoLines(whoMaps(snapshot, 0x11)).slice(1, 2), [
 *   "  it is the PTE table of gfn 0x11: in sync, 1 reference, shadow at mfn 0x9001, stores trap",
 * ]);
 * ```
 */
export function whoMaps(snapshot: Snapshot, gfn: number, options: WhoOptions = {}): Who {
  const { addresses = ADDRESSES, limit = RUNS } = options;
  const judge = new Judge(snapshot);
  const { tables, spaces, tracks } = snapshot.parts;
  const mfn = judge.ram.mfnOf(gfn);
  const own = [...tables.values()].filter((table) => table.gfn === gfn);
  const finder = new Finder(judge, gfn, mfn, own);
  const [mappings, moreMappings] = finder.mappings(limit, addresses);
  const [ggtt, moreGgtt] = finder.ggtt(limit);
  return {
    gfn,
    mfn,
    tables: own.map((table) => {
      const { serial, refs, isTracked } = table;
      return {
        text: tableText(table),
        serial,
        mfn: table.mfn,
        refs,
        state: judge.table(table).text,
        isTracked,
      };
    }),
    roots: spaces.filter(({ level, roots }) => {
      return Array.from({ length: level === 4 ? 1 : 4 }, (_, slot) => slot).some((slot) => {
        const [lo, hi] = [roots[2 * slot]!, roots[2 * slot + 1]!];
        return (lo !== 0 || hi !== 0) && (lo >>> 12) + (hi & FRAME_HI) * FRAMES_PER_HI === gfn;
      });
    }).map(({ id }) => id),
    tracks: tracks.filter((track) => track.gfn === gfn).map(({ track, isEnabled }) => ({ track, isEnabled })),
    mappings,
    moreMappings,
    ggtt,
    moreGgtt,
  };
}

/** Looks through lanes. */
class Finder {
  readonly #judge: Judge;
  readonly #gfn: number;
  readonly #mfn: number;
  /** Host frames of the shadows of the tables that the frame is. */
  readonly #own: readonly TableView[];
  /** The ways to tables on each side, when they are needed. */
  readonly #graphs: Partial<Record<Side, TableGraph>> = {};

  constructor(judge: Judge, gfn: number, mfn: number, own: readonly TableView[]) {
    this.#judge = judge;
    this.#gfn = gfn;
    this.#mfn = mfn;
    this.#own = own;
  }

  mappings(limit: number, addresses: number): [Mapping[], number] {
    const found: Mapping[] = [];
    let more = 0;
    const sides = new Uint8Array(ENTRIES);
    for (const table of this.#judge.snapshot.parts.tables.values()) {
      if (!this.#mark(table, sides)) continue;
      for (let first = 0; first < ENTRIES;) {
        const side = sides[first]!;
        let last = first;
        while (last + 1 < ENTRIES && sides[last + 1] === side) last++;
        if (side !== 0) {
          if (found.length < limit) found.push(this.#mapping(table, first, last, side, addresses));
          else more++;
        }
        first = last + 1;
      }
    }
    return [found, more];
  }

  ggtt(limit: number): [GgttMapping[], number] {
    const found: GgttMapping[] = [];
    let more = 0;
    for (const [chunk, { guest, host }] of this.#judge.snapshot.parts.ggtt) {
      for (let at = 0; at < GGTT_CHUNK; at++) {
        const side = (leadsTo(guest, at, this.#gfn) ? GUEST : 0) |
          (this.#mfn >= 0 && leadsTo(host, at, this.#mfn) ? SHADOW : 0);
        if (side === 0) continue;
        const index = chunk * GGTT_CHUNK + at;
        const run = found.at(-1);
        if (run !== undefined && run.last === index - 1 && run.side === SIDES[side]) {
          found[found.length - 1] = { ...run, last: index, to: 4096 * (index + 1) - 1 };
        } else if (found.length >= limit) more++;
        else {
          const { class: each, reason } = this.#judge.ggtt(index);
          const [from, to] = [4096 * index, 4096 * (index + 1) - 1];
          found.push({ side: SIDES[side]!, first: index, last: index, from, to, class: each, reason });
        }
      }
    }
    return [found, more];
  }

  /** Marks the entries of a table that lead to the frame. @returns Whether there are any. */
  #mark(table: TableView, sides: Uint8Array): boolean {
    const { guest, shadow, kind, span, isSplit } = table;
    const { hugePages } = this.#judge.snapshot.parts;
    const [gfn, mfn] = [this.#gfn, this.#mfn];
    sides.fill(0);
    let isFound = false;
    if (guest !== null) {
      const [wantedLo, wantedHi] = [gfn % FRAMES_PER_HI, Math.floor(gfn / FRAMES_PER_HI)];
      // Of large pages, any frame in them will do.
      const mask = kind === PTE && span === 1
        ? 0xfffff
        : kind === PTE
        ? ~(FRAMES_64K - 1) & 0xfffff
        : 0xfffff;
      for (let index = 0; index < ENTRIES; index++) {
        const lo = guest[2 * index]!;
        if ((lo & PRESENT) === 0 || (guest[2 * index + 1]! & FRAME_HI) !== wantedHi) continue;
        if (isLarge(kind, lo)) {
          if (kind !== PDE || !hugePages || ((lo >>> 21) !== Math.floor(wantedLo / LARGE_FRAMES))) continue;
          sides[index]! |= GUEST;
        } else if (((lo >>> 12) & mask) !== (wantedLo & mask)) continue;
        else if (span === 1) sides[index]! |= GUEST;
        else if (index % span === 0) sides[index + gfn % span]! |= GUEST;
        else continue;
        isFound = true;
      }
    } else if (isSplit && gfn >= table.gfn && gfn < table.gfn + ENTRIES) {
      sides[gfn - table.gfn]! |= GUEST;
      isFound = true;
    }
    if (kind === PTE) {
      if (mfn < 0) return isFound;
      const [wantedLo, wantedHi] = [mfn % FRAMES_PER_HI, Math.floor(mfn / FRAMES_PER_HI)];
      for (let index = 0; index < ENTRIES; index++) {
        const lo = shadow[2 * index]!;
        if ((lo >>> 12) !== wantedLo || (lo & PRESENT) === 0) continue;
        if ((shadow[2 * index + 1]! & FRAME_HI) !== wantedHi) continue;
        sides[index]! |= SHADOW;
        isFound = true;
      }
      return isFound;
    }
    return this.#markDirectory(table, sides) || isFound;
  }

  /** Marks what of a shadow directory leads to a table of the frame's, or is a 2 MiB page that it is in. */
  #markDirectory({ kind, shadow }: TableView, sides: Uint8Array): boolean {
    const below = this.#own.filter((table) => table.kind === kind - 1);
    const largeLo = this.#mfn < 0 ? -1 : Math.floor(this.#mfn % FRAMES_PER_HI / LARGE_FRAMES);
    const largeHi = Math.floor(this.#mfn / FRAMES_PER_HI);
    if (below.length === 0 && (kind !== PDE || largeLo < 0)) return false;
    let isFound = false;
    for (let index = 0; index < ENTRIES; index++) {
      const lo = shadow[2 * index]!;
      if ((lo & PRESENT) === 0) continue;
      const isPage = isLarge(kind, lo);
      const leads = isPage
        ? (lo >>> 21) === largeLo && (shadow[2 * index + 1]! & FRAME_HI) === largeHi
        : below.some((table) => leadsTo(shadow, index, table.mfn));
      if (!leads) continue;
      sides[index]! |= SHADOW;
      isFound = true;
    }
    return isFound;
  }

  #mapping(
    table: TableView,
    first: number,
    last: number,
    side: number,
    addresses: number,
  ): Mapping {
    const lanes = (side & GUEST) !== 0 && table.guest !== null ? table.guest : table.shadow;
    const at = (side & GUEST) !== 0 ? first - first % table.span : first;
    const [lo, hi] = [lanes[2 * at]!, lanes[2 * at + 1]!];
    const { class: each, reason } = this.#judge.entry(table, first);
    // Each side has its own ways to the table.
    const ways = side === GUEST ? "guest" : "shadow";
    const graph = this.#graphs[ways] ??= new TableGraph(this.#judge.snapshot, ways);
    const bytes = ENTRY_BYTES[table.kind]!;
    // Of a 2 MiB page one of its frames does.
    const isPage = isLarge(table.kind, lo);
    const skipped = isPage ? this.#gfn % LARGE_FRAMES * 4096 : 0;
    const told: Mapping["addresses"] = [];
    for (const place of graph.places(table)) {
      if (told.length >= addresses) break;
      const from = place.base + first * bytes + skipped;
      const to = (isPage ? from + 4096 : place.base + (last + 1) * bytes) - 1;
      told.push({ space: place.space.id, from, to, path: placeText(place) });
    }
    return {
      side: SIDES[side]!,
      table: tableText(table),
      kind: kindName(table.kind),
      serial: table.serial,
      first,
      last,
      flags: flagLetters(entryKind(table.kind), lo, hi),
      class: each,
      reason,
      count: graph.count(table) * (last - first + 1),
      addresses: told,
    };
  }
}

const [GUEST, SHADOW] = [1, 2];
const SIDES: readonly (Mapping["side"])[] = ["both", "guest", "shadow", "both"];

/** Whether an entry is present and has this frame. */
function leadsTo(lanes: Uint32Array, index: number, frame: number): boolean {
  const lo = lanes[2 * index]!;
  return (lo & PRESENT) !== 0 && (lo >>> 12) === frame % FRAMES_PER_HI &&
    (lanes[2 * index + 1]! & FRAME_HI) === Math.floor(frame / FRAMES_PER_HI);
}

/**
 * What was found, as lines.
 *
 * @param who What was found.
 * @returns Lines without line ends.
 */
export function whoLines(who: Who): string[] {
  const { gfn, mfn, tables, roots, tracks, mappings, moreMappings, ggtt, moreGgtt } = who;
  const lines = [`gfn ${hex(gfn)}: ${mfn < 0 ? "no RAM" : `RAM, mfn ${hex(mfn)}`}`];
  for (const { text, state, refs, mfn: own, isTracked } of tables) {
    const traps = isTracked ? ", stores trap" : "";
    lines.push(
      `  it is the ${text}: ${state}, ${counted(refs, "reference")}, shadow at mfn ${hex(own)}${traps}`,
    );
  }
  if (roots.length > 0) lines.push(`  it is a root of ${roots.map((id) => `space ${id}`).join(", ")}`);
  for (const { track, isEnabled } of tracks) {
    lines.push(`  page track ${track} of the VMM, ${isEnabled ? "enabled: stores are told" : "disabled"}`);
  }
  for (const mapping of mappings) lines.push(mappingLine(mapping));
  if (moreMappings > 0) lines.push(`  … and ${counted(moreMappings, "more run")} of entries`);
  for (const { side, first, last, from, to, class: each, reason } of ggtt) {
    const index = first === last ? `${first}` : `${first}–${last}`;
    const words = reasonWords(reason);
    const said = words === "" ? "" : ` · ${words}`;
    lines.push(`${CLASS_LETTERS[each]} ${sideText(side)} · GGTT[${index}] · ${hex(from)}–${hex(to)}${said}`);
  }
  if (moreGgtt > 0) lines.push(`  … and ${counted(moreGgtt, "more run")} of the GGTT`);
  if (mappings.length === 0 && ggtt.length === 0) lines.push("  nothing maps it");
  return lines;
}

function mappingLine(mapping: Mapping): string {
  const { side, kind, table, first, last, flags, reason, count, addresses } = mapping;
  const index = first === last ? `${first}` : `${first}–${last}`;
  const parts = [
    `${CLASS_LETTERS[mapping.class]} ${sideText(side)}`,
    `${kind}[${index}] of the ${table}`,
    flags,
  ];
  const words = reasonWords(reason);
  if (words !== "") parts.push(words);
  const told = addresses.map(({ from, to, path }) => `${hex(from)}–${hex(to)} (${path})`).join(", ");
  const places = count / (last - first + 1);
  if (addresses.length === 0) parts.push("no root leads there");
  else if (places <= addresses.length) parts.push(`at ${told}`);
  else parts.push(`at ${counted(places, "place")}: ${told}, …`);
  return parts.join(" · ");
}

function sideText(side: Mapping["side"]): string {
  return side === "both" ? "both sides" : `${side} only`;
}
