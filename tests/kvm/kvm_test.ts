/**
 * The example VMM on a real KVM. Needs `/dev/kvm` and gcc, and says so where it cannot run.
 *
 * @module
 */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { DeviceProcess } from "../../examples/kvm/device_process.ts";
import { buildGuest, NoGuest } from "../../examples/kvm/guest_image.ts";
import { GuestError, NoKvm, Vm } from "../../examples/kvm/kvm.ts";
import { runGuest, type RunOptions, type RunResult } from "../../examples/kvm/machine.ts";
import { RpcError } from "../../protocol/errors.ts";

/** Steps that the tests speak of. */
const WHOLE_STORES = "PTEs changed by 8-byte stores";
const HALF_STORES = "PTEs changed by 4-byte stores";
const MANY_STORES = "2048 stores to one PTE table";
const LAST = "all tables taken back";

/** How often a device is asked whether it is free again. */
const MAX_TRIES = 500;

// Here and not in a test: the C library that this loads would seem to be leaked by it.
const prepared = await prepare();
const image = prepared instanceof Uint8Array ? prepared : new Uint8Array();
const why = prepared instanceof Uint8Array ? "" : ` (skipped: ${prepared})`;

/** @returns The guest's program, or why there can be none. */
async function prepare(): Promise<Uint8Array | string> {
  try {
    new Vm()[Symbol.dispose]();
    return await buildGuest();
  } catch (error) {
    if (![NoKvm, NoGuest, Deno.errors.NotCapable].some((kind) => error instanceof kind)) throw error;
    return (error as Error).message;
  }
}

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({ name: `${name}${why}`, ignore: why !== "", fn });
}

/** Runs the guest with a device of its own. */
async function run(deviceOptions: readonly string[], options: Partial<RunOptions> = {}): Promise<RunResult> {
  await using device = await DeviceProcess.start("--debug", ...deviceOptions);
  return await runGuest({ socketPath: device.socketPath, image, ...options });
}

const once = new Map<string, Promise<RunResult>>();
/** The result of an ordinary run, which several tests look at. */
function result(mode: "trapped" | "oos"): Promise<RunResult> {
  const known = once.get(mode) ?? run(mode === "oos" ? ["--oos"] : []);
  once.set(mode, known);
  return known;
}

function step({ steps }: RunResult, name: string): RunResult["steps"][number] {
  const found = steps.find((each) => each.name === name);
  assert(found !== undefined, `the guest has no step ${name}`);
  return found;
}

/** Checks that a run came to its end with nothing wrong. */
function assertAllRight({ steps, refused, stats }: RunResult): void {
  assertEquals(
    steps.flatMap(({ number, check }) => check.problems.map((problem) => `${number}: ${problem}`)),
    [],
  );
  assertEquals(steps.at(-1)?.name, LAST);
  assertEquals([refused, stats["failedNotifications"]], [[], 0]);
}

for (const mode of ["trapped", "oos"] as const) {
  test(`guest walk = shadow walk after every step, ${mode}`, async () => {
    const run = await result(mode);
    assertAllRight(run);
    const checked = run.steps.map(({ check }) => check.checked);
    assert(checked.every((count, i) => i === 0 || count > 300), checked.join(" "));
    assertEquals(Math.max(...run.steps.map(({ check }) => check.spaces)), 4);
  });

  test(`page_track makes slots read-only and writable again, ${mode}`, async () => {
    const run = await result(mode);
    const most = run.steps.toSorted((a, b) => b.protectedPages - a.protectedPages)[0]!;
    assert(most.protectedPages > 70 && most.slots > 140, `${most.protectedPages} pages, ${most.slots} slots`);
    const last = step(run, LAST);
    assertEquals([last.traps, last.protectedPages, last.slots], [0, 0, 2]);
  });

  test(`irq reaches the guest as an MSI, ${mode}`, async () => {
    assertEquals((await result(mode)).interrupts, 3);
  });
}

test("every store to a protected page exits, of 8 and of 4 bytes", async () => {
  const run = await result("trapped");
  assertEquals([step(run, WHOLE_STORES).traps, step(run, HALF_STORES).traps], [68, 70]);
  assertEquals(step(run, MANY_STORES).traps, 2048);
});

test("a table out of sync no longer traps", async () => {
  const run = await result("oos");
  assertEquals(step(run, MANY_STORES).traps, 2);
  assert(run.traps.length < (await result("trapped")).traps.length / 2);
});

