/**
 * Address spaces (`engine.md` §4, §8): the PPGTTs that a guest announced, each with four guest roots and, while it is
 * shadowed, four shadow roots.
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
import type { ShadowTables } from "./shadow_tables.ts";

/**
 * PPGTT address spaces one vGPU may have. A guest makes one a process that opens the GPU; a reclaim frees none.
 */
export const MAX_PPGTT_MMS = 4096;

/** Root slots of an address space, whatever its level. */
export const ROOTS = 4;

/** One PPGTT address space. Whoever holds one across guest actions checks {@linkcode alive} (`engine.md` §15, 28). */
export class PpgttMm {
  /** Its number, in creation order from 0, never used again; -1 until it is created. */
  id: number = -1;
  /** Levels of its tables: 3 or 4. */
  readonly level: 3 | 4;
  /** The guest's four root values, two lanes each. */
  readonly roots: Uint32Array;
  /** The four shadow roots, two lanes each; 0 where there is none. */
  readonly shadowRoots: Uint32Array = new Uint32Array(2 * ROOTS);
  /** References; the address space ends when the last one is given back. */
  refs = 1;
  /** Pins; a pinned address space is not reclaimed. */
  pins = 0;
  /** Whether the shadow exists. A reclaim takes it, the next pin rebuilds it. */
  shadowed = false;
  /** Whether the address space still exists. */
  alive = true;
  readonly #tables: ShadowTables;

  /** An address space that is not shadowed yet, on its vGPU's `tables`. */
  constructor(level: 3 | 4, roots: Uint32Array, tables: ShadowTables) {
    this.level = level;
    this.roots = roots;
    this.#tables = tables;
  }

  /** Kind of the tables that the roots lead to. */
  get rootKind(): TableKind {
    return this.level === 4 ? PML4 : PDE;
  }

  /** Root slots that are shadowed and walked: level 4 has one (`engine.md` §15, 7). */
  get rootSlots(): number {
    return this.level === 4 ? 1 : ROOTS;
  }

  /** Builds the shadow of every root (`engine.md` §8.2). @returns 0, or the error; then no root is shadowed. */
  shadow(): number {
    this.shadowed = true;
    for (let slot = 0; slot < this.rootSlots; slot++) {
      const rc = this.#shadowRoot(slot);
      if (rc === OK) continue;
      this.unshadow();
      return rc;
    }
    return OK;
  }

  /** Releases every shadow root (`engine.md` §8.5). */
  unshadow(): void {
    for (let slot = 0; slot < this.rootSlots; slot++) {
      const lo = this.shadowRoots[2 * slot]!;
      const hi = this.shadowRoots[2 * slot + 1]!;
      if (lo === 0 && hi === 0) continue;
      this.shadowRoots[2 * slot] = 0;
      this.shadowRoots[2 * slot + 1] = 0;
      this.#tables.release(this.#tables.byMfn(frameOf(lo, hi))!);
    }
    this.shadowed = false;
  }

  #shadowRoot(slot: number): number {
    const lo = this.roots[2 * slot]!;
    const hi = this.roots[2 * slot + 1]!;
    // Guests write roots without bit 0: present means that the value is not 0 (§3).
    if (lo === 0 && hi === 0) return OK;
    if (this.level === 3 && (lo & PAGE_LARGE) !== 0) return (lo & PRESENT) === 0 ? OK : EINVAL;
    const table = this.#tables.obtain(this.rootKind, frameOf(lo, hi));
    if (typeof table === "number") return table;
    this.shadowRoots[2 * slot] = withFrameLo(lo, table.page.mfn);
    this.shadowRoots[2 * slot + 1] = withFrameHi(hi, table.page.mfn);
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

  /** No address spaces; shadowed ones join the device's `lru`, and each takes its number from `takeId`. */
  constructor(counters: Counters, tables: ShadowTables, lru: LruList, takeId: () => number) {
    this.#counters = counters;
    this.#tables = tables;
    this.#lru = lru;
    this.#takeId = takeId;
  }

  /** Number of address spaces. */
  get size(): number {
    return this.#byId.size;
  }

  /** The address spaces in creation order. */
  all(): IterableIterator<PpgttMm> {
    return this.#byId.values();
  }

  /** The address space with this number, if it exists. */
  get(id: number): PpgttMm | undefined {
    return this.#byId.get(id);
  }

  /** Creates and shadows an address space (`engine.md` §8.1). @returns It, or -EINVAL, -ENOMEM or the shadowing error. */
  create(level: number, roots: Uint32Array | null): PpgttMm | number {
    if (level !== 3 && level !== 4) return EINVAL;
    if (this.#byId.size >= MAX_PPGTT_MMS) return ENOMEM;
    const own = new Uint32Array(2 * ROOTS);
    if (roots !== null) own.set(roots.subarray(0, 2 * ROOTS));
    const mm = new PpgttMm(level, own, this.#tables);
    const rc = mm.shadow();
    if (rc !== OK) return rc;
    mm.id = this.#takeId();
    this.#byId.set(mm.id, mm);
    this.#lru.add(mm);
    this.#counters.mmsCreated++;
    return mm;
  }

  /** The first address space with these roots (`engine.md` §8.6): all four for level 3, only slot 0 for level 4. */
  find(level: number, roots: Uint32Array): PpgttMm | undefined {
    for (const mm of this.#byId.values()) {
      if (mm.level === level && hasRoots(mm, roots)) return mm;
    }
    return undefined;
  }

  /** Gives back a reference; the last one ends the address space. @returns References left. */
  unreference(mm: PpgttMm): number {
    if (--mm.refs <= 0) this.destroy(mm);
    return mm.refs;
  }

  /** Ends an address space now, whatever its references and pins (`engine.md` §8.6). */
  destroy(mm: PpgttMm): void {
    this.#forget(mm);
    if (mm.shadowed) mm.unshadow();
  }

  /** Makes sure that an address space is shadowed and may not be reclaimed. @returns 0 or the shadowing error. */
  pin(mm: PpgttMm): number {
    if (!mm.shadowed) {
      const rc = mm.shadow();
      if (rc !== OK) return rc;
    }
    mm.pins++;
    this.#lru.delete(mm);
    this.#lru.add(mm);
    return OK;
  }

  /** Gives back a pin; without one nothing happens (`engine.md` §15, 11). */
  unpin(mm: PpgttMm): void {
    if (mm.pins > 0) mm.pins--;
  }

  /** Takes the shadow of one address space, which keeps its references (`engine.md` §11). */
  takeShadow(mm: PpgttMm): void {
    this.#lru.delete(mm);
    if (mm.shadowed) mm.unshadow();
  }

  /** Rebuilds a shadow that was taken, if that works; else the next pin tries again. */
  restoreShadow(mm: PpgttMm): void {
    if (mm.shadow() === OK) this.#lru.add(mm);
  }

  /** Forgets every address space; its shadow tables were freed before, by a reset. */
  forgetAll(): void {
    for (const mm of this.#byId.values()) {
      this.#forget(mm);
      mm.shadowed = false;
      mm.shadowRoots.fill(0);
    }
  }

  #forget(mm: PpgttMm): void {
    mm.alive = false;
    mm.refs = 0;
    this.#byId.delete(mm.id);
    this.#lru.delete(mm);
  }
}

/** Whether an address space has these roots, bit for bit. */
function hasRoots(mm: PpgttMm, roots: Uint32Array): boolean {
  for (let lane = 0; lane < 2 * mm.rootSlots; lane++) {
    if (mm.roots[lane] !== roots[lane]) return false;
  }
  return true;
}
