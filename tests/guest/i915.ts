/**
 * A guest that has loaded its own `i915` for a vGPU under test, without a parameter.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { MODULES_PATH } from "../../examples/qemu/guest.ts";
import { BENCHMARKS_PATH } from "../../examples/qemu/igt.ts";
import type { Agent, Ended } from "./agent.ts";
import { type Bench, Guest, type GuestOptions } from "./guest.ts";
import { type GuestCase, guestTest } from "./guest_test_case.ts";
import { i915Lab, PROGRAM_PATH } from "./i915_lab.ts";
import { Vgpu } from "./vgpu.ts";

/** Whether tests may take long: more rounds, more combinations. */
export const IS_LONG = Deno.env.get("VGTT_LONG") === "1";

/** The vGPU's place on the guest's bus. */
export const SLOT = "0000:00:02.0";
/** PCI device ids of GPUs that the driver is tried with. */
export const SKYLAKE = "0x1912";
/** As {@link SKYLAKE}. */
export const KABY_LAKE = "0x5912";
/** As {@link SKYLAKE}. */
export const BROADWELL = "0x1612";

const DRIVER = "/sys/bus/pci/drivers/i915";
const RENDER_NODE = "/sys/class/drm/renderD128/dev";
/** How long a program of IGT or our own may take if nobody says. */
const LIMIT_MS = 120_000;
/** How much of its log is shown around the first line of trouble, and how much of its end where a program fails. */
const [LINES_BEFORE, LINES_AFTER, TAIL_LINES] = [5, 40, 40];
/** What a kernel says when something is wrong. */
const TROUBLE = [
  /\bWARNING\b/,
  /\bWARN_ON/,
  /\*ERROR\*/,
  /\bwedged\b/i,
  /\bBUG\b/,
  /\bOops\b/,
  /Call Trace/,
  /GPU HANG/,
  /\bResetting\b/,
  /soft lockup/,
  /blocked for more than/,
  /Out of memory/,
  /page allocation failure/,
  /general protection fault/,
  /lines are lost/,
];

/** Which guest, and which vGPU. */
export interface I915Options extends Omit<GuestOptions, "vgpus"> {
  /** The vGPU's PCI device id. Default {@linkcode SKYLAKE}. */
  readonly device?: string;
  /** More options of the device's `start`. */
  readonly deviceOptions?: readonly string[];
}

/** Declares a test with such guests. */
export function i915Test(name: string, run: (guestCase: GuestCase) => Promise<void>): void {
  guestTest(name, run, i915Lab);
}

/** A guest whose driver is loaded. */
export class I915 implements AsyncDisposable {
  /** The vGPU. */
  readonly vgpu: Vgpu;
  /** The guest. */
  readonly guest: Guest;
  readonly #log: string[] = [];
  /** How many lines of the log were looked at for trouble. */
  #checked = 0;

  private constructor(vgpu: Vgpu, guest: Guest) {
    this.vgpu = vgpu;
    this.guest = guest;
  }

  /** Starts a vGPU, boots a guest and loads the driver. */
  static async boot(bench: Bench, options: I915Options = {}): Promise<I915> {
    const { name = "guest", memory = "1G", append = "", device = SKYLAKE, deviceOptions = [] } = options;
    await using stack = new AsyncDisposableStack();
    const more = ["--device", device, "--verify", ...deviceOptions];
    const vgpu = stack.use(await Vgpu.start(bench.scope, `${name}-vgpu`, more));
    const guest = stack.use(
      await Guest.boot(bench, { ...options, name, memory, append, vgpus: [vgpu.socket] }),
    );
    const i915 = new I915(vgpu, guest);
    await i915.#load();
    stack.move();
    return i915;
  }

  /** The program in the guest. */
  get agent(): Agent {
    return this.guest.agent;
  }

  /** All that the kernel has said, a line each. */
  async log(): Promise<readonly string[]> {
    this.#log.push(...await this.agent.kernelLog());
    return this.#log;
  }

