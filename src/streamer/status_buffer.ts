/**
 * The context-status buffer (`guest.md` §7.4): a ring of entries by which an engine tells which contexts came and went.
 * It is in registers, and a copy in the engine's status page, which is the one that guests read.
 *
 * @module
 */

import type { StreamerParts } from "./data_commands.ts";
import { CSB_ENTRIES, ENGINE_EVENT, RING } from "./engines.ts";

/** What an entry tells: bits of its low dword. */
export const CONTEXT_STATUS = {
  /** The engine had nothing to do and has now. */
  idleToActive: 1 << 0,
  /** Another submission took the place of the running one. */
  preempted: 1 << 1,
  /** The second context of the submission begins. */
  elementSwitch: 1 << 2,
  /** The engine has nothing to do any more. */
  activeToIdle: 1 << 3,
  /** All commands of the context were carried out. */
  complete: 1 << 4,
  /** The submission goes on with the context that runs. */
  liteRestore: 1 << 15,
} as const;

/** Where in the status page the entries and the write pointer are, bytes. */
const PAGE_ENTRIES = 0x40;
const PAGE_POINTER = 0x7c;
const ENTRY_BYTES = 8;
const POINTER_MASK = 0x7;
/** The write pointer before the first entry, as it is after power-on. */
const UNWRITTEN = 7;
const STATUS_PAGE_MASK = 0xfffff000;

/** The context-status buffer of one engine. */
export class StatusBuffer {
  readonly #parts: StreamerParts;
  readonly #base: number;

  /**
   * The buffer of an engine; its state is in the registers.
   *
   * @param parts What the engine works with.
   */
  constructor(parts: StreamerParts) {
    this.#parts = parts;
    this.#base = parts.info.base;
  }

  /**
   * Writes an entry: first it, then the pointer to it, so that whoever sees the one sees the other.
   *
   * @param status Bits of {@linkcode CONTEXT_STATUS}.
   * @param id The context that left; 0 for none.
   */
  write(status: number, id: number): void {
    const { registers, access, ggtt } = this.#parts;
    const at = this.#base + RING.CSB_POINTER;
    const pointers = registers.get(at);
    const last = pointers & POINTER_MASK;
    const next = last === UNWRITTEN ? 0 : (last + 1) % CSB_ENTRIES;
    const entry = this.#base + RING.CSB + ENTRY_BYTES * next;
    registers.set(entry, status);
    registers.set(entry + 4, id);
    registers.set(at, (pointers & ~POINTER_MASK) | next);
    const page = (registers.get(this.#base + RING.HWS_PGA) & STATUS_PAGE_MASK) >>> 0;
    if (page === 0) return;
    access.write64(ggtt, page + PAGE_ENTRIES + ENTRY_BYTES * next, status, id);
    access.write32(ggtt, page + PAGE_POINTER, next);
  }

  /** Interrupts the guest: there is something to read. */
  tell(): void {
    this.#parts.raise(ENGINE_EVENT.contextSwitch);
  }
}
