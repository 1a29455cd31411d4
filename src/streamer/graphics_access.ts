/**
 * How an engine reaches memory (`guest.md` §9): a graphics address goes through the GGTT, or through the *shadow* of
 * the context's PPGTT, to a host frame, and that to guest RAM.
 *
 * Nothing else is ever reached. An address that the table does not map, a write to a read-only entry, a scratch frame
 * and a frame that is no guest RAM (any more) lead nowhere: a read gives 0, a write is dropped, and both are counted.
 * The host frame is resolved to guest RAM at the time of the access (`engine.md` §15, 27 and 30).
 *
 * Graphics addresses are numbers of bytes below 2^48: those of a guest are cut to that (`guest.md` §9). An access may
 * lie in two pages; each is translated for itself.
 *
 * @module
 */

import type { GraphicsMemory } from "../gtt/address.ts";
import { childKind, frameOf, PAGE_LARGE, PAGE_SIZE, PDE, PRESENT, PTE } from "../gtt/entry.ts";
import { INVALID_MFN } from "../gtt/host.ts";
import type { PpgttMm } from "../gtt/mm.ts";
import { tableIndex } from "../gtt/translate.ts";
import type { TreeSync } from "../gtt/tree_sync.ts";
import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
import type { RamMap } from "../memory/ram_map.ts";
import { type EngineInfo, ENGINES } from "./engines.ts";
import type { Translation, TranslationCheck } from "./witness.ts";

/** Where an address leads if it leads to no guest RAM. */
export const NOWHERE: number = -1;

/** Graphics addresses of a PPGTT, bytes; what is above is cut off. */
export const GMA_LIMIT: number = 2 ** 48;

/** What reading a dword gives where there is none. */
const NO_DWORD = -1;
/** An address within its page: exact for whole numbers up to 2^53, and many times faster than a remainder of them. */
const IN_PAGE = PAGE_SIZE - 1;
/** Bit 1 of the low lane of an entry: it may be written. */
const WRITABLE = 0x2;
/** Translations that a space keeps, a power of two. */
const KEPT = 64;
/** PTE tables that a space keeps, a power of two. */
const KEPT_TABLES = 16;
const NO_LANES = new Uint32Array(0);
/** Entries of a table. */
const ENTRIES = 512;
/** Frames of a 2 MiB page. */
const LARGE_FRAMES = 512;
const LANE = 2 ** 32;

/** The GGTT that the hardware walks. */
export interface HardwareGgtt {
  /**
   * The host frame that a present entry leads to.
   *
   * @param gma Graphics address, bytes.
   * @returns Frame number, or `INVALID_MFN`.
   */
  target(gma: number): number;
}

/** A way from graphics addresses to guest RAM. */
export interface AddressSpace {
  /**
   * Where an address leads.
   *
   * @param gma Graphics address, bytes, 0 to {@linkcode GMA_LIMIT}.
   * @param forWriting Whether it must be writable.
   * @returns Guest physical address, or {@linkcode NOWHERE}.
   */
  resolve(gma: number, forWriting: boolean): number;
}

/**
 * The global table. A vGPU's own part of it, that is: no other address leads anywhere.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, GgttSpace, GTT_START_OFFSET } from "../../mod.ts";
 *
 * using device = createDevice();
 * device.mapRam({ gpa: 0, size: 0x10000 });
 * const { config: { apertureBase: gma }, host, ram, vgpu } = device;
 * vgpu.write(0, GTT_START_OFFSET + gma / 4096 * 8, 8, 0x5001, 0);
 * const space = new GgttSpace(vgpu.gtt.gm, host.ggtt, ram);
 * assertEquals([space.resolve(gma + 0xabc), space.resolve(0)], [0x5abc, -1]);
 * ```
 */
export class GgttSpace implements AddressSpace {
  readonly #gm: GraphicsMemory;
  readonly #ggtt: HardwareGgtt;
  readonly #ram: RamMap;

