/**
 * What the entries of one table are to a strip: a state for each, or the table below it.
 *
 * Tables of leaves are most of a snapshot, and most of them stay as they are from one to the next: what was found of one is
 * kept as long as nothing changes that it was found by.
 *
 * @module
 */

import {
  ENTRIES,
  FLAGS_LO,
  FRAME_HI,
  frameOf,
  FRAMES_64K,
  IPS,
  isLarge,
  LARGE_FRAMES,
  largeFrameOf,
  PDE,
  PRESENT,
  PTE,
  type TableKind,
} from "../gtt/entry.ts";
import { RamFrames } from "./ram_frames.ts";
import { CLASSES, classNumber, type ReasonCode } from "./reasons.ts";
import type { GgttChunk, Snapshot, TableView } from "./snapshot.ts";

/**
 * What can be said of a page of an address space. `pending` and `wrong`: the shadow is not what the guest's entry says, and
 * may or must not be; `bad`: the guest's entry leads to what is no memory.
 */
export const STRIP_STATES = [
  "unmapped",
  "scratch",
  "mapped",
  "large",
  "split",
  "pending",
  "bad",
  "wrong",
] as const;

/** One of {@linkcode STRIP_STATES}. */
export type StripState = typeof STRIP_STATES[number];

/** Whose tables. */
export type Lane = "guest" | "shadow";
/** Both of them. */
export const LANE_NAMES: readonly Lane[] = ["guest", "shadow"];

/** Pages by state. */
export type Composition = Float64Array;

/** No pages. */
export function newComposition(): Composition {
  return new Float64Array(STRIP_STATES.length);
}

/** Instead of a state: the entry leads to a table. */
export const CHILD = 255;

/** What a table's entries are. */
export interface TableContent {
  /** An index of {@linkcode STRIP_STATES} or {@linkcode CHILD}, for each entry. */
  readonly states: Uint8Array;
  /** The tables below, by entry; `null` where there are none. */
  readonly children: ReadonlyArray<TableView | undefined> | null;
}

/** Judges entries, as `Judge` of `verdict.ts` does. */
export interface StripJudge {
  /** Why the shadow of an entry is as it is. */
  code(table: TableView, index: number): ReasonCode;
  /** Why the host's entry for one of the GGTT is as it is. */
  ggttCode(index: number): ReasonCode;
}

/** What is known of a table of leaves, and by what. */
interface Known {
  readonly guestPage: Uint32Array | null;
  readonly state: number | string;
  readonly contents: Record<Lane, TableContent>;
}

/** What is kept from snapshot to snapshot. */
export class StripCache {
  /** What tables of leaves map as a whole. */
  readonly leafTotals = new WeakMap<TableContent, Composition>();
  #world = "";
  #known = new WeakMap<Uint32Array, Known>();
  readonly #fillers = new WeakMap<Uint32Array, number>();

