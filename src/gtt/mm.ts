/**
 * Address spaces (`engine.md` §4, §8): the PPGTTs that a guest announced, each with four guest roots and,
 * while it is shadowed, four shadow roots.
 *
 * @module
 */

import { EINVAL, ENOMEM, OK } from "./errno.ts";
import {
  frameOf,
  PAGE_LARGE,
  PDE,
  PML4,
  PRESENT,
  type TableKind,
  withFrameHi,
  withFrameLo,
} from "./entry.ts";
import type { Counters } from "./counters.ts";
import type { ShadowTable } from "./shadow_table.ts";
import type { Looks, ShadowTables } from "./shadow_tables.ts";

/**
 * PPGTT address spaces one vGPU may have. A guest makes one a process that opens the GPU; a reclaim frees none.
 */
export const MAX_PPGTT_MMS = 4096;

/** Root slots of an address space, whatever its level. */
export const ROOTS = 4;

/**
 * One PPGTT address space. Whoever holds one across guest actions checks {@linkcode alive}
 * (`engine.md` §15, 28).
 */
export class PpgttMm {
  /** Its number, in creation order from 0, never used again; -1 until it is created. */
  id: number = -1;
  /** Levels of its tables: 3 or 4. */
  readonly level: 3 | 4;
  /** The guest's four root values, two lanes each. */
  readonly roots: Uint32Array;
  /** The four shadow roots, two lanes each; 0 where there is none. */
  readonly shadowRoots: Uint32Array = new Uint32Array(2 * ROOTS);
  /** The tables that the shadow roots lead to; `null` where there is none. */
  readonly rootTables: (ShadowTable | null)[] = [null, null, null, null];
  /** References; the address space ends when the last one is given back. */
  refs = 1;
  /** Pins; a pinned address space is not reclaimed. */
  pins = 0;
  /** Whether the shadow exists. A reclaim takes it, the next pin rebuilds it. */
  shadowed = false;
  /** Whether the address space still exists. */
  alive = true;
  readonly #tables: ShadowTables;

  /**
   * An address space that is not shadowed yet.
   *
   * @param level Levels of its tables.
   * @param roots Four guest root values as eight lanes; kept, not copied.
   * @param tables The shadow tables of its vGPU.
   */
  constructor(level: 3 | 4, roots: Uint32Array, tables: ShadowTables) {
    this.level = level;
    this.roots = roots;
    this.#tables = tables;
  }

  /**
   * Kind of the tables that the roots lead to (`engine.md` §3.1).
   *
   * @returns PML4 for level 4, PDE for level 3.
   */
  get rootKind(): TableKind {
    return this.level === 4 ? PML4 : PDE;
  }

  /**
   * Root slots that are shadowed and walked: level 4 has one, whatever the others contain
   * (`engine.md` §15, 7).
   *
   * @returns 1 for level 4, 4 for level 3.
   */
  get rootSlots(): number {
    return this.level === 4 ? 1 : ROOTS;
  }

  /**
   * Builds the shadow of every root that is not 0 (`engine.md` §8.2).
   *
   * @param looks When the tables are compared with the guest's, where nothing traps.
   * @returns 0; the error of obtaining a table, -EINVAL for a level-3 root that is a large page; then no root
   *   is shadowed.
   *
   * @example A guest writes roots without the present bit
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL, PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables } = device.vgpu.gtt.parts;
   * const mm = new PpgttMm(3, Uint32Array.of(0x1000, 0, 0x2000, 0, 0, 0, 0, 0), tables);
   * assertEquals([mm.shadow(), tables.size], [0, 2]);
   * mm.unshadow();
   * assertEquals([mm.shadowed, tables.size], [false, 0]);
   * assertEquals(new PpgttMm(3, Uint32Array.of(0x1081, 0, 0, 0, 0, 0, 0, 0), tables).shadow(), EINVAL);
   * ```
   */
  shadow(looks: Looks = "ahead"): number {
    this.shadowed = true;
    for (let slot = 0; slot < this.rootSlots; slot++) {
      const rc = this.#shadowRoot(slot, looks);
      if (rc === OK) continue;
      this.unshadow();
      return rc;
    }
    return OK;
  }

