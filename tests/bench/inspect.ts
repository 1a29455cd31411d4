/**
 * For how long a look inside keeps the device from its guest: the longest answer of a whole snapshot, made and encoded as
 * for an observer, and how long a whole one takes.
 *
 * @module
 */

import { decode, encode } from "../../protocol/codec.ts";
import { Mirror, type SnapshotPeer } from "../../src/observe/mirror.ts";
import { DeviceService } from "../../src/server/device_service.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";
import type { Vmm } from "../../src/server/vmm.ts";
import { dup, memfd } from "../vfio_user/peer_libc.ts";
import { reportLimit, reportOnly } from "./sample.ts";
import { RAM_FRAMES, TableGuest } from "./table_guest.ts";

/** A look at 10,000 tables may keep the guest waiting for so long, milliseconds. */
const MAX_PAUSE = 5;
const TABLES = 10_000;
const TAKES = 5;

/** A VMM that hears nothing. */
function silentVmm(tracking: Vmm["tracking"]): Vmm {
  return {
    id: 1,
    tracking,
    isBehind: false,
    failedNotifications: 0,
    protect() {},
    trackedWrite() {},
    msi() {},
    intx() {},
  };
}

/** An observer's session in this process; each call is timed until its answer is there to be sent. */
class TimedPeer implements SnapshotPeer {
  /** The longest call, milliseconds. */
  longest = 0;
  readonly #session: RpcSession;

  constructor(service: DeviceService) {
    this.#session = new RpcSession(service, { id: 2 });
    this.#exchange([0, 0, "hello", [{ protocol: 1, role: "observer" }]]);
  }

  call(method: string, ...params: unknown[]): Promise<Readonly<Record<string, unknown>>> {
    return Promise.resolve(this.#exchange([0, 1, method, params]) as Readonly<Record<string, unknown>>);
  }

  #exchange(message: readonly unknown[]): unknown {
    const bytes = encode(message);
    const begin = performance.now();
    this.#session.receive(bytes);
    this.longest = Math.max(this.longest, performance.now() - begin);
    const [, , error, result] = decode(this.#session.takeOutput()!) as [number, number, unknown, unknown];
    if (error !== null) throw new Error(`snapshot failed: ${JSON.stringify(error)}`);
    return result;
  }
}

const RAM = memfd(RAM_FRAMES * 4096);

for (const tracking of ["trapped", "untracked"] as const) {
  const service = new DeviceService();
  service.served.attach(silentVmm(tracking));
  new TableGuest(TABLES, dup(RAM), service.served.device);
  const peer = new TimedPeer(service);
  const pauses: number[] = [];
  const takes: number[] = [];
  for (let take = 0; take < TAKES; take++) {
    peer.longest = 0;
    const begin = performance.now();
    await new Mirror(peer).take();
    takes.push(performance.now() - begin);
    pauses.push(peer.longest);
  }
  const mirror = new Mirror(peer);
  await mirror.take();
  peer.longest = 0;
  const begin = performance.now();
  await mirror.take();
  const again = performance.now() - begin;
  reportLimit(
    `the longest pause for a snapshot of ${TABLES} tables, ${tracking}`,
    "ms",
    Math.max(...pauses),
    MAX_PAUSE,
  );
  reportOnly(`the whole snapshot, ${tracking}`, "ms", Math.min(...takes));
  reportLimit(
    `the longest pause for the next one, nothing changed, ${tracking}`,
    "ms",
    peer.longest,
    MAX_PAUSE,
  );
  reportOnly(`the whole next one, ${tracking}`, "ms", again);
}
