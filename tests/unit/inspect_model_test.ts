/**
 * What the inspector says of the shadows of random guests (`tests/model`), which the model has found right: nothing is
 * wrong in them, and every damage is.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { ENTRIES, PRESENT } from "../../src/gtt/entry.ts";
import { VgpuGtt } from "../../src/gtt/vgpu_gtt.ts";
import { diffShadow } from "../../src/observe/diff.ts";
import { type Reason, REASONS } from "../../src/observe/reasons.ts";
import { Snapshot, type TableView } from "../../src/observe/snapshot.ts";
import { Judge } from "../../src/observe/verdict.ts";
import { walkSteps } from "../../src/observe/walk_steps.ts";
import { type Policy, runHugeGuest } from "../model/huge_run.ts";
import { HugeComparison } from "../model/huge_shadow.ts";
import { Random } from "../model/random.ts";
import { runGuest } from "../model/untracked_run.ts";
import { ShadowComparison } from "../model/untracked_shadow.ts";
import { snapshotOfEngine } from "./inspect_snapshot.ts";

/** One in so many comparisons of a run is judged, too. */
const JUDGED = 8;
/** Entries of each table that are damaged. */
const DAMAGES = 3;
/** Indices that the guests of the model use. */
const INDICES = [0, 1, 15, 16, 255, 511];
/** Reasons of entries that are live and exactly what the guest's say. */
const SOUND: readonly Reason[] = ["translated", "split", "ips dropped", "of 64k", "of 2m"];

/** What the judging of a run came to. */
interface Tally {
  /** Snapshots in which the model had found nothing to complain of. */
  settled: number;
  /** Snapshots that were taken at any time. */
  early: number;
  /** Damages that were done to shadows. */
  damaged: number;
  /** Entries that were pending. */
  pending: number;
  /** Addresses walked that lead to a page. */
  walked: number;
  /** What was said to be wrong though nothing was damaged, and damage that was not found. */
  readonly problems: string[];
}

/** What compares a shadow with the model. */
type Comparison = Pick<HugeComparison, "problems">;

/** Runs a guest of the model, and judges its shadow: any time, and whenever the model has found it right. */
function judged(run: () => void, random: Random): Tally {
  const tally: Tally = { settled: 0, early: 0, damaged: 0, pending: 0, walked: 0, problems: [] };
  let engine: VgpuGtt | null = null;
  let isSettled = false;
  const { syncOosPages } = VgpuGtt.prototype;
  const spaces = [HugeComparison.prototype, ShadowComparison.prototype].map((each) =>
    [each, each.space] as const
  );
  VgpuGtt.prototype.syncOosPages = function () {
    engine = this;
    if (random.below(JUDGED) === 0) judgeEarly(snapshotOfEngine(this), tally);
    const rc = syncOosPages.call(this);
    isSettled = rc === 0;
    return rc;
  };
  for (const [prototype, space] of spaces) {
    prototype.space = function (this: Comparison, ...args: unknown[]) {
      space.apply(this as never, args as never);
      const isRight = isSettled && this.problems.length === 0;
      isSettled = false;
      if (isRight && random.below(JUDGED) === 0) judgeSettled(snapshotOfEngine(engine!), random, tally);
    } as never;
  }
  try {
    run();
  } finally {
    VgpuGtt.prototype.syncOosPages = syncOosPages;
    for (const [prototype, space] of spaces) prototype.space = space as never;
  }
  return tally;
}

/** At any time something may be pending, but nothing is wrong. */
function judgeEarly(snapshot: Snapshot, tally: Tally): void {
  tally.early++;
  const { counts, differences } = diffShadow(snapshot, { ggtt: false });
  tally.pending += counts.pending;
  for (const { class: each, path, sentence } of differences) {
    if (each === "wrong") tally.problems.push(`${path}: ${sentence}`);
  }
}

function judgeSettled(snapshot: Snapshot, random: Random, tally: Tally): void {
  judgeEarly(snapshot, tally);
  tally.settled++;
  for (const space of snapshot.parts.spaces) {
    for (let i = 0; i < 4; i++) {
      const address = [2 ** 39, 2 ** 30, 2 ** 21, 2 ** 12].reduce(
        (sum, bytes) => sum + random.pick(INDICES) * bytes,
        0,
      );
      const walk = walkSteps(snapshot, space, space.level === 4 ? address : address % 2 ** 30);
      if (walk.guest.is === "page") tally.walked++;
      if (walk.verdict.class === "wrong") tally.problems.push(`${walk.gma}: ${walk.verdict.sentence}`);
    }
  }
  // Once the engine has refused a store, a directory entry that leads nowhere may be what that left.
  const judge = new Judge(new Snapshot({ ...snapshot.parts, refusedStores: 0 }));
  for (const table of snapshot.parts.tables.values()) {
    for (let i = 0; i < DAMAGES; i++) damage(judge, table, random, tally);
  }
}

/** Damages one entry for a moment. */
function damage(judge: Judge, table: TableView, random: Random, tally: Tally): void {
  const sound = Array.from({ length: ENTRIES }, (_, index) => index).filter((index) => {
    return (table.shadow[2 * index]! & PRESENT) !== 0 && SOUND.includes(REASONS[judge.code(table, index)]!);
  });
  if (sound.length === 0) return;
  const index = random.pick(sound);
  const lanes = table.shadow.subarray(2 * index, 2 * index + 2);
  const before = lanes.slice();
  const how = random.pick(["flip", "swap", "drop"] as const);
  const next = 2 * ((index + 1) % ENTRIES);
  if (how === "drop") lanes.fill(0);
  else if (how === "flip") lanes[random.below(2)]! ^= 1 << random.below(32);
  else lanes.set(table.shadow.subarray(next, next + 2));
  if (lanes[0] !== before[0] || lanes[1] !== before[1]) {
    tally.damaged++;
    const { class: each, reason } = judge.entry(table, index);
    if (each !== "wrong") {
      tally.problems.push(`${how}, ${table.kind} of ${table.gfn}, ${index}: ${before}: ${reason}`);
    }
  }
  lanes.set(before);
}

for (const policy of ["trapped", "oos", "untracked"] satisfies Policy[]) {
  Deno.test(`Judge finds all damage, and else nothing wrong, with a guest that has large pages, ${policy}`, () => {
    const tally = judged(() => {
      runHugeGuest(policy, 3, 500);
      runHugeGuest(policy, 8, 300);
    }, new Random(1));
    assertEquals(tally.problems.slice(0, 5), []);
    assert(tally.settled > 4 && tally.early > 15 && tally.pending > 0, JSON.stringify(tally));
    assert(tally.damaged > 300 && tally.walked > 2, JSON.stringify(tally));
  });
}

Deno.test("Judge finds all damage, and else nothing wrong, with a guest that nobody watches", () => {
  const tally = judged(() => void runGuest(5, 1500), new Random(2));
  assertEquals(tally.problems.slice(0, 5), []);
  assert(tally.settled > 4 && tally.early > 15 && tally.pending > 0, JSON.stringify(tally));
  assert(tally.damaged > 300 && tally.walked > 2, JSON.stringify(tally));
});
