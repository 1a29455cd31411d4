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

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** Failures that the message explains: a stack would say no more. */
const EXPLAINED = [NoKvm, NoGuest, GuestError, DeviceError, RpcError, ConnectionError];

/** Runs the example. @returns The exit status. */
async function main(args: readonly string[]): Promise<number> {
  const strangers: string[] = [];
  const { help, oos, ...strings } = parseArgs(args, {
    boolean: ["oos", "help"],
    string: ["socket-path", "seed"],
    unknown: (arg) => void strangers.push(arg),
  });
  const seed = Number(strings["seed"] ?? 1);
  if (help === true || strangers.length > 0 || !Number.isInteger(seed)) {
    print(USAGE);
    return help === true ? 0 : EXIT_USAGE;
  }
  try {
    new Vm()[Symbol.dispose](); // says at once what is missing
    const image = await buildGuest();
    print(`guest: ${image.length} bytes of C and assembly, built with gcc`);
    const path = strings["socket-path"];
    if (typeof path === "string") return await run(path, image, seed);
    let status = 0;
    for (const isOos of oos === true ? [true] : [false, true]) {
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
  print("step                                                           exits  traps  slots  checked  wrong");
  try {
    return printResult(await runGuest({ socketPath, image, seed, onStep: printStep })) ? 0 : EXIT_FAILED;
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
