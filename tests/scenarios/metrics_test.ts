import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { connect } from "../../protocol/connect.ts";
import { METRIC_FAMILIES } from "../../src/metrics/families.ts";
import { readExposition, valueOf } from "../unit/metrics_exposition.ts";
import { ask } from "../unit/metrics_http.ts";
import { DeviceProcess, ROOT, run, taskArguments, TempFolder } from "./process.ts";

/** Longest time that a device needs to stop, milliseconds: the documented second. */
const STOP = 1000;

/** A device with these options of `start`, in the environment that is given. */
function spawn(
  args: readonly string[],
  { loop = "fast", env = {} }: { loop?: "fast" | "portable"; env?: Record<string, string> } = {},
): DeviceProcess {
  const task = taskArguments("start").filter((arg) => loop === "fast" || arg !== "--allow-ffi");
  return new DeviceProcess(
    new Deno.Command(Deno.execPath(), {
      args: [...task, ...args],
      cwd: ROOT,
      env: { INIT_CWD: ROOT, NO_COLOR: "1", ...env },
      stdout: "piped",
      stderr: "piped",
    }).spawn(),
  );
}

/** The address on which a device says that it can be scraped. */
async function scrapeUrl(device: DeviceProcess): Promise<string> {
  const line = await device.log.find((each) => each.includes('listening on="http:'));
  return /http:[^"]+/.exec(line)![0];
}

for (const loop of ["fast", "portable"] as const) {
  Deno.test(`start --metrics-path and --metrics-listen tell what a VMM's guest does, ${loop} loop`, async () => {
    await using folder = new TempFolder();
    const [socket, path] = [`${folder.path}/s`, `${folder.path}/m`];
    const options = ["--socket-path", socket, "--metrics-path", path, "--metrics-listen", "0"];
    await using device = spawn(options, { loop });
    const url = await scrapeUrl(device);
    await using vmm = await connect(socket, { role: "vmm" });
    const before = (await ask(path)).body;
    await vmm.call("mmio_read", 0, 0x78000, 8);
    await vmm.call("mmio_read", 0, 0x78008, 2);
    await vmm.call("mmio_write", 7, 4, 2, 6);

    const { status, headers, body } = await ask(url);
    assertEquals([status, headers.get("Content-Type")], [200, "text/plain; version=0.0.4; charset=utf-8"]);
    const moved = (name: string, labels: Record<string, string>) =>
      valueOf(body, name, labels) - valueOf(before, name, labels);
    assertEquals(moved("vgtt_region_accesses_total", { region: "bar0", access: "read" }), 2);
    assertEquals(moved("vgtt_region_accesses_total", { region: "config", access: "write" }), 1);
    assertEquals(moved("vgtt_region_accesses_total", { region: "aperture", access: "write" }), 0);
    assertEquals([...readExposition(body).keys()], METRIC_FAMILIES.map(({ name }) => name));
    assertEquals(await ask(path).then((each) => each.body.split("\n").length), body.split("\n").length);

    await vmm.close();
    const { code, ms } = await device.stop();
    assertEquals([code, folder.names()], [0, []]);
    assert(ms < STOP, `it took ${ms} ms`);
  });
}

Deno.test("start --metrics-path tells whether there is a VMM, and begins anew with each", async () => {
  await using folder = new TempFolder();
  const [socket, path] = [`${folder.path}/s`, `${folder.path}/m`];
  await using _device = await DeviceProcess.start("--socket-path", socket, "--metrics-path", path);
  const reads = { region: "bar0", access: "read" };
  const seen: [attached: number, reads: number][] = [];
  const look = async () => {
    const { body } = await ask(path);
    seen.push([valueOf(body, "vgtt_vmm_attached"), valueOf(body, "vgtt_region_accesses_total", reads)]);
  };
  await look();
  const vmm = await connect(socket, { role: "vmm" });
  await vmm.call("mmio_read", 0, 0x78000, 8);
  await look();
  await vmm.close();
  do await look(); while (seen.at(-1)![0] === 1);
  assertEquals([seen[0], seen[1], seen.at(-1)], [[0, 0], [1, 1], [0, 0]]);
});

Deno.test("start --metrics-path tells what the device and its process are", async () => {
  await using folder = new TempFolder();
  const path = `${folder.path}/m`;
  await using _device = await DeviceProcess.start(
    "--socket-path",
    `${folder.path}/s`,
    "--metrics-path",
    path,
  );
  const { body } = await ask(path);
  assertEquals(
    valueOf(body, "vgtt_build_info", { version: "0.1.0", protocol: "1", deno: Deno.version.deno }),
    1,
  );
  assert(Math.abs(valueOf(body, "process_start_time_seconds") - Date.now() / 1000) < 60);
  assert(valueOf(body, "process_resident_memory_bytes") > 20e6);
});

Deno.test("start --metrics-path makes the socket with --socket-mode and takes a stale one over", async () => {
  await using folder = new TempFolder();
  const options = ["--socket-path", `${folder.path}/s`, "--metrics-path", `${folder.path}/m`];
  await using killed = await DeviceProcess.start(...options);
  await killed.stop("SIGKILL");
  assertEquals(folder.names(), ["m", "s"]);
  await using _device = await DeviceProcess.start(...options, "--socket-mode", "0660");
  assertEquals(Deno.lstatSync(`${folder.path}/m`).mode! & 0o777, 0o660);
  assertEquals((await ask(`${folder.path}/m`)).status, 200);
});

Deno.test("start --metrics-path answers nothing but reads of /metrics", async () => {
  await using folder = new TempFolder();
  const path = `${folder.path}/m`;
  await using _device = await DeviceProcess.start(
    "--socket-path",
    `${folder.path}/s`,
    "--metrics-path",
    path,
  );
  assertEquals((await ask(path, "GET / HTTP/1.1\r\n\r\n")).status, 404);
  assertEquals((await ask(path, "POST /metrics HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi")).status, 405);
});

Deno.test("start --metrics-path answers 503 when the device cannot be asked, and finds it again", async () => {
  await using folder = new TempFolder();
  const [socket, path] = [`${folder.path}/s`, `${folder.path}/m`];
  await using _device = await DeviceProcess.start("--socket-path", socket, "--metrics-path", path);
  await Deno.rename(socket, `${socket}.away`);
  const { status, body } = await ask(path);
  assertEquals(status, 503);
  assertStringIncludes(body, "The device cannot be asked: No such file");
  await Deno.rename(`${socket}.away`, socket);
  assertEquals((await ask(path)).status, 200);
});

/** Opens a listening socket and becomes the device, which inherits it. */
const INHERIT = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
s.set_inheritable(True)
os.execv(sys.argv[2], sys.argv[2:] + ["--fd", str(s.fileno())])
`;

/** A device that inherits a socket at this path. */
function inherit(
  env: Readonly<Record<string, string>>,
  socket: string,
  ...args: readonly string[]
): DeviceProcess {
  const command = [Deno.execPath(), ...taskArguments("start"), ...args];
  return new DeviceProcess(
    new Deno.Command("python3", {
      args: ["-c", INHERIT, socket, ...command],
      cwd: ROOT,
      env,
      stdout: "piped",
      stderr: "piped",
    }).spawn(),
  );
}

Deno.test("start --metrics-path asks a device with --fd by the socket's own path", async () => {
  await using folder = new TempFolder();
  const path = `${folder.path}/m`;
  await using device = inherit({}, `${folder.path}/s`, "--metrics-path", path);
  await device.listening();
  assertEquals((await ask(path)).status, 200);
});

for (
  const [args, hint] of [
    [["--vfio-user-path", "/tmp/v", "--metrics-path", "/tmp/m"], "add --socket-path"],
    [["--vfio-user-path", "/tmp/v", "--metrics-listen", "9400"], "add --socket-path"],
    [["--socket-path", "/tmp/s", "--metrics-path", "/tmp/s"], "a path of its own"],
    [["--metrics-path"], "--metrics-path needs a value"],
    [["--metrics-listen", "localhost"], "--metrics-listen must be HOST:PORT or PORT"],
  ] as const
) {
  Deno.test(`start ${args.join(" ")} is wrong usage`, async () => {
    const { code, stdout, stderr } = await run("start", args);
    assertEquals([code, stdout, stderr.trim().split("\n").length], [2, "", 1]);
    assertStringIncludes(stderr, hint);
  });
}

Deno.test("start refuses an address that is taken with one line, and leaves nothing", async () => {
  await using folder = new TempFolder();
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const address = `127.0.0.1:${taken.addr.port}`;
  const options = ["--socket-path", `${folder.path}/s`, "--metrics-path", `${folder.path}/m`];
  const { code, stderr } = await run("start", [...options, "--metrics-listen", address]);
  assertEquals([code, stderr.trim().split("\n").length, folder.names()], [1, 1, []]);
  assertStringIncludes(stderr, `port ${taken.addr.port}: in use`);
});

/** Takes what OpenTelemetry exports. */
class Collector implements AsyncDisposable {
  readonly address: string;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  #waiting: { readonly is: (text: string) => boolean; readonly resolve: (text: string) => void } | null =
    null;

  constructor() {
    const options = { hostname: "127.0.0.1", port: 0, onListen() {} };
    this.#server = Deno.serve(options, async (request) => {
      const text = await request.text();
      if (this.#waiting?.is(text)) this.#waiting.resolve(text);
      return Response.json({});
    });
    this.address = `http://127.0.0.1:${this.#server.addr.port}`;
  }

  /** The next export for which `is` holds. */
  next(is: (text: string) => boolean): Promise<string> {
    return new Promise((resolve) => this.#waiting = { is, resolve });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

/**
 * The environment in which Deno exports to a collector. Deno 2.9.6 often hangs at the exit of a program that exports as
 * frequently as this, so these devices are killed.
 */
function exportingTo({ address }: Collector): Record<string, string> {
  return {
    OTEL_DENO: "true",
    OTEL_EXPORTER_OTLP_ENDPOINT: address,
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
    OTEL_METRIC_EXPORT_INTERVAL: "200",
  };
}

for (const loop of ["fast", "portable"] as const) {
  Deno.test(`start with OTEL_DENO=true exports the same by OpenTelemetry, again and again, ${loop} loop`, async () => {
    await using folder = new TempFolder();
    await using collector = new Collector();
    const socket = `${folder.path}/s`;
    const env = exportingTo(collector);
    await using device = spawn(["--socket-path", socket], { env, loop });
    await device.listening();
    await using vmm = await connect(socket, { role: "vmm" });
    await vmm.call("mmio_read", 0, 0x78000, 8);
    const exported = await collector.next((text) => text.includes("vgtt_region_accesses_total"));
    const { resourceMetrics: [{ scopeMetrics }] } = JSON.parse(exported);
    const { metrics } = scopeMetrics.find(({ scope }: { scope: { name: string } }) => scope.name === "vgtt");
    assertEquals(
      metrics.map(({ name }: { name: string }) => name).sort(),
      METRIC_FAMILIES.map(({ name }) => name).sort(),
    );
    for (let more = 0; more < 3; more++) {
      await collector.next((text) => text.includes("vgtt_region_accesses_total"));
    }
  });
}

Deno.test("start with OTEL_DENO=true says that a device without a path cannot be observed", async () => {
  await using folder = new TempFolder();
  await using collector = new Collector();
  await using device = spawn(["--vfio-user-path", `${folder.path}/v`], { env: exportingTo(collector) });
  const line = await device.log.find((each) => each.includes("metrics"));
  assertStringIncludes(line, "warn Cannot export metrics");
  assertStringIncludes(line, "--socket-path");
});
