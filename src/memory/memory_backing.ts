import type { Backing, BackingKind } from "./backing.ts";

const NO_BYTES = new Uint8Array(0);
const NO_LANES = new Uint32Array(0);
const LANES_PER_PAGE = 1024;
/** What a load of the guest's has at most, bytes. */
const LOAD_BYTES = 8;

/**
 * Bytes in memory that this process can reach: its own, or a file's that is mapped.
 *
 * The views live in private fields only, and closing replaces them: after that, no code holds an address in
 * the memory. (Detaching the buffer would say the same twice, but makes every typed array of the process
 * slower from then on.)
 */
export class MemoryBacking implements Backing {
  /** How the bytes are reached. */
  readonly kind: BackingKind;
  /** Whether writes are refused. */
  readonly isReadonly: boolean;
  readonly #release: () => void;
  #bytes: Uint8Array;
  #lanes: Uint32Array;

  /**
   * Takes over a buffer.
   *
   * @param kind How the bytes are reached.
   * @param buffer The bytes; a multiple of 8 long. Nobody else may keep it.
   * @param readonly Whether {@linkcode write} is refused; a store to memory mapped read-only would kill the
   * process.
   * @param release Called once, at the first {@linkcode close}, when no view of the buffer is left.
   */
  constructor(kind: BackingKind, buffer: ArrayBuffer, readonly: boolean, release: () => void = () => {}) {
    this.kind = kind;
    this.isReadonly = readonly;
    this.#release = release;
    this.#bytes = new Uint8Array(buffer);
    this.#lanes = new Uint32Array(buffer);
  }

  /** Reads one entry: see {@linkcode Backing.readEntry}. */
  readEntry(at: number, out: Uint32Array): boolean {
    const lanes = this.#lanes;
    const lane = at / 4;
    const lo = lanes[lane];
    const hi = lanes[lane + 1];
    if (lo === undefined || hi === undefined) return false;
    out[0] = lo;
    out[1] = hi;
    return true;
  }

  /** Reads one page: see {@linkcode Backing.readPage}. */
  readPage(at: number, out: Uint32Array): boolean {
    const lane = at / 4;
    if (lane + LANES_PER_PAGE > this.#lanes.length) return false;
    // One short-lived view: copying lane by lane would spare it and take five times as long.
    out.set(this.#lanes.subarray(lane, lane + LANES_PER_PAGE));
    return true;
  }

  /** Reads bytes: see {@linkcode Backing.read}. */
  read(at: number, out: Uint8Array): boolean {
    if (at + out.length > this.#bytes.length) return false;
    if (out.length > LOAD_BYTES) out.set(this.#bytes.subarray(at, at + out.length));
    else if (((at | out.length) & 3) === 0) this.#readLanes(at, out);
    else for (let i = 0; i < out.length; i++) out[i] = this.#bytes[at + i]!;
    return true;
  }

  /** Writes bytes: see {@linkcode Backing.write}. */
  write(at: number, bytes: Uint8Array): boolean {
    if (this.isReadonly || at + bytes.length > this.#bytes.length) return false;
    this.#bytes.set(bytes, at);
    return true;
  }

  /** Gives up the bytes: see {@linkcode Backing.close}. */
  close(): void {
    if (this.#bytes === NO_BYTES) return;
    this.#bytes = NO_BYTES;
    this.#lanes = NO_LANES;
    this.#release();
  }

  /** Reads whole lanes without a view, each at once: the guest may be storing to shared memory meanwhile. */
  #readLanes(at: number, out: Uint8Array): void {
    for (let i = 0; i < out.length; i += 4) {
      const lane = this.#lanes[(at + i) / 4]!;
      out[i] = lane;
      out[i + 1] = lane >>> 8;
      out[i + 2] = lane >>> 16;
      out[i + 3] = lane >>> 24;
    }
  }
}
