import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { connect } from "../../protocol/connect.ts";
import { ConnectionError } from "../../protocol/errors.ts";
import { listenInherited } from "../../src/server/inherited_listener.ts";
import { listenUnix } from "../../src/server/listener.ts";
import { ListenError } from "../../src/server/socket_file.ts";
import { scratchFolder } from "./protocol_socket.ts";

const modeOf = (path: string) => Deno.lstatSync(path).mode! & 0o777;
const isThere = (path: string) => {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
};

Deno.test("listenUnix() makes a socket of mode 0600 and removes it when it is closed", async () => {
  using folder = scratchFolder();
  const path = `${folder.path}/s`;
  const listener = await listenUnix(path);
  assertEquals([modeOf(path), Deno.lstatSync(path).isSocket], [0o600, true]);
  assertEquals([...Deno.readDirSync(folder.path)].map(({ name }) => name), ["s"]);
  listener.close();
  listener.close();
  assertEquals(isThere(path), false);
});

Deno.test("listenUnix() gives the socket the mode that is asked for, whatever the umask", async () => {
  using folder = scratchFolder();
  for (const mode of [0o600, 0o660, 0o666, 0o777]) {
    using _listener = await listenUnix(`${folder.path}/s`, { mode });
    assertEquals(modeOf(`${folder.path}/s`), mode);
  }
});

Deno.test("listenUnix() accepts connections at the path", async () => {
  using folder = scratchFolder();
  using listener = await listenUnix(`${folder.path}/s`);
  const accepted = listener.accept();
  using conn = await Deno.connect({ transport: "unix", path: `${folder.path}/s` });
  const connection = (await accepted)!;
  await connection.write(Uint8Array.of(1, 2, 3));
  const buffer = new Uint8Array(8);
  assertEquals(await conn.read(buffer), 3);
  connection.close();
  connection.close();
  assertEquals(await conn.read(buffer), null);
});

Deno.test("listenUnix() takes a stale socket over", async () => {
  using folder = scratchFolder();
  const path = `${folder.path}/s`;
  leaveStaleSocket(path);
  using listener = await listenUnix(path);
  const accepted = listener.accept();
  (await Deno.connect({ transport: "unix", path })).close();
  (await accepted)!.close();
});

/** Leaves a socket's file that nobody listens on, as a killed process does. */
function leaveStaleSocket(path: string): void {
  const socket = Deno.listen({ transport: "unix", path: `${path}.bound` });
  Deno.renameSync(`${path}.bound`, path);
  socket.close();
  assert(Deno.lstatSync(path).isSocket);
}

Deno.test("listenUnix() refuses a socket that is in use and leaves it working", async () => {
  using folder = scratchFolder();
  const path = `${folder.path}/s`;
  using first = await listenUnix(path);
  await assertRejects(() => listenUnix(path), ListenError, "in use");
  await first.accept().then((probe) => probe!.close());
  const accepted = first.accept();
  (await Deno.connect({ transport: "unix", path })).close();
  (await accepted)!.close();
});

Deno.test("listenUnix() refuses what is no socket and leaves it alone", async () => {
  using folder = scratchFolder();
  Deno.writeTextFileSync(`${folder.path}/file`, "text");
  await assertRejects(() => listenUnix(`${folder.path}/file`), ListenError, "not a socket");
  assertEquals(Deno.readTextFileSync(`${folder.path}/file`), "text");
  Deno.mkdirSync(`${folder.path}/folder`);
  await assertRejects(() => listenUnix(`${folder.path}/folder`), ListenError, "not a socket");
  assertEquals([...Deno.readDirSync(folder.path)].length, 2);
});

Deno.test("listenUnix() refuses paths that cannot be a socket's with the reason", async () => {
  using folder = scratchFolder();
  const long = `${folder.path}/${"x".repeat(100)}`;
  await assertRejects(() => listenUnix(long), ListenError, `the path has ${long.length} bytes`);
  await assertRejects(() => listenUnix(""), ListenError, "no path");
  await assertRejects(() => listenUnix("a\0b"), ListenError, "no path");
  await assertRejects(() => listenUnix(`${folder.path}/missing/s`), ListenError, "there is no such folder");
});

Deno.test("listenUnix() counts a path's bytes, not its characters", async () => {
  using folder = scratchFolder();
  await assertRejects(() => listenUnix(`${folder.path}/${"ü".repeat(50)}`), ListenError, "bytes");
});

Deno.test("listenUnix() refuses while another device is starting, and not after one that died", async () => {
  using folder = scratchFolder();
  const path = `${folder.path}/s`;
  const stage = `${folder.path}/.s.stage`;
  Deno.mkdirSync(stage);
  await assertRejects(() => listenUnix(path), ListenError, "another device is starting");
  leaveStaleSocket(`${stage}/s`);
  Deno.utimeSync(stage, new Date(0), new Date(0));
  (await listenUnix(path)).close();
  assertEquals([...Deno.readDirSync(folder.path)], []);
});

/** Every file below a folder with its text. */
function filesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory, isFile }) => {
    const path = `${folder}/${name}`;
    return isDirectory ? filesIn(path) : [`${path} ${isFile ? Deno.readTextFileSync(path) : "?"}`];
  }).sort();
}

Deno.test("listenUnix() leaves a folder alone that the user has at the socket's name with .d", async () => {
  // An old PATH.d was taken for a stage and removed with everything in it.
  using folder = scratchFolder();
  const path = `${folder.path}/vgtt.sock`;
  Deno.mkdirSync(`${path}.d`);
  Deno.writeTextFileSync(`${path}.d/10-mine.conf`, "mine");
  Deno.utimeSync(`${path}.d`, new Date(0), new Date(0));
  (await listenUnix(path)).close();
  assertEquals(filesIn(folder.path), [`${path}.d/10-mine.conf mine`]);
});

