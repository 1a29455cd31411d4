import { DeviceService } from "../server/device_service.ts";
import { listenInherited } from "../server/inherited_listener.ts";
import { listenUnix } from "../server/listener.ts";
import { serve } from "../server/portable_loop.ts";
import { RpcSession } from "../server/rpc_session.ts";
import { ListenError } from "../server/socket_file.ts";
import { makeLog } from "./log.ts";
import { createRecording } from "./record_file.ts";
import { OpenRecording } from "./recording.ts";
import type { Serving } from "./serving.ts";
import type { StartOptions } from "./start_options.ts";
import { say } from "./terminal.ts";

/**
 * Serves by Deno's own sockets, which need no FFI and pass no descriptors.
 *
 * @param options What `start` was asked for.
 * @returns The device, which listens.
 * @throws {ListenError} If it cannot.
 */
export async function servePortably(options: StartOptions): Promise<Serving> {
  const { fd, socketPath, vfioUserPath, socketMode: mode, vgpu, oos, verify, debug } = options;
  if (vfioUserPath !== null) {
    throw new ListenError(
      "--vfio-user-path needs --allow-ffi: a hypervisor hands over guest RAM as descriptors",
    );
  }
  const log = makeLog(options.log, (line) => say(line));
  const listener = fd === null ? await listenUnix(socketPath!, { mode }) : await listenInherited(fd);
  let recording: OpenRecording | null;
  try {
    createRecording(options.record);
    recording = OpenRecording.begin(options, log);
  } catch (error) {
    listener.close();
    throw error;
  }
  const recorder = recording?.recorder ?? null;
  const service = new DeviceService({ ...vgpu, oos, verify }, debug, { log, recorder });
  const stop = new AbortController();
  const makeSession = (id: number) => new RpcSession(service, { id, log });
  return {
    names: [listener.name],
    rpcPath: socketPath,
    ended: serve(listener, makeSession, { signal: stop.signal, background: service.served, log })
      .finally(() => recording?.[Symbol.dispose]()),
    stop: () => stop.abort(),
    close: () => listener.close(),
  };
}
