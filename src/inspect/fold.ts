/**
 * A shadow tree as text, folded: one line for each run of entries that are alike.
 *
 * @module
 */

import { LARGE_FRAMES } from "../gtt/entry.ts";
import { hex } from "./target.ts";
import {
  ENTRY_SHIFT,
  isTable,
  type ShadowTree,
  tableFrame,
  type TreeChild,
  type TreeEntry,
  type TreeTable,
} from "./tree.ts";

/** Frames that an entry of a table spans: targets that follow one another are that far apart. */
const FRAMES: Readonly<Record<string, number>> = { PTE: 1, PDE: LARGE_FRAMES };

/** A run of alike entries. */
interface Run {
  readonly first: TreeEntry;
  last: TreeEntry;
  /** How the target moves from entry to entry: the same one, or what follows. */
  step: 0 | 1;
}

/**
 * Folds a tree.
 *
 * @param tree The tree, as `tree` answers it.
 * @returns Lines without line ends.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { foldTree } from "./fold.ts";
 *
 * const pte = { t: "PTE", g: 0x13, r: 1, e: [[4, "0x3", "0x100064"], [5, "0x3", "0x100065"]] as never };
 * assertEquals(foldTree({ level: 3, shadowed: true, roots: [[0, "0x0", { t: "PDE", g: 0x12, r: 1, e: [[0, "0x3", pte]] }]] }), [
 *   "root 0: PDE table of gfn 0x12",
 *   "  0x0–0x1fffff PDE[0] flags 0x3: PTE table of gfn 0x13",
 *   "    0x4000–0x5fff PTE[4–5] flags 0x3: mfn 0x100064 and following",
 * ]);
 * ```
 */
export function foldTree(tree: ShadowTree): string[] {
  if (!tree.shadowed) return ["not shadowed: the next pin rebuilds it"];
  const lines: string[] = [];
  for (const [slot, , child] of tree.roots) {
    lines.push(`root ${slot}: ${childText(child, 0)}`);
    if (isTable(child)) foldTable(child, BigInt(slot) << 30n, "  ", lines);
  }
  return lines;
}

function foldTable(table: TreeTable, base: bigint, indent: string, lines: string[]): void {
  const shift = BigInt(ENTRY_SHIFT[table.t]!);
  for (const { first, last, step } of runs(table.e, FRAMES[table.t] ?? 1)) {
    const from = base + (BigInt(first[0]) << shift);
    const to = base + (BigInt(last[0] + 1) << shift) - 1n;
    const range = first[0] === last[0] ? `${first[0]}` : `${first[0]}–${last[0]}`;
    const target = childText(first[2], step);
    lines.push(
      `${indent}0x${from.toString(16)}–0x${to.toString(16)} ${table.t}[${range}] flags ${
        first[1]
      }: ${target}`,
    );
    if (isTable(first[2])) foldTable(first[2], from, `${indent}  `, lines);
  }
}

/** Entries as runs: neighbours with the same flags whose targets are the same, or `frames` apart. */
function runs(entries: readonly TreeEntry[], frames: number): Run[] {
  const found: Run[] = [];
  for (const entry of entries) {
    const run = found.at(-1);
    if (run !== undefined && continues(run, entry, frames)) run.last = entry;
    else found.push({ first: entry, last: entry, step: 0 });
  }
  return found;
}

/** Whether an entry continues a run; decides the step of a run of one. */
function continues(run: Run, [index, flags, child]: TreeEntry, frames: number): boolean {
  if (index !== run.last[0] + 1 || flags !== run.last[1]) return false;
  const step = distance(run.last[2], child, frames);
  if (step === null || (run.first !== run.last && step !== run.step)) return false;
  run.step = step;
  return true;
}

/** How far apart two targets are: 0 the same, 1 the next one, `null` anything else. */
function distance(before: TreeChild, after: TreeChild, frames: number): 0 | 1 | null {
  if (typeof before === "string" && typeof after === "string") {
    if (before === after) return 0;
    return before.startsWith("0x") && Number(after) === Number(before) + frames ? 1 : null;
  }
  if (typeof before === "string" || typeof after === "string") return null;
  return tableFrame(before) === tableFrame(after) && before.p === after.p ? 0 : null;
}

function childText(child: TreeChild, step: 0 | 1): string {
  if (typeof child === "string") {
    if (!child.startsWith("0x")) return `scratch (${child})`;
    return `mfn ${child}${step === 1 ? " and following" : ""}`;
  }
  if (child.p === "2M" && "g" in child) return `2 MiB page of gfn ${hex(child.g)}, split`;
  const pages = child.p === "64K" ? " of 64 KiB pages" : "";
  if ("seen" in child) return `table${pages} of gfn ${hex(child.seen)}, see above`;
  return `${child.t} table${pages} of gfn ${hex(child.g)}${child.r > 1 ? `, ${child.r} references` : ""}`;
}
