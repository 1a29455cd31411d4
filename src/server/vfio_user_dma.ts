/**
 * Guest memory that is reached by messages: `DMA_READ` and `DMA_WRITE`, from the device to the VMM.
 *
 * When it may be asked. A VMM whose virtual CPU waits for an answer of ours cannot answer us: it stalls for seconds, and
 * the guest reads nonsense. So memory is asked for only while a posted message is being handled, for which nobody
 * waits; and as soon as something arrives that wants an answer and cannot be answered out of order, the question is
 * given up and the access fails. A late answer is dropped by its id.
 *
 * For how long. One posted store may announce a tree of thousands of tables, and the device serves nobody else while it
 * waits: so all questions of one message share one second, after which its accesses fail without asking. The next message
 * has its own. A VMM that leaves a question unanswered for a whole second is not asked again: cloud-hypervisor never
 * answers.
 *
 * Bus mastering. A VMM refuses such messages unless the guest has set its command register's bit, so they are not sent
 * without. *Shared* RAM is not subject to the bit here, because nothing that reaches it is the device's own doing: page
 * tables are read on behalf of the driver that announced them, by what is the hypervisor in the original, and a load or
 * store through the aperture is the CPU's, which the bit of a device does not concern. Messages of interrupts are
 * stores of the device's own and do look at it (`interrupts.ts`), and engines run only while it is set (`vgpu.ts`).
 *
 * @module
 */

import {
  Command,
  DmaAccess,
  getU64,
  HeaderFlag,
  MAX_DATA_TRANSFER,
  putU64,
} from "../../protocol/vfio_user.ts";
import type { RemoteMemory } from "../memory/ram_map.ts";
import type { VfioUserMessage } from "./vfio_user_message.ts";
import type { VfioUserOutput } from "./vfio_user_output.ts";

/**
 * How long one message of the peer's may wait for answers, milliseconds: from its first question on. Long for a VMM that
 * is merely busy, and short for everybody else who waits for the device.
 */
export const DMA_TIMEOUT = 1000;
/** Questions whose answers are still to come: after so many, something is wrong with the peer. */
const MAX_LATE = 64;

/** What stands between the questions and the peer. */
export interface DmaLink {
  /** Whether this is a moment at which the peer can answer. */
  mayAsk(): boolean;
  /** Looks at what has come and was not handled; may end the wait by {@linkcode VfioUserDma.giveUp}. */
  lookAhead(): void;
  /** Lets more come, for so many whole milliseconds at most. @returns Whether it is worth to go on waiting. */
  pump(timeout: number): boolean;
  /** The peer will not be asked again, because it `reason`. Called once. */
  wentDeaf(reason: string): void;
}

const IDLE = 0;
const WAITING = 1;
const ANSWERED = 2;

/** Guest memory by messages. */
export class VfioUserDma implements RemoteMemory {
  /** Bytes that the peer takes in one message. */
  maxTransfer: number = MAX_DATA_TRANSFER;
  readonly #output: VfioUserOutput;
  readonly #link: DmaLink;
  readonly #now: () => number;
  /** Ids of questions whose answers have not gone by in the stream. */
  readonly #late = new Set<number>();
  #lastId = 0;
  #state = IDLE;
  /** What is asked for. */
  #id = 0;
  #command = 0;
  #gpa = 0;
  #into: Uint8Array | null = null;
  #isDeaf = false;
  /** When the questions of the message that is being handled end; `Infinity`: it has asked nothing yet. */
  #deadline = Infinity;

  /**
   * @param output Where questions go.
   * @param link How answers come.
   * @param now The time, milliseconds.
   */
  constructor(output: VfioUserOutput, link: DmaLink, now: () => number) {
    this.#output = output;
    this.#link = link;
    this.#now = now;
  }

  /** Whether an answer is being waited for. */
  get isWaiting(): boolean {
    return this.#state === WAITING;
  }

  /** Another message of the peer's is being handled: it has a time of its own to ask in. */
  beginMessage(): void {
    this.#deadline = Infinity;
  }

  /** See {@linkcode RemoteMemory.read}. */
  read(gpa: number, out: Uint8Array): boolean {
    const { maxTransfer } = this;
    if (out.length <= maxTransfer) return this.#exchange(Command.DMA_READ, gpa, out);
    const whole = new Uint8Array(out.length); // `out` must be untouched if a later part fails
    const isRead = this.#eachPart(Command.DMA_READ, gpa, whole);
    if (isRead) out.set(whole);
    return isRead;
  }

