import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { connect } from "../../protocol/connect.ts";
import { listenUnix } from "../../src/server/listener.ts";
import { DeviceProcess, ROOT, run, taskArguments, TempFolder } from "./process.ts";

/** SIGTERM to exit, milliseconds: the documented second. */
const STOP = 1000;
const TRACES = `${ROOT}/tests/model/traces`;

Deno.test("start says in its log that it listens, and serves", async () => {
  await using folder = new TempFolder();
  const socket = `${folder.path}/s`;
  await using device = new DeviceProcess(
    new Deno.Command(Deno.execPath(), {
      args: [...taskArguments("start"), "--socket-path", socket],
      cwd: ROOT,
      stdout: "piped",
      stderr: "piped",
    }).spawn(),
  );
  const line = await device.listening();
  assertMatch(line, /^\d{4}-\d\d-\d\dT\S+Z info listening /);
  assertStringIncludes(line, socket);
  await using vmm = await connect(socket, { role: "vmm" });
  assertEquals(await vmm.call("mmio_read", 0, 0x78000, 8), 0x4776544776544776n);
});

Deno.test("start lets the socket's owner alone connect, or whom --socket-mode says", async () => {
  await using folder = new TempFolder();
  await using usual = await DeviceProcess.start("--socket-path", `${folder.path}/a`);
  await using wider = await DeviceProcess.start("--socket-path", `${folder.path}/b`, "--socket-mode", "0660");
  assertEquals(Deno.lstatSync(`${folder.path}/a`).mode! & 0o777, 0o600);
  assertEquals(Deno.lstatSync(`${folder.path}/b`).mode! & 0o777, 0o660);
  assertEquals(await usual.stop().then(({ code }) => code), 0);
  assertEquals(await wider.stop().then(({ code }) => code), 0);
});

Deno.test("start stops on SIGTERM within a second and takes its socket and pid file with it", async () => {
  await using folder = new TempFolder();
  const [socket, pidFile] = [`${folder.path}/s`, `${folder.path}/pid`];
  await using device = await DeviceProcess.start("--socket-path", socket, "--pid-file", pidFile);
  assertEquals(Deno.readTextFileSync(pidFile), `${device.pid}\n`);
  await using vmm = await connect(socket, { role: "vmm" });
  await using observer = await connect(socket);
  await vmm.call("ram_map", { gpa: 0, size: 0x100000 });
  await observer.call("stats");

  const { code, signal, ms } = await device.stop();
  assertEquals([code, signal], [0, null]);
  assert(ms < STOP, `it took ${ms} ms`);
  assertEquals(folder.names(), []);
  assertStringIncludes(await device.log.rest(), "stopped");
});

Deno.test("start leaves the pid file of a device that runs alone", async () => {
  await using folder = new TempFolder();
  const pidFile = `${folder.path}/pid`;
  await using device = await DeviceProcess.start("--socket-path", `${folder.path}/a`, "--pid-file", pidFile);
  const { code, stderr } = await run("start", ["--socket-path", `${folder.path}/b`, "--pid-file", pidFile]);
  assertEquals(code, 1);
  assertStringIncludes(stderr, `process ${device.pid}, which is running`);
  assertEquals([Deno.readTextFileSync(pidFile), folder.names()], [`${device.pid}\n`, ["a", "pid"]]);
});

Deno.test("start takes over the pid file of a device that died", async () => {
  await using folder = new TempFolder();
  const pidFile = `${folder.path}/pid`;
  const first = await DeviceProcess.start("--socket-path", `${folder.path}/a`, "--pid-file", pidFile);
  await first.stop("SIGKILL");
  await first[Symbol.asyncDispose]();
  await using second = await DeviceProcess.start("--socket-path", `${folder.path}/a`, "--pid-file", pidFile);
  assertEquals(Deno.readTextFileSync(pidFile), `${second.pid}\n`);
});

