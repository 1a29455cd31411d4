/**
 * Guest RAM whose reads are recorded.
 *
 * Memory that is not the device's own (of the kinds file, mapped and message) changes whenever its owner likes. So each
 * *access* by the device is counted, and what it read is compared with a *mirror*: what a replay's RAM holds at that
 * moment, which is zero at first. Where they differ the change is recorded, with the access's number, and the mirror
 * follows. The device's own writes change the mirror, and need not be recorded. So a replay's device reads, access by
 * access, the very bytes that this one has read, whatever the guest's CPU did meanwhile.
 *
 * @module
 */

import type { PageCopy } from "../gtt/page_copy.ts";
import { IntervalIndex } from "./interval_index.ts";
import type { PageComparison } from "./memory_backing.ts";
import { RamMap, type RamMapOptions, type RamRegion, type RamRegionOptions } from "./ram_map.ts";
import { type PageRun, pagesFrom, SparsePages } from "./sparse_pages.ts";

const PAGE_BYTES = 4096;

/** Where accesses are counted and recorded. */
export interface AccessLog {
  /** Whether an event is under way: what reads RAM besides, a view, is of no account. */
  readonly isOpen: boolean;
  /** Accesses since the event began. */
  accesses: number;
  /**
   * An access read something else than a replay's would.
   *
   * @param access Its number.
   * @param gpa Guest physical address of the page.
   * @param runs What is different there.
   */
  changed(access: number, gpa: number, runs: readonly PageRun[]): void;
  /** An access failed, of memory that there is. */
  failed(access: number): void;
}

/** A region that is recorded. */
interface Mirrored extends RamRegion {
  readonly mirror: SparsePages;
}

const DWORD_BYTES = 4;
/** What is looked at around a dword or an entry that has changed, bytes. */
const BLOCK_BYTES = 256;
/** What is copied at once at most, bytes. */
const MAX_COPY = 1 << 20;

/**
 * Whether a copy between memory that is recorded is made as one read and one write: memory that is mapped, of one region
 * each. A recording device and a replay must agree.
 *
 * @param source The region that has the first byte, if it is recorded.
 * @param target The region where it goes, if that is recorded.
 */
export function isOneCopy(
  source: RamRegion | null,
  target: RamRegion | null,
  from: number,
  to: number,
  length: number,
): boolean {
  if (source?.kind !== "mapped" || target?.kind !== "mapped" || target.readonly) return false;
  return length <= MAX_COPY && from + length <= source.gpa + source.size &&
    to + length <= target.gpa + target.size;
}

/**
 * A map of guest RAM that is recorded.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { RecordingRam } from "./recording_ram.ts";
 *
 * const lines: unknown[] = [];
 * const log = { isOpen: true, accesses: 0, failed() {}, changed: (...line: unknown[]) => lines.push(line) };
 * using ram = new RecordingRam(log);
 * const remote = { read: (_: number, out: Uint8Array) => (out.fill(7), true), write: () => true };
 * ram.map({ gpa: 0, size: 0x2000, remote });
 * ram.read(0x1008, new Uint8Array(2));
 * ram.read(0x1008, new Uint8Array(2)); // nothing new
 * assertEquals(lines, [[1, 0x1000, [[8, Uint8Array.of(7, 7)]]]]);
 * ```
 */
export class RecordingRam extends RamMap {
  readonly #log: AccessLog;
  readonly #mirrored: IntervalIndex<Mirrored> = new IntervalIndex();
  readonly #compareWith: PageComparison | null;
  readonly #page = new Uint32Array(PAGE_BYTES / 4);
  readonly #pageBytes = new Uint8Array(this.#page.buffer);
  readonly #block = new Uint8Array(BLOCK_BYTES);
  /** What was read, as lanes and as bytes. */
  readonly #read = new Uint32Array(2);
  readonly #readBytes = new Uint8Array(this.#read.buffer);
  readonly #readDwordBytes = this.#readBytes.subarray(0, DWORD_BYTES);
  #copied = new Uint8Array(0);

  /**
   * A map without regions.
   *
   * @param log Where accesses are counted and recorded.
   * @param options How files are opened.
   * @param compare Compares pages; without it a loop does.
   */
  constructor(log: AccessLog, options: RamMapOptions = {}, compare: PageComparison | null = null) {
    super(options);
    this.#log = log;
    this.#compareWith = compare;
  }

  /** See {@linkcode RamMap.recordedSize}. */
  override get recordedSize(): number {
    return this.#mirrored.intervals.reduce((sum, { value }) => sum + value.mirror.size, 0);
  }