  /** See {@linkcode RemoteMemory.write}. */
  write(gpa: number, bytes: Uint8Array): boolean {
    return this.#eachPart(Command.DMA_WRITE, gpa, bytes);
  }

  /** Whether a reply with this id was asked for and has not gone by. */
  expects(id: number): boolean {
    return this.#late.has(id);
  }

  /** A reply has gone by in the stream: its id may be used again. */
  forget(id: number): void {
    this.#late.delete(id);
  }

  /**
   * A reply has come. If it is the one that is waited for, the wait ends.
   *
   * @param message The reply.
   * @param isError Whether its flags say so.
   */
  take(message: VfioUserMessage, isError: boolean): void {
    if (this.#state !== WAITING || message.id !== this.#id) return;
    const isRight = !isError && message.command === this.#command;
    this.#state = isRight && (this.#command === Command.DMA_WRITE || this.#copy(message)) ? ANSWERED : IDLE;
  }

  /** No answer can be waited for any longer: the access fails. */
  giveUp(): void {
    if (this.#state === WAITING) this.#state = IDLE;
  }

  #eachPart(command: number, gpa: number, bytes: Uint8Array): boolean {
    for (let done = 0; done < bytes.length; done += this.maxTransfer) {
      const part = bytes.subarray(done, done + this.maxTransfer);
      if (!this.#exchange(command, gpa + done, part)) return false;
    }
    return true;
  }

  /** Asks once and waits for the answer. @returns Whether it came and was no error. */
  #exchange(command: number, gpa: number, bytes: Uint8Array): boolean {
    if (this.#state !== IDLE || this.#isDeaf || !this.#link.mayAsk()) return false;
    const isFirst = this.#deadline === Infinity;
    if (!isFirst && this.#now() >= this.#deadline) return false;
    this.#state = WAITING;
    this.#id = this.#nextId();
    this.#command = command;
    this.#gpa = gpa;
    this.#into = command === Command.DMA_READ ? bytes : null;
    this.#link.lookAhead();
    if (this.#state === WAITING) {
      if (isFirst) this.#deadline = this.#now() + DMA_TIMEOUT;
      this.#ask(bytes);
      this.#wait(isFirst);
    }
    const isDone = this.#state === ANSWERED;
    this.#state = IDLE;
    this.#into = null;
    return isDone;
  }

  /** @param isFirst Whether this question has all of the message's time: only then its end says that nobody answers. */
  #wait(isFirst: boolean): void {
    while (this.#state === WAITING) {
      const left = this.#deadline - this.#now();
      const goesOn = left > 0 && this.#link.pump(Math.ceil(left));
      if (goesOn || this.#state !== WAITING) continue;
      this.#state = IDLE;
      if (isFirst && this.#now() >= this.#deadline) this.#goDeaf("does not answer");
    }
  }

  #goDeaf(reason: string): void {
    if (this.#isDeaf) return;
    this.#isDeaf = true;
    this.#link.wentDeaf(reason);
  }

  #ask(bytes: Uint8Array): void {
    const data = this.#into === null ? bytes.length : 0;
    const flags = HeaderFlag.COMMAND;
    const at = this.#output.message(this.#id, this.#command, flags, DmaAccess.BYTES + data);
    const out = this.#output.bytes;
    putU64(out, at + DmaAccess.ADDRESS, this.#gpa);
    putU64(out, at + DmaAccess.COUNT, bytes.length);
    if (data > 0) out.set(bytes, at + DmaAccess.DATA);
    this.#late.add(this.#id);
    if (this.#late.size > MAX_LATE) this.#goDeaf("leaves too many questions without an answer");
  }

  #copy({ bytes, payload, length }: VfioUserMessage): boolean {
    const into = this.#into!;
    if (length !== DmaAccess.BYTES + into.length) return false;
    if (getU64(bytes, payload + DmaAccess.ADDRESS) !== this.#gpa) return false;
    const start = payload + DmaAccess.DATA;
    into.set(bytes.subarray(start, start + into.length));
    return true;
  }

  /** An id that no late answer has. */
  #nextId(): number {
    do this.#lastId = (this.#lastId + 1) & 0xffff; while (this.#late.has(this.#lastId));
    return this.#lastId;
  }
}
