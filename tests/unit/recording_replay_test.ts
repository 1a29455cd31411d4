// Replays of recordings that were made in this process, and of files that no device has recorded.

import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { Recorder } from "../../src/recording/recorder.ts";
import { RecordingSink } from "../../src/recording/recording_sink.ts";
import { ReplayRam } from "../../src/memory/replay_ram.ts";
import { openRecording, RecordingError } from "../../src/replay/recording_file.ts";
import { replayToDevice } from "../../src/replay/replay_to_device.ts";
import { ServedDevice } from "../../src/server/served_device.ts";
import { SilentVmm } from "../../src/replay/silent_vmm.ts";
import { DEFAULT_VGPU } from "../../src/vgpu/vgpu_options.ts";
import { TempFolder } from "../scenarios/process.ts";
import { Command, HeaderFlag, SessionPeer } from "../vfio_user/session_peer.ts";
import { access, dmaMap, field, message, parse, payload } from "../vfio_user/wire.ts";

const PAGE = 4096;
const GMA = 64 << 20;
const ENTRY = 0x80_0000 + 8 * GMA / PAGE;
const DEVICE = { ...DEFAULT_VGPU, oos: false, verify: false, debug: true };
const HEADER = JSON.stringify({ vgtt: 1, by: "test", device: DEVICE });
const MAP = '{"ram":"map","gpa":"0x0","size":"0x10000","mfn":"0x100","readonly":false,"kind":"mapped"}';

/** A device whose recording is kept in memory. */
function recordedDevice(): { served: ServedDevice; text: () => string } {
  let text = "";
  const file = {
    writeSync(bytes: Uint8Array) {
      text += new TextDecoder().decode(bytes);
      return bytes.length;
    },
  };
  const recorder = new Recorder(new RecordingSink(file, () => {}), DEVICE, "test");
  const served = new ServedDevice({}, true, { recorder });
  return { served, text: () => (recorder.flush(), text) };
}

/** Replays a text. */
async function replay(text: string, to?: number) {
  await using folder = new TempFolder();
  const path = `${folder.path}/recording.jsonl`;
  Deno.writeTextFileSync(path, text);
  using replayed = await replayToDevice(await openRecording(path), { to });
  const { events, digests, differences, isCut } = replayed;
  return { events, digests, differences: differences.map(({ line, text }) => `${line}: ${text}`), isCut };
}

/** A recording of these lines. */
function recordingOf(...lines: readonly string[]): string {
  return [HEADER, ...lines, ""].join("\n");
}

Deno.test("a load that comes while the device waits for memory is replayed at that moment", async () => {
  const { served, text } = recordedDevice();
  using peer = new SessionPeer({ served });
  peer.ok(Command.DMA_MAP, dmaMap(0, 16 * PAGE));
  peer.store(7, 0x04, 2, 0x6);
  peer.store(0, ENTRY, 8, 0x5001);
  let asked = 0;
  peer.session.pump = () => {
    const [questions] = parse(peer.session.takeOutput()?.slice() ?? new Uint8Array(0));
    const question = questions.find(({ command }) => command === Command.DMA_WRITE);
    if (question === undefined) return true;
    if (asked++ === 0) peer.send(message(Command.REGION_READ, access(7, 0, 4)));
    const reply = payload(question.body.subarray(0, 16));
    assertEquals(field(reply, 0, 64), 0x5000);
    peer.send(message(Command.DMA_WRITE, reply, { id: question.id, flags: HeaderFlag.REPLY }));
    return true;
  };
  const store = payload(access(2, GMA, 8), new Uint8Array(8).fill(7));
  peer.send(message(Command.REGION_WRITE, store, { flags: HeaderFlag.NO_REPLY }));
  assertEquals(field(peer.replies()[0]!.body, 16, 32), 0x1912_8086);
  peer.session.close();
  const recording = text();
  assertEquals(recording.includes('"val":"0x19128086","at":1}'), true, recording);
  const { differences, digests } = await replay(recording);
  assertEquals([asked, differences, digests], [1, [], 1]);
});

