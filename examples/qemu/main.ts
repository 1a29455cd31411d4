/**
 * `deno task qemu`: boots a Linux guest with a vGPU in stock QEMU and shows its console. Finds or prepares all that
 * it takes, says how QEMU was started, and removes what it started.
 *
 * @module
 */

import { EXIT_FAILED, EXIT_OK, EXIT_USAGE, UsageError } from "../../src/cli/usage.ts";
import { Cache } from "./cache.ts";
import { HelpfulError, shellLine } from "./command.ts";
import { Device } from "./device.ts";
import { type Emulator, findEmulator } from "./emulator.ts";
import { i915Guest, shellGuest } from "./guest.ts";
import { findIgt } from "./igt.ts";
import { Interruption } from "./interruption.ts";
import { findKernel } from "./kernel.ts";
import { machineArguments } from "./machine.ts";
import { type Options, parseOptions, USAGE } from "./options.ts";
import { Steps } from "./steps.ts";
import { Tally } from "./tally.ts";

/** Levels of the device's log lines that are shown at once. */
const URGENT = /^\S+ (warn|error) /;

/** What a guest is booted with. */
interface Prepared {
  readonly emulator: Emulator;
  /** Path of the kernel. */
  readonly kernel: string;
  /** Path of the initramfs. */
  readonly initrd: string;
}

/** All that has to be there before a guest can boot. */
async function prepare(options: Options, steps: Steps, signal: AbortSignal): Promise<Prepared> {
  using cache = await Cache.open(options.cache, steps, signal);
  if (options.fresh) cache.clear();
  const emulator = await findEmulator(cache, steps, options.qemu);
  const kernel = await findKernel(cache, steps, options.kernel);
  const initrd = options.i915
    ? await i915Guest(cache, kernel, await findIgt(cache, steps))
    : await shellGuest(cache, kernel);
  return { emulator, kernel: kernel.image, initrd };
}

/** The kernel's command line. */
function appended({ i915, append }: Options): string {
  // Nobody would use the shell.
  const end = i915 && !Deno.stdin.isTerminal() ? ["vgtt_end=1"] : [];
  return ["console=ttyS0 quiet panic=-1", ...end, append].join(" ").trimEnd();
}

/** What the device is started with, besides its sockets. */
function deviceOptions({ device, record, i915 }: Options): string[] {
  const identity = device === undefined ? [] : ["--device", device];
  const recording = record === undefined ? [] : ["--record", record];
  return [...identity, ...recording, ...(i915 ? ["--verify"] : [])];
}

/** Boots the guest. @returns The exit status. */
async function boot(options: Options, steps: Steps, signal: AbortSignal): Promise<number> {
  const { emulator, ...files } = await prepare(options, steps, signal);
  signal.throwIfAborted();
  const folder = await Deno.makeTempDir({ prefix: "vgtt-qemu-" });
  try {
    const onLine = (line: string) => {
      if (URGENT.test(line)) say(`[device] ${line}\n`);
    };
    await using device = await Device.start({ folder, more: deviceOptions(options), onLine });
    await steps.run("device: starting", () => device.listening());
    const args = machineArguments(emulator, {
      ...options,
      ...files,
      append: appended(options),
      vgpus: [device.vfioUserPath],
      more: ["-serial", "mon:stdio"],
    });
    steps.note("guest: its console follows; it boots for some seconds before it says anything");
    steps.note(`device: look inside with deno task inspect web --socket-path ${device.socketPath}`);
    steps.note(`${shellLine(emulator.program, args)}\n`);
    signal.throwIfAborted();
    await using tally = options.i915 ? await Tally.open(device.socketPath) : null;
    const code = await runGuest(emulator.program, args, device, steps, signal);
    if (tally !== null) say(tally.text());
    return code;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Runs QEMU until it ends, even if the device does before. @returns The exit status. */
async function runGuest(
  program: string,
  args: readonly string[],
  device: Device,
  steps: Steps,
  signal: AbortSignal,
): Promise<number> {
  const qemu = new Deno.Command(program, { args: [...args], stdin: "inherit", signal }).spawn();
  let [isOver, isLost] = [false, false];
  device.ended.then((how) => {
    if (isOver || signal.aborted) return;
    isLost = true;
    steps.note(`device: ended ${how} under the guest; the vGPU reads all ones now`);
  });
  const { code } = await qemu.status;
  isOver = true;
  await device.stop();
  steps.note(`QEMU has ended with ${code}; the device's log:`);
  for (const line of device.log) say(`  ${line}\n`);
  return code === EXIT_OK && isLost ? EXIT_FAILED : code;
}

async function main(args: readonly string[]): Promise<number> {
  using interruption = new Interruption();
  try {
    const options = parseOptions(args);
    if (options === null) {
      say(USAGE);
      return EXIT_OK;
    }
    const code = await boot(options, new Steps(), interruption.signal);
    return interruption.status ?? code;
  } catch (error) {
    // What an interruption breaks is no news.
    if (interruption.status !== null) return interruption.status;
    if (error instanceof UsageError) {
      say(`${error.message}\n\n${USAGE}`);
      return EXIT_USAGE;
    }
    if (!(error instanceof HelpfulError)) throw error;
    say(`${error.message}\n`);
    return EXIT_FAILED;
  }
}

function say(text: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(text));
}

if (import.meta.main) Deno.exit(await main(Deno.args));