  /**
   * The table of a vGPU.
   *
   * @param gm Which addresses are its own.
   * @param ggtt The table that the hardware walks.
   * @param ram Guest RAM.
   */
  constructor(gm: GraphicsMemory, ggtt: HardwareGgtt, ram: RamMap) {
    this.#gm = gm;
    this.#ggtt = ggtt;
    this.#ram = ram;
  }

  /**
   * See {@linkcode AddressSpace.resolve}: entries of the GGTT have no write bit.
   *
   * @param gma Graphics address, bytes.
   * @returns Guest physical address, or {@linkcode NOWHERE}.
   */
  resolve(gma: number): number {
    if (!this.#gm.isValid(gma)) return NOWHERE;
    const mfn = this.#ggtt.target(gma);
    const gfn = mfn === INVALID_MFN ? NOWHERE : this.#ram.gfnOf(mfn);
    return gfn === NOWHERE ? NOWHERE : gfn * PAGE_SIZE + (gma & IN_PAGE);
  }

  /**
   * Whether a whole range is the vGPU's own, as a context or a ring must be (`guest.md` §3.3).
   *
   * @param gma Graphics address, bytes.
   * @param size Bytes.
   * @returns Whether it lies in one of the two windows.
   */
  isOwn(gma: number, size: number): boolean {
    return this.#gm.isValidRange(gma, size);
  }
}

/**
 * The page table of the context that runs, by its shadow: this is the engine's TLB. Translations are kept until
 * {@linkcode PpgttSpace.forget}: an engine forgets when its turn begins, for tables and RAM change only between turns;
 * and by themselves they go when a store to a tracked page was dispatched, whoever made it, and where nothing traps
 * when the guest invalidates or submits something.
 *
 * @example A page that may only be read
 * ```ts
 * import { assert, assertEquals } from "@std/assert";
 * import { createDevice, PpgttSpace } from "../../mod.ts";
 *
 * using device = createDevice();
 * device.mapRam({ gpa: 0, size: 0x10000 });
 * device.ram.write(0x1000, Uint8Array.of(3, 0x20)); // PDE 0 leads to the PTE table in frame 2,
 * device.ram.write(0x2000, Uint8Array.of(1, 0x50)); // which maps frame 5, read-only
 * const { gtt } = device.vgpu;
 * const begun = gtt.beginWorkload(3, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0));
 * assert(typeof begun !== "number");
 * const space = new PpgttSpace(gtt, device.ram);
 * space.mm = begun.mm;
 * assertEquals([space.resolve(0xabc, false), space.resolve(0xabc, true)], [0x5abc, -1]);
 * ```
 */
export class PpgttSpace implements AddressSpace {
  readonly #gtt: VgpuGtt;
  readonly #ram: RamMap;
  #mm: PpgttMm | null = null;
  /** Pages whose translations are kept, by the low bits of their number, and where they lead. */
  readonly #pages = new Float64Array(KEPT).fill(NOWHERE);
  readonly #leads = new Float64Array(KEPT);
  readonly #isWritable = new Uint8Array(KEPT);
  /**
   * PTE tables that are kept, by their number in the address space, and whether all entries on the way are writable.
   * They are live: an entry on the way to one changes, and lets it go, only by a store that is dispatched or by a look
   * after an invalidation, and either makes this space forget.
   */
  readonly #tableNumbers = new Float64Array(KEPT_TABLES).fill(NOWHERE);
  readonly #tables: Uint32Array[] = new Array(KEPT_TABLES).fill(NO_LANES);
  readonly #tableIsWritable = new Uint8Array(KEPT_TABLES);
  /** Whether the leaf that {@linkcode #walk} came to may be written. */
  #leafIsWritable = false;
  /** How often there had been a reason to forget when the translations were made. */
  #version = 0;
  readonly #check: ((gma: number, gfn: number, isWritable: boolean, again: () => Translation) => void) | null;

