/**
 * The GTT engine of one vGPU: the documented functions of GVT-g's `gtt.c`, over the parts that do the work.
 *
 * The nouns: the guest's *GGTT*; *mms*, the PPGTT address spaces it announced; *shadow tables*, host pages
 * that shadow guest table pages; *page tracks*, through which stores to those pages come back; the
 * *post-shadow* queue of half stores; *out-of-sync* pages; *scratch* pages. See each part's own file.
 *
 * The engine is synchronous and does no I/O: it reaches the world through a {@linkcode GttHost}. Every
 * function may be called at any time with any argument of its type. A guest's mistake is a result, never an
 * exception; an exception is a bug.
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
import { OosPool, OutOfSync } from "./oos.ts";
import { PageTrack, PageTracks, type StoreHandler } from "./page_track.ts";
import { PostShadow } from "./post_shadow.ts";
import { ScratchPages } from "./scratch.ts";
import { ShadowTable } from "./shadow_table.ts";
import { type Looks, MAX_SHADOW_TABLES, ShadowTables } from "./shadow_tables.ts";
import { Translator } from "./translate.ts";
import { TrappedStores } from "./trapped_store.ts";
import { TreeSync } from "./tree_sync.ts";

/** What {@linkcode VgpuGtt.submit} did. */
export interface Submission {
  /** The address space used. It has ended by now if the submission's own reference was the last. */
  readonly mm: PpgttMm;
  /** Whether it was made for this submission, because the guest had not announced it before. */
  readonly created: boolean;
}

/** Engines made so far. */
let engines = 0;

/** The parts of an engine, made anew by each {@linkcode VgpuGtt.init}. */
export interface EngineParts {
  /** Which engine of this program it is, from 1: observers tell one from the next by it, without keeping either alive. */
  readonly number: number;
  /** Who wants to hear of stores to which frame. */
  readonly tracks: PageTracks;
  /** The vGPU's scratch pages. */
  readonly scratch: ScratchPages;
  /** The live shadow tables. */
  readonly tables: ShadowTables;
  /** Half stores that wait for the flush; none where nothing traps. */
  readonly post: PostShadow;
  /** Out-of-sync pages. */
  readonly oos: OutOfSync;
  /** What compares trees with guest memory; `null` where stores to tables trap. */
  readonly trees: TreeSync | null;
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
  /**
   * In failsafe mode a store to a tracked frame ends its tracking instead of being handled
   * (`engine.md` §15, 23).
   */
  failsafe = false;
  readonly #gvt: GvtGtt;
  #parts: EngineParts;
  #initialised = false;
  #nextMmId = 0;
  #mayReclaim = true;

  /**
   * The engine of one vGPU, not initialised yet (`engine.md` §4).
   *
   * @param gvt The device that the vGPU belongs to; initialise it first.
   * @param host The services of `engine.md` §1.1.
   * @param gm The windows of graphics memory that the vGPU owns.
   */
  constructor(gvt: GvtGtt, host: GttHost, gm: GraphicsMemory) {
    this.#gvt = gvt;
    this.host = host;
    this.gm = gm;
    this.#parts = this.#assemble();
  }

  /**
   * Whether {@linkcode init} succeeded and {@linkcode clean} was not called since.
   *
   * @returns Whether calls do anything; before, they answer -ENODEV or that there is nothing.
   */
  get initialised(): boolean {
    return this.#initialised;
  }

  /**
   * The parts, for views and invariants: look, do not touch.
   *
   * @returns The parts in use; {@linkcode init} makes new ones.
   */
  get parts(): Readonly<EngineParts> {
    return this.#parts;
  }

  /**
   * The device that this vGPU belongs to.
   *
   * @returns The state that it shares with the other vGPUs.
   */
  get gvt(): GvtGtt {
    return this.#gvt;
  }

  // ---- life cycle (engine.md §6, §12)

