import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { generate, type Profile } from "./generate.ts";
import { PROFILES } from "./profiles.ts";
import { record } from "./soak.ts";
import type { TraceStep } from "../../src/replay/trace.ts";

const SEEDS = [1, 2, 3];
const OPS = 300;

/** The steps of a few traces of a profile; `record` checks the model's invariants after every one. */
function stepsOf(profile: Profile): TraceStep[] {
  return SEEDS.flatMap((seed) => record(profile, seed, OPS).steps);
}

for (const profile of PROFILES) {
  Deno.test(`generate() keeps the model consistent in profile ${profile}`, () => {
    const steps = stepsOf(profile);
    assertEquals(steps.length, SEEDS.length * OPS);
    assertEquals(steps.filter(({ expect }) => JSON.stringify(expect).includes('"D"')), []);
  });
}

Deno.test("generate() gives the same trace for the same seed and another for another", () => {
  assertEquals(generate("hostile", 5, 200), generate("hostile", 5, 200));
  assertNotEquals(generate("hostile", 5, 200).ops, generate("hostile", 6, 200).ops);
});

Deno.test("generate() injects nothing in profile sane", () => {
  assert(stepsOf("sane").every(({ op }) => op.op !== "inject"));
});

Deno.test("generate() makes tables go out of sync in profile oos", () => {
  assert(stepsOf("oos").some(({ op, expect }) => op.op === "guest_write" && (expect.oos?.length ?? 0) > 0));
});

Deno.test("generate() runs out of memory during trapped stores in profile reclaim", () => {
  assert(stepsOf("reclaim").some(({ op, expect }) => op.op === "guest_write" && expect.lru !== undefined));
});

Deno.test("generate() leaves half stores queued in profile partial", () => {
  assert(
    stepsOf("partial").some(({ op, expect }) => op.op === "guest_write" && (expect.post?.length ?? 0) > 1),
  );
});

Deno.test("generate() names dead mms in profile hostile", () => {
  assert(stepsOf("hostile").some(({ expect }) => expect.nomm === true));
});
