/**
 * `inspect tree`: the tables of address spaces, guest and shadow side by side.
 *
 * @module
 */

import { spaceLines } from "../../observe/space_lines.ts";
import { spaceTree, type TreeOptions } from "../../observe/space_tree.ts";
import { EXIT_OK } from "../usage.ts";
import { ADDRESS_END, parseNumber, parseRange } from "./numbers.ts";
import type { InspectCommand, Request } from "./command.ts";
import { openSource } from "./source.ts";
import { parseHandle, spaceOf } from "./space_handle.ts";
import { tinted } from "./tint.ts";

/** Levels of the deepest tree, and one more. */
const DEPTHS = 5;

/** See {@linkcode InspectCommand}. */
export const command: InspectCommand = {
  usage: `Usage: deno task inspect tree [MM] [--depth N] [--range FROM-TO] [--raw] [--lines N | --all]

The tables of an address space, or of all of them, guest and shadow side by side; runs of entries
that are alike are one line. The letter is the verdict: = same, ~ differs as it must, ? waits for a
sync, ! wrong.

  --depth N            that many levels only, 1 to 4
  --range FROM-TO      those graphics addresses only, both ends included
  --raw                every entry by itself, as stored
  --lines N            fold further until a space fits so many lines (default 50)
  --all                fold nothing away for the sake of lines
`,
  example: `deno task inspect tree 3 --range 0x8080604000-0x80806fffff --raw`,
  json:
    `{"spaces": [{"id", "level", "refs", "pins", "isShadowed", "roots": [{"slot", "class", "guest", "shadow", "table": {"kind", "gfn", "mfn", "refs", "state", "runs": […]}}…]}…]}: addresses and frames are numbers, entries hexadecimal text; what each is: src/observe/space_tree.ts.`,
  sources: ["socket", "recording", "snapshot"],
  strings: ["depth", "range", "lines"],
  booleans: ["raw", "all"],
  operands: [0, 1],
  async run(request: Request): Promise<number> {
    const { source, operands: [mm], json, output } = request;
    const options = treeOptions(request);
    const id = mm === undefined ? null : parseHandle(mm);
    await using looked = await openSource(source);
    const snapshot = await looked.take();
    const spaces = id === null ? snapshot.parts.spaces : [spaceOf(snapshot, id)];
    const trees = spaces.map((space) => spaceTree(snapshot, space, options));
    if (json) {
      output.json({ spaces: trees });
      return EXIT_OK;
    }
    if (trees.length === 0) output.line("no address spaces");
    for (const [at, tree] of trees.entries()) {
      if (at > 0) output.line();
      output.lines(tinted(spaceLines(tree), output));
    }
    return EXIT_OK;
  },
};

function treeOptions({ text, has }: Request): TreeOptions {
  const depth = text("depth");
  const range = text("range");
  const lines = text("lines");
  const options: TreeOptions = { raw: has("raw"), ...has("all") || has("raw") ? { lines: Infinity } : {} };
  if (depth !== undefined) Object.assign(options, { depth: parseNumber(depth, "--depth", DEPTHS, 1) });
  if (lines !== undefined) Object.assign(options, { lines: parseNumber(lines, "--lines", 1_000_000, 1) });
  if (range !== undefined) {
    const [from, to] = parseRange(range, "--range", ADDRESS_END);
    Object.assign(options, { from: Number(from), to: Number(to) + 1 });
  }
  return options;
}
