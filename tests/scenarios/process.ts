/**
 * The command line as a process of its own, with exactly the permissions of the tasks in `deno.json`.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { Lines } from "./lines.ts";

/** The project's folder. */
export const ROOT = new URL("../../", import.meta.url).pathname.slice(0, -1);

/** Name of a task that runs the command line. */
export type Task = "start" | "replay" | "demo" | "inspect";

/** What a process said, and its exit status. */
export interface Said {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The arguments of `deno` that a task of `deno.json` consists of. */
export function taskArguments(task: Task): string[] {
  const { tasks } = JSON.parse(Deno.readTextFileSync(`${ROOT}/deno.json`)) as {
    tasks: Readonly<Record<Task, { command: string }>>;
  };
  const words = tasks[task].command.replaceAll("$PWD", ROOT).match(/"[^"]*"|\S+/g)!;
  const [program, ...args] = words.map((word) => word.replaceAll('"', ""));
  assertEquals(program, "deno");
  return args;
}

/** The command that runs a task with more arguments. */
function command(task: Task, args: readonly string[], env: Readonly<Record<string, string>>): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: [...taskArguments(task), ...args],
    cwd: ROOT,
    env: { INIT_CWD: ROOT, NO_COLOR: "1", ...env },
    stdout: "piped",
    stderr: "piped",
  });
}

/** Begins to run a command. */
export function spawn(
  task: Task,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): DeviceProcess {
  return new DeviceProcess(command(task, args, env).spawn());
}

/** Runs a command to its end. */
export async function run(
  task: Task,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Said> {
  const { code, stdout, stderr } = await command(task, args, env).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

/** A device that runs as a process. */
export class DeviceProcess implements AsyncDisposable {
  /** Its log. */
  readonly log: Lines;
  /** What it prints as data. */
  readonly stdout: Lines;
  readonly #child: Deno.ChildProcess;
  #ended = false;

  /** A process that was spawned with both outputs piped. */
  constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.log = new Lines(child.stderr);
    this.stdout = new Lines(child.stdout);
  }

  /** Starts a device and waits until it listens. */
  static start(...args: readonly string[]): Promise<DeviceProcess> {
    return DeviceProcess.startIn(ROOT, ...args);
  }

  /** Starts a device for a user who is in this folder. */
  static async startIn(folder: string, ...args: readonly string[]): Promise<DeviceProcess> {
    const device = new DeviceProcess(command("start", args, { INIT_CWD: folder }).spawn());
    await device.listening();
    return device;
  }

  /** Its process id. */
  get pid(): number {
    return this.#child.pid;
  }

  /** Waits until it listens. @returns The line of the log that says so. */
  async listening(): Promise<string> {
    return await this.log.find((line) => line.includes("listening"));
  }

  /** Waits until it has ended by itself. @returns Its exit status. */
  async exited(): Promise<number> {
    const { code } = await this.#child.status;
    this.#ended = true;
    return code;
  }

  /** Sends a signal. @returns Exit status, and how long it took to exit, milliseconds. */
  async stop(signal: Deno.Signal = "SIGTERM"): Promise<{ code: number; signal: string | null; ms: number }> {
    const begin = performance.now();
    this.#child.kill(signal);
    const status = await this.#child.status;
    this.#ended = true;
    return { code: status.code, signal: status.signal, ms: performance.now() - begin };
  }

  /** Kills it if it still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#ended) await this.stop("SIGKILL");
    await this.log[Symbol.asyncDispose]();
    await this.stdout[Symbol.asyncDispose]();
  }
}

/** A folder of the test's own. */
export class TempFolder implements AsyncDisposable {
  /** Its path. */
  readonly path: string = Deno.makeTempDirSync({ dir: "/tmp", prefix: "vgtt-" });

  /** The names of the files in it. */
  names(): string[] {
    return [...Deno.readDirSync(this.path)].map(({ name }) => name).sort();
  }

  /** Removes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}
