import { assertEquals, assertThrows } from "@std/assert";
import { parseStartOptions, START_USAGE } from "../../src/cli/start_options.ts";
import { UsageError } from "../../src/cli/usage.ts";

/** The options of this command line. */
function parse(...args: string[]) {
  return parseStartOptions(args, () => "/run/default.sock");
}

Deno.test("parseStartOptions() has a default for everything", () => {
  assertEquals(parse(), {
    print: null,
    socketPath: "/run/default.sock",
    vfioUserPath: null,
    fd: null,
    socketMode: 0o600,
    metricsPath: null,
    metricsListen: null,
    record: null,
    pidFile: null,
    log: { format: "text", level: "info" },
    vgpu: {
      deviceId: 0x1912,
      apertureSize: 64 << 20,
      apertureBase: 64 << 20,
      hiddenSize: 384 << 20,
      hiddenBase: 640 << 20,
      fences: 4,
      hugePages: false,
    },
    oos: false,
    verify: false,
    debug: false,
  });
});

Deno.test("parseStartOptions() takes values with a space or an equals sign", () => {
  for (const args of [["--socket-path", "/tmp/s", "--fences", "2"], ["--socket-path=/tmp/s", "--fences=2"]]) {
    const { socketPath, vgpu } = parse(...args);
    assertEquals([socketPath, vgpu.fences], ["/tmp/s", 2]);
  }
});

Deno.test("parseStartOptions() offers large pages when asked to", () => {
  assertEquals(parse("--huge-pages").vgpu.hugePages, true);
});

Deno.test("parseStartOptions() listens for hypervisors only if that is all it is asked for", () => {
  const { socketPath, vfioUserPath } = parse("--vfio-user-path", "/tmp/v");
  assertEquals([socketPath, vfioUserPath], [null, "/tmp/v"]);
  assertEquals(parse("--vfio-user-path=/tmp/v", "--socket-path=/tmp/s").socketPath, "/tmp/s");
});

for (
  const [text, hostname, port] of [
    ["9400", "127.0.0.1", 9400],
    ["0", "127.0.0.1", 0],
    ["localhost:9400", "localhost", 9400],
    ["0.0.0.0:65535", "0.0.0.0", 65535],
    ["[::1]:9400", "::1", 9400],
  ] as const
) {
  Deno.test(`parseStartOptions() reads --metrics-listen ${text}`, () => {
    assertEquals(parse("--metrics-listen", text).metricsListen, { hostname, port });
  });
}

Deno.test("parseStartOptions() leaves the default socket when it is given a descriptor", () => {
  const { fd, socketPath } = parse("--fd", "0");
  assertEquals([fd, socketPath], [0, null]);
});

for (const [text, mode] of [["0660", 0o660], ["600", 0o600], ["0000", 0], ["777", 0o777]] as const) {
  Deno.test(`parseStartOptions() reads --socket-mode ${text} as octal`, () => {
    assertEquals(parse("--socket-mode", text).socketMode, mode);
  });
}

for (
  const [text, size, base] of [
    ["64M", 64 << 20, 64 << 20],
    ["64m@0", 64 << 20, 0],
    ["0x100000@1M", 1 << 20, 1 << 20],
    ["512K@4096", 512 << 10, 4096],
    ["0@0", 0, 0],
  ] as const
) {
  Deno.test(`parseStartOptions() reads --aperture ${text}`, () => {
    const { vgpu } = parse("--aperture", text);
    assertEquals([vgpu.apertureSize, vgpu.apertureBase], [size, base]);
  });
}

Deno.test("parseStartOptions() reads sizes of gigabytes exactly", () => {
  assertEquals(parse("--hidden", "3G@1G").vgpu.hiddenSize, 3 * 2 ** 30);
});

Deno.test("parseStartOptions() reads the device id as hexadecimal, with or without 0x", () => {
  assertEquals(parse("--device", "0x5912").vgpu.deviceId, 0x5912);
  assertEquals(parse("--device", "5912").vgpu.deviceId, 0x5912);
});

Deno.test("parseStartOptions() prints capabilities or help whatever else is wrong with the values", () => {
  const wrong = ["--fd", "x", "--socket-path", "", "--socket-mode", "9", "--log", "?", "--aperture", "?"];
  assertEquals(parse(...wrong, "--print-capabilities").print, "capabilities");
  assertEquals(parse("--help", ...wrong).print, "help");
  assertEquals(parse("--help", "--print-capabilities").print, "capabilities");
});

for (
  const [args, message] of [
    [["--what"], 'start does not know "--what"'],
    [["file"], 'start does not know "file"'],
    [["-v"], 'start does not know "-v"'],
    [["--fd=-1"], "--fd must be a number"],
    [["--fd", "1.5"], "--fd must be a number"],
    [["--fd", "99999999999999999999"], "--fd must be a number"],
    [["--fd="], "--fd needs a value"],
    [["--pid-file="], "--pid-file needs a value"],
    [["--fd", "3", "--socket-path", "/s"], "exclude each other"],
    [["--socket-mode", "0o600"], "octal"],
    [["--socket-mode", "0888"], "octal"],
    [["--socket-mode", "77777"], "octal"],
    [["--oos=false"], "--oos=false: this option takes no value"],
    [["--fd", "3", "--socket-mode", "0660"], "--socket-mode is for a socket that the device makes"],
    [["--metrics-listen", ":9400"], "--metrics-listen must be HOST:PORT or PORT"],
    [["--metrics-listen", "65536"], "--metrics-listen must be HOST:PORT or PORT"],
    [["--metrics-listen", "::1"], "--metrics-listen must be HOST:PORT or PORT"],
    [["--metrics-listen="], "--metrics-listen needs a value"],
    [["--socket-path", "/s", "--metrics-path", "/s"], "--metrics-path needs a path of its own"],
    [["--vfio-user-path", "/v", "--metrics-path", "/m"], "add --socket-path"],
    [["--aperture", "1T"], "--aperture must be SIZE[@BASE]"],
    [["--aperture=-1"], "--aperture must be SIZE[@BASE]"],
    [["--hidden", "@1M"], "--hidden must be SIZE[@BASE]"],
    [["--hidden", "1M@"], "--hidden must be SIZE[@BASE]"],
    [["--hidden", "1M@2M@3M"], "--hidden must be SIZE[@BASE]"],
    [["--fences", "four"], "--fences must be a number"],
  ] as const
) {
  Deno.test(`parseStartOptions() refuses ${args.join(" ")}`, () => {
    assertThrows(() => parse(...args), UsageError, message);
  });
}

Deno.test("START_USAGE names every option", () => {
  const names = START_USAGE.match(/--[a-z-]+/g)!;
  assertEquals([...new Set(names)].sort(), [
    "--aperture",
    "--debug",
    "--device",
    "--fd",
    "--fences",
    "--help",
    "--hidden",
    "--huge-pages",
    "--log",
    "--metrics-listen",
    "--metrics-path",
    "--oos",
    "--pid-file",
    "--print-capabilities",
    "--record",
    "--socket-mode",
    "--socket-path",
    "--verify",
    "--vfio-user-path",
  ]);
});
