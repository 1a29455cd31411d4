/**
 * Where an engine fetches its commands (`guest.md` §7.3, §8.4): from the context's ring, from a batch that the ring
 * starts, or from a second-level batch that the batch starts. Every dword is read from guest memory when it is needed:
 * a batch may be changed while it runs.
 *
 * A ring is in the GGTT and *privileged*. A batch is in the PPGTT of the context, or, privileged, in the GGTT; what
 * begins without privilege stays without.
 *
 * @module
 */

import {
  type AddressSpace,
  type GgttSpace,
  GMA_LIMIT,
  type GraphicsAccess,
  NOWHERE,
  type PpgttSpace,
} from "./graphics_access.ts";

const PAGE_SIZE = 4096;
/** An address within its page: exact for whole numbers up to 2^53, and many times faster than a remainder of them. */
const IN_PAGE = PAGE_SIZE - 1;
const LANE = 2 ** 32;
/** Bits of an address above its low lane. */
const HIGH_BITS = 0xffff;

/** A ring: a circle of commands in the GGTT. */
export interface Ring {
  /** GGTT address of its first byte. */
  readonly start: number;
  /** Bytes, a multiple of 4096. */
  readonly size: number;
  /** Where the next command is, bytes from the start. */
  readonly head: number;
  /** Where commands end, bytes from the start. */
  readonly tail: number;
}

/** The commands of one context, one after another. */
export class InstructionStream {
  /** 0: ring, 1: batch, 2: second-level batch. */
  level: 0 | 1 | 2 = 0;
  /** Where the ring's next command is, bytes from its start. */
  head = 0;
  /** Whether commands may use the GGTT and every register. */
  isPrivileged = true;
  /** The table by which the batch is fetched. */
  space: AddressSpace;
  readonly #ggtt: GgttSpace;
  readonly #ppgtt: PpgttSpace;
  readonly #access: GraphicsAccess;
  #ringStart = 0;
  #ringSize = 0;
  #tail = 0;
  /** Address of the batch's next command. */
  #ip = 0;
  /** Where a second-level batch returns to. */
  #callerIp = 0;
  #callerSpace: AddressSpace;
  #callerIsPrivileged = true;

  /**
   * A stream at the end of nothing.
   *
   * @param ggtt The global table.
   * @param ppgtt The table of the context that runs.
   * @param access Loads.
   */
  constructor(ggtt: GgttSpace, ppgtt: PpgttSpace, access: GraphicsAccess) {
    this.#ggtt = this.space = this.#callerSpace = ggtt;
    this.#ppgtt = ppgtt;
    this.#access = access;
  }

  /**
   * Begins with a ring.
   *
   * @param ring The ring of the context.
   */
  begin({ start, size, head, tail }: Ring): void {
    this.#ringStart = start;
    this.#ringSize = size;
    this.head = head;
    this.#tail = tail;
    this.#enterRing();
  }

  /** Where the ring's commands end now: a guest adds more while others run. */
  set tail(tail: number) {
    this.#tail = tail;
  }

  /**
   * Whether the ring has come to its end.
   *
   * @returns Whether there is no next command.
   */
  get isAtEnd(): boolean {
    return this.level === 0 && this.head === this.#tail;
  }

  /**
   * Address of the next command, for people and for a guest's error dump.
   *
   * @returns Graphics address, bytes.
   */
  get address(): number {
    return this.level === 0 ? this.#ringStart + this.head : this.#ip;
  }

  /**
   * A dword of the next command.
   *
   * @param index Dwords from its beginning.
   * @returns 32 bits; 0, and a fault noted, where nothing is mapped.
   */
  dword(index: number): number {
    if (this.level === 0) {
      const at = within(this.head + 4 * index, this.#ringSize);
      return this.#access.read32(this.#ggtt, this.#ringStart + at);
    }
    return this.#access.read32(this.space, within(this.#ip + 4 * index, GMA_LIMIT));
  }

  /**
   * An address in the next command: two dwords, the low one first. What is above 48 bits is cut off.
   *
   * @param index Dwords from its beginning.
   * @param mask Bits of the low dword that count.
   * @returns Graphics address, bytes.
   */
  gma(index: number, mask: number): number {
    return ((this.dword(index) & mask) >>> 0) + (this.dword(index + 1) & HIGH_BITS) * LANE;
  }

  /**
   * Whether a command of this length ends before the ring does; batches end by a command of their own.
   *
   * @param length Dwords.
   * @returns Whether it does.
   */
  holds(length: number): boolean {
    if (this.level !== 0) return true;
    const left = this.#tail - this.head;
    return 4 * length <= (left < 0 ? left + this.#ringSize : left);
  }

  /**
   * Whether a command can be fetched whole: one that reaches into a page that is not mapped must not be carried out
   * with zeroes. Its first dword has been read.
   *
   * @param length Dwords.
   * @returns Whether it can; if not, a fault is noted.
   */
  isMapped(length: number): boolean {
    const offset = this.address & IN_PAGE;
    for (let index = (PAGE_SIZE - offset) / 4; index < length; index += PAGE_SIZE / 4) {
      this.dword(index);
      if (this.#access.faultAddress !== NOWHERE) return false;
    }
    return true;
  }

  /**
   * Goes on behind the command.
   *
   * @param length Dwords.
   */
  skip(length: number): void {
    if (this.level === 0) this.head = within(this.head + 4 * length, this.#ringSize);
    else this.#ip = within(this.#ip + 4 * length, GMA_LIMIT);
  }

  /**
   * Goes on in a batch; the command that says so has been skipped.
   *
   * @param gma Address of the batch.
   * @param isPpgtt Whether by the context's own table.
   * @param isSecondLevel Whether a batch wants to be returned to.
   */
  enterBatch(gma: number, isPpgtt: boolean, isSecondLevel: boolean): void {
    if (this.level === 1 && isSecondLevel) {
      this.#callerIp = this.#ip;
      this.#callerSpace = this.space;
      this.#callerIsPrivileged = this.isPrivileged;
      this.level = 2;
    } else if (this.level === 0) {
      this.level = 1;
    }
    this.#ip = gma;
    if (!isPpgtt && this.isPrivileged) {
      this.space = this.#ggtt;
    } else {
      this.space = this.#ppgtt;
      this.isPrivileged = false;
    }
  }

  /**
   * Returns to where the batch was started.
   *
   * @param isWhole Whether to the ring, from a second-level batch as well.
   */
  leaveBatch(isWhole: boolean): void {
    if (this.level !== 2 || isWhole) return this.#enterRing();
    this.level = 1;
    this.#ip = this.#callerIp;
    this.space = this.#callerSpace;
    this.isPrivileged = this.#callerIsPrivileged;
  }

  #enterRing(): void {
    this.level = 0;
    this.space = this.#ggtt;
    this.isPrivileged = true;
  }
}

/** A place in a circle, from one that is beyond its end by less than its size: no command is longer than its ring. */
function within(at: number, size: number): number {
  return at < size ? at : at - size;
}
