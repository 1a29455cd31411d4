/**
 * How fast a device's counters go up.
 *
 * @module
 */

/** What `stats` answers. */
export type Stats = Readonly<Record<string, number>>;

/** Names in `stats` that are no counters: they tell how much there is now. */
const LEVELS: ReadonlySet<string> = new Set([
  "mms",
  "shadowTables",
  "enabledTracks",
  "protectedFrames",
  "outOfSyncPages",
  "freeOosPages",
  "ramRegions",
  "vmmAttached",
]);

/** What happened between two looks. */
export interface Rates {
  /** Counters: how often a second. */
  readonly perSecond: Stats;
  /** Whether counting began anew: another VMM came, and its device's counters were 0. */
  readonly isAnew: boolean;
}

/**
 * What happened between two looks at a device. Counters that went down began anew, all of them: what they say happened since.
 *
 * @param before The first look.
 * @param now The second look.
 * @param seconds The time between them.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { ratesBetween } from "./rates.ts";
 *
 * const { perSecond } = ratesBetween({ bar0Reads: 10, mms: 1 }, { bar0Reads: 30, mms: 2 }, 2);
 * assertEquals(perSecond, { bar0Reads: 10 });
 * // A new VMM, whose guest has read more than the one before has by then:
 * const anew = ratesBetween({ bar0Reads: 10, msis: 5 }, { bar0Reads: 30, msis: 1 }, 2);
 * assertEquals(anew, { perSecond: { bar0Reads: 15, msis: 0.5 }, isAnew: true });
 * ```
 */
export function ratesBetween(before: Stats, now: Stats, seconds: number): Rates {
  const names = Object.keys(now).filter((name) => !LEVELS.has(name));
  const isAnew = names.some((name) => now[name]! < (before[name] ?? 0));
  const perSecond = Object.fromEntries(
    names.map((name) => [name, (now[name]! - (isAnew ? 0 : before[name] ?? 0)) / seconds]),
  );
  return { perSecond, isAnew };
}

/** Whether a counter of this name counts what a guest or VMM did wrong, or what this device does not do. */
export function isMistake(name: string): boolean {
  return /^bad|^cs(Bad|Refused|Faults|Privilege|Unknown|Skipped)|^fail|^verifyMismatches$|^shadowsLost$/.test(
    name,
  );
}
