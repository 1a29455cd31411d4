/**
 * Names for what an entry points to, and hexadecimal notation.
 *
 * @module
 */

import { FLAGS_LO, FRAME_HI, frameOf, kindName, LARGE_FLAGS_LO, TABLE_KINDS } from "../gtt/entry.ts";
import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";

/** A number as hexadecimal text, e.g. `0x1f`. */
export function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** A 64-bit value of two lanes as hexadecimal text. */
export function hexLanes(lo: number, hi: number): string {
  return hi === 0 ? hex(lo >>> 0) : `${hex(hi >>> 0)}${(lo >>> 0).toString(16).padStart(8, "0")}`;
}

/** The bits of an entry that are not frame, as hexadecimal text. */
export function flagsText(lo: number, hi: number): string {
  return hexLanes(lo & FLAGS_LO, hi & ~FRAME_HI);
}

/** The bits of a 2 MiB page's entry that are not frame, as hexadecimal text. */
export function largeFlagsText(lo: number, hi: number): string {
  return hexLanes(lo & LARGE_FLAGS_LO, hi & ~FRAME_HI);
}

/**
 * What a host frame is: `"S"` the device's scratch page, `"sPTE"` to `"sPML4"` the vGPU's scratch page for that kind of table,
 * else the frame in hexadecimal.
 */
export function targetText(gtt: VgpuGtt, mfn: number): string {
  if (mfn === gtt.gvt.globalScratch) return "S";
  const kind = TABLE_KINDS.find((each) => gtt.parts.scratch.mfn[each] === mfn);
  return kind === undefined ? hex(mfn) : `s${kindName(kind)}`;
}

/** An entry as target and flags. */
export function entryText(gtt: VgpuGtt, lo: number, hi: number): [target: string, flags: string] {
  return [targetText(gtt, frameOf(lo, hi)), flagsText(lo, hi)];
}
