// The thread of a fast loop with a scripted device behind it.

import { loadLibc } from "../../src/platform/libc.ts";
import { FastLoop } from "../../src/server/fast_loop.ts";
import { refusal } from "../../src/server/refusal.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";
import type { LoopOptions } from "./loop_habits.ts";
import { ScriptedService } from "./scripted_service.ts";

/** What the test tells its thread. */
export interface FastLoopOrder {
  readonly fd: number;
  readonly wake: number;
  readonly stop: Int32Array<SharedArrayBuffer>;
  readonly options: LoopOptions;
}

interface ThreadScope {
  onmessage: ((event: MessageEvent<FastLoopOrder>) => void) | null;
  postMessage(message: unknown): void;
}

const scope = self as unknown as ThreadScope;

scope.onmessage = ({ data: { fd, wake, stop, options } }) => {
  const service = new ScriptedService();
  const makeSession = (id: number) => new RpcSession(service, { id });
  const listeners = [{ name: "test", fd, makeSession, refusal }];
  const isStopped = () => Atomics.load(stop, 0) !== 0;
  try {
    new FastLoop(loadLibc(), { listeners, wake, isStopped, ...options }).run();
    scope.postMessage(service.end);
  } catch (error) {
    scope.postMessage(error instanceof Error ? error.message : String(error));
  }
};
