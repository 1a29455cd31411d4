/**
 * Verdicts as sentences: what the guest says, what the shadow says, and why that may differ.
 *
 * @module
 */

import { frameOf, isLarge, kindName, largeFrameOf, PDE, PRESENT, PTE, type TableKind } from "../gtt/entry.ts";
import { hexEntry } from "./entry_text.ts";
import type { RamFrames } from "./ram_frames.ts";
import type { Reason } from "./reasons.ts";
import { GGTT_CHUNK, type Snapshot, type SpaceView, type TableView } from "./snapshot.ts";
import { hex } from "../inspect/target.ts";

/** What sentences are about. */
interface Subject {
  readonly snapshot: Snapshot;
  readonly ram: RamFrames;
}

/** Why something waits, by reason. */
const WAITS: Readonly<Partial<Record<Reason, string>>> = {
  "queued": "a half store waits for the flush before the next workload",
  "out of sync": "the table is out of sync; it is compared before the next workload",
  "not looked at": "the table was not looked at since the last invalidation; its next use compares it",
  "changed":
    "the guest may have changed it since the table was looked at; the next invalidation has it looked at again",
  "stale":
    "a sync of the table failed at an entry before; a later sync, or a store to this one, brings it up to date",
  "not built": "the shadow is as it was: the engine has refused a store, which may be the one that led there",
  "not read": "the guest's page cannot be read; the shadow is as it was",
  "parent": "the entry that leads to this page is not up to date",
  "unconfirmed": "it was not so a moment ago; the device may not have been told of the store yet",
  "reclaimed": "the shadow was reclaimed; the next pin rebuilds it",
  "failsafe": "the engine gave up on this guest (failsafe); nothing is shadowed any more",
};

/**
 * The sentence of a table's entry.
 *
 * @param subject Snapshot and RAM.
 * @param reason Why it is as it is.
 * @param table The table.
 * @param index Entry, 0..511.
 */
export function entrySentence(subject: Subject, reason: Reason, table: TableView, index: number): string {
  const shadow = shadowText(subject, table, index);
  if (table.isSplit) return splitSentence(subject, reason, table, index, shadow);
  const counting = index - index % table.span;
  const [lo, hi] = [table.guest?.[2 * counting] ?? 0, table.guest?.[2 * counting + 1] ?? 0];
  if (reason === "unreadable") return "the guest's page cannot be read; the shadow maps nothing";
  const guest = guestText(subject, table, index, lo, hi);
  const queued = reason === "left" ? LEFT : WAITS[reason];
  if (queued !== undefined) return `the guest ${guest}, the shadow ${shadow}: ${queued}`;
  switch (reason) {
    case "absent":
      return "neither the guest nor the shadow maps anything";
    case "translated":
      return `the guest ${guest}, and so does the shadow`;
    case "removed":
      return `the guest maps nothing, the shadow ${shadow}: a removed entry is aimed at scratch and keeps its flags`;
    case "no ram":
      return `the guest ${guest}, which is no RAM: the shadow ${shadow}`;
    case "large refused":
      return `the guest ${guest}, which is not offered: the shadow ${shadow}`;
    case "split":
      return `the guest ${guest}, whose host frames are not one piece: the shadow ${shadow}`;
    case "ips dropped":
      return `the guest ${guest} of 64 KiB pages; the shadow has sixteen entries for each, and no IPS`;
    case "of 64k":
      return `entry ${counting} counts for this one, and ${guest}: the shadow ${shadow}`;
    case "flags":
      return `the guest ${guest}, and so does the shadow, with other flags: ${
        hexEntry(lo, hi)
      } of the guest, ${hexOf(table.shadow, index)} in the shadow`;
    case "foreign":
      return `the guest ${guest}, the shadow ${shadow}, which is not the guest's`;
    case "stray":
      return `the guest maps nothing; nor does the shadow, but it has ${hexOf(table.shadow, index)}`;
    default:
      return `the guest ${guest}, the shadow ${shadow}`;
  }
}

/**
 * The sentence of a root.
 *
 * @param subject Snapshot and RAM.
 * @param reason Why it is as it is.
 * @param space The address space.
 * @param slot Root slot, 0..3.
 */
export function rootSentence(
  { snapshot }: Subject,
  reason: Reason,
  { level, roots, shadowRoots }: SpaceView,
  slot: number,
): string {
  const [lo, hi] = [roots[2 * slot]!, roots[2 * slot + 1]!];
  const guest = `leads to the ${level === 4 ? "PML4" : "PDE"} table of gfn ${hex(frameOf(lo, hi))}`;
  const table = snapshot.tableAt(frameOf(shadowRoots[2 * slot]!, shadowRoots[2 * slot + 1]!));
  const shadow = table === undefined ? `is ${hexOf(shadowRoots, slot)}` : `leads to the ${tableText(table)}`;
  if (reason === "absent") return "there is no root";
  if (reason === "translated") return `the guest's root ${guest}, and so does the shadow's`;
  if (reason === "large refused") return "the guest's root is a large page, which is not looked at";
  const waits = WAITS[reason];
  if (waits !== undefined) return `the guest's root ${guest}: ${waits}`;
  if (reason === "missing") return `the guest's root ${guest}, the shadow has none`;
  if (reason === "flags") {
    return `the guest's root is ${hexEntry(lo, hi)}, the shadow's has other flags: ${shadow}`;
  }
  return `the guest's root ${lo === 0 && hi === 0 ? "is empty" : guest}, the shadow's ${shadow}`;
}

/**
 * The sentence of a GGTT entry.
 *
 * @param subject Snapshot and RAM.
 * @param reason Why it is as it is.
 * @param index Number of the entry.
 */
