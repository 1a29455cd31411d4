/**
 * An address space as a strip of cells: what is mapped in each of so many pieces of equal size, by the guest's tables and by
 * the shadow. A cell may be one page or half the address space: it tells how many of its pages are in which state.
 *
 * What a table maps as a whole is added up once for a snapshot, however many entries lead to it, and a cell adds up whole
 * tables where it covers them. Kinds of tables descend, so that a walk ends whatever the guest's entries say.
 *
 * @module
 */

import { ENTRIES, frameOf, PAGE_SIZE, type TableKind } from "../gtt/entry.ts";
import type { Snapshot, SpaceView, TableView, WindowView } from "./snapshot.ts";
import {
  CHILD,
  type Composition,
  type Lane,
  LANE_NAMES,
  newComposition,
  STRIP_STATES,
  type StripCache,
  type StripJudge,
  type TableContent,
  TableContents,
} from "./strip_content.ts";

/** Which addresses: a window of the GGTT, or the PPGTT with this handle. */
export type StripSpace = WindowView["name"] | number;

/** Pages of a cell by state: only states that it has any of, as an index of {@linkcode STRIP_STATES} and a count. */
export type StripShares = [state: number, pages: number][];

/** Neighbouring cells that are alike. */
export interface StripRun {
  /** How many cells. */
  readonly cells: number;
  /** What the guest's tables say of each of them. */
  readonly guest: StripShares;
  /** What the shadow says of each of them. */
  readonly shadow: StripShares;
}

/** A piece of an address space. */
export interface Strip {
  /** Graphics address of the first cell. */
  readonly from: number;
  /** Bytes of a cell, a multiple of 4096. */
  readonly cellBytes: number;
  /** The cells. */
  readonly runs: readonly StripRun[];
}

/** Pages that one entry stands for, by kind of table. */
const PAGES: Readonly<Record<TableKind, number>> = { 1: 1, 2: ENTRIES, 3: ENTRIES ** 2, 4: ENTRIES ** 3 };

/** States by how much they interest whoever looks. */
const TELLING = ["wrong", "pending", "bad", "split", "large", "mapped", "scratch", "unmapped"] as const;

/** Where a walk for a strip begins. */
interface Root {
  /** First page that it stands for. */
  readonly page: number;
  /** Pages that it stands for. */
  readonly pages: number;
  /** What is there: a table's content, or one state for all of it. */
  readonly content: TableContent | number;
  readonly kind: TableKind;
}

/**
 * The strips of one snapshot.
 *
 * @example A space of 4 GiB whose only page is at 0x5000
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sketch } from "../../tests/unit/inspect_snapshot.ts";
 * import { AddressStrips } from "./strip.ts";
 * import { STRIP_STATES, StripCache } from "./strip_content.ts";
 * import { Judge } from "./verdict.ts";
 *
 * const snapshot = sketch({
 *   tables: [
 *     { kind: 2, gfn: 0x10, mfn: 0x9000, guest: { 0: 0x11003 }, shadow: { 0: 0x9001003 } },
 *     { kind: 1, gfn: 0x11, mfn: 0x9001, guest: { 5: 0x3003 }, shadow: { 5: 0x100003003 } },
 *   ],
 *   spaces: [{ id: 7, level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
 * });
 * const strips = new AddressStrips(snapshot, new Judge(snapshot), new StripCache());
 * const [unmapped, mapped] = [STRIP_STATES.indexOf("unmapped"), STRIP_STATES.indexOf("mapped")];
 * assertEquals(strips.strip(7, 0, 0x4000, 512).runs.map(({ cells, shadow }) => [cells, shadow]), [
 *   [1, [[unmapped, 4]]],
 *   [1, [[unmapped, 3], [mapped, 1]]],
 *   [510, [[unmapped, 4]]],
 * ]);
 * assertEquals(strips.tellingAddress(7, 0, 2 ** 32), 0x5000);
 * ```
 */
export class AddressStrips {
  readonly #snapshot: Snapshot;
  readonly #contents: TableContents;
  readonly #cache: StripCache;
  /** See {@linkcode #sums}. */
  readonly #directories = new Map<TableContent, Composition>();

