// A fake device for tests of loops, also of those that work in another thread: what it does is fixed.

import { FakeService } from "./protocol_fake.ts";
import type { LoopEnd } from "./loop_habits.ts";

/**
 * `stats` tells who is there, `state` takes 4 ms, `tree` of 0 sends the VMM an `irq`, `tree` of 1 sends it more than it is
 * allowed to leave unread, `page_wrote` has a bug.
 */
export class ScriptedService extends FakeService {
  #states = 0;

  constructor() {
    super();
    this.records = false;
    this.overrides.set("stats", (peer) => {
      return { peer: peer.id, peers: this.peers.size, vmm: this.vmm !== null ? 1 : 0, states: this.#states };
    });
    this.overrides.set("state", () => (this.#states++, work(4), {}));
    this.overrides.set("tree", (_peer, [mm]) => {
      if (mm === 0) this.vmm?.notify("irq", [5]);
      for (let i = 0; i < 2_000_000 && mm === 1; i++) this.vmm?.notify("page_track", [2 ** 33 + i, true]);
      return {};
    });
    this.overrides.set("page_wrote", () => {
      throw new TypeError("bug");
    });
  }

  /** How it is when its loop has ended. */
  get end(): LoopEnd {
    return { peers: this.peers.size, states: this.#states };
  }
}

/** Keeps the thread busy. */
export function work(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}
