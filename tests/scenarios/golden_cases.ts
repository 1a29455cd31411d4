/**
 * What the inspector says of the recorded guest, kept in `golden/`, one file a case: the command line, what it printed, its
 * exit status. `deno task golden` writes them anew; look at what that changes.
 *
 * @module
 */

import { ROOT, run, TempFolder } from "./process.ts";

/** The recorded guest. */
export const GUEST: readonly string[] = ["--recording", "examples/debian-6.1-i915.jsonl.gz"];
/** Events after which the guest has announced two address spaces of its five. */
const EARLY = "2200";

/** Arguments of `deno task inspect` by the name of the file. `BEFORE` stands for a snapshot after {@linkcode EARLY} events. */
export const GOLDEN_CASES: Readonly<Record<string, readonly string[]>> = {
  ls: ["ls", ...GUEST],
  ls_early: ["ls", ...GUEST, "--to", EARLY],
  tree: ["tree", ...GUEST],
  tree_one: ["tree", "3", ...GUEST],
  tree_depth: ["tree", "3", "--depth", "2", ...GUEST],
  tree_raw: ["tree", "3", "--range", "0x0-0x5fff", "--raw", ...GUEST],
  ggtt: ["ggtt", ...GUEST],
  ggtt_range: ["ggtt", "--range", "0x3ffbc000-0x3fffffff", ...GUEST],
  walk: ["walk", "3", "0x0", ...GUEST],
  walk_scratch: ["walk", "1", "0x7f_ffff_f123", ...GUEST],
  walk_ggtt: ["walk", "ggtt", "0x3fff_f010", ...GUEST],
  diff: ["diff", ...GUEST],
  diff_expected: ["diff", "3", "--expected", ...GUEST],
  diff_against: ["diff", "--against", "BEFORE", ...GUEST],
  who_root: ["who", "0x1d7e", ...GUEST],
  who_scratch: ["who", "0x1d30", ...GUEST],
  who_ggtt: ["who", "0x1d41", ...GUEST],
  top: ["top", ...GUEST],
  top_early: ["top", ...GUEST, "--to", EARLY],
  regs_changed: ["regs", "--changed", ...GUEST],
  events: ["events", "--kind", "g2v,attach,ram,reset", ...GUEST],
};

/** Where the file of a case is. */
export function goldenFile(name: string): string {
  return `${ROOT}/tests/scenarios/golden/inspect_${name}.txt`;
}

/** What a case says now. */
export async function goldenText(args: readonly string[]): Promise<string> {
  await using folder = new TempFolder();
  const before = `${folder.path}/before`;
  if (args.includes("BEFORE")) await run("inspect", ["save", before, ...GUEST, "--to", EARLY]);
  const { code, stdout, stderr } = await run(
    "inspect",
    args.map((arg) => arg === "BEFORE" ? before : arg),
    { INIT_CWD: ROOT },
  );
  const said = [stdout, stderr].filter((text) => text !== "").join("---\n").replaceAll(before, "BEFORE");
  return `$ deno task inspect ${args.join(" ")}\n${steady(said)}(exit status ${code})\n`;
}

/** Without what differs from run to run: when something was, and what counts the time. */
function steady(text: string): string {
  return text.replace(/^( *\d+) +\d+\.\d{6} /gm, "$1     0.000000 ")
    .replace(/^(.*TIMESTAMP.*?0x[0-9a-f]+ +)0x[0-9a-f]{8}/gm, "$10x--------");
}

if (import.meta.main) {
  for (const [name, args] of Object.entries(GOLDEN_CASES)) {
    Deno.writeTextFileSync(goldenFile(name), await goldenText(args));
  }
}