  /**
   * No context: nothing leads anywhere.
   *
   * @param gtt Has the shadow tables.
   * @param ram Guest RAM.
   * @param check Told of every translation.
   * @param engine Which engine's space it is, for who checks.
   */
  constructor(
    gtt: VgpuGtt,
    ram: RamMap,
    check: TranslationCheck | null = null,
    engine: EngineInfo = ENGINES[0]!,
  ) {
    this.#gtt = gtt;
    this.#ram = ram;
    this.#check = check === null
      ? null
      : (gma, gfn, isWritable, again) => check(this.#mm!, gma, gfn, isWritable, engine, again);
  }

  /**
   * The address space of the context that runs, pinned; `null`: none.
   *
   * @returns It.
   */
  get mm(): PpgttMm | null {
    return this.#mm;
  }

  /** Changes to another context. */
  set mm(mm: PpgttMm | null) {
    this.#mm = mm;
    this.forget();
  }

  /** Drops every translation that is kept. */
  forget(): void {
    this.#pages.fill(NOWHERE);
    this.#tableNumbers.fill(NOWHERE);
  }

  /**
   * See {@linkcode AddressSpace.resolve}.
   *
   * @param gma Graphics address, bytes, 0 to {@linkcode GMA_LIMIT}.
   * @param forWriting Whether every entry on the way must be writable.
   * @returns Guest physical address, or {@linkcode NOWHERE}.
   */
  resolve(gma: number, forWriting: boolean): number {
    const { trees } = this.#gtt.parts;
    const version = trees === null ? this.#gtt.counters.trappedStores : trees.epoch;
    if (version !== this.#version) {
      this.#version = version;
      this.forget();
    }
    const offset = gma & IN_PAGE;
    const page = (gma - offset) / PAGE_SIZE;
    const slot = slotOf(page, KEPT);
    if (this.#pages[slot] !== page) {
      const gfn = this.#leaf(gma, page, trees);
      if (gfn === NOWHERE) {
        if (this.#check !== null && this.#mm !== null) this.#tell(gma, NOWHERE, false);
        return NOWHERE;
      }
      this.#pages[slot] = page;
      this.#leads[slot] = gfn * PAGE_SIZE;
      this.#isWritable[slot] = this.#leafIsWritable ? 1 : 0;
    }
    if (this.#check !== null) this.#tell(gma, this.#leads[slot]! / PAGE_SIZE, this.#isWritable[slot] === 1);
    if (forWriting && this.#isWritable[slot] === 0) return NOWHERE;
    return this.#leads[slot]! + offset;
  }

  /** Tells who checks; apart from {@linkcode resolve}, which would make room for what is captured with each call. */
  #tell(gma: number, gfn: number, isWritable: boolean): void {
    this.#check!(gma, gfn, isWritable, () => this.#again(gma));
  }

  /** The entry of a page, in a PTE table that is kept or by a walk. @returns Guest frame, or {@linkcode NOWHERE}. */
  #leaf(gma: number, page: number, trees: TreeSync | null): number {
    const number = Math.floor(page / ENTRIES);
    const slot = slotOf(number, KEPT_TABLES);
    const lanes = this.#tables[slot]!;
    if (this.#tableNumbers[slot] !== number) return this.#walk(gma, trees);
    const lane = 2 * (page & ENTRIES - 1);
    const lo = lanes[lane]!;
    if ((lo & PRESENT) === 0) return NOWHERE;
    this.#leafIsWritable = this.#tableIsWritable[slot] === 1 && (lo & WRITABLE) !== 0;
    return this.#ram.gfnOf(frameOf(lo, lanes[lane + 1]!));
  }

  /** Walks once more, after an invalidation, for who checks. */
  #again(gma: number): Translation {
    this.#gtt.invalidate();
    const gfn = this.#walk(gma, this.#gtt.parts.trees);
    return { gfn, isWritable: this.#leafIsWritable };
  }

  /** Keeps the PTE table that a walk came to. */
  #keep(gma: number, lanes: Uint32Array): void {
    const number = Math.floor(gma / (PAGE_SIZE * ENTRIES));
    const slot = slotOf(number, KEPT_TABLES);
    this.#tableNumbers[slot] = number;
    this.#tables[slot] = lanes;
    this.#tableIsWritable[slot] = this.#leafIsWritable ? 1 : 0;
  }

  /** Walks the shadow as the hardware would. @returns Guest frame, or {@linkcode NOWHERE}. */
  #walk(gma: number, trees: TreeSync | null): number {
    const mm = this.#mm;
    if (mm === null || !mm.shadowed) return NOWHERE;
    const hi = Math.floor(gma / LANE);
    const lo = gma >>> 0;
    // With 3 levels an address has 32 bits: what is above is ignored, as by hardware.
    const slot = mm.level === 4 ? 0 : lo >>> 30;
    let table = mm.rootTables[slot]!;
    let kind = mm.rootKind;
    this.#leafIsWritable = true;
    while (table !== null) {
      trees?.look(table);
      const index = tableIndex(kind, lo, hi);
      const lane = 2 * index;
      const entryLo = table.lanes[lane]!;
      if (kind === PTE) this.#keep(gma, table.lanes);
      if ((entryLo & PRESENT) === 0) return NOWHERE;
      if ((entryLo & WRITABLE) === 0) this.#leafIsWritable = false;
      const mfn = frameOf(entryLo, table.lanes[lane + 1]!);
      if (kind === PTE) return this.#ram.gfnOf(mfn);
      if (kind === PDE && (entryLo & PAGE_LARGE) !== 0) {
        // The low frame bits of a 2 MiB entry are flags.
        return this.#ram.gfnOf(mfn - mfn % LARGE_FRAMES + tableIndex(PTE, lo, hi));
      }
      table = table.below![index]!;
      kind = childKind(kind);
    }
    return NOWHERE;
  }
}

/** What an engine's accesses to memory came to. */
export interface AccessCounters {
  /** Reads that led nowhere and gave 0. */
  csBadReads: number;
  /** Writes that led nowhere and were dropped. */
  csBadWrites: number;
}

/**
 * An engine's loads and stores.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, GgttSpace, GraphicsAccess, GTT_START_OFFSET } from "../../mod.ts";
 *
 * using device = createDevice();
 * device.mapRam({ gpa: 0, size: 0x10000 });
 * const { config: { apertureBase: gma }, host, ram, vgpu } = device;
 * vgpu.write(0, GTT_START_OFFSET + gma / 4096 * 8, 8, 0x5001, 0);
 * const counters = { csBadReads: 0, csBadWrites: 0 };
 * const access = new GraphicsAccess(vgpu.gtt, ram, counters);
 * const space = new GgttSpace(vgpu.gtt.gm, host.ggtt, ram);
 * access.write32(space, gma + 8, 0x12345678);
 * access.write32(space, 0, 1); // not the vGPU's
 * assertEquals([access.read32(space, gma + 8), access.read32(space, 0)], [0x12345678, 0]);
 * assertEquals(counters, { csBadReads: 1, csBadWrites: 1 });
 * ```
 */
export class GraphicsAccess {
  /** The first address that led nowhere since this was set to {@linkcode NOWHERE}. */
  faultAddress: number = NOWHERE;
  /** The table that does not have {@linkcode faultAddress}. */
  faultSpace: AddressSpace | null = null;
  readonly #gtt: VgpuGtt;
  readonly #ram: RamMap;
  readonly #counters: AccessCounters;
  readonly #lanes = new Uint32Array(2);
  readonly #four = new Uint8Array(this.#lanes.buffer, 0, 4);
  readonly #eight = new Uint8Array(this.#lanes.buffer, 0, 8);
  /** What is copied where guest RAM is not this process's memory. */
  readonly #page = new Uint8Array(PAGE_SIZE);

