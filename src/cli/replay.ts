/**
 * `replay`: plays traces and recordings against a device and tells each difference.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { ConnectionError, RpcError } from "../../protocol/errors.ts";
import { replayFile, type ReplayResult } from "../replay/replay_file.ts";
import { OwnDevice } from "./own_device.ts";
import { print } from "./terminal.ts";
import { EXIT_FAILED, EXIT_OK, UsageError } from "./usage.ts";
import { userPath } from "./user_path.ts";

const REPLAY_USAGE = `Usage: deno task replay [--socket-path PATH] [--json] FILE…

Plays traces and recordings (JSON lines, also packed with gzip) over a socket and prints each difference with its
file, line and key. Exit status 1 if there is any.

  --socket-path PATH   use the device that listens there; traces need one started with --debug
  --json               print one JSON object instead of text
`;

/** One file and what became of it. */
interface FileOutcome {
  readonly file: string;
  readonly result: ReplayResult | null;
  /** Why the file could not be played. */
  readonly error: string | null;
}

/** Runs `replay`. @returns The exit status. @throws {UsageError} When the options are wrong. */
export async function replay(args: readonly string[]): Promise<number> {
  const parsed = parseArgs(args, {
    string: ["socket-path", "_"],
    boolean: ["json", "help"],
    unknown: (arg) => {
      if (arg.startsWith("-")) {
        throw new UsageError(`replay does not know ${arg}: see deno task replay --help`);
      }
    },
  });
  if (parsed["help"] === true) {
    print(REPLAY_USAGE);
    return EXIT_OK;
  }
  const files = parsed._.map(String);
  if (files.length === 0) throw new UsageError(`replay needs a file\n\n${REPLAY_USAGE}`);
  const given = parsed["socket-path"];
  if (given === "") throw new UsageError("--socket-path needs a value: see deno task replay --help");
  const outcomes = typeof given === "string" ? await playAll(given, files) : await playOnOwnDevice(files);
  const failed = outcomes.filter(isFailed).length;
  if (parsed["json"] === true) {
    print(JSON.stringify({ files: outcomes, passed: outcomes.length - failed, failed }));
  } else {
    for (const outcome of outcomes) printOutcome(outcome);
    print(`${outcomes.length - failed} passed, ${failed} failed`);
  }
  return failed > 0 ? EXIT_FAILED : EXIT_OK;
}

async function playOnOwnDevice(files: readonly string[]): Promise<FileOutcome[]> {
  const folder = await Deno.makeTempDir({ prefix: "vgtt-" });
  try {
    await using device = await OwnDevice.start(`${folder}/replay.sock`, true);
    return await playAll(device.path, files);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function playAll(socket: string, files: readonly string[]): Promise<FileOutcome[]> {
  const outcomes: FileOutcome[] = [];
  for (const file of files) outcomes.push(await play(socket, file));
  return outcomes;
}

async function play(socket: string, file: string): Promise<FileOutcome> {
  try {
    return { file, result: await replayFile(socket, userPath(file)), error: null };
  } catch (error) {
    return { file, result: null, error: explain(error, socket) };
  }
}

function explain(error: unknown, socket: string): string {
  if (error instanceof RpcError || error instanceof ConnectionError) {
    return `the device at ${socket}: ${error.message}`;
  }
  return error instanceof Error ? error.message : String(error);
}

function isFailed({ result, error }: FileOutcome): boolean {
  return error !== null || (result?.differences.length ?? 0) > 0;
}

function printOutcome(outcome: FileOutcome): void {
  const { file, result, error } = outcome;
  for (const { line, text } of result?.differences ?? []) print(`${file}:${line}: ${text}`);
  if (error !== null) print(`${file}: ${error}`);
  const steps = result === null ? "not played" : `${result.kind}, ${result.steps} steps`;
  print(`${isFailed(outcome) ? "FAILED" : "ok"} ${file} (${steps})`);
}
