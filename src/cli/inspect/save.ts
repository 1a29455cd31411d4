/**
 * `inspect save`: keeps the page tables as they are now.
 *
 * @module
 */

import { saveSnapshot } from "../../observe/snapshot_file.ts";
import { EXIT_OK } from "../usage.ts";
import { userPath } from "../user_path.ts";
import { countText } from "./columns.ts";
import type { InspectCommand, Request } from "./command.ts";
import { InspectError } from "./inspect_error.ts";
import { visible } from "./output.ts";
import { openSource } from "./source.ts";

/** See {@linkcode InspectCommand}. */
export const command: InspectCommand = {
  usage: `Usage: deno task inspect save FILE

Writes the page tables as they are now, guest and shadow, to a file, for --snapshot and for
diff --against.
`,
  example: `deno task inspect save before.vgtt && deno task inspect tree --snapshot before.vgtt`,
  json: `{"file", "bytes", "spaces", "tables"}: numbers of address spaces and tables.`,
  sources: ["socket", "recording", "snapshot"],
  operands: [1, 1],
  async run({ source, operands: [name = ""], json, output }: Request): Promise<number> {
    const path = userPath(name);
    await using looked = await openSource(source);
    const snapshot = await looked.take();
    const bytes = await save();
    const { spaces: { length: spaces }, tables: { size: tables } } = snapshot.parts;
    if (json) output.json({ file: path, bytes, spaces, tables });
    else {
      output.line(
        `${visible(name)}: ${spaces} address ${spaces === 1 ? "space" : "spaces"} in ${
          countText(tables)
        } tables, ${countText(bytes)} bytes`,
      );
    }
    return EXIT_OK;

    async function save(): Promise<number> {
      try {
        await saveSnapshot(path, snapshot);
        return (await Deno.stat(path)).size;
      } catch (cause) {
        throw new InspectError(`cannot write ${path}: ${cause instanceof Error ? cause.message : cause}`, {
          cause,
        });
      }
    }
  },
};
