/**
 * `inspect ggtt`: the global GTT, the guest's entries and the host's side by side.
 *
 * @module
 */

import { ggttLines, type GgttOptions, ggttRuns } from "../../observe/ggtt_runs.ts";
import { EXIT_OK } from "../usage.ts";
import type { InspectCommand, Request } from "./command.ts";
import { GGTT_END, parseNumber, parseRange } from "./numbers.ts";
import { openSource } from "./source.ts";
import { tinted } from "./tint.ts";

/** See {@linkcode InspectCommand}. */
export const command: InspectCommand = {
  usage: `Usage: deno task inspect ggtt [--range FROM-TO] [--limit N]

The entries of the global GTT that lie in the vGPU's windows, the guest's beside the host's; runs
that are alike are one line.

  --range FROM-TO      those graphics addresses only, both ends included
  --limit N            so many runs at most (default 200)
`,
  example: `deno task inspect ggtt --range 0x4000000-0x7ffffff`,
  json:
    `{"runs": [{"first", "last": entries, "from", "to": addresses, "guest", "host": frames, "class", …}…], "more": runs beyond the limit, "counts": entries by class}; what each is: src/observe/ggtt_runs.ts.`,
  sources: ["socket", "recording", "snapshot"],
  strings: ["range", "limit"],
  async run(request: Request): Promise<number> {
    const { source, json, output } = request;
    const options = ggttOptions(request);
    await using looked = await openSource(source);
    const table = ggttRuns(await looked.take(), options);
    if (json) output.json(table);
    else output.lines(tinted(ggttLines(table), output));
    return EXIT_OK;
  },
};

function ggttOptions({ text }: Request): GgttOptions {
  const range = text("range");
  const limit = text("limit");
  const [from, to] = range === undefined ? [null, null] : parseRange(range, "--range", GGTT_END);
  return {
    ...from === null ? {} : { from: Number(from), to: Number(to) + 1 },
    ...limit === undefined ? {} : { limit: parseNumber(limit, "--limit", 1_000_000, 1) },
  };
}