  /**
   * Makes strips of a snapshot.
   *
   * @param snapshot The moment.
   * @param judge Judges the entries whose shadow is not plainly the guest's.
   * @param cache What is kept from snapshot to snapshot.
   */
  constructor(snapshot: Snapshot, judge: StripJudge, cache: StripCache) {
    this.#snapshot = snapshot;
    this.#cache = cache;
    this.#contents = new TableContents(snapshot, judge, cache);
  }

  /**
   * The addresses that a space has.
   *
   * @param space Which one.
   * @returns First address and bytes; `null` if there is no such space.
   */
  extent(space: StripSpace): { readonly from: number; readonly bytes: number } | null {
    if (typeof space === "string") {
      const window = this.#snapshot.parts.windows.find(({ name }) => name === space);
      return window === undefined ? null : { from: window.base, bytes: window.size };
    }
    const view = this.#snapshot.space(space);
    return view === undefined ? null : { from: 0, bytes: view.level === 4 ? 2 ** 48 : 2 ** 32 };
  }

  /**
   * A piece of a space.
   *
   * @param space Which one.
   * @param from Graphics address of the first cell, a multiple of 4096.
   * @param cellBytes Bytes of a cell, a multiple of 4096.
   * @param count How many cells.
   * @returns The cells; what lies beyond the space is not mapped.
   */
  strip(space: StripSpace, from: number, cellBytes: number, count: number): Strip {
    const runs: { cells: number; guest: StripShares; shadow: StripShares }[] = [];
    const roots = { guest: this.#roots(space, "guest"), shadow: this.#roots(space, "shadow") };
    const pages = cellBytes / PAGE_SIZE;
    for (let cell = 0; cell < count; cell++) {
      const first = from / PAGE_SIZE + cell * pages;
      const guest = this.#shares(roots.guest, "guest", first, pages);
      const shadow = this.#shares(roots.shadow, "shadow", first, pages);
      const run = runs.at(-1);
      if (run !== undefined && isEqual(run.guest, guest) && isEqual(run.shadow, shadow)) run.cells++;
      else runs.push({ cells: 1, guest, shadow });
    }
    return { from, cellBytes, runs };
  }

  /**
   * How many pages of a space map anything but scratch, or should: by the shadow.
   *
   * @param space Which one.
   * @returns Pages.
   */
  mappedPages(space: StripSpace): number {
    return this.#whole(space).reduce((total, each, state) => QUIET.includes(state) ? total : total + each, 0);
  }

  /**
   * How many pages of a space the shadow has wrong.
   *
   * @param space Which one.
   * @returns Pages.
   */
  wrongPages(space: StripSpace): number {
    return this.#whole(space)[WRONG]!;
  }

  /** All of a space's shadow, added up. */
  #whole(space: StripSpace): Composition {
    const extent = this.extent(space);
    if (extent === null) return newComposition();
    const [first, pages] = [extent.from / PAGE_SIZE, extent.bytes / PAGE_SIZE];
    return this.#sum(this.#roots(space, "shadow"), "shadow", first, pages);
  }

