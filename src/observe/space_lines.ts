/**
 * The tree of an address space as lines. Each entry's line has: its verdict as a letter, graphics addresses, table and
 * indices, flags, guest frames → host frames, and what else is to be said.
 *
 * @module
 */

import { pageCountsText } from "./page_counts.ts";
import { CLASS_LETTERS, reasonWords } from "./reasons.ts";
import type { SpaceTree, TreeRoot, TreeRun, TreeTable } from "./space_tree.ts";
import type { FrameRun } from "./table_runs.ts";
import { hex } from "../inspect/target.ts";

/** States that go without saying. */
const QUIET_STATES: readonly string[] = ["split"];

/**
 * A tree as lines.
 *
 * @param tree The tree.
 * @returns Lines without line ends.
 */
export function spaceLines(tree: SpaceTree): string[] {
  const { id, level, refs, pins, isShadowed, isFolded, roots } = tree;
  const shadow = isShadowed ? "" : ", no shadow";
  const folded = isFolded ? " (folded to fit: a range or more lines show more)" : "";
  const lines = [
    `space ${id}: ${level} levels, ${counted(refs, "reference")}, ${counted(pins, "pin")}${shadow}${folded}`,
  ];
  for (const root of roots) rootLines(root, lines);
  if (roots.length === 0) lines.push("  no roots: it maps nothing");
  return lines;
}

function rootLines(root: TreeRoot, lines: string[]): void {
  const { slot, table, guest, reason } = root;
  const letter = CLASS_LETTERS[root.class];
  const gfn = `gfn ${hex(Number(BigInt(guest) >> 12n & 0x3ffffffffn))}`;
  if (table === null) {
    lines.push(`${letter} root ${slot} · ${gfn} → nothing · ${reasonWords(reason)}`);
    return;
  }
  const said = [reasonWords(reason), ...tableWords(table)].filter((text) => text !== "").join(", ");
  lines.push(`${letter} root ${slot} · ${gfn} → ${shadowTable(table)} · ${said}`);
  tableLines(table, "  ", lines);
}

function tableLines(table: TreeTable, indent: string, lines: string[]): void {
  for (const run of table.runs) {
    lines.push(runLine(table, run, indent));
    if (run.table !== null) tableLines(run.table, `${indent}  `, lines);
  }
  if (table.more > 0) lines.push(`  ${indent}… and ${counted(table.more, "more run")} of entries`);
}

function runLine(table: TreeTable, run: TreeRun, indent: string): string {
  const index = run.first === run.last ? `${run.first}` : `${run.first}–${run.last}`;
  const parts = [
    `${hex(run.from)}–${hex(run.to)}`,
    `${table.kind}[${index}]`,
    flagsText(run),
    run.raw === null ? targetsText(run) : run.raw.join(" → "),
  ];
  const said = saidText(run);
  if (said !== "") parts.push(said);
  return `${CLASS_LETTERS[run.class]} ${indent}${parts.join(" · ")}`;
}

function flagsText({ guestFlags, shadowFlags, guest, shadow }: TreeRun): string {
  if (guestFlags === null || guestFlags === shadowFlags) return shadowFlags;
  if (shadow === null && guest !== null) return guestFlags;
  return `${guestFlags} → ${shadowFlags}`;
}

function targetsText(run: TreeRun): string {
  const guest = run.guest === null ? "absent" : `gfn ${framesText(run.guest, run)}`;
  if (run.shadow === null) return `${guest} → nothing`;
  const { table } = run;
  if (table === null) return `${guest} → ${shadowText(run.shadow, run)}`;
  if (run.tables > 1) return `${guest} → ${counted(run.tables, `${table.kind} table`)}`;
  return `${guest} → ${shadowTable(table)}`;
}

/** Frames of a run: `0x5`, `0x5–0x9`, or `0x5…0x99` where they do not follow one another. */
function framesText({ first, last, step }: FrameRun, { first: from, last: to }: TreeRun): string {
  if (from === to || step === 0) return hex(first);
  return step === null ? `${hex(first)}…${hex(last)}` : `${hex(first)}–${hex(last)}`;
}

function shadowText(frames: FrameRun, run: TreeRun): string {
  if (run.scratch !== null) return `scratch ${run.scratch}`;
  return `mfn ${framesText(frames, run)}`;
}

function shadowTable({ kind, form, mfn }: TreeTable): string {
  if (form === "2M") return `split page at mfn ${hex(mfn)}`;
  return `${kind} table${form === "64K" ? " of 64 KiB pages" : ""} at mfn ${hex(mfn)}`;
}

function saidText(run: TreeRun): string {
  const words = [reasonWords(run.reason)];
  if (run.pieces > 1) words.push(`${run.pieces} pieces`);
  // Of a leaf table, the most common sight: whatever is not mapped leads to the guest's own scratch page.
  if (run.table === null && run.last > run.first && run.guest?.step === 0) words.push("one page");
  if (run.table !== null && run.tables === 1) words.push(...tableWords(run.table));
  if (run.pages !== null) words.push(pageCountsText(run.pages));
  return words.filter((text) => text !== "").join(", ");
}

function tableWords({ state, refs, is }: TreeTable): string[] {
  const words = QUIET_STATES.includes(state.text) ? [] : [state.text];
  if (refs > 1) words.push(`${refs} references`);
  if (is === "above") words.push("see above");
  return words;
}

/** A number of things. */
export function counted(count: number, thing: string): string {
  return `${count} ${thing}${count === 1 ? "" : "s"}`;
}
