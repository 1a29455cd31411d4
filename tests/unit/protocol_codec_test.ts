import { assertEquals, assertThrows } from "@std/assert";
import { Packr } from "msgpackr";
import { decode, encode } from "../../protocol/codec.ts";
import { RpcError } from "../../protocol/errors.ts";
import { REQUEST_LIMITS } from "../../protocol/limits.ts";
import { NEED_MORE, REFUSED, Scanner } from "../../protocol/scan.ts";
import { Writer } from "../../protocol/writer.ts";
import { toHex } from "./protocol_wire.ts";

const TINY = { messageBytes: 64, depth: 3, elements: 8, stringBytes: 16, bytes: 32 };

Deno.test("encode() writes integers in their shortest form", () => {
  const forms = [
    [0, "00"],
    [-0, "00"],
    [127, "7f"],
    [128, "cc80"],
    [255, "ccff"],
    [256, "cd0100"],
    [65535, "cdffff"],
    [65536, "ce00010000"],
    [2 ** 32 - 1, "ceffffffff"],
    [2 ** 32, "cf0000000100000000"],
    [2 ** 53, "cf0020000000000000"],
    [2n ** 63n, "cf8000000000000000"],
    [2n ** 64n - 1n, "cfffffffffffffffff"],
    [5n, "05"],
    [-1, "ff"],
    [-32, "e0"],
    [-33, "d0df"],
    [-128, "d080"],
    [-129, "d1ff7f"],
    [-32768, "d18000"],
    [-32769, "d2ffff7fff"],
    [-(2 ** 31), "d280000000"],
    [-(2 ** 31) - 1, "d3ffffffff7fffffff"],
    [-(2n ** 63n), "d38000000000000000"],
    [-22n, "ea"],
  ] as const;
  for (const [value, hex] of forms) assertEquals(toHex(encode(value)), hex, String(value));
});

Deno.test("encode() writes what msgpackr writes, for values that msgpackr writes in the shortest form", () => {
  const packr = new Packr({ useRecords: false });
  const values = [
    null,
    true,
    false,
    "",
    "x".repeat(31),
    "x".repeat(32),
    "x".repeat(256),
    "x".repeat(65535),
    "ä",
    "\u{1f5a5} in a string that is not short",
    new Uint8Array(0),
    new Uint8Array(255),
    new Uint8Array(256),
    new Uint8Array(65536),
    Array.from({ length: 15 }, (_, i) => i),
    Array.from({ length: 16 }, (_, i) => i),
    Array.from({ length: 65536 }, () => 1),
  ];
  for (const value of values) assertEquals(toHex(encode(value)), toHex(packr.pack(value)));
});

Deno.test("decode() gives back what encode() wrote", () => {
  const value = {
    list: [1, -1, 2n ** 63n, "text", null, true, [[]], {}],
    bytes: Uint8Array.of(1, 2, 3),
    [`a name of more than ${"thirty-one".padEnd(40)} characters`]: "ü",
    ...Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`k${i}`, i])),
  };
  assertEquals(decode(encode(value)), value);
});

Deno.test("decode() gives numbers as far as they are exact and bigints beyond", () => {
  assertEquals(decode(encode(2 ** 53 - 1)), 2 ** 53 - 1);
  assertEquals(decode(encode(2n ** 53n + 1n)), 2n ** 53n + 1n);
  assertEquals(decode(encode(-(2n ** 53n) - 1n)), -(2n ** 53n) - 1n);
});

Deno.test("decode() gives bytes that outlive the buffer", () => {
  const message = encode([new Uint8Array([1, 2, 3])]);
  const [bytes] = decode(message) as [Uint8Array];
  message.fill(0xff);
  assertEquals(bytes, Uint8Array.of(1, 2, 3));
  assertEquals(bytes.constructor, Uint8Array);
});

Deno.test("decode() reads a message in the middle of a buffer", () => {
  const message = encode(["mmio_read", "a string of more than sixteen characters", { key: 1 }]);
  const buffer = new Uint8Array(1000).fill(0xc1);
  buffer.set(message, 500);
  assertEquals(decode(buffer, 500, 500 + message.length), decode(message));
});

Deno.test("decode() lets a map set no prototype and takes the last of equal keys", () => {
  const hostile = Uint8Array.of(
    0x82,
    0xa9,
    ...new TextEncoder().encode("__proto__"),
    0x81,
    0xa1,
    0x78,
    1,
    0xa1,
    0x79,
    2,
  );
  const map = decode(hostile) as Record<string, unknown>;
  assertEquals(Object.getPrototypeOf(map), Object.prototype);
  assertEquals([map.x, map.y, ({} as Record<string, unknown>).x], [undefined, 2, undefined]);
  assertEquals(decode(Uint8Array.of(0x82, 0xa1, 0x61, 1, 0xa1, 0x61, 2)), { a: 2 });
});

