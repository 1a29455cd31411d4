// What a peer declares costs nothing; what it sends costs no more than the limits say.

import { assert, assertEquals } from "@std/assert";
import { encode } from "../../protocol/codec.ts";
import { MAX_WRITES, REQUEST_LIMITS } from "../../protocol/limits.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";
import { FakeService } from "../unit/protocol_fake.ts";
import { decodeAll, takeAll } from "../unit/protocol_peer.ts";
import { concat, fromHex } from "../unit/protocol_wire.ts";

const HELLO = encode([0, 0, "hello", [{ protocol: 1, role: "vmm" }]]);
const MIB = 1024 * 1024;

/** Memory outside of the heap, where buffers are, in bytes. */
const buffers = () => Deno.memoryUsage().external;

function opened(): [RpcSession, FakeService] {
  const service = new FakeService();
  service.records = false;
  const session = new RpcSession(service, { id: 1 });
  session.receive(HELLO);
  decodeAll(session);
  return [session, service];
}

Deno.test("a declared length costs no memory before its bytes come", () => {
  const before = buffers();
  const sessions = Array.from({ length: 500 }, () => {
    const [session] = opened();
    // mem_write of 2 MiB, of which ten bytes arrive.
    session.receive(fromHex("940001a96d656d5f7772697465" + "9200c600200000" + "00".repeat(10)));
    return session;
  });
  assert(buffers() - before < 50 * MIB, `${(buffers() - before) / MIB} MiB`);
  assertEquals(sessions.every((session) => session.wantsInput), true);
});

Deno.test("bombs are refused with their first bytes", () => {
  const bombs = [
    "91".repeat(9),
    "81a178".repeat(9),
    "9400010000ddffffffff".replace("0000", ""),
    "dfffffffff",
    "940001dbffffffff",
    "940001c6ffffffff",
    "940001c9ffffffff",
  ];
  for (const bomb of bombs) {
    const [session] = opened();
    session.receive(fromHex(bomb));
    const [[type, , error]] = decodeAll(session) as [[number, unknown, { code: string }]];
    assertEquals([type, session.isClosed], [1, true], bomb);
    assert(error.code === "EPROTO" || error.code === "EMSGSIZE", bomb);
  }
});

Deno.test("a message of the largest size is taken in pieces, its buffer is given back, and one byte more is refused", () => {
  const [session] = opened();
  const data = new Uint8Array(2 * MIB - 64);
  const largest = encode([0, 1, "debug_init", [{ a: data, b: data }]]);
  assert(largest.length < REQUEST_LIMITS.messageBytes && largest.length > REQUEST_LIMITS.messageBytes - 256);
  const before = buffers();
  for (let at = 0; at < largest.length; at += 60_000) session.receive(largest.slice(at, at + 60_000));
  assertEquals((decodeAll(session) as [[1, number, { code: string }]])[0][2].code, "ENOSYS");
  assert(buffers() - before < 40 * MIB);

  const more = fromHex("940001aa64656275675f696e697491" + "82a161c6001fffff");
  session.receive(concat(more, new Uint8Array(2 * MIB - 1), fromHex("a162c600200000")));
  assertEquals((decodeAll(session) as [[1, number, { code: string }]])[0][2].code, "EMSGSIZE");
  assertEquals(session.isClosed, true);
});

Deno.test("a long stream of posted writes is held nowhere", () => {
  const [session] = opened();
  const piece = concat(
    ...Array.from({ length: 2000 }, (_, i) => encode([2, "mmio_write", [0, 8, 8, 2n ** 63n + BigInt(i)]])),
  );
  const before = buffers();
  for (let i = 0; i < 300; i++) session.receive(piece.subarray(0, piece.length));
  assert(buffers() - before < 20 * MIB, `${(buffers() - before) / MIB} MiB`);
  assertEquals(takeAll(session).length, 0);
});

Deno.test("the widest call and the most elements are taken in well under a second", () => {
  const [session] = opened();
  const writes = Array.from({ length: MAX_WRITES }, (_, i) => [8 * i, 8, i]);
  const elements = Array.from({ length: REQUEST_LIMITS.elements - 10 }, () => []);
  const start = performance.now();
  session.receive(encode([0, 1, "mmio_write_many", [0, writes]]));
  session.receive(encode([0, 2, "debug_init", elements]));
  assert(performance.now() - start < 1000);
  assertEquals((decodeAll(session) as [1, number][]).map(([, id]) => id), [1, 2]);
});

Deno.test("a large message that comes byte by byte costs time in proportion to its length", () => {
  const [session] = opened();
  const message = encode([0, 1, "mem_write", [0, new Uint8Array(500_000)]]);
  const start = performance.now();
  for (let at = 0; at < message.length; at++) session.receive(message.subarray(at, at + 1));
  assert(performance.now() - start < 2000, `${performance.now() - start} ms`);
  assertEquals(decodeAll(session), [[1, 1, null, 0]]);
});
