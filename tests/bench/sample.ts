/**
 * What a suite of measurements says: samples, one JSON line each, of what we need and of what that is compared with.
 *
 * A suite is a program of its own. `main.ts` starts it several times and takes medians, so that one run says what the
 * machine did then and nothing more; what is compared with one another is measured in the same run.
 *
 * @module
 */

import { print } from "../../src/cli/terminal.ts";

/** One figure of one run. */
export interface Sample {
  /** What was done, and the name of the row. */
  readonly name: string;
  /** Unit of both figures. */
  readonly unit: "ns" | "µs" | "ms" | "bytes" | "KiB" | "MiB" | "MB/s" | "/s" | "%";
  /** What we need, or reach. */
  readonly ours: number;
  /** What it is compared with; `null` when the figure is only reported. */
  readonly reference: number | null;
  /** What the reference is. */
  readonly against: "original" | "C echo" | "memcpy" | "unrecorded" | "limit" | "floor" | "-";
  /** The ratio to reach, 1 or another number; a ratio of less is better. */
  readonly target: number | null;
  /** Whether more is better, as with a rate: the ratio is turned over then. */
  readonly isRate?: boolean;
}

/**
 * The ratio of a sample: less is better, whatever the figure.
 *
 * @param sample One figure.
 * @returns How many times the reference we need; `null` without one.
 */
export function ratioOf({ ours, reference, isRate = false }: Sample): number | null {
  if (reference === null) return null;
  return isRate ? reference / ours : ours / reference;
}

/** Writes a sample for `main.ts` to read. */
export function report(sample: Sample): void {
  print(JSON.stringify(sample));
}

/** A figure against a limit that we set ourselves: to be kept, not to be beaten. */
export function reportLimit(
  name: string,
  unit: Sample["unit"],
  ours: number,
  limit: number,
  isRate = false,
): void {
  report({ name, unit, ours, reference: limit, against: "limit", target: 1, isRate });
}

/** A figure that nothing is compared with. */
export function reportOnly(name: string, unit: Sample["unit"], ours: number): void {
  report({ name, unit, ours, reference: null, against: "-", target: null });
}

/**
 * Times some work that does many operations, after it has been done often enough to be compiled.
 *
 * @param operations How many operations one call does.
 * @param work The work.
 * @param calls How often it is timed; the fastest third counts, because others use the machine, too.
 * @returns Nanoseconds an operation.
 */
export function nanoseconds(operations: number, work: () => void, calls = 30): number {
  const warmUntil = performance.now() + WARM_UP;
  do work(); while (performance.now() < warmUntil);
  const times: number[] = [];
  for (let call = 0; call < calls; call++) {
    const start = performance.now();
    work();
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  return times[Math.floor(calls / 6)]! * 1e6 / operations;
}

/** Milliseconds until code that runs all the time has been compiled for good. */
const WARM_UP = 200;

/** The middle one of some numbers. */
export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