  /**
   * Sets the vGPU's translation up (`intel_vgpu_init_gtt`, `engine.md` §6.2): host windows on scratch, an
   * empty GGTT, four scratch pages.
   *
   * @returns 0; -ENOMEM without scratch pages, -ENODEV while the device is not set up, -EBUSY when done
   *   already.
   *
   * @example A vGPU can be initialised once
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EBUSY, OK } from "../../mod.ts";
   *
   * using device = createDevice(); // has called init
   * const { gtt } = device.vgpu;
   * assertEquals(gtt.init(), EBUSY);
   * assertEquals(gtt.clean(), OK);
   * assertEquals(gtt.init(), OK);
   * ```
   */
  init(): number {
    if (this.#initialised) return EBUSY;
    if (!this.#gvt.initialised) return ENODEV;
    this.#parts.tracks.forgetAll();
    this.#parts = this.#assemble();
    this.#parts.ggtt.reset();
    const rc = this.#parts.scratch.build();
    if (rc !== OK) return rc;
    this.#initialised = true;
    this.#gvt.countVgpu(1);
    return OK;
  }

  /**
   * Takes everything down (`intel_vgpu_clean_gtt`, `engine.md` §6.2): shadow tables, scratch pages, address
   * spaces, whatever their references and pins. User tracks are left alone.
   *
   * @returns 0, or -ENODEV before init.
   *
   * @example Whoever holds an address space finds it ended
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL, ENODEV, OK, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { gtt } = device.vgpu;
   * const mm = gtt.createMm(4, null) as PpgttMm;
   * assertEquals(gtt.pinMm(mm), OK);
   * assertEquals(gtt.clean(), OK);
   * assertEquals([mm.alive, gtt.unpinMm(mm)], [false, EINVAL]);
   * assertEquals(gtt.createMm(4, null), ENODEV);
   * ```
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

  /**
   * Aims all host entries of the vGPU's windows at scratch (`intel_vgpu_reset_ggtt`, `engine.md` §12). The
   * guest's own view of the GGTT is not cleared (§13, 22).
   *
   * @returns 0, or -ENODEV before init.
   *
   * @example The hardware's view is reset, the guest's is not
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, GTT_START_OFFSET } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { config: { apertureBase: gma }, host, gvt, vgpu: { gtt } } = device;
   * gtt.emulateGttMmioWrite(GTT_START_OFFSET + gma / 4096 * 8, 8, 0x5001, 0);
   * gtt.resetGgtt();
   * assertEquals(host.ggtt.target(gma), gvt.globalScratch);
   * assertEquals(gtt.ggttGmaToGpa(gma), 0x5000);
   * ```
   */
  resetGgtt(): number {
    if (!this.#initialised) return ENODEV;
    this.#parts.ggtt.reset();
    return OK;
  }

  /**
   * Frees all shadow tables and PPGTT address spaces, pinned or not, and resets the GGTT
   * (`intel_vgpu_reset_gtt`, `engine.md` §12). Scratch pages, user tracks and the guest's view of the GGTT
   * (§13, 22) survive.
   *
   * @returns 0, or -ENODEV before init.
   *
   * @example Pins and references save no address space, but the GGTT's view survives
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, GTT_START_OFFSET, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { config: { apertureBase: gma }, vgpu: { gtt } } = device;
   * gtt.emulateGttMmioWrite(GTT_START_OFFSET + gma / 4096 * 8, 8, 0x5001, 0);
   * const mm = gtt.createMm(3, null) as PpgttMm;
   * gtt.pinMm(mm);
   * gtt.resetGtt();
   * assertEquals(mm.alive, false);
   * assertEquals(gtt.ggttGmaToGpa(gma), 0x5000);
   * ```
   */
  resetGtt(): number {
    if (!this.#initialised) return ENODEV;
    this.counters.resets++;
    this.#parts.tables.freeAll();
    this.#parts.mms.forgetAll();
    this.#parts.ggtt.reset();
    return OK;
  }

  /**
   * Takes the shadow of every address space, as a full reset by the guest does (`engine.md` §12); each is built anew
   * when it is pinned next. References and pins stay.
   *
   * @returns 0, or -ENODEV before init.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.mapRam({ gpa: 0, size: 0x10000 });
   * const { gtt } = device.vgpu;
   * const mm = gtt.createMm(4, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0)) as PpgttMm;
   * gtt.unshadowAll();
   * assertEquals([mm.alive, mm.shadowed, gtt.parts.tables.size], [true, false, 0]);
   * gtt.pinMm(mm);
   * assertEquals([mm.shadowed, gtt.parts.tables.size], [true, 1]);
   * ```
   */
  unshadowAll(): number {
    if (!this.#initialised) return ENODEV;
    for (const mm of this.#parts.mms.all()) this.#parts.mms.takeShadow(mm);
    return OK;
  }

  // ---- GGTT (engine.md §7)

  /**
   * Reads what the guest stored last in its GGTT (`intel_vgpu_emulate_gtt_mmio_read`, `engine.md` §7.1).
   * Entries outside the vGPU's windows read as 0.
   *
   * @param off MMIO offset, bytes, at or above `GTT_START_OFFSET`.
   * @param bytes 4 or 8; the access must not leave its entry.
   * @param out Receives the value as two lanes; untouched on failure.
   * @returns 0, -EINVAL for an access of another size or across entries, or -ENODEV before init.
   *
   * @example The two halves of an entry
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL, GTT_START_OFFSET, OK } from "../../mod.ts";
   *
   * using device = createDevice();
   * const off = GTT_START_OFFSET + device.config.apertureBase / 4096 * 8;
   * const out = new Uint32Array(2);
   * device.vgpu.gtt.emulateGttMmioWrite(off, 8, 0x5001, 0xa);
   * assertEquals(device.vgpu.gtt.emulateGttMmioRead(off + 4, 4, out), OK);
   * assertEquals(out, Uint32Array.of(0xa, 0));
   * assertEquals(device.vgpu.gtt.emulateGttMmioRead(off + 4, 8, out), EINVAL); // leaves the entry
   * ```
   */
  emulateGttMmioRead(off: number, bytes: number, out: Uint32Array): number {
    return this.#initialised ? this.#parts.ggtt.read(off, bytes, out) : ENODEV;
  }

  /**
   * Stores to the guest's GGTT and to the host's (`intel_vgpu_emulate_gtt_mmio_write`, `engine.md` §7.2). A
   * 4-byte store acts at once on the merged entry; a frame that is no guest RAM leads to the global scratch
   * page.
   *
   * @param off MMIO offset, bytes, at or above `GTT_START_OFFSET`.
   * @param bytes 4 or 8; the access must not leave its entry.
   * @param lo Low lane of the value, 32 bits.
   * @param hi High lane of the value, 32 bits; not looked at for 4 bytes.
   * @returns 0, also for a store outside the vGPU's windows, which is dropped; -EINVAL for an access of
   *   another size or across entries, or -ENODEV before init.
   *
   * @example The guest sees its own entry, the hardware a host frame or scratch
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, GTT_START_OFFSET } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { config: { apertureBase: gma }, host, gvt, vgpu: { gtt } } = device;
   * gtt.emulateGttMmioWrite(GTT_START_OFFSET + gma / 4096 * 8, 8, 0x5001, 0);
   * assertEquals(host.ggtt.target(gma), 0x100005);
   * gtt.emulateGttMmioWrite(GTT_START_OFFSET + gma / 4096 * 8, 4, 0x99001, 0); // frame 0x99 is no RAM
   * assertEquals(host.ggtt.target(gma), gvt.globalScratch);
   * assertEquals(gtt.ggttGmaToGpa(gma), 0x99000);
   * ```
   */
  emulateGttMmioWrite(off: number, bytes: number, lo: number, hi: number): number {
    return this.#initialised ? this.#parts.ggtt.write(off, bytes, lo, hi) : ENODEV;
  }

  /**
   * Translates a GGTT address (`intel_vgpu_gma_to_gpa` of the GGTT mm, `engine.md` §8.7). Neither the entry's
   * presence nor its frame is checked (§13, 12).
   *
   * @param gma Graphics address, bytes, 0 or more.
   * @returns Guest physical address, or {@linkcode INVALID_ADDR} outside the vGPU's windows and before init.
   *
   * @example An empty entry gives the bare offset
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, INVALID_ADDR } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { config: { apertureBase }, vgpu: { gtt } } = device;
   * assertEquals(gtt.ggttGmaToGpa(apertureBase + 0x1abc), 0xabc);
   * assertEquals(gtt.ggttGmaToGpa(apertureBase - 1), INVALID_ADDR);
   * ```
   */
  ggttGmaToGpa(gma: number): number {
    return this.#initialised ? this.#parts.ggtt.translate(gma) : INVALID_ADDR;
  }

  // ---- address spaces (engine.md §8)

  /**
   * Creates and shadows a PPGTT (`intel_vgpu_create_mm`, `engine.md` §8.1, §8.2). If that fails nothing is
   * left of it (§15, 8).
   *
   * @param level 3 or 4.
   * @param roots Four root values as eight lanes, low lane first, or `null` for an empty tree for good.
   * @param looks When its tables are compared with the guest's, where nothing traps.
   * @returns The address space with one reference; -EINVAL for another level, -ENOMEM, -ENODEV before init,
   *   or the error of shadowing.
   *
   * @example A 3-level table with one page
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, INVALID_ADDR, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * device.ram.write(0x1000, Uint8Array.of(3, 0x20)); // PDE table, entry 0: the PTE table is frame 2
   * device.ram.write(0x2000, Uint8Array.of(3, 0x50)); // PTE table, entry 0: maps frame 5
   * const { gtt } = device.vgpu;
   * const mm = gtt.createMm(3, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0)) as PpgttMm;
   * assertEquals(gtt.gmaToGpa(mm, 0xabc, 0), 0x5abc);
   * assertEquals(gtt.gmaToGpa(mm, 0x1000, 0), INVALID_ADDR);
   * assertEquals([...device.host.protectedFrames], [1, 2]);
   * ```
   */
  createMm(level: number, roots: Uint32Array | null, looks: Looks = "ahead"): PpgttMm | number {
    if (!this.#initialised) return ENODEV;
    return this.#parts.mms.create(level, roots, looks);
  }

  /**
   * Ends an address space now, whatever its references and pins (`intel_vgpu_destroy_mm`, `engine.md` §8.6).
   *
   * @param mm An address space of this vGPU.
   * @returns 0, or -EINVAL if it has ended before (§15, 28).
   *
   * @example Shadow tables and their protection go with the last address space that uses them
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL, OK, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { gtt } = device.vgpu;
   * const mm = gtt.createMm(4, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0)) as PpgttMm;
   * assertEquals(device.host.protectedFrames.size, 1);
   * assertEquals(gtt.destroyMm(mm), OK);
   * assertEquals(device.host.protectedFrames.size, 0);
   * assertEquals(gtt.destroyMm(mm), EINVAL);
   * ```
   */
  destroyMm(mm: PpgttMm): number {
    if (!this.#owns(mm)) return EINVAL;
    this.#parts.mms.destroy(mm);
    return OK;
  }

  /**
   * Takes a reference to an address space (`engine.md` §8.6).
   *
   * @param mm An address space of this vGPU.
   * @returns 0, or -EINVAL if it has ended (§15, 28).
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, OK, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * const mm = device.vgpu.gtt.createMm(3, null) as PpgttMm;
   * assertEquals(device.vgpu.gtt.referenceMm(mm), OK);
   * assertEquals(mm.refs, 2); // it began with one
   * ```
   */
  referenceMm(mm: PpgttMm): number {
    if (!this.#owns(mm)) return EINVAL;
    mm.refs++;
    return OK;
  }

  /**
   * Gives a reference back; the last one ends the address space, pinned or not (`engine.md` §8.6).
   *
   * @param mm An address space of this vGPU.
   * @returns References left, or -EINVAL if it has ended before (§15, 28).
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { gtt } = device.vgpu;
   * const mm = gtt.createMm(3, null) as PpgttMm;
   * gtt.pinMm(mm);
   * assertEquals(gtt.unreferenceMm(mm), 0);
   * assertEquals(gtt.unreferenceMm(mm), EINVAL);
   * ```
   */
  unreferenceMm(mm: PpgttMm): number {
    return this.#owns(mm) ? this.#parts.mms.unreference(mm) : EINVAL;
  }

  /**
   * Shadows an address space if a reclaim took its shadow, and keeps it from reclaim (`intel_vgpu_pin_mm`,
   * `engine.md` §8.6).
   *
   * @param mm An address space of this vGPU.
   * @param looks When tables that are built are compared with the guest's, where nothing traps.
   * @returns 0; the error of shadowing, then it is not pinned; or -EINVAL if it has ended (§15, 28).
   *
   * @example A reclaim takes the shadow of who is not pinned, the next pin rebuilds it
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, OK, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice({ faults: true });
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { gtt } = device.vgpu;
   * const mm = gtt.createMm(4, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0)) as PpgttMm;
   * device.faults!.setCount("alloc", 1); // the next shadow page needs a reclaim
   * gtt.createMm(4, Uint32Array.of(0x2000, 0, 0, 0, 0, 0, 0, 0));
   * assertEquals([mm.shadowed, mm.alive], [false, true]);
   * assertEquals(gtt.pinMm(mm), OK);
   * assertEquals([mm.shadowed, mm.pins], [true, 1]);
   * ```
   */
  pinMm(mm: PpgttMm, looks: Looks = "ahead"): number {
    return this.#owns(mm) ? this.#parts.mms.pin(mm, looks) : EINVAL;
  }

  /**
   * Gives a pin back (`intel_vgpu_unpin_mm`, `engine.md` §8.6); without one nothing happens (§15, 11).
   *
   * @param mm An address space of this vGPU.
   * @returns 0, or -EINVAL if it has ended (§15, 28).
   *
   * @example Pins do not go below 0
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, OK, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * const mm = device.vgpu.gtt.createMm(3, null) as PpgttMm;
   * assertEquals(device.vgpu.gtt.unpinMm(mm), OK);
   * assertEquals(mm.pins, 0);
   * ```
   */
  unpinMm(mm: PpgttMm): number {
    if (!this.#owns(mm)) return EINVAL;
    this.#parts.mms.unpin(mm);
    return OK;
  }

  /**
   * The address space with this number, if it exists.
   *
   * @param id {@linkcode PpgttMm.id}: numbers go up from 0 in creation order and are never used again.
   * @returns The address space; `undefined` if there is none or it has ended.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice } from "../../mod.ts";
   *
   * using device = createDevice();
   * const mm = device.vgpu.gtt.createMm(3, null);
   * assertEquals(device.vgpu.gtt.mm(0) === mm, true);
   * assertEquals(device.vgpu.gtt.mm(1), undefined);
   * ```
   */
  mm(id: number): PpgttMm | undefined {
    return this.#parts.mms.get(id);
  }

  /**
   * The first address space with these guest roots, reclaimed or not (`intel_vgpu_find_ppgtt_mm`,
   * `engine.md` §8.6). No reference is taken.
   *
   * @param level 3: all four roots must match, bit for bit; 4: only the first.
   * @param roots Four root values as eight lanes, low lane first.
   * @returns The address space created first, or `undefined` if there is none.
   *
   * @example Level 4 looks at slot 0 only
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { gtt } = device.vgpu;
   * const three = gtt.createMm(3, null);
   * const four = gtt.createMm(4, null);
   * assertEquals(gtt.findPpgttMm(3, new Uint32Array(8)) === three, true);
   * assertEquals(gtt.findPpgttMm(3, Uint32Array.of(0, 0, 0x9000, 0, 0, 0, 0, 0)), undefined);
   * assertEquals(gtt.findPpgttMm(4, Uint32Array.of(0, 0, 0x9000, 0, 0, 0, 0, 0)) === four, true);
   * ```
   */
  findPpgttMm(level: number, roots: Uint32Array): PpgttMm | undefined {
    return this.#parts.mms.find(level, roots);
  }

  /**
   * The guest announces a page table (`intel_vgpu_g2v_create_ppgtt_mm`, `engine.md` §8.6): a known one gets
   * one more reference and is not shadowed again, another is created.
   *
   * @param level 3 or 4.
   * @param roots The four PDP registers of the PVINFO page, eight lanes, low lane first.
   * @returns 0; -EINVAL for another level, or the error of {@linkcode createMm}.
   *
   * @example Announcing the same roots again takes a reference
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL, OK } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { gtt } = device.vgpu;
   * assertEquals(gtt.g2vCreatePpgttMm(4, new Uint32Array(8)), OK);
   * assertEquals(gtt.g2vCreatePpgttMm(4, new Uint32Array(8)), OK);
   * assertEquals([gtt.mm(0)?.refs, gtt.mm(1)], [2, undefined]);
   * assertEquals(gtt.g2vCreatePpgttMm(1, new Uint32Array(8)), EINVAL);
   * ```
   */
  g2vCreatePpgttMm(level: number, roots: Uint32Array): number {
    if (level !== 3 && level !== 4) return EINVAL;
    const known = this.findPpgttMm(level, roots);
    if (known !== undefined) return this.referenceMm(known);
    const mm = this.createMm(level, roots);
    return typeof mm === "number" ? mm : OK;
  }

  /**
   * The guest takes a page table back (`intel_vgpu_g2v_destroy_ppgtt_mm`, `engine.md` §8.6): one reference
   * goes, the last ends the address space.
   *
   * @param level 3 or 4.
   * @param roots The four PDP registers of the PVINFO page, eight lanes, low lane first.
   * @returns 0, or -EINVAL for another level or if there is none with these roots.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL, OK } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { gtt } = device.vgpu;
   * gtt.g2vCreatePpgttMm(3, new Uint32Array(8));
   * assertEquals(gtt.g2vDestroyPpgttMm(3, new Uint32Array(8)), OK);
   * assertEquals(gtt.mm(0), undefined);
   * assertEquals(gtt.g2vDestroyPpgttMm(3, new Uint32Array(8)), EINVAL);
   * ```
   */
  g2vDestroyPpgttMm(level: number, roots: Uint32Array): number {
    if (level !== 3 && level !== 4) return EINVAL;
    const mm = this.findPpgttMm(level, roots);
    if (mm === undefined) return EINVAL;
    this.unreferenceMm(mm);
    return OK;
  }

  /**
   * Translates an address of a PPGTT (`intel_vgpu_gma_to_gpa`, `engine.md` §8.7): through the shadow down to
   * the last table, whose entry is read live from guest memory. The frame need not be RAM.
   *
   * @param mm An address space of this vGPU.
   * @param lo Bits 0..31 of the graphics address.
   * @param hi Bits 32..63; bits above those of the level (3: bit 31, 4: bit 47) are ignored.
   * @returns Guest physical address, or {@linkcode INVALID_ADDR} where nothing is mapped or the address space
   *   has ended.
   *
   * @example The answer follows guest memory, even behind the engine's back
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * device.ram.write(0x1000, Uint8Array.of(3, 0x20)); // PDE table, entry 0: the PTE table is frame 2
   * const { gtt } = device.vgpu;
   * const mm = gtt.createMm(3, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0)) as PpgttMm;
   * device.ram.write(0x2008, Uint8Array.of(3, 0x60)); // an untrapped store to entry 1 of that table
   * assertEquals(gtt.gmaToGpa(mm, 0x1abc, 0), 0x6abc);
   * ```
   */
  gmaToGpa(mm: PpgttMm, lo: number, hi: number): number {
    if (!this.#owns(mm)) return INVALID_ADDR;
    const { trees, translator } = this.#parts;
    return trees === null ? translator.ppgtt(mm, lo, hi) : this.look(() => translator.ppgtt(mm, lo, hi));
  }

  /**
   * Lets somebody walk shadow tables who runs nothing. Where nothing traps, tables on the way are looked at as an engine
   * would (`engine.md` §16.5); but to make one, no other address space's shadow is taken, and what is missing for want of
   * memory is looked at once more by who comes next.
   *
   * @param walk Walks, by `TreeSync.look`.
   * @returns What it returns.
   *
   * @example A view does not take what others use
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, INVALID_ADDR, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice({ tracking: "untracked", faults: true });
   * device.mapRam({ gpa: 0, size: 0x10000 });
   * const { gtt } = device.vgpu;
   * const [mm, other] = [0x1000, 0x3000].map((gpa) => {
   *   return gtt.createMm(3, Uint32Array.of(gpa, 0, 0, 0, 0, 0, 0, 0)) as PpgttMm;
   * });
   * device.ram.write(0x1000, Uint8Array.of(3, 0x20)); // a PTE table, in frame 2,
   * device.ram.write(0x2000, Uint8Array.of(3, 0x50)); // which maps frame 5
   * gtt.invalidate();
   * device.faults!.setCount("alloc", 1);
   * assertEquals([gtt.gmaToGpa(mm!, 0, 0), other!.shadowed], [INVALID_ADDR, true]);
   * assertEquals(gtt.gmaToGpa(mm!, 0, 0), 0x5000); // there is memory again
   * ```
   */
  look<Result>(walk: () => Result): Result {
    const { trees } = this.#parts;
    const { badLooks } = this.counters;
    this.#mayReclaim = false;
    try {
      return walk();
    } finally {
      this.#mayReclaim = true;
      if (this.counters.badLooks !== badLooks) trees?.invalidate();
    }
  }

  // ---- page tracking and workloads (engine.md §9, §10)

  /**
   * Registers a user track of a frame, disabled (`intel_vgpu_init_page_track`, `engine.md` §9.1). A frame may
   * have many, and need not be RAM.
   *
   * @param gfn Guest frame number.
   * @param handler Called for each store to the frame while the track is enabled.
   * @returns The track; end it with {@linkcode cleanPageTrack}.
   *
   * @example Registering traps nothing yet
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, OK } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * let calls = 0;
   * const track = device.vgpu.gtt.initPageTrack(5, () => (calls++, OK));
   * device.store(0x5000, new Uint8Array(4));
   * assertEquals([track.enabled, calls], [false, 0]);
   * ```
   */
  initPageTrack(gfn: number, handler: StoreHandler): PageTrack {
    const track = new PageTrack(gfn, handler);
    this.#parts.tracks.init(track);
    return track;
  }

  /**
   * Removes a user track, disabling it (`intel_vgpu_clean_page_track`, `engine.md` §9.1). It counts no more
   * even if the host refuses to unprotect the frame (§15, 21 d).
   *
   * @param track A track of this vGPU; one that was removed before is left alone.
   *
   * @example The frame stays protected while another track wants it (`engine.md` §15, 2 b)
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, OK } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { host, vgpu: { gtt } } = device;
   * const tracks = [gtt.initPageTrack(5, () => OK), gtt.initPageTrack(5, () => OK)];
   * for (const track of tracks) gtt.enablePageTrack(track);
   * gtt.cleanPageTrack(tracks[0]!);
   * assertEquals(host.protectedFrames.has(5), true);
   * gtt.cleanPageTrack(tracks[1]!);
   * assertEquals(host.protectedFrames.has(5), false);
   * ```
   */
  cleanPageTrack(track: PageTrack): void {
    if (!(track instanceof ShadowTable)) this.#parts.tracks.clean(track);
  }

  /**
   * Starts handing stores to a user track (`engine.md` §9.1); the frame's first track has it write-protected.
   * Enabling twice is no error.
   *
   * @param track A track of this vGPU.
   * @returns 0, or the host's error, -EINVAL if the frame is no RAM; then nothing changed.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL, OK } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { gtt } = device.vgpu;
   * assertEquals(gtt.enablePageTrack(gtt.initPageTrack(5, () => OK)), OK);
   * assertEquals([...device.host.protectedFrames], [5]);
   * assertEquals(gtt.enablePageTrack(gtt.initPageTrack(0x99, () => OK)), EINVAL); // no RAM
   * ```
   */
  enablePageTrack(track: PageTrack): number {
    return track instanceof ShadowTable ? EINVAL : this.#parts.tracks.enable(track);
  }

  /**
   * Stops handing stores to a user track (`engine.md` §9.1); after the frame's last one it is unprotected.
   * Disabling twice is no error.
   *
   * @param track A track of this vGPU.
   * @returns 0, or the host's error; then nothing changed.
   *
   * @example If the host refuses, the track stays enabled
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL, OK } from "../../mod.ts";
   *
   * using device = createDevice({ faults: true });
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { gtt } = device.vgpu;
   * const track = gtt.initPageTrack(5, () => OK);
   * gtt.enablePageTrack(track);
   * device.faults!.setFrame("unwp", 5, true);
   * assertEquals([gtt.disablePageTrack(track), track.enabled], [EINVAL, true]);
   * device.faults!.setFrame("unwp", 5, false);
   * assertEquals([gtt.disablePageTrack(track), track.enabled], [OK, false]);
   * ```
   */
  disablePageTrack(track: PageTrack): number {
    return track instanceof ShadowTable ? EINVAL : this.#parts.tracks.disable(track);
  }

  /**
   * The newest track of a frame, enabled or not, a user's or a shadow table (`intel_vgpu_find_tracked_page`,
   * `engine.md` §9.1, §15, 2 d).
   *
   * @param gfn Guest frame number.
   * @returns The track, or `undefined` if the frame has none.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, OK } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { gtt } = device.vgpu;
   * gtt.initPageTrack(5, () => OK);
   * const newest = gtt.initPageTrack(5, () => OK);
   * assertEquals(gtt.findTrackedPage(5) === newest, true);
   * assertEquals(gtt.findTrackedPage(6), undefined);
   * ```
   */
  findTrackedPage(gfn: number): PageTrack | undefined {
    return this.#parts.tracks.find(gfn);
  }

  /**
   * The frames of a range whose stores should trap.
   *
   * @param gfn First guest frame.
   * @param frames How many.
   * @returns Guest frame numbers.
   */
  trackedFrames(gfn: number, frames: number): number[] {
    const found = new Set<number>();
    for (const track of this.#parts.tracks.all()) {
      if (track.enabled && track.gfn >= gfn && track.gfn < gfn + frames) found.add(track.gfn);
    }
    return [...found];
  }

  /**
   * A guest store reached a write-protected frame: hands it to every enabled track of the frame, oldest first
   * (`engine.md` §9.2, §15, 2 c). Guest memory already holds it.
   *
   * @param gpa First byte stored; the store must not leave its page.
   * @param bytes Length of the store, 1 or more. A shadow table takes 8, a whole entry, and 4, a half.
   * @returns 0, also if nobody tracks the frame or in failsafe mode; else the first error of a handler.
   *
   * @example A removed leaf leads to scratch and keeps its flags
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EINVAL, OK, PRESENT, PTE } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * device.ram.write(0x1000, Uint8Array.of(3, 0x20)); // PDE table, entry 0: the PTE table is frame 2
   * device.ram.write(0x2000, Uint8Array.of(3, 0x50)); // PTE table, entry 0: maps frame 5
   * const { gtt } = device.vgpu;
   * gtt.createMm(3, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0));
   * device.ram.write(0x2000, new Uint8Array(8)); // the guest removes it: memory first,
   * assertEquals(gtt.dispatchStore(0x2000, 8), OK); // then the engine is told
   * const table = gtt.parts.tables.find(2, PTE)!;
   * assertEquals([table.target(0), table.lanes[0]! & PRESENT], [gtt.parts.scratch.mfn[PTE], PRESENT]);
   * assertEquals(gtt.dispatchStore(0x2000, 2), EINVAL);
   * ```
   */
  dispatchStore(gpa: number, bytes: number): number {
    if (this.failsafe) return this.#giveUpTracking(Math.floor(gpa / PAGE_SIZE));
    return this.#parts.tracks.dispatch(gpa, bytes);
  }

  /**
   * Guest memory changed in a way that is no single store: a device's or a debugger's write, a store across pages. User
   * tracks hear of each page once, shadow tables of each entry touched (`engine.md` §9.2).
   *
   * @param gpa First byte changed.
   * @param length Bytes changed; any number, in any pages.
   * @returns 0, or the first error of a handler.
   *
   * @example A whole table page written at once
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, OK, PTE, type ShadowTable } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.mapRam({ gpa: 0, size: 0x10000 });
   * const { gtt } = device.vgpu;
   * const table = gtt.parts.tables.obtain(PTE, 2) as ShadowTable;
   * device.ram.write(0x2000, new Uint8Array(BigUint64Array.of(0x5003n, 0x6003n).buffer));
   * assertEquals(gtt.dispatchRange(0x2000, 16), OK);
   * assertEquals([table.target(0), table.target(1)], [0x100005, 0x100006]);
   * ```
   */
  dispatchRange(gpa: number, length: number): number {
    const { tracks } = this.#parts;
    let result = OK;
    for (let at = gpa; at < gpa + length && tracks.enabledTracks > 0;) {
      const bytes = Math.min(gpa + length - at, PAGE_SIZE - (at & (PAGE_SIZE - 1)));
      const rc = this.failsafe
        ? this.#giveUpTracking(Math.floor(at / PAGE_SIZE))
        : tracks.dispatchRange(at, bytes);
      if (result === OK) result = rc;
      at += bytes;
    }
    return result;
  }

  /**
   * Brings all out-of-sync pages back in sync, in the order they went (`intel_vgpu_sync_oos_pages`,
   * `engine.md` §10). Where nothing traps that means every table of every shadowed address space, from the roots
   * down, and a write to a TLB-invalidate register asks for it, too (§16.1).
   *
   * @returns 0, at once while they are disabled; or the first error, then later pages stay out of sync. Where
   *   nothing traps: 0, or the first failure of the host, then all else is done: -ENOMEM or -EINVAL without a page
   *   for a table, -EFAULT for a table page that cannot be read (§16.3).
   *
   * @example After two trapped stores a PTE table traps no more until it is synced
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, OK, PTE } from "../../mod.ts";
   *
   * using device = createDevice({ oos: true });
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * device.ram.write(0x1000, Uint8Array.of(3, 0x20)); // PDE table, entry 0: the PTE table is frame 2
   * const { gtt } = device.vgpu;
   * gtt.createMm(3, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0));
   * for (let i = 0; i < 3; i++) device.store(0x2000, Uint8Array.of(3, 0x50 + 0x10 * i, 0, 0, 0, 0, 0, 0));
   * const table = gtt.parts.tables.find(2, PTE)!;
   * assertEquals([table.enabled, table.target(0)], [false, 0x100006]); // frame 7 was not seen
   * assertEquals(gtt.syncOosPages(), OK);
   * assertEquals([table.enabled, table.target(0)], [true, 0x100007]);
   * ```
   *
   * @example Where nothing traps, a directory entry that changed without notice
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, OK, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice({ tracking: "untracked" });
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { gtt } = device.vgpu;
   * const mm = gtt.createMm(3, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0)) as PpgttMm;
   * device.ram.write(0x2000, Uint8Array.of(3, 0x50)); // PTE table, entry 0: maps frame 5
   * device.ram.write(0x1000, Uint8Array.of(3, 0x20)); // PDE table, entry 0: the PTE table is frame 2
   * assertEquals(gtt.gmaToGpa(mm, 0xabc, 0), -1);
   * assertEquals(gtt.syncOosPages(), OK);
   * assertEquals(gtt.gmaToGpa(mm, 0xabc, 0), 0x5abc);
   * ```
   */
  syncOosPages(): number {
    const { oos, trees, mms } = this.#parts;
    return trees === null ? oos.syncAll() : trees.syncAll(mms.all());
  }

  /**
   * Applies all queued half stores (`intel_vgpu_flush_post_shadow`, `engine.md` §9.5).
   *
   * @returns 0; or the first error, then that entry and all after it stay queued and the next flush fails
   *   there too.
   *
   * @example Two half stores wait for the flush
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, OK, PTE } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * device.ram.write(0x1000, Uint8Array.of(3, 0x20)); // PDE table, entry 0: the PTE table is frame 2
   * const { gtt } = device.vgpu;
   * gtt.createMm(3, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0));
   * device.store(0x2004, new Uint8Array(4)); // high half of PTE 0
   * device.store(0x2000, Uint8Array.of(3, 0x50, 0, 0)); // low half
   * const table = gtt.parts.tables.find(2, PTE)!;
   * assertEquals(table.target(0), gtt.parts.scratch.mfn[PTE]);
   * assertEquals(gtt.flushPostShadow(), OK);
   * assertEquals(table.target(0), 0x100005);
   * ```
   */
  flushPostShadow(): number {
    return this.#parts.post.flush();
  }

  /**
   * Does what the documented order asks for around a workload (`engine.md` §8.6): find or create the address
   * space and take a reference, pin, sync, flush, run, unpin, give the reference back. Where nothing traps, the sync
   * is one of this address space's tables only (§16.1), and bad entries of the guest's do not fail it (§16.3).
   *
   * @param level 3 or 4.
   * @param roots Four root values as eight lanes, low lane first.
   * @param run Called while the address space is pinned and in sync.
   * @returns What was done, or the first error; then nothing is left pinned or referenced.
   *
   * @example An address space that was not announced lives as long as its workload
   * ```ts
   * import { assert, assertEquals } from "@std/assert";
   * import { createDevice } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { gtt } = device.vgpu;
   * let pins = 0;
   * const done = gtt.submit(4, new Uint32Array(8), (mm) => pins = mm.pins);
   * assert(typeof done !== "number");
   * assertEquals([pins, done.created, done.mm.alive], [1, true, false]);
   * gtt.g2vCreatePpgttMm(4, new Uint32Array(8));
   * const next = gtt.submit(4, new Uint32Array(8));
   * assert(typeof next !== "number");
   * assertEquals([next.created, next.mm.alive], [false, true]);
   * ```
   */
  submit(level: number, roots: Uint32Array, run?: (mm: PpgttMm) => void): Submission | number {
    const begun = this.beginWorkload(level, roots);
    if (typeof begun === "number") return begun;
    try {
      run?.(begun.mm);
    } finally {
      this.endWorkload(begun.mm);
    }
    return begun;
  }

  /**
   * The first half of {@linkcode submit}, for a workload that takes a while: find or create the address space and
   * take a reference, pin, sync, flush.
   *
   * @param level 3 or 4.
   * @param roots Four root values as eight lanes, low lane first.
   * @param looks When its tables are compared with the guest's, where nothing traps: "on use" is for who walks the
   *   tables through {@linkcode TreeSync.look} alone, as the command streamers do.
   * @returns The address space, which {@linkcode endWorkload} must be told of, or the first error; then nothing is
   *   left pinned or referenced.
   *
   * @example The guest takes its page table back while it is in use
   * ```ts
   * import { assert, assertEquals } from "@std/assert";
   * import { createDevice } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { gtt } = device.vgpu;
   * gtt.g2vCreatePpgttMm(4, new Uint32Array(8));
   * const begun = gtt.beginWorkload(4, new Uint32Array(8));
   * assert(typeof begun !== "number");
   * gtt.g2vDestroyPpgttMm(4, new Uint32Array(8));
   * assertEquals([begun.created, begun.mm.alive, begun.mm.pins], [false, true, 1]);
   * gtt.endWorkload(begun.mm);
   * assertEquals(begun.mm.alive, false);
   * ```
   */
  beginWorkload(level: number, roots: Uint32Array, looks: Looks = "ahead"): Submission | number {
    const known = this.findPpgttMm(level, roots);
    const mm = known ?? this.createMm(level, roots, looks);
    if (typeof mm === "number") return mm;
    if (known !== undefined) this.referenceMm(mm);
    let rc = this.pinMm(mm, looks);
    if (rc === OK) {
      rc = this.refreshWorkload(mm, looks);
      if (rc === OK) return { mm, created: known === undefined };
      this.unpinMm(mm);
    }
    this.unreferenceMm(mm);
    return rc;
  }

  /**
   * Brings the page tables of a workload up to date: at its beginning, and when more was submitted to its context
   * meanwhile. In sync, then flushed, in the documented order (`engine.md` §8.6).
   *
   * @param mm The address space of {@linkcode beginWorkload}, still pinned.
   * @param looks As for {@linkcode beginWorkload}.
   * @returns 0, or the first error of {@linkcode syncOosPages} or {@linkcode flushPostShadow}.
   *
   * @example
   * ```ts
   * import { assert, assertEquals } from "@std/assert";
   * import { createDevice } from "../../mod.ts";
   *
   * using device = createDevice({ tracking: "untracked" });
   * device.mapRam({ gpa: 0, size: 0x10000 });
   * const { gtt } = device.vgpu;
   * const begun = gtt.beginWorkload(3, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0));
   * assert(typeof begun !== "number");
   * device.ram.write(0x1000, Uint8Array.of(3, 0x20)); // a PTE table, in frame 2,
   * device.ram.write(0x2000, Uint8Array.of(3, 0x50)); // which maps frame 5
   * assertEquals(gtt.refreshWorkload(begun.mm), 0);
   * assertEquals(gtt.gmaToGpa(begun.mm, 0xabc, 0), 0x5abc);
   * gtt.endWorkload(begun.mm);
   * ```
   */
  refreshWorkload(mm: PpgttMm, looks: Looks = "ahead"): number {
    const { trees } = this.#parts;
    if (trees !== null && looks === "on use") {
      trees.invalidate();
      return OK;
    }
    const rc = trees?.syncMm(mm) ?? this.syncOosPages();
    return rc === OK ? this.flushPostShadow() : rc;
  }

  /**
   * The guest makes its GPU forget translations: where nothing traps, what was compared before counts no more, and each
   * table is compared again when a walk comes to it (`engine.md` §16.5). Costs nothing by itself.
   *
   * @example A walk finds what was stored before the invalidation
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, INVALID_ADDR, type PpgttMm } from "../../mod.ts";
   *
   * using device = createDevice({ tracking: "untracked" });
   * device.mapRam({ gpa: 0, size: 0x10000 });
   * const { gtt } = device.vgpu;
   * const mm = gtt.createMm(3, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0)) as PpgttMm;
   * device.ram.write(0x1000, Uint8Array.of(3, 0x20)); // a PTE table, in frame 2,
   * device.ram.write(0x2000, Uint8Array.of(3, 0x50)); // which maps frame 5
   * assertEquals(gtt.gmaToGpa(mm, 0xabc, 0), INVALID_ADDR);
   * gtt.invalidate();
   * assertEquals(gtt.gmaToGpa(mm, 0xabc, 0), 0x5abc);
   * ```
   */
  invalidate(): void {
    this.#parts.trees?.invalidate();
  }

  /**
   * The last part of {@linkcode submit}: unpin, give the reference back. Of no effect if the address space has ended
   * meanwhile (`engine.md` §15, 28).
   *
   * @param mm The address space of {@linkcode beginWorkload}.
   *
   * @example A reset while a workload runs
   * ```ts
   * import { assert, assertEquals } from "@std/assert";
   * import { createDevice } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { gtt } = device.vgpu;
   * const begun = gtt.beginWorkload(4, new Uint32Array(8));
   * assert(typeof begun !== "number");
   * gtt.resetGtt();
   * gtt.endWorkload(begun.mm);
   * assertEquals([begun.mm.alive, begun.mm.refs], [false, 0]);
   * ```
   */
  endWorkload(mm: PpgttMm): void {
    if (!this.#owns(mm)) return;
    this.unpinMm(mm);
    this.unreferenceMm(mm);
  }

  /**
   * Guest RAM came: what wanted its frames and led to scratch leads there now (`engine.md` §15, 30). If a table page is among
   * the frames, its content is not what was shadowed, and every shadow is rebuilt. Where nothing traps, all address
   * spaces are synced (§16.1).
   *
   * @param gfn First guest frame.
   * @param frames How many.
   *
   * @example A leaf that waited for its frame
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PTE } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x4000 });
   * device.ram.write(0x1000, Uint8Array.of(3, 0x20)); // PDE table, entry 0: the PTE table is frame 2
   * device.ram.write(0x2000, Uint8Array.of(3, 0x50)); // PTE table, entry 0: maps frame 5, which is no RAM yet
   * const { gtt } = device.vgpu;
   * gtt.createMm(3, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0));
   * const target = () => gtt.parts.tables.find(2, PTE)!.target(0);
   * assertEquals(target(), device.gvt.globalScratch);
   * device.ram.map({ gpa: 0x5000, size: 0x1000 });
   * gtt.ramAdded(5, 1);
   * assertEquals(target(), 0x100005);
   * ```
   */
  ramAdded(gfn: number, frames: number): void {
    if (!this.#initialised) return;
    this.#retranslateGgtt();
    if (this.#parts.tables.hasTableIn(gfn, frames)) this.#rebuildShadows();
    else this.#takeFrames(gfn, frames);
  }

  /**
   * Guest RAM went: nothing leads to its frames any more (`engine.md` §15, 30). If a table page was among them, every shadow
   * is rebuilt; an address space whose tables are gone loses its shadow as by a reclaim, until the next pin.
   *
   * @param gfn First guest frame.
   * @param mfn First host frame.
   * @param frames How many.
   *
   * @example A frame that is no RAM any more is not mapped any more
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, type PpgttMm, PTE } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x4000 });
   * device.ram.map({ gpa: 0x5000, size: 0x1000 });
   * device.ram.write(0x1000, Uint8Array.of(3, 0x20)); // PDE table, entry 0: the PTE table is frame 2
   * device.ram.write(0x2000, Uint8Array.of(3, 0x50)); // PTE table, entry 0: maps frame 5
   * const { gtt } = device.vgpu;
   * const mm = gtt.createMm(3, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0)) as PpgttMm;
   * device.ram.unmap(0x5000, 0x1000);
   * gtt.ramRemoved(5, 0x100005, 1);
   * const target = gtt.parts.tables.find(2, PTE)!.target(0);
   * assertEquals([target, mm.shadowed], [device.gvt.globalScratch, true]);
   * ```
   */
  ramRemoved(gfn: number, mfn: number, frames: number): void {
    if (!this.#initialised) return;
    this.#retranslateGgtt();
    if (this.#parts.tables.hasTableIn(gfn, frames)) this.#rebuildShadows();
    else this.#parts.tables.dropFrames(mfn, frames);
  }

  // ---- inside

  /** Whether an address space is one of this vGPU's and still exists. */
  #owns(mm: PpgttMm): boolean {
    return this.#parts.mms.get(mm.id) === mm;
  }

  /** Brings the host's GGTT in line with guest RAM. */
  #retranslateGgtt(): void {
    // In failsafe mode the guest's view is plain storage, and what the host still maps of it may lead anywhere now.
    if (this.failsafe) this.#parts.ggtt.reset();
    else this.#parts.ggtt.retranslate();
  }

  /** What wanted these guest frames gets them. */
  #takeFrames(gfn: number, frames: number): void {
    const { tables, trees } = this.#parts;
    if (trees === null) return tables.takeFrames(gfn, frames);
    trees.forget(gfn, frames);
    this.syncOosPages();
  }

  /** Takes every shadow and builds it anew from guest memory, the longest unused first. */
  #rebuildShadows(): void {
    const { mms } = this.#parts;
    const shadowed = [...this.#gvt.lru].filter((mm) => this.#owns(mm));
    for (const mm of shadowed) mms.takeShadow(mm);
    for (const mm of shadowed) {
      if (!mms.restoreShadow(mm)) this.counters.shadowsLost++;
    }
  }

  #assemble(): EngineParts {
    const { host, counters } = this;
    const globalScratch = () => this.#gvt.globalScratch;
    const tracks = new PageTracks(host, counters);
    const scratch = new ScratchPages(host);
    const { hugePages } = this.#gvt;
    const owner = {
      hugePages,
      globalScratch,
      reclaim: (ownOnly: boolean) => this.#reclaim(ownOnly),
      comparer: (): TreeSync | null => trees,
      tableFreed: (table: ShadowTable) => {
        oos.detach(table);
        if (table.queued !== null) post.remove(table);
      },
    };
    const onStore: StoreHandler = (track, gpa, bytes) => stores.handle(track as ShadowTable, gpa, bytes);
    const tables = new ShadowTables(host, counters, tracks, scratch, owner, onStore);
    const post = new PostShadow(host, counters, tables);
    const isUntracked = this.#gvt.tracking === "untracked";
    // Every table has a snapshot then: a pool that cannot run dry before the tables do.
    const pool = isUntracked ? new OosPool(MAX_SHADOW_TABLES) : this.#gvt.oosPool;
    const oos = new OutOfSync(host, counters, tracks, tables, post, pool);
    const trees: TreeSync | null = isUntracked
      ? new TreeSync(host, counters, tables, oos, globalScratch, hugePages)
      : null;
    const stores: TrappedStores = new TrappedStores(host, tables, post, oos);
    const mms = new PpgttMms(counters, tables, this.#gvt.lru, () => this.#nextMmId++);
    const ggtt = new Ggtt(host, counters, this.gm, globalScratch);
    const translator = new Translator(host, trees);
    return { number: ++engines, tracks, scratch, tables, post, oos, trees, mms, ggtt, translator };
  }

  /** Takes the shadow of the longest unused address space that is not pinned (`engine.md` §11). */
  #reclaim(ownOnly: boolean): boolean {
    if (!this.#mayReclaim) return false;
    for (const mm of this.#gvt.lru) {
      if (mm.pins !== 0 || (ownOnly && this.#parts.mms.get(mm.id) !== mm)) continue;
      this.#gvt.lru.delete(mm);
      mm.unshadow();
      this.counters.mmsReclaimed++;
      return true;
    }
    return false;
  }

  /**
   * In failsafe mode a store ends the tracking of its frame, and the whole shadow with it
   * (`engine.md` §15, 23).
   */
  #giveUpTracking(gfn: number): number {
    const { tracks, mms } = this.#parts;
    const enabled = tracks.at(gfn).filter((track) => track.enabled);
    let shadowed = false;
    for (const track of enabled) {
      if (track instanceof ShadowTable) shadowed = true;
      else tracks.clean(track);
    }
    if (shadowed) { for (const mm of mms.all()) mms.takeShadow(mm); }
    return OK;
  }
}
