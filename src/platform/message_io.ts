/**
 * Receiving and sending over Unix stream sockets with nothing allocated on the way.
 *
 * The kernel is given pointers: to a message header, from there to the buffer and to room for descriptors. All of it
 * lies in one block of memory that is laid out once; for a call only lengths change.
 *
 * @module
 */

import type { Libc, OwnMemory } from "./libc.ts";

/** Bytes of the buffer for input: as much as a socket usually has ready. */
export const INPUT_BYTES = 64 * 1024;
/** Bytes of the buffer for output. */
export const OUTPUT_BYTES = 256 * 1024;
/** Most descriptors that are taken with one piece of input; of more the kernel closes the rest. */
export const MAX_DESCRIPTORS = 32;

/** `struct msghdr`: where its fields are, as 32-bit words. The high halves of lengths stay 0. */
const HEADER_BYTES = 56;
const HEADER_IOV = 16;
const HEADER_IOV_COUNT = 24;
const HEADER_CONTROL = 32;
const HEADER_CONTROL_LENGTH = 40;
const HEADER_FLAGS = 48;
/** The kernel had descriptors to give and could not: no room here, or none free in the process. */
const MSG_CTRUNC = 0x08;
/** `struct iovec`. */
const IOV_LENGTH = 8;
/** `struct cmsghdr`: its length with what follows, level and type; then the descriptors. */
const CONTROL_HEADER_BYTES = 16;
const CONTROL_BYTES = CONTROL_HEADER_BYTES + 4 * MAX_DESCRIPTORS;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;

const RECEIVE_AT = 0;
const SEND_AT = 64;
const RECEIVE_IOV_AT = 128;
const SEND_IOV_AT = 144;
const CONTROL_AT = 192;
const INPUT_AT = 4096;
const OUTPUT_AT = INPUT_AT + INPUT_BYTES;
const TOTAL_BYTES = OUTPUT_AT + OUTPUT_BYTES;

const NONE: readonly number[] = [];

/**
 * Buffers for input and output, shared by every socket of a thread: what was received is to be handled, and what is to
 * be sent written, before the next call.
 */
export class MessageIo implements Disposable {
  /** What {@linkcode receive} received, at its start. */
  readonly input: Uint8Array<ArrayBuffer>;
  /** What {@linkcode send} sends from. */
  readonly output: Uint8Array<ArrayBuffer>;
  /** Descriptors that came with what was last received. The caller owns them. */
  descriptors: readonly number[] = NONE;
  /** Whether descriptors were sent with it that did not get here. */
  hasLostDescriptors = false;
  readonly #libc: Libc;
  readonly #memory: OwnMemory;
  readonly #receiveHeader: Uint8Array<ArrayBuffer>;
  readonly #sendHeader: Uint8Array<ArrayBuffer>;
  readonly #words: Uint32Array<ArrayBuffer>;
  readonly #control: Int32Array<ArrayBuffer>;

  /**
   * Lays the memory out.
   *
   * @param libc The C library of this thread.
   * @throws {Error} If there is no memory.
   */
  constructor(libc: Libc) {
    const memory = libc.allocate(TOTAL_BYTES);
    if (typeof memory === "number") throw new Error(`Cannot allocate ${TOTAL_BYTES} bytes: errno ${-memory}`);
    const { buffer, address } = memory;
    this.#libc = libc;
    this.#memory = memory;
    this.#receiveHeader = new Uint8Array(buffer, RECEIVE_AT, HEADER_BYTES);
    this.#sendHeader = new Uint8Array(buffer, SEND_AT, HEADER_BYTES);
    this.#words = new Uint32Array(buffer, 0, INPUT_AT / 4);
    this.#control = new Int32Array(buffer, CONTROL_AT, CONTROL_BYTES / 4);
    this.input = new Uint8Array(buffer, INPUT_AT, INPUT_BYTES);
    this.output = new Uint8Array(buffer, OUTPUT_AT, OUTPUT_BYTES);
    const pointers = new BigUint64Array(buffer, 0, CONTROL_AT / 8);
    const layout: readonly (readonly [at: number, value: bigint])[] = [
      [RECEIVE_AT + HEADER_IOV, address + BigInt(RECEIVE_IOV_AT)],
      [RECEIVE_AT + HEADER_IOV_COUNT, 1n],
      [RECEIVE_AT + HEADER_CONTROL, address + BigInt(CONTROL_AT)],
      [SEND_AT + HEADER_IOV, address + BigInt(SEND_IOV_AT)],
      [SEND_AT + HEADER_IOV_COUNT, 1n],
      [RECEIVE_IOV_AT, address + BigInt(INPUT_AT)],
      [RECEIVE_IOV_AT + IOV_LENGTH, BigInt(INPUT_BYTES)],
      [SEND_IOV_AT, address + BigInt(OUTPUT_AT)],
    ];
    for (const [at, value] of layout) pointers[at / 8] = value;
  }

  /**
   * Receives into {@linkcode input}; does not wait.
   *
   * @param fd A connected socket.
   * @param withDescriptors Whether descriptors may come along; if not, the kernel closes them.
   * @returns How many bytes, 0 at the end of the stream, or a negative errno; -EAGAIN if nothing has come.
   */
  receive(fd: number, withDescriptors: boolean): number {
    this.#words[(RECEIVE_AT + HEADER_CONTROL_LENGTH) / 4] = withDescriptors ? CONTROL_BYTES : 0;
    const length = this.#libc.receiveMessage(fd, this.#receiveHeader);
    this.descriptors = NONE;
    this.hasLostDescriptors = false;
    if (!withDescriptors || length < 0) return length;
    this.descriptors = this.#takeDescriptors();
    this.hasLostDescriptors = (this.#words[(RECEIVE_AT + HEADER_FLAGS) / 4]! & MSG_CTRUNC) !== 0;
    return length;
  }

  /**
   * Sends the start of {@linkcode output}; does not wait.
   *
   * @param fd A connected socket.
   * @param length How many bytes of it.
   * @returns How many were sent, or a negative errno; -EAGAIN if there is no room.
   */
  send(fd: number, length: number): number {
    this.#words[(SEND_IOV_AT + IOV_LENGTH) / 4] = length;
    return this.#libc.sendMessage(fd, this.#sendHeader);
  }

  /** Gives the memory back; legal more than once. The buffers must not be touched afterwards. */
  [Symbol.dispose](): void {
    this.#memory.free();
  }

  #takeDescriptors(): readonly number[] {
    // The kernel has put the length of what came where the room was told.
    if (this.#words[(RECEIVE_AT + HEADER_CONTROL_LENGTH) / 4]! < CONTROL_HEADER_BYTES) return NONE;
    const [length, , level, type] = this.#control;
    if (level !== SOL_SOCKET || type !== SCM_RIGHTS) return NONE;
    return [...this.#control.subarray(CONTROL_HEADER_BYTES / 4, length! / 4)];
  }
}
