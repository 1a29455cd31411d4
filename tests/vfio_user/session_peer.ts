/**
 * A VMM at the other end of a vfio-user session of this process: no socket, no time, every byte in the test's hand.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { Command, Errno, HeaderFlag } from "../../protocol/vfio_user.ts";
import { assertInvariants } from "../../src/gtt/invariants.ts";
import type { Descriptors } from "../../src/server/descriptors.ts";
import { ServedDevice } from "../../src/server/served_device.ts";
import { VfioUserSession } from "../../src/server/vfio_user_session.ts";
import { loadLibc } from "../../src/platform/libc.ts";
import { close, hasFfi, isOpen, openDescriptors } from "./peer_libc.ts";
import { access, concat, type HeaderOptions, type Message, message, parse, store, version } from "./wire.ts";

if (hasFfi) loadLibc(); // here and not in the first test that needs it, which would seem to leak it

/** Registers a test that needs foreign functions: to count descriptors, and to have some that can be passed. */
export function peerTest(name: string, fn: () => void | Promise<void>): void {
  Deno.test({ name: hasFfi ? name : `${name} [skipped, needs --allow-ffi]`, ignore: !hasFfi, fn });
}

/** Descriptors below this are the system's, those from here on are made up. */
const FIRST_FAKE = 1_000_000;

/** Descriptors that count: made-up eventfds, and the system's own. */
export class CountedDescriptors implements Descriptors {
  /** How often each made-up eventfd was signalled. */
  readonly signals = new Map<number, number>();
  /** What went wrong: a descriptor closed twice, or signalled when closed. */
  readonly faults: string[] = [];
  readonly #open = new Map<number, "eventfd" | "other">();
  #next = FIRST_FAKE;

  /** Made-up descriptors that are open. */
  get openCount(): number {
    return this.#open.size;
  }

  /** Makes up a descriptor. */
  make(kind: "eventfd" | "other" = "eventfd"): number {
    const fd = this.#next++;
    this.#open.set(fd, kind);
    this.signals.set(fd, 0);
    return fd;
  }

  close(fd: number): void {
    if (fd < FIRST_FAKE) {
      if (!isOpen(fd)) this.faults.push(`${fd} closed twice`);
      close(fd);
    } else if (!this.#open.delete(fd)) {
      this.faults.push(`${fd} closed twice`);
    }
  }

  isEventfd(fd: number): boolean {
    return this.#open.get(fd) === "eventfd";
  }

  signal(fd: number): void {
    if (this.#open.get(fd) !== "eventfd") this.faults.push(`${fd} signalled`);
    this.signals.set(fd, (this.signals.get(fd) ?? 0) + 1);
  }
}

/** One log line. */
export interface LogLine {
  readonly level: string;
  readonly message: string;
}

/** Options of a {@linkcode SessionPeer}. */
export interface SessionPeerOptions {
  /** The device; a new one if not given. */
  readonly served?: ServedDevice;
  /** The descriptors; new ones if not given. */
  readonly descriptors?: CountedDescriptors;
  /** The time. */
  readonly now?: () => number;
  /** Whether to leave the version unsaid. */
  readonly silent?: boolean;
}

/** A VMM and the session it talks to. */
export class SessionPeer implements Disposable {
  readonly served: ServedDevice;
  readonly descriptors: CountedDescriptors;
  readonly session: VfioUserSession;
  readonly log: LogLine[] = [];
  readonly #before: number;
  readonly #madeUp: number;
  readonly #ownsDevice: boolean;
  #rest: Uint8Array = new Uint8Array(0);
  #lastId = 100;

  constructor(options: SessionPeerOptions = {}) {
    this.#before = openDescriptors();
    this.#ownsDevice = options.served === undefined;
    this.served = options.served ?? new ServedDevice({}, false);
    this.descriptors = options.descriptors ?? new CountedDescriptors();
    this.#madeUp = this.descriptors.openCount;
    this.session = new VfioUserSession(this.served, {
      id: 1,
      descriptors: this.descriptors,
      log: (level, message) => void this.log.push({ level, message }),
      ...(options.now === undefined ? {} : { now: options.now }),
    });
    if (options.silent === true) return;
    this.send(version());
    assertEquals(this.replies()[0]?.flags, HeaderFlag.REPLY);
  }

