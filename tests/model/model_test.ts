import { assertEquals } from "@std/assert";
import { violations } from "./invariants.ts";
import { Model } from "./model.ts";
import { differences, parseTrace } from "../../src/replay/trace.ts";

const TRACES = new URL("traces/", import.meta.url);
const names = [...Deno.readDirSync(TRACES)].map((file) => file.name).filter((name) =>
  name.endsWith(".jsonl")
);

Deno.test("traces hold all recordings", () => {
  assertEquals(names.length, 25);
});

for (const name of names.sort()) {
  Deno.test(`Model.step() answers as recorded in ${name}`, () => {
    const { config, steps } = parseTrace(Deno.readTextFileSync(new URL(name, TRACES)));
    const model = new Model(config);
    for (const [i, { op, expect }] of steps.entries()) {
      const wrong = [...differences(expect, model.step(op)), ...violations(model.vgpu)];
      assertEquals(wrong, [], `line ${i + 2}: ${JSON.stringify(op)}`);
    }
  });
}
