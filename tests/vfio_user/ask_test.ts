// Guest memory that is not shared: it is asked for by messages, at the few moments at which the VMM can answer.

import { assert, assertEquals } from "@std/assert";
import { DMA_TIMEOUT } from "../../src/server/vfio_user_dma.ts";
import { Command, HeaderFlag, peerTest, SessionPeer } from "./session_peer.ts";
import {
  access,
  concat,
  dmaMap,
  field,
  type Message,
  message,
  parse,
  payload,
  store,
  storeMany,
  u64,
} from "./wire.ts";

const PAGE = 4096;
const RAM = 16 * PAGE;
const GMA = 64 << 20;
/** The GTT entry of the vGPU's first page. */
const ENTRY = 0x80_0000 + GMA / PAGE * 8;
const REGISTER = 0x2030;
/** Registers that are plain storage, many in a row. */
const PLAIN = 0x1_8000;
const POSTED = { flags: HeaderFlag.NO_REPLY };

/** A VMM that does not share its guest's memory, and what it does when it is asked. */
class AskedPeer extends SessionPeer {
  readonly memory = new Uint8Array(RAM);
  /** What the device asked, and anything else that it sent meanwhile. */
  readonly asked: Message[] = [];
  /** What the VMM does when a message comes while the device waits. Default: it answers. */
  onAsked: (asked: Message) => boolean = (asked) => (this.send(this.answer(asked)), true);
  clock = 0;

  constructor() {
    super({ now: () => this.clock });
    this.ok(Command.DMA_MAP, dmaMap(0, RAM));
    this.store(7, 0x04, 2, 0x6);
    this.store(0, ENTRY, 8, 0x5001);
    this.session.pump = () => {
      const out = this.session.takeOutput();
      const [messages] = out === null ? [[]] : parse(out.slice());
      this.asked.push(...messages);
      const question = messages.find(({ command }) => command === 11 || command === 12);
      return question === undefined ? false : this.onAsked(question);
    };
  }

  /** The answer to a question, as QEMU gives it. */
  answer({ id, command, body }: Message): Uint8Array<ArrayBuffer> {
    const [gpa, count] = [field(body, 0, 64), field(body, 8, 64)];
    const reply = { id, flags: HeaderFlag.REPLY };
    if (gpa + count > RAM) return message(command, undefined, { ...reply, flags: 0x21, errno: 19 });
    if (command === Command.DMA_WRITE) this.memory.set(body.subarray(16), gpa);
    const data = command === Command.DMA_READ ? this.memory.slice(gpa, gpa + count) : new Uint8Array(0);
    return message(command, payload(body.subarray(0, 16), data), reply);
  }

  /** A guest's store through the aperture, to the page that the GTT entry leads to; posted. */
  storeThroughAperture(value: number): void {
    this.send(message(Command.REGION_WRITE, store(2, GMA + 8, 4, value), POSTED));
  }

  /** What the log says about a VMM that is not asked again. */
  get deafness(): string[] {
    return this.log.filter(({ level, message }) => level === "warn" && message.includes("not asked"))
      .map(({ message }) => message);
  }

  /** Accesses through the aperture that led nowhere. */
  get failures(): number {
    return this.served.device.vgpu.counters.badApertureAccesses;
  }
}

peerTest("a posted store to memory that is not shared reaches it by a message", () => {
  using peer = new AskedPeer();

  peer.storeThroughAperture(0x11223344);

  assertEquals([...peer.memory.subarray(0x5008, 0x500c)], [0x44, 0x33, 0x22, 0x11]);
  assertEquals(
    peer.asked.map(({ command, flags, body }) => [command, flags, field(body, 0, 64), field(body, 8, 64)]),
    [
      [Command.DMA_WRITE, 0, 0x5008, 4],
    ],
  );
  assertEquals(peer.replies(), []);
  peer.assertServes();
});

peerTest("a store that wants an answer asks for nothing, and is answered", () => {
  using peer = new AskedPeer();

  peer.store(2, GMA + 8, 4, 1);

  assertEquals([peer.asked.length, peer.failures, peer.memory[0x5008]], [0, 1, 0]);
});

