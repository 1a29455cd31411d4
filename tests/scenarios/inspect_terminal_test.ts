import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { announceTree4 } from "./guest_pages.ts";
import { Inspected } from "./inspected.ts";
import { ROOT, taskArguments } from "./process.ts";

/** The recorded guest. */
const GUEST = ["--recording", "examples/debian-6.1-i915.jsonl.gz"];

/**
 * Runs a command on a terminal of 30 lines and so many columns, with colour or without, and presses Ctrl-C after so many
 * seconds: arguments seconds, "coloured" or "plain", columns, command. Prints what the terminal saw.
 */
const TERMINAL = `
import fcntl, os, pty, select, struct, sys, termios, time
pid, fd = pty.fork()
if pid == 0:
    os.environ.pop("NO_COLOR", None)
    if sys.argv[2] == "plain":
        os.environ["NO_COLOR"] = "1"
    os.dup2(os.open("/dev/null", os.O_WRONLY), 2) # where the runtime tells of its own progress
    os.execv(sys.argv[4], sys.argv[4:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, int(sys.argv[3]), 0, 0))
press = time.time() + float(sys.argv[1])
seen = b""
while True:
    if select.select([fd], [], [], 0.05)[0]:
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
    if time.time() > press:
        os.write(fd, b"\\x03")
        press = float("inf")
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;

/** Runs a command and reads only its first line. Prints its exit status and what it said on standard error. */
const HEAD = `
import subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
child.stdout.readline()
child.stdout.close()
print(child.wait(), child.stderr.read())
`;

/** Runs the inspector by a script. */
async function runBy(
  script: string,
  before: readonly string[],
  args: readonly string[],
): Promise<{ code: number; text: string }> {
  const { code, stdout } = await new Deno.Command("python3", {
    args: ["-c", script, ...before, Deno.execPath(), ...taskArguments("inspect"), ...args],
    cwd: ROOT,
    env: { INIT_CWD: ROOT, TERM: "xterm-256color" },
  }).output();
  return { code, text: new TextDecoder().decode(stdout) };
}

Deno.test("inspect colours what it says on a terminal, and says the same without colour", async () => {
  const coloured = await runBy(TERMINAL, ["60", "coloured", "200"], ["ggtt", ...GUEST]);
  const plain = await runBy(TERMINAL, ["60", "plain", "200"], ["ggtt", ...GUEST]);
  assertEquals([coloured.code, plain.code], [0, 0]);
  assertStringIncludes(coloured.text, "\x1b[");
  assertEquals(plain.text.includes("\x1b"), false);
  // deno-lint-ignore no-control-regex -- colours are what is to be taken away
  assertEquals(coloured.text.replace(/\x1b\[[\d;]*m/g, ""), plain.text);
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: [...taskArguments("inspect"), "ggtt", ...GUEST],
    cwd: ROOT,
  }).output();
  assertEquals(new TextDecoder().decode(stdout), plain.text.replaceAll("\r", ""));
});

Deno.test("inspect breaks lines that are longer than the terminal", async () => {
  const { text } = await runBy(TERMINAL, ["60", "plain", "80"], ["tree", "3", ...GUEST]);
  const lines = text.trimEnd().split("\r\n");
  assertEquals(lines.filter((line) => line.length > 80), []);
  assertStringIncludes(
    text,
    "· gfn 0x1d10\r\n              → PTE table at mfn 0x30000000c · in sync, 1023 references\r\n",
  );
});

Deno.test("inspect top is redrawn in place on a terminal, until Ctrl-C", async () => {
  await using device = await Inspected.start("trapped");
  await announceTree4(device.vmm);
  const { code, text } = await runBy(
    TERMINAL,
    ["1.5", "coloured", "100"],
    device.looking("top", "--interval", "0.2"),
  );
  assertEquals(code, 0);
  assertEquals(text.startsWith("\x1b[?25l"), true); // the cursor goes …
  assertEquals(text.trimEnd().endsWith("\x1b[?25h"), true); // … and comes back
  const heights = text.split("\x1b[").flatMap((part) => /^(\d+)A/.exec(part)?.[1] ?? []);
  assert(heights.length >= 2, text);
  assertEquals(new Set(heights).size, 1);
});

Deno.test("inspect ends quietly when nobody reads on", async () => {
  await using device = await Inspected.start("trapped");
  await announceTree4(device.vmm);
  for (
    const args of [
      ["tree", "3", "--raw", ...GUEST],
      ["regs", ...GUEST],
      device.looking("top", "--interval", "0.1"),
      device.looking("top", "--interval", "0.1", "--json"),
    ]
  ) {
    const { text } = await runBy(HEAD, [], args);
    assertEquals(text, "0 b''\n", args.join(" "));
  }
});
