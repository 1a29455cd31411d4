// Recordings that somebody made to do something to whoever replays them.

import { assertEquals, assertMatch } from "@std/assert";
import { DEFAULT_VGPU } from "../../src/vgpu/vgpu_options.ts";
import { run, TempFolder } from "../scenarios/process.ts";

const DEVICE = { ...DEFAULT_VGPU, oos: false, verify: false, debug: false };
const HEADER = JSON.stringify({ vgtt: 1, by: "test", device: DEVICE });
// deno-lint-ignore no-control-regex -- what a terminal acts upon
const CONTROLS = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/;

for (
  const [what, lines] of [
    ["a bug's text", ['{"bug":"\\u001b]0;PWNED\\u0007\\u009b31m\\u202e"}', '{"reset":true}']],
    ["a part of a digest", ['{"digest":{"\\u001b[31mx":"0123456789abcdef"},"events":0}']],
    ["a line's kind", ['{"\\u009b31m":1}']],
    ["a call's name", ['{"call":"\\u009b31m\\u001b[2J","params":[]}']],
    ["what is no JSON", ['{"reset":\u009b2J\x1b[2J']],
    ["a region", ['{"r":"\u009b2J\x9b","off":"0x0","size":4,"val":"0x0"}']],
  ] as const
) {
  Deno.test(`replay prints ${what} so that it does nothing to a terminal`, async () => {
    await using folder = new TempFolder();
    const path = `${folder.path}/recording.jsonl`;
    Deno.writeTextFileSync(path, [HEADER, ...lines, ""].join("\n"));
    for (const options of [[], ["--json"]]) {
      const { code, stdout, stderr } = await run("replay", [...options, path]);
      assertEquals([code, CONTROLS.test(stdout), CONTROLS.test(stderr)], [1, false, false]);
      assertMatch(stdout, /only one of|internal error|line 2/);
    }
  });
}