Deno.test("start takes relative paths from where the user is", async () => {
  await using folder = new TempFolder();
  await using _device = await DeviceProcess.startIn(
    folder.path,
    "--socket-path",
    "s",
    "--vfio-user-path",
    "v",
  );
  assertEquals(folder.names(), ["s", "v"]);
});

Deno.test("start stops on SIGTERM within a second although a client does not read its answers", async () => {
  await using folder = new TempFolder();
  const socket = `${folder.path}/s`;
  await using device = await DeviceProcess.start("--socket-path", socket);
  await using vmm = await connect(socket, { role: "vmm" });
  await vmm.call("ram_map", { gpa: 0, size: 0x200000 });
  const conn = await Deno.connect({ transport: "unix", path: socket }); // an observer that never reads
  const hello = [0x94, 0, 0, 0xa5, ...new TextEncoder().encode("hello"), 0x91, 0x82, 0xa8];
  const role = [0xa4, ...new TextEncoder().encode("role"), 0xa8, ...new TextEncoder().encode("observer")];
  await conn.write(new Uint8Array([...hello, ...new TextEncoder().encode("protocol"), 1, ...role]));
  const stats = [0x94, 0, 1, 0xa5, ...new TextEncoder().encode("stats"), 0x90];
  await conn.write(new Uint8Array(Array.from({ length: 4000 }, () => stats).flat()));
  await vmm.call("stats");

  const { code, ms } = await device.stop();
  conn.close();
  assertEquals(code, 0);
  assert(ms < STOP, `it took ${ms} ms`);
  assertEquals(folder.names(), []);
});

Deno.test("start stops on SIGINT, too", async () => {
  await using folder = new TempFolder();
  await using device = await DeviceProcess.start("--socket-path", `${folder.path}/s`);
  assertEquals((await device.stop("SIGINT")).code, 0);
  assertEquals(folder.names(), []);
});

Deno.test("start takes over the socket of a device that was killed", async () => {
  await using folder = new TempFolder();
  const socket = `${folder.path}/s`;
  await using killed = await DeviceProcess.start("--socket-path", socket);
  await killed.stop("SIGKILL");
  assertEquals(folder.names(), ["s"]);

  await using device = await DeviceProcess.start("--socket-path", socket);
  await using vmm = await connect(socket, { role: "vmm" });
  assertEquals(await vmm.call("mmio_read", 0, 0x78008, 2), 1);
  await vmm.close();
  assertEquals((await device.stop()).code, 0);
});

Deno.test("start refuses a socket on which a device listens, and the other goes on", async () => {
  await using folder = new TempFolder();
  const [socket, pidFile] = [`${folder.path}/s`, `${folder.path}/pid`];
  await using _device = await DeviceProcess.start("--socket-path", socket);
  const { code, stderr } = await run("start", ["--socket-path", socket, "--pid-file", pidFile]);
  assertEquals(code, 1);
  assertStringIncludes(stderr, "in use");
  assertEquals(folder.names(), ["s"]);
  await using vmm = await connect(socket, { role: "vmm" });
  assertEquals(await vmm.call("mmio_read", 0, 0x78008, 2), 1);
});

Deno.test("start leaves a file alone that is no socket", async () => {
  await using folder = new TempFolder();
  await Deno.writeTextFile(`${folder.path}/file`, "precious");
  const { code, stderr } = await run("start", ["--socket-path", `${folder.path}/file`]);
  assertEquals(code, 1);
  assertStringIncludes(stderr, "not a socket");
  assertEquals(await Deno.readTextFile(`${folder.path}/file`), "precious");
});

Deno.test("start that cannot write its pid file says so and leaves nothing", async () => {
  await using folder = new TempFolder();
  const { code, stderr } = await run("start", [
    "--socket-path",
    `${folder.path}/s`,
    "--pid-file",
    `${folder.path}/none/pid`,
  ]);
  assertEquals(code, 1);
  assertStringIncludes(stderr, `${folder.path}/none/pid`);
  assertEquals(stderr.trim().split("\n").length, 1, stderr);
  assertEquals(folder.names(), []);
});

