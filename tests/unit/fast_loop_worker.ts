// The thread of a fast loop with a fake device behind it; what the methods do there is described in fast_loop_test.ts.

import { loadLibc } from "../../src/platform/libc.ts";
import { FastLoop } from "../../src/server/fast_loop.ts";
import { refusal } from "../../src/server/refusal.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";
import { FakeService } from "./protocol_fake.ts";

/** What the test tells its thread. */
export interface FastLoopOrder {
  readonly fd: number;
  readonly wake: number;
  readonly stop: Int32Array<SharedArrayBuffer>;
  readonly options: { readonly maxConnections?: number; readonly helloGrace?: number };
}

interface ThreadScope {
  onmessage: ((event: MessageEvent<FastLoopOrder>) => void) | null;
  postMessage(message: unknown): void;
}

const scope = self as unknown as ThreadScope;

/** Keeps the thread busy. */
function work(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

scope.onmessage = ({ data: { fd, wake, stop, options } }) => {
  const service = new FakeService();
  service.records = false;
  let states = 0;
  service.overrides.set("stats", (peer) => {
    return { peer: peer.id, peers: service.peers.size, vmm: service.vmm !== null ? 1 : 0, states };
  });
  service.overrides.set("state", () => (states++, work(4), {}));
  service.overrides.set("tree", () => {
    service.vmm?.notify("irq", [5]);
    return {};
  });
  service.overrides.set("reset", () => {
    for (let frame = 0; frame < 2_000_000; frame++) {
      service.vmm?.notify("page_track", [2 ** 33 + frame, true]);
    }
  });
  service.overrides.set("page_wrote", () => {
    throw new TypeError("bug");
  });
  const listener = {
    name: "test",
    fd,
    makeSession: (id: number) => new RpcSession(service, { id }),
    refusal,
  };
  const isStopped = () => Atomics.load(stop, 0) !== 0;
  new FastLoop(loadLibc(), { listeners: [listener], wake, isStopped, ...options }).run();
  scope.postMessage({ peers: service.peers.size, states });
};
