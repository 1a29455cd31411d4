// Seeded fuzzing of the session: nothing is thrown past it, every command gets its one answer in its place, no
// descriptor is left or closed twice, and whatever happens the next VMM finds a device that serves.

import { assert, assertEquals } from "@std/assert";
import { Random } from "../model/random.ts";
import { close, dup, memfd } from "./peer_libc.ts";
import { Command, HeaderFlag, peerTest, SessionPeer } from "./session_peer.ts";
import {
  access,
  ask,
  concat,
  dmaMap,
  dmaUnmap,
  field,
  type Message,
  message,
  payload,
  setIrqs,
  store,
  storeMany,
  u32,
} from "./wire.ts";

const STEPS = 1500;
const PAGE = 4096;
const GMA = 64 << 20;
const ENTRY = 0x80_0000 + GMA / PAGE * 8;
/** Offsets that mean something: GTT entries, PVINFO roots and notification, registers, TLB, interrupts. */
const OFFSETS = [
  ENTRY,
  ENTRY + 8,
  0x78838,
  0x78840,
  0x78818,
  0x2030,
  0x4260,
  0x44200,
  0x44304,
  0x4430c,
  0x78000,
];
const BYTES = [0, 1, 2, 3, 4, 7, 8, 0x10, 0x1f, 0x20, 0x7f, 0x80, 0xfe, 0xff];

/** A piece of the stream, and what comes with its end. */
interface Piece {
  readonly bytes: Uint8Array;
  readonly fds: number[];
}

const NOTHING: Piece = { bytes: new Uint8Array(0), fds: [] };

/** One VMM's life after another on one device, at random. */
class Fuzzer {
  readonly #random: Random;
  readonly #memory: readonly number[];
  readonly #device = new SessionPeer();
  #peer = this.#device;
  #clock = 0;
  #id = 0;
  /** Ids of commands that are to be answered, in order. */
  #unanswered: number[] = [];
  /** What is left of a message that was cut. */
  #rest: Piece = NOTHING;
  /** Whether a message has lied about its length, so that nobody knows where the next one begins. */
  #isLost = false;
  sessions = 1;
  answers = 0;
  questions = 0;

  constructor(seed: number, memory: readonly number[]) {
    this.#random = new Random(seed);
    this.#memory = memory;
    this.#device.session.end();
    this.#attach();
  }

