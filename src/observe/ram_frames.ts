/**
 * Guest RAM by frames, for whoever asks millions of times: each answer begins where the last one was found.
 *
 * @module
 */

import { LARGE_FRAMES, PAGE_SIZE } from "../gtt/entry.ts";
import type { RamView } from "./snapshot.ts";

/** {@linkcode RamFrames.largePage}: a frame of the page is no RAM. */
export const NO_PAGE = -1;
/** {@linkcode RamFrames.largePage}: all frames are RAM, but not one piece on the host that one entry can map. */
export const SPLIT_PAGE = -2;

/** A run of guest frames and its host frames. */
interface Run {
  readonly gfn: number;
  readonly mfn: number;
  readonly frames: number;
}

/**
 * Translates frames both ways.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { NO_PAGE, RamFrames, SPLIT_PAGE } from "./ram_frames.ts";
 *
 * const region = { kind: "local", readonly: false };
 * const ram = new RamFrames([
 *   { gpa: 0x200000, size: 0x200000, mfn: 0x1000, ...region },
 *   { gpa: 0x400000, size: 0x300000, mfn: 0x7001, ...region },
 * ]);
 * assertEquals([ram.mfnOf(0x201), ram.mfnOf(0x1ff), ram.gfnOf(0x7001)], [0x1001, -1, 0x400]);
 * assertEquals([ram.largePage(0x200), ram.largePage(0x400), ram.largePage(0x600)], [0x1000, SPLIT_PAGE, NO_PAGE]);
 * ```
 */
export class RamFrames {
  /** Frames in all. */
  readonly frames: number;
  readonly #byGfn: readonly Run[];
  readonly #byMfn: readonly Run[];
  #lastByGfn: Run = NO_RUN;
  #lastByMfn: Run = NO_RUN;

  /** @param ram Guest RAM. */
  constructor(ram: readonly RamView[]) {
    const runs = ram.map(({ gpa, size, mfn }) => ({ gfn: gpa / PAGE_SIZE, mfn, frames: size / PAGE_SIZE }));
    this.#byGfn = runs.toSorted((a, b) => a.gfn - b.gfn);
    this.#byMfn = runs.toSorted((a, b) => a.mfn - b.mfn);
    this.frames = runs.reduce((sum, { frames }) => sum + frames, 0);
  }

  /**
   * The host frame of a guest frame.
   *
   * @param gfn Guest frame number.
   * @returns Its host frame, or -1 if it is no RAM.
   */
  mfnOf(gfn: number): number {
    const run = this.#runOf(gfn);
    return run === NO_RUN ? -1 : run.mfn + gfn - run.gfn;
  }

  /**
   * The guest frame of a host frame.
   *
   * @param mfn Host frame number.
   * @returns Its guest frame, or -1 if no RAM has it.
   */
  gfnOf(mfn: number): number {
    let run = this.#lastByMfn;
    if (mfn < run.mfn || mfn >= run.mfn + run.frames) {
      run = find(this.#byMfn, "mfn", mfn);
      if (run === NO_RUN) return -1;
      this.#lastByMfn = run;
    }
    return run.gfn + mfn - run.mfn;
  }

  /**
   * What a 2 MiB page is on the host (`engine.md` §17.1).
   *
   * @param gfn Its first guest frame.
   * @returns The first host frame if one entry can map it; else {@linkcode SPLIT_PAGE} or {@linkcode NO_PAGE}.
   */
  largePage(gfn: number): number {
    const mfn = this.mfnOf(gfn);
    let isWhole = mfn % LARGE_FRAMES === 0;
    for (let at = 0; at < LARGE_FRAMES;) {
      const run = this.#runOf(gfn + at);
      if (run === NO_RUN) return NO_PAGE;
      if (run.mfn + gfn + at - run.gfn !== mfn + at) isWhole = false;
      at += run.gfn + run.frames - gfn - at;
    }
    return isWhole ? mfn : SPLIT_PAGE;
  }

  /**
   * Whether guest frames are RAM, all of them.
   *
   * @param gfn The first one.
   * @param frames How many.
   */
  hasAll(gfn: number, frames: number): boolean {
    for (let at = 0; at < frames;) {
      const run = this.#runOf(gfn + at);
      if (run === NO_RUN) return false;
      at += run.gfn + run.frames - gfn - at;
    }
    return true;
  }

  #runOf(gfn: number): Run {
    const last = this.#lastByGfn;
    if (gfn >= last.gfn && gfn < last.gfn + last.frames) return last;
    const run = find(this.#byGfn, "gfn", gfn);
    if (run !== NO_RUN) this.#lastByGfn = run;
    return run;
  }
}

const NO_RUN: Run = { gfn: 0, mfn: 0, frames: 0 };

/** The run that a frame is in, by bisection. */
function find(runs: readonly Run[], side: "gfn" | "mfn", frame: number): Run {
  let [low, high] = [0, runs.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (runs[middle]![side] <= frame) low = middle + 1;
    else high = middle;
  }
  const run = runs[low - 1];
  return run !== undefined && frame < run[side] + run.frames ? run : NO_RUN;
}
