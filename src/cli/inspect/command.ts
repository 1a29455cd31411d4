/**
 * What a sub-command of the inspector is, and how its options are read.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { EXIT_FAILED, EXIT_OK, UsageError } from "../usage.ts";
import { defaultSocketPath } from "../socket_path.ts";
import { userPath } from "../user_path.ts";
import { parseNumber } from "./numbers.ts";
import type { Output } from "./output.ts";
import type { SourceOptions } from "./client_source.ts";

/** Options that every sub-command has, for the end of its help. */
const COMMON_USAGE = {
  socket:
    "  --socket-path PATH   the device's socket (default $XDG_RUNTIME_DIR/vgtt.sock, else /tmp/vgtt.sock)",
  recording: `  --recording FILE     replay this recording here and look at that, instead of a device
  --to N               replay the first N events only`,
  snapshot: "  --snapshot FILE      look at what deno task inspect save wrote, instead of a device",
  json: "  --json               print JSON",
} as const;

/** What can be looked at. */
export type SourceKind = "socket" | "recording" | "snapshot";

/** A sub-command. */
export interface InspectCommand {
  /** Its help, up to the options that all have: a line `Usage: …`, what it does, its options. */
  readonly usage: string;
  /** A command line or several, for the end of its help. */
  readonly example: string;
  /** What it prints with `--json`, for its help; `null`: it has no such option. */
  readonly json: string | null;
  /** What it can look at. */
  readonly sources: readonly SourceKind[];
  /** Its options that take a value. */
  readonly strings?: readonly string[];
  /** Its options that take none. */
  readonly booleans?: readonly string[];
  /** How many words it takes besides options, at least and at most. */
  readonly operands?: readonly [least: number, most: number];
  /** Carries it out. @returns The exit status. */
  run(request: Request): Promise<number>;
}

/** What was asked of a sub-command. */
export interface Request {
  /** Words besides the options. */
  readonly operands: readonly string[];
  /** Whether JSON is wanted. */
  readonly json: boolean;
  /** What to look at. */
  readonly source: SourceOptions;
  /** Where data goes. */
  readonly output: Output;
  /** The value of one of the sub-command's options, or `undefined`. */
  text(name: string): string | undefined;
  /** Whether one of the sub-command's options without a value is given. */
  has(name: string): boolean;
}

/** The help of a sub-command. */
export function helpText({ usage, example, sources, json }: InspectCommand): string {
  const options = [
    ...sources.map((kind) => COMMON_USAGE[kind]),
    ...(json === null ? [] : [COMMON_USAGE.json]),
    "  --help               print this text",
  ];
  return [
    usage.trimEnd(),
    options.join("\n"),
    ...(json === null ? [] : [filled(`With --json: ${json}`)]),
    `Example: ${example.replaceAll("\n", "\n         ")}`,
  ].join("\n\n");
}

/** Columns of the help. */
const HELP_COLUMNS = 100;

/** Words in lines that fit. */
function filled(text: string): string {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1)!;
    if (line !== "" && line.length + 1 + word.length > HELP_COLUMNS) lines.push(word);
    else lines[lines.length - 1] = line === "" ? word : `${line} ${word}`;
  }
  return lines.join("\n");
}

/**
 * Reads the options of a sub-command.
 *
 * @param name The sub-command's name.
 * @param command What it takes.
 * @param args What follows its name.
 * @param output Where its data goes.
 * @returns What is asked, or `"help"`.
 * @throws {UsageError} Saying which option is wrong.
 */
export function parseRequest(
  name: string,
  command: InspectCommand,
  args: readonly string[],
  output: Output,
): Request | "help" {
  const see = `see deno task inspect ${name} --help`;
  const ofSource = command.sources.flatMap((kind) => SOURCE_OPTIONS[kind]);
  const strings = [...(command.strings ?? []), ...ofSource];
  const booleans = [...(command.booleans ?? []), "help", ...(command.json === null ? [] : ["json"])];
  const parsed = parseArgs(args, {
    string: [...strings, "_"],
    boolean: booleans,
    unknown: (arg) => {
      if (!/^-./.test(arg)) return;
      throw new UsageError(`inspect ${name} does not know ${JSON.stringify(arg)}: ${see}`);
    },
  });
  if (parsed["help"] === true) return "help";
  for (const arg of args) {
    if (booleans.some((each) => arg.startsWith(`--${each}=`))) {
      throw new UsageError(`${arg}: this option takes no value`);
    }
  }
  const text = (option: string) => {
    const value = parsed[option];
    if (value === "") throw new UsageError(`--${option} needs a value: ${see}`);
    if (Array.isArray(value)) throw new UsageError(`--${option} is given twice`);
    return typeof value === "string" ? value : undefined;
  };
  strings.forEach(text); // one that is wrong is wrong, whether it is needed or not
  const operands = parsed._.map(String);
  const [least, most] = command.operands ?? [0, 0];
  if (operands.length < least || operands.length > most) {
    const [usage = ""] = command.usage.split("\n");
    const what = operands.length < least
      ? "something is missing"
      : `${JSON.stringify(operands[most])} is too much`;
    throw new UsageError(`inspect ${name}: ${what}: ${usage}`);
  }
  return {
    output,
    operands,
    json: parsed["json"] === true,
    source: sourceOptions(text),
    text,
    has: (option) => parsed[option] === true,
  };
}

/** Options by which a source is named. */
const SOURCE_OPTIONS: Readonly<Record<SourceKind, readonly string[]>> = {
  socket: ["socket-path"],
  recording: ["recording", "to"],
  snapshot: ["snapshot"],
};

function sourceOptions(text: (name: string) => string | undefined): SourceOptions {
  const given = ["socket-path", "recording", "snapshot"].filter((name) => text(name) !== undefined);
  if (given.length > 1) throw new UsageError(`--${given[0]} and --${given[1]} exclude each other`);
  const to = text("to");
  const recording = text("recording");
  if (to !== undefined && recording === undefined) {
    throw new UsageError("--to is for --recording: how many of its events to replay");
  }
  if (recording !== undefined) {
    const count = to === undefined ? {} : { to: parseNumber(to, "--to") };
    return { kind: "recording", path: userPath(recording), name: recording, ...count };
  }
  const snapshot = text("snapshot");
  if (snapshot !== undefined) return { kind: "snapshot", path: userPath(snapshot), name: snapshot };
  const socket = text("socket-path") ?? defaultSocketPath();
  return { kind: "socket", path: userPath(socket), name: socket };
}

/** The exit status of a command that checks something. */
export function verdict(isRight: boolean): number {
  return isRight ? EXIT_OK : EXIT_FAILED;
}