  /** Forgets what was found where memory was another. */
  enter(world: string): void {
    if (world === this.#world) return;
    this.#world = world;
    this.#known = new WeakMap();
  }

  /** What is known of a table, or is found now. */
  get(
    key: Uint32Array,
    guestPage: Uint32Array | null,
    state: Known["state"],
    find: () => Known["contents"],
  ): Known["contents"] {
    const known = this.#known.get(key);
    if (known !== undefined && known.guestPage === guestPage && known.state === state) return known.contents;
    const contents = find();
    this.#known.set(key, { guestPage, state, contents });
    return contents;
  }

  /** The frame with which a guest filled a table of leaves, -1 if it did not. */
  filler(page: Uint32Array): number {
    let frame = this.#fillers.get(page);
    if (frame === undefined) this.#fillers.set(page, frame = fillerOf(page));
    return frame;
  }
}

/** Trapped stores that are one as good as more: what they say is whether a sync failed. */
const MANY_WRITES = 3;

/** Neighbours with the same entry after which a frame is taken for what the guest fills its tables with. */
const FILLED = 64;

/** The frame that most neighbours of a table share, if they are many: drivers let what they do not map lead to one page. */
function fillerOf(page: Uint32Array): number {
  let count = 0;
  for (let at = 2; at < page.length; at += 2) {
    const isSame = page[at] === page[at - 2] && page[at + 1] === page[at - 1] && (page[at]! & PRESENT) !== 0;
    count = isSame ? count + 1 : 0;
    if (count === FILLED) return frameOf(page[at]!, page[at + 1]!);
  }
  return -1;
}

/** What the tables of one snapshot are. */
export class TableContents {
  readonly #snapshot: Snapshot;
  readonly #judge: StripJudge;
  readonly #cache: StripCache;
  readonly #byGfn = new Map<number, TableView>();
  readonly #contents: Record<Lane, Map<TableView, TableContent>> = { guest: new Map(), shadow: new Map() };
  /** Frames that the guest fills its tables with. */
  readonly #fillers = new Set<number>();
  readonly #scratchFrames: ReadonlySet<number>;
  readonly #ram: RamFrames;

  /** See `AddressStrips`. */
  constructor(snapshot: Snapshot, judge: StripJudge, cache: StripCache) {
    this.#snapshot = snapshot;
    this.#judge = judge;
    this.#cache = cache;
    this.#ram = new RamFrames(snapshot.parts.ram);
    const { tables, ram, hugePages, globalScratch, scratch } = snapshot.parts;
    for (const table of tables.values()) {
      if (table.isSplit) continue;
      this.#byGfn.set(keyOf(table.gfn, table.kind, table.span), table);
      if (table.kind === PTE && table.guest !== null) this.#fillers.add(cache.filler(table.guest));
    }
    this.#fillers.delete(-1);
    this.#scratchFrames = new Set([
      globalScratch,
      ...scratch,
      ...[...this.#fillers].map((gfn) => this.#ram.mfnOf(gfn)),
    ]);
    cache.enter(JSON.stringify([ram, hugePages, globalScratch, scratch, [...this.#fillers].sort()]));
  }

  /** The table that shadows a guest's page as a kind of table. */
  guestTable(gfn: number, kind: TableKind, span: 1 | 16): TableView | undefined {
    return this.#byGfn.get(keyOf(gfn, kind, span));
  }

  /** What a table's entries are, on one side. */
  of(table: TableView, lane: Lane): TableContent {
    const contents = this.#contents[lane];
    let content = contents.get(table);
    if (content === undefined) contents.set(table, content = this.#find(table, lane));
    return content;
  }

  /** What a chunk of the GGTT is; `null` if it is none of the vGPU's. */
  ofGgtt(chunk: number, lane: Lane): TableContent | null {
    const view = this.#snapshot.parts.ggtt.get(chunk);
    if (view === undefined) return null;
    return this.#cache.get(view.host, view.guest, "", () => this.#findGgtt(chunk, view))[lane];
  }

  #find(table: TableView, lane: Lane): TableContent {
    if (table.kind !== PTE) {
      return lane === "guest" ? this.#guestDirectory(table) : this.#shadowDirectory(table);
    }
    const { shadow, guest, isOutOfSync, isLookedAt, isSplit, span, queued, writes } = table;
    // What a split page is depends on the entry that leads to it.
    if (isSplit) return lane === "guest" ? this.#guestLeaves(guest, span) : this.#shadowLeaves(table);
    const flags = span + (isOutOfSync ? 32 : 0) + (isLookedAt ? 64 : 0) + 128 * Math.min(writes, MANY_WRITES);
    const state = queued.length === 0 ? flags : `${flags}: ${queued}`;
    return this.#cache.get(shadow, guest, state, () => ({
      guest: this.#guestLeaves(guest, span),
      shadow: this.#shadowLeaves(table),
    }))[lane];
  }