  /**
   * Accesses of one vGPU.
   *
   * @param gtt Told of stores to tracked pages.
   * @param ram Guest RAM.
   * @param counters Counts accesses that lead nowhere.
   */
  constructor(gtt: VgpuGtt, ram: RamMap, counters: AccessCounters) {
    this.#gtt = gtt;
    this.#ram = ram;
    this.#counters = counters;
  }

  /**
   * Loads a dword.
   *
   * @param space Through which table.
   * @param gma Graphics address, bytes, a multiple of 4.
   * @returns 32 bits; 0 if it leads nowhere.
   */
  read32(space: AddressSpace, gma: number): number {
    const gpa = space.resolve(gma, false);
    const value = gpa === NOWHERE ? NO_DWORD : this.#ram.readDword(gpa);
    if (value !== NO_DWORD) return value;
    this.#badRead(space, gma);
    return 0;
  }

  /**
   * Stores a dword, at once.
   *
   * @param space Through which table.
   * @param gma Graphics address, bytes, a multiple of 4.
   * @param value 32 bits.
   */
  write32(space: AddressSpace, gma: number, value: number): void {
    this.#lanes[0] = value;
    this.#store(space, gma, this.#four);
  }

  /**
   * Stores a qword, at once if it lies in one page.
   *
   * @param space Through which table.
   * @param gma Graphics address, bytes, a multiple of 4.
   * @param lo Low 32 bits.
   * @param hi High 32 bits.
   */
  write64(space: AddressSpace, gma: number, lo: number, hi: number): void {
    if ((gma & IN_PAGE) > PAGE_SIZE - 8) {
      this.write32(space, gma, lo);
      this.write32(space, (gma + 4) % GMA_LIMIT, hi);
      return;
    }
    this.#lanes[0] = lo;
    this.#lanes[1] = hi;
    this.#store(space, gma, this.#eight);
  }

