/**
 * One vfio-user connection, without its socket: bytes and descriptors in, bytes out. Its peer is a VMM, which drives the
 * device from the version message on.
 *
 * Invariants: a *command* that is wrong gets an errno, or is counted if it was posted, and the session lives; a *stream*
 * that is wrong gets a last errno where one can be sent, and no byte of it is read after that; an exception is a bug of
 * this program and costs this session and no other. An access that lies within its region never fails. Each descriptor
 * that was received is closed exactly once: by whoever took it, or as soon as the message it came with is done.
 *
 * The files beside this one have one thing each: `vfio_user_input.ts` and `vfio_user_output.ts` the streams,
 * `vfio_user_commands.ts` what a VMM may ask for; of that `vfio_user_info.ts` what the device is,
 * `vfio_user_regions.ts` the guest's accesses, `vfio_user_irqs.ts` interrupts, `vfio_user_ram.ts`,
 * `vfio_user_content.ts` and `vfio_user_dma.ts` guest memory.
 *
 * @module
 */

import { OUTPUT_HIGH_WATER } from "../../protocol/limits.ts";
import {
  Command,
  Errno,
  HEADER_BYTES,
  HeaderFlag,
  MAX_MESSAGE_BYTES,
  MAX_MESSAGE_FDS,
  parseVersion,
  versionReply,
} from "../../protocol/vfio_user.ts";
import type { PumpingSession, Turn } from "./byte_session.ts";
import type { Descriptors } from "./descriptors.ts";
import type { Log } from "./rpc_session.ts";
import type { ServedDevice } from "./served_device.ts";
import { VfioUserCommands } from "./vfio_user_commands.ts";
import { VfioUserDma } from "./vfio_user_dma.ts";
import { isCommand, isReply, MALFORMED, NEED_MORE, VfioUserInput } from "./vfio_user_input.ts";
import { VfioUserMessage } from "./vfio_user_message.ts";
import { VfioUserOutput } from "./vfio_user_output.ts";
import type { Vmm } from "./vmm.ts";

/** Options of a session. */
export interface VfioUserSessionOptions {
  /** A number that no other session of the process has. */
  readonly id: number;
  /** What can be done with the peer's descriptors. */
  readonly descriptors: Descriptors;
  /** Where diagnostics go; default: nowhere. */
  readonly log?: Log;
  /** The time, milliseconds, by which answers of the peer are late; default `performance.now`, which nobody can set. */
  readonly now?: () => number;
}

const OK = 0;
/** The turn of a session that is alone in the world. */
const ENDLESS: Turn = { isOver: () => false };
const NONE: readonly number[] = [];
/** Descriptors that may wait for their messages: those of a few messages at once. */
const MAX_WAITING_FDS: number = 4 * MAX_MESSAGE_FDS;
/** Bytes that may pile up while an answer is waited for: some twenty thousand stores. */
const MAX_PILED_UP: number = 1024 * 1024;

/**
 * One vfio-user connection.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ServedDevice } from "./served_device.ts";
 * import { VfioUserSession } from "./vfio_user_session.ts";
 *
 * const served = new ServedDevice({}, false);
 * const descriptors = { close() {}, isEventfd: () => false, signal() {} };
 * const session = new VfioUserSession(served, { id: 1, descriptors });
 * session.receive(Uint8Array.of(7, 0, 1, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)); // version 0.0
 * assertEquals(session.takeOutput()?.subarray(0, 4), Uint8Array.of(7, 0, 1, 0));
 * assertEquals([session.isOpen, served.vmm === session], [true, true]);
 * session.close();
 * assertEquals(served.vmm, null);
 * ```
 */
export class VfioUserSession implements PumpingSession, Vmm {
  /** The session's number. */
  readonly id: number;
  /** A vfio-user client is a VMM. */
  readonly isVmm = true;
  /** Guest RAM and eventfds come as descriptors. */
  readonly takesDescriptors = true;
  /** Engines tell it by eventfd, which holds nobody up. */
  readonly isBehind = false;
  /** The protocol has no way to ask for the guest's stores. */
  readonly tracking = "untracked";
  /** Never called: interrupts go by eventfd, everything else is an answer. */
  onOutput: (() => void) | null = null;
  /** See {@linkcode PumpingSession}; without it guest memory cannot be asked for. */
  pump: ((timeout: number) => boolean) | null = null;

