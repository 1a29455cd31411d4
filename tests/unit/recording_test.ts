import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { isRecording, parseEvent } from "../../src/replay/recording.ts";
import { ramSize } from "../../src/replay/recording_player.ts";
import { parseRecording, readLines } from "../../src/replay/replay_file.ts";

const EXAMPLE = new URL("../../examples/debian-6.1-i915.jsonl.gz", import.meta.url).pathname;

Deno.test("isRecording() tells recordings from traces by the first line", () => {
  assertEquals(isRecording('{"r":"bar0","off":"0x0","size":4,"val":"0x0"}'), true);
  assertEquals(isRecording('{"w":"config","off":"0x4","size":2,"val":"0x6"}'), true);
  assertEquals(isRecording('{"mem":"0x1000","runs":[]}'), true);
  assertEquals(isRecording('{"config":{"ramPages":4}}'), false);
  assertEquals(isRecording(""), false);
});

Deno.test("parseEvent() reads reads, writes and pages", () => {
  assertEquals(parseEvent('{"r":"config","off":"0x2","size":2,"val":"0x1912"}'), {
    kind: "read",
    region: 7,
    offset: 2,
    size: 2,
  });
  assertEquals(parseEvent('{"w":"bar0","off":"0x800008","size":8,"val":"0xffffffffffffffff"}'), {
    kind: "write",
    region: 0,
    offset: 0x800008,
    size: 8,
    value: 0xffff_ffff_ffff_ffffn,
  });
  const bytes = new Uint8Array(4096);
  bytes.set([0xab, 0xcd], 16);
  bytes.set([0x01], 4095);
  assertEquals(parseEvent('{"mem":"0x1d13000","runs":[[16,"abcd"],[4095,"01"]]}'), {
    kind: "page",
    gpa: 0x1d13000,
    bytes,
  });
});

for (
  const line of [
    "{}",
    '{"r":"bar9","off":"0x0","size":4}',
    '{"w":"bar0","off":"nowhere","size":4,"val":"0x0"}',
    '{"w":"bar0","off":"0x0","val":"0x0"}',
    '{"w":"bar0","off":"0x0","size":4,"val":"x"}',
    '{"mem":"0x1000"}',
    "not JSON",
  ]
) {
  Deno.test(`parseEvent() refuses ${line}`, () => {
    assertThrows(() => parseEvent(line), Error);
  });
}

Deno.test("parseRecording() names the line that is wrong", () => {
  const good = '{"r":"bar0","off":"0x0","size":4,"val":"0x0"}';
  assertThrows(() => parseRecording([good, good, "{}"]), Error, "line 3:");
});

Deno.test("ramSize() is enough for every page, in whole 64 MiB", () => {
  const page = (gpa: number) => ({ kind: "page" as const, gpa, bytes: new Uint8Array(4096) });
  assertEquals(ramSize([]), 64 << 20);
  assertEquals(ramSize([page(0)]), 64 << 20);
  assertEquals(ramSize([page((64 << 20) - 4096)]), 64 << 20);
  assertEquals(ramSize([page(64 << 20), page(0)]), 128 << 20);
});

Deno.test("readLines() unpacks the example, whose every line is an event", async () => {
  const events = parseRecording(await readLines(EXAMPLE));
  const count = (kind: string) => events.filter((event) => event.kind === kind).length;
  assertEquals(count("read") + count("write") + count("page"), 3400);
  assertEquals(count("page") > 0 && count("write") > 0, true);
});

Deno.test("readLines() rejects a file that is not there", async () => {
  await assertRejects(() => readLines("/tmp/vgtt-no-such-file"), Deno.errors.NotFound);
});
