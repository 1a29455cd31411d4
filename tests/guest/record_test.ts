/**
 * What a stock kernel's own i915 does to a vGPU is recorded, and replayed to a device that ends up the same: its memory
 * is shared with the device, which reads it while the guest's CPU goes on.
 */

import { assert, assertEquals } from "@std/assert";
import { openRecording } from "../../src/replay/recording_file.ts";
import { replayToDevice } from "../../src/replay/replay_to_device.ts";
import { engineState } from "../../src/inspect/state.ts";
import { assertFigures, I915, i915Test } from "./i915.ts";

i915Test(
  "a guest that loads i915 and runs batches is replayed from its recording",
  async ({ bench, step }) => {
    const path = `${bench.scope.folder}/recording.jsonl`;
    const live = await (async () => {
      await using i915 = await I915.boot(bench, { deviceOptions: ["--record", path] });

      await step("the driver and its programs are content with a device that records", async () => {
        assertFigures(await i915.benchmark("gem_exec_nop", ["-e", "all"]), 1);
        await i915.assertCleanLog();
        await i915.assertVerified();
      });
      return await i915.vgpu.recordedState();
    })();

    await step("each digest is the same in a replay", async () => {
      using replayed = await replayToDevice(await openRecording(path));
      assertEquals(replayed.differences, []);
      assertEquals([replayed.digests > 0, replayed.isCut], [true, false]);
      assert(replayed.events > 10_000, `${replayed.events} events`);
    });

    await step("a replay up to the moment of a look shows what was seen then", async () => {
      using replayed = await replayToDevice(await openRecording(path), { to: live.events });
      assertEquals(replayed.differences, []);
      const { state } = live;
      const replayedState: Record<string, unknown> = {
        ...engineState(replayed.service.served.device.vgpu.gtt),
      };
      assertEquals(
        replayedState,
        Object.fromEntries(Object.keys(replayedState).map((key) => [key, state[key]])),
      );
    });
  },
);
