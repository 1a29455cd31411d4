/**
 * A device of the example's own: `deno task start` as a process, with exactly that task's permissions.
 *
 * @module
 */

const ROOT = new URL("../../", import.meta.url).pathname;
const TASK = "start";

/** How much of a device's log is kept, characters. */
const MOST_LOG = 4096;

/** The device did not start. */
export class DeviceError extends Error {
  /** Always `"DeviceError"`. */
  override readonly name = "DeviceError";
}

/** A device that runs as a process and listens on a socket in a temporary folder. */
export class DeviceProcess implements AsyncDisposable {
  /** Path of its socket. */
  readonly socketPath: string;
  readonly #folder: string;
  readonly #child: Deno.ChildProcess;
  readonly #end: Promise<void>;
  #log = "";
  #listens: () => void = () => {};
  readonly #isListening = new Promise<void>((resolve) => this.#listens = resolve);

  private constructor(folder: string, socketPath: string, child: Deno.ChildProcess) {
    this.#folder = folder;
    this.socketPath = socketPath;
    this.#child = child;
    this.#end = this.#read();
  }

  /**
   * Starts a device and waits until it listens.
   *
   * @param options More options of `deno task start`.
   * @throws {DeviceError} If it ends instead; the message is what it said.
   */
  static async start(...options: readonly string[]): Promise<DeviceProcess> {
    const folder = await Deno.makeTempDir({ dir: "/tmp", prefix: "vgtt-kvm-" });
    const socketPath = `${folder}/s`;
    const child = new Deno.Command(Deno.execPath(), {
      args: [...taskArguments(), "--socket-path", socketPath, ...options],
      cwd: ROOT,
      env: { NO_COLOR: "1" },
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const device = new DeviceProcess(folder, socketPath, child);
    const isUp = await Promise.race([device.#isListening.then(() => true), device.#end.then(() => false)]);
    if (isUp) return device;
    await device[Symbol.asyncDispose]();
    throw new DeviceError(`The device did not start:\n${device.log}`);
  }

  /** The end of what it said. */
  get log(): string {
    return this.#log;
  }

  /** Reads its log to the end, so that it never waits for a reader. */
  async #read(): Promise<void> {
    for await (const text of this.#child.stderr.pipeThrough(new TextDecoderStream())) {
      this.#log = (this.#log + text).slice(-MOST_LOG);
      if (this.#log.includes("listening")) this.#listens();
    }
  }

  /** Stops it and removes its socket. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGTERM");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended already
    }
    await this.#child.status;
    await this.#end;
    await Deno.remove(this.#folder, { recursive: true });
  }
}

/** What follows `deno` in the task. */
function taskArguments(): string[] {
  const { tasks } = JSON.parse(Deno.readTextFileSync(`${ROOT}deno.json`)) as {
    tasks: Readonly<Record<typeof TASK, { command: string }>>;
  };
  return tasks[TASK].command.split(" ").slice(1);
}
