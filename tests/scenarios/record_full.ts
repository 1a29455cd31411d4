/**
 * A device that records to a file that is full, in a process of its own: Deno lets nobody open one who may not do
 * everything. Prints what was logged, and what a load was answered afterwards.
 *
 * @module
 */

import { OpenRecording } from "../../src/cli/recording.ts";
import { SilentVmm } from "../../src/replay/silent_vmm.ts";
import { ServedDevice } from "../../src/server/served_device.ts";

const ENTRY = 0x80_0000 + 8 * 0x4000;
const said: unknown[] = [];
const value = new Uint32Array(2);
{
  const options = { record: "/dev/full", vgpu: {}, oos: false, verify: false, debug: false };
  using recording = OpenRecording.begin(options, (...line) => said.push(line));
  const served = new ServedDevice({}, false, { recorder: recording!.recorder });
  const vmm = new SilentVmm("trapped");
  served.attach(vmm);
  for (let i = 0; i < 100_000; i++) served.access.write(0, ENTRY + i % 4096 * 8, 8, i ** 2 * 4096 + 1, 0);
  served.access.read(7, 0, 4, value);
  served.detach(vmm);
  served.idle();
  served.device[Symbol.dispose]();
}
Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify({ said, identity: value[0] })));