  /**
   * The page that tells most of a range: the first one that is wrong, else pending, and so on down to what is not mapped.
   *
   * @param space Which one.
   * @param from First address.
   * @param bytes Bytes of the range.
   * @returns Graphics address of a page in it.
   */
  tellingAddress(space: StripSpace, from: number, bytes: number): number {
    const [first, pages] = [Math.floor(from / PAGE_SIZE), Math.max(1, Math.ceil(bytes / PAGE_SIZE))];
    const roots = LANE_NAMES.map((lane) => [lane, this.#roots(space, lane)] as const);
    const sums = roots.map(([lane, list]) => this.#sum(list, lane, first, pages));
    for (const name of TELLING) {
      const state = STRIP_STATES.indexOf(name);
      const places = roots.flatMap(([lane, list], index) =>
        sums[index]![state]! > 0 ? [this.#find(list, lane, state, first, pages)] : []
      );
      if (places.length > 0) return Math.min(...places) * PAGE_SIZE;
    }
    return from;
  }

  /**
   * The nearest page after or before an address that maps anything but scratch, or should.
   *
   * @param space Which one.
   * @param gma The address; its own page is not looked at.
   * @param isForward Whether to look after it; else before.
   * @returns Graphics address of the page; `null` if there is none.
   */
  nextAddress(space: StripSpace, gma: number, isForward: boolean): number | null {
    const extent = this.extent(space);
    if (extent === null) return null;
    const page = Math.floor(gma / PAGE_SIZE);
    const first = isForward ? Math.max(page + 1, extent.from / PAGE_SIZE) : extent.from / PAGE_SIZE;
    const end = isForward ? (extent.from + extent.bytes) / PAGE_SIZE : page;
    const places = LANE_NAMES.flatMap((lane) => {
      const place = this.#nearest(this.#roots(space, lane), lane, first, end, isForward);
      return place === null ? [] : [place];
    });
    if (places.length === 0) return null;
    return (isForward ? Math.min(...places) : Math.max(...places)) * PAGE_SIZE;
  }

  /** The first or last page of a range that tells something, by halves. */
  #nearest(roots: readonly Root[], lane: Lane, first: number, end: number, isFirst: boolean): number | null {
    const tells = (from: number, to: number) =>
      this.#sum(roots, lane, from, to - from).some((pages, state) => pages > 0 && !QUIET.includes(state));
    if (end <= first || !tells(first, end)) return null;
    while (end - first > 1) {
      const middle = first + Math.ceil((end - first) / 2);
      if (isFirst ? tells(first, middle) : !tells(middle, end)) end = middle;
      else first = middle;
    }
    return first;
  }

  /** Goes down to the first page in a state, by halves: each is added up as a cell is. */
  #find(roots: readonly Root[], lane: Lane, state: number, first: number, pages: number): number {
    while (pages > 1) {
      const half = 2 ** Math.floor(Math.log2(pages - 1));
      if (this.#sum(roots, lane, first, half)[state]! > 0) pages = half;
      else [first, pages] = [first + half, pages - half];
    }
    return first;
  }

  #shares(roots: readonly Root[], lane: Lane, first: number, pages: number): StripShares {
    const shares: StripShares = [];
    const sum = this.#sum(roots, lane, first, pages);
    for (let state = 0; state < sum.length; state++) {
      if (sum[state]! > 0) shares.push([state, sum[state]!]);
    }
    return shares;
  }

  #sum(roots: readonly Root[], lane: Lane, first: number, pages: number): Composition {
    const sum = newComposition();
    let left = pages;
    for (const { page, pages: size, content, kind } of roots) {
      const from = Math.max(first, page);
      const to = Math.min(first + pages, page + size);
      if (to <= from) continue;
      left -= to - from;
      if (typeof content === "number") sum[content]! += to - from;
      else this.#add(content, kind, lane, from - page, to - page, sum);
    }
    sum[UNMAPPED]! += left;
    return sum;
  }

  /** Adds the pages of a table from one to before another, counted from its first. */
  #add(content: TableContent, kind: TableKind, lane: Lane, from: number, to: number, sum: Composition): void {
    if (content.children === null) {
      if (from <= 0 && to >= ENTRIES) addSlice(sum, this.#leafTotal(content), 0, 1);
      else for (let index = from; index < to; index++) sum[content.states[index]!]! += 1;
      return;
    }
    const each = PAGES[kind];
    const [first, end] = [Math.ceil(from / each), Math.floor(to / each)];
    if (first > end) return this.#addPart(content, kind, lane, end, from - end * each, to - end * each, sum);
    const sums = this.#sums(content, kind, lane);
    addSlice(sum, sums, end, 1);
    addSlice(sum, sums, first, -1);
    if (from < first * each) {
      this.#addPart(content, kind, lane, first - 1, from - (first - 1) * each, each, sum);
    }
    if (to > end * each) this.#addPart(content, kind, lane, end, 0, to - end * each, sum);
  }

  /** Adds some of the pages that one entry of a directory stands for. */
  #addPart(
    content: TableContent,
    kind: TableKind,
    lane: Lane,
    index: number,
    from: number,
    to: number,
    sum: Composition,
  ): void {
    const state = content.states[index]!;
    if (state !== CHILD) sum[state]! += to - from;
    else this.#add(this.#child(content, index, lane), (kind - 1) as TableKind, lane, from, to, sum);
  }