Deno.test("listenUnix() refuses a stage that no device has left, however old, and leaves it alone", async () => {
  using folder = scratchFolder();
  const path = `${folder.path}/s`;
  const stage = `${folder.path}/.s.stage`;
  const makers: (() => void)[] = [
    () => Deno.writeTextFileSync(stage, "a file"),
    () => {
      Deno.mkdirSync(stage);
      Deno.writeTextFileSync(`${stage}/s`, "no socket");
    },
    () => {
      Deno.mkdirSync(`${stage}/s`, { recursive: true });
      Deno.writeTextFileSync(`${stage}/s/file`, "deep");
    },
    () => {
      Deno.mkdirSync(stage);
      leaveStaleSocket(`${stage}/s`);
      Deno.writeTextFileSync(`${stage}/other`, "beside a socket");
    },
  ];
  for (const make of makers) {
    make();
    if (Deno.lstatSync(stage).isDirectory) Deno.utimeSync(stage, new Date(0), new Date(0));
    const before = filesIn(folder.path);
    await assertRejects(() => listenUnix(path), ListenError, "is in the way");
    assertEquals(filesIn(folder.path), before);
    Deno.removeSync(stage, { recursive: true });
  }
});

Deno.test("two devices that start at once do not both get the socket", async () => {
  using folder = scratchFolder();
  const path = `${folder.path}/s`;
  leaveStaleSocket(path);
  const starts = await Promise.allSettled([listenUnix(path), listenUnix(path), listenUnix(path)]);
  const listeners = starts.flatMap((start) => start.status === "fulfilled" ? [start.value] : []);
  assertEquals(listeners.length, 1);
  assertEquals(isThere(path), true);
  listeners[0]!.close();
});

Deno.test("UnixListener.close() leaves a socket alone that another device has put in its place", async () => {
  using folder = scratchFolder();
  const path = `${folder.path}/s`;
  const first = await listenUnix(path);
  Deno.removeSync(path);
  using _second = await listenUnix(path);
  first.close();
  assertEquals(isThere(path), true);
});

Deno.test("UnixListener.accept() gives null once the listener is closed", async () => {
  using folder = scratchFolder();
  const listener = await listenUnix(`${folder.path}/s`);
  const accepted = listener.accept();
  listener.close();
  assertEquals(await accepted, null);
});

/** Waits for a process to make a file; fails if it ends without. */
async function untilThere(path: string, process: Deno.ChildProcess): Promise<void> {
  let hasEnded = false;
  process.status.then(() => hasEnded = true);
  while (!isThere(path)) {
    assert(!hasEnded, `the process ended before it made ${path}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

Deno.test({
  name: "listenInherited() serves a socket that another process opened",
  ignore: Deno.build.os !== "linux",
  async fn() {
    using folder = scratchFolder();
    const path = `${folder.path}/s`;
    const script = new URL("protocol_inherited.ts", import.meta.url).pathname;
    const rights = ["--allow-read", "--allow-write", "--allow-net", "--allow-env", "--allow-run"];
    const manager = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", ...rights, script, path],
      stdin: "piped",
    }).spawn();
    await untilThere(path, manager);
    const client = await connect(path, { role: "vmm" });
    const other = await connect(path);
    await client.call("mmio_write", 0, 8, 8, 2n ** 63n);
    assertEquals(await client.call("mmio_read", 0, 8, 8), 2n ** 63n);
    assertEquals(await client.call("mem_read", 0, 1_000_000), new Uint8Array(1_000_000));
    assertEquals(await client.call("mem_write", 0, new Uint8Array(1_000_000)), 0);
    assertEquals(await other.call("stats"), { calls: 5 });
    await client.close();
    await manager.stdin.close();
    assertEquals((await manager.status).code, 0);
    await assertRejects(() => other.call("stats"), ConnectionError);
    await other.close();
  },
});

Deno.test({
  name: "listenInherited() says when it can accept no more, serves who is there, and then ends",
  ignore: Deno.build.os !== "linux",
  async fn() {
    // node:net stops accepting at the first EMFILE and tells nobody: the device lived on, deaf and silent.
    using folder = scratchFolder();
    const path = `${folder.path}/s`;
    const script = new URL("protocol_inherited.ts", import.meta.url).pathname;
    const manager = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--allow-read",
        "--allow-write",
        "--allow-net",
        "--allow-env",
        "--allow-run",
        script,
        path,
        "48",
      ],
      stdin: "piped",
      stderr: "piped",
    }).spawn();
    await untilThere(path, manager);
    const first = await connect(path, { role: "vmm" });
    const others = await Promise.all(
      Array.from({ length: 48 }, () => Deno.connect({ transport: "unix", path }).catch(() => null)),
    );
    const log = manager.stderr.pipeThrough(new TextDecoderStream());
    let text = "";
    for await (const piece of log.values({ preventCancel: true })) {
      text += piece;
      if (text.includes("\n")) break;
    }
    assertMatch(text, /cannot accept a connection .*no file descriptor is free/);
    assertEquals(await first.call("mmio_read", 0, 8, 8), 0);
    for (const conn of others) conn?.close();
    await first.close();
    assertEquals((await manager.status).code, 1);
    await log.cancel();
    await manager.stdin.close().catch(() => {});
  },
});

Deno.test("listenInherited() refuses a descriptor that is no listening socket", async () => {
  await assertRejects(() => listenInherited(-1), ListenError, "-1");
  await assertRejects(() => listenInherited(0.5), ListenError, "0.5");
  await assertRejects(() => listenInherited(9999), ListenError, "9999");
});
