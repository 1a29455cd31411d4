/**
 * Which counters the page plots, and what of them is kept.
 *
 * @module
 */

import type { Sample } from "./messages.ts";

/** A line of a plot: the sum of counters. */
export interface PlotLine {
  /** What it is called. */
  readonly label: string;
  /** Names of counters in `stats`. */
  readonly counters: readonly string[];
}

/** A plot. */
export interface Plot {
  /** What it shows. */
  readonly title: string;
  /** Whether what is counted is shown by the second; else what there is. */
  readonly isRate: boolean;
  /** Its lines. */
  readonly lines: readonly PlotLine[];
}

/** The plots of the page, in order. */
export const PLOTS: readonly Plot[] = [
  {
    title: "accesses",
    isRate: true,
    lines: [
      { label: "registers", counters: ["bar0Reads", "bar0Writes"] },
      { label: "GGTT", counters: ["ggttReads", "ggttWrites"] },
      { label: "aperture", counters: ["apertureReads", "apertureWrites"] },
      { label: "config", counters: ["configReads", "configWrites"] },
    ],
  },
  {
    title: "submissions",
    isRate: true,
    lines: [
      { label: "rcs0", counters: ["submissionsRcs0"] },
      { label: "bcs0", counters: ["submissionsBcs0"] },
      { label: "vcs0", counters: ["submissionsVcs0"] },
      { label: "vecs0", counters: ["submissionsVecs0"] },
    ],
  },
  {
    title: "syncs",
    isRate: true,
    lines: [
      { label: "trapped stores", counters: ["trappedStores"] },
      { label: "compared", counters: ["compared"] },
      { label: "synced", counters: ["synced"] },
      { label: "flushed", counters: ["flushed"] },
    ],
  },
  {
    title: "tables",
    isRate: false,
    lines: [
      { label: "shadowed", counters: ["shadowTables"] },
      { label: "out of sync", counters: ["outOfSyncPages"] },
      { label: "tracked", counters: ["enabledTracks"] },
      { label: "spaces", counters: ["mms"] },
    ],
  },
  {
    title: "faults",
    isRate: true,
    lines: [
      { label: "engine", counters: ["csFaults", "csBadReads", "csBadWrites"] },
      { label: "refused", counters: ["csRefusedSubmissions", "badG2vNotifications"] },
      { label: "bad entry", counters: ["badLeaves", "badLargePages", "badTables", "badTrappedStores"] },
      { label: "bad access", counters: ["badAccesses", "badRegisterWrites", "badApertureAccesses"] },
    ],
  },
];

/** Milliseconds between samples, at least. */
export const SAMPLE_PAUSE = 1000;
/** Samples that are kept: five minutes of them. */
export const SAMPLES_KEPT = 300;

/**
 * What the lines of all plots are at a moment.
 *
 * @param milliseconds The moment.
 * @param stats What the device answers to `stats`.
 * @returns A value for each line of each plot, in order.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { PLOTS, sampleOf } from "./counters.ts";
 *
 * const sample = sampleOf(1000, { bar0Reads: 3, bar0Writes: 4, mms: 2 });
 * assertEquals(sample.length, 1 + PLOTS.flatMap(({ lines }) => lines).length);
 * assertEquals(sample.slice(0, 3), [1000, 7, 0]);
 * ```
 */
export function sampleOf(milliseconds: number, stats: Readonly<Record<string, unknown>>): Sample {
  const value = (name: string) => typeof stats[name] === "number" ? stats[name] : 0;
  const lines = PLOTS.flatMap((plot) => plot.lines);
  return [milliseconds, ...lines.map(({ counters }) => counters.reduce((sum, name) => sum + value(name), 0))];
}
