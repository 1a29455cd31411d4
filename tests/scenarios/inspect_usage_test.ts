import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { listenUnix } from "../../src/server/listener.ts";
import { DeviceProcess, ROOT, run, TempFolder } from "./process.ts";

/** The recorded guest. */
const GUEST = ["--recording", `${ROOT}/examples/debian-6.1-i915.jsonl.gz`];
const COMMANDS = ["ls", "tree", "ggtt", "walk", "diff", "who", "top", "regs", "events", "save", "web"];

Deno.test("inspect --help names every command, and each has help with an example", async () => {
  const { code, stdout } = await run("inspect", ["--help"]);
  assertEquals(code, 0);
  for (const name of COMMANDS) {
    assertStringIncludes(stdout, `\n  ${name} `);
    const help = await run("inspect", [name, "--help"]);
    assertEquals([help.code, help.stderr], [0, ""], name);
    assertStringIncludes(help.stdout, `Usage: deno task inspect ${name}`);
    assertStringIncludes(help.stdout, `Example: deno task inspect `);
    assertStringIncludes(help.stdout, "--socket-path PATH");
  }
});

for (
  const [args, hint] of [
    [["tree", "--loud"], 'inspect tree does not know "--loud": see deno task inspect tree --help'],
    [["tree", "-x"], 'inspect tree does not know "-x"'],
    [["tree", "3", "4"], '"4" is too much'],
    [["tree", "3", "--depth", "5"], "--depth must be 1 to 4"],
    [["tree", "3", "--depth"], "--depth needs a value"],
    [["tree", "3", "--raw=yes"], "--raw=yes: this option takes no value"],
    [["tree", "3", "--range", "0x1000"], "--range must be FROM-TO"],
    [["tree", "3", "--range", "0x2000-0x1000"], "--range ends before it begins"],
    [["tree", "3", "--range", "0-0x1000000000000"], "--range must be below 0x1000000000000"],
    [["tree", "three"], 'MM must be a number, such as 0x1000: got "three"'],
    [["walk", "3"], "something is missing: Usage: deno task inspect walk MM GMA"],
    [["walk", "3", "0xg"], "GMA must be a number"],
    [["walk", "3", "-1"], 'does not know "-1"'],
    [["walk", "3", "0x1_0000_0000_0000_0000"], "GMA must be below 2^64"],
    [["who", "0x10000000000"], "GFN must be 0 to 1099511627775"],
    [["diff", "3", "--against", "x"], "--against compares everything"],
    [["events", "--kind", "g2v,party"], "--kind takes attach"],
    [["events", "--snapshot", "x"], 'does not know "--snapshot"'],
    [["ls", "--to", "5", "--socket-path", "s"], "--to is for --recording"],
    [["ls", "--snapshot", "x", "--recording", "y"], "--recording and --snapshot exclude each other"],
    [["save"], "something is missing"],
  ] as const
) {
  Deno.test(`inspect ${args.join(" ")} is wrong usage: one helpful line and exit status 2`, async () => {
    const { code, stdout, stderr } = await run("inspect", args);
    assertEquals([code, stdout], [2, ""]);
    assertStringIncludes(stderr, hint);
    assertEquals(stderr.trim().split("\n").length, 1, stderr);
  });
}

Deno.test("inspect top is wrong usage for a saved snapshot, which has no counters, and for no time at all", async () => {
  assertEquals((await run("inspect", ["top", "--snapshot", "x"])).code, 2);
  for (const interval of ["0", "0.001", "-1", "soon", "1e3"]) {
    const { code, stderr } = await run("inspect", ["top", `--interval=${interval}`]);
    assertEquals(code, 2);
    assertStringIncludes(stderr, "--interval must be seconds");
  }
});

Deno.test("inspect without a command, or with an unknown one, tells its usage", async () => {
  for (const args of [[], ["sing"], ["constructor"]]) {
    const { code, stderr } = await run("inspect", args);
    assertEquals(code, 2);
    assertStringIncludes(stderr, "Usage: deno task inspect COMMAND");
  }
});

