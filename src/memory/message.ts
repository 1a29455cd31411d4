import type { Backing, BackingKind } from "./backing.ts";

/**
 * Whoever holds guest memory that this process cannot reach. Neither call throws; each may take a while, and fails
 * whenever this is no time to ask.
 */
export interface RemoteMemory {
  /**
   * Reads bytes.
   *
   * @param gpa Guest physical address, bytes.
   * @param out Filled whole; untouched on failure.
   * @returns Whether they were read.
   */
  read(gpa: number, out: Uint8Array): boolean;
  /**
   * Writes bytes.
   *
   * @param gpa Guest physical address, bytes.
   * @param bytes Written whole; of a long run the first part may have been written on failure.
   * @returns Whether all were written.
   */
  write(gpa: number, bytes: Uint8Array): boolean;
}

const PAGE_BYTES = 4096;
const ENTRY_BYTES = 8;

/**
 * A region whose bytes stay with the VMM: each access is an exchange of messages with it, a thousand times as long as a
 * look at shared memory, and fails more often than not. It is there so that a VMM which cannot share its RAM finds a
 * device that works in principle, and so that ROM, which is never shared, counts as memory.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { MessageBacking } from "./message.ts";
 *
 * const remote = { read: (gpa: number, out: Uint8Array) => (out.fill(gpa / 4096), true), write: () => true };
 * const entry = new Uint32Array(2);
 * assertEquals(new MessageBacking(remote, 0x7000, 4096, false).readEntry(8, entry), true);
 * assertEquals(entry, Uint32Array.of(0x07070707, 0x07070707));
 * ```
 */
export class MessageBacking implements Backing {
  /** How the bytes are reached. */
  readonly kind: BackingKind = "message";
  /** Whether writes are refused. */
  readonly isReadonly: boolean;
  readonly #gpa: number;
  readonly #size: number;
  readonly #page = new Uint8Array(PAGE_BYTES);
  readonly #pageLanes = new Uint32Array(this.#page.buffer);
  readonly #entry = this.#page.subarray(0, ENTRY_BYTES);
  #remote: RemoteMemory | null;

  /**
   * A region of somebody else's memory.
   *
   * @param remote Who holds the bytes.
   * @param gpa Where the region starts: guest physical address, bytes.
   * @param size Bytes.
   * @param readonly Whether writes are refused.
   */
  constructor(remote: RemoteMemory, gpa: number, size: number, readonly: boolean) {
    this.#remote = remote;
    this.#gpa = gpa;
    this.#size = size;
    this.isReadonly = readonly;
  }

  /** Reads one entry: see {@linkcode Backing.readEntry}. */
  readEntry(at: number, out: Uint32Array): boolean {
    if (!this.read(at, this.#entry)) return false;
    out[0] = this.#pageLanes[0]!;
    out[1] = this.#pageLanes[1]!;
    return true;
  }

  /** Reads one page: see {@linkcode Backing.readPage}. */
  readPage(at: number, out: Uint32Array): boolean {
    if (!this.read(at, this.#page)) return false;
    out.set(this.#pageLanes);
    return true;
  }

  /** Never known without reading it: see {@linkcode Backing.holdsPage}. */
  holdsPage(): boolean {
    return false;
  }

  /** Reads bytes: see {@linkcode Backing.read}. */
  read(at: number, out: Uint8Array): boolean {
    if (this.#remote === null || at + out.length > this.#size) return false;
    return this.#remote.read(this.#gpa + at, out);
  }

  /** Writes bytes: see {@linkcode Backing.write}. */
  write(at: number, bytes: Uint8Array): boolean {
    if (this.#remote === null || this.isReadonly || at + bytes.length > this.#size) return false;
    return this.#remote.write(this.#gpa + at, bytes);
  }

  /** Gives up the bytes: see {@linkcode Backing.close}. */
  close(): void {
    this.#remote = null;
  }
}