peerTest("a load asks for nothing, and is answered with 0", () => {
  using peer = new AskedPeer();
  peer.memory[0x5008] = 9;

  assertEquals([peer.load(2, GMA + 8, 4), peer.asked.length], [0, 0]);
});

peerTest("nothing is asked for before the guest has set Bus Master", () => {
  using peer = new AskedPeer();
  peer.store(7, 0x04, 2, 0x2);

  peer.storeThroughAperture(1);

  assertEquals([peer.asked.length, peer.failures], [0, 1]);
});

peerTest("nothing is asked for by a loop that cannot exchange messages meanwhile", () => {
  using peer = new AskedPeer();
  peer.session.pump = null;

  peer.storeThroughAperture(1);

  assertEquals([peer.replies(), peer.failures], [[], 1]);
});

peerTest("page tables in memory that is not shared are read when a posted message announces them", () => {
  using peer = new AskedPeer();
  const entries = new BigUint64Array(peer.memory.buffer);
  for (const [table, next] of [[1, 2], [2, 3], [3, 4], [4, 5]] as const) {
    entries[table * 512] = BigInt(next * PAGE + 3);
  }
  peer.send(
    message(Command.REGION_WRITE_MULTI, storeMany([0, 0x78838, 8, PAGE], [0, 0x78818, 4, 4]), POSTED),
  );

  const mm = peer.served.device.vgpu.gtt.mm(0);

  assert(mm?.shadowed);
  assertEquals(peer.served.device.vgpu.gtt.gmaToGpa(mm, 0xabc, 0), -1); // nobody can be asked now
  assert(peer.asked.length >= 4);
  assertEquals(new Set(peer.asked.map(({ command }) => command)), new Set([Command.DMA_READ]));
  peer.assertServes();
});

peerTest("an answer may come in pieces", () => {
  using peer = new AskedPeer();
  peer.onAsked = (asked) => {
    for (const byte of peer.answer(asked)) peer.send(Uint8Array.of(byte));
    return true;
  };

  peer.storeThroughAperture(1);

  assertEquals([peer.memory[0x5008], peer.failures], [1, 0]);
  peer.assertServes();
});

peerTest("a load that comes before the answer is answered first", () => {
  using peer = new AskedPeer();
  const order: number[] = [];
  let question: Message;
  peer.session.pump = () => {
    const [sent] = parse(peer.session.takeOutput()!.slice());
    order.push(...sent.map(({ command }) => command));
    if (order.length === 1) {
      question = sent[0]!;
      peer.send(message(Command.REGION_READ, access(7, 0, 4), { id: 55 }));
    } else {
      assertEquals([sent[0]!.id, field(sent[0]!.body, 16, 32)], [55, 0x1912_8086]);
      peer.send(peer.answer(question));
    }
    return true;
  };

  peer.storeThroughAperture(7);

  assertEquals(order, [Command.DMA_WRITE, Command.REGION_READ]);
  assertEquals([peer.memory[0x5008], peer.replies()], [7, []]);
  peer.assertServes();
});

peerTest("posted stores that come before the answer wait, and are done in order after it", () => {
  using peer = new AskedPeer();
  peer.onAsked = (asked) => {
    peer.onAsked = () => false;
    const stores = [1, 2, 3].map((value) =>
      message(Command.REGION_WRITE, store(0, REGISTER, 4, value), POSTED)
    );
    peer.send(concat([...stores, peer.answer(asked)]));
    assertEquals(peer.served.device.vgpu.counters.bar0Writes, 1); // that of the entry
    return true;
  };

  peer.storeThroughAperture(7);

  assertEquals([peer.memory[0x5008], peer.failures, peer.load(0, REGISTER, 4)], [7, 0, 3]);
  peer.assertServes();
});

