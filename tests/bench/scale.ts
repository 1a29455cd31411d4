/**
 * Many vGPUs on one machine. A device process has one, so each has a process of its own, and a client in C that asks it
 * without a pause: more than guests do, so that the machine is full and the question is who gets how much of it.
 *
 * Nothing is pinned: which process runs where and when is the kernel's to say, and whether it can be fair to devices that
 * wait in a system call is what is measured. No client may starve: the slowest must get at least half of the mean.
 *
 * @module
 */

import { TempFolder } from "../scenarios/process.ts";
import { conversation, writeConversation } from "./conversation.ts";
import { Native, type RoundTrips, type ServerProcess, startDevice } from "./native.ts";
import { median, reportLimit, reportOnly } from "./sample.ts";

/** Numbers of vGPUs. */
const NUMBERS = [1, 4, 16, 64] as const;
/** Devices that are started at the same time. */
const STARTED_AT_ONCE = 4;
/** Round trips after which a device's code is compiled, by and large. */
const WARM_UP = 8000;
/** Milliseconds until all clients are at work, and those that are measured at least. */
const LEAD = 300;
const MEASURED = 1500;
/** The same for each client: the kernel deals processors out in slices of some milliseconds. */
const MEASURED_EACH = 75;
/** Percent of the mean that the slowest client must get. */
const FAIR_SHARE = 50;

await using folder = new TempFolder();
await using devices = new AsyncDisposableStack();
const native = await Native.compile(folder.path);
writeConversation(folder.path, conversation("rpc"));

/** Starts one device more, and has its code compiled. */
async function start(number: number): Promise<ServerProcess> {
  const flags = ["--allow-read", "--allow-write", "--allow-net", "--allow-ffi"];
  const device = await startDevice(flags, "--socket-path", `${folder.path}/vgpu${number}`, null);
  await native.ask(device, folder.path, null, WARM_UP);
  return devices.use(device);
}

/** Clients of so many devices, all at the same time. */
async function run(running: readonly ServerProcess[], measured: number): Promise<RoundTrips[]> {
  const clients = [];
  for (const device of running) clients.push(await native.steady(device, folder.path));
  const from = Date.now() + LEAD;
  return await Promise.all(clients.map((client) => client.run(from, from + measured)));
}

const running: ServerProcess[] = [];
for (const number of NUMBERS) {
  while (running.length < number) {
    const count = Math.min(STARTED_AT_ONCE, number - running.length);
    running.push(...await Promise.all(Array.from({ length: count }, (_, i) => start(running.length + i))));
  }
  const measured = Math.max(MEASURED, number * MEASURED_EACH);
  const clients = await run(running, measured);
  const counts = clients.map(({ count }) => count);
  const total = counts.reduce((sum, count) => sum + count, 0);
  const name = number === 1 ? "1 vGPU" : `${number} vGPUs`;
  reportOnly(`${name}: mmio_read, all together`, "/s", total * 1000 / measured);
  reportOnly(
    `${name}: mmio_read, p99 of the median client`,
    "µs",
    median(clients.map(({ p99 }) => p99)) / 1000,
  );
  if (number === 1) continue;
  const share = 100 * Math.min(...counts) * number / total;
  reportLimit(`${name}: slowest client, of the mean`, "%", share, FAIR_SHARE, true);
}
