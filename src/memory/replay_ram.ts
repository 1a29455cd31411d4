/**
 * Guest RAM of a replay: it counts accesses as {@linkcode RecordingRam} does, and lets each find what the recorded one
 * found.
 *
 * @module
 */

import type { PageCopy } from "../gtt/page_copy.ts";
import { IntervalIndex } from "./interval_index.ts";
import { RamMap, type RamRegion, type RamRegionOptions } from "./ram_map.ts";
import { isOneCopy } from "./recording_ram.ts";
import { SparseBacking } from "./sparse_backing.ts";
import { PageBudget, pagesFrom } from "./sparse_pages.ts";

const PAGE_BYTES = 4096;
/**
 * Pages of others' memory that take room at most: 1 GiB. A guest's device reads far less than its guest has; a short line
 * of a recording can make a page, and a file may have millions.
 */
export const MAX_REPLAYED_PAGES = 262_144;

/** What was recorded of accesses. */
export interface AccessScript {
  /**
   * An access begins: memory is to be as it was then.
   *
   * @returns Whether it succeeded.
   */
  next(): boolean;
}

/** A region that was recorded. */
interface Replayed extends RamRegion {
  readonly backing: SparseBacking;
}

/** A region to be replayed: it has the place and the kind that it had. */
export type ReplayedRegion = Required<Pick<RamRegion, "gpa" | "size" | "mfn" | "readonly" | "kind">>;

/**
 * A map of guest RAM that is replayed.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ReplayRam } from "./replay_ram.ts";
 *
 * let accesses = 0;
 * using ram = new ReplayRam({ next: () => ++accesses !== 2 }); // the second one failed
 * ram.map(ram.optionsOf({ gpa: 0, size: 0x1000, mfn: 0x100, readonly: false, kind: "file" }));
 * ram.change(8, Uint8Array.of(5));
 * assertEquals([ram.readDword(8), ram.readDword(8), ram.readDword(8)], [5, -1, 5]);
 * ```
 */
export class ReplayRam extends RamMap {
  readonly #script: AccessScript;
  readonly #budget: PageBudget;
  readonly #replayed: IntervalIndex<Replayed> = new IntervalIndex();

  /**
   * A map without regions.
   *
   * @param script What was recorded of accesses.
   * @param maxPages Pages of regions that are sparse that may take room.
   */
  constructor(script: AccessScript, maxPages: number = MAX_REPLAYED_PAGES) {
    super();
    this.#script = script;
    this.#budget = new PageBudget(maxPages);
  }

  /** See {@linkcode RamMap.recordedSize}. */
  override get recordedSize(): number {
    return this.#replayed.intervals.reduce((sum, { value }) => sum + value.backing.pages.size, 0);
  }

  /** See {@linkcode RamMap.recordedPages}. */
  override recordedPages(): [gfn: number, lanes: Uint32Array][] {
    return this.#replayed.intervals.flatMap(({ value: { gpa, backing } }) => pagesFrom(gpa, backing.pages));
  }

  /** How a region is mapped that was recorded: the device's own is one again, another one is sparse. */
  optionsOf({ gpa, size, mfn, readonly, kind }: ReplayedRegion): RamRegionOptions {
    if (kind === "local") return { gpa, size, mfn, readonly };
    return { gpa, size, mfn, readonly, backing: new SparseBacking(kind, size, readonly, this.#budget) };
  }

  /** Adds a region: see {@linkcode RamMap.map}. */
  override map(options: RamRegionOptions): RamRegion {
    const region = super.map(options);
    const { gpa, size } = region;
    const { backing } = options;
    if (backing instanceof SparseBacking) this.#replayed.add(gpa, gpa + size, { ...region, backing });
    return region;
  }

  /** Removes a region: see {@linkcode RamMap.unmap}. */
  override unmap(gpa: number, size: number): void {
    super.unmap(gpa, size);
    this.#replayed.remove(gpa);
  }

  /** Removes every region: see {@linkcode RamMap.clear}. */
  override clear(): void {
    super.clear();
    for (const { start } of this.#replayed.intervals.slice()) this.#replayed.remove(start);
  }

  /**
   * The guest, or whoever owns the memory, changed it.
   *
   * @param gpa Guest physical address of the first byte.
   * @param bytes What is there from now on, within one region.
   * @returns Whether there is such a region.
   * @throws {PageLimitError} When too many pages would take room.
   */
  change(gpa: number, bytes: Uint8Array): boolean {
    const region = this.#replayed.find(gpa);
    if (region === null || gpa + bytes.length > region.gpa + region.size) return false;
    region.backing.pages.set(gpa - region.gpa, bytes);
    return true;
  }

  /** Reads bytes: see {@linkcode RamMap.read}. */
  override read(gpa: number, out: Uint8Array): boolean {
    return this.#mayTouch(gpa, out.length) && super.read(gpa, out);
  }

  /** Writes bytes: see {@linkcode RamMap.write}. */
  override write(gpa: number, bytes: Uint8Array): boolean {
    return this.#mayTouch(gpa, bytes.length) && super.write(gpa, bytes);
  }

  /** Reads one dword: see {@linkcode RamMap.readDword}. */
  override readDword(gpa: number): number {
    return this.#mayAccess(gpa) ? super.readDword(gpa) : -1;
  }

  /** Copies as {@linkcode RecordingRam.copy} does. */
  override copy(from: number, to: number, length: number): boolean {
    const source = this.#replayed.find(from);
    const target = this.#replayed.find(to);
    if (source === null && target === null) return super.copy(from, to, length);
    if (!isOneCopy(source, target, from, to, length)) return false;
    const bytes = new Uint8Array(length);
    return this.read(from, bytes) && this.write(to, bytes);
  }

  /** Reads one entry: see {@linkcode RamMap.readEntry}. */
  override readEntry(gpa: number, out: Uint32Array): boolean {
    return this.#mayAccess(gpa) && super.readEntry(gpa, out);
  }

  /** Reads one page: see {@linkcode RamMap.readPage}. */
  override readPage(gfn: number, out: Uint32Array): boolean {
    return this.#mayAccess(gfn * PAGE_BYTES) && super.readPage(gfn, out);
  }

  /** Compares a page: see {@linkcode RamMap.holdsPage}. It was an access where it was a look at memory. */
  override holdsPage(gfn: number, copy: PageCopy): boolean {
    const region = this.#replayed.find(gfn * PAGE_BYTES);
    if (region !== null && region.backing.kind === "mapped" && !this.#script.next()) return false;
    return super.holdsPage(gfn, copy);
  }

  #mayAccess(gpa: number): boolean {
    return this.#replayed.find(gpa) === null || this.#script.next();
  }

  #mayTouch(gpa: number, length: number): boolean {
    const isReplayed = this.#replayed.find(gpa) !== null ||
      this.#replayed.overlapping(gpa, gpa + length) !== null;
    return !isReplayed || this.#script.next();
  }
}
