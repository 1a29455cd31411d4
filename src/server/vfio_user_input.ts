import {
  getU16,
  getU32,
  Header,
  HEADER_BYTES,
  HeaderFlag,
  MAX_VERSION_BYTES,
} from "../../protocol/vfio_user.ts";

/** An input buffer above this is not kept: one large message must not cost its size for ever. */
const KEPT_BYTES = 64 * 1024;
/** An input buffer has at least this. */
const LEAST_BYTES = 4096;
/** No message begins here yet, or not the whole of it is there. */
export const NEED_MORE = 0;
/** Here begins something that is no message: too short or too long. */
export const MALFORMED: number = -1;

const NONE: readonly number[] = [];

/** Descriptors that came along, and the byte of the stream they came with. */
interface Arrival {
  readonly position: number;
  readonly fds: readonly number[];
}

/**
 * A vfio-user peer's stream: messages that are whole are handled where the loop received them, and only what is left is
 * copied.
 *
 * Descriptors belong to the message in which the last byte lies that was received with them: Linux ends a stream
 * receive right after the data that carried some. That message may not be whole yet, or may have to wait for its turn,
 * so descriptors are kept by their place in the stream.
 */
export class VfioUserInput {
  /** Where the bytes are that were not handled yet: `bytes[at … end)`. */
  bytes: Uint8Array = new Uint8Array(0);
  /** Begins a message. */
  at = 0;
  /** The first byte that is not there. */
  end = 0;
  /** The longest message that the peer may send, bytes. */
  maxMessage: number = MAX_VERSION_BYTES;
  /** Own bytes, for what is left of the loop's. */
  #own: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  /** Bytes of the stream before `at`. */
  #position = 0;
  readonly #arrivals: Arrival[] = [];
  #arrived = 0;

  /** Descriptors that wait for their message. */
  get arrivedDescriptors(): number {
    return this.#arrived;
  }

  /** Bytes that were not handled yet. */
  get length(): number {
    return this.end - this.at;
  }

  /**
   * More of the stream.
   *
   * @param bytes At its start; used in place until {@linkcode keep}, unless something is left from before.
   * @param length How many of the bytes count.
   * @param fds Descriptors that came with the last of them.
   * @param isInUse Whether somebody still looks at a message that was handled already, so that none may be moved.
   */
  add(bytes: Uint8Array, length: number, fds: readonly number[], isInUse: boolean): void {
    if (this.at === this.end && !isInUse) {
      this.bytes = bytes;
      this.at = 0;
      this.end = length;
    } else {
      this.keep();
      this.#append(bytes, length, isInUse);
    }
    if (fds.length === 0) return;
    this.#arrivals.push({ position: this.#position + this.length - 1, fds });
    this.#arrived += fds.length;
  }

  /** Copies what is left, if it is still where the loop received it. */
  keep(): void {
    if (this.bytes === this.#own) return;
    const { bytes, at, end } = this;
    if (this.#own.length > KEPT_BYTES) this.#own = new Uint8Array(0);
    this.bytes = this.#own;
    this.at = this.end = 0;
    if (at < end) {
      this.#append(at === 0 && end === bytes.length ? bytes : bytes.subarray(at), end - at, false);
    }
  }

  /**
   * Looks for a message.
   *
   * @param ahead How many bytes after {@linkcode at} it begins.
   * @returns Its length in bytes, {@linkcode NEED_MORE} or {@linkcode MALFORMED}.
   */
  peek(ahead: number): number {
    const start = this.at + ahead;
    const rest = this.end - start;
    if (rest < HEADER_BYTES) return NEED_MORE;
    const size = getU32(this.bytes, start + Header.SIZE);
    if (size < HEADER_BYTES || size > this.maxMessage) return MALFORMED;
    return size <= rest ? size : NEED_MORE;
  }

  /** The id of the message that begins `ahead` bytes after {@linkcode at}. */
  idAt(ahead: number): number {
    return getU16(this.bytes, this.at + ahead + Header.ID);
  }

  /** Its command. */
  commandAt(ahead: number): number {
    return getU16(this.bytes, this.at + ahead + Header.COMMAND);
  }

  /** Its flags. */
  flagsAt(ahead: number): number {
    return getU32(this.bytes, this.at + ahead + Header.FLAGS);
  }

  /**
   * Goes on to the next message.
   *
   * @param size Length of the one at {@linkcode at}, bytes.
   * @returns The descriptors that came with it; the caller owns them.
   */
  consume(size: number): readonly number[] {
    this.at += size;
    this.#position += size;
    if (this.#arrivals.length === 0 || this.#arrivals[0]!.position >= this.#position) return NONE;
    const fds: number[] = [];
    while (this.#arrivals.length > 0 && this.#arrivals[0]!.position < this.#position) {
      fds.push(...this.#arrivals.shift()!.fds);
    }
    this.#arrived -= fds.length;
    return fds;
  }

  /** Whether descriptors came with a message that begins `ahead` bytes after {@linkcode at} and has so many bytes. */
  hasDescriptors(ahead: number, size: number): boolean {
    const start = this.#position + ahead;
    return this.#arrivals.some(({ position }) => position >= start && position < start + size);
  }

  /**
   * Forgets everything.
   *
   * @returns The descriptors that nobody has taken; the caller owns them.
   */
  clear(): readonly number[] {
    this.#own = new Uint8Array(0);
    this.bytes = this.#own;
    this.at = this.end = 0;
    this.#arrived = 0;
    return this.#arrivals.splice(0).flatMap(({ fds }) => fds);
  }

  #append(bytes: Uint8Array, length: number, isInUse: boolean): void {
    const { at, end } = this;
    if (end + length > this.#own.length) {
      const left = end - at;
      const from = this.#own;
      const isRoom = left + length <= from.length && !isInUse;
      if (!isRoom) {
        // A buffer that is in use is left behind as often as it fills up: the next one must not grow by what has been
        // handled. With as much room again as it holds, what is copied stays in proportion to what comes.
        const size = isInUse ? 2 * (left + length) : Math.max(2 * from.length, left + length);
        this.#own = new Uint8Array(Math.max(size, LEAST_BYTES));
      }
      this.#own.set(from.subarray(at, end));
      this.bytes = this.#own;
      this.at = 0;
      this.end = left;
    }
    this.#own.set(length === bytes.length ? bytes : bytes.subarray(0, length), this.end);
    this.end += length;
  }
}

/** Whether flags say that the message is a command. */
export function isCommand(flags: number): boolean {
  return (flags & HeaderFlag.TYPE_MASK) === HeaderFlag.COMMAND;
}

/** Whether flags say that the message is a reply. */
export function isReply(flags: number): boolean {
  return (flags & HeaderFlag.TYPE_MASK) === HeaderFlag.REPLY;
}
