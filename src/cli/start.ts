/**
 * `start`: runs the device for a VMM until it is told to stop.
 *
 * @module
 */

import { PROTOCOL_VERSION } from "../../protocol/limits.ts";
import type { Exporter } from "../metrics/exporter.ts";
import { loadLibc, OpenFlag } from "../platform/libc.ts";
import { adoptListening, listenByLibc, type ListeningSocket } from "../server/fast_listener.ts";
import type { Log } from "../server/rpc_session.ts";
import { SERVER_NAME } from "../server/server_name.ts";
import { ListenError } from "../server/socket_file.ts";
import { graphicsMemory, vgpuConfig } from "../vgpu/vgpu_options.ts";
import { DeviceThread, type ThreadSocket } from "./device_thread.ts";
import { environment } from "./environment.ts";
import { loadLater } from "./load_later.ts";
import { makeLog } from "./log.ts";
import { createRecording, RecordError } from "./record_file.ts";
import type { Serving } from "./serving.ts";
import { defaultSocketPath } from "./socket_path.ts";
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
    const isExpected = [ListenError, PidFileError, RecordError].some((kind) => error instanceof kind);
    if (!isExpected) throw error;
    say((error as Error).message);
    return EXIT_FAILED;
  }
}

/** How long a message may go on after a signal, milliseconds: longer than the most expensive one takes. */
const STOP_GRACE = 3000;

/** Whether the C library may be called; without it nothing but MessagePack-RPC is served. */
function mayCallLibc(): boolean {
  return Deno.permissions.querySync({ name: "ffi" }).state === "granted";
}

/** Whether Deno exports by OpenTelemetry. */
function isObservedByDeno(): boolean {
  return environment("OTEL_DENO") === "true";
}

/** What this program can do as it was started. */
function capabilities(): object {
  const features = mayCallLibc() ? [...CAPABILITIES.features, "vfio-user"] : CAPABILITIES.features;
  return { ...CAPABILITIES, features };
}

async function runUntilSignal(serving: Serving, options: StartOptions): Promise<number> {
  const { pidFile } = options;
  const log = makeLog(options.log, (line) => say(line));
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
    serving.ended.catch(() => {}); // it may end before it is waited for
    await using exporter = await exportMetrics(serving, options, log);
    for (const on of [...serving.names, ...exporter?.names ?? []]) {
      log("info", "listening", { on, pid: Deno.pid });
    }
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

/** Exports metrics if that is asked for, and only then loads what it takes. @returns `null` if it is not. */
async function exportMetrics(
  { rpcPath }: Serving,
  { metricsPath: path, metricsListen: listen, socketMode: mode }: StartOptions,
  log: Log,
): Promise<Exporter | null> {
  const openTelemetry = isObservedByDeno();
  const isOptional = path === null && listen === null;
  if (isOptional && !openTelemetry) return null;
  if (rpcPath === null) {
    const why = "Cannot export metrics: there is no path by which to ask the device: use --socket-path";
    if (!isOptional) throw new ListenError(why);
    log("warn", why);
    return null;
  }
  const { Exporter } = await loadLater<typeof import("../metrics/exporter.ts")>("../metrics/exporter.ts");
  return await Exporter.start({ device: rpcPath, path, listen, mode, openTelemetry });
}

/** Serves in this thread; all that it needs is loaded for it. */
async function servePortably(options: StartOptions): Promise<Serving> {
  const portable = await loadLater<typeof import("./serve_portably.ts")>("serve_portably.ts");
  return await portable.servePortably(options);
}

/** Serves by the C library, in a thread of its own: whatever the device is asked, in the shortest time. */
async function serveInThread(options: StartOptions): Promise<Serving> {
  const libc = loadLibc();
  const { fd, socketPath, vfioUserPath, socketMode: mode, vgpu, oos, verify, debug, record, log } = options;
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
    createRecording(record);
    const thread = new DeviceThread(libc, {
      vgpu,
      oos,
      verify,
      debug,
      record,
      log,
      observed: isObservedByDeno(),
      sockets,
    });
    return {
      rpcPath: socketPath ?? (fd === null ? null : libc.socketPath(fd)),
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
