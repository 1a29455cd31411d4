import { assert } from "@std/assert";
import { runGuest } from "./untracked_run.ts";

/** Seeds, and steps of each run: as many as two slow cores do in a few seconds. */
const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8];
const STEPS = 2000;

for (const seed of SEEDS) {
  Deno.test(`shadow walks agree with a guest that nobody watches, seed ${seed}`, () => {
    const { compared, churn } = runGuest(seed, STEPS);
    assert(compared > STEPS / 10, `only ${compared} comparisons`);
    assert(churn > STEPS / 10, `only ${churn} tables came and went`);
  });
}