export function ggttSentence({ snapshot, ram }: Subject, reason: Reason, index: number): string {
  const chunk = snapshot.parts.ggtt.get(Math.floor(index / GGTT_CHUNK));
  if (chunk === undefined) return "the entry lies outside the vGPU's windows";
  const at = index % GGTT_CHUNK;
  const [lo, hi] = [chunk.guest[2 * at]!, chunk.guest[2 * at + 1]!];
  const [hostLo, hostHi] = [chunk.host[2 * at]!, chunk.host[2 * at + 1]!];
  const isPresent = (lo & PRESENT) !== 0;
  const guest = isPresent ? `maps gfn ${hex(frameOf(lo, hi))}` : "maps nothing";
  const host = pageText(snapshot, ram, frameOf(hostLo, hostHi));
  switch (reason) {
    case "absent":
      return "neither the guest nor the host maps anything";
    case "translated":
      return `the guest ${guest}, and so does the host`;
    case "removed":
      return `the guest maps nothing: the host's entry leads to ${host}, with the guest's flags`;
    case "no ram":
      return `the guest ${guest}, which is no RAM: the host's entry leads to ${host}`;
    case "reset":
      return `the guest ${guest}; the host's entry leads to ${host} as after a reset, which leaves the guest's view`;
    case "flags":
      return `the guest has ${hexEntry(lo, hi)}, the host other flags: ${hexEntry(hostLo, hostHi)}`;
    case "foreign":
      return `the guest ${guest}, the host's entry leads to ${host}, which is not the guest's`;
    case "failsafe":
      return `the guest ${guest}, the host's entry leads to ${host}: ${WAITS.failsafe}`;
    case "stray":
      return `the guest ${guest}; nor does the host, but it has ${hexEntry(hostLo, hostHi)}`;
    default:
      return `the guest ${guest}, the host's entry ${
        (hostLo & PRESENT) === 0 ? "maps nothing" : `leads to ${host}`
      }`;
  }
}

/**
 * A table by its kind and its frame.
 *
 * @param table The table.
 * @returns E.g. `PTE table of gfn 0x12`, `PTE table of 64 KiB pages of gfn 0x12`, `2 MiB page of gfn 0x200`.
 */
export function tableText({ kind, gfn, span, isSplit }: TableView): string {
  if (isSplit) return `split 2 MiB page of gfn ${hex(gfn)}`;
  return `${kindName(kind)} table${span === 1 ? "" : " of 64 KiB pages"} of gfn ${hex(gfn)}`;
}

/**
 * A host frame that a leaf leads to.
 *
 * @param snapshot Knows scratch pages.
 * @param ram Guest RAM.
 * @param mfn Host frame number.
 * @returns E.g. `gfn 0x5 (mfn 0x100005)`, `scratch (S)`, `mfn 0x7`.
 */
export function pageText(snapshot: Snapshot, ram: RamFrames, mfn: number): string {
  const scratch = snapshot.scratchName(mfn);
  if (scratch !== null) return `scratch (${scratch})`;
  const gfn = ram.gfnOf(mfn);
  return gfn < 0 ? `mfn ${hex(mfn)}` : `gfn ${hex(gfn)} (mfn ${hex(mfn)})`;
}

const LEFT = "the guest's entry was refused, and the one before stays live";

function splitSentence(
  { ram }: Subject,
  reason: Reason,
  table: TableView,
  index: number,
  shadow: string,
): string {
  const gfn = table.gfn + index;
  const page = `page ${index} of the guest's 2 MiB page is gfn ${hex(gfn)} (mfn ${hex(ram.mfnOf(gfn))})`;
  if (reason === "of 2m") return `${page}, and the shadow ${shadow}`;
  if (reason === "dangling") return `${page}; no entry leads to its table`;
  if (reason === "flags") {
    return `${page}; the shadow has other flags than the page: ${hexOf(table.shadow, index)}`;
  }
  const waits = WAITS[reason];
  return `${page}, the shadow ${shadow}${waits === undefined ? "" : `: ${waits}`}`;
}

/** What the guest's entry says. */
function guestText({ ram }: Subject, table: TableView, index: number, lo: number, hi: number): string {
  const { kind, span } = table;
  if ((lo & PRESENT) === 0) return "maps nothing";
  const withHost = (gfn: number) => {
    const mfn = ram.mfnOf(gfn);
    return mfn < 0 ? `gfn ${hex(gfn)}` : `gfn ${hex(gfn)} (mfn ${hex(mfn)})`;
  };
  if (isLarge(kind, lo)) {
    return `maps a page of ${kind === PDE ? "2 MiB" : "1 GiB"} from gfn ${hex(largeFrameOf(lo, hi))} on`;
  }
  const gfn = frameOf(lo, hi);
  if (kind !== PTE) return `leads to the ${kindName((kind - 1) as TableKind)} table of gfn ${hex(gfn)}`;
  return `maps ${withHost(span === 1 ? gfn : gfn - gfn % span + index % span)}`;
}

/** What the shadow's entry says. */
function shadowText({ snapshot, ram }: Subject, { kind, shadow }: TableView, index: number): string {
  const [lo, hi] = [shadow[2 * index]!, shadow[2 * index + 1]!];
  if ((lo & PRESENT) === 0) return "maps nothing";
  if (isLarge(kind, lo)) return `maps a large page from ${pageText(snapshot, ram, largeFrameOf(lo, hi))} on`;
  const mfn = frameOf(lo, hi);
  const child = kind === PTE ? undefined : snapshot.tableAt(mfn);
  return child === undefined
    ? `leads to ${pageText(snapshot, ram, mfn)}`
    : `leads to the ${tableText(child)}`;
}

function hexOf(lanes: Uint32Array, index: number): string {
  return hexEntry(lanes[2 * index]!, lanes[2 * index + 1]!);
}