  /** Hands bytes to the session, as a loop does that reuses its buffer. */
  send(bytes: Uint8Array, fds: readonly number[] = []): void {
    const buffer = bytes.slice();
    this.session.receive(buffer, undefined, buffer.length, fds);
    buffer.fill(0xee);
  }

  /** What the session has answered since it was last asked. */
  replies(): Message[] {
    const parts = [this.#rest];
    for (let out = this.session.takeOutput(); out !== null; out = this.session.takeOutput()) {
      parts.push(out.slice());
    }
    const [messages, rest] = parse(concat(parts));
    this.#rest = rest;
    return messages;
  }

  /** Sends a command and takes its reply. */
  call(
    command: number,
    body?: Uint8Array,
    fds: readonly number[] = [],
    options: HeaderOptions = {},
  ): Message {
    const id = options.id ?? ++this.#lastId;
    this.send(message(command, body, { ...options, id }), fds);
    const [reply, ...more] = this.replies();
    assert(reply !== undefined, `command ${command} has no reply`);
    assertEquals([reply.id, reply.command, more.length], [id, command, 0]);
    return reply;
  }

  /** Sends a command that must succeed. @returns The reply's body. */
  ok(command: number, body?: Uint8Array, fds: readonly number[] = []): Uint8Array {
    const { flags, errno, body: result } = this.call(command, body, fds);
    assertEquals([flags, errno], [HeaderFlag.REPLY, 0]);
    return result;
  }

  /** Sends a command that must fail. @returns Its errno. */
  errno(
    command: number,
    body?: Uint8Array,
    fds: readonly number[] = [],
    options: HeaderOptions = {},
  ): number {
    const { flags, errno, body: result } = this.call(command, body, fds, options);
    assertEquals([flags, result.length], [HeaderFlag.REPLY | HeaderFlag.ERROR, 0]);
    return errno;
  }

  /** Posts a command: there must be no reply. */
  post(command: number, body?: Uint8Array, fds: readonly number[] = []): void {
    this.send(message(command, body, { flags: HeaderFlag.NO_REPLY }), fds);
    assertEquals(this.replies(), []);
  }

  /** A guest's load of up to 8 bytes. */
  load(region: number, offset: number, count: 1 | 2 | 4 | 8): number {
    const body = this.ok(Command.REGION_READ, access(region, offset, count)).slice(16);
    const view = new DataView(Uint8Array.of(...body, 0, 0, 0, 0, 0, 0, 0).buffer);
    return Number(view.getBigUint64(0, true) & (1n << BigInt(8 * count)) - 1n);
  }

  /** A guest's store. */
  store(region: number, offset: number, count: number, value: number | bigint): void {
    const body = this.ok(Command.REGION_WRITE, store(region, offset, count, value));
    assertEquals(body, access(region, offset, count));
  }

  /** Whether the session answers as it should, holds nothing that it should not, and the device is sound. */
  assertServes(): void {
    assertEquals(this.session.isClosing, false);
    assertEquals(this.load(7, 0, 4), 0x1912_8086);
    assertEquals(this.load(0, 0x78000, 4), 0x7654_4776);
    this.assertSound();
  }

  /** Whether nothing is broken, in whatever state the session is. */
  assertSound(): void {
    assertEquals(this.descriptors.faults, []);
    assertEquals(this.log.filter(({ level }) => level === "error"), []);
    assertInvariants(this.served.device.vgpu.gtt);
  }

  /** Whether every descriptor that was given to the session has been closed, but for so many. */
  assertDescriptors(kept = 0): void {
    const own = openDescriptors() - this.#before;
    assertEquals(this.descriptors.openCount - this.#madeUp + own, kept);
    assertEquals(this.descriptors.faults, []);
  }

  /** Whether the session has ended, left the device to others and given everything back. */
  assertEnded(): void {
    assertEquals([this.session.isClosing, this.session.takeOutput(), this.session.isClosed], [
      true,
      null,
      true,
    ]);
    assert(this.served.vmm !== this.session);
    assertEquals(this.served.device.ram.regions, []);
    this.assertDescriptors();
    this.assertSound();
  }

  /** The VMM goes. */
  [Symbol.dispose](): void {
    this.session.end();
    if (this.#ownsDevice) this.served.device[Symbol.dispose]();
    this.assertDescriptors();
  }
}

export { Command, Errno, HeaderFlag };
