import { assertEquals, assertThrows } from "@std/assert";
import { parseHeader } from "../../src/recording/header.ts";
import { parseLine, type WriteLine } from "../../src/recording/recorded_line.ts";
import { Recorder } from "../../src/recording/recorder.ts";
import { RecordingSink } from "../../src/recording/recording_sink.ts";
import { DEFAULT_VGPU } from "../../src/vgpu/vgpu_options.ts";

const DEVICE = { ...DEFAULT_VGPU, oos: false, verify: false, debug: true };

/** A recorder, and what it has written so far. */
function recording(now: () => number = () => 0): { recorder: Recorder; lines: () => string[] } {
  let text = "";
  const file = {
    writeSync(bytes: Uint8Array) {
      text += new TextDecoder().decode(bytes);
      return bytes.length;
    },
  };
  const recorder = new Recorder(new RecordingSink(file, () => {}), DEVICE, "test", { now });
  const lines = () => {
    recorder.flush();
    return text.split("\n").slice(0, -1);
  };
  return { recorder, lines };
}

/** The stores of a line, each as offset and both lanes. */
function storesOf({ count, offsetOf, lowOf, highOf }: WriteLine): number[][] {
  return Array.from({ length: count }, (_, index) => [offsetOf(index), lowOf(index), highOf(index)]);
}

Deno.test("a recording begins with a header that says which device it is of", () => {
  const [header] = recording().lines();
  assertEquals(parseHeader(header!), { vgtt: 1, by: "test", device: DEVICE });
});

Deno.test("stores of one size to one region share a line, whatever their offsets and values", () => {
  const { recorder, lines } = recording();
  const stores = [[0x800008, 1, 0xffffffff], [0x800000, 0xffffffff, 0], [0x900000, 0, 7]] as const;
  for (const [offset, lo, hi] of stores) recorder.write(0, offset, 8, lo, hi);
  for (const offset of [4, 8, 12]) recorder.write(0, offset, 4, offset, 0);
  recorder.write(7, 4, 2, 6, 0);
  const [many, even, one] = lines().slice(1).map((line) => parseLine(line) as WriteLine);
  assertEquals(storesOf(many!), stores.map((store) => [...store]));
  assertEquals(storesOf(even!), [[4, 4, 0], [8, 8, 0], [12, 12, 0]]);
  assertEquals([one!.region, one!.size, storesOf(one!)], [7, 2, [[4, 6, 0]]]);
  assertEquals(recorder.events, 7);
});

Deno.test("turns share a line unless the device learned something in one, which stands before it", () => {
  let now = 1000.25;
  const { recorder, lines } = recording(() => now++);
  const turn = (learns: boolean) => {
    recorder.begin();
    if (learns) recorder.now();
    recorder.end();
    recorder.turn();
  };
  for (const learns of [false, false, true, false]) turn(learns);
  recorder.now(); // a view asks
  assertEquals(lines().slice(1), ['{"turn":2}', '{"clock":1000.250000}', '{"turn":2}']);
});

Deno.test("times that were told in one event share a line, each read as the number that the device was told", () => {
  const times = [0, 1e-9, 0.1 + 0.2, 205.5212811, 86_400_000.123456789, 2 ** 33 + 0.7];
  const given = times.values();
  const { recorder, lines } = recording(() => given.next().value!);
  recorder.begin();
  const told = times.map(() => recorder.now());
  recorder.end();
  recorder.turn();
  const [clock, turn] = lines().slice(1);
  assertEquals([parseLine(clock!), turn], [{ kind: "clock", times: told }, '{"turn":1}']);
  assertEquals(told.every((time, index) => Math.abs(time - times[index]!) <= 2e-6), true);
});

Deno.test("few stores are packed as many are", () => {
  for (let count = 2; count < 40; count++) {
    const { recorder, lines } = recording();
    const stores = Array.from({ length: count }, (_, i) => [8 * i ** 2, 0xffff_ffff - i ** 5, i ** 4]);
    for (const [offset, lo, hi] of stores) recorder.write(0, offset!, 8, lo!, hi!);
    assertEquals(storesOf(parseLine(lines()[1]!) as WriteLine), stores);
  }
});

Deno.test("calls keep bytes and integers of any size, and how they ended", () => {
  const { recorder, lines } = recording();
  recorder.call("mem_write", [4096, Uint8Array.of(0, 255)], null);
  recorder.call("submit", [4, [2n ** 63n, 0, 0, 0]], "EINVAL");
  assertEquals(lines().slice(1).map(parseLine), [
    { kind: "call", method: "mem_write", params: [4096, Uint8Array.of(0, 255)], error: null },
    { kind: "call", method: "submit", params: [4, [2n ** 63n, 0, 0, 0]], error: "EINVAL" },
  ]);
});