  run(): void {
    for (let step = 0; step < STEPS; step++) {
      this.#step();
      if (step % 50 === 0) this.#peer.assertSound();
      if (this.#peer.session.isClosing) this.#attach();
    }
    this.#peer.session.end();
    this.#peer.assertEnded();
    using last = new SessionPeer({ served: this.#device.served, descriptors: this.#device.descriptors });
    last.assertServes();
    this.#device[Symbol.dispose]();
  }

  #attach(): void {
    if (this.#peer !== this.#device) this.#peer.assertEnded();
    const { served, descriptors } = this.#device;
    this.#peer = new SessionPeer({ served, descriptors, now: () => this.#clock });
    this.#peer.session.pump = () => this.#pump();
    this.#unanswered = [];
    this.#isLost = false;
    this.sessions++;
    this.#peer.post(Command.DMA_MAP, dmaMap(0, 16 * PAGE));
    this.#peer.post(Command.REGION_WRITE, store(7, 4, 2, 6));
    this.#peer.post(Command.REGION_WRITE, store(0, ENTRY, 8, 0x5001));
  }

  /** Sends some messages, cut somewhere, and looks at the answers. */
  #step(): void {
    const random = this.#random;
    const messages = Array.from({ length: 1 + random.below(4) }, () => this.#message());
    const stream = concat(messages.map(({ bytes }) => bytes));
    // Descriptors come with the end of a message, or, from a peer that is wrong, with any byte.
    const cut = random.chance(0.5) ? stream.length : 1 + random.below(stream.length);
    const fds = messages.pop()!.fds;
    for (const fd of messages.flatMap((each) => each.fds)) this.#peer.descriptors.close(fd);
    const early = cut === stream.length || random.chance(0.1) ? fds.splice(0) : [];
    this.#rest = { bytes: stream.subarray(cut), fds };
    this.#peer.send(stream.subarray(0, cut), early);
    this.#look(false);
    this.#sendRest();
    this.#look(true);
    if (random.chance(0.005)) this.#peer.session.end();
  }

  /** Sends what is left of a message that was cut: nothing can come before it. */
  #sendRest(): void {
    const { bytes, fds } = this.#rest;
    this.#rest = NOTHING;
    if (bytes.length > 0) this.#peer.send(bytes, fds);
  }

  #message(): Piece {
    const random = this.#random;
    let [command, body, fds] = this.#command();
    if (random.chance(0.25)) body = this.#spoil(body);
    if (random.chance(0.03)) {
      fds.push(...Array.from({ length: 1 + random.below(20) }, () => this.#descriptor()));
    }
    const id = this.#id = (this.#id + 1) & 0xffff;
    const posted = random.chance(0.4) ? HeaderFlag.NO_REPLY : 0;
    const type = random.chance(0.002) ? 1 + random.below(15) : 0;
    let size = random.chance(0.002) ? random.pick([0, 15, 0xffff_ffff, 70_000]) : 16 + body.length;
    if (random.chance(0.001)) {
      size += 1 + random.below(64);
      this.#isLost = true;
    }
    if (posted === 0 && type === 0) this.#unanswered.push(id);
    return { bytes: message(command, body, { id, flags: posted | type, size }), fds };
  }

  #command(): [number, Uint8Array, number[]] {
    const random = this.#random;
    const gpa = random.below(40) * PAGE;
    const size = (1 + random.below(4)) * PAGE;
    switch (random.below(12)) {
      case 0:
        return [
          Command.DMA_MAP,
          dmaMap(gpa, size, 1 + 2 * random.below(2), random.below(3) * PAGE),
          this.#ram(),
        ];
      case 1:
        return [Command.DMA_UNMAP, random.chance(0.1) ? dmaUnmap(0, 0, 2) : dmaUnmap(gpa, size), []];
      case 2: {
        const [flags, index] = [random.pick([0x21, 0x24, 0x24, 9, 17, 0x22, 10]), random.below(5)];
        const fds = flags === 0x24 && random.chance(0.7) ? [this.#descriptor()] : [];
        return [Command.DEVICE_SET_IRQS, setIrqs(flags, index, 1, 0, Uint8Array.of(random.below(2))), fds];
      }
      case 3:
        return [random.pick([4, 5, 6, 7, 14, 16]), ask(random.pick([16, 32]), random.below(10)), []];
      case 4:
        return random.chance(0.1)
          ? [Command.DEVICE_RESET, new Uint8Array(0), []]
          : [random.below(20), ask(16), []];
      case 5:
      case 6:
        return [
          Command.REGION_WRITE_MULTI,
          storeMany(...Array.from({ length: random.below(6) }, () => this.#store())),
          [],
        ];
      case 7:
        return [
          Command.REGION_READ,
          access(random.pick([2, 7, 0]), random.below(256), random.below(300)),
          [],
        ];
      case 8: {
        const [region, offset, count] = this.#store();
        return [Command.REGION_READ, access(region, offset, count), []];
      }
      default:
        return [Command.REGION_WRITE, store(...this.#store()), []];
    }
  }

  #store(): [region: number, offset: number, count: number, value: number | bigint] {
    const random = this.#random;
    const count = random.pick([1, 2, 4, 4, 8, 8, 3]);
    if (random.chance(0.3)) return [2, GMA + random.below(2 * PAGE), count, random.below(256)];
    if (random.chance(0.1)) return [7, random.pick([4, 0x10, 0x92, 0xd4]), count, random.below(8)];
    const value = random.pick([
      0,
      1,
      2,
      3,
      4,
      5,
      PAGE + 3,
      2 * PAGE + 3,
      5 * PAGE + 3,
      0x8000_0000,
      0xffff_ffff,
    ]);
    return [0, random.pick(OFFSETS), count, value];
  }

  #spoil(body: Uint8Array): Uint8Array {
    const random = this.#random;
    if (random.chance(0.2)) return body.slice(0, random.below(body.length + 1));
    if (random.chance(0.1)) return payload(body, u32(random.below(256)));
    const spoiled = body.slice();
    for (let i = random.below(3); i >= 0 && body.length > 0; i--) {
      spoiled[random.below(body.length)] = random.pick(BYTES);
    }
    return spoiled;
  }

  #ram(): number[] {
    return this.#random.chance(0.6) ? [dup(this.#random.pick(this.#memory))] : [];
  }

  #descriptor(): number {
    if (this.#random.chance(0.2)) return dup(this.#random.pick(this.#memory));
    return this.#peer.descriptors.make(this.#random.chance(0.9) ? "eventfd" : "other");
  }

  /** What the VMM does while the device waits for it. */
  #pump(): boolean {
    const random = this.#random;
    const question = this.#look(false);
    if (question !== undefined) this.questions++;
    this.#sendRest();
    if (random.chance(0.02)) {
      this.#clock += 1000;
      return false;
    }
    if (random.chance(0.02)) return false;
    if (random.chance(0.4)) {
      const { bytes, fds } = this.#message();
      this.#peer.send(bytes, fds);
    }
    if (question !== undefined) this.#answer(question);
    this.#clock += 100;
    return true;
  }

  #answer({ id, command, body }: Message): void {
    const random = this.#random;
    const count = command === Command.DMA_READ ? field(body, 8, 64) : 0;
    let answer = payload(body.subarray(0, 16), new Uint8Array(count));
    if (random.chance(0.05)) answer = answer.slice(0, random.below(answer.length));
    const flags = random.chance(0.05) ? 0x21 : 1;
    this.#peer.send(message(command, answer, { id: random.chance(0.001) ? 0x8888 : id, flags }));
  }

  /** Checks the answers that there are. @returns A question, if there is one. */
  #look(isAll: boolean): Message | undefined {
    let question: Message | undefined;
    const { session } = this.#peer;
    for (const reply of this.#peer.replies()) {
      if ((reply.flags & HeaderFlag.TYPE_MASK) === HeaderFlag.COMMAND) {
        question = reply;
        continue;
      }
      this.answers++;
      const expected = this.#unanswered.shift();
      // The last answer of a stream that went wrong may be to something that asked for none.
      if (!session.isClosing && !this.#isLost) assertEquals(reply.id, expected);
    }
    if (isAll && !session.isClosing && !this.#isLost) assertEquals(this.#unanswered, []);
    return question;
  }
}

for (let seed = 1; seed <= 8; seed++) {
  peerTest(`a session survives a VMM at random, seed ${seed}`, () => {
    const memory = [memfd(8 * PAGE), memfd(8 * PAGE, 0), memfd(PAGE)];
    const fuzzer = new Fuzzer(seed, memory);

    fuzzer.run();

    assert(fuzzer.sessions > 3 && fuzzer.answers > 1000 && fuzzer.questions > 20);
    memory.forEach(close);
  });
}
