/** A stock kernel's own i915 takes the vGPU, on each machine and as each GPU, without a parameter. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { MACHINES } from "../../examples/qemu/machine.ts";
import { assertFigures, I915, i915Test, KABY_LAKE, SKYLAKE } from "./i915.ts";

const KINDS = [{ name: "Skylake", device: SKYLAKE }, { name: "Kabylake", device: KABY_LAKE }] as const;
const PCI = { [SKYLAKE]: "8086:1912", [KABY_LAKE]: "8086:5912" } as const;

for (const machine of MACHINES) {
  for (const { name, device } of KINDS) {
    i915Test(`i915 takes a ${name} vGPU on ${machine}`, async ({ bench, step }) => {
      await using i915 = await I915.boot(bench, { machine, device });

      await step("the driver knows a vGPU of GVT-g and is content", async () => {
        const log = (await i915.log()).join("\n");
        assertStringIncludes(log, "Virtual GPU for Intel GVT-g detected.");
        assertStringIncludes(log, "VGT balloon successfully");
        assertMatch(log, /Initialized i915 .* for 0000:00:02\.0/);
        await i915.assertCleanLog();
      });

      await step("nothing was asked of it on the kernel's command line", async () => {
        const words = (await i915.agent.file("/proc/cmdline")).trim().split(" ");
        assertEquals(words.filter((word) => !/^(console|panic)=/.test(word)), []);
      });

      await step("lsgpu finds it", async () => {
        const list = await i915.program("/usr/bin/lsgpu");
        assertMatch(list, new RegExp(`Intel ${name} \\(Gen9\\)`));
        assertStringIncludes(list, "drm:/dev/dri/renderD128");
        assertStringIncludes(
          await i915.program("/usr/bin/lsgpu", ["--pci", "-n"]),
          PCI[device],
        );
      });

      await step("every engine executes empty batches", async () => {
        assertFigures(await i915.benchmark("gem_exec_nop", ["-e", "all"]), 1);
        const stats = await i915.vgpu.stats();
        for (const engine of ["Rcs0", "Bcs0", "Vcs0", "Vecs0"]) {
          assert(stats[`submissions${engine}`]! > 0, `${engine}: ${JSON.stringify(stats)}`);
        }
        await i915.assertCleanLog();
        await i915.assertVerified();
      });
    });
  }
}