for (
  const [what, command, body] of [
    ["a load behind a posted store", Command.REGION_READ, access(0, REGISTER, 4)],
    ["a store that wants an answer", Command.REGION_WRITE, store(0, REGISTER, 4, 5)],
    ["a reset", Command.DEVICE_RESET, new Uint8Array(0)],
  ] as const
) {
  peerTest(`the question is given up when ${what} comes, and that is answered in order`, () => {
    using peer = new AskedPeer();
    let question: Message | undefined;
    peer.onAsked = (asked) => {
      question = asked;
      const first = message(Command.REGION_WRITE, store(0, REGISTER, 4, 4), POSTED);
      peer.send(concat([first, message(command, body, { id: 66 })]));
      return true;
    };

    peer.storeThroughAperture(7);

    const replies = peer.replies();
    assertEquals(replies.map(({ id, command: answered, errno }) => [id, answered, errno]), [[
      66,
      command,
      0,
    ]]);
    if (command === Command.REGION_READ) assertEquals(field(replies[0]!.body, 16, 32), 4);
    assertEquals(peer.failures, command === Command.DEVICE_RESET ? peer.failures : 1);
    peer.send(peer.answer(question!)); // late: dropped
    assertEquals(peer.replies(), []);
    peer.assertServes();
  });
}

peerTest("nothing is asked for when something that wants an answer waits already", () => {
  using peer = new AskedPeer();

  peer.send(concat([
    message(Command.REGION_WRITE, store(2, GMA, 4, 1), POSTED),
    message(Command.REGION_WRITE, store(0, REGISTER, 4, 5), { id: 2 }),
  ]));

  assertEquals([peer.asked.length, peer.failures], [0, 1]);
  assertEquals(peer.replies().map(({ id }) => id), [2]);
  peer.assertServes();
});

peerTest("a load that waits already is answered before the question is", () => {
  using peer = new AskedPeer();

  peer.send(concat([
    message(Command.REGION_WRITE, store(2, GMA, 4, 1), POSTED),
    message(Command.REGION_READ, access(7, 0, 4), { id: 2 }),
  ]));

  assertEquals(peer.asked.map(({ command }) => command), [Command.REGION_READ, Command.DMA_WRITE]);
  assertEquals([peer.failures, peer.memory[0x5000]], [0, 1]);
  peer.assertServes();
});

peerTest("an error as answer fails the access", () => {
  using peer = new AskedPeer();
  peer.onAsked = ({ id, command }) => {
    peer.send(message(command, undefined, { id, flags: 0x21, errno: 19 }));
    return true;
  };

  peer.storeThroughAperture(7);

  assertEquals(peer.failures, 1);
  peer.storeThroughAperture(7);
  assertEquals([peer.failures, peer.asked.length], [2, 2]); // it is asked again
  peer.assertServes();
});

peerTest("an answer of the wrong length or address fails the access", () => {
  using peer = new AskedPeer();
  const entries = new BigUint64Array(peer.memory.buffer);
  entries[512] = BigInt(2 * PAGE + 3);
  const wrong = [
    (asked: Message) => payload(asked.body.subarray(0, 16), new Uint8Array(7)),
    (asked: Message) =>
      payload(u64(0x7000), asked.body.subarray(8, 16), new Uint8Array(field(asked.body, 8, 64))),
    () => new Uint8Array(0),
  ];
  for (const [index, make] of wrong.entries()) {
    peer.onAsked = (
      asked,
    ) => (peer.send(message(asked.command, make(asked), { id: asked.id, flags: 1 })), true);
    peer.send(
      message(Command.REGION_WRITE_MULTI, storeMany([0, 0x78838, 8, PAGE], [0, 0x78818, 4, 4]), POSTED),
    );
    assertEquals(peer.asked.length, index + 1);
  }
  peer.assertServes();
});

peerTest("a VMM that does not answer in time is not asked again", () => {
  using peer = new AskedPeer();
  let question: Message | undefined;
  peer.onAsked = (asked) => {
    question = asked;
    peer.clock += DMA_TIMEOUT;
    return false;
  };

  peer.storeThroughAperture(1);
  peer.storeThroughAperture(2);

  assertEquals([peer.asked.length, peer.failures], [1, 2]);
  assertEquals(peer.deafness, ["the VMM does not answer: it is not asked for guest memory again"]);
  peer.send(peer.answer(question!));
  assertEquals(peer.replies(), []);
  peer.assertServes();
});

