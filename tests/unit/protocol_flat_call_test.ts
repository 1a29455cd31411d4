import { assert, assertEquals } from "@std/assert";
import { decode, encode } from "../../protocol/codec.ts";
import { FlatCall } from "../../protocol/flat_call.ts";
import { REQUEST_LIMITS } from "../../protocol/limits.ts";
import { parseEnvelope } from "../../protocol/messages.ts";
import { checkParams, findMethod, METHODS } from "../../protocol/methods.ts";
import { Scanner } from "../../protocol/scan.ts";
import { Random } from "../model/random.ts";
import { FakeService } from "./protocol_fake.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";
import { concat, fromHex } from "./protocol_wire.ts";

const HELLO = encode([0, 0, "hello", [{ protocol: 1, role: "vmm" }]]);
const NAMES = Object.keys(METHODS);

/** Whether a message is read, and as what. */
function read(bytes: Uint8Array): unknown[] | null {
  const flat = new FlatCall();
  if (flat.read(bytes, 0, bytes.length) === 0) return null;
  return flat.id === null ? [2, flat.method, flat.params] : [0, flat.id, flat.method, flat.params];
}

/** Whether the general way takes a message: it is well formed, and its parameters are what they have to be. */
function general(bytes: Uint8Array): unknown {
  const scanner = new Scanner(REQUEST_LIMITS);
  assertEquals([scanner.scan(bytes, 0, bytes.length), scanner.fault], [bytes.length, null]);
  const message = decode(bytes);
  const envelope = parseEnvelope(message)!;
  const [method, params] = envelope[0] === 0 ? [envelope[2], envelope[3]] : [envelope[1], envelope[2]];
  checkParams(method as string, findMethod(method as string)!, params);
  return message;
}

/** An integer in a form of the wire that it fits into, mostly the shortest. */
function integer(random: Random, value: number): Uint8Array<ArrayBuffer> {
  const forms = [[0xcc, 1], [0xcd, 2], [0xce, 4], [0xcf, 8]] as const;
  const fitting = forms.filter(([, size]) => value < 256 ** size);
  if (random.chance(0.7)) return encode(value);
  const [token, size] = random.pick(fitting);
  const bytes = new Uint8Array(9);
  bytes[0] = token;
  const view = new DataView(bytes.buffer);
  view.setBigUint64(1, BigInt(value) << BigInt(64 - 8 * size));
  return bytes.slice(0, 1 + size);
}

function value(random: Random): number {
  const size = random.pick([1, 2, 4, 8, 0x7f, 0x80, 0xff, 0x1_0000, 2 ** 32, 2 ** 40, 2 ** 52]);
  return random.chance(0.3) ? size - 1 : random.chance(0.3) ? size : random.below(size);
}

/** A call or notification of any method with any number of integers. */
function anyFlat(random: Random): Uint8Array<ArrayBuffer> {
  const name = random.chance(0.5) ? random.pick(["mmio_read", "mmio_write"]) : random.pick(NAMES);
  const isCall = random.chance(0.5);
  const count = random.chance(0.9) ? findMethod(name)!.params.length : random.below(6);
  const params = Array.from({ length: count }, () => integer(random, value(random)));
  return concat(
    isCall ? concat(Uint8Array.of(0x94, 0), integer(random, random.below(2 ** 32))) : Uint8Array.of(0x93, 2),
    encode(name),
    Uint8Array.of(0x90 | count),
    ...params,
  );
}

Deno.test("FlatCall.read() reads a guest's loads and stores", () => {
  for (
    const message of [
      [0, 0, "mmio_read", [0, 0x78000, 4]],
      [0, 0xffff_ffff, "mmio_read", [8, 2 ** 52 - 1, 8]],
      [2, "mmio_write", [0, 0x80_0000, 8, 2 ** 53 - 1]],
      [0, 1, "stats", []],
    ]
  ) assertEquals(read(encode(message)), message);
});

Deno.test("FlatCall.read() leaves alone what is not one of these, or not valid", () => {
  for (
    const message of [
      [0, 2 ** 32, "mmio_read", [0, 0, 4]], // an id that is none
      [0, 1, "mmio_read", [9, 0, 4]],
      [0, 1, "mmio_read", [0, 2 ** 52, 4]],
      [0, 1, "mmio_read", [0, 0, 3]],
      [0, 1, "mmio_read", [0, -1, 4]],
      [0, 1, "mmio_read", [0, 4]],
      [0, 1, "mmio_write", [0, 0, 8, 2n ** 53n]],
      [0, 1, "mmio_reap", [0, 0, 4]],
      [0, 1, "constructor", []],
      [0, 1, "", []],
      [0, 1, "gma_to_gpa", ["ggtt", 0]],
      [1, 1, null, 5],
      [2, "mem_write", [0, new Uint8Array(8)]],
      ["mmio_read"],
      7,
    ]
  ) {
    assertEquals(
      read(encode(message)),
      null,
      JSON.stringify(message, (_, v) => typeof v === "bigint" ? `${v}` : v),
    );
  }
});

Deno.test("FlatCall.read() leaves alone what is not all there", () => {
  const message = encode([0, 70_000, "mmio_write", [0, 0x80_0000, 8, 2 ** 40]]);
  for (let end = 0; end < message.length; end++) assertEquals(read(message.subarray(0, end)), null, `${end}`);
  // What lies behind the end does not count either.
  const flat = new FlatCall();
  for (let end = 0; end < message.length; end++) assertEquals(flat.read(message, 0, end), 0, `${end}`);
});

Deno.test("FlatCall.read() leaves a float and an extension alone", () => {
  for (const value of ["ca40000000", "cb4000000000000000", "d40105", "d0ff", "c0", "c2", "c1"]) {
    const message = concat(
      fromHex("9400 01 a9"),
      new TextEncoder().encode("mmio_read"),
      fromHex(`930000${value}`),
    );
    assertEquals(read(message), null, value);
  }
});

Deno.test("FlatCall.read() reads nothing in another way than the general way does", () => {
  const random = new Random(0xf1a7);
  let count = 0;
  for (let i = 0; i < 20_000; i++) {
    const message = anyFlat(random);
    const flat = read(message);
    if (flat === null) continue;
    count++;
    assertEquals(flat, general(message));
  }
  assert(count > 1000, `only ${count} messages were read`);
});

Deno.test("RpcSession answers flat messages, also broken ones, the same however they are cut", () => {
  // One that comes in two pieces goes the general way.
  const random = new Random(0xc07);
  for (let i = 0; i < 500; i++) {
    const messages = Array.from({ length: 1 + random.below(4) }, () => {
      const message = anyFlat(random);
      if (random.chance(0.3)) message[random.below(message.length)] = random.below(256);
      return message;
    });
    const stream = concat(HELLO, ...messages);
    const whole = new RpcSession(new FakeService(), { id: 1 });
    const cut = new RpcSession(new FakeService(), { id: 1 });
    whole.receive(stream);
    for (let at = 0; at < stream.length; at++) cut.receive(stream.subarray(at, at + 1));
    assertEquals(whole.takeOutput()?.slice(), cut.takeOutput()?.slice());
    assertEquals([whole.isClosing, whole.failedNotifications], [cut.isClosing, cut.failedNotifications]);
  }
});
