/**
 * One address walked through the guest's tables and through the shadow's, side by side. The two walks share nothing: the
 * guest's goes by guest frames and guest pages, the shadow's by host frames and shadow tables.
 *
 * @module
 */

import {
  childKind,
  ENTRIES,
  frameOf,
  FRAMES_64K,
  IPS,
  isLarge,
  kindName,
  largeFrameOf,
  PAGE_SIZE,
  PDE,
  PML4,
  PRESENT,
  PTE,
  type TableKind,
} from "../gtt/entry.ts";
import { type EntryKind, entryKind, entryText } from "./entry_text.ts";
import { NO_PAGE } from "./ram_frames.ts";
import { GGTT_CHUNK, type Snapshot, type SpaceView, type TableView } from "./snapshot.ts";
import { ENTRY_BYTES } from "./table_graph.ts";
import { Judge, type JudgeOptions } from "./verdict.ts";
import { endSentence } from "./walk_end.ts";
import type { SideWalk, Walk, WalkEnd, WalkEntry, WalkStep, WalkStop } from "./walk_result.ts";

/** What a walk may need besides the snapshot. */
export interface WalkOptions extends JudgeOptions {
  /**
   * Pages of the guest's that no shadow table stands for: their 1024 lanes; `null` for one that cannot be read; `undefined`
   * for one that is not known, then {@linkcode Walk.wanted} asks for it.
   */
  readonly guestPage?: ((gfn: number) => Uint32Array | null | undefined) | undefined;
}

/** Bits below the index into each kind of table, by kind. */
const SHIFTS = [0, 12, 21, 30, 39];
const [BITS_48, BITS_47] = [2n ** 48n, 2n ** 47n];

/**
 * Walks an address.
 *
 * @param snapshot The moment.
 * @param space One of its address spaces, or `"ggtt"`.
 * @param gma Graphics address.
 * @param options Pages that the snapshot does not have.
 * @returns Both walks, and what is to be said of them.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sketch } from "../../tests/unit/inspect_snapshot.ts";
 * import { walkSteps } from "./walk_steps.ts";
 *
 * const snapshot = sketch({
 *   tables: [
 *     { kind: 2, gfn: 0x10, mfn: 0x9000, guest: { 0: 0x11003 }, shadow: { 0: 0x9001003 } },
 *     { kind: 1, gfn: 0x11, mfn: 0x9001, guest: { 4: 0x5003 }, shadow: { 4: 0xff01003 } },
 *   ],
 *   spaces: [{ level: 3, roots: [0x10000], shadowRoots: [0x9000000] }],
 * });
 * const walk = walkSteps(snapshot, snapshot.parts.spaces[0]!, 0x4abc);
 * assertEquals(walk.steps.map(({ table, index, bits }) => [table, index, bits]), [["PDE", 0, "29:21"], ["PTE", 4, "20:12"]]);
 * assertEquals([walk.guest.address, walk.shadow.scratch, walk.verdict.class], [0x5abc, "sPTE", "wrong"]);
 * ```
 */
export function walkSteps(
  snapshot: Snapshot,
  space: SpaceView | "ggtt",
  gma: number | bigint,
  options: WalkOptions = {},
): Walk {
  const judge = new Judge(snapshot, options);
  const asked = BigInt.asUintN(64, BigInt(gma));
  return space === "ggtt" ? walkGgtt(judge, asked) : walkPpgtt(judge, space, asked, options);
}

function walkPpgtt(judge: Judge, space: SpaceView, asked: bigint, options: WalkOptions): Walk {
  const { level } = space;
  const { address, note, isOutside } = addressOf(level, asked);
  const slot = level === 4 ? 0 : Math.floor(address / 2 ** 30);
  const common = { space: space.id, level, gma: `0x${asked.toString(16)}`, address, note, slot };
  if (isOutside) {
    const outside = endOf("outside", null, 0);
    const sentence = `${note}: neither the guest nor the shadow maps anything there`;
    const verdict = { class: "same", reason: "outside", sentence } as const;
    return {
      ...common,
      slot: 0,
      root: null,
      steps: [],
      guest: outside,
      shadow: outside,
      wanted: null,
      verdict,
    };
  }
  const guest = guestWalk(judge, space, slot, address, options);
  const shadow = shadowWalk(judge, space, slot, address);
  const steps: WalkStep[] = [];
  for (let kind: number = level === 4 ? PML4 : PDE; kind >= PTE; kind--) {
    const each = kind as TableKind;
    const [one, other] = [guest.steps.get(each) ?? null, shadow.steps.get(each) ?? null];
    if (one === null && other === null) continue;
    const table = shadow.tables.get(each);
    const isPair = table !== undefined && other !== null &&
      (one === null || table.gfn === one.frame || table.isSplit);
    const index = indexOf(each, address);
    const shift = SHIFTS[each]!;
    const verdict = isPair ? judge.entry(table, index) : null;
    steps.push({
      table: entryKind(each),
      index,
      bits: `${shift + 8}:${shift}`,
      guest: one,
      shadow: other,
      verdict,
    });
  }
  const root = judge.root(space, slot);
  const verdict = endSentence(judge, { root, steps, guest, shadow });
  const wanted = guest.wanted;
  return { ...common, root, steps, guest: guest.end, shadow: shadow.end, wanted, verdict };
}