/** A tree of four tables in memory that is asked for, announced by one posted message. */
function announceTree(peer: AskedPeer): void {
  const entries = new BigUint64Array(peer.memory.buffer);
  for (const [table, next] of [[1, 2], [2, 3], [3, 4], [4, 5]] as const) {
    entries[table * 512] = BigInt(next * PAGE + 3);
  }
  peer.send(
    message(Command.REGION_WRITE_MULTI, storeMany([0, 0x78838, 8, PAGE], [0, 0x78818, 4, 4]), POSTED),
  );
}

peerTest("all questions of one message share its time, and the next message has its own", () => {
  using peer = new AskedPeer();
  peer.onAsked = (asked) => {
    peer.clock += 0.4 * DMA_TIMEOUT;
    peer.send(peer.answer(asked));
    return true;
  };
  const stores = Array.from({ length: 100 }, (_, i) => [2, GMA + 4 * i, 4, i + 1] as const);

  peer.send(message(Command.REGION_WRITE_MULTI, storeMany(...stores), POSTED));

  assertEquals([peer.asked.length, peer.failures], [3, 97]);
  peer.storeThroughAperture(7);
  assertEquals([peer.asked.length, peer.failures, peer.memory[0x5008]], [4, 97, 7]);
  assertEquals(peer.deafness, []);
  peer.assertServes();
});

peerTest("a tree whose tables are answered slowly holds the device no longer than one message may", () => {
  using peer = new AskedPeer();
  peer.onAsked = (asked) => {
    peer.clock += 0.9 * DMA_TIMEOUT;
    peer.send(peer.answer(asked));
    return true;
  };

  announceTree(peer);

  assertEquals(peer.asked.length, 2);
  assert(peer.clock < 2 * DMA_TIMEOUT);
  peer.assertServes();
});

peerTest(
  "a question that had only the rest of its message's time does not make a VMM one that never answers",
  () => {
    using peer = new AskedPeer();
    const waits: number[] = [];
    const pump = peer.session.pump!;
    peer.session.pump = (timeout) => (waits.push(timeout), pump(timeout));
    let isFirst = true;
    peer.onAsked = (asked) => {
      peer.clock += 0.75 * DMA_TIMEOUT;
      if (isFirst) peer.send(peer.answer(asked));
      else peer.clock += DMA_TIMEOUT;
      const goesOn = isFirst;
      isFirst = false;
      return goesOn;
    };

    peer.send(
      message(Command.REGION_WRITE_MULTI, storeMany([2, GMA, 4, 1], [2, GMA, 4, 2], [2, GMA, 4, 3]), POSTED),
    );
    assertEquals([waits, peer.failures], [[DMA_TIMEOUT, DMA_TIMEOUT / 4], 2]);
    peer.onAsked = (asked) => (peer.send(peer.answer(asked)), true);
    peer.storeThroughAperture(9);

    assertEquals([peer.asked.length, peer.memory[0x5008]], [3, 9]);
    assertEquals(peer.deafness, []);
    peer.assertServes();
  },
);

peerTest("a wait is never shorter than the time that is left", () => {
  using peer = new AskedPeer();
  const waits: number[] = [];
  peer.session.pump = (timeout) => {
    peer.session.takeOutput();
    waits.push(timeout);
    peer.clock += 999.75;
    return true;
  };

  peer.storeThroughAperture(1);

  assertEquals([waits, peer.failures], [[1000, 1], 1]);
});

peerTest("a VMM that leaves the second question of every message is not asked for ever", () => {
  using peer = new AskedPeer();
  let isAnswered = false;
  peer.onAsked = (asked) => {
    isAnswered = !isAnswered;
    if (isAnswered) peer.send(peer.answer(asked));
    else peer.clock += DMA_TIMEOUT;
    return isAnswered;
  };
  for (let i = 0; i < 200; i++) {
    peer.send(message(Command.REGION_WRITE_MULTI, storeMany([2, GMA, 4, 1], [2, GMA, 4, 2]), POSTED));
  }

  assert(peer.clock < 70 * DMA_TIMEOUT, `${peer.clock} ms`);
  assertEquals(peer.deafness.length, 1);
  peer.assertServes();
});

