/** IGT's benchmarks, unmodified, each for a short time; with `VGTT_LONG=1` with more of their options. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { BENCHMARKS_PATH } from "../../examples/qemu/igt.ts";
import { assertFigures, I915, i915Test, IS_LONG, KABY_LAKE, SKYLAKE } from "./i915.ts";

const ENGINES = ["rcs", "bcs", "vcs", "vecs"] as const;
/** Sizes of the objects that gem_prw reads or writes: from one byte to 8 MiB, each twice the last. */
const PRW_SIZES = 24;

/** A run of a benchmark that prints figures. */
interface Run {
  readonly name: string;
  readonly args: readonly string[];
  /** How many figures it prints. */
  readonly figures: number;
  /** Only where tests may take long. */
  readonly isLong?: boolean;
}

const RUNS: readonly Run[] = [
  ...ENGINES.map((engine) => ({ name: "gem_exec_nop", args: ["-e", engine], figures: 1, isLong: true })),
  { name: "gem_exec_nop", args: ["-e", "all", "-r", "2"], figures: 2 },
  { name: "gem_exec_nop", args: ["-e", "all", "-s"], figures: 1 },
  { name: "gem_exec_nop", args: ["-e", "all", "-s", "-f", "-r", "10"], figures: 10, isLong: true },
  { name: "gem_exec_ctx", args: ["-b", "nop"], figures: 1 },
  { name: "gem_exec_ctx", args: ["-b", "create"], figures: 1 },
  { name: "gem_exec_ctx", args: ["-b", "switch", "-e", "bcs", "-s"], figures: 1 },
  { name: "gem_exec_ctx", args: ["-b", "default", "-e", "vcs"], figures: 1 },
  { name: "gem_exec_ctx", args: ["-b", "create", "-f", "-r", "10"], figures: 10, isLong: true },
  { name: "gem_exec_fault", args: ["-e", "all"], figures: 1 },
  { name: "gem_exec_fault", args: ["-s", `${1 << 20}`], figures: 1 },
  { name: "gem_exec_fault", args: ["-s", `${64 << 20}`, "-r", "3"], figures: 3, isLong: true },
  {
    name: "gem_exec_reloc",
    args: ["-b", "16", "-r", "64", "-l", "2", "-m", "lut", "-o", "random"],
    figures: 2,
  },
  {
    name: "gem_exec_reloc",
    args: ["-b", "100", "-r", "1000", "-l", "3", "-e", "cyclic"],
    figures: 3,
    isLong: true,
  },
  { name: "gem_blt", args: ["-s", "4096", "-b", "16", "-t", "200", "-r", "1"], figures: 1 },
  { name: "gem_blt", args: ["-s", `${1 << 20}`, "-t", "200", "-r", "1"], figures: 1 },
  { name: "gem_blt", args: ["-s", `${16 << 20}`, "-t", "1000", "-r", "3"], figures: 3, isLong: true },
  // Only idle: for a busy GPU, gem_busy names what its relocations lead to by handle where it has said it would name
  // it by index, which the kernel refuses on any GPU.
  { name: "gem_busy", args: ["-I"], figures: 1 },
  { name: "gem_busy", args: ["-I", "-d", "-W"], figures: 1, isLong: true },
  { name: "gem_create", args: ["-b", "-s", "4096", "-r", "1"], figures: 1 },
  { name: "gem_create", args: ["-b", "-s", `${1 << 20}`, "-r", "1"], figures: 1, isLong: true },
  { name: "gem_prw", args: ["-r", "3", "-D", "write", "-d", "gtt"], figures: PRW_SIZES },
  { name: "gem_prw", args: ["-r", "3", "-D", "read", "-d", "cpu"], figures: PRW_SIZES },
  { name: "gem_set_domain", args: ["-r", "1", "-s", "65536", "-c", "w", "-g", "w"], figures: 1 },
];

/** Columns of intel_gpu_top -l: two frequencies, interrupts, and three for each engine, of which the first is busyness. */
const TOP_COLUMNS = 3 + 3 * ENGINES.length;
const TOP_RENDER_BUSY = 3;

/** They have a number of rounds of their own. */
const UPLOADS = ["small", "large", "large_gtt", "large_map"].map((size) => `intel_upload_blit_${size}`);
const LONG_LIMIT_MS = 480_000;

