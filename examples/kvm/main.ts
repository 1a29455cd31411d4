/**
 * `deno task kvm`: a small VMM on KVM, with a vGPU attached over MessagePack, and a guest that changes its page tables in every
 * way there is. After each step guest walk and shadow walk are compared.
 *
 * | file                        | what                                                                |
 * | --------------------------- | ------------------------------------------------------------------- |
 * | `kvm.ts`, `kvm_abi.ts`      | `/dev/kvm`: virtual machine, vCPU, exits, MSI; numbers and offsets  |
 * | `guest_ram.ts`              | guest RAM in a memfd                                                |
 * | `slots.ts`                  | `page_track` → read-only memory slots                               |
 * | `device_link.ts`            | the connection, posted stores                                       |
 * | `pci_bus.ts`                | configuration space, BARs                                           |
 * | `vmm.ts`                    | exits → calls; notifications → slots and interrupts: start here     |
 * | `guest_walk.ts`, `check.ts` | the check                                                           |
 * | `machine.ts`                | all of it put together                                              |
 * | `guest/`, `guest_image.ts`  | the guest, in C and assembly, and how it is built                   |
 * | `system.ts`                 | calls of the C library                                              |
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { ConnectionError, RpcError } from "../../protocol/errors.ts";
import { EXIT_FAILED, EXIT_OK, EXIT_USAGE, UsageError } from "../../src/cli/usage.ts";
import { userPath } from "../../src/cli/user_path.ts";
import { DeviceError, DeviceProcess } from "./device_process.ts";
import { buildGuest, NoGuest } from "./guest_image.ts";
import { GuestError, NoKvm, Vm } from "./kvm.ts";
import { runGuest, type RunResult, type Step } from "./machine.ts";
import type { Durations } from "./vmm.ts";

const USAGE = `Usage: deno task kvm [OPTION]…

Runs a small 64-bit guest under KVM with a vGPU attached, and compares guest walk and shadow walk after each of its steps.
Starts two devices, one after the other: without and with --oos. Exit status 1 if anything is wrong.

  --oos                only the device with --oos: table pages that are written often go out of sync
  --socket-path PATH   a device that runs already, started with --debug
  --seed N             seed of the guest's random changes (default 1)
  --help               print this text and exit
`;

const STRINGS = ["socket-path", "seed"] as const;
const FLAGS = ["oos", "help"] as const;
const MAX_SEED = 2 ** 32 - 1;
const HEADING =
  "step                                                           exits  traps  slots  checked  wrong";

/** Failures that the message explains: a stack would say no more. */
const EXPLAINED = [NoKvm, NoGuest, GuestError, DeviceError, RpcError, ConnectionError];

/** What the user asked for. */
interface Options {
  readonly oosOnly: boolean;
  /** `null`: devices of the example's own. */
  readonly socketPath: string | null;
  readonly seed: number;
}

/** Reads the command line. @returns `null` if the user asks for help. @throws {UsageError} Saying what is wrong. */
function parseOptions(args: readonly string[]): Options | null {
  const strangers: string[] = [];
  const parsed = parseArgs([...args], {
    boolean: FLAGS,
    string: STRINGS,
    unknown: (word) => void strangers.push(word),
  });
  if (parsed["help"] === true) return null;
  if (strangers.length > 0) throw new UsageError(`There is no option ${strangers[0]}`);
  const valued = args.find((word) => FLAGS.some((name) => word.startsWith(`--${name}=`)));
  if (valued !== undefined) throw new UsageError(`${valued}: this option takes no value`);
  const empty = STRINGS.find((name) => parsed[name] === "");
  if (empty !== undefined) throw new UsageError(`--${empty} needs a value`);
  const seed = Number(parsed["seed"] ?? 1);
  if (!Number.isInteger(seed) || seed < 0 || seed > MAX_SEED) {
    throw new UsageError(`--seed must be an integer from 0 to ${MAX_SEED}: got ${parsed["seed"]}`);
  }
  const [oosOnly, path] = [parsed["oos"] === true, parsed["socket-path"]];
  if (oosOnly && path !== undefined) {
    throw new UsageError("--oos is for a device of the example's own: not together with --socket-path");
  }
  return { oosOnly, socketPath: path === undefined ? null : userPath(String(path)), seed };
}