Deno.test("a device that stores something else into guest memory than the recorded one is found out", async () => {
  await using folder = new TempFolder();
  const path = `${folder.path}/ram`;
  Deno.writeFileSync(path, new Uint8Array(16 * PAGE));
  const { served, text } = recordedDevice();
  const vmm = new SilentVmm("untracked");
  served.attach(vmm);
  served.mapRam({ gpa: 0, size: 16 * PAGE, path });
  served.access.write(7, 0x04, 2, 0x6, 0);
  served.access.write(0, ENTRY, 8, 0x5001, 0);
  served.access.write(2, GMA + 8, 8, 0x77, 0);
  served.detach(vmm);
  served.device[Symbol.dispose]();
  const recording = text();
  assertEquals((await replay(recording)).differences, []);

  const { write } = ReplayRam.prototype;
  ReplayRam.prototype.write = function (gpa, bytes) {
    return write.call(this, gpa, bytes.map((byte) => byte ^ 1));
  };
  try {
    const { differences } = await replay(recording);
    assertEquals(differences.map((text) => text.replace(/^\d+: /, "")), ["state differs: guest memory"]);
  } finally {
    ReplayRam.prototype.write = write;
  }
});

Deno.test("an exception within the device is recorded, and happens again in a replay or is missed", async () => {
  const { served, text } = recordedDevice();
  const vmm = new SilentVmm("trapped");
  served.attach(vmm);
  served.device.vgpu.runEngines = () => {
    throw new Error("a bug");
  };
  try {
    served.run();
  } catch {
    served.abandon();
  }
  served.detach(vmm);
  const { differences, events } = await replay(text());
  assertEquals([differences, events], [["4: there was an internal error: a bug"], 4]);
});

Deno.test("a replay ends after so many events, within a line if need be", async () => {
  const text = recordingOf(
    '{"attach":"trapped"}',
    '{"ws":"bar0","size":8,"off":"0x820000","step":8,"lo":"ARAAAAEgAAABMAAA"}',
    '{"detach":true}',
  );
  for (const to of [0, 1, 2, 3, 4, 5, 6]) {
    assertEquals((await replay(text, to)).events, Math.min(to, 5));
  }
});

Deno.test("a digest right after the last event is compared, one further on is not", async () => {
  const { served, text } = recordedDevice();
  const vmm = new SilentVmm("trapped");
  served.attach(vmm);
  served.access.write(0, ENTRY, 8, 0x5001, 0);
  served.detach(vmm);
  const recording = text();
  assertEquals([await replay(recording, 2), await replay(recording, 1)].map(({ digests }) => digests), [
    1,
    0,
  ]);
});

Deno.test("a line without an end is left out, whatever it says", async () => {
  const text = recordingOf('{"attach":"trapped"}');
  assertEquals(await replay(`${text}{"detach":tr`), { events: 1, digests: 0, differences: [], isCut: true });
});

Deno.test("a replay says when the device asks for less, or for more, than it did", async () => {
  const attach = '{"attach":"trapped"}';
  const read = '{"r":"bar0","off":"0x2358","size":4,"val":"0x0"}';
  assertEquals(
    (await replay(recordingOf(attach, read))).differences[0],
    [
      "3: the device asked for the time once more than it did",
    ][0],
  );
  const config = '{"w":"config","off":"0x4","size":2,"val":"0x6"}';
  assertEquals((await replay(recordingOf(attach, '{"clock":5}', config))).differences, [
    "4: the device asked for the time less often than it did",
  ]);
  assertEquals((await replay(recordingOf(attach, MAP, '{"fail":3}', config))).differences, [
    "5: the device accessed memory 0 times, but 3 times or more then",
  ]);
});

for (
  const [what, lines, why] of [
    ["a VMM that goes before it came", ['{"detach":true}'], "line 2: no VMM is attached"],
    ["two VMMs", ['{"attach":"trapped"}', '{"attach":"trapped"}'], "line 3: a VMM is attached already"],
    ["RAM that overlaps", [MAP, MAP], "line 3: Cannot map RAM at 0x0: it overlaps"],
    [
      "RAM without end",
      [MAP.replace("0x10000", "0x1000000000000")],
      "line 2: Cannot map RAM at 0x0: size is",
    ],
    ["no RAM to unmap", ['{"ram":"unmap","gpa":"0x0","size":"0x1000"}'], "line 2: Cannot unmap RAM"],
    [
      "a store beyond its region",
      ['{"w":"config","off":"0xfe","size":4,"val":"0x0"}'],
      "line 2: config has no",
    ],
    ["memory that changes where there is none", ['{"mem":"0x1000","runs":[]}'], "line 2: there is no RAM"],
    ["an empty line", [""], "line 2: "],
    ["text", ["hello"], "line 2: "],
  ] as const
) {
  Deno.test(`a recording with ${what} is refused, and the line is named`, async () => {
    await assertRejects(() => replay(recordingOf(...lines, '{"reset":true}')), RecordingError, why);
  });
}

