/**
 * `inspect walk`: one address through the guest's tables and through the shadow.
 *
 * @module
 */

import type { Client } from "../../../protocol/client.ts";
import { RpcError } from "../../../protocol/errors.ts";
import { PAGE_SIZE } from "../../gtt/entry.ts";
import type { Snapshot, SpaceView } from "../../observe/snapshot.ts";
import { walkLines } from "../../observe/walk_lines.ts";
import { walkSteps } from "../../observe/walk_steps.ts";
import type { Walk } from "../../observe/walk_result.ts";
import type { InspectCommand, Request } from "./command.ts";
import { verdict } from "./command.ts";
import { parseAddress } from "./numbers.ts";
import { openSource } from "./source.ts";
import { parseHandle, spaceOf } from "./space_handle.ts";
import { tinted } from "./tint.ts";

/** See {@linkcode InspectCommand}. */
export const command: InspectCommand = {
  usage: `Usage: deno task inspect walk MM GMA
       deno task inspect walk ggtt GMA

One graphics address through the guest's own tables and through the shadow, entry by entry, and
whether they lead to the same page. Exit status 1 if they do not and nothing excuses it.
`,
  example: `deno task inspect walk 3 0x80_8060_4123`,
  json:
    `{"space", "level", "gma", "address", "note", "slot", "root", "steps": [{"table", "index", "guest": {…}, "shadow": {…}, "verdict"}…], "guest", "shadow": where they lead, "wanted": a frame that would have to be read, "verdict": {"class", "reason", "sentence"}}; what each is: src/observe/walk_steps.ts.`,
  sources: ["socket", "recording", "snapshot"],
  operands: [2, 2],
  async run({ source, operands: [mm = "", gma = ""], json, output }: Request): Promise<number> {
    const id = mm === "ggtt" ? mm : parseHandle(mm);
    const address = parseAddress(gma, "GMA");
    await using looked = await openSource(source);
    const first = await looked.take();
    const walkIn = (snapshot: Snapshot, earlier: Snapshot | null) => {
      const space = id === "ggtt" ? id : spaceOf(snapshot, id);
      return walkWithPages(snapshot, earlier, space, address, looked.client);
    };
    let walk = await walkIn(first, null);
    // As for diff: a store that the device has not been told of yet is no fault.
    if (walk.verdict.class === "wrong" && looked.client !== null) {
      walk = await walkIn(await looked.take(), first);
    }
    if (json) output.json(walk);
    else output.lines(tinted(walkLines(walk), output));
    return verdict(walk.verdict.class !== "wrong");
  },
};

/** Pages that a walk can come to. */
const MAX_PAGES = 4;

/** Walks, and fetches the guest's pages on the way that no shadow table stands for. */
async function walkWithPages(
  snapshot: Snapshot,
  earlier: Snapshot | null,
  space: SpaceView | "ggtt",
  gma: bigint,
  client: Client | null,
): Promise<Walk> {
  const pages = new Map<number, Uint32Array | null>();
  for (;;) {
    const walk = walkSteps(snapshot, space, gma, { guestPage: (gfn) => pages.get(gfn), earlier });
    if (walk.wanted === null || client === null || pages.size >= MAX_PAGES) return walk;
    pages.set(walk.wanted, await guestPage(client, walk.wanted));
  }
}

/** A page of guest memory; `null` if it cannot be read. */
async function guestPage(client: Client, gfn: number): Promise<Uint32Array | null> {
  try {
    const bytes = await client.call("mem_read", gfn * PAGE_SIZE, PAGE_SIZE);
    return new Uint32Array(bytes.slice().buffer);
  } catch (error) {
    if (error instanceof RpcError) return null;
    throw error;
  }
}
