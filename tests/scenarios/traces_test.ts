import { assertEquals } from "@std/assert";
import { playTrace } from "../../src/replay/trace_player.ts";
import { parseTrace } from "../../src/replay/trace.ts";
import { Attached } from "./attached.ts";

const TRACES = new URL("../model/traces/", import.meta.url);
const names = [...Deno.readDirSync(TRACES)].map(({ name }) => name).filter((name) => name.endsWith(".jsonl"));

for (const name of names.sort()) {
  Deno.test(`a device on a socket does what ${name} recorded`, async () => {
    await using device = await Attached.start({ debug: true, ram: 0 });
    const trace = parseTrace(await Deno.readTextFile(new URL(name, TRACES)));
    assertEquals(await playTrace(device.vmm, trace), []);
    device.assertSound();
  });
}