/** Steps of a simulated workload: batches of some 100 µs on every engine that wait for one another. */
const WORKLOAD = "1.RCS.500.0.0,2.BCS.300.-1.0,1.VCS.200-400.-1.0,2.VECS.300.-2.0,1.RCS.100.-1/-2.1";

i915Test("IGT's benchmarks on a Skylake vGPU", async (test) => {
  await using i915 = await I915.boot(test.bench, { machine: "pc", device: SKYLAKE });
  await benchmarks(i915, test.step);
  await tools(i915, test.step);
  await workload(i915, test.step);
});

if (IS_LONG) {
  i915Test("IGT's benchmarks on a Kaby Lake vGPU in a guest with two processors", async (test) => {
    await using i915 = await I915.boot(test.bench, { machine: "q35", device: KABY_LAKE, cpus: 2 });
    await benchmarks(i915, test.step);
    await tools(i915, test.step);
    await workload(i915, test.step);
  });
}

type Step = (name: string, work: () => Promise<void>) => Promise<void>;

/** Each benchmark runs to its end and prints what it should, and the driver has nothing to say. */
async function benchmarks(i915: I915, step: Step): Promise<void> {
  for (const { name, args, figures } of RUNS.filter(({ isLong }) => IS_LONG || isLong !== true)) {
    await step([name, ...args].join(" "), async () => {
      assertFigures(await i915.benchmark(name, args), figures);
      await settled(i915);
    });
  }

  await step("gem_latency", async () => {
    const output = await i915.benchmark("gem_latency", [
      "-t",
      "2",
      "-p",
      "2",
      "-c",
      "1",
      "-n",
      "4",
      "-w",
      "1",
    ]);
    assertMatch(output, /^[1-9]\d*\/2:(?:\s+[\d.]+us){4}$/m); // rounds, and producers that took part
    await settled(i915);
  });

  await step("gem_syslatency", async () => {
    const output = await i915.benchmark("gem_syslatency", ["-t", IS_LONG ? "20" : "2"]);
    assertMatch(output, /^gem_syslatency: cycles=[1-9]\d*, latency mean=[\d.]+us max=\d+us$/m);
    await settled(i915);
  });

  await step("gem_userptr_benchmark", async () => {
    const output = await i915.benchmark("gem_userptr_benchmark", ["--run-subtest", "userptr-sync"]);
    assertMatch(output, /^create-destroy\s+=\s+[1-9]\d* iter\/s$/m);
    assertMatch(output, /^Subtest userptr-sync: SUCCESS/m);
    await settled(i915);
  });

  for (const name of IS_LONG ? UPLOADS : []) {
    await step(name, async () => {
      assertMatch(
        await i915.benchmark(name, [], LONG_LIMIT_MS),
        /^\d+ iterations in [\d.]+ secs: [\d.]+ MB\/sec$/m,
      );
      await settled(i915);
    });
  }
}

/** A simulated workload. Its batches measure by the engine's clock how long they have run. */
async function workload(i915: I915, step: Step): Promise<void> {
  await step("gem_wsim", async () => {
    const output = await i915.benchmark("gem_wsim", [
      "-w",
      WORKLOAD,
      "-r",
      IS_LONG ? "500" : "20",
      "-c",
      "2",
    ]);
    assertMatch(output, /[\d.]+ workloads\/s/);
    await settled(i915);
  });
}

/** What watches the GPU. */
async function tools(i915: I915, step: Step): Promise<void> {
  await step("intel_gpu_top sees an engine at work", async () => {
    const nops = await i915.agent.start(60_000, `${BENCHMARKS_PATH}/gem_exec_nop`, "-r", "2");
    const args = ["timeout", "-s", "INT", "3", "/usr/bin/intel_gpu_top", "-l", "-s", "500"];
    const seen = await i915.agent.run(60_000, "/bin/busybox", ...args);
    await i915.assertEndsWell("gem_exec_nop", ["-r", "2"], await nops());
    assertEquals(seen.code, 0, seen.output);
    const rows = seen.output.split("\n").map((line) => line.trim().split(/\s+/).map(Number))
      .filter((row) => row.length === TOP_COLUMNS && row.every((word) => !Number.isNaN(word)));
    assert(rows.length >= 2, seen.output);
    assert(rows.some((row) => row[TOP_RENDER_BUSY]! > 0), seen.output);
    await settled(i915);
  });
}

async function settled(i915: I915): Promise<void> {
  await i915.assertCleanLog();
  await i915.assertVerified();
}
