/**
 * One moment of what is watched.
 *
 * @module
 */

import type { Snapshot } from "../observe/snapshot.ts";
import type { AddressStrips } from "../observe/strip.ts";
import type { Judge } from "../observe/verdict.ts";

/** One moment, with what all pages want of it. */
export interface Moment {
  /** The page tables. */
  readonly snapshot: Snapshot;
  /** What is to be said of them. */
  readonly judge: Judge;
  /** Their strips. */
  readonly strips: AddressStrips;
  /** Reads guest RAM of now; `null` if it cannot be read. */
  readonly readPage: (gfn: number) => Promise<Uint32Array | null>;
}