Deno.test("a digest with parts too few or too many is a difference", async () => {
  const { served, text } = recordedDevice();
  const vmm = new SilentVmm("trapped");
  served.attach(vmm);
  served.detach(vmm);
  const recording = text();
  assertEquals((await replay(recording)).differences, []);
  const partial = recording.replace(/"registers":"[0-9a-f]{16}"/, '"Registers":"0123456789abcdef"');
  const only = "3: only one of the two has these parts of the state:";
  assertEquals((await replay(partial)).differences, [`${only} registers, Registers`]);
  const [difference] = (await replay(recording.replace(/"digest":\{.*?\}/, '"digest":{}'))).differences;
  assertMatch(difference!, /^3: only one of the two has .*: registers, .*, counters$/);
});

Deno.test("a recording is unpacked if it is packed, whatever its file is called", async () => {
  await using folder = new TempFolder();
  const text = new TextEncoder().encode(
    recordingOf('{"attach":"trapped"}', ...Array(500).fill('{"turn":7}')),
  );
  const packed = new Uint8Array(
    await new Response(new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"))).arrayBuffer(),
  );
  for (const [name, bytes] of [["plain.jsonl.gz", text], ["packed.jsonl", packed]] as const) {
    const path = `${folder.path}/${name}`;
    Deno.writeFileSync(path, bytes);
    using replayed = await replayToDevice(await openRecording(path));
    assertEquals([replayed.events, replayed.differences], [3501, []]);
  }
  const path = `${folder.path}/cut.jsonl.gz`;
  Deno.writeFileSync(path, packed.subarray(0, packed.length - 20));
  await assertRejects(
    async () => {
      using _ = await replayToDevice(await openRecording(path));
    },
    RecordingError,
    "line ",
  );
});

Deno.test("what a device learned in one event is bounded", async () => {
  const clock = `{"clock":[${Array(40_000).fill(1)}]}`;
  await assertRejects(
    () => replay(recordingOf(clock, clock)),
    RecordingError,
    "line 3: the device asked for",
  );
  const runs = Array(10_000).fill('[0,""]');
  const mem = Array.from({ length: 300 }, () => `{"mem":"0x0","set":[${runs}],"at":1}`);
  await assertRejects(() => replay(recordingOf(MAP, ...mem)), RecordingError, ": the device learned more");
});

for (
  const [what, text] of [
    ["nothing in it", ""],
    ["a line of many megabytes", `${HEADER}\n{"call":"mem_write","params":["${"x".repeat(9 << 20)}"]}\n`],
    ["a header of another version", '{"vgtt":7}\n'],
    ["a vGPU that cannot be", HEADER.replace('"fences":4', '"fences":99')],
    ["a trace in it", '{"config":{"ramPages":4}}\n'],
  ] as const
) {
  Deno.test(`a file with ${what} is refused`, async () => {
    await assertRejects(() => replay(text), RecordingError, "line ");
  });
}

Deno.test("no call of a recording reaches a file of whoever replays it", async () => {
  const call = '{"call":"ram_map","params":[{"gpa":0,"size":4096,"path":"/etc/hostname"}]}';
  assertEquals((await replay(recordingOf('{"attach":"trapped"}', call))).differences, [
    "3: ram_map was answered well, is ENOSYS",
  ]);
});

Deno.test("memory that is no RAM's within an event is refused, not skipped", async () => {
  const mem = '{"mem":"0x9000000","set":[[0,"01"]],"at":1}';
  const lines = ['{"attach":"untracked"}', MAP, mem, '{"call":"mm_create","params":[4,[4096,0,0,0]]}'];
  await assertRejects(() => replay(recordingOf(...lines)), RecordingError, "line 5: there is no RAM");
});