  /**
   * Loads bytes; those that lead nowhere are 0.
   *
   * @param space Through which table.
   * @param gma Graphics address of the first byte, any alignment.
   * @param out Receives them.
   */
  read(space: AddressSpace, gma: number, out: Uint8Array): void {
    if ((gma & IN_PAGE) + out.length <= PAGE_SIZE) return this.#load(space, gma, out);
    for (let done = 0; done < out.length;) {
      const at = cut(gma + done);
      const count = Math.min(out.length - done, PAGE_SIZE - (at & IN_PAGE));
      this.#load(space, at, out.subarray(done, done + count));
      done += count;
    }
  }

  /**
   * Stores bytes; those that lead nowhere are dropped.
   *
   * @param space Through which table.
   * @param gma Graphics address of the first byte, any alignment.
   * @param bytes What to store.
   */
  write(space: AddressSpace, gma: number, bytes: Uint8Array): void {
    if ((gma & IN_PAGE) + bytes.length <= PAGE_SIZE) return this.#store(space, gma, bytes);
    for (let done = 0; done < bytes.length;) {
      const at = cut(gma + done);
      const count = Math.min(bytes.length - done, PAGE_SIZE - (at & IN_PAGE));
      this.#store(space, at, bytes.subarray(done, done + count));
      done += count;
    }
  }

  /**
   * Copies bytes: what leads nowhere is read as 0, or dropped. They go in runs, as far as frames follow one another at
   * both ends, and each run as if it had been read before.
   *
   * @param space Through which table, both ways.
   * @param from Graphics address of the first byte, any alignment; the last, too, is below {@linkcode GMA_LIMIT}.
   * @param to Where it goes; the same.
   * @param size Bytes.
   * @param isBackward Whether the last of them go first.
   */
  copy(space: AddressSpace, from: number, to: number, size: number, isBackward: boolean): void {
    if (isBackward) return this.#copyPieces(space, from, to, size, true);
    const { counters } = this.#gtt;
    let source = space.resolve(from, false);
    let target = space.resolve(to, true);
    for (let done = 0; done < size;) {
      let end = done;
      let nextSource = NOWHERE;
      let nextTarget = NOWHERE;
      do {
        end += Math.min(size - end, roomIn(from + end), roomIn(to + end));
        if (end === size) break;
        nextSource = follow(space, from + end, source, end - done, false);
        nextTarget = follow(space, to + end, target, end - done, true);
      } while (nextSource === source + end - done && nextTarget === target + end - done);
      const stores = counters.trappedStores;
      if (source !== NOWHERE && target !== NOWHERE && this.#ram.copy(source, target, end - done)) {
        this.#stored(target, end - done);
      } else {
        this.#copyPieces(space, from + done, to + done, end - done, false);
      }
      // What was stored may have been a table of the guest's.
      const isStale = counters.trappedStores !== stores && end < size;
      source = isStale ? space.resolve(from + end, false) : nextSource;
      target = isStale ? space.resolve(to + end, true) : nextTarget;
      done = end;
    }
  }

