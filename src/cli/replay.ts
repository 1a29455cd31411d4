/**
 * `replay`: plays traces and recordings and tells each difference.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { ConnectionError, RpcError } from "../../protocol/errors.ts";
import { openRecording, RecordingError } from "../replay/recording_file.ts";
import { replayFile, replayRecorded, type ReplayResult } from "../replay/replay_file.ts";
import { replayToDevice } from "../replay/replay_to_device.ts";
import { attach } from "./attach.ts";
import { ListenError } from "../server/socket_file.ts";
import { OwnDevice } from "./own_device.ts";
import { print, say } from "./terminal.ts";
import { EXIT_FAILED, EXIT_OK, UsageError } from "./usage.ts";
import { userPath } from "./user_path.ts";

const REPLAY_USAGE = `Usage: deno task replay [--to N] [--listen PATH | --socket-path PATH] [--json] FILE…

Plays traces and recordings (JSON lines, also packed with gzip) and prints each difference with its file and line. What
start --record wrote is replayed in this process, event by event as it was, and the device's state is compared with the
digests in it. Traces, and recordings that do not say of which device they are, are played over a socket. Exit status 1 if
there is any difference.

  --to N               replay the first N events of a recording
  --listen PATH        then let observers look at the device on this Unix socket, until SIGTERM or SIGINT; one file only
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
    string: ["socket-path", "listen", "to", "_"],
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
  const text = (name: "socket-path" | "listen" | "to") => {
    const value = parsed[name];
    if (value === "") throw new UsageError(`--${name} needs a value: see deno task replay --help`);
    return typeof value === "string" ? value : undefined;
  };
  const [socket, listen, to] = [text("socket-path"), text("listen"), eventNumber(text("to"))];
  if (listen !== undefined) {
    if (socket !== undefined) throw new UsageError("--listen and --socket-path exclude each other");
    if (files.length > 1) throw new UsageError("--listen needs one file: there is one device to look at");
    return await show(userPath(files[0]!), to, userPath(listen));
  }
  const outcomes = socket === undefined ? await playOnOwnDevice(files, to) : await playAll(socket, files, to);
  const failed = outcomes.filter(isFailed).length;
  if (parsed["json"] === true) {
    print(JSON.stringify({ files: outcomes, passed: outcomes.length - failed, failed }));
  } else {
    for (const outcome of outcomes) printOutcome(outcome);
    print(`${outcomes.length - failed} passed, ${failed} failed`);
  }
  return failed > 0 ? EXIT_FAILED : EXIT_OK;
}

/** How many events are to be replayed. @throws {UsageError} When that is no number. */
function eventNumber(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text)) throw new UsageError(`--to must be a number: got ${JSON.stringify(text)}`);
  return Number(text);
}

async function playOnOwnDevice(files: readonly string[], to: number | undefined): Promise<FileOutcome[]> {
  const folder = await Deno.makeTempDir({ prefix: "vgtt-" });
  try {
    await using device = await OwnDevice.start(`${folder}/replay.sock`, true);
    return await playAll(device.path, files, to);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function playAll(
  socket: string,
  files: readonly string[],
  to: number | undefined,
): Promise<FileOutcome[]> {
  const outcomes: FileOutcome[] = [];
  for (const file of files) outcomes.push(await play(socket, file, to));
  return outcomes;
}

async function play(socket: string, file: string, to: number | undefined): Promise<FileOutcome> {
  const path = userPath(file);
  const attachAsVmm = () => attach(socket, { role: "vmm", client: "replay" });
  try {
    const result = await replayRecorded(path, to) ?? await replayFile(attachAsVmm, path, to);
    return { file, result, error: null };
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
  print(
    `${isFailed(outcome) ? "FAILED" : "ok"} ${file} (${result === null ? "not played" : summary(result)})`,
  );
}

/** What was played, in a few words. */
function summary({ kind, steps, digests, isCut }: ReplayResult): string {
  if (kind === "trace") return `trace, ${steps} steps`;
  const states = digests === null
    ? ""
    : digests === 0
    ? ", no state compared: there is no digest in it"
    : `, state compared ${digests} times`;
  return `recording, ${steps} events${states}${isCut ? "; its last line was cut off" : ""}`;
}

/** Replays a recording and lets observers look at the device. @returns The exit status. */
async function show(path: string, to: number | undefined, socket: string): Promise<number> {
  try {
    using replayed = await replayToDevice(await openRecording(path), { to });
    for (const { line, text } of replayed.differences) print(`${path}:${line}: ${text}`);
    print(`replayed ${replayed.events} events`);
    await using device = await OwnDevice.serve(socket, replayed.service);
    print(`listening on ${device.path}`);
    await untilSignal();
    return replayed.differences.length > 0 ? EXIT_FAILED : EXIT_OK;
  } catch (error) {
    if (!isUsers(error)) throw error;
    say(`${path}: ${error.message}`);
    return EXIT_FAILED;
  }
}

/** Whether an error is about what the user has given, not a bug of ours. */
function isUsers(error: unknown): error is Error {
  return [RecordingError, ListenError, Deno.errors.NotFound, Deno.errors.PermissionDenied].some((kind) =>
    error instanceof kind
  );
}

/** Settles when the process is told to end. */
async function untilSignal(): Promise<void> {
  const told = Promise.withResolvers<void>();
  const onSignal = () => told.resolve();
  Deno.addSignalListener("SIGTERM", onSignal);
  Deno.addSignalListener("SIGINT", onSignal);
  await told.promise;
  Deno.removeSignalListener("SIGTERM", onSignal);
  Deno.removeSignalListener("SIGINT", onSignal);
}
