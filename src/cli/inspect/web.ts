/**
 * `inspect web`: the inspector as a page for a browser on the same machine.
 *
 * @module
 */

import { BundleError } from "../../web/bundle.ts";
import { PageServer } from "../../web/page_server.ts";
import { Watch } from "../../web/watch.ts";
import { EXIT_OK } from "../usage.ts";
import type { InspectCommand } from "./command.ts";
import { InspectError } from "./inspect_error.ts";
import { Interrupt } from "./interrupt.ts";
import { parseNumber } from "./numbers.ts";
import { openSource } from "./source.ts";

/** What the page calls each kind of source. */
const KINDS = { socket: "device", recording: "recording", snapshot: "snapshot" } as const;

/** The sub-command. */
export const command: InspectCommand = {
  usage: `Usage: deno task inspect web [--port N] [OPTION]…

Serves a page that shows address spaces, tables, walks, counters and events as they change, for a browser on this
machine. Prints its address, which has a token in it that nobody can guess, and serves until Ctrl-C.

  --port N             where to listen on 127.0.0.1 (default: any port that is free)
`,
  example: `deno task inspect web --recording examples/debian-6.1-i915.jsonl.gz`,
  json: `{"url": "http://127.0.0.1:…/…/"}`,
  sources: ["socket", "recording", "snapshot"],
  strings: ["port"],
  async run({ source, output, json, text }) {
    const port = text("port");
    const number = port === undefined ? 0 : parseNumber(port, "--port", 65536);
    const open = () => openSource(source);
    await using watch = new Watch(await open(), { kind: KINDS[source.kind], open });
    await using server = await startServer(watch, number);
    using interrupt = new Interrupt();
    if (json) output.json({ url: server.url });
    else output.lines([`${source.name}: ${server.url}`]);
    await interrupt.received();
    return EXIT_OK;
  },
};

async function startServer(watch: Watch, port: number): Promise<PageServer> {
  try {
    return await PageServer.start(watch, port);
  } catch (cause) {
    if (cause instanceof BundleError) throw new InspectError(cause.message, { cause });
    if (cause instanceof Deno.errors.AddrInUse) {
      throw new InspectError(`port ${port} is taken: give another --port, or none`, { cause });
    }
    if (cause instanceof Deno.errors.PermissionDenied) {
      throw new InspectError(`port ${port} is not for you: give one from 1024 on, or none`, { cause });
    }
    throw cause;
  }
}
