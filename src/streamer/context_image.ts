/**
 * The context object (`guest.md` §7.1, §7.2): pages in the GGTT that hold what an engine needs to run a context and
 * to go on with it later. Page 0 is the context's own status page; page 1 holds registers, each as a pair of offset
 * and value, of which only the values matter here.
 *
 * @module
 */

import { type GgttSpace, type GraphicsAccess, NOWHERE } from "./graphics_access.ts";

/** Bytes of a context that every engine has: the status page and the registers. */
export const CONTEXT_BYTES = 0x2000;
/** Where the registers are, bytes from the context's beginning. */
const REGISTERS = 0x1000;

/** Where values are, bytes from the registers' beginning. */
const VALUE = {
  contextControl: 4 * 0x03,
  ringHead: 4 * 0x05,
  ringTail: 4 * 0x07,
  ringStart: 4 * 0x09,
  ringControl: 4 * 0x0b,
  contextTimestamp: 4 * 0x23,
  /** The lower part of PDP 3; the upper is one pair before, PDP 2 to 0 follow. */
  pdp3: 4 * 0x27,
  /** The first lane of general-purpose register 0; the others follow, a pair each. */
  gpr: 4 * 0x69,
} as const;
const PAIR = 8;
const PDPS = 4;
const GPR_LANES = 32;
/** Bytes of the page of registers up to the last value that matters. */
const REGISTERS_BYTES = VALUE.gpr + PAIR * GPR_LANES;

const HEAD_MASK = 0x1ffffc;
const TAIL_MASK = 0x1ffff8;
const START_MASK = 0xfffff000;
const RING_VALID = 1;
const RING_SIZE_MASK = 0x1ff000;
const PAGE = 0x1000;
const RESTORE_INHIBIT = 1;

/** What an engine needs of a context. */
export class ContextImage {
  /** Where the next command is, bytes from the ring's start. */
  head = 0;
  /** GGTT address of the ring. */
  start = 0;
  /** Bytes of the ring. */
  size = 0;
  /** For how long it has run, ticks of the counter, 32 bits. */
  ticks = 0;
  /** Roots of the page table, PDP 0 first, two lanes each. */
  readonly roots: Uint32Array = new Uint32Array(2 * PDPS);
  /** General-purpose registers, low lanes first; zeroes for a context that never ran. */
  readonly gpr: Uint32Array = new Uint32Array(GPR_LANES);
  readonly #ggtt: GgttSpace;
  readonly #access: GraphicsAccess;
  /** The page of registers as it was read last: in one piece, because a page is found a hundred times slower than read. */
  readonly #words = new Uint32Array(REGISTERS_BYTES / 4);
  readonly #bytes = new Uint8Array(this.#words.buffer);

  /**
   * No context.
   *
   * @param ggtt Where contexts are.
   * @param access Loads and stores.
   */
  constructor(ggtt: GgttSpace, access: GraphicsAccess) {
    this.#ggtt = ggtt;
    this.#access = access;
  }

  /**
   * Where a context's commands end now.
   *
   * @param context GGTT address of the context.
   * @returns Bytes from the ring's start.
   */
  tailOf(context: number): number {
    return this.#access.read32(this.#ggtt, context + REGISTERS + VALUE.ringTail) & TAIL_MASK;
  }

  /**
   * Loads a context.
   *
   * @param context GGTT address of the context.
   * @returns Whether context and ring are the vGPU's own and can be: else nothing of this is of use.
   */
  load(context: number): boolean {
    const registers = context + REGISTERS;
    if (!this.#ggtt.isOwn(context, CONTEXT_BYTES) || this.#ggtt.resolve(registers) === NOWHERE) return false;
    this.#access.read(this.#ggtt, registers, this.#bytes);
    const control = this.#valueAt(VALUE.ringControl);
    this.head = this.#valueAt(VALUE.ringHead) & HEAD_MASK;
    this.start = (this.#valueAt(VALUE.ringStart) & START_MASK) >>> 0;
    this.size = (control & RING_SIZE_MASK) + PAGE;
    this.ticks = this.#valueAt(VALUE.contextTimestamp);
    for (let pdp = 0; pdp < PDPS; pdp++) {
      const low = VALUE.pdp3 + 2 * PAIR * (PDPS - 1 - pdp);
      this.roots[2 * pdp] = this.#valueAt(low);
      this.roots[2 * pdp + 1] = this.#valueAt(low - PAIR);
    }
    const isFresh = (this.#valueAt(VALUE.contextControl) & RESTORE_INHIBIT) !== 0;
    for (let lane = 0; lane < GPR_LANES; lane++) {
      this.gpr[lane] = isFresh ? 0 : this.#valueAt(VALUE.gpr + PAIR * lane);
    }
    return (control & RING_VALID) !== 0 && this.head < this.size && this.#ggtt.isOwn(this.start, this.size);
  }

  /**
   * Saves what has changed while the context ran: without the head, a guest would see its old commands run again.
   *
   * @param context GGTT address of the context.
   * @param head Where its next command is, bytes from the ring's start.
   */
  save(context: number, head: number): void {
    const registers = context + REGISTERS;
    this.#access.write32(this.#ggtt, registers + VALUE.ringHead, head);
    this.#access.write32(this.#ggtt, registers + VALUE.contextTimestamp, this.ticks);
    this.#access.read(this.#ggtt, registers, this.#bytes);
    const control = this.#valueAt(VALUE.contextControl);
    if ((control & RESTORE_INHIBIT) !== 0) {
      // It has run: what is saved here is restored from now on.
      this.#access.write32(this.#ggtt, registers + VALUE.contextControl, control & ~RESTORE_INHIBIT);
    }
    for (let lane = 0; lane < GPR_LANES; lane++) {
      const value = VALUE.gpr + PAIR * lane;
      if (this.#valueAt(value) === this.gpr[lane]) continue;
      this.#access.write32(this.#ggtt, registers + value, this.gpr[lane]!);
    }
  }

  /** A value of the page of registers as it was read last. */
  #valueAt(offset: number): number {
    return this.#words[offset / 4]!;
  }
}
