/**
 * `demo`: starts a device, replays what a real Linux guest did to one, and checks every translation.
 *
 * @module
 */

import type { Client } from "../../protocol/client.ts";
import { connect } from "../../protocol/connect.ts";
import { foldTree } from "../inspect/fold.ts";
import type { ShadowTree } from "../inspect/tree.ts";
import { parseRecording, playRecording, readLines, type RecordingResult } from "../replay/replay_file.ts";
import { ListenError } from "../server/socket_file.ts";
import { OwnDevice } from "./own_device.ts";
import { Progress } from "./progress.ts";
import { print, say } from "./terminal.ts";
import { EXIT_FAILED, EXIT_OK, UsageError } from "./usage.ts";

const RECORDING = new URL("../../examples/debian-6.1-i915.jsonl.gz", import.meta.url);
/** Within the project's folder, where the demo may write. */
const FOLDER = ".run";
const SOCKET = `${FOLDER}/demo.sock`;
const DEMO_USAGE = `Usage: deno task demo

Starts a device on ${FOLDER}/demo.sock, attaches to it as a VMM would, replays what a stock Debian guest did to such a device,
and checks every translation against the guest's own tables. Exit status 1 if any is wrong.
`;

/** Runs `demo`. @returns The exit status. @throws {UsageError} When it is given anything. */
export async function demo(args: readonly string[]): Promise<number> {
  if (args[0] === "--help") {
    print(DEMO_USAGE);
    return EXIT_OK;
  }
  if (args.length > 0) throw new UsageError(`demo takes no options: got ${JSON.stringify(args[0])}`);
  const events = parseRecording(await readLines(RECORDING));
  await Deno.mkdir(FOLDER, { recursive: true });
  try {
    await using device = await OwnDevice.start(SOCKET, false);
    print(`device listening on ${device.path}`);
    await using client = await connect(device.path, { role: "vmm", client: "demo" });
    print(`attached to ${client.hello.server} as a VMM; replaying a stock Debian guest's session`);
    using progress = new Progress("replaying", events.length);
    const result = await playRecording(client, events, () => progress.step());
    await report(client, result);
    return result.check.wrong > 0 ? EXIT_FAILED : EXIT_OK;
  } catch (error) {
    if (!(error instanceof ListenError)) throw error;
    say(error.message.includes("in use") ? `${error.message}\nIs another demo running?` : error.message);
    return EXIT_FAILED;
  }
}

async function report(
  client: Client,
  { served, seconds, check, stats, ramBytes }: RecordingResult,
): Promise<void> {
  const total = Object.values(served).reduce((sum, count) => sum + count, 0);
  print(`
served in ${seconds.toFixed(2)} s, ${Math.round(total / seconds)} a second, with ${
    ramBytes >> 20
  } MiB of guest RAM:
  ${served.reads} register and configuration reads
  ${served.writes} register and configuration writes
  ${served.ggttStores} stores to the GTT window
  ${served.pages} pages of guest memory, then ${served.stores} stores to them, ${
    stats["trappedStores"]
  } of them trapped

GGTT entries: ${check.ggttEntries}
PPGTTs: ${check.spaces}, in ${stats["shadowTables"]} shadow tables`);
  const largest = await largestTree(client);
  if (largest !== null) {
    print(`\nshadow of PPGTT ${largest.id} (level ${largest.tree.level}):`);
    for (const line of foldTree(largest.tree)) print(`  ${line}`);
  }
  print(`
compared with the guest's own tables: ${check.entries} entries of ${check.tables} distinct table pages,
${check.walks} full walks, ${check.ggttEntries} GGTT entries`);
  for (const problem of check.problems) print(`  ${problem}`);
  print(
    `translations checked: ${check.entries + check.walks + check.ggttEntries}, wrong: ${check.wrong}`,
  );
}

/** The tree that says most: the one with the longest text, folded. */
async function largestTree(client: Client): Promise<{ id: number; tree: ShadowTree } | null> {
  const { mms } = await client.call("state") as { mms: [id: number][] };
  let largest: { id: number; tree: ShadowTree; lines: number } | null = null;
  for (const [id] of mms) {
    const tree = await client.call("tree", id) as unknown as ShadowTree;
    const lines = foldTree(tree).length;
    if (largest === null || lines > largest.lines) largest = { id, tree, lines };
  }
  return largest;
}
