/**
 * A VMM that speaks vfio-user over a real Unix socket: small, blocking, and in nobody's debt but the wire's.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { Command, HeaderFlag } from "../../protocol/vfio_user.ts";
import { close, connectTo, receive, send } from "./peer_libc.ts";
import { access, concat, type HeaderOptions, type Message, message, parse, store, version } from "./wire.ts";

/** A connection to a device. A call that takes longer than ten seconds fails. */
export class Peer implements Disposable {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(128 * 1024);
  #messages: Message[] = [];
  #rest: Uint8Array = new Uint8Array(0);
  #lastId = 0;
  #isClosed = false;

  /** Connects, and says the version unless told not to. */
  constructor(path: string, isSilent = false) {
    this.#fd = connectTo(path);
    if (isSilent) return;
    this.send(version());
    assertEquals(this.next()?.flags, HeaderFlag.REPLY);
  }

  /** Sends bytes, with descriptors, which stay this process's. */
  send(bytes: Uint8Array<ArrayBuffer>, fds: readonly number[] = []): void {
    for (let at = 0; at < bytes.length;) {
      const sent = send(this.#fd, at === 0 ? bytes : bytes.slice(at), at === 0 ? fds : []);
      assert(sent > 0, "the device has closed");
      at += sent;
    }
  }

  /** Sends as far as the device takes it. @returns Whether all was sent. */
  trySend(bytes: Uint8Array<ArrayBuffer>, fds: readonly number[] = []): boolean {
    return send(this.#fd, bytes, fds) === bytes.length;
  }

  /** Receives once. @returns What came; `null` at the end. */
  receive(): Uint8Array | null {
    const length = receive(this.#fd, this.#buffer);
    return length <= 0 ? null : this.#buffer.slice(0, length);
  }

  /** The next message; `null` at the end. */
  next(): Message | null {
    while (this.#messages.length === 0) {
      const bytes = this.receive();
      if (bytes === null) return null;
      [this.#messages, this.#rest] = parse(concat([this.#rest, bytes]));
    }
    return this.#messages.shift()!;
  }

  /** Sends a command and waits for its reply, which must be the next message. */
  call(
    command: number,
    body?: Uint8Array,
    fds: readonly number[] = [],
    options: HeaderOptions = {},
  ): Message {
    const id = this.#lastId = (this.#lastId + 1) & 0xffff;
    this.send(message(command, body, { id, ...options }), fds);
    const reply = this.next();
    assert(reply !== null, `command ${command}: the device has closed`);
    assertEquals([reply.id, reply.command], [id, command]);
    return reply;
  }

  /** Sends a command that must succeed. @returns The reply's body. */
  ok(command: number, body?: Uint8Array, fds: readonly number[] = []): Uint8Array {
    const { flags, errno, body: result } = this.call(command, body, fds);
    assertEquals([flags, errno], [HeaderFlag.REPLY, 0], `command ${command}`);
    return result;
  }

  /** Sends a command that must fail. @returns Its errno. */
  errno(
    command: number,
    body?: Uint8Array,
    fds: readonly number[] = [],
    options: HeaderOptions = {},
  ): number {
    const { flags, errno } = this.call(command, body, fds, options);
    assertEquals(flags, HeaderFlag.REPLY | HeaderFlag.ERROR, `command ${command}`);
    return errno;
  }

  /** Posts a command. */
  post(command: number, body?: Uint8Array, fds: readonly number[] = []): void {
    this.send(message(command, body, { flags: HeaderFlag.NO_REPLY }), fds);
  }

  /** A guest's load of up to 8 bytes. */
  load(region: number, offset: number, count: 1 | 2 | 4 | 8): bigint {
    const body = this.ok(Command.REGION_READ, access(region, offset, count)).slice(16);
    return new DataView(Uint8Array.of(...body, 0, 0, 0, 0, 0, 0, 0).buffer).getBigUint64(0, true) &
      ((1n << BigInt(8 * count)) - 1n);
  }

  /** A guest's store, posted as QEMU does. */
  store(region: number, offset: number, count: number, value: number | bigint): void {
    this.post(Command.REGION_WRITE, store(region, offset, count, value));
  }

  /** Whether the device has closed, and said nothing more. */
  assertEnd(): void {
    assertEquals(this.next(), null);
  }

  /** Whether the device serves. */
  assertServed(): void {
    assertEquals(this.load(7, 0, 4), 0x1912_8086n);
  }

  /** Goes, without a word. */
  [Symbol.dispose](): void {
    if (!this.#isClosed) close(this.#fd);
    this.#isClosed = true;
  }
}
