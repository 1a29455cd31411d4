/**
 * One address walked twice: through the guest's own tables, from its roots and by its memory alone, and through the shadow, by
 * host frames alone. The two share nothing, so agreement means something.
 *
 * @module
 */

import {
  childKind,
  frameOf,
  FRAMES_64K,
  IPS,
  isLarge,
  kindName,
  largeFrameOf,
  PAGE_SIZE,
  PDE,
  PRESENT,
  PTE,
  type TableKind,
} from "../gtt/entry.ts";
import { OK } from "../gtt/errno.ts";
import { isLargePageRam } from "../gtt/large_page.ts";
import type { PpgttMm } from "../gtt/mm.ts";
import { tableIndex } from "../gtt/translate.ts";
import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
import { hex, hexLanes, targetText } from "./target.ts";

/** One step of a walk: the table, the index into it and the entry there. */
export interface WalkStep {
  /** Kind of the table: "PTE", "PDE", "PDP", "PML4"; or "GGTT". */
  table: string;
  /** Frame of the table: guest frame in a guest walk, host frame in a shadow walk, hexadecimal. */
  frame: string;
  /** Index, 0..511; of the GGTT, the entry's number. */
  index: number;
  /** The entry, hexadecimal; "unreadable" where guest memory could not be read. */
  entry: string;
}

/** Where an address leads. */
export interface Translation {
  /** Guest physical address by the guest's own tables; `null` if it maps nothing. */
  guest: number | null;
  /** What the shadow leads to: a host frame in hexadecimal or a scratch page's name; `null` if it maps nothing. */
  shadow: string | null;
  /** Whether the shadow leads where the guest's tables say, or, for a frame that is no guest RAM, to scratch. */
  agrees: boolean;
  /** The guest walk. */
  guestSteps: WalkStep[];
  /** The shadow walk. */
  shadowSteps: WalkStep[];
}

/**
 * Walks an address of a PPGTT; `lo` and `hi` are its lanes. Where nothing traps, the shadow is walked as an engine would:
 * tables that nobody has used since the last invalidation are looked at first.
 */
export function walkPpgtt(gtt: VgpuGtt, mm: PpgttMm, lo: number, hi: number): Translation {
  const guestSteps: WalkStep[] = [];
  const shadowSteps: WalkStep[] = [];
  const entry = new Uint32Array(2);
  const readGuest = (gfn: number, index: number) => {
    return gtt.host.readEntry(gfn * PAGE_SIZE + 8 * index, entry) === OK ? entry : null;
  };
  const readShadow = (mfn: number, index: number) => {
    const table = gtt.parts.tables.byMfn(mfn);
    if (table !== undefined) gtt.parts.trees?.look(table);
    return table === undefined ? null : table.lanes.subarray(2 * index, 2 * index + 2);
  };
  const { hugePages } = gtt.gvt;
  const gfn = descend(mm, mm.roots, [lo, hi], hugePages, readGuest, guestSteps);
  // A 2 MiB page is all RAM or maps nothing.
  const isWhole = guestSteps.at(-1)?.table !== "PDE" || gfn === null ||
    isLargePageRam(gtt.host, gfn - tableIndex(PTE, lo, hi));
  const mfn = gtt.look(() => descend(mm, mm.shadowRoots, [lo, hi], hugePages, readShadow, shadowSteps));
  return verdict(gtt, lo % PAGE_SIZE, gfn, mfn, guestSteps, shadowSteps, isWhole);
}

/** Walks an address of the GGTT: guest's view and host's table. `host` reads an entry of the host's GGTT. */
export function walkGgtt(gtt: VgpuGtt, gma: number, host: Uint32Array): Translation {
  const index = Math.floor(gma / PAGE_SIZE);
  const isValid = gtt.gm.isValid(gma);
  const walk = (lanes: Uint32Array): [frame: number | null, steps: WalkStep[]] => {
    if (!isValid) return [null, []];
    const lo = lanes[2 * index]!;
    const hi = lanes[2 * index + 1]!;
    const step = { table: "GGTT", frame: hex(0), index, entry: hexLanes(lo, hi) };
    return [(lo & PRESENT) === 0 ? null : frameOf(lo, hi), [step]];
  };
  const [gfn, guestSteps] = walk(gtt.parts.ggtt.entries);
  const [mfn, shadowSteps] = walk(host);
  return verdict(gtt, gma % PAGE_SIZE, gfn, mfn, guestSteps, shadowSteps);
}

/** Goes down from a root. @returns The frame of the leaf, or `null` if there is none. */
function descend(
  mm: PpgttMm,
  roots: Uint32Array,
  [lo, hi]: [number, number],
  hugePages: boolean,
  read: (frame: number, index: number) => Uint32Array | null,
  steps: WalkStep[],
): number | null {
  const slot = mm.level === 4 ? 0 : lo >>> 30;
  let span = 1;
  if (roots[2 * slot] === 0 && roots[2 * slot + 1] === 0) return null;
  let frame = frameOf(roots[2 * slot]!, roots[2 * slot + 1]!);
  for (let kind: TableKind = mm.rootKind;; kind = childKind(kind)) {
    const page = tableIndex(kind, lo, hi);
    // Of a 64 KiB page only the first entry counts.
    const index = page - page % (kind === PTE ? span : 1);
    const entry = read(frame, index);
    const text = entry === null ? "unreadable" : hexLanes(entry[0]!, entry[1]!);
    steps.push({ table: kindName(kind), frame: hex(frame), index, entry: text });
    if (entry === null || (entry[0]! & PRESENT) === 0) return null;
    if (isLarge(kind, entry[0]!)) {
      if (!hugePages || kind !== PDE) return null;
      return largeFrameOf(entry[0]!, entry[1]!) + tableIndex(PTE, lo, hi);
    }
    frame = frameOf(entry[0]!, entry[1]!);
    if (kind === PTE) return frame - frame % span + page % span;
    span = hugePages && kind === PDE && (entry[0]! & IPS) !== 0 ? FRAMES_64K : 1;
  }
}

function verdict(
  gtt: VgpuGtt,
  offset: number,
  gfn: number | null,
  mfn: number | null,
  guestSteps: WalkStep[],
  shadowSteps: WalkStep[],
  isWhole = true,
): Translation {
  const scratch = gtt.gvt.globalScratch;
  const isScratch = mfn === scratch || gtt.parts.scratch.has(mfn ?? -1);
  const wanted = gfn === null || !isWhole || !gtt.host.isValidGfn(gfn) ? null : gtt.host.gfnToMfn(gfn);
  return {
    guest: gfn === null ? null : gfn * PAGE_SIZE + offset,
    shadow: mfn === null ? null : targetText(gtt, mfn),
    agrees: wanted === null || wanted < 0 ? mfn === null || isScratch : mfn === wanted,
    guestSteps,
    shadowSteps,
  };
}
