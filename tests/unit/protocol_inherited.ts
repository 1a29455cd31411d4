// With a path: opens a listening socket there, and starts itself anew with it as descriptor 3, as service managers do;
// with a number after the path, so that it can have so many descriptors.
// Without: a fake device on the inherited descriptor 3. Ends when its input does.

import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { listenInherited } from "../../src/server/inherited_listener.ts";
import { serve } from "../../src/server/portable_loop.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";
import { FakeService } from "./protocol_fake.ts";

/** Starts the device and waits for its end. */
async function manage(path: string, descriptors: string): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(`${path}.new`, resolve));
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  const script = new URL(import.meta.url).pathname;
  const command = 'ulimit -n "$0" && exec "$@"';
  const run = [Deno.execPath(), "run", "--quiet", "--allow-net", "--allow-read=/dev/null", script];
  const device = spawn("/bin/sh", ["-c", command, descriptors, ...run], {
    stdio: ["inherit", "inherit", "inherit", fd],
  });
  // The device has the socket for itself from here on; closing this server must not remove its file.
  Deno.renameSync(`${path}.new`, path);
  server.close();
  Deno.exitCode = await new Promise((resolve) => device.once("exit", (code) => resolve(code ?? 1)));
}

async function beDevice(): Promise<void> {
  const listener = await listenInherited(3);
  const stop = new AbortController();
  const service = new FakeService();
  const served = serve(listener, (id) => new RpcSession(service, { id }), {
    signal: stop.signal,
    log: (level, message, fields) => {
      const line = `${level} ${message} ${JSON.stringify(fields)}\n`;
      if (level === "error") Deno.stderr.writeSync(new TextEncoder().encode(line));
    },
  });
  Deno.stdin.read(new Uint8Array(1)).then(() => stop.abort());
  await served.catch(() => Deno.exit(1));
}

if (import.meta.main) {
  const [path, descriptors = "1024"] = Deno.args;
  await (path === undefined ? beDevice() : manage(path, descriptors));
}
