/**
 * The GTT engine of one vGPU: the documented functions of GVT-g's `gtt.c`, over the parts that do the work.
 *
 * The nouns: the guest's *GGTT*; *mms*, the PPGTT address spaces it announced; *shadow tables*, host pages that shadow
 * guest table pages; *page tracks*, through which stores to those pages come back; the *post-shadow* queue of half stores;
 * *out-of-sync* pages; *scratch* pages. See each part's own file.
 *
 * The engine is synchronous and does no I/O: it reaches the world through a {@linkcode GttHost}. Every function may be called at
 * any time with any argument of its type. A guest's mistake is a result, never an exception; an exception is a bug.
 *
 * @module
 */

import { type GraphicsMemory, INVALID_ADDR } from "./address.ts";
import { Counters } from "./counters.ts";
import { PAGE_SIZE } from "./entry.ts";
import { EBUSY, EINVAL, ENODEV, OK } from "./errno.ts";
import { Ggtt } from "./ggtt.ts";
import type { GvtGtt } from "./gvt_gtt.ts";
import type { GttHost } from "./host.ts";
import { type PpgttMm, PpgttMms } from "./mm.ts";
import { OutOfSync } from "./oos.ts";
import { PageTrack, PageTracks, type StoreHandler } from "./page_track.ts";
import { PostShadow } from "./post_shadow.ts";
import { ScratchPages } from "./scratch.ts";
import { ShadowTable } from "./shadow_table.ts";
import { ShadowTables } from "./shadow_tables.ts";
import { Translator } from "./translate.ts";
import { TrappedStores } from "./trapped_store.ts";

/** What a submission did. */
export interface Submission {
  /** The address space used. It may have ended with the submission's own reference. */
  readonly mm: PpgttMm;
  /** Whether the guest had not announced it before. */
  readonly created: boolean;
}

/** The parts of an engine, made anew by each {@linkcode VgpuGtt.init}. */
export interface EngineParts {
  /** Who wants to hear of stores to which frame. */
  readonly tracks: PageTracks;
  /** The vGPU's scratch pages. */
  readonly scratch: ScratchPages;
  /** The live shadow tables. */
  readonly tables: ShadowTables;
  /** Half stores that wait for the flush. */
  readonly post: PostShadow;
  /** Out-of-sync pages. */
  readonly oos: OutOfSync;
  /** The PPGTT address spaces. */
  readonly mms: PpgttMms;
  /** The guest's GGTT. */
  readonly ggtt: Ggtt;
  /** The walker. */
  readonly translator: Translator;
}

/**
 * One vGPU's translation engine.
 *
 * @example A GGTT entry, stored by the guest and translated:
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { GraphicsMemory, GTT_START_OFFSET, GvtGtt, OK, RamMap, VgpuGtt, VgpuHost } from "../../mod.ts";
 *
 * using ram = new RamMap();
 * ram.map({ gpa: 0, size: 0x400000 });
 * const host = new VgpuHost(ram, 0x100000000);
 * const gm = new GraphicsMemory({
 *   apertureBase: 0, apertureSize: 0x400000, hiddenBase: 0x10000000, hiddenSize: 0x400000,
 *   total: 0x100000000, mappableEnd: 0x10000000,
 * });
 * const gvt = new GvtGtt(host);
 * gvt.init();
 * const gtt = new VgpuGtt(gvt, host, gm);
 * assertEquals(gtt.init(), OK);
 * assertEquals(gtt.emulateGttMmioWrite(GTT_START_OFFSET + 8, 8, 0x64001, 0), OK);
 * assertEquals(gtt.ggttGmaToGpa(0x1abc), 0x64abc);
 * ```
 */
export class VgpuGtt {
  /** What the engine has done and seen. */
  readonly counters: Counters = new Counters();
  /** The graphics memory of this vGPU. */
  readonly gm: GraphicsMemory;
  /** The host, for views. */
  readonly host: GttHost;
  /** In failsafe mode stores to tracked pages end the tracking instead of being handled (`engine.md` §15, 23). */
  failsafe = false;
  readonly #gvt: GvtGtt;
  #parts: EngineParts;
  #initialised = false;
  #nextMmId = 0;

  /** The engine of one vGPU of `gvt`, not initialised yet. */
  constructor(gvt: GvtGtt, host: GttHost, gm: GraphicsMemory) {
    this.#gvt = gvt;
    this.host = host;
    this.gm = gm;
    this.#parts = this.#assemble();
  }

