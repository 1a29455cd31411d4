/**
 * `inspect diff`: the shadow against what the guest's tables make it, or one snapshot against another.
 *
 * @module
 */

import { type DiffOptions, diffShadow, shadowDiffLines } from "../../observe/diff.ts";
import type { Snapshot } from "../../observe/snapshot.ts";
import { diffSnapshots, snapshotDiffLines } from "../../observe/snapshot_diff.ts";
import { UsageError } from "../usage.ts";
import { userPath } from "../user_path.ts";
import { type InspectCommand, type Request, verdict } from "./command.ts";
import { parseNumber } from "./numbers.ts";
import { visible } from "./output.ts";
import { openSource, readSnapshot } from "./source.ts";
import { parseHandle, spaceOf } from "./space_handle.ts";
import { tinted } from "./tint.ts";

/** See {@linkcode InspectCommand}. */
export const command: InspectCommand = {
  usage: `Usage: deno task inspect diff [MM] [--expected] [--quiet-guest] [--limit N]
       deno task inspect diff --against FILE [--limit N]

Compares every entry of the shadow with what the guest's tables make it: of all address spaces and
the GGTT, or of one address space. Tells each that waits for a sync (?) or is wrong (!); exit status 1
if any is wrong.

With --against: what changed, on both sides, since that snapshot was saved; exit status 1 if anything
did.

  --expected           tell those too that differ as they must (~), such as scratch
  --quiet-guest        the guest has changed no table since the device last looked: what would wait
                       for a sync is wrong
  --limit N            so many runs of entries at most (default 200)
  --against FILE       a snapshot that deno task inspect save wrote
`,
  example: `deno task inspect save before; …; deno task inspect diff --against before
deno task inspect diff --snapshot after --against before`,
  json:
    `{"counts": entries by class, "reasons", "differences": [{"class", "reason", "sentence", "path", "from", "to", "entries", "places"}…], "more", "tables", "entries"} (src/observe/diff.ts); with --against {"isSame", …} (src/observe/snapshot_diff.ts).`,
  sources: ["socket", "recording", "snapshot"],
  strings: ["against", "limit"],
  booleans: ["expected", "quiet-guest"],
  operands: [0, 1],
  async run(request: Request): Promise<number> {
    const { text, has, operands } = request;
    const limitText = text("limit");
    const limit = limitText === undefined ? {} : { limit: parseNumber(limitText, "--limit", 1_000_000, 1) };
    const against = text("against");
    if (against === undefined) return await diffSides(request, limit);
    if (operands.length > 0 || has("expected") || has("quiet-guest")) {
      throw new UsageError("--against compares everything: leave MM, --expected and --quiet-guest away");
    }
    return await diffTimes(request, against, limit);
  },
};

/** Guest against shadow. */
async function diffSides(
  { source, operands: [mm], has, json, output }: Request,
  limit: DiffOptions,
): Promise<number> {
  const id = mm === undefined ? null : parseHandle(mm);
  await using looked = await openSource(source);
  const first = await looked.take();
  const compare = (snapshot: Snapshot, earlier: Snapshot | null) =>
    diffShadow(snapshot, {
      ...limit,
      ...(id === null ? {} : { space: spaceOf(snapshot, id) }),
      ...has("expected") ? { classes: ["expected", "pending", "wrong"] } : {},
      isQuiet: has("quiet-guest"),
      earlier,
    });
  let diff = compare(first, null);
  // A store that is in memory, but that the device has not been told of yet, is no fault: such a one goes away.
  if (diff.counts.wrong > 0 && looked.client !== null) diff = compare(await looked.take(), first);
  if (json) output.json(diff);
  else output.lines(tinted(shadowDiffLines(diff), output));
  return verdict(diff.counts.wrong === 0);
}

/** Now against then. */
async function diffTimes(
  { source, json, output }: Request,
  name: string,
  limit: { readonly limit?: number },
): Promise<number> {
  const before = await readSnapshot(userPath(name));
  await using looked = await openSource(source);
  const diff = diffSnapshots(before, await looked.take(), limit);
  if (json) output.json(diff);
  else {
    output.line(output.paint("dim", `from ${visible(name)} to ${visible(looked.name)}`));
    output.lines(tinted(snapshotDiffLines(diff), output));
  }
  return verdict(diff.isSame);
}