Deno.test("start refuses a path that is too long for a socket", async () => {
  const { code, stderr } = await run("start", ["--socket-path", `/tmp/${"s".repeat(120)}`]);
  assertEquals(code, 1);
  assertStringIncludes(stderr, "Cannot listen");
  assertStringIncludes(stderr, "125 bytes");
});

Deno.test("start refuses a folder that is not there with one line", async () => {
  const { code, stderr } = await run("start", ["--socket-path", "/tmp/vgtt-no-such-folder/s"]);
  assertEquals(code, 1);
  assertStringIncludes(stderr, "Cannot listen");
  assertEquals(stderr.trim().split("\n").length, 1);
});

Deno.test("start logs JSON lines if told to", async () => {
  await using folder = new TempFolder();
  const socket = `${folder.path}/s`;
  await using device = new DeviceProcess(
    new Deno.Command(Deno.execPath(), {
      args: [...taskArguments("start"), "--socket-path", socket, "--log", "format=json,level=debug"],
      cwd: ROOT,
      stdout: "piped",
      stderr: "piped",
    }).spawn(),
  );
  const first = JSON.parse(await device.listening());
  assertEquals([first.level, first.message, first.on, first.pid], ["info", "listening", socket, device.pid]);
  await (await connect(socket)).close();
  const connected = JSON.parse(await device.log.find((line) => line.includes('"connected"')));
  assertEquals([connected.level, connected.session], ["debug", 1]);
  await device.log.find((line) => line.includes('"disconnected"'));
  assertEquals((await device.stop()).code, 0);
  for (const line of (await device.log.rest()).trim().split("\n")) JSON.parse(line);
});

Deno.test("start logs a malformed stream without the peer's own text", async () => {
  await using folder = new TempFolder();
  const socket = `${folder.path}/s`;
  await using device = await DeviceProcess.start("--socket-path", socket);
  {
    using conn = await Deno.connect({ transport: "unix", path: socket });
    await conn.write(new Uint8Array([0xc1, ...new TextEncoder().encode("\x1b[2Jevil")]));
    await conn.read(new Uint8Array(4096));
  }
  const line = await device.log.find((each) => each.includes("malformed stream"));
  assertMatch(line, /warn malformed stream session=1 call=1/);
  assertEquals(line.includes("evil"), false);
});

Deno.test("start --print-capabilities prints JSON and exits, whatever else is given", async () => {
  const other = [[], ["--socket-path", "/nowhere/s"], ["--fd", "x", "--socket-mode", "9"], [
    "--log",
    "format=none",
  ]];
  for (const args of other) {
    const { code, stdout, stderr } = await run("start", [...args, "--print-capabilities"]);
    assertEquals([code, stderr], [0, ""]);
    const { type, features, protocol } = JSON.parse(stdout);
    assertEquals([type, protocol], ["gpu", 1]);
    assert(Array.isArray(features));
  }
});

Deno.test("start --help prints every option and exits", async () => {
  const { code, stdout } = await run("start", ["--help"]);
  assertEquals(code, 0);
  const options = [
    "socket-path",
    "fd",
    "socket-mode",
    "pid-file",
    "log",
    "device",
    "aperture",
    "hidden",
    "oos",
    "huge-pages",
  ];
  for (const option of [...options, "debug", "print-capabilities"]) {
    assertStringIncludes(stdout, `--${option}`);
  }
});