peerTest("the time for answers cannot be set: a clock that is does not make a VMM late", () => {
  const { now } = Date;
  let step = 0;
  Date.now = () => now() + step;
  using _restored = { [Symbol.dispose]: () => void (Date.now = now) };
  using peer = new SessionPeer();
  peer.ok(Command.DMA_MAP, dmaMap(0, RAM));
  peer.store(7, 0x04, 2, 0x6);
  peer.store(0, ENTRY, 8, 0x5001);
  peer.session.pump = () => {
    const question = parse(peer.session.takeOutput()!.slice())[0][0]!;
    step += 3_600_000;
    peer.send(message(question.command, question.body.subarray(0, 16), { id: question.id, flags: 1 }));
    return true;
  };

  const two = storeMany([2, GMA, 4, 1], [2, GMA, 4, 2]);
  peer.send(message(Command.REGION_WRITE_MULTI, two, POSTED));

  assertEquals(peer.served.device.vgpu.counters.badApertureAccesses, 0);
});

peerTest("a VMM that goes on sending other things cannot keep the device waiting", () => {
  using peer = new AskedPeer();
  let pumps = 0;
  peer.session.pump = () => {
    pumps++;
    peer.session.takeOutput();
    peer.clock += 10;
    peer.send(message(Command.REGION_WRITE, store(0, REGISTER, 4, pumps), POSTED));
    return true;
  };

  peer.storeThroughAperture(1);

  assertEquals([pumps, peer.failures, peer.load(0, REGISTER, 4)], [DMA_TIMEOUT / 10, 1, DMA_TIMEOUT / 10]);
  peer.assertServes();
});

peerTest("a VMM that sends more than is kept for later is not waited for", () => {
  using peer = new AskedPeer();
  const flood = concat(
    Array.from({ length: 1000 }, () => message(Command.REGION_WRITE, store(0, REGISTER, 8, 1), POSTED)),
  );
  let sent = 0;
  peer.session.pump = () => {
    peer.session.takeOutput();
    peer.send(flood);
    sent += flood.length;
    return true;
  };

  peer.storeThroughAperture(1);

  assert(sent < 2 * 1024 * 1024);
  assertEquals(peer.failures, 1);
  peer.assertServes();
});

peerTest("loads that come while the device waits cannot pile up answers", () => {
  using peer = new AskedPeer();
  const loads = concat(
    Array.from({ length: 100 }, () => message(Command.REGION_READ, access(0, 0x40_0000, 65536))),
  );
  let longest = 0;
  peer.onAsked = () => {
    peer.send(loads);
    return true;
  };

  peer.storeThroughAperture(1);

  let total = 0;
  for (let out = peer.session.takeOutput(); out !== null; out = peer.session.takeOutput()) {
    longest = Math.max(longest, out.length);
    total += out.length;
  }
  assert(longest < 512 * 1024);
  assertEquals([total, peer.failures], [100 * (65536 + 32), 1]);
});

peerTest("a VMM that goes while it is asked leaves nothing behind", () => {
  using peer = new AskedPeer();
  peer.onAsked = () => {
    peer.session.close(); // as a loop does whose socket broke
    assertEquals(peer.served.vmm, peer.session); // not before the message is done
    return false;
  };

  peer.send(concat([
    message(
      Command.REGION_WRITE_MULTI,
      storeMany([2, GMA, 4, 1], [2, GMA, 4, 2], [0, REGISTER, 4, 3]),
      POSTED,
    ),
    message(Command.REGION_READ, access(7, 0, 4)),
  ]));

  assertEquals(peer.asked.map(({ command }) => command), [Command.REGION_READ, Command.DMA_WRITE]);
  peer.assertEnded();
});

peerTest("descriptors that come while the device waits go with their message", () => {
  using peer = new AskedPeer();
  const eventfd = peer.descriptors.make();
  peer.onAsked = (asked) => {
    const body = payload(u64(0x24_0000_0014), u64(1), u64(1)).subarray(0, 20);
    peer.send(concat([peer.answer(asked), message(Command.DEVICE_SET_IRQS, body, { id: 3 })]), [eventfd]);
    return true;
  };

  peer.storeThroughAperture(1);

  assertEquals(peer.replies().map(({ id, errno }) => [id, errno]), [[3, 0]]);
  assertEquals([peer.descriptors.isEventfd(eventfd), peer.failures], [true, 0]);
  peer.session.end();
  peer.assertEnded();
});

