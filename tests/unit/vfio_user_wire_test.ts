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
