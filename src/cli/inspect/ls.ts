/**
 * `inspect ls`: what there is.
 *
 * @module
 */

import { overview, overviewLines } from "../../observe/overview.ts";
import { EXIT_OK } from "../usage.ts";
import type { InspectCommand, Request } from "./command.ts";
import { visible } from "./output.ts";
import { openSource } from "./source.ts";
import { tinted } from "./tint.ts";

/** See {@linkcode InspectCommand}. */
export const command: InspectCommand = {
  usage: `Usage: deno task inspect ls

What there is: address spaces and their tables, the GGTT's windows, guest RAM, page tracks.
`,
  example: `deno task inspect ls`,
  json:
    `{"source", "server" (null of a saved snapshot), "overview": {"tracking", "hugePages", "failsafe", "spaces": […], "totals", "ram", "windows", "tracks", …}}; what each is: src/observe/overview.ts.`,
  sources: ["socket", "recording", "snapshot"],
  async run({ source, json, output }: Request): Promise<number> {
    await using looked = await openSource(source);
    const seen = overview(await looked.take());
    const server = looked.client === null ? null : visible(looked.client.hello.server);
    if (json) output.json({ source: looked.name, server, overview: seen });
    else {
      output.line(output.paint("dim", `${visible(looked.name)}${server === null ? "" : ` (${server})`}`));
      output.lines(tinted(overviewLines(seen), output));
    }
    return EXIT_OK;
  },
};
