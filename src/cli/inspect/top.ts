/**
 * `inspect top`: what happens, each second.
 *
 * @module
 */

import { TooFastError } from "../../observe/mirror.ts";
import type { Snapshot } from "../../observe/snapshot.ts";
import { hex } from "../../inspect/target.ts";
import { EXIT_OK } from "../usage.ts";
import { columns, countText } from "./columns.ts";
import type { InspectCommand, Request } from "./command.ts";
import { type HotTable, hotTables } from "./hot_tables.ts";
import { Interrupt } from "./interrupt.ts";
import { parseSeconds } from "./numbers.ts";
import { type Output, visible } from "./output.ts";
import { isMistake, type Rates, ratesBetween, type Stats } from "./rates.ts";
import { openSource, type Source } from "./source.ts";

/** Tables that are told. */
const MAX_HOT = 8;
/** Address spaces of each that are named. */
const MAX_NAMED = 8;

/** See {@linkcode InspectCommand}. */
export const command: InspectCommand = {
  usage: `Usage: deno task inspect top [--interval S] [--once]
       deno task inspect top --recording FILE [--to N]

What happens, until Ctrl-C: accesses, submissions, changes of page tables, what the guest does wrong,
each as a rate, and the tables of which most entries changed. Redrawn in place on a terminal, else
one block after another. Of a recording: one block, of what happened in all of it.

  --interval S         seconds between two looks (default 1)
  --once               one block, then end
`,
  example: `deno task inspect top --interval 0.5`,
  json:
    `one line for each look: {"seconds" since the last one, "isAnew": counters began anew with another VMM, "perSecond": counters by name (null for a recording, as "seconds"), "stats": their values and sizes of now, "hottest": [{"serial", "kind", "gfn", "entries", "spaces"}…] (null where the guest is too fast to look at)}.`,
  sources: ["socket", "recording"],
  strings: ["interval"],
  booleans: ["once"],
  async run({ source, text, has, json, output }: Request): Promise<number> {
    const interval = parseSeconds(text("interval") ?? "1", "--interval");
    await using looked = await openSource(source);
    using interrupt = new Interrupt();
    using screen = new Screen(output);
    if (source.kind === "recording") {
      const { stats, hottest, ...others } = await look(looked);
      const all = { perSecond: stats, isAnew: false };
      if (json) output.json({ seconds: null, perSecond: null, isAnew: false, stats, hottest });
      else screen.draw(block(looked.name, { stats, hottest, ...others }, all, null, output));
      return EXIT_OK;
    }
    for (let before = await look(looked); await interrupt.pause(interval);) {
      const now = await look(looked);
      const seconds = (now.at - before.at) / 1000;
      const rates = ratesBetween(before.stats, now.stats, seconds);
      if (json) output.json({ seconds, ...rates, stats: now.stats, hottest: now.hottest });
      else screen.draw(block(looked.name, now, rates, seconds, output));
      if (has("once") || output.isClosed) break;
      before = now;
    }
    return EXIT_OK;
  },
};

/** One look at a device. */
interface Look {
  /** When, milliseconds. */
  readonly at: number;
  /** Its counters. */
  readonly stats: Stats;
  /** How its tables follow the guest's. */
  readonly tracking: string;
  /** Tables that changed since the last look; `null`: the guest is too fast. */
  readonly hottest: readonly HotTable[] | null;
}

async function look(source: Source): Promise<Look> {
  const snapshot = await tryTake(source);
  const stats = await source.client!.call("stats");
  return {
    at: performance.now(),
    stats,
    tracking: snapshot?.parts.tracking ?? "untracked",
    hottest: snapshot === null ? null : hotTables(snapshot, source.changed, MAX_HOT),
  };
}

async function tryTake(source: Source): Promise<Snapshot | null> {
  try {
    return await source.take();
  } catch (error) {
    if (error instanceof TooFastError) return null;
    throw error;
  }
}

/** What is told of accesses: a name, and its counters of reads and writes. */
const ACCESSES = [
  ["registers and GTT", "bar0Reads", "bar0Writes"],
  ["GGTT entries", "ggttReads", "ggttWrites"],
  ["aperture", "apertureReads", "apertureWrites"],
  ["configuration", "configReads", "configWrites"],
] as const;

/** What else is told: a title, and counters with their names. */
const LINES: readonly (readonly [string, readonly (readonly [name: string, counter: string])[]])[] = [
  ["submissions", [
    ["rcs0", "submissionsRcs0"],
    ["bcs0", "submissionsBcs0"],
    ["vcs0", "submissionsVcs0"],
    ["vecs0", "submissionsVecs0"],
    ["gone on with", "liteRestores"],
  ]],
  ["engines", [["commands", "csCommands"], ["blits", "csBlits"], ["resets", "engineResets"]]],
  ["page tables", [
    ["built", "tablesBuilt"],
    ["freed", "tablesFreed"],
    ["trapped stores", "trappedStores"],
    ["synced", "synced"],
    ["compared", "compared"],
    ["flushed", "flushed"],
  ]],
  ["address spaces", [
    ["created", "mmsCreated"],
    ["reclaimed", "mmsReclaimed"],
    ["notifications", "g2vNotifications"],
    ["TLB invalidations", "tlbInvalidations"],
  ]],
  ["interrupts", [["MSI", "msis"], ["INTx edges", "intxEdges"], ["device resets", "deviceResets"]]],
];