  /** Copies in pieces that lie in one page each, at both ends. */
  #copyPieces(space: AddressSpace, from: number, to: number, size: number, isBackward: boolean): void {
    for (let left = size; left > 0;) {
      let at = size - left;
      let count: number;
      if (isBackward) {
        count = Math.min(left, ((from + left - 1) & IN_PAGE) + 1, ((to + left - 1) & IN_PAGE) + 1);
        at = left - count;
      } else {
        count = Math.min(left, roomIn(from + at), roomIn(to + at));
      }
      this.#copyPiece(space, from + at, to + at, count);
      left -= count;
    }
  }

  #copyPiece(space: AddressSpace, from: number, to: number, count: number): void {
    const source = space.resolve(from, false);
    const target = space.resolve(to, true);
    if (source !== NOWHERE && target !== NOWHERE && this.#ram.copy(source, target, count)) {
      this.#stored(target, count);
      return;
    }
    const bytes = this.#page.subarray(0, count);
    this.#load(space, from, bytes);
    this.#store(space, to, bytes);
  }

  /** Loads what lies in one page. */
  #load(space: AddressSpace, gma: number, out: Uint8Array): void {
    const gpa = space.resolve(gma, false);
    if (gpa !== NOWHERE && this.#ram.read(gpa, out)) return;
    out.fill(0);
    this.#badRead(space, gma);
  }

  /** Stores what lies in one page. */
  #store(space: AddressSpace, gma: number, bytes: Uint8Array): void {
    const gpa = space.resolve(gma, true);
    if (gpa === NOWHERE || !this.#ram.write(gpa, bytes)) {
      this.#counters.csBadWrites++;
      // Stray writes to a scratch page, which may only be read, are normal (`guest.md` §9).
      if (space.resolve(gma, false) === NOWHERE) this.#fault(space, gma);
      return;
    }
    this.#stored(gpa, bytes.length);
  }

  /** Tells whoever tracks the page of a store. */
  #stored(gpa: number, length: number): void {
    if (this.#gtt.parts.tracks.enabledTracks === 0) return;
    // A shadow table takes whole entries and halves as stores, and everything else as a change of so many bytes.
    const isStore = (length === 8 || length === 4) && (gpa & (length - 1)) === 0;
    if (isStore) this.#gtt.dispatchStore(gpa, length);
    else this.#gtt.dispatchRange(gpa, length);
  }

  #badRead(space: AddressSpace, gma: number): void {
    this.#counters.csBadReads++;
    this.#fault(space, gma);
  }

  #fault(space: AddressSpace, gma: number): void {
    if (this.faultAddress !== NOWHERE) return;
    this.faultAddress = gma;
    this.faultSpace = space;
  }
}

/** An address that may have gone beyond the last one. */
function cut(gma: number): number {
  return gma < GMA_LIMIT ? gma : gma - GMA_LIMIT;
}

/** Bytes from an address to the end of its page. */
function roomIn(gma: number): number {
  return PAGE_SIZE - (gma & IN_PAGE);
}

/** Where an address leads, if as many bytes before it lead on without a gap; another page is looked up. */
function follow(
  space: AddressSpace,
  gma: number,
  before: number,
  bytes: number,
  forWriting: boolean,
): number {
  if ((gma & IN_PAGE) === 0) return space.resolve(gma, forWriting);
  return before === NOWHERE ? NOWHERE : before + bytes;
}

/** Where something with a number is kept: surfaces begin at round addresses, which must not meet in one slot. */
function slotOf(number: number, slots: number): number {
  return (number ^ (number >>> 4) ^ (number >>> 9) ^ (number >>> 13)) & (slots - 1);
}