Deno.test("encode() leaves out undefined fields and writes other undefined values as nil", () => {
  assertEquals(decode(encode({ a: undefined, b: [undefined] })), { b: [null] });
});

Deno.test("encode() refuses what the protocol does not carry", () => {
  const values = [
    1.5,
    NaN,
    Infinity,
    -0.5,
    2 ** 53 + 2,
    -(2 ** 53) - 2,
    2n ** 64n,
    -(2n ** 63n) - 1n,
    new Date(0),
    new Map(),
  ];
  for (const value of [...values, Symbol("s"), () => 1]) {
    assertThrows(() => encode([value]), TypeError, "Cannot encode", String(value));
  }
});

Deno.test("encode() replaces lone surrogates, so that every string it writes is UTF-8", () => {
  assertEquals(decode(encode("a\ud800b")), "a\ufffdb");
});

Deno.test("Writer writes messages one after another", () => {
  const writer = new Writer(REQUEST_LIMITS);
  writer.request(1, "a", [1]);
  writer.notification("b", []);
  writer.response(2, undefined);
  writer.error(null, new RpcError("EPROTO", "m"));
  assertEquals(
    toHex(writer.written),
    "940001a1619101" + "9302a16290" + "940102c0c0" +
      "9401c084a4636f6465a64550524f544fa56572726e6f47a76d657373616765a16da464617461c0c0",
  );
});

Deno.test("Writer leaves no trace of a message that cannot be written", () => {
  const writer = new Writer(TINY);
  writer.notification("a", []);
  const { length } = writer;
  assertThrows(() => writer.request(1, "b", [1.5]), TypeError);
  assertEquals(writer.length, length);
  writer.notification("c", []);
  assertEquals(toHex(writer.written), "9302a161909302a16390");
});

Deno.test("Writer writes nothing that a scanner with its limits refuses, and everything else", () => {
  const fits = [
    ["x".repeat(16)],
    [new Uint8Array(32)],
    [[]],
    [0, 1, 2, 3, 4],
  ];
  for (const params of fits) {
    const writer = new Writer(TINY);
    writer.notification("n", params);
    assertEquals(new Scanner(TINY).scan(writer.written, 0, writer.length), writer.length);
  }
  const refused = [
    ["x".repeat(17)],
    [new Uint8Array(33)],
    [[[]]],
    [0, 1, 2, 3, 4, 5],
    [new Uint8Array(30), new Uint8Array(30)],
    [{ a: 1, b: 2, c: 3 }],
  ];
  for (const params of refused) {
    const writer = new Writer(TINY);
    const error = assertThrows(() => writer.notification("n", params), RpcError);
    assertEquals(error.code, "E2BIG");
    assertEquals(writer.length, 0);
  }
});

Deno.test("Writer keeps to the byte limit when its buffer is larger", () => {
  const writer = new Writer({ ...REQUEST_LIMITS, messageBytes: 100 });
  writer.notification("n", [new Uint8Array(80)]);
  assertThrows(() => writer.notification("n", [new Uint8Array(98)]), RpcError, "length");
});

Deno.test("Writer does not grow for what it will refuse", () => {
  const writer = new Writer({ ...REQUEST_LIMITS, messageBytes: 1024 * 1024 });
  const megabytes = new Array(50).fill(new Uint8Array(1024 * 1024));
  assertThrows(() => writer.notification("n", megabytes), RpcError, "length");
  assertEquals(writer.written.buffer.byteLength <= 2 * 1024 * 1024, true);
});

Deno.test("Writer.written ends where a message does, however the buffer grew", () => {
  const writer = new Writer(REQUEST_LIMITS);
  for (let i = 0; i < 5000; i++) writer.request(i, "mem_write", [i * 4096, Uint8Array.of(i, i >> 8)]);
  const scanner = new Scanner(REQUEST_LIMITS);
  let at = 0;
  for (let i = 0; i < 5000; i++) {
    const length = scanner.scan(writer.written, at, writer.length);
    assertEquals(length !== NEED_MORE && length !== REFUSED, true);
    const message = decode(writer.written, at, at + length);
    assertEquals(message, [0, i, "mem_write", [i * 4096, Uint8Array.of(i, i >> 8)]]);
    at += length;
  }
  assertEquals(at, writer.length);
});

Deno.test("Writer.clear() empties and gives a large buffer back", () => {
  const writer = new Writer(REQUEST_LIMITS);
  writer.notification("n", [new Uint8Array(2 * 1024 * 1024)]);
  writer.clear();
  assertEquals(writer.length, 0);
  assertEquals(writer.written.buffer.byteLength < 100_000, true);
});