/** The address that tables are asked for, and what is odd about it. */
function addressOf(
  level: 3 | 4,
  asked: bigint,
): { address: number; note: string | null; isOutside: boolean } {
  const text = `0x${asked.toString(16)}`;
  if (level === 3) {
    const isOutside = asked >= 2n ** 32n;
    const note = isOutside ? `${text} is outside: 3 levels have 32 bits` : null;
    return { address: isOutside ? 0 : Number(asked), note, isOutside };
  }
  if (asked < BITS_48) return { address: Number(asked), note: null, isOutside: false };
  const low = asked % BITS_48;
  if (asked === BigInt.asUintN(64, BigInt.asIntN(48, low)) && low >= BITS_47) {
    return { address: Number(low), note: `canonical form of 0x${low.toString(16)}`, isOutside: false };
  }
  return {
    address: 0,
    note: `${text} is outside: 4 levels have 48 bits, and it is not canonical`,
    isOutside: true,
  };
}

function indexOf(kind: TableKind, address: number): number {
  return Math.floor(address / ENTRY_BYTES[kind]!) % ENTRIES;
}

function endOf(is: WalkStop, frame: number | null, address: number, scratch: string | null = null): WalkEnd {
  return { is, frame, address: frame === null ? null : frame * PAGE_SIZE + address % PAGE_SIZE, scratch };
}

function walkEntry(
  kind: EntryKind,
  frame: number,
  index: number,
  lo: number,
  hi: number,
  side: "guest" | "shadow",
  note: string | null,
): WalkEntry {
  const { hex, isPresent, isLarge, flags, words, frame: target } = entryText(kind, lo, hi, side);
  return { frame, index, hex, isPresent, isLarge, flags, words, target, note };
}

/** Walks by guest frames. */
function guestWalk(
  judge: Judge,
  space: SpaceView,
  slot: number,
  address: number,
  options: WalkOptions,
): SideWalk {
  const walk: SideWalk = {
    steps: new Map(),
    tables: new Map(),
    end: endOf("no root", null, 0),
    wanted: null,
  };
  const { hugePages, tables } = judge.snapshot.parts;
  const [rootLo, rootHi] = [space.roots[2 * slot]!, space.roots[2 * slot + 1]!];
  const isLargeRoot = space.level === 3 && isLarge(PDE, rootLo);
  if ((rootLo === 0 && rootHi === 0) || isLargeRoot) return walk;
  const known = new Map<number, Uint32Array | null>();
  for (const { gfn, guest, isSplit } of tables.values()) if (!isSplit) known.set(gfn, guest);
  let frame = frameOf(rootLo, rootHi);
  let span = 1;
  for (let kind: TableKind = space.level === 4 ? PML4 : PDE;; kind = childKind(kind)) {
    const asked = indexOf(kind, address);
    // Of a 64 KiB page the first of sixteen entries counts.
    const index = asked - asked % (kind === PTE ? span : 1);
    const page = known.has(frame)
      ? known.get(frame)
      : judge.ram.mfnOf(frame) < 0
      ? null
      : options.guestPage?.(frame);
    if (page === undefined) {
      walk.wanted = frame;
      walk.end = endOf("unknown", null, 0);
      return walk;
    }
    if (page === null) {
      const unreadable = { hex: null, isPresent: false, isLarge: false, flags: "-", words: ["unreadable"] };
      walk.steps.set(kind, { frame, index, ...unreadable, target: 0, note: null });
      walk.end = endOf("unreadable", null, 0);
      return walk;
    }
    const [lo, hi] = [page[2 * index]!, page[2 * index + 1]!];
    const leads = frameOf(lo, hi);
    const isLost = (lo & PRESENT) !== 0 && !isLarge(kind, lo) && judge.ram.mfnOf(leads) < 0;
    walk.steps.set(kind, walkEntry(entryKind(kind), frame, index, lo, hi, "guest", isLost ? "no RAM" : null));
    walk.end = endOf("absent", null, 0);
    if ((lo & PRESENT) === 0) return walk;
    if (isLarge(kind, lo)) {
      const first = largeFrameOf(lo, hi);
      const isOffered = hugePages && kind === PDE && judge.ram.largePage(first) !== NO_PAGE;
      walk.end = isOffered
        ? endOf("page", first + indexOf(PTE, address), address)
        : endOf("refused", null, 0);
      return walk;
    }
    if (kind === PTE) {
      walk.end = endOf("page", leads - leads % span + asked % span, address);
      return walk;
    }
    span = hugePages && kind === PDE && (lo & IPS) !== 0 ? FRAMES_64K : 1;
    frame = leads;
  }
}

