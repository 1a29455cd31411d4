/**
 * For how long a look inside keeps the device from its guest: the longest answer of a whole snapshot, made and encoded as
 * for an observer, and how long a whole one takes.
 *
 * @module
 */

import { REPLY_LIMITS } from "../../protocol/limits.ts";
import { Writer } from "../../protocol/writer.ts";
import type { SnapshotAnswer } from "../../src/inspect/snapshot_wire.ts";
import { DeviceService } from "../../src/server/device_service.ts";
import type { RpcPeer } from "../../src/server/rpc_session.ts";
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

/** What a snapshot cost the device. */
interface Cost {
  /** The longest answer, milliseconds: made and encoded. */
  readonly longest: number;
  /** All of them together. */
  readonly all: number;
  /** The moment that is known then. */
  readonly since: number;
}

/** Answers of a device as for an observer, but without one: what that does with them is another process's affair. */
class Answers {
  readonly #service: DeviceService;
  readonly #peer: RpcPeer = { id: 2, role: "observer", failedNotifications: 0, isBehind: false, notify() {} };
  readonly #writer = new Writer(REPLY_LIMITS);

  constructor(service: DeviceService) {
    this.#service = service;
  }

  /** All rounds of a snapshot. */
  take(known: number): Cost {
    let [since, longest, all] = [known, 0, 0];
    for (let round = 0;; round++) {
      let [after, answers, first] = [0, 0, 0];
      for (let next: number | null = 0; next !== null; answers++) {
        after = next;
        const begin = performance.now();
        const answer = this.#service.call(this.#peer, "snapshot", [
          since,
          after,
          round === 0,
        ]) as SnapshotAnswer;
        this.#writer.clear();
        this.#writer.response(1, answer);
        const took = performance.now() - begin;
        longest = Math.max(longest, took);
        all += took;
        if (answers === 0) first = answer.now;
        next = answer.next;
      }
      since = first;
      if (answers === 1) return { longest, all, since };
    }
  }
}

const RAM = memfd(RAM_FRAMES * 4096);

for (const tracking of ["trapped", "untracked"] as const) {
  const service = new DeviceService();
  service.served.attach(silentVmm(tracking));
  new TableGuest(TABLES, dup(RAM), service.served.device);
  const answers = new Answers(service);
  const costs = Array.from({ length: TAKES }, () => answers.take(0));
  const again = answers.take(costs.at(-1)!.since);
  const worst = Math.max(...costs.map(({ longest }) => longest));
  reportLimit(
    `the longest pause for a snapshot of ${TABLES} tables, ${tracking}`,
    "ms",
    worst,
    MAX_PAUSE,
  );
  reportOnly(`the whole snapshot, ${tracking}`, "ms", Math.min(...costs.map(({ all }) => all)));
  reportLimit(
    `the longest pause for the next one, nothing changed, ${tracking}`,
    "ms",
    again.longest,
    MAX_PAUSE,
  );
  reportOnly(`the whole next one, ${tracking}`, "ms", again.all);
}
