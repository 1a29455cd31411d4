/** What README says about attaching QEMU by hand. */

import { assert, assertStringIncludes } from "@std/assert";
import { shellLine } from "../../examples/qemu/command.ts";
import { until } from "./deadline.ts";
import { guestTest } from "./guest_test_case.ts";
import { Vgpu } from "./vgpu.ts";

const BOOT_DEADLINE = 180_000;
const README = new URL("../../README.md", import.meta.url);
const PROGRAM = "qemu-system-x86_64";

guestTest("README's QEMU command boots a guest with a vGPU", async ({ bench: { lab }, scope }) => {
  await using vgpu = await Vgpu.start(scope);
  const line = [
    [PROGRAM, shellLine(lab.emulator.program, lab.emulator.args)],
    ["vmlinuz", lab.kernel.image],
    ["initrd.gz", lab.initrd],
    ["/tmp/vgpu.sock", vgpu.socket],
  ].reduce(
    (text, [theirs, ours]) => replaced(text, theirs!, ours!),
    command(await Deno.readTextFile(README)),
  );
  const options = { stdin: "null", stdout: "piped", stderr: "piped" } as const;
  const qemu = new Deno.Command("sh", { args: ["-c", `exec ${line}`], ...options }).spawn();
  using _owned = scope.own(qemu.pid);
  let said = "";
  const pumps = [qemu.stdout, qemu.stderr].map(async (stream) => {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) said += text;
  });
  try {
    await until(BOOT_DEADLINE, () => `the guest says nothing of its vGPU: ${said}`, () => {
      return Promise.resolve(said.includes("pci 0000:00:02.0: [8086:1912]") ? true : null);
    });
    assertStringIncludes(vgpu.log, "vmm attached");
  } finally {
    qemu.kill("SIGKILL");
    await qemu.status;
    await Promise.all(pumps);
  }
});

/** The command of the block that attaches QEMU, to its end. */
function command(readme: string): string {
  const section = readme.slice(readme.indexOf("## Attach QEMU"));
  const found = new RegExp(`^${PROGRAM} (?:.*\\\\\n)*.*$`, "m").exec(section);
  assert(found !== null, `README runs ${PROGRAM}`);
  return found[0];
}

function replaced(text: string, theirs: string, ours: string): string {
  assertStringIncludes(text, theirs);
  return text.replaceAll(theirs, ours);
}
