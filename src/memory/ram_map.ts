/**
 * Guest RAM: a map of regions.
 *
 * A *region* is a run of guest physical pages. It has a *backing*, which holds its bytes
 * ({@linkcode Backing}: local, file, mapped or message), and a run of *host frames* of the same length, by which
 * shadow page tables name it. No two regions share a guest page or a host frame, and no region has a host frame of
 * the device's own pages; so a frame number leads to one page or to none.
 *
 * Two kinds of calls. The VMM's (`map`, `unmap`, `clear`) say what is wrong by a {@linkcode RamError} and
 * then have changed nothing. The engine's and the device's (all others) never throw: what is not RAM is
 * `false` or -1, as is what the host fails to read. Everything is resolved when it is accessed: no caller holds
 * a pointer into RAM, so a region can go at any time (`engine.md` §15, 30).
 *
 * @module
 */

import type { PageCopy } from "../gtt/page_copy.ts";
import type { Backing } from "./backing.ts";
import { type OpenFile, openGuestFile } from "./guest_file.ts";
import { IntervalIndex } from "./interval_index.ts";
import { backWithLibc } from "./libc_file.ts";
import { allocateLocal } from "./local.ts";
import { MemoryBacking } from "./memory_backing.ts";
import { MessageBacking } from "./message.ts";
import { hex, RamError } from "./ram_error.ts";
import {
  MAX_LOCAL_BYTES,
  MAX_REGIONS,
  PAGE_BYTES,
  type Placement,
  placeRegion,
  type RamRegion,
  type RamRegionOptions,
} from "./ram_region.ts";

export type { Backing, BackingKind } from "./backing.ts";
export type { OpenFile } from "./guest_file.ts";
export type { RemoteMemory } from "./message.ts";
export { RamError, type RamErrorCode } from "./ram_error.ts";
export { HOST_PAGE_MFN_BASE, type RamRegion, type RamRegionOptions } from "./ram_region.ts";

/** Options of a {@linkcode RamMap}. */
export interface RamMapOptions {
  /** How the files of regions are opened; {@linkcode openGuestFile} if not given. */
  readonly openFile?: OpenFile;
}

/** A region with the bytes behind it; the region itself is what is told to the outside. */
interface BackedRegion extends RamRegion {
  readonly backing: Backing;
  /** The same if it is memory of this process: what is accessed most often is accessed without a detour. */
  readonly memory: MemoryBacking | null;
}

/**
 * The guest's RAM.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * using ram = new RamMap();
 * ram.map({ gpa: 0x10_0000, size: 0x2000 });
 * ram.write(0x10_0008, new Uint8Array([3, 0x10, 0, 0, 1, 0, 0, 0]));
 *
 * const entry = new Uint32Array(2);
 * assertEquals(ram.readEntry(0x10_0008, entry), true);
 * assertEquals(entry, new Uint32Array([0x1003, 1]));
 * assertEquals(ram.mfnOf(0x101), 0x10_0101);
 * assertEquals(ram.isRam(0x102), false);
 * ```
 */
export class RamMap {
  readonly #openFile: OpenFile;
  readonly #byGpa: IntervalIndex<BackedRegion> = new IntervalIndex();
  readonly #byMfn: IntervalIndex<BackedRegion> = new IntervalIndex();
  readonly #dword = new Uint32Array(1);
  readonly #dwordBytes = new Uint8Array(this.#dword.buffer);
  #localBytes = 0;
  #remoteRegions = 0;

  /**
   * Makes a map without regions.
   *
   * @param options How files are opened.
   */
  constructor(options: RamMapOptions = {}) {
    this.#openFile = options.openFile ?? openGuestFile;
  }

  /** The regions in order of their addresses. */
  get regions(): readonly RamRegion[] {
    return this.#byGpa.intervals.map(({ value }) => describe(value));
  }

  /**
   * Whether some RAM is the VMM's own, to be asked for by messages: it can be read only while one of the VMM's messages
   * is being handled.
   *
   * @returns Whether a region is of the kind `message`.
   */
  get isPartlyRemote(): boolean {
    return this.#remoteRegions > 0;
  }