  /** Releases every shadow root (`engine.md` §8.5); {@linkcode shadow} builds them again. */
  unshadow(): void {
    for (let slot = 0; slot < this.rootSlots; slot++) {
      const table = this.rootTables[slot]!;
      if (table === null) continue;
      this.shadowRoots[2 * slot] = 0;
      this.shadowRoots[2 * slot + 1] = 0;
      this.rootTables[slot] = null;
      this.#tables.release(table);
    }
    this.shadowed = false;
  }

  #shadowRoot(slot: number, looks: Looks): number {
    const lo = this.roots[2 * slot]!;
    const hi = this.roots[2 * slot + 1]!;
    // Guests write roots without bit 0: present means that the value is not 0 (§3).
    if (lo === 0 && hi === 0) return OK;
    if (this.level === 3 && (lo & PAGE_LARGE) !== 0) return (lo & PRESENT) === 0 ? OK : EINVAL;
    const table = this.#tables.obtain(this.rootKind, frameOf(lo, hi), looks);
    if (typeof table === "number") return table;
    this.shadowRoots[2 * slot] = withFrameLo(lo, table.page.mfn);
    this.shadowRoots[2 * slot + 1] = withFrameHi(hi, table.page.mfn);
    this.rootTables[slot] = table;
    return OK;
  }
}

/** The device's address spaces in order of last use, the longest unused first. */
export type LruList = Set<PpgttMm>;

/** The PPGTT address spaces of one vGPU. */
export class PpgttMms {
  readonly #counters: Counters;
  readonly #tables: ShadowTables;
  readonly #lru: LruList;
  readonly #takeId: () => number;
  readonly #byId = new Map<number, PpgttMm>();
  /** Those whose first roots are alike, oldest first: each submission looks for one. */
  readonly #byRoot = new Map<number, PpgttMm[]>();

  /**
   * No address spaces.
   *
   * @param counters Counts what is created.
   * @param tables The shadow tables of the vGPU.
   * @param lru The device's list, which shadowed address spaces join.
   * @param takeId Answers the number of the next address space.
   */
  constructor(counters: Counters, tables: ShadowTables, lru: LruList, takeId: () => number) {
    this.#counters = counters;
    this.#tables = tables;
    this.#lru = lru;
    this.#takeId = takeId;
  }

  /**
   * Number of address spaces.
   *
   * @returns 0..{@linkcode MAX_PPGTT_MMS}.
   */
  get size(): number {
    return this.#byId.size;
  }

  /**
   * The address spaces in creation order.
   *
   * @returns An iterator over the live list.
   */
  all(): IterableIterator<PpgttMm> {
    return this.#byId.values();
  }

  /**
   * The address space with this number.
   *
   * @param id {@linkcode PpgttMm.id}, 0 or more.
   * @returns The address space, or `undefined` if it does not exist or has ended.
   *
   * @example Numbers are never used again
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { mms } = device.vgpu.gtt.parts;
   * mms.destroy(mms.create(3, null) as PpgttMm);
   * const next = mms.create(3, null) as PpgttMm;
   * assertEquals([mms.get(0), mms.get(1) === next], [undefined, true]);
   * ```
   */
  get(id: number): PpgttMm | undefined {
    return this.#byId.get(id);
  }

