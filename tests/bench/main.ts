/**
 * `deno task bench`: every figure of the README, measured on this machine.
 *
 * Each suite runs as a process of its own, several times, the suites in turn, so that what disturbs the machine for a
 * while disturbs no suite alone. A row is the median of its runs. Nothing here passes or fails: a figure that misses its
 * target is marked, and that is all.
 *
 * @module
 */

import { cpus } from "node:os";
import { parseArgs } from "@std/cli/parse-args";
import { print, say } from "../../src/cli/terminal.ts";
import { median, ratioOf, type Sample } from "./sample.ts";

/** A program that measures, and what it has to be allowed. */
interface Suite {
  readonly name: string;
  readonly flags: readonly string[];
}

/** In the order of the table. */
const SUITES: readonly Suite[] = [
  { name: "engine", flags: ["--v8-flags=--expose-gc"] },
  { name: "resync", flags: ["--allow-ffi"] },
  { name: "inspect", flags: ["--allow-ffi"] },
  { name: "streamer", flags: [] },
  {
    name: "memory",
    flags: ["--allow-read", "--allow-write", "--allow-net", "--allow-ffi", "--allow-run"],
  },
  { name: "socket", flags: ["--allow-read", "--allow-write", "--allow-run"] },
  { name: "recording", flags: ["--allow-read", "--allow-write", "--allow-run"] },
  { name: "scale", flags: ["--allow-read", "--allow-write", "--allow-run"] },
];

const USAGE = `Usage: deno task bench [options]

Measures the engine, the sockets, the command streamer, looks inside, recording, memory and scale; takes nine minutes or so.

  --runs N       runs of each suite, 5 by default
  --only NAMES   suites, separated by commas: ${SUITES.map(({ name }) => name).join(", ")}
  --json         one object on standard output instead of a table
  --help         this text
`;

/** One row of the table. */
export interface Row {
  readonly suite: string;
  readonly name: string;
  readonly unit: Sample["unit"];
  readonly ours: number;
  readonly reference: number | null;
  readonly against: Sample["against"];
  /** Less is better, also for rates. */
  readonly ratio: number | null;
  readonly target: number | null;
  readonly isMet: boolean | null;
  readonly runs: number;
  /** The distance between the extreme runs of ours, as a part of the median. */
  readonly spread: number;
}

/** Runs a suite once. @throws {Error} When it fails. */
async function run({ name, flags }: Suite): Promise<Sample[]> {
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", ...flags, new URL(`${name}.ts`, import.meta.url).pathname],
    stdout: "piped",
    stderr: "inherit",
  }).output();
  if (!success) throw new Error(`the suite ${name} failed: what it printed stands above`);
  return new TextDecoder().decode(stdout).trim().split("\n").map((line) => JSON.parse(line) as Sample);
}

/** The row of all samples of one name. */
function rowOf(suite: string, samples: readonly Sample[]): Row {
  const { name, unit, against, target } = samples[0]!;
  const figures = samples.map(({ ours }) => ours);
  const ours = median(figures);
  const ratios = samples.map(ratioOf).filter((ratio) => ratio !== null);
  const ratio = ratios.length === 0 ? null : median(ratios);
  const references = samples.map(({ reference }) => reference).filter((reference) => reference !== null);
  return {
    suite,
    name,
    unit,
    ours,
    reference: references.length === 0 ? null : median(references),
    against,
    ratio,
    target,
    isMet: ratio === null || target === null ? null : ratio <= target,
    runs: samples.length,
    spread: ours === 0 ? 0 : (Math.max(...figures) - Math.min(...figures)) / ours,
  };
}

/** A number with three digits that mean something. */
function shown(figure: number): string {
  if (figure >= 100) return Math.round(figure).toLocaleString("en");
  return figure === 0 ? "0" : Number(figure.toPrecision(3)).toString();
}

/** The columns of a row, as text. */
function columns(row: Row): string[] {
  const { name, unit, ours, reference, against, ratio, target, isMet, spread } = row;
  return [
    name,
    `${shown(ours)} ${unit}`,
    reference === null ? "-" : `${shown(reference)} ${unit}`,
    against,
    ratio === null ? "-" : ratio.toFixed(2),
    target === null ? "-" : `≤ ${target}`,
    isMet === null ? "" : isMet ? "met" : "MISSED",
    `±${Math.round(spread * 50)} %`,
  ];
}

const HEAD = ["work", "ours", "reference", "of", "ratio", "target", "", "spread"];

/** The table, aligned. */
function table(rows: readonly Row[]): string {
  const lines = [HEAD, ...rows.map(columns)];
  const widths = HEAD.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  return lines.map((line) =>
    line.map((text, column) => pad(text, widths[column]!, column)).join("  ").trimEnd()
  )
    .join("\n");
}

function pad(text: string, width: number, column: number): string {
  return column === 0 || column === 3 ? text.padEnd(width) : text.padStart(width);
}

/** What this machine is, as far as it says. */
function machine(): Record<string, string | number> {
  const processors = cpus();
  return {
    cpu: processors[0]?.model ?? "unknown",
    processors: processors.length,
    kernel: Deno.osRelease(),
    load: Deno.loadavg()[0]!.toFixed(2),
    deno: Deno.version.deno,
    v8: Deno.version.v8,
  };
}

/** Measures and prints. @returns The exit status. */
async function main(args: string[]): Promise<number> {
  const { runs, only, json, help, _: rest } = parseArgs(args, {
    string: ["runs", "only"],
    boolean: ["json", "help"],
    default: { runs: "5" },
  });
  const names = typeof only === "string" ? only.split(",") : undefined;
  const suites = SUITES.filter(({ name }) => names?.includes(name) ?? true);
  const unknown = names?.filter((name) => !SUITES.some((suite) => suite.name === name)) ?? [];
  const count = Number(runs);
  if (help) {
    print(USAGE);
    return 0;
  }
  if (rest.length > 0 || unknown.length > 0 || !Number.isInteger(count) || count < 1) {
    if (unknown.length > 0) {
      say(`There is no suite ${unknown.map((name) => JSON.stringify(name)).join(", ")}\n`);
    }
    say(USAGE);
    return 2;
  }
  const samples = new Map<string, Map<string, Sample[]>>(suites.map(({ name }) => [name, new Map()]));
  for (let turn = 1; turn <= count; turn++) {
    for (const suite of suites) {
      say(`run ${turn} of ${count}: ${suite.name}`);
      const byName = samples.get(suite.name)!;
      for (const sample of await run(suite)) {
        byName.set(sample.name, [...byName.get(sample.name) ?? [], sample]);
      }
    }
  }
  const results = [...samples].flatMap(([suite, byName]) =>
    [...byName.values()].map((each) => rowOf(suite, each))
  );
  if (json) print(JSON.stringify({ machine: machine(), runs: count, results }, null, 2));
  else {print(`${
      Object.entries(machine()).map(([key, value]) => `${key}: ${value}`).join(", ")
    }\n\n${table(results)}`);}
  return 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
