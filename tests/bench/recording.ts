/**
 * What recording costs: a device that records, against one that does not, in the same run and in turn.
 *
 * Client and device have a processor each, as a virtual CPU and its device do: what a device writes down between messages
 * is hidden there no more than anywhere, for posted stores keep it at work all the time.
 *
 * @module
 */

import type { PageComparison } from "../../src/memory/memory_backing.ts";
import { loadLibc } from "../../src/platform/libc.ts";
import { Recorder } from "../../src/recording/recorder.ts";
import { RecordingSink } from "../../src/recording/recording_sink.ts";
import { vgpuConfig } from "../../src/vgpu/vgpu_options.ts";
import { TempFolder } from "../scenarios/process.ts";
import { END } from "../streamer/commands.ts";
import { BlitterGuest, copy, FROM, PAGE, sharedMachine, STEPS, TO } from "./blitter_guest.ts";
import { BATCH, type Conversation, conversation, type Protocol, writeConversation } from "./conversation.ts";
import { Native, type ServerProcess, startDevice } from "./native.ts";
import { median, nanoseconds, report } from "./sample.ts";

/** Measurements of each device, in turn. */
const TURNS = 5;
/** Round trips of one. */
const COUNT = 5000;
/** Rounds of all posted stores in one. */
const ROUNDS = 6;
const FLAGS = ["--allow-read", "--allow-write", "--allow-net", "--allow-ffi"];
const SERVER_CORE = 0;
const CLIENT_CORE = navigator.hardwareConcurrency > 1 ? 1 : 0;
/** What recording may cost: a fifth of the throughput. */
const TARGET = 1.25;

await using folder = new TempFolder();
const native = await Native.compile(folder.path);

/** The medians of what two devices need, measured in turn. */
async function inTurn(
  recorded: ServerProcess,
  plain: ServerProcess,
  measure: (device: ServerProcess) => Promise<number>,
): Promise<{ ours: number; reference: number }> {
  const ours: number[] = [];
  const reference: number[] = [];
  for (let turn = 0; turn < TURNS; turn++) {
    reference.push(await measure(plain));
    ours.push(await measure(recorded));
  }
  return { ours: median(ours), reference: median(reference) };
}

async function rows(protocol: Protocol, said: Conversation): Promise<void> {
  const path = `${folder.path}/${protocol}`;
  Deno.mkdirSync(path);
  writeConversation(path, said);
  const option = protocol === "rpc" ? "--socket-path" : "--vfio-user-path";
  await using plain = await startDevice(FLAGS, option, `${path}-plain`, SERVER_CORE);
  const record = ["--record", `${path}.jsonl`];
  await using recorded = await startDevice(FLAGS, option, `${path}-recorded`, SERVER_CORE, record);
  const trips = await inTurn(
    recorded,
    plain,
    async (device) => (await native.ask(device, path, CLIENT_CORE, COUNT)).p50 / 1000,
  );
  report({
    name: `round trip over ${protocol}, recorded, p50`,
    unit: "µs",
    ...trips,
    against: "unrecorded",
    target: TARGET,
  });
  const rates = await inTurn(
    recorded,
    plain,
    async (device) =>
      said.stores * 1e9 / await native.post(device, path, CLIENT_CORE, said.batchBytes, ROUNDS),
  );
  report({
    name: `stores posted over ${protocol}, ${BATCH} at once, recorded`,
    unit: "/s",
    ...rates,
    against: "unrecorded",
    target: TARGET,
    isRate: true,
  });
}

/**
 * What the blitter does, on memory that the guest shares with the device, when the guest does nothing else at all and no
 * message has to come: all that is read is compared with what was recorded, so a copy of memory takes several times as
 * long. There is no target for that; a real guest's submissions are another matter.
 */
function submissionRows(): void {
  using file = Deno.openSync(`${folder.path}/submissions.jsonl`, { write: true, createNew: true });
  const sink = new RecordingSink(file, (reason) => {
    throw new Error(reason);
  });
  const device = { ...vgpuConfig({}), oos: false, verify: false, debug: false };
  // As the device's own thread does.
  const libc = loadLibc();
  const compare: PageComparison = (a, b) => libc.isSamePage(a, b);
  using plainDevice = sharedMachine(null, compare);
  using recordedDevice = sharedMachine(new Recorder(sink, device, "bench", { compare }), compare);
  const [plain, recorded] = [new BlitterGuest(plainDevice), new BlitterGuest(recordedDevice)];
  for (
    const [name, batch, submissions, steps] of [
      ["empty batches, each submitted by itself, recorded", [], 1000, 1],
      ["empty batches, 255 in a submission, recorded", [], 10, STEPS - 1],
      ["XY_SRC_COPY_BLT of 4 MiB, recorded", copy(TO, FROM, PAGE / 4), 8, 1],
    ] as const
  ) {
    const times = { ours: [] as number[], reference: [] as number[] };
    for (let turn = 0; turn < TURNS; turn++) {
      for (const [guest, into] of [[plain, times.reference], [recorded, times.ours]] as const) {
        guest.setBatch([...batch, END]);
        into.push(nanoseconds(submissions * steps, () => {
          for (let i = 0; i < submissions; i++) guest.run(steps);
        }));
      }
    }
    const [ours, reference] = [1e9 / median(times.ours), 1e9 / median(times.reference)];
    report({ name, unit: "/s", ours, reference, against: "unrecorded", target: null, isRate: true });
  }
  for (const guest of [plain, recorded]) guest.check();
}

submissionRows();
await rows("rpc", conversation("rpc"));
await rows("vfio-user", conversation("vfio-user"));
