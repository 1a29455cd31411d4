import { HEADER_BYTES, HeaderFlag, putU16, putU32 } from "../../protocol/vfio_user.ts";

/** Bytes of a new buffer. */
const FIRST_BYTES = 4096;
/** Views of a buffer up to this length are kept: most of what is sent is one small reply. */
const KEPT_VIEWS = 64;

/** A buffer and views of its start. */
class Pile {
  bytes: Uint8Array<ArrayBuffer> = new Uint8Array(FIRST_BYTES);
  length = 0;
  #views: (Uint8Array<ArrayBuffer> | undefined)[] = [];

  /** Makes room for `count` more bytes. */
  reserve(count: number): void {
    const needed = this.length + count;
    if (needed <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(2 * this.bytes.length, needed));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
    this.#views = [];
  }

  /** What is in it. */
  get content(): Uint8Array<ArrayBuffer> {
    const { length } = this;
    if (length > KEPT_VIEWS) return this.bytes.subarray(0, length);
    return this.#views[length] ??= this.bytes.subarray(0, length);
  }
}

/**
 * Messages of a vfio-user device on their way out: a pile that grows while the loop sends from another. Small output
 * allocates nothing.
 */
export class VfioUserOutput {
  #growing = new Pile();
  #taken = new Pile();

  /** Bytes that wait to be taken. */
  get length(): number {
    return this.#growing.length;
  }

  /** The pile that grows; another one after each call that adds to it. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#growing.bytes;
  }

  /**
   * Begins a message; the caller writes the payload.
   *
   * @param id The command's.
   * @param command The command's.
   * @param flags See {@linkcode HeaderFlag}.
   * @param payloadLength Bytes.
   * @returns Where the payload begins in {@linkcode bytes}.
   */
  message(id: number, command: number, flags: number, payloadLength: number): number {
    return this.#message(id, command, flags, payloadLength, 0);
  }

  /**
   * Adds an error reply.
   *
   * @param id The command's.
   * @param command The command's.
   * @param errno A positive number.
   */
  error(id: number, command: number, errno: number): void {
    this.#message(id, command, HeaderFlag.REPLY | HeaderFlag.ERROR, 0, errno);
  }

  /** Takes what there is; valid until the next call. `null`: nothing. */
  take(): Uint8Array<ArrayBuffer> | null {
    if (this.#growing.length === 0) return null;
    const taken = this.#growing;
    this.#growing = this.#taken;
    this.#growing.length = 0;
    this.#taken = taken;
    return taken.content;
  }

  #message(id: number, command: number, flags: number, payloadLength: number, errno: number): number {
    const pile = this.#growing;
    const size = HEADER_BYTES + payloadLength;
    pile.reserve(size);
    const { bytes, length } = pile;
    putU16(bytes, length, id);
    putU16(bytes, length + 2, command);
    putU32(bytes, length + 4, size);
    putU32(bytes, length + 8, flags);
    putU32(bytes, length + 12, errno);
    pile.length = length + size;
    return length + HEADER_BYTES;
  }
}
