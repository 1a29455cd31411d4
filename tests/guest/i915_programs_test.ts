/** Our own programs on the guest's driver: what engines store is checked, exactly, on each machine and as each GPU. */

import { assert, assertMatch } from "@std/assert";
import { BROADWELL, I915, type I915Options, i915Test, IS_LONG, KABY_LAKE, SKYLAKE } from "./i915.ts";

/** What a driver says of engines that hang and are reset: here it is what was asked for. */
const RESETS = [/Resetting \w+ for stopped heartbeat/, /context reset due to GPU hang/, /Fence expiration/];
const CAPTURED = [...RESETS, /GPU HANG: ecode/];
/** Translations that the witness has to have seen in one guest. */
const WITNESSED = 100_000;
const LONG_LIMIT_MS = 900_000;

/** The programs, each with what they are told; more of everything where tests may take long, and in the first guest. */
function programs(isThorough: boolean): readonly (readonly string[])[] {
  const count = (few: number, many: number, endless: number) =>
    `${IS_LONG ? endless : isThorough ? many : few}`;
  return [
    ["params"],
    ["smoke"],
    ["stores"],
    ["blits", count(100, 800, 5000)],
    ["rebind", count(300, 2500, 20_000)],
    ["contexts", count(1, 8, 24)],
    ["math"],
    ["atomics"],
    ["predicate"],
    ["semaphores"],
    ["spin", count(300, 1500, 5000)],
    ["soak", count(300, 2000, 20_000), "1"],
  ];
}

const GUESTS: readonly (I915Options & { readonly name: string; readonly isThorough?: boolean })[] = [
  { name: "a Skylake on pc", machine: "pc", device: SKYLAKE, isThorough: true },
  {
    name: "a Kaby Lake on pc, with huge pages",
    machine: "pc",
    device: KABY_LAKE,
    deviceOptions: ["--huge-pages"],
  },
  {
    name: "a Skylake on q35, with huge pages",
    machine: "q35",
    device: SKYLAKE,
    deviceOptions: ["--huge-pages"],
  },
  { name: "a Kaby Lake on q35, with RAM above 4 GiB", machine: "q35", device: KABY_LAKE, memory: "6G" },
  { name: "a Broadwell on pc", machine: "pc", device: BROADWELL },
];

for (const { name, isThorough = false, ...options } of GUESTS) {
  i915Test(`programs on ${name}`, async ({ bench, step }) => {
    await using i915 = await I915.boot(bench, options);
    for (const [program, ...args] of programs(isThorough)) {
      await step([program!, ...args].join(" "), async () => {
        assertMatch(await i915.test([program!, ...args], LONG_LIMIT_MS), new RegExp(`^ok ${program}`, "m"));
        await i915.assertCleanLog();
        await i915.assertVerified();
      });
    }

    await step("endless batches are ended by the driver, after which new ones run", async () => {
      assertMatch(await i915.test(["hang"]), /^ok hang: 4 hangs/m);
      await i915.assertCleanLog(RESETS);
      assertMatch(await i915.test(["smoke"]), /^ok smoke/m);
      await i915.assertVerified();
    });

    if (!isThorough) return;
    await step("the witness has seen enough", async () => {
      const { verifiedTranslations } = await i915.vgpu.stats();
      assert(verifiedTranslations! >= WITNESSED, `${verifiedTranslations} translations were compared`);
    });
  });
}

i915Test("interrupts reach the driver by the line where there are no messages", async ({ bench }) => {
  await using i915 = await I915.boot(bench, { append: "pci=nomsi" });
  assertMatch(await i915.test(["smoke"]), /^ok smoke/m);
  assertMatch(await i915.test(["semaphores"]), /^ok semaphores/m);
  const { msis, intxEdges } = await i915.vgpu.stats();
  assert(msis === 0 && intxEdges! > 0, `${msis} messages, ${intxEdges} edges`);
  await i915.assertCleanLog();
});

if (IS_LONG) {
  i915Test("endless batches reach the request's own time limit", async ({ bench }) => {
    await using i915 = await I915.boot(bench);
    assertMatch(await i915.test(["hang", "limit"]), /^ok hang: 2 hangs/m);
    await i915.assertCleanLog([...CAPTURED, /request cancellation/, /soft lockup/]);
    await i915.assertVerified();
  });
}
