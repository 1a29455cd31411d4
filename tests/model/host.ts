/**
 * The simulated host: guest RAM, write protection, host pages, the host GGTT, and faults on demand
 * (engine.md §1.1, `traces/FORMAT.md`).
 *
 * @module
 */

import { frameOf, withFrame } from "./entry.ts";
import type { CountFault, FrameFault } from "../../src/replay/trace.ts";

/** Could not be translated, or not found. */
export const ENXIO: number = -6;
/** Out of memory. */
export const ENOMEM: number = -12;
/** Outside the vGPU's windows. */
export const EACCES: number = -13;
/** Guest memory could not be read. */
export const EFAULT: number = -14;
/** Platform not supported. */
export const ENODEV: number = -19;
/** Invalid argument. */
export const EINVAL: number = -22;

/** Bytes in a page. */
export const PAGE: number = 4096;
/** Guest frame g is DMA frame g + this. */
const MFN_OFFSET = 0x100000;
/** Host pages get numbers from here on, never twice, so that they cannot be taken for guest frames. */
const FIRST_HOST_FRAME = 0x2_0000_0000;

/** The host of one trace. */
export class Host {
  /** Guest RAM in pages. */
  readonly ramPages: number;
  /** Frames whose stores trap. */
  readonly protectedFrames: Set<number> = new Set();
  /** Frames that stayed protected because unprotecting them was refused. */
  readonly stuckFrames: Set<number> = new Set();
  /** Frames with injected faults. */
  readonly frameFaults: Record<FrameFault, Set<number>> = {
    invalid: new Set(),
    p2m: new Set(),
    read: new Set(),
    wp: new Set(),
    unwp: new Set(),
  };
  /** Injected counts and switches. */
  readonly counts: Record<CountFault, number> = { alloc: 0, dma: 0, failsafe: 0, platform: 1, trackrc: 0 };
  /** Live host pages by frame, with the name they print as. */
  readonly pages: Map<number, string> = new Map();
  /** Host GGTT entries; absent ones are zero. */
  readonly ggtt: Map<number, bigint> = new Map();
  /** How often the GGTT was flushed. */
  flushes = 0;
  #ram: DataView;
  #nextFrame = FIRST_HOST_FRAME;

  /** A host whose guest has that many pages of zeroed RAM. */
  constructor(ramPages: number) {
    this.ramPages = ramPages;
    this.#ram = new DataView(new ArrayBuffer(ramPages * PAGE));
  }

  /** Stores bytes in RAM without a trap; bytes outside RAM are lost. */
  poke(gpa: number, bytes: readonly number[]): void {
    bytes.forEach((byte, i) => {
      if (gpa + i < this.#ram.byteLength) this.#ram.setUint8(gpa + i, byte);
    });
  }

  /** A 64-bit value in RAM, whatever is injected; 0 outside RAM. */
  peek(gpa: number): bigint {
    return gpa + 8 <= this.#ram.byteLength ? this.#ram.getBigUint64(gpa, true) : 0n;
  }

  /** Service: one entry of a guest page, or undefined where guest memory cannot be read. */
  readEntry(gfn: number, index: number): bigint | undefined {
    if (gfn >= this.ramPages || this.frameFaults.read.has(gfn)) return undefined;
    return this.peek(gfn * PAGE + index * 8);
  }

  /** Service: all entries of a guest page, or undefined where guest memory cannot be read. */
  readPage(gfn: number): bigint[] | undefined {
    const entries: bigint[] = [];
    for (let index = 0; index < PAGE / 8; index++) {
      const entry = this.readEntry(gfn, index);
      if (entry === undefined) return undefined;
      entries.push(entry);
    }
    return entries;
  }

  /** Service: whether a frame is visible guest RAM. */
  isValid(gfn: number): boolean {
    return gfn < this.ramPages && !this.frameFaults.invalid.has(gfn);
  }

  /** Service: the DMA frame of a guest frame, or undefined. */
  toMfn(gfn: number): number | undefined {
    return gfn < this.ramPages && !this.frameFaults.p2m.has(gfn) ? gfn + MFN_OFFSET : undefined;
  }

  /** A present leaf with its frame translated, or undefined; is-valid is always asked (§15, 6 and 25). */
  translate(entry: bigint): bigint | undefined {
    const gfn = frameOf(entry);
    const mfn = this.isValid(gfn) ? this.toMfn(gfn) : undefined;
    return mfn === undefined ? undefined : withFrame(entry, mfn);
  }

  /** Service: trap stores to a frame. */
  protect(gfn: number): number {
    if (gfn >= this.ramPages || this.frameFaults.wp.has(gfn)) return EINVAL;
    this.protectedFrames.add(gfn);
    this.stuckFrames.delete(gfn);
    return 0;
  }

  /** Service: trap stores to a frame no longer. */
  unprotect(gfn: number): number {
    if (gfn >= this.ramPages || this.frameFaults.unwp.has(gfn)) {
      this.stuckFrames.add(gfn);
      return EINVAL;
    }
    this.protectedFrames.delete(gfn);
    this.stuckFrames.delete(gfn);
    return 0;
  }

  /** Service: a zeroed page; undefined when there is no memory. */
  allocatePage(name: string): number | undefined {
    if (this.#fails("alloc")) return undefined;
    const frame = this.#nextFrame++;
    this.pages.set(frame, name);
    return frame;
  }

  /** Service: maps a page for DMA; a page that cannot be mapped is given back. */
  mapPage(frame: number): boolean {
    if (!this.#fails("dma")) return true;
    this.freePage(frame);
    return false;
  }

  /** Gives a page back. */
  freePage(frame: number): void {
    if (!this.pages.delete(frame)) throw new Error(`Host page ${frame} is not allocated`);
  }

  /** How a frame prints: the name of a scratch page, "D" for a freed host page, else the number. */
  nameOf(frame: number): string {
    const name = this.pages.get(frame);
    if (name !== undefined) return name;
    return frame >= FIRST_HOST_FRAME && frame < this.#nextFrame ? "D" : `0x${frame.toString(16)}`;
  }

  #fails(kind: "alloc" | "dma"): boolean {
    if (this.counts[kind] <= 0) return false;
    this.counts[kind]--;
    return true;
  }
}