  /**
   * Adds a region.
   *
   * @param options Its place, its file if it has one.
   * @returns The region.
   * @throws {RamError} If it breaks a rule, overlaps another one, or its memory or file cannot be had;
   * nothing has changed then.
   *
   * @example
   * ```ts
   * import { assertEquals, assertThrows } from "@std/assert";
   *
   * using ram = new RamMap();
   * assertEquals(ram.map({ gpa: 0, size: 4096 }).kind, "local");
   * assertThrows(() => ram.map({ gpa: 0, size: 4096 }), RamError, "Cannot map RAM at 0x0");
   * ```
   */
  map(options: RamRegionOptions): RamRegion {
    try {
      const place = placeRegion(options);
      this.#requireFree(place);
      const backing = this.#open(place, options);
      const readonly = place.readonly || backing.isReadonly;
      const memory = backing instanceof MemoryBacking ? backing : null;
      return describe(this.#add({ ...place, readonly, kind: backing.kind, backing, memory }));
    } catch (cause) {
      if (!(cause instanceof RamError)) throw cause;
      throw new RamError(cause.code, `Cannot map RAM at ${hex(options.gpa)}: ${cause.message}`, { cause });
    }
  }

  /**
   * Removes a region and closes its file.
   *
   * @param gpa Its guest physical address, exactly.
   * @param size Its size in bytes, exactly.
   * @throws {RamError} `ENOENT` if there is no such region.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   *
   * using ram = new RamMap();
   * ram.map({ gpa: 0, size: 4096 });
   * ram.unmap(0, 4096);
   * assertEquals(ram.isRam(0), false);
   * ```
   */
  unmap(gpa: number, size: number): void {
    const region = this.#byGpa.find(gpa);
    if (region?.gpa !== gpa || region.size !== size) {
      throw new RamError(
        "ENOENT",
        `Cannot unmap RAM at ${hex(gpa)}, size ${hex(size)}: ${this.#nearest(gpa)}`,
      );
    }
    this.#remove(region);
  }

  /**
   * How many pages {@linkcode recordedPages} would look through.
   *
   * @returns 0, unless the map is one of a recording.
   */
  get recordedSize(): number {
    return 0;
  }

  /**
   * Guest memory that a recording knows, of regions that are not the device's own.
   *
   * @returns Guest frame and lanes of each page that is not zero, by frame; nothing, unless the map is one of a recording.
   */
  recordedPages(): readonly [gfn: number, lanes: Uint32Array][] {
    return [];
  }

  /** Removes every region and closes their files. */
  clear(): void {
    for (const { value } of this.#byGpa.intervals.slice()) this.#remove(value);
  }

  /** Removes every region; legal more than once. */
  [Symbol.dispose](): void {
    this.clear();
  }

  /**
   * Reads bytes, across regions that touch.
   *
   * @param gpa Guest physical address, any alignment.
   * @param out Filled whole; untouched on failure.
   * @returns Whether they were read: `false` if any of them is not RAM, or the host fails.
   */
  read(gpa: number, out: Uint8Array): boolean {
    const first = this.#byGpa.find(gpa);
    if (first !== null && gpa + out.length <= first.gpa + first.size) {
      return first.backing.read(gpa - first.gpa, out);
    }
    if (!this.#covers(gpa, out.length, false)) return false;
    const whole = new Uint8Array(out.length); // a later region may fail: `out` must be untouched then
    const isRead = this.#eachPart(gpa, whole, (backing, at, part) => backing.read(at, part));
    if (isRead) out.set(whole);
    return isRead;
  }

  /**
   * Writes bytes, across regions that touch.
   *
   * @param gpa Guest physical address, any alignment.
   * @param bytes Written whole.
   * @returns Whether they were written. If any of them is not RAM or read-only: `false`, and none was. If the
   * host fails half way: `false`, and some may have been.
   */
  write(gpa: number, bytes: Uint8Array): boolean {
    const first = this.#byGpa.find(gpa);
    if (first !== null && !first.readonly && gpa + bytes.length <= first.gpa + first.size) {
      return first.backing.write(gpa - first.gpa, bytes);
    }
    if (!this.#covers(gpa, bytes.length, true)) return false;
    return this.#eachPart(gpa, bytes, (backing, at, part) => backing.write(at, part));
  }

  /**
   * Reads one dword, at once; allocates nothing.
   *
   * @param gpa Guest physical address, a multiple of 4.
   * @returns 32 bits, or -1 if it is not RAM or the host fails.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   *
   * using ram = new RamMap();
   * ram.map({ gpa: 0, size: 0x1000 });
   * ram.write(8, new Uint8Array([0xff, 0xff, 0xff, 0xff]));
   * assertEquals([ram.readDword(8), ram.readDword(0x1000)], [0xffffffff, -1]);
   * ```
   */
  readDword(gpa: number): number {
    const region = this.#byGpa.find(gpa);
    if (region === null) return -1;
    if (region.memory !== null) return region.memory.readDword(gpa - region.gpa);
    return region.backing.read(gpa - region.gpa, this.#dwordBytes) ? this.#dword[0]! : -1;
  }

  /**
   * Copies bytes as if all had been read before, where that takes no detour: within memory of this process, from one
   * region to one.
   *
   * @param from Guest physical address of the first, any alignment.
   * @param to Where it goes, any alignment.
   * @param length How many bytes there are.
   * @returns Whether they were copied. If not, nothing has changed, and {@linkcode RamMap.read} and
   * {@linkcode RamMap.write} may do it all the same.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   *
   * using ram = new RamMap();
   * ram.map({ gpa: 0, size: 0x1000 });
   * ram.write(8, new Uint8Array([1, 2, 3]));
   * assertEquals([ram.copy(8, 9, 3), ram.copy(0xffe, 0, 3)], [true, false]);
   * const bytes = new Uint8Array(4);
   * ram.read(8, bytes);
   * assertEquals(bytes, new Uint8Array([1, 1, 2, 3]));
   * ```
   */
  copy(from: number, to: number, length: number): boolean {
    const source = this.#byGpa.find(from);
    const target = this.#byGpa.find(to);
    if (source === null || target === null || source.memory === null || target.memory === null) return false;
    if (target.readonly) return false;
    return target.memory.copyFrom(source.memory, from - source.gpa, to - target.gpa, length);
  }

  /**
   * Reads one 8-byte entry; allocates nothing.
   *
   * @param gpa Guest physical address, a multiple of 8; what is none is not read.
   * @param out Receives the low lane at 0, the high lane at 1; untouched on failure.
   * @returns Whether it was read.
   */
  readEntry(gpa: number, out: Uint32Array): boolean {
    const region = this.#byGpa.find(gpa);
    if (region === null || (gpa & 7) !== 0) return false;
    return region.backing.readEntry(gpa - region.gpa, out);
  }

  /**
   * Reads one page of 4 KiB.
   *
   * @param gfn Guest frame number.
   * @param out At least 1024 lanes; untouched on failure.
   * @returns Whether it was read.
   */
  readPage(gfn: number, out: Uint32Array): boolean {
    const gpa = gfn * PAGE_BYTES;
    const region = this.#byGpa.find(gpa);
    return region !== null && region.backing.readPage(gpa - region.gpa, out);
  }

  /**
   * Whether a page is known to hold what a copy does.
   *
   * @param gfn Guest frame number.
   * @param copy What to compare it with.
   * @returns Whether all 4096 bytes are the same; `false` also where there is no RAM, and where finding out would cost
   *   as much as reading the page.
   */
  holdsPage(gfn: number, copy: PageCopy): boolean {
    const gpa = gfn * PAGE_BYTES;
    const region = this.#byGpa.find(gpa);
    return region !== null && region.backing.holdsPage(gpa - region.gpa, copy);
  }

  /**
   * Whether a frame is guest RAM; if it is, all of it is.
   *
   * @param gfn Guest frame number.
   * @returns Whether a region has it.
   */
  isRam(gfn: number): boolean {
    return this.#byGpa.find(gfn * PAGE_BYTES) !== null;
  }

  /**
   * The host frame of a guest frame.
   *
   * @param gfn Guest frame number.
   * @returns Its host frame number, or -1 if it is not RAM.
   */
  mfnOf(gfn: number): number {
    const region = this.#byGpa.find(gfn * PAGE_BYTES);
    return region === null ? -1 : region.mfn + (gfn - region.gpa / PAGE_BYTES);
  }

  /**
   * How many frames from one on are RAM and have host frames that follow one another, across regions that touch.
   *
   * @param gfn First guest frame.
   * @param frames How many at most, 1 or more.
   * @returns 0 if the first one is not RAM; else 1..`frames`, and frame `gfn + i` has host frame `mfnOf(gfn) + i`.
   *
   * @example Two regions that touch in the guest, and on the host as well
   * ```ts
   * import { assertEquals } from "@std/assert";
   *
   * using ram = new RamMap();
   * ram.map({ gpa: 0x0000, size: 0x2000 });
   * ram.map({ gpa: 0x2000, size: 0x1000 });
   * ram.map({ gpa: 0x3000, size: 0x1000, mfn: 0x500 }); // elsewhere on the host
   * assertEquals([ram.frameRun(0, 512), ram.frameRun(1, 1), ram.frameRun(3, 512), ram.frameRun(4, 1)], [3, 1, 1, 0]);
   * ```
   */
  frameRun(gfn: number, frames: number): number {
    let run = 0;
    for (let first = -1; run < frames;) {
      const region = this.#byGpa.find((gfn + run) * PAGE_BYTES);
      if (region === null) break;
      const at = gfn + run - region.gpa / PAGE_BYTES;
      if (run === 0) first = region.mfn + at;
      else if (region.mfn + at !== first + run) break;
      run += region.size / PAGE_BYTES - at;
    }
    return Math.min(run, frames);
  }

  /**
   * The guest frame of a host frame: {@linkcode mfnOf} backwards.
   *
   * @param mfn Host frame number.
   * @returns Its guest frame number, or -1 if no RAM has it.
   */
  gfnOf(mfn: number): number {
    const region = this.#byMfn.find(mfn);
    return region === null ? -1 : region.gpa / PAGE_BYTES + (mfn - region.mfn);
  }

  #requireFree({ gpa, size, mfn }: Placement): void {
    if (this.#byGpa.intervals.length >= MAX_REGIONS) {
      throw new RamError("ENOSPC", `there are ${MAX_REGIONS} regions already: unmap one first`);
    }
    const inGuest = this.#byGpa.overlapping(gpa, gpa + size);
    if (inGuest !== null) throw new RamError("EEXIST", `it overlaps the region at ${place(inGuest)}`);
    const inHost = this.#byMfn.overlapping(mfn, mfn + size / PAGE_BYTES);
    if (inHost !== null) {
      throw new RamError(
        "EEXIST",
        `its host frames, from ${hex(mfn)}, overlap those of the region at ${place(inHost)}, ` +
          `from ${hex(inHost.mfn)}: give another mfn`,
      );
    }
  }

  #open(
    { gpa, size, readonly }: Placement,
    { path, fd, offset = 0, remote, backing }: RamRegionOptions,
  ): Backing {
    if (backing !== undefined) return backing;
    if (path !== undefined) return this.#openFile(path, readonly, offset, size);
    if (fd !== undefined) return backWithLibc(fd, readonly, offset, size);
    if (remote !== undefined) return new MessageBacking(remote, gpa, size, readonly);
    const total = this.#localBytes + size;
    if (total > MAX_LOCAL_BYTES) {
      throw new RamError(
        "ENOMEM",
        `local RAM would be ${total} bytes, the limit is ${MAX_LOCAL_BYTES}: share the RAM as a file`,
      );
    }
    return allocateLocal(size, readonly);
  }

  #add(region: BackedRegion): BackedRegion {
    const { gpa, size, mfn } = region;
    this.#byGpa.add(gpa, gpa + size, region);
    this.#byMfn.add(mfn, mfn + size / PAGE_BYTES, region);
    if (region.kind === "local") this.#localBytes += size;
    if (region.kind === "message") this.#remoteRegions++;
    return region;
  }

  #remove(region: BackedRegion): void {
    this.#byGpa.remove(region.gpa);
    this.#byMfn.remove(region.mfn);
    if (region.kind === "local") this.#localBytes -= region.size;
    if (region.kind === "message") this.#remoteRegions--;
    region.backing.close();
  }

  /** Whether every byte of a range is RAM (and may be written). */
  #covers(gpa: number, length: number, forWriting: boolean): boolean {
    const end = gpa + length;
    for (let at = gpa; at < end;) {
      const region = this.#byGpa.find(at);
      if (region === null || (forWriting && region.readonly)) return false;
      at = region.gpa + region.size;
    }
    return true;
  }

