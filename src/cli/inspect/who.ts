/**
 * `inspect who`: what a guest frame is, and what leads to it.
 *
 * @module
 */

import { whoLines, whoMaps } from "../../observe/who.ts";
import { EXIT_OK } from "../usage.ts";
import type { InspectCommand, Request } from "./command.ts";
import { parseNumber } from "./numbers.ts";
import { openSource } from "./source.ts";
import { tinted } from "./tint.ts";

/** One more than the greatest frame number. */
const FRAME_END = 2 ** 40;

/** See {@linkcode InspectCommand}. */
export const command: InspectCommand = {
  usage: `Usage: deno task inspect who GFN [--addresses N] [--limit N]

What a guest frame (a guest physical address / 4096) is: the entries of page tables and of the GGTT
that lead to it, the tables that lie in it, whether stores to it trap.

  --addresses N        tell so many graphics addresses of each run (default 4)
  --limit N            so many runs of entries at most (default 100)
`,
  example: `deno task inspect who 0x1d7e`,
  json:
    `{"gfn", "mfn", "tables", "roots", "tracks", "mappings": [{"side", "table", "first", "last", "count", "addresses", …}…], "moreMappings", "ggtt", "moreGgtt"}; what each is: src/observe/who.ts.`,
  sources: ["socket", "recording", "snapshot"],
  strings: ["addresses", "limit"],
  operands: [1, 1],
  async run({ source, operands: [frame = ""], text, json, output }: Request): Promise<number> {
    const gfn = parseNumber(frame, "GFN", FRAME_END);
    const number = (name: string) => {
      const given = text(name);
      return given === undefined ? undefined : parseNumber(given, `--${name}`, 1_000_000, 1);
    };
    const options = { addresses: number("addresses"), limit: number("limit") };
    await using looked = await openSource(source);
    const who = whoMaps(await looked.take(), gfn, options);
    if (json) output.json(who);
    else output.lines(tinted(whoLines(who), output));
    return EXIT_OK;
  },
};
