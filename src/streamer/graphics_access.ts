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
import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
import type { RamMap } from "../memory/ram_map.ts";

/** Where an address leads if it leads to no guest RAM. */
export const NOWHERE: number = -1;

/** Graphics addresses of a PPGTT, bytes; what is above is cut off. */
export const GMA_LIMIT: number = 2 ** 48;

/** Bit 1 of the low lane of an entry: it may be written. */
const WRITABLE = 0x2;
/** Translations that a space keeps, a power of two. */
const KEPT = 64;
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
    return gfn === NOWHERE ? NOWHERE : gfn * PAGE_SIZE + gma % PAGE_SIZE;
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
 * The page table of the context that runs, by its shadow. Translations are kept until {@linkcode PpgttSpace.forget}:
 * an engine forgets when its turn begins, for tables and RAM change only between turns; and by themselves they go when
 * a store to a tracked page was dispatched, whoever made it.
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
  /** Whether the leaf that {@linkcode #walk} came to may be written. */
  #leafIsWritable = false;
  /** Stores to tracked pages that had been dispatched when the translations were made. */
  #trappedStores = 0;

  /**
   * No context: nothing leads anywhere.
   *
   * @param gtt Has the shadow tables.
   * @param ram Guest RAM.
   */
  constructor(gtt: VgpuGtt, ram: RamMap) {
    this.#gtt = gtt;
    this.#ram = ram;
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
  }

  /**
   * See {@linkcode AddressSpace.resolve}.
   *
   * @param gma Graphics address, bytes, 0 to {@linkcode GMA_LIMIT}.
   * @param forWriting Whether every entry on the way must be writable.
   * @returns Guest physical address, or {@linkcode NOWHERE}.
   */
  resolve(gma: number, forWriting: boolean): number {
    const { trappedStores } = this.#gtt.counters;
    if (trappedStores !== this.#trappedStores) {
      this.#trappedStores = trappedStores;
      this.forget();
    }
    const offset = gma % PAGE_SIZE;
    const page = (gma - offset) / PAGE_SIZE;
    const slot = page % KEPT;
    if (this.#pages[slot] !== page) {
      const gfn = this.#walk(gma);
      if (gfn === NOWHERE) return NOWHERE;
      this.#pages[slot] = page;
      this.#leads[slot] = gfn * PAGE_SIZE;
      this.#isWritable[slot] = this.#leafIsWritable ? 1 : 0;
    }
    if (forWriting && this.#isWritable[slot] === 0) return NOWHERE;
    return this.#leads[slot]! + offset;
  }

  /** Walks the shadow as the hardware would. @returns Guest frame, or {@linkcode NOWHERE}. */
  #walk(gma: number): number {
    const mm = this.#mm;
    if (mm === null || !mm.shadowed) return NOWHERE;
    const hi = Math.floor(gma / LANE);
    const lo = gma >>> 0;
    // With 3 levels an address has 32 bits: what is above is ignored, as by hardware.
    const slot = mm.level === 4 ? 0 : lo >>> 30;
    const { tables } = this.#gtt.parts;
    let table = tables.byMfn(frameOf(mm.shadowRoots[2 * slot]!, mm.shadowRoots[2 * slot + 1]!));
    let kind = mm.rootKind;
    this.#leafIsWritable = true;
    while (table !== undefined) {
      const lane = 2 * tableIndex(kind, lo, hi);
      const entryLo = table.lanes[lane]!;
      if ((entryLo & PRESENT) === 0) return NOWHERE;
      if ((entryLo & WRITABLE) === 0) this.#leafIsWritable = false;
      const mfn = frameOf(entryLo, table.lanes[lane + 1]!);
      if (kind === PTE) return this.#ram.gfnOf(mfn);
      if (kind === PDE && (entryLo & PAGE_LARGE) !== 0) {
        // The low frame bits of a 2 MiB entry are flags.
        return this.#ram.gfnOf(mfn - mfn % LARGE_FRAMES + tableIndex(PTE, lo, hi));
      }
      table = tables.byMfn(mfn);
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
    if (gpa !== NOWHERE && this.#ram.read(gpa, this.#four)) return this.#lanes[0]!;
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
    if (gma % PAGE_SIZE > PAGE_SIZE - 8) {
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
    for (let done = 0; done < out.length;) {
      const at = (gma + done) % GMA_LIMIT;
      const count = Math.min(out.length - done, PAGE_SIZE - at % PAGE_SIZE);
      const part = out.subarray(done, done + count);
      const gpa = space.resolve(at, false);
      if (gpa === NOWHERE || !this.#ram.read(gpa, part)) {
        part.fill(0);
        this.#badRead(space, at);
      }
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
    for (let done = 0; done < bytes.length;) {
      const at = (gma + done) % GMA_LIMIT;
      const count = Math.min(bytes.length - done, PAGE_SIZE - at % PAGE_SIZE);
      this.#store(space, at, bytes.subarray(done, done + count));
      done += count;
    }
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
    if (this.#gtt.parts.tracks.enabledTracks === 0) return;
    // A shadow table takes whole entries and halves as stores, and everything else as a change of so many bytes.
    const isStore = (bytes.length === 8 || bytes.length === 4) && gpa % bytes.length === 0;
    if (isStore) this.#gtt.dispatchStore(gpa, bytes.length);
    else this.#gtt.dispatchRange(gpa, bytes.length);
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