Deno.test("a file that takes no more ends the recording, which is told once", () => {
  const lost: string[] = [];
  let room = 3000;
  const file = {
    writeSync(bytes: Uint8Array) {
      if (room === 0) throw new Error("No space left on device (os error 28)");
      const count = Math.min(room, bytes.length);
      room -= count;
      return count;
    },
  };
  const sink = new RecordingSink(file, (reason) => lost.push(reason));
  for (let i = 0; i < 10_000; i++) sink.line(`{"call":"mem_write","params":[${i}]}`);
  sink.flush();
  assertEquals([lost, sink.isLost], [["No space left on device (os error 28)"], true]);
});

for (
  const [what, line] of [
    ["another version", '{"vgtt":2,"by":"x","device":{}}'],
    ["no device", '{"vgtt":1,"by":"x"}'],
    ["a device without sizes", '{"vgtt":1,"by":"x","device":{"deviceId":6418}}'],
    ["half a line", '{"vgtt":1,"by":'],
  ] as const
) {
  Deno.test(`parseHeader() refuses a header with ${what}`, () => {
    assertThrows(() => parseHeader(line), Error);
  });
}

for (
  const [line, why] of [
    ["[]", "there is no line that begins with"],
    ["null", "no JSON object"],
    ['{"toString":1}', "there is no line that begins with"],
    ['{"__proto__":1}', "there is no line that begins with"],
    ['{"r":"bar9","off":"0x0","size":4,"val":"0x0"}', "there is no region"],
    ['{"r":"bar0","off":"0x0","size":3,"val":"0x0"}', "size is none of"],
    ['{"r":"bar0","off":-1,"size":4,"val":"0x0"}', "off is no hexadecimal number"],
    ['{"w":"bar0","off":"0x0","size":4,"val":5}', "val is no hexadecimal"],
    ['{"ws":"bar0","size":8,"off":"0x0","step":8,"lo":"!"}', ""],
    ['{"ws":"bar0","size":8,"off":"0x0","step":8,"lo":"AAAA"}', "lo is not made of lanes"],
    ['{"ws":"bar0","size":8,"off":"0x0","lo":"AAAAAA=="}', "step is no integer"],
    [
      '{"ws":"bar0","size":8,"off":"0x0","step":8,"lo":"AAAAAA==","hi":"AAAAAAAAAAA="}',
      "as many as there are stores",
    ],
    ['{"ws":"bar0","size":8,"off":"0x0","step":8,"val":"0x0","add":1,"count":65537}', "or too large"],
    ['{"ws":"bar0","size":8,"off":"0x0","step":8,"val":"0x0","add":0.5,"count":2}', "add is no integer"],
    ['{"ws":"bar0","size":8,"off":"0x0","step":8}', "val is no hexadecimal number"],
    ['{"mem":"0x1001","set":[],"at":1}', "not the address of a page"],
    ['{"mem":"0x1000","set":[[4095,"0102"]],"at":1}', "outside their page"],
    ['{"mem":"0x1000","set":[[-1,"01"]],"at":1}', "outside their page"],
    ['{"mem":"0x1000","set":[[0,"0"]],"at":1}', ""],
    ['{"mem":"0x1000","set":[],"at":0}', "at is no integer from 1 up"],
    ['{"turn":1e300}', "turn is no integer"],
    ['{"turn":4097}', "or too large"],
    ['{"clock":"now"}', "clock is no number"],
    ['{"ram":"map","gpa":"0x0","size":"0x1000","mfn":"0x1","readonly":false,"kind":"tape"}', "a kind"],
    ['{"ram":"move"}', "gpa is no hexadecimal number"],
    ['{"call":"x"}', "a call has a name and params"],
    ['{"call":"\\u009b31m","params":[]}', "a call has a name and params"],
    ['{"call":"mm_pin","params":[7],"error":"\\u001b[2J"}', "error is no name"],
    ['{"clock":[1,"2"]}', "clock is no number"],
    ['{"digest":{"registers":"1"},"events":0}', "not 64 bits"],
    ['{"r":"bar0","off":"0x0","size":4,"val":""}', "val is no hexadecimal number"],
    ['{"\\u009b31m":1}', 'begins with "\\u009b31m"'],
    ['{"attach":"both"}', "neither trapped nor untracked"],
  ] as const
) {
  Deno.test(`parseLine() refuses ${line}`, () => {
    assertThrows(() => parseLine(line), Error, why);
  });
}
