/**
 * A walk as lines: the guest's entry and the shadow's of each level, one below the other.
 *
 * @module
 */

import { CLASS_LETTERS } from "./reasons.ts";
import type { Walk, WalkEntry, WalkStep } from "./walk_result.ts";
import { hex } from "../inspect/target.ts";

/**
 * A walk as lines.
 *
 * @param walk The walk.
 * @returns Lines without line ends.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sketch } from "../../tests/unit/inspect_snapshot.ts";
 * import { walkLines } from "./walk_lines.ts";
 * import { walkSteps } from "./walk_steps.ts";
 *
 * const snapshot = sketch({ ggtt: { 0x400: [0x5001, 0x100005001] } });
 * assertEquals(walkLines(walkSteps(snapshot, "ggtt", 0x400abc)), [
 *   "GGTT, address 0x400abc (in the vGPU's aperture part)",
 *   "= GGTT[1024] (bits 31:12)",
 *   "    guest   0x0000000000005001  P  gfn 0x5",
 *   "    shadow  0x0000000100005001  P  mfn 0x100005",
 *   "= the guest maps gfn 0x5, and so does the host",
 * ]);
 * ```
 */
export function walkLines({ space, level, gma, note, slot, root, steps, wanted, verdict }: Walk): string[] {
  const where = space === "ggtt" ? "GGTT" : `space ${space} (${level} levels)`;
  const lines = [`${where}, address ${gma}${note === null ? "" : ` (${note})`}`];
  if (root !== null) lines.push(`${CLASS_LETTERS[root.class]} root ${slot}: ${root.sentence}`);
  for (const step of steps) lines.push(...stepLines(step));
  if (wanted !== null) lines.push(`? the guest's page at gfn ${hex(wanted)} is needed to walk on`);
  lines.push(`${CLASS_LETTERS[verdict.class]} ${verdict.sentence}`);
  return lines;
}

function stepLines({ table, index, bits, guest, shadow, verdict }: WalkStep): string[] {
  const letter = verdict === null ? " " : CLASS_LETTERS[verdict.class];
  const counting = guest !== null && guest.index !== index ? `, of a 64 KiB page: entry ${guest.index}` : "";
  const tables = table === "GGTT" ? "" : tablesText(guest, shadow);
  const said = verdict === null || verdict.class === "same" || table === "GGTT"
    ? []
    : [`    ${verdict.sentence}`];
  return [
    `${letter} ${table}[${index}] (bits ${bits}${counting})${tables}`,
    `    guest   ${entryLine(guest, "gfn")}`,
    `    shadow  ${entryLine(shadow, "mfn")}`,
    ...said,
  ];
}

function tablesText(guest: WalkEntry | null, shadow: WalkEntry | null): string {
  const parts = [];
  if (guest !== null) parts.push(`gfn ${hex(guest.frame)}`);
  if (shadow !== null) parts.push(`mfn ${hex(shadow.frame)}`);
  return ` in ${parts.join(", ")}`;
}

function entryLine(entry: WalkEntry | null, frame: string): string {
  if (entry === null) return "–";
  if (entry.hex === null) return "unreadable";
  const { hex: text, flags, target, note, isPresent } = entry;
  const leads = isPresent ? `${frame} ${hex(target)}${note === null ? "" : ` (${note})`}` : "not present";
  return `${text}  ${flags}  ${leads}`;
}