  #guestLeaves(page: Uint32Array | null, span: number): TableContent {
    const states = new Uint8Array(ENTRIES);
    if (page === null) return { states: states.fill(BAD), children: null };
    for (let index = 0; index < ENTRIES; index++) {
      const counting = index - index % span;
      const lo = page[2 * counting]!;
      if ((lo & PRESENT) === 0) continue;
      const first = frameOf(lo, page[2 * counting + 1]!);
      const gfn = first - first % span + index % span;
      states[index] = this.#ram.mfnOf(gfn) < 0
        ? BAD
        : this.#fillers.has(gfn)
        ? SCRATCH
        : span > 1
        ? LARGE
        : MAPPED;
    }
    return { states, children: null };
  }

  #shadowLeaves(table: TableView): TableContent {
    const { shadow, guest, span, isSplit } = table;
    const states = new Uint8Array(ENTRIES);
    for (let index = 0; index < ENTRIES; index++) {
      const counting = index - index % span;
      if (isSplit || guest === null || !this.#isPlain(shadow, index, guest, counting, span)) {
        const disagreement = disagreementOf(this.#judge.code(table, index));
        if (disagreement !== null) {
          states[index] = disagreement;
          continue;
        }
      }
      const lo = shadow[2 * index]!;
      if ((lo & PRESENT) === 0) continue;
      states[index] = this.#isScratch(frameOf(lo, shadow[2 * index + 1]!))
        ? SCRATCH
        : isSplit
        ? SPLIT
        : span > 1
        ? LARGE
        : MAPPED;
    }
    return { states, children: null };
  }

  #findGgtt(chunk: number, { guest, host }: GgttChunk): Record<Lane, TableContent> {
    const states = { guest: this.#guestLeaves(guest, 1).states, shadow: new Uint8Array(ENTRIES) };
    for (let index = 0; index < ENTRIES; index++) {
      const [lo, hi] = [host[2 * index]!, host[2 * index + 1]!];
      const isEmpty = (guest[2 * index]! & PRESENT) === 0 &&
        frameOf(lo, hi) === this.#snapshot.parts.globalScratch;
      if (!isEmpty && !this.#isPlain(host, index, guest, index, 1)) {
        const disagreement = disagreementOf(this.#judge.ggttCode(chunk * ENTRIES + index));
        if (disagreement !== null) {
          states.shadow[index] = disagreement;
          continue;
        }
      }
      if ((lo & PRESENT) === 0) continue;
      states.shadow[index] = this.#isScratch(frameOf(lo, hi)) ? SCRATCH : MAPPED;
    }
    return {
      guest: { states: states.guest, children: null },
      shadow: { states: states.shadow, children: null },
    };
  }

  /** Whether a leaf of a shadow is simply the guest's with the frame translated, or neither is present. */
  #isPlain(shadow: Uint32Array, index: number, guest: Uint32Array, counting: number, span: number): boolean {
    const lo = shadow[2 * index]!;
    const hi = shadow[2 * index + 1]!;
    const wantedLo = guest[2 * counting]!;
    const wantedHi = guest[2 * counting + 1]!;
    if ((wantedLo & PRESENT) === 0) return (lo & PRESENT) === 0;
    if (((lo ^ wantedLo) & FLAGS_LO) !== 0 || ((hi ^ wantedHi) & ~FRAME_HI) !== 0) return false;
    const first = frameOf(wantedLo, wantedHi);
    return frameOf(lo, hi) === this.#ram.mfnOf(first - first % span + index % span);
  }

