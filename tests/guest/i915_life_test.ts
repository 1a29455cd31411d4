/** A vGPU outlives drivers and guests: they come and go, and the next one finds it as new. */

import { assertEquals, assertMatch } from "@std/assert";
import { I915, i915Test } from "./i915.ts";

const TIMES = 3;

i915Test("the driver is unbound and bound again", async ({ bench }) => {
  await using i915 = await I915.boot(bench);
  for (let time = 0; time < TIMES; time++) {
    await i915.unbind();
    assertEquals(await i915.isReady(), false);
    await i915.bind();
    assertEquals(await i915.isReady(), true);
    assertMatch(await i915.test(["smoke"]), /^ok smoke/m);
    assertMatch(await i915.test(["rebind", "50"]), /^ok rebind/m);
  }
  await i915.assertCleanLog();
  await i915.assertVerified();
});

i915Test("the guest reboots, by itself and by the machine's button", async ({ bench, step }) => {
  await using i915 = await I915.boot(bench);
  const works = async () => {
    assertMatch(await i915.test(["smoke"]), /^ok smoke/m);
    assertMatch(await i915.test(["contexts", "1"]), /^ok contexts/m);
    await i915.assertCleanLog();
    await i915.assertVerified();
  };
  await works();
  await step("by itself", async () => {
    await i915.reboot(() => i915.guest.reboot());
    await works();
  });
  await step("by the button, while engines work", async () => {
    await i915.agent.start(60_000, "/bin/i915test", "spin", "20000");
    await i915.reboot(() => i915.guest.reset());
    await works();
  });
});
