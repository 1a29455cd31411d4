import { assert, assertEquals } from "@std/assert";
import { encode } from "../../protocol/codec.ts";
import { REPLY_LIMITS, REQUEST_LIMITS, type ScanLimits } from "../../protocol/limits.ts";
import { NEED_MORE, peekCallId, peekType, REFUSED, Scanner } from "../../protocol/scan.ts";
import { fromHex } from "./protocol_wire.ts";

const SMALL: ScanLimits = { messageBytes: 64, depth: 3, elements: 8, stringBytes: 16, bytes: 32 };

/** What a fresh scanner says to bytes, and with which fault. */
function scan(hex: string, limits: ScanLimits = SMALL): [number, string | null] {
  const bytes = fromHex(hex);
  const scanner = new Scanner(limits);
  return [scanner.scan(bytes, 0, bytes.length), scanner.fault];
}

Deno.test("Scanner.scan() finds the end of a message when another one follows", () => {
  const first = encode([0, 1, "mmio_read", [0, 0x78000, 4]]);
  const bytes = new Uint8Array([...first, 0x93, 0x02]);
  const scanner = new Scanner(REQUEST_LIMITS);
  assertEquals(scanner.scan(bytes, 0, bytes.length), first.length);
  assertEquals(scanner.scan(bytes, first.length, bytes.length), NEED_MORE);
});

Deno.test("Scanner.scan() takes up where it stopped when the rest lies elsewhere", () => {
  const message = encode([2, "x", [{ a: [1, 2n ** 64n - 1n] }, "text", new Uint8Array(40)]]);
  const scanner = new Scanner(REQUEST_LIMITS);
  for (let end = 0; end < message.length; end++) {
    const elsewhere = new Uint8Array(200);
    elsewhere.set(message.subarray(0, end), end);
    assertEquals(scanner.scan(elsewhere, end, 2 * end), NEED_MORE, `${end} bytes`);
  }
  assertEquals(scanner.scan(message, 0, message.length), message.length);
});

Deno.test("Scanner.scan() reads each byte at most twice when they come one at a time", () => {
  const writes = Array.from({ length: 500 }, (_, i) => [i, 8, i]);
  const message = encode([0, 1, "mmio_write_many", [0, writes, "text".repeat(500), new Uint8Array(2000)]]);
  let reads = 0;
  const counted = new Proxy(message, {
    get(target, key) {
      if (typeof key === "string" && /^\d+$/.test(key)) reads++;
      return Reflect.get(target, key);
    },
  });
  const scanner = new Scanner(REQUEST_LIMITS);
  for (let end = 1; end < message.length; end++) assertEquals(scanner.scan(counted, 0, end), NEED_MORE);
  assertEquals(scanner.scan(counted, 0, message.length), message.length);
  assert(reads <= 2 * message.length, `${reads} reads of ${message.length} bytes`);
});

Deno.test("Scanner.scan() accepts every value at its limit and refuses it one above", () => {
  assertEquals(scan("919190"), [3, null]);
  assertEquals(scan("91919190"), [REFUSED, "depth"]);
  assertEquals(scan("980000000000000000"), [9, null]);
  assertEquals(scan("99"), [REFUSED, "elements"]);
  assertEquals(scan("84a001a001a001a001"), [9, null]);
  assertEquals(scan("85"), [REFUSED, "elements"]);
  assertEquals(scan("b0" + "61".repeat(16)), [17, null]);
  assertEquals(scan("b1"), [REFUSED, "string"]);
  assertEquals(scan("c420" + "00".repeat(32)), [34, null]);
  assertEquals(scan("c421"), [REFUSED, "bytes"]);
});

Deno.test("Scanner.scan() refuses a message longer than its limit as soon as that is certain", () => {
  const two = "92c41e" + "00".repeat(30);
  assertEquals(scan(two + "c41d" + "00".repeat(29)), [64, null]);
  assertEquals(scan(two + "c41e"), [REFUSED, "length"]);
  // Seven elements to come are at least seven bytes.
  assertEquals(scan("93c41e" + "00".repeat(30) + "c419" + "00".repeat(25) + "95"), [REFUSED, "length"]);
});