for (
  const [args, hint] of [
    [["--no-such-option"], "--no-such-option"],
    [["stray"], "stray"],
    [["--socket-mode", "888"], "octal"],
    [["--fd", "three"], "--fd must be a number"],
    [["--fd", "3", "--socket-path", "/tmp/s"], "exclude each other"],
    [["--socket-path"], "--socket-path needs a value"],
    [["--log", "format=xml"], "format=text|json"],
    [["--log", "level=loud"], "level="],
    [["--device", "0x12345"], "--device must be a PCI id such as 0x1912"],
    [["--aperture", "64X"], "--aperture must be SIZE[@BASE]"],
    [["--aperture", "1M@2M@3M"], "SIZE[@BASE]"],
    [["--aperture", "5000"], "multiple of 4096"],
    [["--aperture", "512M@0"], "aperture"],
    [["--hidden", "64M@64M"], "hidden"],
    [["--hidden", "4G@640M"], "hidden window"],
    [["--fences", "33"], "fences must be 0..32"],
  ] as const
) {
  Deno.test(`start ${args.join(" ")} is wrong usage: one helpful line and exit status 2`, async () => {
    const { code, stdout, stderr } = await run("start", args);
    assertEquals([code, stdout], [2, ""]);
    assertStringIncludes(stderr, hint);
    assertEquals(stderr.trim().split("\n").length, 1, stderr);
  });
}

Deno.test("start gives the guest the device, windows and fences of its options", async () => {
  await using folder = new TempFolder();
  const socket = `${folder.path}/s`;
  const options = [
    "--device",
    "0x5912",
    "--aperture",
    "32M@0",
    "--hidden",
    "0x8000000@256M",
    "--fences",
    "2",
    "--oos",
    "--huge-pages",
  ];
  await using _device = await DeviceProcess.start("--socket-path", socket, ...options);
  await using vmm = await connect(socket, { role: "vmm" });
  assertEquals(vmm.hello.config, {
    deviceId: 0x5912,
    apertureBase: 0,
    apertureSize: 32 << 20,
    hiddenBase: 256 << 20,
    hiddenSize: 128 << 20,
    fences: 2,
    hugePages: true,
    oos: true,
  });
  assertEquals(await vmm.call("mmio_read", 0, 0x78010, 4), 0x1c);
  assertEquals(await vmm.call("mmio_read", 7, 2, 2), 0x5912);
});