  /** See {@linkcode RamMap.recordedPages}: what a replay's memory holds. */
  override recordedPages(): [gfn: number, lanes: Uint32Array][] {
    return this.#mirrored.intervals.flatMap(({ value: { gpa, mirror } }) => pagesFrom(gpa, mirror));
  }

  /** Adds a region: see {@linkcode RamMap.map}. */
  override map(options: RamRegionOptions): RamRegion {
    const region = super.map(options);
    const { gpa, size, kind } = region;
    if (kind !== "local") {
      this.#mirrored.add(gpa, gpa + size, { ...region, mirror: new SparsePages(this.#compareWith) });
    }
    return region;
  }

  /** Removes a region: see {@linkcode RamMap.unmap}. */
  override unmap(gpa: number, size: number): void {
    super.unmap(gpa, size);
    this.#mirrored.remove(gpa);
  }

  /** Removes every region: see {@linkcode RamMap.clear}. */
  override clear(): void {
    super.clear();
    for (const { start } of this.#mirrored.intervals.slice()) this.#mirrored.remove(start);
  }

  /** Reads bytes: see {@linkcode RamMap.read}. */
  override read(gpa: number, out: Uint8Array): boolean {
    if (!this.#log.isOpen) return super.read(gpa, out);
    const region = this.#mirrored.find(gpa);
    if (region === null && !this.#touches(gpa, out.length)) return super.read(gpa, out);
    const access = ++this.#log.accesses;
    if (!super.read(gpa, out)) return this.#fail(access);
    if (region !== null && gpa % PAGE_BYTES + out.length <= PAGE_BYTES) {
      this.#compare(access, region, gpa, out);
    } else this.#eachMirrored(gpa, out, (part, at, bytes) => this.#compare(access, part, at, bytes));
    return true;
  }

  /** Writes bytes: see {@linkcode RamMap.write}. */
  override write(gpa: number, bytes: Uint8Array): boolean {
    if (!this.#log.isOpen) return super.write(gpa, bytes);
    const region = this.#mirrored.find(gpa);
    if (region === null && !this.#touches(gpa, bytes.length)) return super.write(gpa, bytes);
    const access = ++this.#log.accesses;
    if (!super.write(gpa, bytes)) return this.#fail(access);
    if (region !== null && gpa % PAGE_BYTES + bytes.length <= PAGE_BYTES) {
      region.mirror.set(gpa - region.gpa, bytes);
    } else this.#eachMirrored(gpa, bytes, (part, at, each) => part.mirror.set(at - part.gpa, each));
    return true;
  }

  /** Reads one dword: see {@linkcode RamMap.readDword}. */
  override readDword(gpa: number): number {
    const region = this.#log.isOpen ? this.#mirrored.find(gpa) : null;
    if (region === null) return super.readDword(gpa);
    const access = ++this.#log.accesses;
    const value = super.readDword(gpa);
    if (value < 0) this.#log.failed(access);
    else if (region.mirror.dword(gpa - region.gpa) !== value) {
      this.#read[0] = value;
      this.#changeAround(access, region, gpa, this.#readDwordBytes);
    }
    return value;
  }

  /** Copies: see {@linkcode RamMap.copy}. Where memory is recorded it is read and written, or not copied here. */
  override copy(from: number, to: number, length: number): boolean {
    const source = this.#mirrored.find(from);
    const target = this.#mirrored.find(to);
    if (source === null && target === null) return super.copy(from, to, length);
    if (source === null || target === null || !isOneCopy(source, target, from, to, length)) return false;
    if (this.#log.isOpen && Math.abs(from - to) >= length && super.copy(from, to, length)) {
      this.#followCopy(source, target, from, to, length);
      return true;
    }
    if (this.#copied.length < length) this.#copied = new Uint8Array(length);
    const bytes = this.#copied.subarray(0, length);
    return this.read(from, bytes) && this.write(to, bytes);
  }

  /** Reads one entry: see {@linkcode RamMap.readEntry}. */
  override readEntry(gpa: number, out: Uint32Array): boolean {
    const region = this.#log.isOpen ? this.#mirrored.find(gpa) : null;
    if (region === null) return super.readEntry(gpa, out);
    const access = ++this.#log.accesses;
    if (!super.readEntry(gpa, out)) return this.#fail(access);
    const at = gpa - region.gpa;
    const { mirror } = region;
    if (mirror.dword(at) === out[0] && mirror.dword(at + DWORD_BYTES) === out[1]) return true;
    this.#read[0] = out[0]!;
    this.#read[1] = out[1]!;
    this.#changeAround(access, region, gpa, this.#readBytes);
    return true;
  }

  /** Reads one page: see {@linkcode RamMap.readPage}. */
  override readPage(gfn: number, out: Uint32Array): boolean {
    const gpa = gfn * PAGE_BYTES;
    const region = this.#log.isOpen ? this.#mirrored.find(gpa) : null;
    if (region === null) return super.readPage(gfn, out);
    const access = ++this.#log.accesses;
    const held = region.mirror.page((gpa - region.gpa) / PAGE_BYTES);
    if (super.holdsPage(gfn, held)) out.set(held.lanes);
    else if (super.readPage(gfn, out)) this.#comparePage(access, region, gpa, out);
    else return this.#fail(access);
    return true;
  }

  /** Compares a page: see {@linkcode RamMap.holdsPage}. What it holds is recorded as if it were read. */
  override holdsPage(gfn: number, copy: PageCopy): boolean {
    const gpa = gfn * PAGE_BYTES;
    const region = this.#log.isOpen ? this.#mirrored.find(gpa) : null;
    if (region === null || region.kind !== "mapped") return super.holdsPage(gfn, copy);
    const access = ++this.#log.accesses;
    const number = (gpa - region.gpa) / PAGE_BYTES;
    if (!super.holdsPage(gfn, region.mirror.page(number))) {
      if (!super.readPage(gfn, this.#page)) return this.#fail(access);
      this.#comparePage(access, region, gpa, this.#page);
    }
    return region.mirror.holds(number, copy);
  }

  /**
   * A copy was made: a read and a write. What was read is what the source holds now, or held in between: a replay copies
   * what its own memory holds, and whoever reads the copy compares it again.
   */
  #followCopy(source: Mirrored, target: Mirrored, from: number, to: number, length: number): void {
    const access = ++this.#log.accesses;
    this.#log.accesses++;
    for (let done = 0; done < length;) {
      const [at, into] = [from + done, to + done];
      const offset = at % PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - offset, PAGE_BYTES - into % PAGE_BYTES, length - done);
      done += count;
      if (count < PAGE_BYTES) {
        const part = this.#pageBytes.subarray(0, count);
        if (super.read(at, part)) this.#compare(access, source, at, part);
        source.mirror.get(at - source.gpa, part);
        target.mirror.set(into - target.gpa, part);
        continue;
      }
      const number = (at - source.gpa) / PAGE_BYTES;
      const gfn = at / PAGE_BYTES;
      if (!super.holdsPage(gfn, source.mirror.page(number)) && super.readPage(gfn, this.#page)) {
        this.#comparePage(access, source, at, this.#page);
      }
      target.mirror.setPage((into - target.gpa) / PAGE_BYTES, source.mirror.page(number));
    }
  }

  /** Whether some memory that is recorded lies in a range. */
  #touches(gpa: number, length: number): boolean {
    return this.#mirrored.overlapping(gpa, gpa + length) !== null;
  }

  #fail(access: number): boolean {
    this.#log.failed(access);
    return false;
  }

  /**
   * A dword or an entry that was read is not what the mirror says. What is around it has mostly changed as well and is
   * read next, as a ring's commands are: all of it is one line then.
   */
  #changeAround(access: number, region: Mirrored, gpa: number, read: Uint8Array): void {
    const offset = gpa % BLOCK_BYTES;
    const block = this.#block;
    // Memory that has to be asked for is left alone.
    if (region.kind === "message" || !super.read(gpa - offset, block)) {
      region.mirror.get(gpa - offset - region.gpa, block);
    }
    // The guest may have changed it between the two looks: what counts is what the device has read.
    block.set(read, offset);
    this.#log.changed(access, gpa - gpa % PAGE_BYTES, region.mirror.update(gpa - offset - region.gpa, block));
  }

  #comparePage(access: number, region: Mirrored, gpa: number, lanes: Uint32Array): void {
    this.#compare(access, region, gpa, new Uint8Array(lanes.buffer, lanes.byteOffset, PAGE_BYTES));
  }

  /** Bytes within one page. */
  #compare(access: number, { gpa: base, mirror }: Mirrored, gpa: number, bytes: Uint8Array): void {
    const runs = mirror.update(gpa - base, bytes);
    if (runs.length > 0) this.#log.changed(access, gpa - gpa % PAGE_BYTES, runs);
  }

  /** The parts of a run of bytes that are recorded, none longer than its page. */
  #eachMirrored(
    gpa: number,
    bytes: Uint8Array,
    take: (region: Mirrored, at: number, part: Uint8Array) => void,
  ): void {
    for (let done = 0; done < bytes.length;) {
      const at = gpa + done;
      const count = Math.min(PAGE_BYTES - at % PAGE_BYTES, bytes.length - done);
      const region = this.#mirrored.find(at);
      if (region !== null) take(region, at, bytes.subarray(done, done + count));
      done += count;
    }
  }
}