  /**
   * The kernel has said nothing of trouble since this was asked last. Lines that match one of `allowed` do not count.
   */
  async assertCleanLog(allowed: readonly RegExp[] = []): Promise<void> {
    const log = await this.log();
    const isBad = (line: string) => {
      return TROUBLE.some((sign) => sign.test(line)) && !allowed.some((sign) => sign.test(line));
    };
    const begin = this.#checked;
    this.#checked = log.length;
    const first = log.findIndex((line, index) => index >= begin && isBad(line));
    if (first < 0) return;
    const lines = log.slice(Math.max(0, first - LINES_BEFORE), first + LINES_AFTER);
    throw new Error(
      `the kernel says in ${log.slice(begin).filter(isBad).length} lines that something is wrong, first
  ${lines.join("\n  ")}\nthe device's log:\n${this.vgpu.log}`,
    );
  }

  /** The device compared translations with the guest's own tables, and none was wrong. */
  async assertVerified(): Promise<void> {
    const { verifiedSubmissions, verifyMismatches } = await this.vgpu.stats();
    assert(verifiedSubmissions! > 0, `verified submissions: ${verifiedSubmissions}`);
    assertEquals(verifyMismatches, 0, this.vgpu.log);
  }

  /** Whether there is a device for programs to open. */
  async isReady(): Promise<boolean> {
    return await this.agent.has(RENDER_NODE);
  }

  /** Runs a program; it must end well. @returns What it printed. */
  async program(path: string, args: readonly string[] = [], ms: number = LIMIT_MS): Promise<string> {
    return await this.assertEndsWell(path, args, await this.agent.run(ms, path, ...args));
  }

  /** Runs one of IGT's benchmarks; it must end well. @returns What it printed. */
  async benchmark(name: string, args: readonly string[] = [], ms?: number): Promise<string> {
    return await this.program(`${BENCHMARKS_PATH}/${name}`, args, ms);
  }

  /** Runs `i915test`; it must end well. @returns What it printed. */
  async test(args: readonly string[], ms?: number): Promise<string> {
    return await this.program(PROGRAM_PATH, args, ms);
  }

  /** A program that was run has ended well. @returns What it printed. */
  async assertEndsWell(
    path: string,
    args: readonly string[],
    { code, isLate, ms, output }: Ended,
  ): Promise<string> {
    if (code === 0 && !isLate) return output;
    const how = isLate ? `was not done after ${ms} ms` : `ended with ${code} after ${ms} ms`;
    const log = (await this.log()).slice(-TAIL_LINES).join("\n  ");
    throw new Error(`${[path, ...args].join(" ")} ${how}:\n${output}\nthe kernel's log:\n  ${log}`);
  }

  /** Takes the driver from the vGPU. */
  async unbind(): Promise<void> {
    await this.agent.echo(`${DRIVER}/unbind`, SLOT);
  }

  /** Gives the vGPU to the driver. */
  async bind(): Promise<void> {
    await this.agent.echo(`${DRIVER}/bind`, SLOT);
  }

  /** Lets the guest begin anew, and loads the driver. */
  async reboot(how: () => Promise<void>): Promise<void> {
    await how();
    this.#log.length = 0;
    await this.#load();
  }

  /** Ends the guest and the device. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.guest[Symbol.asyncDispose]();
    await this.vgpu[Symbol.asyncDispose]();
  }

  async #load(): Promise<void> {
    const order = (await this.agent.file(`${MODULES_PATH}/order`)).trim().split("\n");
    for (const module of order) await this.agent.insmod(`${MODULES_PATH}/${module}.ko`);
    if (await this.isReady()) return;
    throw new Error(`i915 has no device to offer:\n  ${(await this.log()).join("\n  ")}\n${this.vgpu.log}`);
  }
}

/** The numbers that stand alone on a line, as IGT's benchmarks print them. */
export function figures(output: string): number[] {
  return [...output.matchAll(/^\s*(\d+(?:\.\d+)?)\s*$/gm)].map(([, number]) => Number(number));
}

/** A benchmark printed so many figures, none of them nothing. */
export function assertFigures(output: string, count: number): void {
  const found = figures(output);
  assertEquals(found.length, count, output);
  assert(found.every((figure) => figure > 0), output);
}