/** Walks by host frames. */
function shadowWalk({ snapshot }: Judge, space: SpaceView, slot: number, address: number): SideWalk {
  const walk: SideWalk = {
    steps: new Map(),
    tables: new Map(),
    end: endOf("no root", null, 0),
    wanted: null,
  };
  const [rootLo, rootHi] = [space.shadowRoots[2 * slot]!, space.shadowRoots[2 * slot + 1]!];
  if (!space.isShadowed) walk.end = endOf("no shadow", null, 0);
  if (rootLo === 0 && rootHi === 0) return walk;
  let mfn = frameOf(rootLo, rootHi);
  for (let kind: TableKind = space.level === 4 ? PML4 : PDE;; kind = childKind(kind)) {
    const table = snapshot.tableAt(mfn);
    if (table === undefined) {
      const scratch = snapshot.scratchName(mfn);
      walk.end = endOf(scratch === null ? "no table" : "scratch", mfn, address, scratch);
      return walk;
    }
    walk.tables.set(kind, table);
    const index = indexOf(kind, address);
    const [lo, hi] = [table.shadow[2 * index]!, table.shadow[2 * index + 1]!];
    const target = isLarge(kind, lo) ? largeFrameOf(lo, hi) : frameOf(lo, hi);
    const below = kind === PTE || isLarge(kind, lo) ? undefined : snapshot.tableAt(target);
    const note = snapshot.scratchName(target) ?? (below === undefined ? null : formText(below));
    walk.steps.set(kind, walkEntry(entryKind(kind), mfn, index, lo, hi, "shadow", note));
    walk.end = endOf("absent", null, 0);
    if ((lo & PRESENT) === 0) return walk;
    if (isLarge(kind, lo)) {
      walk.end = endOf("page", target + indexOf(PTE, address), address);
      return walk;
    }
    if (kind === PTE) {
      const scratch = snapshot.scratchName(target);
      walk.end = endOf(scratch === null ? "page" : "scratch", target, address, scratch);
      return walk;
    }
    mfn = target;
  }
}

function formText({ kind, gfn, span, isSplit }: TableView): string {
  const form = isSplit
    ? "split 2 MiB page"
    : `${kindName(kind)} table${span === 1 ? "" : " of 64 KiB pages"}`;
  return `${form} of gfn 0x${gfn.toString(16)}`;
}

function walkGgtt(judge: Judge, asked: bigint): Walk {
  const { snapshot } = judge;
  const gma = `0x${asked.toString(16)}`;
  const address = asked < 2n ** 32n ? Number(asked) : 0;
  const window = snapshot.parts.windows.find(({ base, size }) => {
    return asked >= BigInt(base) && asked < BigInt(base + size);
  });
  const index = Math.floor(address / PAGE_SIZE);
  const chunk = snapshot.parts.ggtt.get(Math.floor(index / GGTT_CHUNK));
  const common = { space: "ggtt", level: 1, gma, address, slot: 0, root: null, wanted: null } as const;
  if (window === undefined || chunk === undefined) {
    const outside = endOf("outside", null, 0);
    const note = `${gma} is outside the vGPU's windows`;
    const verdict = { class: "same", reason: "outside", sentence: `${note}: it maps nothing there` } as const;
    return { ...common, note, steps: [], guest: outside, shadow: outside, verdict };
  }
  const at = 2 * (index % GGTT_CHUNK);
  const [lo, hi] = [chunk.guest[at]!, chunk.guest[at + 1]!];
  const [hostLo, hostHi] = [chunk.host[at]!, chunk.host[at + 1]!];
  const scratch = snapshot.scratchName(frameOf(hostLo, hostHi));
  const isPresent = (lo & PRESENT) !== 0;
  const isLost = isPresent && judge.ram.mfnOf(frameOf(lo, hi)) < 0;
  const verdict = judge.ggtt(index);
  const step: WalkStep = {
    table: "GGTT",
    index,
    bits: "31:12",
    guest: walkEntry("GGTT", 0, index, lo, hi, "guest", isLost ? "no RAM" : null),
    shadow: walkEntry("GGTT", 0, index, hostLo, hostHi, "shadow", scratch),
    verdict,
  };
  const isHost = (hostLo & PRESENT) !== 0;
  return {
    ...common,
    note: `in the vGPU's ${window.name} part`,
    steps: [step],
    guest: isPresent ? endOf("page", frameOf(lo, hi), address) : endOf("absent", null, 0),
    shadow: isHost
      ? endOf(scratch === null ? "page" : "scratch", frameOf(hostLo, hostHi), address, scratch)
      : endOf("absent", null, 0),
    verdict,
  };
}
