import { assert } from "@std/assert";
import { type HugeCounts, type Policy, runHugeGuest } from "./huge_run.ts";

/** Seeds, and steps of each run: as many as two slow cores do in a few seconds. */
const SEEDS = [1, 2, 3, 4, 5, 6];
const STEPS = 600;

for (const policy of ["trapped", "oos", "untracked"] satisfies Policy[]) {
  Deno.test(`shadow walks agree with a guest that has large pages, ${policy}`, () => {
    const total: Partial<Record<keyof HugeCounts, number>> = {};
    for (const seed of SEEDS) {
      for (const [what, count] of Object.entries(runHugeGuest(policy, seed, STEPS))) {
        total[what as keyof HugeCounts] = (total[what as keyof HugeCounts] ?? 0) + count;
      }
    }
    for (const what of ["whole", "split", "leaves64k", "bad", "churn", "compared"] as const) {
      assert(total[what]! > 20, `${what}: only ${total[what]}`);
    }
    assert(policy === "untracked" || total.refused! > 100);
    assert(policy === "trapped" || total.outOfSync! > 100);
  });
}
