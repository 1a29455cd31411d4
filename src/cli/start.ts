/**
 * `start`: runs the device for a VMM until it is told to stop.
 *
 * @module
 */

import { PROTOCOL_VERSION } from "../../protocol/limits.ts";
import { DeviceService, SERVER_NAME } from "../server/device_service.ts";
import { listenInherited } from "../server/inherited_listener.ts";
import { type Listener, ListenError, listenUnix } from "../server/listener.ts";
import { serve } from "../server/portable_loop.ts";
import { type Log, RpcSession } from "../server/rpc_session.ts";
import { makeLog } from "./log.ts";
import { parseStartOptions, START_USAGE, type StartOptions } from "./start_options.ts";
import { print, say } from "./terminal.ts";
import { EXIT_FAILED, EXIT_OK, UsageError } from "./usage.ts";

/** What `--print-capabilities` prints. */
const CAPABILITIES = {
  type: "gpu",
  server: SERVER_NAME,
  features: ["messagepack-rpc", "oos", "debug"],
  protocol: PROTOCOL_VERSION,
};

/** Runs `start`. @returns The exit status. @throws {UsageError} When the options are wrong. */
export async function start(args: readonly string[]): Promise<number> {
  const options = parseStartOptions(args, defaultSocketPath);
  if (options.print === "help") print(START_USAGE);
  if (options.print === "capabilities") print(JSON.stringify(CAPABILITIES));
  if (options.print !== null) return EXIT_OK;

  const log = makeLog(options.log, (line) => say(line));
  const service = makeService(options, log);
  let listener: Listener;
  let pidFile: PidFile;
  try {
    listener = await listen(options);
    pidFile = writePidFile(options.pidFile, listener);
  } catch (error) {
    if (!(error instanceof ListenError || error instanceof PidFileError)) throw error;
    say(error.message);
    return EXIT_FAILED;
  }
  using _removed = pidFile;
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  Deno.addSignalListener("SIGTERM", onSignal);
  Deno.addSignalListener("SIGINT", onSignal);
  try {
    log("info", "listening", { on: listener.name, pid: Deno.pid });
    const makeSession = (id: number) => new RpcSession(service, { id, log });
    await serve(listener, makeSession, { signal: stop.signal, log });
    log("info", "stopped");
  } catch (error) {
    // The listening socket is lost; the log has said why.
    if (!(error instanceof ListenError)) throw error;
    return EXIT_FAILED;
  } finally {
    Deno.removeSignalListener("SIGTERM", onSignal);
    Deno.removeSignalListener("SIGINT", onSignal);
  }
  return EXIT_OK;
}

/** Where a device listens if it is not told: in the user's own folder for such things, if it is known. */
export function defaultSocketPath(): string {
  const variable = "XDG_RUNTIME_DIR";
  const mayRead = Deno.permissions.querySync({ name: "env", variable }).state === "granted";
  const folder = mayRead ? Deno.env.get(variable) ?? "" : "";
  return `${folder === "" ? "/tmp" : folder}/vgtt.sock`;
}

function makeService({ vgpu, oos, debug }: StartOptions, log: Log): DeviceService {
  try {
    return new DeviceService({ ...vgpu, oos }, debug, log);
  } catch (error) {
    if (error instanceof RangeError) {
      throw new UsageError(`Cannot make such a vGPU: ${error.message}`);
    }
    throw error;
  }
}

function listen({ fd, socketPath, socketMode }: StartOptions): Promise<Listener> {
  return fd === null ? listenUnix(socketPath!, { mode: socketMode }) : listenInherited(fd);
}

/** The pid file cannot be written. */
class PidFileError extends Error {
  override readonly name = "PidFileError";
}

/** Writes the process id; without it the device does not start, and leaves no socket behind. */
function writePidFile(path: string | null, listener: Listener): PidFile {
  try {
    return new PidFile(path);
  } catch (error) {
    listener.close();
    throw new PidFileError(`Cannot write the pid file: ${error instanceof Error ? error.message : error}`);
  }
}

/** A file that holds the process id while the device runs. */
class PidFile implements Disposable {
  readonly #path: string | null;

  constructor(path: string | null) {
    this.#path = path;
    if (path !== null) Deno.writeTextFileSync(path, `${Deno.pid}\n`);
  }

  [Symbol.dispose](): void {
    if (this.#path === null) return;
    try {
      Deno.removeSync(this.#path);
    } catch (error) {
      // Somebody tidied up before us.
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}