Deno.test("inspect tells what to do where there is no device", async () => {
  await using folder = new TempFolder();
  const none = await run("inspect", ["ls", "--socket-path", `${folder.path}/none`]);
  assertEquals([none.code, none.stdout], [1, ""]);
  assertEquals(
    none.stderr,
    `nobody listens at ${folder.path}/none: start the device with deno task start, or give --socket-path\n`,
  );
  // A socket whose device is dead.
  const dead = await DeviceProcess.start("--socket-path", `${folder.path}/dead`);
  await dead.stop("SIGKILL");
  await dead[Symbol.asyncDispose]();
  assertStringIncludes(
    (await run("inspect", ["ls", "--socket-path", `${folder.path}/dead`])).stderr,
    "nobody listens at",
  );
  const byDefault = await run("inspect", ["ls"], { XDG_RUNTIME_DIR: folder.path });
  assertEquals(byDefault.code, 1);
  assertStringIncludes(byDefault.stderr, `nobody listens at ${folder.path}/vgtt.sock`);
});

Deno.test("inspect finds the device that start made, if neither is told where", async () => {
  await using folder = new TempFolder();
  await using _device = await DeviceProcess.start("--socket-path", `${folder.path}/vgtt.sock`);
  const { code, stdout } = await run("inspect", ["ls"], { XDG_RUNTIME_DIR: folder.path });
  assertEquals(code, 0);
  assertStringIncludes(stdout, `${folder.path}/vgtt.sock (vgtt`);
});

Deno.test("inspect tells that a socket is a hypervisor's, or nobody's that it knows", async () => {
  await using folder = new TempFolder();
  await using _device = await DeviceProcess.start(
    "--socket-path",
    `${folder.path}/rpc`,
    "--vfio-user-path",
    `${folder.path}/vfio`,
  );
  const { code, stderr } = await run("inspect", ["ls", "--socket-path", `${folder.path}/vfio`]);
  assertEquals(code, 1);
  assertStringIncludes(stderr, "does not speak MessagePack-RPC");
});

Deno.test("inspect ends with a message when the device dies under it", async () => {
  await using folder = new TempFolder();
  const listener = await listenUnix(`${folder.path}/s`);
  const answered = (async () => {
    const connection = (await listener.accept())!;
    await connection.read(new Uint8Array(1000));
    connection.close();
  })();
  const { code, stdout, stderr } = await run("inspect", ["ls", "--socket-path", `${folder.path}/s`]);
  await answered;
  listener.close();
  assertEquals([code, stdout, stderr.trim().split("\n").length], [1, "", 1], stderr);
});

Deno.test("inspect tells which address spaces there are", async () => {
  const { code, stdout, stderr } = await run("inspect", ["tree", "7", ...GUEST]);
  assertEquals([code, stdout, stderr], [1, "", "no mm 7: there are 0, 1, 2, 3, 4\n"]);
  const early = await run("inspect", ["walk", "0", "0", ...GUEST, "--to", "5"]);
  assertEquals([early.code, early.stderr], [1, "no mm 0: there is none\n"]);
});

Deno.test("inspect tells what is wrong with a recording or a snapshot", async () => {
  await using folder = new TempFolder();
  const [noise, none] = [`${folder.path}/noise`, `${folder.path}/none`];
  await Deno.writeTextFile(noise, "this is\x1b[2J nothing\n");
  for (const option of ["--recording", "--snapshot"]) {
    for (const path of [noise, none, folder.path]) {
      const { code, stdout, stderr } = await run("inspect", ["ls", option, path]);
      assertEquals([code, stdout, stderr.trim().split("\n").length], [1, "", 1], stderr);
      assertStringIncludes(stderr, path);
      assertEquals(stderr.includes("\x1b"), false);
    }
  }
  const few = await run("inspect", ["ls", ...GUEST, "--to", "99999"]);
  assertEquals(few.code, 0);
  assertStringIncludes(few.stderr, "has 3400 events only");
});

Deno.test("inspect takes relative paths from where the user is", async () => {
  await using folder = new TempFolder();
  const here = { INIT_CWD: folder.path };
  assertEquals((await run("inspect", ["save", "now", ...GUEST], here)).code, 0);
  assertEquals(folder.names(), ["now"]);
  assertEquals(Deno.statSync(`${folder.path}/now`).mode! & 0o777, 0o600); // it holds guest memory
  assertEquals((await run("inspect", ["diff", "--snapshot", "now", "--against", "now"], here)).code, 0);
  const refused = await run("inspect", ["save", "no/such/folder", ...GUEST], here);
  assertEquals([refused.code, refused.stdout], [1, ""]);
  assertStringIncludes(refused.stderr, "cannot write");
});

Deno.test("inspect needs no permission but for its socket, its files and two variables", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(`${ROOT}/deno.json`));
  const flags = (tasks.inspect.command as string).match(/--allow-[\w-]+/g)!;
  assert(
    flags.every((flag) => ["--allow-read", "--allow-write", "--allow-net", "--allow-env"].includes(flag)),
    `${flags}`,
  );
});
