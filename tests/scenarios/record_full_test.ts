import { assertEquals } from "@std/assert";
import { ROOT } from "./process.ts";

Deno.test("a file that is full ends the recording, which is told once, and the device carries on", async () => {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--allow-all", "tests/scenarios/record_full.ts"],
    cwd: ROOT,
    stderr: "inherit",
  }).output();
  const reason = "No space left on device (os error 28)";
  assertEquals(JSON.parse(new TextDecoder().decode(stdout)), {
    said: [["error", "the recording ends here: the file takes no more", { path: "/dev/full", reason }]],
    identity: 0x1912_8086,
  });
});