  /** Applies `access` to the parts of a range that {@linkcode RamMap.#covers} has found whole. */
  #eachPart(
    gpa: number,
    bytes: Uint8Array,
    access: (backing: Backing, at: number, part: Uint8Array) => boolean,
  ): boolean {
    for (let done = 0; done < bytes.length;) {
      const at = gpa + done;
      const region = this.#byGpa.find(at);
      if (region === null) return false;
      const count = Math.min(region.gpa + region.size - at, bytes.length - done);
      if (!access(region.backing, at - region.gpa, bytes.subarray(done, done + count))) return false;
      done += count;
    }
    return true;
  }

  #nearest(gpa: number): string {
    let nearest: RamRegion | null = null;
    for (const { value } of this.#byGpa.intervals) {
      if (nearest === null || Math.abs(value.gpa - gpa) <= Math.abs(nearest.gpa - gpa)) nearest = value;
    }
    return nearest === null
      ? "no RAM is mapped"
      : `a region goes with its exact address and size: the nearest is ${place(nearest)}`;
  }
}

function describe({ gpa, size, mfn, readonly, kind }: RamRegion): RamRegion {
  return { gpa, size, mfn, readonly, kind };
}

function place({ gpa, size }: RamRegion): string {
  return `${hex(gpa)}, size ${hex(size)}`;
}
