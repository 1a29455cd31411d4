/**
 * Writes generated traces with the model's answers, to be replayed against any device.
 *
 * `deno run --allow-write=DIR soak.ts --profile oos --seeds 1-50 --ops 500 --out DIR` writes one file a seed, such as
 * `DIR/oos-7.jsonl`. The profile `all` stands for every profile. The names of the files go to standard output. Exit
 * code 0: written; 1: the model contradicts itself or a file cannot be written; 2: wrong usage.
 *
 * @module
 */

import { parseArgs } from "@std/cli/parse-args";
import { generate } from "./generate.ts";
import { violations } from "./invariants.ts";
import { Model } from "./model.ts";
import { type Profile, PROFILES } from "./profiles.ts";
import { serialiseTrace, type TraceFile } from "../../src/replay/trace.ts";

const USAGE = `usage: soak.ts --profile ${PROFILES.join("|")}|all --seeds FIRST[-LAST] --ops N --out DIR\n`;

/** What the command line asks for. */
interface Request {
  readonly profiles: readonly Profile[];
  readonly first: number;
  readonly last: number;
  readonly ops: number;
  readonly out: string;
}

/**
 * Generates a trace and fills in what the model answers.
 *
 * @param profile What kind of trace.
 * @param seed Any integer.
 * @param ops How many operations, at least 1.
 * @returns The trace.
 * @throws Error when the model's state contradicts itself after a step.
 */
export function record(profile: Profile, seed: number, ops: number): TraceFile {
  const { config, ops: operations } = generate(profile, seed, ops);
  const model = new Model(config);
  const steps = operations.map((op, i) => {
    const expect = model.step(op);
    const wrong = violations(model.vgpu);
    if (wrong.length > 0) {
      throw new Error(`${profile}-${seed} step ${i} ${JSON.stringify(op)}: ${wrong.join("; ")}`);
    }
    return { op, expect };
  });
  return { config, steps };
}

function parseRequest(args: readonly string[]): Request | undefined {
  const names = ["profile", "seeds", "ops", "out"] as const;
  const given = parseArgs(args, { string: names });
  const [profile, seeds, ops, out] = names.map((name) => given[name]);
  if (typeof profile !== "string" || typeof out !== "string" || out === "") return undefined;
  const profiles = PROFILES.filter((known) => profile === "all" || profile === known);
  const range = /^(\d+)(?:-(\d+))?$/.exec(String(seeds));
  const count = Number(ops);
  if (profiles.length === 0 || range === null || !Number.isInteger(count) || count < 1) return undefined;
  return { profiles, first: Number(range[1]), last: Number(range[2] ?? range[1]), ops: count, out };
}

function main(args: readonly string[]): number {
  const request = parseRequest(args);
  const say = (to: typeof Deno.stdout | typeof Deno.stderr, text: string) =>
    to.writeSync(new TextEncoder().encode(text));
  if (request === undefined) {
    say(Deno.stderr, USAGE);
    return 2;
  }
  try {
    Deno.mkdirSync(request.out, { recursive: true });
    for (const profile of request.profiles) {
      for (let seed = request.first; seed <= request.last; seed++) {
        const file = `${request.out}/${profile}-${seed}.jsonl`;
        Deno.writeTextFileSync(file, serialiseTrace(record(profile, seed, request.ops)));
        say(Deno.stdout, `${file}\n`);
      }
    }
  } catch (error) {
    say(Deno.stderr, `Cannot write traces: ${error instanceof Error ? error.message : error}\n`);
    return 1;
  }
  return 0;
}

if (import.meta.main) Deno.exit(main(Deno.args));