peerTest("a reply to nothing that comes while the device waits ends the session", () => {
  using peer = new AskedPeer();
  peer.onAsked = ({ command }) => {
    peer.send(message(command, undefined, { id: 0x4444, flags: 1 }));
    return true;
  };

  peer.storeThroughAperture(1);

  peer.assertEnded();
});

peerTest("a message that is being handled stays as it is, however much comes meanwhile", () => {
  using peer = new AskedPeer();
  const stores = Array.from({ length: 100 }, (_, i) => [0, PLAIN + 8 * i, 8, i] as const);
  const multi = message(Command.REGION_WRITE_MULTI, storeMany([2, GMA, 4, 7], ...stores), POSTED);
  const later = Array.from(
    { length: 60 },
    (_, i) => message(Command.REGION_WRITE, store(0, PLAIN + 0x1000 + 8 * i, 8, i), POSTED),
  );
  peer.onAsked = (asked) => {
    peer.send(concat([...later, peer.answer(asked)]));
    return true;
  };

  // In two pieces, so that it is handled where the session keeps what is not whole.
  peer.send(multi.subarray(0, 100));
  peer.send(multi.subarray(100));

  assertEquals(stores.map(([, offset]) => peer.load(0, offset, 8)), stores.map(([, , , value]) => value));
  assertEquals(later.map((_, i) => peer.load(0, PLAIN + 0x1000 + 8 * i, 8)), later.map((_, i) => i));
  assertEquals([peer.memory[0x5000], peer.failures], [7, 0]);
});

peerTest("a store that waited may ask as well", () => {
  using peer = new AskedPeer();
  const through = (value: number) =>
    message(Command.REGION_WRITE, store(2, GMA + 4 * value, 4, value), POSTED);
  peer.onAsked = (asked) => {
    peer.onAsked = (next) => (peer.send(peer.answer(next)), true);
    peer.send(
      concat([through(1), message(Command.REGION_WRITE, store(0, REGISTER, 4, 5), POSTED), through(2)]),
    );
    peer.send(peer.answer(asked));
    return true;
  };

  peer.send(through(3));

  assertEquals([1, 2, 3].map((value) => peer.memory[0x5000 + 4 * value]), [1, 2, 3]);
  assertEquals([peer.asked.length, peer.failures, peer.load(0, REGISTER, 4)], [3, 0, 5]);
});

peerTest("an answer that comes late is not taken for that to the next question", () => {
  using peer = new AskedPeer();
  let late: Message | undefined;
  peer.onAsked = (asked) => {
    late = asked;
    return false;
  };
  peer.storeThroughAperture(1);
  const steps = [
    () => peer.send(peer.answer(late!)),
    () => peer.send(message(Command.DMA_WRITE, undefined, { id: late!.id + 1, flags: 0x21, errno: 5 })),
  ];
  peer.session.pump = () => {
    peer.session.takeOutput();
    steps.shift()!();
    return true;
  };

  peer.storeThroughAperture(2);

  assertEquals([steps.length, peer.failures], [0, 2]); // the second one failed by its own answer
  peer.assertServes();
});

peerTest("a question never has the id of one whose answer is still to come", () => {
  using peer = new AskedPeer();
  peer.onAsked = () => false;
  peer.storeThroughAperture(1);
  const unanswered = peer.asked[0]!.id;
  const body = store(2, GMA, 1, 0);
  const posted = message(Command.REGION_WRITE, body, POSTED);
  const ids = new Set<number>();
  peer.session.pump = () => {
    const question = peer.session.takeOutput()!;
    const id = field(question, 0, 16);
    ids.add(id);
    peer.session.receive(message(Command.DMA_WRITE, undefined, { id, flags: 1 }));
    return true;
  };

  for (let i = 0; i < 65_600; i++) peer.session.receive(posted);

  assertEquals([ids.size, ids.has(unanswered), peer.failures], [65_535, false, 1]);
});
