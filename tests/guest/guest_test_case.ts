/**
 * A test that boots guests: ignored where there is no QEMU, with a folder of its own, and with steps that share what
 * the test has booted.
 *
 * @module
 */

import type { Bench } from "./guest.ts";
import { lab, type Preparation } from "./lab.ts";
import { TestScope } from "./test_scope.ts";

/** What such a test is given. */
export interface GuestCase {
  /** Where guests boot. */
  readonly bench: Bench;
  /** The test's folder and processes. */
  readonly scope: TestScope;
  /** Runs one step. The ones after a failed step are still run: they stand for themselves. */
  step(name: string, work: () => Promise<void>): Promise<void>;
}

/**
 * Declares a test.
 *
 * @param name Its name.
 * @param run The test.
 * @param prepared What its guests are booted with.
 */
export function guestTest(
  name: string,
  run: (guestCase: GuestCase) => Promise<void>,
  prepared: Preparation = lab,
): void {
  const fn = async (context: Deno.TestContext) => {
    if ("reason" in prepared) return;
    await using scope = new TestScope();
    const step = async (name: string, fn: () => Promise<void>) => {
      // What a guest says arrives whenever it likes; the test as a whole is checked for leaks.
      await context.step({ name, fn, sanitizeOps: false, sanitizeResources: false });
    };
    await run({ bench: { lab: prepared, scope }, scope, step });
  };
  Deno.test({ name, ignore: "reason" in prepared, fn });
}
