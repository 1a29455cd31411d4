import { assertEquals } from "@std/assert";
import { Client } from "../../protocol/client.ts";
import { assertInvariants } from "../../src/gtt/invariants.ts";
import { differences } from "../../src/replay/trace.ts";
import { TracePlayer } from "../../src/replay/trace_player.ts";
import { DeviceService } from "../../src/server/device_service.ts";
import { sessionStream } from "../session_stream.ts";
import { PROFILES } from "./profiles.ts";
import { record } from "./soak.ts";

/** Seeds of a profile, and operations of each trace: as many as two slow cores do in a few seconds. */
const SEEDS = [101, 102, 103, 104];
const OPS = 400;

for (const profile of PROFILES) {
  Deno.test(`the device does what the model says in profile ${profile}`, async () => {
    for (const seed of SEEDS) {
      const trace = record(profile, seed, OPS);
      const service = new DeviceService({}, true);
      await using client = await Client.open(sessionStream(service), { role: "vmm" });
      const player = new TracePlayer(client);
      await player.start(trace.config);
      for (const [step, { op, expect }] of trace.steps.entries()) {
        const wrong = differences(expect, await player.step(op));
        assertEquals(wrong, [], `${profile}, seed ${seed}, step ${step}: ${JSON.stringify(op)}`);
        assertInvariants(service.served.device.vgpu.gtt);
      }
    }
  });
}