  #guestDirectory({ guest, kind }: TableView): TableContent {
    const states = new Uint8Array(ENTRIES);
    if (guest === null) return { states: states.fill(BAD), children: null };
    const children: (TableView | undefined)[] = [];
    const { hugePages } = this.#snapshot.parts;
    for (let index = 0; index < ENTRIES; index++) {
      const [lo, hi] = [guest[2 * index]!, guest[2 * index + 1]!];
      if ((lo & PRESENT) === 0) continue;
      if (isLarge(kind, lo)) {
        states[index] = hugePages && kind === PDE && this.#ram.hasAll(largeFrameOf(lo, hi), LARGE_FRAMES)
          ? LARGE
          : BAD;
        continue;
      }
      const span = hugePages && kind === PDE && (lo & IPS) !== 0 ? FRAMES_64K : 1;
      const child = this.guestTable(frameOf(lo, hi), (kind - 1) as TableKind, span);
      // A table that the device has not come to yet is not known.
      states[index] = child !== undefined ? CHILD : this.#ram.mfnOf(frameOf(lo, hi)) < 0 ? BAD : PENDING;
      children[index] = child;
    }
    return { states, children };
  }

  #shadowDirectory(table: TableView): TableContent {
    const { shadow, guest, kind } = table;
    const states = new Uint8Array(ENTRIES);
    const children: (TableView | undefined)[] = [];
    for (let index = 0; index < ENTRIES; index++) {
      const [lo, hi] = [shadow[2 * index]!, shadow[2 * index + 1]!];
      const found = (lo & PRESENT) === 0 || isLarge(kind, lo)
        ? undefined
        : this.#snapshot.tableAt(frameOf(lo, hi));
      const child = found?.kind === kind - 1 ? found : undefined;
      if (guest === null || !isPlainDirectory(shadow, guest, index, child)) {
        const disagreement = disagreementOf(this.#judge.code(table, index));
        if (disagreement !== null) {
          states[index] = disagreement;
          continue;
        }
      }
      if ((lo & PRESENT) === 0) continue;
      children[index] = child;
      states[index] = child !== undefined
        ? CHILD
        : isLarge(kind, lo)
        ? LARGE
        : this.#isScratch(frameOf(lo, hi))
        ? SCRATCH
        : WRONG;
    }
    return { states, children };
  }

  /** Whether a host frame is one of the device's scratch pages, or what the guest fills its tables with. */
  #isScratch(mfn: number): boolean {
    return this.#scratchFrames.has(mfn);
  }
}

/** Whether a directory entry of a shadow leads to the table that shadows the guest's, or neither is present. */
function isPlainDirectory(
  shadow: Uint32Array,
  guest: Uint32Array,
  index: number,
  child: TableView | undefined,
): boolean {
  const [lo, hi] = [shadow[2 * index]!, shadow[2 * index + 1]!];
  const [wantedLo, wantedHi] = [guest[2 * index]!, guest[2 * index + 1]!];
  if ((wantedLo & PRESENT) === 0) return (lo & PRESENT) === 0;
  const hasFlags = ((lo ^ wantedLo) & FLAGS_LO) === 0 && ((hi ^ wantedHi) & ~FRAME_HI) === 0;
  return hasFlags && child !== undefined && !child.isSplit && child.gfn === frameOf(wantedLo, wantedHi);
}

/** The state of what does not agree; `null` of what does. */
function disagreementOf(code: ReasonCode): number | null {
  const number = classNumber(code);
  return number === PENDING_CLASS ? PENDING : number === WRONG_CLASS ? WRONG : null;
}

const PENDING_CLASS = CLASSES.indexOf("pending");
const WRONG_CLASS = CLASSES.indexOf("wrong");

function keyOf(gfn: number, kind: TableKind, span: 1 | 16): number {
  return gfn * 8 + (span === 1 ? kind : 0);
}

const SCRATCH = STRIP_STATES.indexOf("scratch");
const MAPPED = STRIP_STATES.indexOf("mapped");
const LARGE = STRIP_STATES.indexOf("large");
const SPLIT = STRIP_STATES.indexOf("split");
const PENDING = STRIP_STATES.indexOf("pending");
const BAD = STRIP_STATES.indexOf("bad");
const WRONG = STRIP_STATES.indexOf("wrong");
