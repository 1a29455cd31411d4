// Seeded fuzzing of scan, decoder, session and client: nothing is thrown past them, what they say is well-formed, it does
// not depend on how the bytes are cut, and another peer of the same service notices nothing.

import { assert, assertEquals } from "@std/assert";
import { type ByteStream, Client } from "../../protocol/client.ts";
import { decode, encode } from "../../protocol/codec.ts";
import { ConnectionError, RpcError } from "../../protocol/errors.ts";
import { REQUEST_LIMITS } from "../../protocol/limits.ts";
import { parseEnvelope } from "../../protocol/messages.ts";
import { NEED_MORE, REFUSED, Scanner } from "../../protocol/scan.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";
import { Random } from "../model/random.ts";
import { FakeService } from "../unit/protocol_fake.ts";
import { decodeAll, messagesIn, takeAll } from "../unit/protocol_peer.ts";
import { concat } from "../unit/protocol_wire.ts";

const HELLO = encode([0, 0, "hello", [{ protocol: 1, role: "vmm" }]]);

/** Valid messages of many shapes; the first is hello. */
const CORPUS = [
  HELLO,
  ...[
    [0, 1, "mmio_read", [0, 0x78000, 4]],
    [2, "mmio_write", [0, 0x80_0000, 8, 0x8000_0000_0006_4003n]],
    [0, 200, "mmio_write_many", [0, [[0, 4, 1], [4, 4, 2 ** 32], [8, 8, 2n ** 64n - 1n]]]],
    [0, 70_000, "ram_map", [{ gpa: 0, size: 2 ** 21, path: "/dev/shm/ä", readonly: true, mfn: 2 ** 33 }]],
    [0, 2 ** 32 - 1, "mem_write", [4096, new Uint8Array(300).fill(0x91)]],
    [0, 5, "mm_create", [4, [65536, 0, 0, 0]]],
    [0, 6, "gma_to_gpa", ["ggtt", 2 ** 40]],
    [0, 7, "stats", []],
    [0, 8, "debug_init", [{ oos: false, nested: { list: [1, -1, null, true] } }]],
    [0, 9, "no_such_method", [{}]],
    [2, "reset", []],
  ].map(encode),
];

/** Bytes that few random bytes would contain: the first bytes of every kind of value. */
const TOKENS = [
  0x80,
  0x81,
  0x8f,
  0x90,
  0x91,
  0x94,
  0x9f,
  0xa0,
  0xa5,
  0xbf,
  0xc0,
  0xc1,
  0xc2,
  0xc4,
  0xc5,
  0xc6,
  0xc7,
  0xc9,
]
  .concat([
    0xca,
    0xcb,
    0xcc,
    0xcd,
    0xce,
    0xcf,
    0xd0,
    0xd3,
    0xd4,
    0xd6,
    0xd9,
    0xda,
    0xdb,
    0xdc,
    0xdd,
    0xde,
    0xdf,
    0xff,
  ]);

function randomBytes(random: Random, most: number): Uint8Array {
  return Uint8Array.from(
    { length: random.below(most) },
    () => random.chance(0.5) ? random.pick(TOKENS) : random.below(256),
  );
}

/** A message with a few bytes flipped, replaced, inserted, removed or repeated. */
function mutated(random: Random, message: Uint8Array): Uint8Array {
  const bytes = [...message];
  for (let n = 1 + random.below(3); n > 0; n--) {
    const at = random.below(bytes.length + 1);
    switch (random.below(5)) {
      case 0:
        if (at < bytes.length) bytes[at]! ^= 1 << random.below(8);
        break;
      case 1:
        if (at < bytes.length) bytes[at] = random.pick(TOKENS);
        break;
      case 2:
        bytes.splice(at, 0, random.pick(TOKENS));
        break;
      case 3:
        bytes.splice(at, random.below(4));
        break;
      default:
        bytes.splice(at, 0, ...bytes.slice(at, at + random.below(20)));
    }
  }
  return Uint8Array.from(bytes);
}

/** A stream of valid, damaged and random pieces; mostly it begins with hello. */
function randomStream(random: Random): Uint8Array {
  const pieces: Uint8Array[] = random.chance(0.9) ? [HELLO] : [];
  for (let n = random.below(12); n > 0; n--) {
    const message = random.pick(CORPUS);
    const kind = random.below(10);
    pieces.push(kind < 6 ? message : kind < 9 ? mutated(random, message) : randomBytes(random, 60));
  }
  return concat(...pieces);
}