Deno.test("Scanner.scan() counts elements of all arrays and maps together", () => {
  assertEquals(scan("9293000000930000 00"), [9, null]);
  assertEquals(scan("92930000009400"), [REFUSED, "elements"]);
  assertEquals(scan("91839081a0"), [REFUSED, "elements"]);
});

Deno.test("Scanner.scan() counts elements anew for each message", () => {
  const scanner = new Scanner(SMALL);
  const message = fromHex("980000000000000000");
  assertEquals(scanner.scan(message, 0, 9), 9);
  assertEquals(scanner.scan(message, 0, 9), 9);
});

Deno.test("Scanner.scan() tells a flaw and the message's end, and forgets it with the next message", () => {
  const scanner = new Scanner(SMALL);
  const flawed = fromHex("91ca00000000");
  assertEquals(scanner.scan(flawed, 0, 6), 6);
  assertEquals(scanner.fault, "float");
  assertEquals(scanner.scan(fromHex("90"), 0, 1), 1);
  assertEquals(scanner.fault, null);
});

Deno.test("Scanner.scan() tells the first flaw when there are several", () => {
  assertEquals(scan("92a1ffca00000000"), [8, "utf8"]);
});

Deno.test("Scanner.scan() takes a string in a map's value place for no key, and one in an inner map for one", () => {
  assertEquals(scan("82a161a162a163a164"), [9, null]);
  assertEquals(scan("81a16181a162a163"), [8, null]);
  assertEquals(scan("82a1619000a162"), [7, "key"]);
});

Deno.test("Scanner.scan() stays refused after a fatal fault", () => {
  const scanner = new Scanner(SMALL);
  assertEquals(scanner.scan(fromHex("c1"), 0, 1), REFUSED);
  assertEquals(scanner.scan(fromHex("90"), 0, 1), REFUSED);
  assertEquals(scanner.fault, "reserved");
});

Deno.test("Scanner.scan() accepts all of Unicode's code points and what a strict decoder accepts only", () => {
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const seconds = [0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0];
  const texts: number[][] = [];
  for (let lead = 0; lead < 256; lead++) {
    texts.push([lead]);
    for (const second of seconds) {
      texts.push([lead, second]);
      for (const third of [0x7f, 0x80, 0xbf, 0xc0]) {
        texts.push([lead, second, third], [lead, second, third, 0x80]);
      }
    }
  }
  for (const text of texts) {
    const scanner = new Scanner(SMALL);
    const message = new Uint8Array([0xa0 | text.length, ...text]);
    assertEquals(scanner.scan(message, 0, message.length), message.length);
    assertEquals(scanner.fault === null, isAccepted(strict, message.subarray(1)), String(text));
  }
});

function isAccepted(decoder: TextDecoder, bytes: Uint8Array): boolean {
  try {
    decoder.decode(bytes);
    return true;
  } catch {
    return false;
  }
}

Deno.test("a client's limits let pass what a device refuses", () => {
  assertEquals(scan("91".repeat(10) + "90", REQUEST_LIMITS), [REFUSED, "depth"]);
  assertEquals(scan("91".repeat(10) + "90", REPLY_LIMITS), [11, null]);
});

Deno.test("peekCallId() finds the id of a call in every unsigned form and in both array forms", () => {
  const id = (hex: string) => peekCallId(fromHex(hex), 0, fromHex(hex).length);
  assertEquals(id("940005"), 5);
  assertEquals(id("9400cc80"), 128);
  assertEquals(id("9400cd0100"), 256);
  assertEquals(id("9400ceffffffff"), 0xffff_ffff);
  assertEquals(id("dc00040007"), 7);
  assertEquals(id("dd000000040007"), 7);
});

Deno.test("peekCallId() finds none where there is none", () => {
  const id = (hex: string) => peekCallId(fromHex(hex), 0, fromHex(hex).length);
  for (const hex of ["", "c1", "94", "9400", "9400cd01", "9400a161", "9400ff", "940105", "9302a0"]) {
    assertEquals(id(hex), null, hex);
  }
});

Deno.test("peekType() tells calls, responses and notifications from the rest", () => {
  const type = (hex: string) => peekType(fromHex(hex), 0, fromHex(hex).length);
  assertEquals([type("9400"), type("9401"), type("9302"), type("dc000302")], [0, 1, 2, 2]);
  assertEquals([type("9403"), type("94"), type("00"), type("")], [null, null, null, null]);
});