/**
 * One block: everything by its name, so that zeros are seen to be zeros.
 *
 * @param name What is looked at.
 * @param now The look.
 * @param rates What happened since the one before.
 * @param seconds How long that is; `null`: the rates are no rates, but what happened in all.
 * @param output Where it goes.
 */
function block(name: string, now: Look, rates: Rates, seconds: number | null, output: Output): string[] {
  const { stats, tracking, hottest } = now;
  const rateText = seconds === null ? countText : perSecondText;
  const rate = (counter: string) => rates.perSecond[counter] ?? 0;
  const shown = (counter: string) => {
    const text = rateText(rate(counter));
    return rate(counter) > 0 ? output.paint("strong", text) : output.paint("dim", text);
  };
  const level = (counter: string) => countText(stats[counter] ?? 0);
  const time = seconds === null ? "in all" : `${seconds.toFixed(1)} s`;
  const head = `${visible(name)}, ${visible(tracking)}, ${time}${
    rates.isAnew ? "; another VMM has come: since then" : ""
  }`;
  const accesses = columns(
    [
      [seconds === null ? "in all" : "a second", "reads", "writes"],
      ...ACCESSES.map(([title, ...both]) => [title, ...both.map((each) => rateText(rate(each)))]),
    ],
    ["<", ">", ">"],
    (text, row, column) => {
      if (row === 0) return output.paint("dim", text);
      const counter = ACCESSES[row - 1]![column];
      return column === 0 ? text : output.paint(rate(counter!) > 0 ? "strong" : "dim", text);
    },
  );
  return [
    output.paint("dim", head),
    `${level("mms")} address ${stats["mms"] === 1 ? "space" : "spaces"}, ${level("shadowTables")} tables, ${
      level("outOfSyncPages")
    } out of sync, ${level("protectedFrames")} frames trap stores`,
    ...accesses,
    ...LINES.map(([title, counters]) =>
      `${title.padEnd(18)} ${counters.map(([each, counter]) => `${each} ${shown(counter)}`).join("  ")}`
    ),
    ...mistakeLines(stats, seconds === null ? null : rates, output),
    ...(seconds === null ? [] : hotLines(hottest, output)),
  ];
}

function mistakeLines(stats: Stats, rates: Rates | null, output: Output): string[] {
  const made = Object.keys(stats).filter((name) => isMistake(name) && stats[name]! > 0);
  if (made.length === 0) return [`${"mistakes".padEnd(18)} none`];
  return made.map((name, at) => {
    const rate = rates?.perSecond[name] ?? 0;
    const inAll = `${countText(stats[name]!)} in all`;
    const text = `${visible(name)} ${rates === null ? inAll : `${perSecondText(rate)}, ${inAll}`}`;
    const title = at === 0 ? "mistakes" : "";
    return `${title.padEnd(16)} ${rate > 0 ? output.paint("wrong", `! ${text}`) : `  ${text}`}`;
  });
}

function hotLines(hottest: readonly HotTable[] | null, output: Output): string[] {
  if (hottest === null) {
    return ["changed most       the guest changes its tables faster than they can be looked at"];
  }
  if (hottest.length === 0) return ["changed most       no table"];
  return hottest.map(({ kind, gfn, entries, spaces }, at) => {
    const table = output.paint("name", `${kind.padEnd(4)} gfn ${hex(gfn)}`);
    const named = spaces.slice(0, MAX_NAMED).join(", ");
    const more = spaces.length > MAX_NAMED ? ` and ${spaces.length - MAX_NAMED} more` : "";
    const owners = spaces.length === 0 ? "of no address space" : `space ${named}${more}`;
    const title = at === 0 ? "changed most" : "";
    return `${title.padEnd(18)} ${table}  ${countText(entries)} ${
      entries === 1 ? "entry" : "entries"
    }  ${owners}`;
  });
}

/** A rate, with a digit after the point where it is small. */
function perSecondText(rate: number): string {
  return rate > 0 && rate < 10 ? rate.toFixed(1) : countText(rate);
}

/** Blocks one after another; on a terminal in the place of the one before. */
class Screen implements Disposable {
  readonly #output: Output;
  #drawn = 0;

  constructor(output: Output) {
    this.#output = output;
    if (output.isTerminal) output.write(HIDE_CURSOR);
  }

  draw(lines: readonly string[]): void {
    if (!this.#output.isTerminal) {
      if (this.#drawn > 0) this.#output.line();
      this.#drawn = lines.length;
      return this.#output.lines(lines);
    }
    // A line that would be broken, or a block that would scroll, could not be drawn over.
    const { rows } = this.#output.size;
    const shown = lines.slice(0, rows - 1);
    const up = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : "";
    this.#output.write(
      `${NO_WRAP}${up}${shown.map((line) => `\r${line}${CLEAR_LINE}\n`).join("")}${CLEAR_BELOW}${WRAP}`,
    );
    this.#drawn = shown.length;
  }

  [Symbol.dispose](): void {
    if (this.#output.isTerminal) this.#output.write(SHOW_CURSOR);
  }
}

/** What terminals understand, all of them, for decades. */
const HIDE_CURSOR = "\x1b[?25l";
const SHOW_CURSOR = "\x1b[?25h";
const CLEAR_LINE = "\x1b[K";
const CLEAR_BELOW = "\x1b[J";
const NO_WRAP = "\x1b[?7l";
const WRAP = "\x1b[?7h";
