/**
 * The thread in which the device works: it waits for connections and never for anything else.
 *
 * @module
 */

import { loadLibc } from "../platform/libc.ts";
import { DeviceService } from "../server/device_service.ts";
import { type FastListener, FastLoop } from "../server/fast_loop.ts";
import { refusal } from "../server/refusal.ts";
import { type Log, RpcSession } from "../server/rpc_session.ts";
import { ListenError } from "../server/socket_file.ts";
import { VfioUserSession } from "../server/vfio_user_session.ts";
import type { DeviceThreadOptions, DeviceThreadReport, ThreadSocket } from "./device_thread.ts";
import { makeLog } from "./log.ts";
import { OpenRecording } from "./recording.ts";

/** What a worker's global scope has; the compiler takes every file for one of the main thread. */
interface ThreadScope {
  onmessage: ((event: MessageEvent<DeviceThreadOptions>) => void) | null;
  postMessage(message: DeviceThreadReport): void;
}

const scope = self as unknown as ThreadScope;
const report = (message: DeviceThreadReport) => scope.postMessage(message);

/**
 * How long Deno's exporter of OpenTelemetry may wait for this thread, milliseconds. It waits for every thread, whether that
 * has something to tell or not.
 */
const OBSERVED_EVERY = 100;

scope.onmessage = async ({ data }) => {
  try {
    await work(data);
    report({ kind: "ended" });
  } catch (error) {
    if (error instanceof ListenError) return report({ kind: "deaf", reason: error.message });
    report({
      kind: "failed",
      reason: error instanceof Error ? error.stack ?? error.message : String(error),
    });
  }
};

async function work(options: DeviceThreadOptions): Promise<void> {
  const { vgpu, oos, verify, debug, log: logOptions, sockets, wake, stop } = options;
  const libc = loadLibc();
  const log = makeLog(logOptions, (text) => report({ kind: "line", text }));
  using recording = OpenRecording.begin(options, log, (a, b) => libc.isSamePage(a, b));
  const recorder = recording?.recorder ?? null;
  const service = new DeviceService({ ...vgpu, oos, verify }, debug, { log, recorder });
  const descriptors = {
    close: (fd: number) => libc.close(fd),
    // Raising one whose number is at its end must not wait; a peer that undoes this harms nobody but itself and its
    // observers, for the main thread goes on.
    isEventfd: (fd: number) => libc.isEventfd(fd) && libc.setNonBlocking(fd) >= 0,
    signal: (fd: number) => void libc.signalEvent(fd),
  };
  const listenerOf = ({ name, fd, protocol }: ThreadSocket): FastListener =>
    protocol === "rpc" ? rpcListener(name, fd, service, log) : {
      name,
      fd,
      makeSession: (id) => new VfioUserSession(service.served, { id, log, descriptors }),
      refusal: () => null,
    };
  const isStopped = () => Atomics.load(stop, 0) !== 0;
  const loop = new FastLoop(libc, {
    listeners: sockets.map(listenerOf),
    wake,
    isStopped,
    background: service.served,
    log,
  });
  while (!loop.runFor(options.observed ? OBSERVED_EVERY : Infinity)) {
    await new Promise((resolve) => setTimeout(resolve));
  }
  service.served.device[Symbol.dispose]();
}

function rpcListener(name: string, fd: number, service: DeviceService, log: Log): FastListener {
  return { name, fd, makeSession: (id) => new RpcSession(service, { id, log }), refusal };
}