test("stores to the GTT window are posted and arrive in order", async () => {
  const run = await result("trapped");
  assert(run.posted > 400 && run.batches < run.posted / 10, `${run.posted} in ${run.batches}`);
});

test("the check finds a VMM that does not say page_wrote", async () => {
  const { steps } = await run([], { tellsStores: false });
  assertEquals(steps.find(({ check }) => check.wrong > 0)?.name, WHOLE_STORES);
});

test("few memory slots cost exits, and nothing is wrong", async () => {
  const few = await run([], { maxSlots: 40 });
  assertAllRight(few);
  assert(few.steps.every(({ slots }) => slots <= 40));
  assert(few.exits > (await result("trapped")).exits);
});

test("a guest that never exits is given up, and the device serves the next", async () => {
  await using device = await DeviceProcess.start("--debug");
  const { socketPath } = device;
  const endless = Uint8Array.of(0xeb, 0xfe); // a jump to itself
  const halted = Uint8Array.of(0xf4, 0xeb, 0xfd); // the same around hlt
  for (const program of [endless, halted]) {
    const given = () => runGuest({ socketPath, image: program, patience: 100 });
    await assertRejects(() => whenFree(given), GuestError, "The guest did nothing for 100 ms, at 0x10000");
  }
  const broken = Uint8Array.of(0x0f, 0x0b); // an undefined instruction, and nobody to handle it
  await assertRejects(
    () => whenFree(() => runGuest({ socketPath, image: broken })),
    GuestError,
    "The guest cannot go on",
  );
  assertAllRight(await whenFree(() => runGuest({ socketPath, image })));
});

/** Runs a guest as soon as the VMM before is gone for the device, too. */
async function whenFree(run: () => Promise<RunResult>): Promise<RunResult> {
  for (let left = MAX_TRIES;; left--) {
    try {
      return await run();
    } catch (error) {
      if (!(error instanceof RpcError) || error.code !== "EBUSY" || left === 0) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

test("deno task kvm says what it did and ends with status 0", async () => {
  const { code, lines } = await kvm("--oos", "--seed", "7");
  assertEquals(code, 0, lines.join("\n"));
  assertStringIncludes(lines.at(-1)!, "translations checked, wrong: 0");
});

test("deno task kvm ends with status 1 where there is no device", async () => {
  const { code, lines } = await kvm("--socket-path", "/tmp/vgtt-there-is-no-such-socket");
  assertEquals(code, 1, lines.join("\n"));
  assertStringIncludes(lines.at(-1)!, "There is no device at /tmp/vgtt-there-is-no-such-socket");
});

for (
  const [args, complaint] of [
    [["--bogus"], "There is no option --bogus"],
    [["foo"], "There is no option foo"],
    [["--seed", "x"], "--seed must be an integer from 0 to 4294967295: got x"],
    [["--seed"], "--seed needs a value"],
    [["--oos=3"], "--oos=3: this option takes no value"],
    [["--oos", "--socket-path", "s"], "not together with --socket-path"],
  ] as const
) {
  Deno.test(`deno task kvm ${args.join(" ")} says what is wrong with it and ends with status 2`, async () => {
    const { code, lines } = await kvm(...args);
    assertEquals(code, 2);
    assertStringIncludes(lines[0]!, complaint);
  });
}

test("deno task kvm takes a path from where the user is", async () => {
  const { lines } = await kvmFrom("/tmp/vgtt-no-such-folder", "--socket-path", "k.sock");
  assertStringIncludes(lines.at(-1)!, "There is no device at /tmp/vgtt-no-such-folder/k.sock");
});

/** Runs the example as a process. */
async function kvm(...args: readonly string[]): Promise<{ code: number; lines: string[] }> {
  return await kvmFrom("/tmp", ...args);
}

/** As `deno task` runs it for a user who is in this folder. */
async function kvmFrom(
  folder: string,
  ...args: readonly string[]
): Promise<{ code: number; lines: string[] }> {
  const main = new URL("../../examples/kvm/main.ts", import.meta.url).pathname;
  const permissions = ["--allow-read", "--allow-write", "--allow-net", "--allow-ffi", "--allow-env=INIT_CWD"];
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", ...permissions, `--allow-run=${Deno.execPath()},gcc`, main, ...args],
    env: { NO_COLOR: "1", INIT_CWD: folder },
  }).output();
  return { code, lines: new TextDecoder().decode(stdout).trimEnd().split("\n") };
}