/** Runs the example. @returns The exit status. */
async function main(args: readonly string[]): Promise<number> {
  try {
    const options = parseOptions(args);
    if (options !== null) return await runAll(options);
    print(USAGE);
    return EXIT_OK;
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    print(`${error.message}\n\n${USAGE}`);
    return EXIT_USAGE;
  }
}

/** Runs the guest with each device. @returns The exit status. */
async function runAll({ oosOnly, socketPath, seed }: Options): Promise<number> {
  try {
    new Vm()[Symbol.dispose](); // says at once what is missing
    const image = await buildGuest();
    print(`guest: ${image.length} bytes of C and assembly, built with gcc`);
    if (socketPath !== null) return await run(socketPath, image, seed);
    let status = EXIT_OK;
    for (const isOos of oosOnly ? [true] : [false, true]) {
      await using device = await DeviceProcess.start("--debug", ...(isOos ? ["--oos"] : []));
      print(`\ndevice: start --debug${isOos ? " --oos" : ""}`);
      status ||= await run(device.socketPath, image, seed, device);
    }
    return status;
  } catch (error) {
    if (!EXPLAINED.some((kind) => error instanceof kind)) throw error;
    print((error as Error).message);
    return EXIT_FAILED;
  }
}

/** Runs the guest once. @returns The exit status. */
async function run(
  socketPath: string,
  image: Uint8Array,
  seed: number,
  device?: DeviceProcess,
): Promise<number> {
  const onStep = (step: Step) => {
    if (step.number === 1) print(HEADING);
    printStep(step);
  };
  try {
    return printResult(await runGuest({ socketPath, image, seed, onStep })) ? EXIT_OK : EXIT_FAILED;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new DeviceError(`There is no device at ${socketPath}`);
    const isDevices = error instanceof RpcError || error instanceof ConnectionError;
    if (isDevices && device !== undefined) print(`the device's log:\n${device.log}`);
    throw error;
  }
}

function printStep({ number, name, exits, traps, slots, check }: Step): void {
  const cells = [[exits, 7], [traps, 7], [slots, 7], [check.checked, 9], [check.wrong, 7]] as const;
  print(
    `${String(number).padStart(3)} ${name.padEnd(60)}${
      cells.map(([n, width]) => String(n).padStart(width)).join("")
    }`,
  );
  for (const problem of check.problems) print(`      ${problem}`);
}

/** @returns Whether all was right. */
function printResult(result: RunResult): boolean {
  const {
    steps,
    exits,
    loads,
    stores,
    traps,
    posted,
    batches,
    refused,
    interrupts,
    slotChanges,
    slotUpdates,
    stats,
  } = result;
  const checked = steps.reduce((sum, { check }) => sum + check.checked, 0);
  const wrong = steps.reduce((sum, { check }) => sum + check.wrong, 0);
  print(`what the guest waited for the device, median and longest:
  ${text("loads", loads)}
  ${text("stores", stores)}
  ${text("trapped stores", traps)}
and for KVM:
  ${text("changes of memory slots", slotUpdates)}; ${slotChanges} slots made or deleted
${posted} stores posted in ${batches} messages, ${interrupts} interrupts
${exits} exits, ${traps.length} trapped stores, ${checked} translations checked, wrong: ${wrong}`);
  const complaints = (stats["failedNotifications"] ?? 0) + refused.length;
  if (complaints > 0) print(`the device refused ${complaints} stores: ${refused.slice(0, 5).join(", ")}`);
  return wrong === 0 && complaints === 0;
}

function text(what: string, durations: Durations): string {
  const sorted = durations.toSorted((a, b) => a - b);
  const micros = (ms: number | undefined) => `${Math.round(1000 * (ms ?? 0))} µs`;
  return `${durations.length} ${what}: ${micros(sorted[sorted.length >> 1])}, ${micros(sorted.at(-1))}`;
}

function print(text: string): void {
  // deno-lint-ignore no-console -- this is what the example is for
  console.log(text);
}

if (import.meta.main) Deno.exit(await main(Deno.args));
