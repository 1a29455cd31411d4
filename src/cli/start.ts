/**
 * `start`: runs the device for a VMM until it is told to stop.
 *
 * @module
 */

import { PROTOCOL_VERSION } from "../../protocol/limits.ts";
import { loadLibc, OpenFlag } from "../platform/libc.ts";
import { adoptListening, listenByLibc, type ListeningSocket } from "../server/fast_listener.ts";
import { SERVER_NAME } from "../server/server_name.ts";
import { ListenError } from "../server/socket_file.ts";
import { graphicsMemory, vgpuConfig } from "../vgpu/vgpu_options.ts";
import { DeviceThread, type ThreadSocket } from "./device_thread.ts";
import { loadLater } from "./load_later.ts";
import { makeLog } from "./log.ts";
import type { Serving } from "./serving.ts";
import { parseStartOptions, START_USAGE, type StartOptions } from "./start_options.ts";
import { print, say } from "./terminal.ts";
import { EXIT_FAILED, EXIT_OK, UsageError } from "./usage.ts";

/** What `--print-capabilities` prints. */
const CAPABILITIES = {
  type: "gpu",
  server: SERVER_NAME,
  features: ["messagepack-rpc", "oos", "huge-pages", "verify", "debug"],
  protocol: PROTOCOL_VERSION,
};

/** Runs `start`. @returns The exit status. @throws {UsageError} When the options are wrong. */
export async function start(args: readonly string[]): Promise<number> {
  const options = parseStartOptions(args, defaultSocketPath);
  if (options.print === "help") print(START_USAGE);
  if (options.print === "capabilities") print(JSON.stringify(capabilities()));
  if (options.print !== null) return EXIT_OK;

  checkVgpu(options);
  try {
    const serving = await (mayCallLibc() ? serveInThread(options) : servePortably(options));
    return await runUntilSignal(serving, options);
  } catch (error) {
    if (!(error instanceof ListenError || error instanceof PidFileError)) throw error;
    say(error.message);
    return EXIT_FAILED;
  }
}

/** How long a message may go on after a signal, milliseconds: longer than the most expensive one takes. */
const STOP_GRACE = 3000;

/** Whether the C library may be called; without it nothing but MessagePack-RPC is served. */
function mayCallLibc(): boolean {
  return Deno.permissions.querySync({ name: "ffi" }).state === "granted";
}

/** What this program can do as it was started. */
function capabilities(): object {
  const features = mayCallLibc() ? [...CAPABILITIES.features, "vfio-user"] : CAPABILITIES.features;
  return { ...CAPABILITIES, features };
}

async function runUntilSignal(serving: Serving, { pidFile, log: logOptions }: StartOptions): Promise<number> {
  const log = makeLog(logOptions, (line) => say(line));
  const stopped = Promise.withResolvers<"late">();
  let deadline: ReturnType<typeof setTimeout> | undefined;
  const onSignal = () => {
    serving.stop();
    deadline ??= setTimeout(() => stopped.resolve("late"), STOP_GRACE);
  };
  try {
    using _removed = new PidFile(pidFile);
    Deno.addSignalListener("SIGTERM", onSignal);
    Deno.addSignalListener("SIGINT", onSignal);
    for (const on of serving.names) log("info", "listening", { on, pid: Deno.pid });
    const how = await Promise.race([serving.ended, stopped.promise]);
    if (how === "late") log("warn", "stopped in the middle of a message");
    else log("info", "stopped");
    return EXIT_OK;
  } finally {
    clearTimeout(deadline);
    Deno.removeSignalListener("SIGTERM", onSignal);
    Deno.removeSignalListener("SIGINT", onSignal);
    serving.stop();
    serving.close();
  }
}

/** Serves in this thread; all that it needs is loaded for it. */
async function servePortably(options: StartOptions): Promise<Serving> {
  const portable = await loadLater<typeof import("./serve_portably.ts")>("serve_portably.ts");
  return await portable.servePortably(options);
}

/** Serves by the C library, in a thread of its own: whatever the device is asked, in the shortest time. */
async function serveInThread(options: StartOptions): Promise<Serving> {
  const libc = loadLibc();
  const { fd, socketPath, vfioUserPath, socketMode: mode, vgpu, oos, verify, debug, log } = options;
  const listening: ListeningSocket[] = [];
  const sockets: ThreadSocket[] = [];
  const add = (protocol: ThreadSocket["protocol"], socket: ListeningSocket) => {
    listening.push(socket);
    sockets.push({ name: socket.name, fd: socket.fd, protocol });
  };
  const close = () => listening.forEach((socket) => socket.close());
  try {
    if (fd !== null) add("rpc", adoptListening(libc, fd));
    if (socketPath !== null) add("rpc", await listenByLibc(libc, socketPath, { mode }));
    if (vfioUserPath !== null) add("vfio-user", await listenByLibc(libc, vfioUserPath, { mode }));
    const thread = new DeviceThread(libc, { vgpu, oos, verify, debug, log, sockets });
    return {
      names: sockets.map(({ name, protocol }) => protocol === "rpc" ? name : `${name} (vfio-user)`),
      ended: thread.ended,
      stop: () => thread.stop(),
      close() {
        thread[Symbol.dispose]();
        close();
      },
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** Where a device listens if it is not told: in the user's own folder for such things, if it is known. */
export function defaultSocketPath(): string {
  const variable = "XDG_RUNTIME_DIR";
  const mayRead = Deno.permissions.querySync({ name: "env", variable }).state === "granted";
  const folder = mayRead ? Deno.env.get(variable) ?? "" : "";
  return `${folder === "" ? "/tmp" : folder}/vgtt.sock`;
}

/** @throws {UsageError} If there cannot be such a vGPU. */
function checkVgpu({ vgpu }: StartOptions): void {
  try {
    graphicsMemory(vgpuConfig(vgpu));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UsageError(`Cannot make such a vGPU: ${error.message}`);
  }
}

/** The pid file cannot be written. */
class PidFileError extends Error {
  override readonly name = "PidFileError";
}

/** A file that holds the process id while the device runs. */
class PidFile implements Disposable {
  readonly #path: string | null;

  constructor(path: string | null) {
    this.#path = path;
    if (path === null) return;
    const other = liveProcessIn(path);
    if (other !== null) {
      throw new PidFileError(
        `Cannot write the pid file: ${path} is that of process ${other}, which is running`,
      );
    }
    try {
      Deno.writeTextFileSync(path, `${Deno.pid}\n`);
    } catch (error) {
      throw new PidFileError(`Cannot write the pid file: ${error instanceof Error ? error.message : error}`);
    }
  }

  [Symbol.dispose](): void {
    if (this.#path === null) return;
    try {
      if (Deno.readTextFileSync(this.#path) === `${Deno.pid}\n`) Deno.removeSync(this.#path);
    } catch (error) {
      // Somebody tidied up before us.
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

/** The process that a pid file names, if it is there and can be seen. */
function liveProcessIn(path: string): number | null {
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch {
    return null;
  }
  const [, pid] = /^(\d{1,10})\n?$/.exec(text) ?? [];
  if (pid === undefined || !mayCallLibc()) return null;
  const libc = loadLibc();
  const fd = libc.open(`/proc/${pid}`, OpenFlag.PATH | OpenFlag.CLOEXEC);
  if (fd < 0) return null;
  libc.close(fd);
  return Number(pid);
}
