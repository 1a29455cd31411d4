/**
 * Methods that only look: open to observers.
 *
 * @module
 */

import { RpcError } from "../../protocol/errors.ts";
import { highLane, lowLane } from "../../protocol/u64.ts";
import { eventText } from "../inspect/event_list.ts";
import { registerStates } from "../inspect/register_list.ts";
import { SnapshotSource } from "../inspect/snapshot_source.ts";
import { engineState } from "../inspect/state.ts";
import { shadowTree, TreeTooLarge } from "../inspect/tree.ts";
import { walkGgtt, walkPpgtt } from "../inspect/walk.ts";
import { ENGINES } from "../streamer/engines.ts";
import { REGISTERS } from "../vgpu/registers.ts";
import type { Handlers } from "./handlers.ts";
import type { ServedDevice } from "./served_device.ts";

/** The names of these methods. */
export type ViewMethod = "stats" | "state" | "tree" | "translate" | "registers" | "snapshot" | "events";

/** The handlers of these methods. */
export function viewMethods(served: ServedDevice): Handlers<ViewMethod> {
  const snapshots = new SnapshotSource();
  const engineNames = ENGINES.map(({ name }) => name);
  return {
    stats() {
      const { vgpu, gvt, ram, host } = served.device;
      const { tables, mms, tracks, oos } = vgpu.gtt.parts;
      return {
        ...vgpu.counters,
        ...vgpu.streamerCounters,
        ...served.witnessed,
        ...vgpu.gtt.counters,
        ggttFlushes: host.ggtt.flushes,
        mms: mms.size,
        shadowTables: tables.size,
        enabledTracks: tracks.enabledTracks,
        protectedFrames: host.protectedFrames.size,
        outOfSyncPages: oos.outOfSync.size,
        freeOosPages: gvt.oosPool?.free ?? 0,
        ramRegions: ram.regions.length,
        failedNotifications: served.vmm?.failedNotifications ?? 0,
        recordedEvents: served.recordedEvents,
        vmmAttached: served.vmm === null ? 0 : 1,
      };
    },
    state() {
      const { gtt, interrupts } = served.device.vgpu;
      return {
        ...engineState(gtt),
        failsafe: gtt.failsafe,
        tracking: gtt.gvt.tracking,
        interrupts: interrupts.state(),
      };
    },
    tree(id) {
      try {
        return { ...shadowTree(served.device.vgpu.gtt, served.mm(id)) };
      } catch (error) {
        if (error instanceof TreeTooLarge) throw new RpcError("E2BIG", `tree of mm ${id}: ${error.message}`);
        throw error;
      }
    },
    translate(space, gma) {
      const { vgpu, host } = served.device;
      const lo = lowLane(gma);
      const hi = highLane(gma);
      if (space !== "ggtt") return { ...walkPpgtt(vgpu.gtt, served.mm(space), lo, hi) };
      if (hi !== 0) throw new RpcError("EINVAL", "a GGTT address is below 4 GiB");
      return { ...walkGgtt(vgpu.gtt, lo, host.ggtt.lanes) };
    },
    registers() {
      const { registers } = served.device.vgpu;
      return { rows: registerStates(REGISTERS, ENGINES, (offset) => registers.peek(offset)) };
    },
    snapshot(since, after, recheck) {
      const { vgpu: { gtt }, host, ram } = served.device;
      const { userTracks: tracks, recordedEvents } = served;
      const subject = { gtt, hostGgtt: host.ggtt.lanes, ram: ram.regions, tracks, recordedEvents };
      return { ...snapshots.answer(subject, since, after, recheck) };
    },
    events(since) {
      const { events } = served;
      events.noteTables();
      const list = events.since(since);
      // What is no longer kept is lost to whoever asks this late.
      const lost = list.length === 0 ? 0 : list[0]!.n - 1 - since;
      return {
        last: events.last,
        lost,
        now: events.now,
        events: list.map((event) => eventText(event, engineNames)),
      };
    },
  };
}