  /** Whether {@linkcode init} succeeded. */
  get initialised(): boolean {
    return this.#initialised;
  }

  /** The parts, for views and invariants: look, do not touch. */
  get parts(): Readonly<EngineParts> {
    return this.#parts;
  }

  /** The device that this vGPU belongs to. */
  get gvt(): GvtGtt {
    return this.#gvt;
  }

  // ---- life cycle (engine.md §6, §12)

  /**
   * Sets the vGPU's translation up (`intel_vgpu_init_gtt`): host windows on scratch, an empty GGTT, scratch pages.
   *
   * @returns 0; -ENOMEM without scratch pages, -ENODEV while the device is not set up, -EBUSY when done already.
   */
  init(): number {
    if (this.#initialised) return EBUSY;
    if (!this.#gvt.initialised) return ENODEV;
    this.#parts = this.#assemble();
    this.#parts.ggtt.reset();
    const rc = this.#parts.scratch.build();
    if (rc !== OK) return rc;
    this.#initialised = true;
    this.#gvt.countVgpu(1);
    return OK;
  }

  /**
   * Takes everything down (`intel_vgpu_clean_gtt`): shadow tables, scratch pages, address spaces, whatever their references.
   * User tracks are left alone.
   *
   * @returns 0, or -ENODEV before init.
   */
  clean(): number {
    if (!this.#initialised) return ENODEV;
    this.#parts.tables.freeAll();
    this.#parts.scratch.free();
    this.#parts.mms.forgetAll();
    this.#initialised = false;
    this.#gvt.countVgpu(-1);
    return OK;
  }

  /** Aims all host entries of the vGPU's windows at scratch (`intel_vgpu_reset_ggtt`). @returns 0 or -ENODEV. */
  resetGgtt(): number {
    if (!this.#initialised) return ENODEV;
    this.#parts.ggtt.reset();
    return OK;
  }

  /**
   * Frees all shadow tables and PPGTT address spaces, pinned or not, and resets the GGTT (`intel_vgpu_reset_gtt`). The
   * guest's view of the GGTT survives (`engine.md` §13, 22).
   *
   * @returns 0 or -ENODEV.
   */
  resetGtt(): number {
    if (!this.#initialised) return ENODEV;
    this.counters.resets++;
    this.#parts.tables.freeAll();
    this.#parts.mms.forgetAll();
    this.#parts.ggtt.reset();
    return OK;
  }

  // ---- GGTT (engine.md §7)

  /**
   * Reads the guest's GGTT (`intel_vgpu_emulate_gtt_mmio_read`).
   *
   * @param off MMIO offset, bytes, at or above `GTT_START_OFFSET`.
   * @param bytes 4 or 8.
   * @param out Receives the value as two lanes.
   * @returns 0, -EINVAL for an access of another size or across entries, or -ENODEV.
   */
  emulateGttMmioRead(off: number, bytes: number, out: Uint32Array): number {
    return this.#initialised ? this.#parts.ggtt.read(off, bytes, out) : ENODEV;
  }

  /**
   * Stores to the guest's GGTT (`intel_vgpu_emulate_gtt_mmio_write`).
   *
   * @param off MMIO offset, bytes, at or above `GTT_START_OFFSET`.
   * @param bytes 4 or 8.
   * @param lo Low lane of the value.
   * @param hi High lane of the value.
   * @returns 0, -EINVAL for an access of another size or across entries, or -ENODEV.
   */
  emulateGttMmioWrite(off: number, bytes: number, lo: number, hi: number): number {
    return this.#initialised ? this.#parts.ggtt.write(off, bytes, lo, hi) : ENODEV;
  }

  /**
   * Translates a GGTT address (`intel_vgpu_gma_to_gpa` of the GGTT mm).
   *
   * @param gma Graphics address, bytes.
   * @returns Guest physical address, or {@linkcode INVALID_ADDR} outside the vGPU's windows.
   */
  ggttGmaToGpa(gma: number): number {
    return this.#initialised ? this.#parts.ggtt.translate(gma) : INVALID_ADDR;
  }

  // ---- address spaces (engine.md §8)

  /**
   * Creates and shadows a PPGTT (`intel_vgpu_create_mm`).
   *
   * @param level 3 or 4.
   * @param roots Four root values as eight lanes, or `null` for an empty tree.
   * @returns The address space with one reference, or -EINVAL, -ENOMEM, -ENODEV or the error of shadowing.
   */
  createMm(level: number, roots: Uint32Array | null): PpgttMm | number {
    if (!this.#initialised) return ENODEV;
    return this.#parts.mms.create(level, roots);
  }

  /** Ends an address space now, whatever its references and pins (`intel_vgpu_destroy_mm`). @returns 0 or -EINVAL. */
  destroyMm(mm: PpgttMm): number {
    if (!mm.alive) return EINVAL;
    this.#parts.mms.destroy(mm);
    return OK;
  }

  /** Takes a reference to an address space. @returns 0, or -EINVAL if it has ended. */
  referenceMm(mm: PpgttMm): number {
    if (!mm.alive) return EINVAL;
    mm.refs++;
    return OK;
  }

  /** Gives a reference back; the last one ends the address space. @returns References left, or -EINVAL. */
  unreferenceMm(mm: PpgttMm): number {
    return mm.alive ? this.#parts.mms.unreference(mm) : EINVAL;
  }

  /** Shadows an address space if need be and keeps it from reclaim (`intel_vgpu_pin_mm`). @returns 0 or the error. */
  pinMm(mm: PpgttMm): number {
    return mm.alive ? this.#parts.mms.pin(mm) : EINVAL;
  }

  /** Gives a pin back (`intel_vgpu_unpin_mm`). @returns 0 or -EINVAL. */
  unpinMm(mm: PpgttMm): number {
    if (!mm.alive) return EINVAL;
    this.#parts.mms.unpin(mm);
    return OK;
  }

  /** The address space with this number, if it exists. */
  mm(id: number): PpgttMm | undefined {
    return this.#parts.mms.get(id);
  }

  /**
   * The first address space with these roots (`intel_vgpu_find_ppgtt_mm`). No reference is taken.
   *
   * @param level 3: all four roots must match; 4: only the first.
   * @param roots Four root values as eight lanes.
   */
  findPpgttMm(level: number, roots: Uint32Array): PpgttMm | undefined {
    return this.#parts.mms.find(level, roots);
  }

  /**
   * The guest announces a page table (`intel_vgpu_g2v_create_ppgtt_mm`).
   *
   * @param level 3 or 4.
   * @param roots The four PDP registers of the PVINFO page, eight lanes.
   * @returns 0, or the error of creating.
   */
  g2vCreatePpgttMm(level: number, roots: Uint32Array): number {
    if (level !== 3 && level !== 4) return EINVAL;
    const known = this.findPpgttMm(level, roots);
    if (known !== undefined) return this.referenceMm(known);
    const mm = this.createMm(level, roots);
    return typeof mm === "number" ? mm : OK;
  }

  /**
   * The guest takes a page table back (`intel_vgpu_g2v_destroy_ppgtt_mm`).
   *
   * @param level 3 or 4.
   * @param roots The four PDP registers of the PVINFO page, eight lanes.
   * @returns 0, or -EINVAL if there is none.
   */
  g2vDestroyPpgttMm(level: number, roots: Uint32Array): number {
    if (level !== 3 && level !== 4) return EINVAL;
    const mm = this.findPpgttMm(level, roots);
    if (mm === undefined) return EINVAL;
    this.unreferenceMm(mm);
    return OK;
  }

  /**
   * Translates an address of a PPGTT (`intel_vgpu_gma_to_gpa`).
   *
   * @param mm The address space.
   * @param lo Bits 0..31 of the graphics address.
   * @param hi Bits 32..63.
   * @returns Guest physical address, or {@linkcode INVALID_ADDR}.
   */
  gmaToGpa(mm: PpgttMm, lo: number, hi: number): number {
    return mm.alive ? this.#parts.translator.ppgtt(mm, lo, hi) : INVALID_ADDR;
  }

  // ---- page tracking and workloads (engine.md §9, §10)

  /** Registers a user track of a frame, disabled (`intel_vgpu_init_page_track`). */
  initPageTrack(gfn: number, handler: StoreHandler): PageTrack {
    const track = new PageTrack(gfn, handler);
    this.#parts.tracks.init(track);
    return track;
  }

  /** Removes a user track (`intel_vgpu_clean_page_track`). */
  cleanPageTrack(track: PageTrack): void {
    this.#parts.tracks.clean(track);
  }

  /** Starts trapping stores to a user track's frame. @returns 0 or the host's error. */
  enablePageTrack(track: PageTrack): number {
    return this.#parts.tracks.enable(track);
  }

  /** Stops trapping stores to a user track's frame. @returns 0 or the host's error. */
  disablePageTrack(track: PageTrack): number {
    return this.#parts.tracks.disable(track);
  }

  /** The newest track of a frame (`intel_vgpu_find_tracked_page`). */
  findTrackedPage(gfn: number): PageTrack | undefined {
    return this.#parts.tracks.find(gfn);
  }

  /**
   * A guest store reached a write-protected frame; guest memory already holds it (`engine.md` §9.2).
   *
   * @param gpa First byte stored; the store must not leave its page.
   * @param bytes Length of the store.
   * @returns 0, or the first error of a handler.
   */
  dispatchStore(gpa: number, bytes: number): number {
    if (this.failsafe) return this.#giveUpTracking(Math.floor(gpa / PAGE_SIZE));
    return this.#parts.tracks.dispatch(gpa, bytes);
  }

  /** Brings all out-of-sync pages back in sync (`intel_vgpu_sync_oos_pages`). @returns 0 or the first error. */
  syncOosPages(): number {
    return this.#parts.oos.syncAll();
  }

  /** Applies all queued half stores (`intel_vgpu_flush_post_shadow`). @returns 0 or the first error. */
  flushPostShadow(): number {
    return this.#parts.post.flush();
  }

  /**
   * Does what the documented order asks for before and after a workload (`engine.md` §8.6): find or create the address space and
   * take a reference, pin, sync, flush, unpin, give the reference back.
   *
   * @param level 3 or 4.
   * @param roots Four root values as eight lanes.
   * @param run Called while the address space is pinned and in sync.
   * @returns What was done, or the first error; then nothing is left pinned or referenced.
   */
  submit(level: number, roots: Uint32Array, run?: (mm: PpgttMm) => void): Submission | number {
    const known = this.findPpgttMm(level, roots);
    const mm = known ?? this.createMm(level, roots);
    if (typeof mm === "number") return mm;
    if (known !== undefined) this.referenceMm(mm);
    let rc = this.pinMm(mm);
    if (rc === OK) {
      rc = this.syncOosPages();
      if (rc === OK) rc = this.flushPostShadow();
      if (rc === OK) run?.(mm);
      this.unpinMm(mm);
    }
    this.unreferenceMm(mm);
    return rc === OK ? { mm, created: known === undefined } : rc;
  }

  // ---- inside

  #assemble(): EngineParts {
    const { host, counters } = this;
    const globalScratch = () => this.#gvt.globalScratch;
    const tracks = new PageTracks(host, counters);
    const scratch = new ScratchPages(host);
    const owner = {
      globalScratch,
      reclaim: (ownOnly: boolean) => this.#reclaim(ownOnly),
      tableFreed: (table: ShadowTable) => {
        oos.detach(table);
        post.remove(table);
      },
    };
    const onStore: StoreHandler = (track, gpa, bytes) => stores.handle(track as ShadowTable, gpa, bytes);
    const tables = new ShadowTables(host, counters, tracks, scratch, owner, onStore);
    const post = new PostShadow(host, counters, tables);
    const oos = new OutOfSync(host, counters, tracks, tables, post, () => this.#gvt.oosPool);
    const stores: TrappedStores = new TrappedStores(host, tables, post, oos);
    const mms = new PpgttMms(counters, tables, this.#gvt.lru, () => this.#nextMmId++);
    const ggtt = new Ggtt(host, counters, this.gm, globalScratch);
    return { tracks, scratch, tables, post, oos, mms, ggtt, translator: new Translator(host, tables) };
  }

  /** Takes the shadow of the longest unused address space that is not pinned (`engine.md` §11). */
  #reclaim(ownOnly: boolean): boolean {
    for (const mm of this.#gvt.lru) {
      if (mm.pins !== 0 || (ownOnly && this.#parts.mms.get(mm.id) !== mm)) continue;
      this.#gvt.lru.delete(mm);
      mm.unshadow();
      this.counters.mmsReclaimed++;
      return true;
    }
    return false;
  }

  /** In failsafe mode a store ends the tracking of its frame, and the whole shadow with it (`engine.md` §15, 23). */
  #giveUpTracking(gfn: number): number {
    const { tracks, mms } = this.#parts;
    const enabled = tracks.at(gfn)?.tracks.filter((track) => track.enabled) ?? [];
    let shadowed = false;
    for (const track of enabled) {
      if (track instanceof ShadowTable) shadowed = true;
      else tracks.clean(track);
    }
    if (shadowed) { for (const mm of mms.all()) mms.takeShadow(mm); }
    return OK;
  }
}
