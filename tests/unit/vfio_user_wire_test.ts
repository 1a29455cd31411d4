import { assertEquals } from "@std/assert";
import {
  getU16,
  getU32,
  getU64,
  HEADER_BYTES,
  MAX_VERSION_REPLY_BYTES,
  parseVersion,
  putU16,
  putU32,
  putU64,
  versionReply,
} from "../../protocol/vfio_user.ts";
import { VfioUserInput } from "../../src/server/vfio_user_input.ts";

function offer(text: string): Uint8Array {
  return Uint8Array.of(0, 0, 3, 0, ...new TextEncoder().encode(text));
}

Deno.test("parseVersion() takes what is not said for the protocol's defaults", () => {
  const expected = { major: 0, minor: 3, maxDataTransfer: 1024 * 1024 };

  assertEquals(parseVersion(offer("")), expected);
  assertEquals(parseVersion(offer("{}\0")), expected);
  assertEquals(parseVersion(offer('{"capabilities":{"max_msg_fds":8,"other":{}}}\0')), expected);
});

Deno.test("parseVersion() says what is wrong", () => {
  assertEquals(parseVersion(Uint8Array.of(0, 0, 0)), "the version is not whole");
  assertEquals(parseVersion(offer("{}")), "the version text does not end with NUL");
  assertEquals(parseVersion(offer("{\0")), "the version text is no JSON");
  assertEquals(parseVersion(offer("[]\0")), "the version text is no JSON object");
  assertEquals(parseVersion(offer('{"capabilities":1}\0')), "capabilities are no JSON object");
  assertEquals(
    parseVersion(offer('{"capabilities":{"max_msg_fds":-1}}\0')),
    "max_msg_fds is no number of descriptors",
  );
  assertEquals(
    parseVersion(offer('{"capabilities":{"max_data_xfer_size":0}}\0')),
    "max_data_xfer_size is no number of bytes",
  );
  assertEquals(
    parseVersion(offer('{"capabilities":{"write_multiple":0}}\0')),
    "write_multiple is no boolean",
  );
});

Deno.test("versionReply() fits where QEMU puts it, and is a version itself", () => {
  const reply = versionReply();

  assertEquals(HEADER_BYTES + reply.length <= MAX_VERSION_REPLY_BYTES, true);
  assertEquals(parseVersion(reply), { major: 0, minor: 0, maxDataTransfer: 65536 });
});

Deno.test("fields are little endian and have no sign", () => {
  const bytes = new Uint8Array(16).fill(0xaa);

  putU16(bytes, 0, 0x8102);
  putU32(bytes, 2, 0x87654321);
  putU64(bytes, 6, 0x1f_ffff_ffff_fff0);

  assertEquals(bytes.toHex(), "0281" + "21436587" + "f0ffffffffff1f00" + "aaaa");
  assertEquals([getU16(bytes, 0), getU32(bytes, 2), getU64(bytes, 6)], [
    0x8102,
    0x87654321,
    0x1f_ffff_ffff_fff0,
  ]);
  assertEquals(getU64(new Uint8Array(8).fill(0xff), 0), 2 ** 64);
});

/** A stream of messages of 64 bytes, whose ids count up. */
function stream(first: number, count: number): Uint8Array {
  const bytes = new Uint8Array(64 * count);
  for (let i = 0; i < count; i++) {
    putU16(bytes, 64 * i, first + i);
    putU32(bytes, 64 * i + 4, 64);
  }
  return bytes;
}

Deno.test("an input that is in use stays small, however much comes and is handled meanwhile", () => {
  const input = new VfioUserInput();
  const piece = 16;
  const buffer = new Uint8Array(64 * piece);
  let largest = 0;
  let handled = 0;
  input.add(stream(0, 1), 64, [], false);
  input.consume(64);
  const inUse = input.bytes;

  for (let next = 1; next < 60_000; next += piece) {
    buffer.set(stream(next, piece));
    input.add(buffer, buffer.length, [], true);
    buffer.fill(0xee);
    largest = Math.max(largest, input.bytes.length);
    // One message is always left, as when the last one is not whole yet.
    while (input.length > 64) {
      assertEquals([input.peek(0), input.idAt(0)], [64, ++handled]);
      input.consume(64);
    }
  }

  assertEquals(handled > 59_000, true);
  assertEquals(largest, 4096);
  assertEquals([getU16(inUse, 0), getU32(inUse, 4)], [0, 64]); // nobody wrote over it
});

Deno.test("an input that is in use never moves what was handed out", () => {
  const input = new VfioUserInput();
  const handedOut: (readonly [bytes: Uint8Array, at: number, id: number])[] = [];

  for (let next = 0; next < 2000; next += 5) {
    input.add(stream(next, 5), 320, [], next > 0);
    while (input.length > 128) {
      handedOut.push([input.bytes, input.at, input.idAt(0)]);
      input.consume(64);
    }
  }

  assertEquals(handedOut.map(([bytes, at]) => getU16(bytes, at)), handedOut.map(([, , id]) => id));
  assertEquals(handedOut.map(([, , id]) => id), Array.from({ length: 1998 }, (_, i) => i));
});

Deno.test("an input that is in use holds as much as waits, with room for as much again", () => {
  const input = new VfioUserInput();
  let largest = 0;

  for (let next = 0; next < 16_000; next += 16) {
    input.add(stream(next, 16), 1024, [], next > 0);
    largest = Math.max(largest, input.bytes.length / (input.length + 4096));
  }

  assertEquals(input.length, 16_000 * 64);
  assertEquals(largest <= 2, true, `${largest} times as much as waits`);
  for (let id = 0; id < 16_000; id++) {
    if (input.idAt(0) !== id) throw new Error(`message ${input.idAt(0)} instead of ${id}`);
    input.consume(64);
  }
});
