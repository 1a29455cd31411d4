import { assertEquals } from "@std/assert";
import { GOLDEN_CASES, goldenFile, goldenText, GUEST } from "./golden_cases.ts";
import { ROOT, run } from "./process.ts";

const ANEW = "if this is as it should be: deno task golden";

for (const [name, args] of Object.entries(GOLDEN_CASES)) {
  Deno.test(`inspect ${args.slice(0, args.indexOf("--recording")).join(" ")} says of the recorded guest what golden/inspect_${name}.txt says`, async () => {
    const wanted = await Deno.readTextFile(goldenFile(name));
    assertEquals(await goldenText(args), wanted, ANEW);
  });
}

Deno.test("golden files have a case each", () => {
  const names = [...Deno.readDirSync(`${ROOT}/tests/scenarios/golden`)].map((entry) => entry.name).sort();
  assertEquals(names, Object.keys(GOLDEN_CASES).map((name) => `inspect_${name}.txt`).sort(), ANEW);
});

for (
  const args of [
    ["ls"],
    ["tree"],
    ["ggtt"],
    ["walk", "3", "0"],
    ["diff"],
    ["who", "0x1d7e"],
    ["top"],
    ["regs"],
    ["events", "--kind", "failsafe,g2v"],
    ["save", "/dev/null"],
  ]
) {
  Deno.test(`inspect ${args.join(" ")} --json prints lines of JSON with the fields that its help names`, async () => {
    const help = await run("inspect", [args[0]!, "--help"]);
    const { code, stdout, stderr } = await run("inspect", [...args, "--json", ...GUEST], { INIT_CWD: ROOT });
    assertEquals([code, stderr], [0, ""]);
    const lines = stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
    assertEquals(lines.length, args[0] === "events" ? 5 : 1);
    const strangers = lines.flatMap((value) => Object.keys(value)).filter((name) =>
      !help.stdout.includes(`"${name}"`)
    );
    assertEquals(strangers, []);
  });
}