/** What a fresh session says to a stream that is cut by `cut`, and what its service was asked. */
function converse(
  stream: Uint8Array,
  cut: () => number,
): { said: Uint8Array; service: FakeService; session: RpcSession } {
  const service = new FakeService();
  const session = new RpcSession(service, { id: 1 });
  const said: Uint8Array[] = [];
  for (let at = 0; at < stream.length;) {
    const next = Math.min(stream.length, at + cut());
    const piece = stream.slice(at, next);
    session.receive(piece);
    piece.fill(0xc1); // a loop reuses its buffer
    said.push(takeAll(session));
    at = next;
  }
  session.end();
  said.push(takeAll(session));
  return { said: concat(...said), service, session };
}

Deno.test("RpcSession says well-formed messages to any stream, and the same however it is cut", () => {
  const random = new Random(1);
  for (let round = 0; round < 3000; round++) {
    const stream = randomStream(random);
    const whole = converse(stream, () => stream.length);
    const single = converse(stream, () => 1);
    const cut = converse(stream, () => 1 + random.below(40));
    assertEquals(single.said, whole.said, `round ${round}`);
    assertEquals(cut.said, whole.said, `round ${round}`);
    assertEquals(cut.service.calls, whole.service.calls, `round ${round}`);
    assertEquals(cut.session.failedNotifications, whole.session.failedNotifications, `round ${round}`);
    assert(whole.session.isClosed && whole.service.vmm === null, `round ${round}`);
    for (const message of messagesIn(whole.said)) {
      const envelope = parseEnvelope(message);
      assert(envelope !== null && envelope[0] === 1, `round ${round}`);
      // No input may look like a bug of ours.
      if (envelope[2] !== null) assert(RpcError.fromWire(envelope[2]).code !== "EIO", `round ${round}`);
    }
  }
});

Deno.test("RpcSession leaves another peer of the service alone whatever a peer sends", () => {
  const random = new Random(2);
  const service = new FakeService();
  const vmm = new RpcSession(service, { id: 1 });
  vmm.receive(HELLO);
  decodeAll(vmm);
  service.records = false;
  for (let round = 0; round < 2000; round++) {
    const hostile = new RpcSession(service, { id: round + 2 });
    hostile.receive(randomStream(random));
    vmm.receive(encode([0, round, "mmio_write", [0, 8, 8, round]]));
    vmm.receive(encode([0, round, "mmio_read", [0, 8, 8]]));
    takeAll(hostile);
    hostile.end();
    assertEquals(decodeAll(vmm), [[1, round, null, null], [1, round, null, round]]);
    assertEquals(service.vmm, vmm);
  }
  assertEquals(service.peers.size, 1);
});

Deno.test("RpcSession carries out no message that was cut off at any byte", () => {
  for (const message of CORPUS.slice(1)) {
    for (let length = 1; length < message.length; length++) {
      const { said, service } = converse(concat(HELLO, message.subarray(0, length)), () => 1000);
      const [hello, last, ...more] = messagesIn(said) as [
        unknown[],
        [1, null, { code: string; message: string }],
      ];
      assertEquals([hello[1], last[1], last[2].code, more.length], [0, null, "EPROTO", 0]);
      assertEquals(service.calls, []);
    }
  }
});

Deno.test("what the scan passes the decoder reads to its end, and it survives a round trip", () => {
  const random = new Random(3);
  let passed = 0;
  for (let round = 0; round < 60_000; round++) {
    const bytes = random.chance(0.5) ? mutated(random, random.pick(CORPUS)) : randomBytes(random, 40);
    const scanner = new Scanner(REQUEST_LIMITS);
    const length = scanner.scan(bytes, 0, bytes.length);
    if (length === NEED_MORE || length === REFUSED || scanner.fault !== null) continue;
    const value = decode(bytes, 0, length); // throws if it reads less or more
    assertEquals(decode(encode(value)), value);
    passed++;
  }
  assert(passed > 10_000, String(passed));
});

Deno.test("Client ends with an error of its own kinds whatever a device sends", async () => {
  const random = new Random(4);
  for (let round = 0; round < 500; round++) {
    const pieces = [
      randomBytes(random, 60),
      mutated(random, encode([1, 0, null, { calls: 1 }])),
      randomBytes(random, 9),
    ];
    const stream: ByteStream = {
      read: (into) => {
        const piece = pieces.shift();
        if (piece === undefined) return Promise.resolve(null);
        into.set(piece);
        return Promise.resolve(piece.length);
      },
      write: (bytes) => Promise.resolve(bytes.length),
      close() {},
    };
    await using client = new Client(stream);
    try {
      await client.call("stats");
    } catch (error) {
      assert(error instanceof RpcError || error instanceof ConnectionError, `round ${round}: ${error}`);
    }
  }
});