  /**
   * Creates and shadows an address space (`intel_vgpu_create_mm`, `engine.md` §8.1). A failed one takes no
   * number (§15, 8).
   *
   * @param level 3 or 4.
   * @param roots Four guest root values as eight lanes, copied; `null` for an empty tree.
   * @returns It, with one reference; -EINVAL for another level, -ENOMEM at {@linkcode MAX_PPGTT_MMS}, or the
   *   error of shadowing.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { mms } = device.vgpu.gtt.parts;
   * assertEquals(mms.create(3, Uint32Array.of(0x99000, 0, 0, 0, 0, 0, 0, 0)), EINVAL); // no RAM
   * const mm = mms.create(3, null) as PpgttMm;
   * assertEquals([mm.id, mm.refs, mm.shadowed], [0, 1, true]);
   * ```
   */
  create(level: number, roots: Uint32Array | null, looks: Looks = "ahead"): PpgttMm | number {
    if (level !== 3 && level !== 4) return EINVAL;
    if (this.#byId.size >= MAX_PPGTT_MMS) return ENOMEM;
    const own = new Uint32Array(2 * ROOTS);
    if (roots !== null) own.set(roots.subarray(0, 2 * ROOTS));
    const mm = new PpgttMm(level, own, this.#tables);
    const rc = mm.shadow(looks);
    if (rc !== OK) return rc;
    mm.id = this.#takeId();
    this.#byId.set(mm.id, mm);
    const alike = this.#byRoot.get(rootKey(own));
    if (alike === undefined) this.#byRoot.set(rootKey(own), [mm]);
    else alike.push(mm);
    this.#lru.add(mm);
    this.#counters.mmsCreated++;
    return mm;
  }

  /**
   * The first address space with these roots (`intel_vgpu_find_ppgtt_mm`, `engine.md` §8.6).
   *
   * @param level 3: all four roots must match; 4: only slot 0.
   * @param roots Four guest root values as eight lanes.
   * @returns The address space created first, or `undefined`.
   *
   * @example Two address spaces with equal roots
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { mms } = device.vgpu.gtt.parts;
   * const first = mms.create(4, null);
   * mms.create(4, null);
   * assertEquals(mms.find(4, new Uint32Array(8)) === first, true);
   * assertEquals(mms.find(3, new Uint32Array(8)), undefined);
   * ```
   */
  find(level: number, roots: Uint32Array): PpgttMm | undefined {
    return this.#byRoot.get(rootKey(roots))?.find((mm) => mm.level === level && hasRoots(mm, roots));
  }

  /**
   * Gives back a reference; the last one ends the address space (`engine.md` §8.6).
   *
   * @param mm A live address space of this vGPU.
   * @returns References left.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { mms } = device.vgpu.gtt.parts;
   * const mm = mms.create(3, null) as PpgttMm;
   * mm.refs++;
   * assertEquals([mms.unreference(mm), mm.alive], [1, true]);
   * assertEquals([mms.unreference(mm), mm.alive], [0, false]);
   * ```
   */
  unreference(mm: PpgttMm): number {
    if (--mm.refs <= 0) this.destroy(mm);
    return mm.refs;
  }

  /**
   * Ends an address space now, whatever its references and pins (`intel_vgpu_destroy_mm`, `engine.md` §8.6).
   *
   * @param mm A live address space of this vGPU.
   *
   * @example A pin does not keep it
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { mms } = device.vgpu.gtt.parts;
   * const mm = mms.create(3, null) as PpgttMm;
   * mms.pin(mm);
   * mms.destroy(mm);
   * assertEquals([mm.alive, mms.size, device.gvt.lru.size], [false, 0, 0]);
   * ```
   */
  destroy(mm: PpgttMm): void {
    this.#forget(mm);
    if (mm.shadowed) mm.unshadow();
  }

  /**
   * Makes sure that an address space is shadowed and may not be reclaimed; it becomes the last to have been
   * used (`intel_vgpu_pin_mm`, `engine.md` §8.6).
   *
   * @param mm A live address space of this vGPU.
   * @returns 0, or the error of shadowing; then pins and LRU are as before (§15, 8).
   *
   * @example Pinning moves an address space to the end of the LRU
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { mms } = device.vgpu.gtt.parts;
   * const [first, second] = [mms.create(3, null) as PpgttMm, mms.create(3, null) as PpgttMm];
   * assertEquals([...device.gvt.lru].map((mm) => mm.id), [first.id, second.id]);
   * mms.pin(first);
   * assertEquals([...device.gvt.lru].map((mm) => mm.id), [second.id, first.id]);
   * ```
   */
  pin(mm: PpgttMm, looks: Looks = "ahead"): number {
    if (!mm.shadowed) {
      const rc = mm.shadow(looks);
      if (rc !== OK) return rc;
    }
    mm.pins++;
    this.#lru.delete(mm);
    this.#lru.add(mm);
    return OK;
  }

  /**
   * Gives back a pin (`intel_vgpu_unpin_mm`, `engine.md` §8.6); without one nothing happens (§15, 11). Its
   * place in the LRU stays.
   *
   * @param mm An address space of this vGPU.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { mms } = device.vgpu.gtt.parts;
   * const mm = mms.create(3, null) as PpgttMm;
   * mms.pin(mm);
   * mms.unpin(mm);
   * mms.unpin(mm);
   * assertEquals(mm.pins, 0);
   * ```
   */
  unpin(mm: PpgttMm): void {
    if (mm.pins > 0) mm.pins--;
  }

  /**
   * Takes the shadow of one address space, which keeps its references and pins (`engine.md` §11, §15, 23).
   *
   * @param mm A live address space of this vGPU, pinned or not.
   *
   * @example Without its shadow it is still found, but translates nothing
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { mms } = device.vgpu.gtt.parts;
   * const mm = mms.create(4, null) as PpgttMm;
   * mms.takeShadow(mm);
   * assertEquals(mms.find(4, new Uint32Array(8)) === mm, true);
   * assertEquals([mm.alive, mm.shadowed, device.gvt.lru.size], [true, false, 0]);
   * ```
   */
  takeShadow(mm: PpgttMm): void {
    this.#lru.delete(mm);
    if (mm.shadowed) mm.unshadow();
  }

  /**
   * Rebuilds a shadow that was taken, if that works; else the next pin tries again.
   *
   * @param mm A live address space of this vGPU that is not shadowed.
   * @returns Whether it worked.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { mms, tables } = device.vgpu.gtt.parts;
   * const mm = mms.create(4, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0)) as PpgttMm;
   * mms.takeShadow(mm);
   * assertEquals(tables.size, 0);
   * assertEquals(mms.restoreShadow(mm), true);
   * assertEquals([tables.size, device.gvt.lru.has(mm)], [1, true]);
   * ```
   */
  restoreShadow(mm: PpgttMm): boolean {
    if (mm.shadow() !== OK) return false;
    this.#lru.add(mm);
    return true;
  }

  /** Ends every address space; its shadow tables were freed before, by a reset (`engine.md` §12). */
  forgetAll(): void {
    for (const mm of this.#byId.values()) {
      this.#forget(mm);
      mm.shadowed = false;
      mm.shadowRoots.fill(0);
      mm.rootTables.fill(null);
    }
  }

  #forget(mm: PpgttMm): void {
    mm.alive = false;
    mm.refs = 0;
    this.#byId.delete(mm.id);
    const alike = this.#byRoot.get(rootKey(mm.roots))!;
    if (alike.length === 1) this.#byRoot.delete(rootKey(mm.roots));
    else alike.splice(alike.indexOf(mm), 1);
    this.#lru.delete(mm);
  }
}

/** A number that is the same for the same first root. */
function rootKey(roots: Uint32Array): number {
  return roots[0]! + roots[1]! * 2 ** 32;
}

/** Whether an address space has these roots, bit for bit. */
function hasRoots(mm: PpgttMm, roots: Uint32Array): boolean {
  for (let lane = 0; lane < 2 * mm.rootSlots; lane++) {
    if (mm.roots[lane] !== roots[lane]) return false;
  }
  return true;
}