/** Opens a listening socket and becomes the device, which inherits it. */
const INHERIT = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
s.set_inheritable(True)
print("bound", flush=True)
os.execv(sys.argv[2], sys.argv[2:] + ["--fd", str(s.fileno())])
`;

Deno.test("start --fd serves on a socket that it inherits", async () => {
  await using folder = new TempFolder();
  const socket = `${folder.path}/s`;
  await using device = new DeviceProcess(
    new Deno.Command("python3", {
      args: ["-c", INHERIT, socket, Deno.execPath(), ...taskArguments("start")],
      cwd: ROOT,
      stdout: "piped",
      stderr: "piped",
    }).spawn(),
  );
  await device.stdout.find((line) => line === "bound");
  await using vmm = await connect(socket, { role: "vmm" }); // the device need not be there yet
  assertEquals(await vmm.call("mmio_read", 0, 0x78000, 8), 0x4776544776544776n);
  await vmm.call("ram_map", { gpa: 0, size: 0x100000 });
  const bytes = new Uint8Array(0x100000).map((_, i) => i % 253);
  await vmm.call("mem_write", 0, bytes);
  assertEquals(await vmm.call("mem_read", 0, bytes.length), bytes);
  await using observer = await connect(socket);
  assertEquals((await observer.call("stats"))["ramRegions"], 1);

  const { code, ms } = await device.stop();
  assertEquals(code, 0);
  assert(ms < STOP, `it took ${ms} ms`);
  assertEquals(folder.names(), ["s"]); // not its own to remove
});

Deno.test("start --fd refuses a descriptor that is no listening socket", async () => {
  const { code, stderr } = await run("start", ["--fd", "63"]);
  assertEquals(code, 1);
  assertStringIncludes(stderr, "Cannot listen on descriptor 63");
});

Deno.test("the command line names its commands", async () => {
  const script = taskArguments("replay").slice(0, -1);
  const main = async (...args: string[]) => {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [...script, ...args],
      cwd: ROOT,
    })
      .output();
    return { code, stdout: new TextDecoder().decode(stdout), stderr: new TextDecoder().decode(stderr) };
  };
  const help = await main("--help");
  assertEquals(help.code, 0);
  for (const name of ["start", "demo", "replay"]) assertStringIncludes(help.stdout, name);
  for (const args of [[], ["sing"]]) {
    const { code, stderr } = await main(...args);
    assertEquals(code, 2);
    assertStringIncludes(stderr, "Usage:");
  }
});

// ---- replay

Deno.test("replay plays traces and a recording, one result a file", async () => {
  const files = ["08_ppgtt4", "23_oos_basic", "n06_undo"].map((name) => `${TRACES}/${name}.jsonl`);
  const { code, stdout } = await run("replay", [...files, `${ROOT}/examples/debian-6.1-i915.jsonl.gz`]);
  assertEquals(stdout.trim().split("\n").at(-1), "4 passed, 0 failed");
  assertEquals(code, 0);
});

/** A copy of a trace with one value changed on line 5. */
async function changedTrace(folder: string): Promise<string> {
  const lines = (await Deno.readTextFile(`${TRACES}/03_ggtt_basic.jsonl`)).split("\n");
  const step = JSON.parse(lines[4]!);
  step.expect.rc = -5;
  lines[4] = JSON.stringify(step);
  await Deno.writeTextFile(`${folder}/changed.jsonl`, lines.join("\n"));
  return `${folder}/changed.jsonl`;
}

Deno.test("replay prints each difference with file, line and key", async () => {
  await using folder = new TempFolder();
  const changed = await changedTrace(folder.path);
  const { code, stdout } = await run("replay", [`${TRACES}/03_ggtt_basic.jsonl`, changed]);
  assertEquals(code, 1);
  assertStringIncludes(stdout, `${changed}:5: rc: expected -5, got 0`);
  assertEquals(stdout.trim().split("\n").at(-1), "1 passed, 1 failed");
});

Deno.test("replay --json prints one object with every file", async () => {
  await using folder = new TempFolder();
  const changed = await changedTrace(folder.path);
  const good = `${TRACES}/03_ggtt_basic.jsonl`;
  const { code, stdout } = await run("replay", ["--json", good, changed, `${folder.path}/none`]);
  assertEquals(code, 1);
  const { files, passed, failed } = JSON.parse(stdout);
  assertEquals([passed, failed], [1, 2]);
  assertEquals(files.map(({ file }: { file: string }) => file), [good, changed, `${folder.path}/none`]);
  const result = { kind: "trace", steps: 27, differences: [], digests: null, isCut: false };
  assertEquals(files[0].result, result);
  assertEquals(files[1].result.differences, [{ line: 5, text: "rc: expected -5, got 0" }]);
  assertEquals([files[2].result, typeof files[2].error], [null, "string"]);
});

Deno.test("replay counts files that it cannot read as failed and goes on", async () => {
  await using folder = new TempFolder();
  const texts: Readonly<Record<string, string>> = {
    empty: "",
    noise: "this is no trace\n",
    array: "[]\n",
    number: "7\n",
    null: "null\n",
    "half.jsonl": '{"config":{"ramPages":16',
    "noconfig.jsonl": '{"op":{"op":"init"},"expect":{"rc":0}}\n',
    "badconfig.jsonl": '{"config":{"ramPages":"many"}}\n{"op":{"op":"init"},"expect":{"rc":0}}\n',
    "badop.jsonl": `${
      (await Deno.readTextFile(`${TRACES}/32_gma.jsonl`)).split("\n")[0]
    }\n{"op":{"op":"sing"},"expect":{}}\n`,
    "badevent.jsonl": '{"r":"bar9","off":"0x0","size":4,"val":"0x0"}\n',
    "notgzip.gz": "plain",
  };
  for (const [name, text] of Object.entries(texts)) await Deno.writeTextFile(`${folder.path}/${name}`, text);
  const files = Object.keys(texts).map((name) => `${folder.path}/${name}`);
  const { code, stdout, stderr } = await run("replay", [
    ...files,
    `${folder.path}/none`,
    `${TRACES}/32_gma.jsonl`,
  ]);
  assertEquals(code, 1);
  assertEquals(stdout.trim().split("\n").at(-1), `1 passed, ${files.length + 1} failed`, stdout);
  for (const file of files) assertStringIncludes(stdout, `FAILED ${file}`);
  assertEquals(stderr, "");
});

Deno.test("replay finds files from the folder in which the user called it", async () => {
  const { code, stdout } = await run("replay", ["32_gma.jsonl"], { INIT_CWD: TRACES });
  assertEquals([code, stdout.trim().split("\n").at(-1)], [0, "1 passed, 0 failed"]);
});

Deno.test("replay uses a device that runs already, which must have been started with --debug for traces", async () => {
  await using folder = new TempFolder();
  const [plain, debug] = [`${folder.path}/plain`, `${folder.path}/debug`];
  await using _plain = await DeviceProcess.start("--socket-path", plain);
  await using _debug = await DeviceProcess.start("--socket-path", debug, "--debug");
  const files = [`${TRACES}/09_ppgtt3.jsonl`, `${TRACES}/29_reset.jsonl`];

  const refused = await run("replay", ["--socket-path", plain, ...files]);
  assertEquals(refused.code, 1);
  assertStringIncludes(refused.stdout, "start the device with --debug");
  assertEquals(refused.stdout.trim().split("\n").at(-1), "0 passed, 2 failed");

  const recording = await run("replay", [
    "--socket-path",
    plain,
    `${ROOT}/examples/debian-6.1-i915.jsonl.gz`,
  ]);
  assertEquals([recording.code, recording.stdout.trim().split("\n").at(-1)], [0, "1 passed, 0 failed"]);

  const played = await run("replay", ["--socket-path", debug, ...files]);
  assertEquals([played.code, played.stdout.trim().split("\n").at(-1)], [0, "2 passed, 0 failed"]);
});

Deno.test("replay tells that no device listens, and wrong usage", async () => {
  await using folder = new TempFolder();
  const none = await run("replay", ["--socket-path", `${folder.path}/none`, `${TRACES}/32_gma.jsonl`]);
  assertEquals(none.code, 1);
  assertEquals(none.stdout.trim().split("\n").at(-1), "0 passed, 1 failed");
  for (const args of [[], ["--loud", "x"]]) {
    const { code, stderr } = await run("replay", args);
    assertEquals(code, 2);
    assertStringIncludes(stderr, "replay");
  }
  assertEquals((await run("replay", ["--help"])).code, 0);
});

// ---- demo

Deno.test("demo replays the recording and finds every translation right", async () => {
  const { code, stdout, stderr } = await run("demo", []);
  const last = stdout.trim().split("\n").at(-1)!;
  assertMatch(last, /^translations checked: [1-9]\d{3,}, wrong: 0$/);
  assertEquals(code, 0);
  for (const text of ["GGTT entries:", "PPGTTs:", "stores to the GTT window", "PML4"]) {
    assertStringIncludes(stdout, text);
  }
  assertStringIncludes(stderr, "replaying"); // plain lines, for this is no terminal
  assertEquals((await run("demo", ["--fast"])).code, 2);
});

Deno.test("demo tells that another one is running", async () => {
  await Deno.mkdir(".run", { recursive: true });
  const other = await listenUnix(".run/demo.sock");
  const { code, stderr } = await run("demo", []);
  other.close();
  assertEquals(code, 1);
  assertStringIncludes(stderr, "in use");
});