  readonly #served: ServedDevice;
  readonly #descriptors: Descriptors;
  readonly #log: Log;
  readonly #input = new VfioUserInput();
  readonly #output = new VfioUserOutput();
  readonly #dma: VfioUserDma;
  readonly #commands: VfioUserCommands;
  readonly #message = new VfioUserMessage();
  /** The message that is handled although another one is being handled. */
  readonly #nestedMessage = new VfioUserMessage();
  /** Bytes of the input that {@linkcode #lookAhead} has looked at and left for later. */
  #lookedAt = 0;
  #failures = 0;
  #isOpen = false;
  #isHandling = false;
  #isStalled = false;
  #isClosing = false;

  /**
   * A session at its start.
   *
   * @param served The device.
   * @param options Its number, what can be done with descriptors, log.
   */
  constructor(served: ServedDevice, options: VfioUserSessionOptions) {
    const { id, descriptors, log = () => {}, now = () => performance.now() } = options;
    this.id = id;
    this.#served = served;
    this.#descriptors = descriptors;
    this.#log = log;
    const output = this.#output;
    this.#dma = new VfioUserDma(output, {
      mayAsk: () => this.#mayAsk(),
      lookAhead: () => this.#lookAhead(),
      pump: (timeout) => this.pump?.(timeout) ?? false,
      wentDeaf: (reason) => {
        this.#log("warn", `the VMM ${reason}: it is not asked for guest memory again`, { session: id });
      },
    }, now);
    this.#commands = new VfioUserCommands({ served, descriptors, output, dma: this.#dma, log, session: id });
  }

  /** Whether the peer has said which version it speaks, and drives the device. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Posted messages, and stores in them, that failed. */
  get failedNotifications(): number {
    return this.#failures + this.#commands.refusedStores;
  }

  /** Whether messages wait to be handled. */
  get isStalled(): boolean {
    return this.#isStalled;
  }

  /** Output is answers, and no more messages are handled when there is much of it: it cannot pile up. */
  get isGivenUp(): boolean {
    return false;
  }

  /** Whether the loop may read. */
  get wantsInput(): boolean {
    return !this.#isClosing && !this.#isStalled && this.#output.length < OUTPUT_HIGH_WATER;
  }

  /** Whether nothing more will be read. */
  get isClosing(): boolean {
    return this.#isClosing;
  }

  /** Whether nothing more will be read or sent. */
  get isClosed(): boolean {
    return this.#isClosing && this.#output.length === 0;
  }

  /**
   * Handles what the peer sent, as far as the turn and the output's high-water mark allow; the rest waits for
   * {@linkcode takeOutput}. Within a call of {@linkcode pump} only what cannot wait is handled.
   *
   * @param bytes Any piece of the stream, at its start.
   * @param turn How long it may take; default: until all is handled.
   * @param length How many of the bytes count; default: all.
   * @param fds Descriptors that came with the last of the bytes; they are the session's now.
   */
  receive(
    bytes: Uint8Array,
    turn: Turn = ENDLESS,
    length: number = bytes.length,
    fds: readonly number[] = NONE,
  ): void {
    if (this.#isClosing || length === 0) return this.#closeAll(fds);
    const input = this.#input;
    input.add(bytes, length, fds, this.#isHandling);
    if (input.arrivedDescriptors > MAX_WAITING_FDS) {
      this.#log("warn", "malformed stream: too many descriptors", { session: this.id });
      return this.close();
    }
    if (this.#isHandling) return this.#lookAhead();
    this.#handle(turn);
    input.keep();
  }

  /**
   * Gives what is to be sent; if there is nothing, goes on with the messages that wait.
   *
   * @param turn How long that may take; default: until all is handled or there is output enough.
   * @returns Bytes that stay as they are until the next call, or `null`.
   */
  takeOutput(turn: Turn = ENDLESS): Uint8Array<ArrayBuffer> | null {
    if (this.#output.length === 0 && this.#isStalled && !this.#isHandling) this.#handle(turn);
    return this.#output.take();
  }

  /** The peer sent its last byte or is lost; what it left unfinished is dropped. */
  end(): void {
    this.close();
  }

  /** This end stops: what was answered is still sent, messages that wait are dropped. */
  close(): void {
    this.#shut();
    if (!this.#isHandling) this.#leave();
  }

  // ---- what the device tells

  /** Of no effect: stores cannot be trapped. */
  protect(): void {}

  /** Of no effect: the peer has no page tracks. */
  trackedWrite(): void {}

  /** See {@linkcode Vmm.msi}. */
  msi(): void {
    this.#commands.irqs.msi();
  }

  /** See {@linkcode Vmm.intx}. */
  intx(asserted: boolean): void {
    this.#commands.irqs.intx(asserted);
  }

  // ---- the stream

  /** Handles whole messages until there is none, the output is full, the turn is over or the session is closing. */
  #handle(turn: Turn): void {
    this.#isHandling = true;
    this.#isStalled = false;
    while (!this.#isClosing) {
      const size = this.#input.peek(0);
      if (size === NEED_MORE) break;
      if (this.#output.length >= OUTPUT_HIGH_WATER || turn.isOver()) {
        this.#isStalled = true;
        break;
      }
      this.#dma.beginMessage();
      if (size === MALFORMED) this.#refuseStream();
      else this.#take(this.#message, size);
    }
    this.#isHandling = false;
    if (this.#isClosing) this.#leave();
  }

  /** Takes the next message, of so many bytes, from the input and handles it. */
  #take(message: VfioUserMessage, size: number): void {
    const input = this.#input;
    const flags = input.flagsAt(0);
    message.id = input.idAt(0);
    message.command = input.commandAt(0);
    message.isPosted = (flags & HeaderFlag.NO_REPLY) !== 0;
    message.bytes = input.bytes;
    message.payload = input.at + HEADER_BYTES;
    message.length = size - HEADER_BYTES;
    message.fds = input.consume(size);
    this.#lookedAt = Math.max(0, this.#lookedAt - size);
    if (isCommand(flags)) this.#command(message);
    else this.#reply(message, flags);
    if (message.fds.length === 0) return;
    this.#closeAll(message.fds);
    message.fds = NONE;
  }

  /** Ends a stream that goes on with something that is no message. */
  #refuseStream(): void {
    const input = this.#input;
    if (isCommand(input.flagsAt(0))) {
      this.#output.error(input.idAt(0), input.commandAt(0), Errno.EMSGSIZE);
    }
    this.#log("warn", "malformed stream: wrong size", { session: this.id, id: input.idAt(0) });
    this.#shut();
  }

  /** A reply, or something of a type that there is not. */
  #reply(message: VfioUserMessage, flags: number): void {
    if (isReply(flags) && this.#dma.expects(message.id)) {
      this.#dma.take(message, (flags & HeaderFlag.ERROR) !== 0);
      this.#dma.forget(message.id);
      return;
    }
    const what = isReply(flags) ? "a reply to nothing" : "neither command nor reply";
    this.#log("warn", `malformed stream: ${what}`, { session: this.id, id: message.id });
    if (!isReply(flags)) this.#output.error(message.id, message.command, Errno.EINVAL);
    this.#shut();
  }

  // ---- commands

  #command(message: VfioUserMessage): void {
    let errno: number;
    try {
      errno = this.#isOpen ? this.#commands.carryOut(message) : this.#begin(message);
    } catch (error) {
      return this.#bug(message, error);
    }
    if (errno !== OK) this.#fail(message, errno);
  }

  /** The first message, which must say the version; if that cannot be, there is no second one. */
  #begin(message: VfioUserMessage): number {
    const errno = message.command === Command.VERSION && message.fds.length === 0
      ? this.#version(message)
      : Errno.EINVAL;
    if (errno === OK) return OK;
    this.#fail(message, errno);
    this.#shut();
    return OK;
  }

  #version(message: VfioUserMessage): number {
    const { bytes, payload, length } = message;
    const offer = parseVersion(bytes.subarray(payload, payload + length));
    if (typeof offer === "string" || offer.major !== 0) {
      const reason = typeof offer === "string" ? offer : `version ${offer.major} is not spoken here`;
      this.#log("warn", "not a vfio-user client", { session: this.id, id: message.id, reason });
      return Errno.EINVAL;
    }
    if (!this.#served.attach(this)) {
      this.#log("warn", "another VMM drives this device", { session: this.id, id: message.id });
      return Errno.EBUSY;
    }
    this.#isOpen = true;
    this.#input.maxMessage = MAX_MESSAGE_BYTES;
    this.#dma.maxTransfer = Math.min(this.#dma.maxTransfer, offer.maxDataTransfer);
    this.#log("info", "vmm attached", { session: this.id, client: "vfio-user" });
    if (!message.isPosted) {
      const reply = versionReply();
      const at = this.#output.message(message.id, message.command, HeaderFlag.REPLY, reply.length);
      this.#output.bytes.set(reply, at);
    }
    return OK;
  }

  /** A command cannot be carried out. */
  #fail(message: VfioUserMessage, errno: number): void {
    const { id, command, isPosted } = message;
    this.#log("debug", "command failed", { session: this.id, id, command, errno, posted: isPosted });
    if (isPosted) this.#failures++;
    else this.#output.error(id, command, errno);
  }

  /** Ends the session at an exception that nobody meant to throw. */
  #bug(message: VfioUserMessage, error: unknown): void {
    const text = error instanceof Error ? error.stack ?? error.message : String(error);
    const { id, command } = message;
    this.#log("error", "internal error", { session: this.id, id, command, error: text });
    if (this.#isClosing) return;
    this.#fail(message, Errno.EIO);
    this.#shut();
  }

  // ---- asking the peer

  /** Whether guest memory may be asked for: see `vfio_user_dma.ts`. */
  #mayAsk(): boolean {
    const isPosted = this.#isHandling && this.#message.isPosted && !this.#isClosing;
    return isPosted && this.pump !== null && this.#served.device.vgpu.pci.isBusMaster;
  }

  /**
   * Looks through what has come while a message is being handled: takes the answer that is waited for, answers a load
   * that nothing stands before, leaves posted messages for later, and gives up waiting at anything else.
   */
  #lookAhead(): void {
    const input = this.#input;
    input.keep();
    while (this.#dma.isWaiting) {
      const size = input.peek(this.#lookedAt);
      if (size === NEED_MORE) {
        if (input.length > MAX_PILED_UP) this.#dma.giveUp();
        return;
      }
      if (size === MALFORMED || !this.#mayPass(size)) return this.#dma.giveUp();
    }
  }

  /** Whether the wait can go on after the message that {@linkcode #lookAhead} has come to. */
  #mayPass(size: number): boolean {
    const input = this.#input;
    const ahead = this.#lookedAt;
    const flags = input.flagsAt(ahead);
    const isFirst = ahead === 0;
    if (isReply(flags) && this.#dma.expects(input.idAt(ahead))) {
      if (isFirst) this.#take(this.#nestedMessage, size);
      else this.#peekReply(ahead, size);
      return true;
    }
    if (!isCommand(flags)) return false;
    if ((flags & HeaderFlag.NO_REPLY) !== 0) {
      this.#lookedAt += size;
      return true;
    }
    const isLoad = input.commandAt(ahead) === Command.REGION_READ;
    if (!isFirst || !isLoad || this.#output.length >= OUTPUT_HIGH_WATER) return false;
    // A load changes nothing, and memory that would have to be asked for is out of its reach.
    this.#take(this.#nestedMessage, size);
    return true;
  }

  /** Takes a reply that messages stand before; it stays in the stream and is dropped when it is its turn. */
  #peekReply(ahead: number, size: number): void {
    const input = this.#input;
    const message = this.#nestedMessage;
    message.id = input.idAt(ahead);
    message.command = input.commandAt(ahead);
    message.bytes = input.bytes;
    message.payload = input.at + ahead + HEADER_BYTES;
    message.length = size - HEADER_BYTES;
    this.#dma.take(message, (input.flagsAt(ahead) & HeaderFlag.ERROR) !== 0);
    this.#lookedAt += size;
  }

  // ---- the end

  /** Takes no more input. */
  #shut(): void {
    this.#isClosing = true;
    this.#isStalled = false;
    this.#dma.giveUp();
    this.#closeAll(this.#input.clear());
    this.#commands.irqs.close();
  }

  /** Lets the device go, once. No message is being handled. */
  #leave(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    try {
      this.#served.detach(this);
    } catch (error) {
      this.#log("error", "internal error in detach", { session: this.id, error: String(error) });
    }
    this.#log("info", "vmm gone", { session: this.id, client: "vfio-user" });
  }

  #closeAll(fds: readonly number[]): void {
    for (const fd of fds) this.#descriptors.close(fd);
  }
}
