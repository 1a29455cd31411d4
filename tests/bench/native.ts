/**
 * The programs of `native/`: a client, and the echo server that is the floor of what any server can do. They are compiled
 * for each run, so that both ends of every comparison come from the same compiler and machine.
 *
 * @module
 */

import { say } from "../../src/cli/terminal.ts";
import { DeviceProcess, ROOT } from "../scenarios/process.ts";
import { Lines } from "../scenarios/lines.ts";

/** Round trips of a client. */
export interface RoundTrips {
  /** How many. */
  readonly count: number;
  /** Half of them took no longer, ns. */
  readonly p50: number;
  /** Of a hundred of them one took longer, ns. */
  readonly p99: number;
  /** None took longer, ns. */
  readonly longest: number;
}

/** A server that a client can talk to, as a process. */
export interface ServerProcess extends AsyncDisposable {
  /** The socket's path. */
  readonly path: string;
}

/** A client that is attached. */
export interface SteadyClient {
  /**
   * Asks without a pause, from now on.
   *
   * @param from When measuring begins, by `Date.now`.
   * @param until When it ends.
   * @returns How many round trips there were between these moments, and how long they took.
   */
  run(from: number, until: number): Promise<RoundTrips>;
}

/** On which processor a process has to run; `null`: on any. */
export type Core = number | null;

/** Programs that were compiled. */
export class Native {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Compiles the programs. Ends this one, saying so, if there is no compiler.
   *
   * @param folder Where they go.
   * @returns They.
   */
  static async compile(folder: string): Promise<Native> {
    for (const name of ["client", "echo"]) {
      const source = new URL(`native/${name}.c`, import.meta.url).pathname;
      const { success } = await gcc(["-O2", "-Wall", "-o", `${folder}/${name}`, source]);
      if (!success) throw new Error(`gcc cannot compile ${source}`);
    }
    return new Native(folder);
  }

  /** Starts an echo server for the conversation in a folder and waits until it listens. */
  async echo(path: string, conversation: string, core: Core): Promise<ServerProcess> {
    const child = pinned(core, `${this.#folder}/echo`, [path, conversation], "inherit").spawn();
    const lines = new Lines(child.stdout);
    await lines.find((line) => line === "listening");
    return {
      path,
      async [Symbol.asyncDispose]() {
        child.kill("SIGKILL");
        await child.status;
        await lines[Symbol.asyncDispose]();
      },
    };
  }

  /**
   * Round trips, one after the other, after as many to warm up.
   *
   * @param server Who answers.
   * @param conversation The folder with what is said.
   * @param core Where the client runs.
   * @param count How many.
   * @returns How long they took.
   */
  async ask(server: ServerProcess, conversation: string, core: Core, count: number): Promise<RoundTrips> {
    return roundTrips(await this.#client(core, [server.path, conversation, "ask", `${count}`]));
  }

  /**
   * Posted stores until all of them have been carried out.
   *
   * @param server Who carries them out.
   * @param conversation The folder with what is said.
   * @param core Where the client runs.
   * @param piece Bytes that are written at once.
   * @param rounds How often all of them are sent, after as often to warm up.
   * @returns Median time of a round, ns.
   */
  async post(
    server: ServerProcess,
    conversation: string,
    core: Core,
    piece: number,
    rounds: number,
  ): Promise<number> {
    return Number(await this.#client(core, [server.path, conversation, "post", `${piece}`, `${rounds}`]));
  }

  /**
   * Attaches a client that is to ask without a pause.
   *
   * @param server Who answers.
   * @param conversation The folder with what is said.
   * @returns The client.
   */
  async steady(server: ServerProcess, conversation: string): Promise<SteadyClient> {
    const args = [server.path, conversation, "steady"];
    const child = new Deno.Command(`${this.#folder}/client`, { args, stdin: "piped", stdout: "piped" })
      .spawn();
    const said = new Lines(child.stdout);
    await said.find((line) => line === "attached");
    return {
      async run(from, until) {
        const writer = child.stdin.getWriter();
        await writer.write(new TextEncoder().encode(`${from} ${until}\n`));
        await writer.close();
        const figures = await said.find(() => true);
        await child.status;
        await said[Symbol.asyncDispose]();
        return roundTrips(figures);
      },
    };
  }

  async #client(core: Core, args: readonly string[]): Promise<string> {
    const { success, stdout } = await pinned(core, `${this.#folder}/client`, args, "inherit").output();
    if (!success) throw new Error(`the client failed: client ${args.join(" ")}`);
    return new TextDecoder().decode(stdout);
  }
}

/** Runs the compiler. Ends this program if there is none. */
async function gcc(args: string[]): Promise<Deno.CommandOutput> {
  try {
    return await new Deno.Command("gcc", { args, stderr: "inherit" }).output();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    say("This measurement needs gcc: what the device is compared with is written in C");
    Deno.exit(1);
  }
}

function roundTrips(text: string): RoundTrips {
  const [count, p50, p99, longest] = text.split(" ").map(Number);
  return { count: count!, p50: p50!, p99: p99!, longest: longest! };
}

/** A command that runs on one processor, with all of its threads. */
function pinned(
  core: Core,
  program: string,
  args: readonly string[],
  stderr: "inherit" | "piped",
): Deno.Command {
  const options = { cwd: ROOT, stdout: "piped", stderr } as const;
  return core === null
    ? new Deno.Command(program, { ...options, args: [...args] })
    : new Deno.Command("taskset", { ...options, args: ["-c", `${core}`, program, ...args] });
}

/**
 * Starts a device on one processor and waits until it listens.
 *
 * @param flags What Deno allows it.
 * @param option The option that names its socket.
 * @param path The socket's path.
 * @param core Where it runs.
 * @param more More options of `start`.
 * @returns The device.
 */
export async function startDevice(
  flags: readonly string[],
  option: "--socket-path" | "--vfio-user-path",
  path: string,
  core: Core,
  more: readonly string[] = [],
): Promise<ServerProcess> {
  const args = ["run", "--no-check", ...flags, "src/cli/main.ts", "start", option, path, ...more];
  const device = new DeviceProcess(pinned(core, Deno.execPath(), args, "piped").spawn());
  await device.listening();
  return { path, [Symbol.asyncDispose]: () => device[Symbol.asyncDispose]() };
}
