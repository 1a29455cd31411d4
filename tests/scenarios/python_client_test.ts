// The example client in Python: a second implementation of the protocol, run against a real device.

import { assertEquals, assertStringIncludes } from "@std/assert";
import { OwnDevice } from "../../src/cli/own_device.ts";

const PYTHON = "/usr/bin/python3";

async function hasMsgpack(): Promise<boolean> {
  try {
    const { success } = await new Deno.Command(PYTHON, { args: ["-c", "import msgpack"], stderr: "null" })
      .output();
    return success;
  } catch {
    return false;
  }
}

const canRun = await hasMsgpack();

Deno.test({
  name: `examples/client.py shadows a page table and translates${
    canRun ? "" : " (skipped: Debian's python3-msgpack is not installed)"
  }`,
  ignore: !canRun,
  async fn() {
    const folder = await Deno.makeTempDir({ dir: "/tmp", prefix: "vgtt-" });
    try {
      await using device = await OwnDevice.start(`${folder}/device.sock`, false);
      const { code, stdout, stderr } = await new Deno.Command(PYTHON, {
        args: ["examples/client.py", device.path],
      }).output();
      const text = new TextDecoder().decode(stdout);
      assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
      assertStringIncludes(text, "device: page_track [16, True]");
      assertStringIncludes(text, "gma 0x123 is gpa 0x64123");
      assertStringIncludes(text, "'agrees': True");

      const looked = await new Deno.Command(PYTHON, {
        args: ["examples/client.py", "--observe", device.path],
      }).output();
      const seen = new TextDecoder().decode(looked.stdout);
      assertEquals([looked.code, new TextDecoder().decode(looked.stderr)], [0, ""]);
      assertStringIncludes(seen, '"bar0Reads":');
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