  /** What the entries of a directory map, each with all before it: 513 compositions. */
  #sums(content: TableContent, kind: TableKind, lane: Lane): Composition {
    const known = this.#directories.get(content);
    if (known !== undefined) return known;
    const width = STRIP_STATES.length;
    const sums = new Float64Array((ENTRIES + 1) * width);
    for (let index = 0; index < ENTRIES; index++) {
      const next = sums.subarray((index + 1) * width, (index + 2) * width);
      next.set(sums.subarray(index * width, (index + 1) * width));
      this.#addPart(content, kind, lane, index, 0, PAGES[kind], next);
    }
    this.#directories.set(content, sums);
    return sums;
  }

  #leafTotal(content: TableContent): Composition {
    const known = this.#cache.leafTotals.get(content);
    if (known !== undefined) return known;
    const sum = newComposition();
    for (const state of content.states) sum[state]! += 1;
    this.#cache.leafTotals.set(content, sum);
    return sum;
  }

  #child({ children }: TableContent, index: number, lane: Lane): TableContent {
    return this.#contents.of(children![index]!, lane);
  }

  #roots(space: StripSpace, lane: Lane): Root[] {
    if (typeof space === "string") return this.#windowRoots(space, lane);
    const view = this.#snapshot.space(space);
    if (view === undefined) return [];
    return view.level === 4 ? this.#spaceRoots(view, lane, 4, 1) : this.#spaceRoots(view, lane, 2, 4);
  }

  #windowRoots(name: WindowView["name"], lane: Lane): Root[] {
    const window = this.#snapshot.parts.windows.find((each) => each.name === name);
    if (window === undefined) return [];
    const [first, end] = [window.base / PAGE_SIZE, (window.base + window.size) / PAGE_SIZE];
    const roots: Root[] = [];
    for (let page = first - first % ENTRIES; page < end; page += ENTRIES) {
      const content = this.#contents.ofGgtt(page / ENTRIES, lane);
      if (content !== null) roots.push({ page, pages: ENTRIES, content, kind: 1 });
    }
    return roots;
  }

  #spaceRoots(view: SpaceView, lane: Lane, kind: TableKind, slots: number): Root[] {
    const roots: Root[] = [];
    const pages = PAGES[kind] * ENTRIES;
    for (let slot = 0; slot < slots; slot++) {
      const content = lane === "guest"
        ? this.#guestRoot(view, slot, kind)
        : this.#shadowRoot(view, slot, kind);
      if (content !== null) roots.push({ page: slot * pages, pages, content, kind });
    }
    return roots;
  }

  #guestRoot({ roots }: SpaceView, slot: number, kind: TableKind): TableContent | number | null {
    const [lo, hi] = [roots[2 * slot]!, roots[2 * slot + 1]!];
    if (lo === 0 && hi === 0) return null;
    return this.#contentOf(this.#contents.guestTable(frameOf(lo, hi), kind, 1), "guest", PENDING);
  }

  #shadowRoot(
    { shadowRoots, isShadowed }: SpaceView,
    slot: number,
    kind: TableKind,
  ): TableContent | number | null {
    const [lo, hi] = [shadowRoots[2 * slot]!, shadowRoots[2 * slot + 1]!];
    if (!isShadowed || (lo === 0 && hi === 0)) return null;
    const table = this.#snapshot.tableAt(frameOf(lo, hi));
    return this.#contentOf(table?.kind === kind ? table : undefined, "shadow", WRONG);
  }

  #contentOf(table: TableView | undefined, lane: Lane, otherwise: number): TableContent | number {
    return table === undefined ? otherwise : this.#contents.of(table, lane);
  }
}

/** Adds the composition at an index of several, or takes it away. */
function addSlice(sum: Composition, from: Composition, index: number, sign: 1 | -1): void {
  const at = index * sum.length;
  for (let state = 0; state < sum.length; state++) sum[state]! += sign * from[at + state]!;
}

function isEqual(a: StripShares, b: StripShares): boolean {
  return a.length === b.length && a.every(([state, pages], at) => b[at]![0] === state && b[at]![1] === pages);
}

const UNMAPPED = STRIP_STATES.indexOf("unmapped");
/** States that nobody looks for. */
const QUIET: readonly number[] = [UNMAPPED, STRIP_STATES.indexOf("scratch")];
const PENDING = STRIP_STATES.indexOf("pending");
const WRONG = STRIP_STATES.indexOf("wrong");
