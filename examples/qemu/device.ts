/**
 * The device as a process of its own, with the permissions of `deno task start`.
 *
 * @module
 */

import { TextLineStream } from "@std/streams";
import { HelpfulError } from "./command.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

/** How a device is started. */
export interface DeviceOptions {
  /** The folder of its sockets. */
  readonly folder: string;
  /** What tells its sockets from those of others in the folder. */
  readonly name?: string;
  /** More options of `start`. */
  readonly more?: readonly string[];
  /** Told each line that it logs, as it comes. */
  readonly onLine?: (line: string) => void;
}

/** A vGPU that listens for QEMU. */
export class Device implements AsyncDisposable {
  /** Where QEMU connects, over vfio-user. */
  readonly vfioUserPath: string;
  /** Where everything else connects, with the protocol of `protocol/`. */
  readonly socketPath: string;
  readonly #child: Deno.ChildProcess;
  readonly #log: string[] = [];
  readonly #logged: Promise<void>;
  readonly #listening = Promise.withResolvers<void>();

  readonly #onLine: (line: string) => void;

  private constructor(
    vfioUserPath: string,
    socketPath: string,
    child: Deno.ChildProcess,
    onLine: (line: string) => void,
  ) {
    this.#onLine = onLine;
    this.vfioUserPath = vfioUserPath;
    this.socketPath = socketPath;
    this.#child = child;
    this.#logged = this.#read();
    this.#listening.promise.catch(() => {}); // whoever waits for it is told
  }

  /** Starts a device; it does not listen yet. */
  static async start(options: DeviceOptions): Promise<Device> {
    const { folder, name = "vgpu", more = [], onLine = () => {} } = options;
    const [vfioUserPath, socketPath] = [`${folder}/${name}.sock`, `${folder}/${name}-rpc.sock`];
    const sockets = ["--vfio-user-path", vfioUserPath, "--socket-path", socketPath];
    const child = new Deno.Command(Deno.execPath(), {
      args: [...await startTask(), ...sockets, ...more],
      cwd: ROOT,
      env: { NO_COLOR: "1" },
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    return new Device(vfioUserPath, socketPath, child, onLine);
  }

  /** Waits until QEMU can connect. @throws {HelpfulError} If the device has ended instead. */
  async listening(): Promise<void> {
    await this.#listening.promise;
  }

  /** Its process id. */
  get pid(): number {
    return this.#child.pid;
  }

  /** Settles when it has ended and its log is whole, with how, as the rest of a sentence: `by SIGKILL`, `with 1`. */
  get ended(): Promise<string> {
    return this.#child.status.then(async ({ code, signal }) => {
      await this.#logged;
      return signal === null ? `with ${code}` : `by ${signal}`;
    });
  }

  /** What it logged, a line each. */
  get log(): readonly string[] {
    return this.#log;
  }

  /** Ends it, or does nothing if it has ended. */
  async stop(signal: Deno.Signal = "SIGTERM"): Promise<void> {
    try {
      this.#child.kill(signal);
    } catch {
      // It has ended already.
    }
    await this.#child.status;
    await this.#logged;
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #read(): Promise<void> {
    const awaited = new Set([this.vfioUserPath, this.socketPath]);
    const lines = this.#child.stderr.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
    for await (const line of lines) {
      this.#log.push(line);
      this.#onLine(line);
      if (!line.includes("listening")) continue;
      for (const path of awaited) if (line.includes(path)) awaited.delete(path);
      if (awaited.size === 0) this.#listening.resolve();
    }
    this.#listening.reject(new HelpfulError(`The device did not start:\n  ${this.#log.join("\n  ")}`));
  }
}

/** The arguments of `deno` in the task `start`. */
async function startTask(): Promise<string[]> {
  const { tasks } = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`));
  return tasks.start.command.split(" ").slice(1);
}
