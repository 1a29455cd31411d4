/**
 * What the shadow of a guest's entry must be, as if nothing could be behind: the rules of `engine.md` §7 to §9, §13, §15 to
 * §17, said anew. Nothing here is shared with the engine but where the bits of an entry are.
 *
 * @module
 */

import {
  DIRTY,
  frameOf,
  IPS,
  isLarge,
  largeFrameOf,
  PAGE_LARGE,
  PDE,
  PML4,
  PRESENT,
  PTE,
  type TableKind,
  withFrameHi,
  withFrameLo,
  withLargeFrameLo,
} from "../gtt/entry.ts";
import { NO_PAGE, type RamFrames, SPLIT_PAGE } from "./ram_frames.ts";
import { REASON_CODES, type ReasonCode } from "./reasons.ts";
import { GGTT_CHUNK, type Snapshot, type SpaceView, type TableView } from "./snapshot.ts";

const {
  "absent": ABSENT,
  "translated": TRANSLATED,
  "removed": REMOVED,
  "no ram": NO_RAM,
  "large refused": LARGE_REFUSED,
  "left": LEFT,
  "split": SPLIT,
  "ips dropped": IPS_DROPPED,
  "of 64k": OF_64K,
  "reset": RESET,
  "not built": NOT_BUILT,
  "reclaimed": RECLAIMED,
  "failsafe": FAILSAFE,
  "missing": MISSING,
  "flags": FLAGS,
  "frame": FRAME,
  "foreign": FOREIGN,
  "table": TABLE,
  "dangling": DANGLING,
  "maps": MAPS,
  "stray": STRAY,
  "large": LARGE,
} = REASON_CODES;

/** What a reset leaves in the host's GGTT, with the scratch frame. */
const RESET_FLAGS = PRESENT;

/** The rules, for the shadows of one snapshot. */
export class ShadowRules {
  readonly #snapshot: Snapshot;
  readonly #ram: RamFrames;
  readonly #isTrapped: boolean;
  readonly #hugePages: boolean;
  readonly #globalScratch: number;
  /** Where a directory entry leads to no table, or to the one before. */
  readonly #unbuilt: { readonly missing: ReasonCode; readonly other: ReasonCode };

  /**
   * @param snapshot The moment.
   * @param ram Its RAM.
   */
  constructor(snapshot: Snapshot, ram: RamFrames) {
    const { tracking, hugePages, globalScratch, refusedStores } = snapshot.parts;
    this.#snapshot = snapshot;
    this.#ram = ram;
    this.#isTrapped = tracking === "trapped";
    this.#hugePages = hugePages;
    this.#globalScratch = globalScratch;
    // A table below may hold what the engine refuses: then the store that leads to it is refused, and nobody keeps which (§13, 15).
    const mayBeRefused = this.#isTrapped && refusedStores > 0;
    this.#unbuilt = mayBeRefused
      ? { missing: NOT_BUILT, other: NOT_BUILT }
      : { missing: MISSING, other: TABLE };
  }

  /**
   * Why a root of an address space is as it is.
   *
   * @param space The address space.
   * @param slot Root slot, 0..3.
   * @returns The reason.
   */
  root({ level, roots, shadowRoots, isShadowed }: SpaceView, slot: number): ReasonCode {
    const [lo, hi] = [roots[2 * slot]!, roots[2 * slot + 1]!];
    const [shadowLo, shadowHi] = [shadowRoots[2 * slot]!, shadowRoots[2 * slot + 1]!];
    const isEmpty = shadowLo === 0 && shadowHi === 0;
    // At level 4 nothing looks at slots 1 to 3.
    if (lo === 0 && hi === 0 || level === 4 && slot > 0) return isEmpty ? ABSENT : MAPS;
    if (level === 3 && (lo & PAGE_LARGE) !== 0) return isEmpty ? LARGE_REFUSED : MAPS;
    if (!isShadowed) {
      if (!isEmpty) return MAPS;
      return this.#snapshot.parts.failsafe ? FAILSAFE : RECLAIMED;
    }
    if (isEmpty) return MISSING;
    const mfn = frameOf(shadowLo, shadowHi);
    const table = this.#snapshot.tableAt(mfn);
    if (table === undefined) return DANGLING;
    const kind = level === 4 ? PML4 : PDE;
    if (table.kind !== kind || table.gfn !== frameOf(lo, hi)) return TABLE;
    return shadowLo === withFrameLo(lo, mfn) && shadowHi === withFrameHi(hi, mfn) ? TRANSLATED : FLAGS;
  }

  /**
   * Why an entry of the host's GGTT is as it is.
   *
   * @param index Number of the entry.
   * @returns The reason; "absent" outside the windows.
   */
  ggtt(index: number): ReasonCode {
    const chunk = this.#snapshot.parts.ggtt.get(Math.floor(index / GGTT_CHUNK));
    if (chunk === undefined) return ABSENT;
    const lane = 2 * (index % GGTT_CHUNK);
    const [lo, hi] = [chunk.guest[lane]!, chunk.guest[lane + 1]!];
    const [hostLo, hostHi] = [chunk.host[lane]!, chunk.host[lane + 1]!];
    const isPresent = (lo & PRESENT) !== 0;
    const mfn = isPresent ? this.#ram.mfnOf(frameOf(lo, hi)) : -1;
    const wanted = mfn < 0 ? this.#globalScratch : mfn;
    if (hostLo === withFrameLo(lo, wanted) && hostHi === withFrameHi(hi, wanted)) {
      if (!isPresent) return REMOVED;
      return mfn < 0 ? NO_RAM : TRANSLATED;
    }
    const found = frameOf(hostLo, hostHi);
    const isReset = found === this.#globalScratch && hostLo === withFrameLo(RESET_FLAGS, found) &&
      hostHi === withFrameHi(0, found);
    if (isReset) return RESET;
    if (hostLo === 0 && hostHi === 0 && lo === 0 && hi === 0) return ABSENT;
    if (this.#snapshot.parts.failsafe) {
      return this.#isGuests(found) || (hostLo & PRESENT) === 0 ? FAILSAFE : FOREIGN;
    }
    if (found === wanted) return FLAGS;
    if ((hostLo & PRESENT) === 0) return isPresent ? MISSING : STRAY;
    if (!isPresent) return this.#isGuests(found) ? MAPS : FOREIGN;
    return found === this.#globalScratch ? MISSING : this.#isGuests(found) ? FRAME : FOREIGN;
  }

  /**
   * Compares an entry with a page of the guest's.
   *
   * @param table Its table, not of a split page.
   * @param guest The page, 1024 lanes.
   * @param index Entry, 0..511.
   * @returns The reason: none that is pending.
   */
  compare(table: TableView, guest: Uint32Array, index: number): ReasonCode {
    // Of a 64 KiB page the first of sixteen entries counts.
    const counting = index - index % table.span;
    const [lo, hi] = [guest[2 * counting]!, guest[2 * counting + 1]!];
    if ((lo & PRESENT) === 0) return this.#nothing(table, index, lo, hi);
    if (table.kind === PTE) return this.#leaf(table, index, lo, hi);
    return isLarge(table.kind, lo)
      ? this.#large(table, index, lo, hi)
      : this.#directory(table, index, lo, hi);
  }

  /** The guest maps nothing here. */
  #nothing({ kind, shadow }: TableView, index: number, lo: number, hi: number): ReasonCode {
    const [shadowLo, shadowHi] = [shadow[2 * index]!, shadow[2 * index + 1]!];
    const mfn = frameOf(shadowLo, shadowHi);
    const isScratch = this.#isScratch(kind, mfn);
    if ((shadowLo & PRESENT) === 0) {
      // Never stored; or, as documented, the guest's own value (`engine.md` §13, 18); or removed.
      const isKnown = shadowLo === 0 && shadowHi === 0 || shadowLo === lo && shadowHi === hi || isScratch;
      return isKnown ? ABSENT : STRAY;
    }
    if (isLarge(kind, shadowLo)) {
      return kind === PDE && this.#hugePages ? this.#largeTarget(shadowLo, shadowHi) : LARGE;
    }
    if (isScratch) return REMOVED;
    if (kind === PTE) return this.#isGuests(mfn) ? MAPS : FOREIGN;
    return this.#snapshot.tableAt(mfn)?.kind === kind - 1 ? MAPS : DANGLING;
  }

  #leaf(table: TableView, index: number, lo: number, hi: number): ReasonCode {
    const { shadow, span } = table;
    const first = frameOf(lo, hi);
    const gfn = span === 1 ? first : first - first % span + index % span;
    const mfn = this.#ram.mfnOf(gfn);
    const [shadowLo, shadowHi] = [shadow[2 * index]!, shadow[2 * index + 1]!];
    const wanted = mfn < 0 ? this.#globalScratch : mfn;
    if (shadowLo === withFrameLo(lo, wanted) && shadowHi === withFrameHi(hi, wanted)) {
      return mfn < 0 ? NO_RAM : index % span === 0 ? TRANSLATED : OF_64K;
    }
    const found = frameOf(shadowLo, shadowHi);
    const isRefused = mfn < 0 || span !== 1 && !this.#ram.hasAll(gfn - gfn % span, span);
    if (isRefused && this.#isTrapped) return this.#left(table, index);
    if ((shadowLo & PRESENT) === 0) return mfn < 0 ? NO_RAM : MISSING;
    if (found === wanted) return FLAGS;
    if (this.#isScratch(PTE, found)) return MISSING;
    return !this.#isGuests(found) ? FOREIGN : mfn < 0 ? MAPS : FRAME;
  }

  #directory(table: TableView, index: number, lo: number, hi: number): ReasonCode {
    const { kind, shadow } = table;
    const gfn = frameOf(lo, hi);
    if (this.#ram.mfnOf(gfn) < 0) return this.#refused(table, index, NO_RAM);
    const [shadowLo, shadowHi] = [shadow[2 * index]!, shadow[2 * index + 1]!];
    const mfn = frameOf(shadowLo, shadowHi);
    if ((shadowLo & PRESENT) === 0) return this.#unbuilt.missing;
    if (isLarge(kind, shadowLo)) return kind === PDE && this.#hugePages ? this.#unbuilt.other : LARGE;
    if (this.#isScratch(kind, mfn)) return this.#unbuilt.missing;
    const child = this.#snapshot.tableAt(mfn);
    if (child === undefined || child.kind !== kind - 1) return DANGLING;
    const has64k = this.#hugePages && kind === PDE && (lo & IPS) !== 0;
    if (child.isSplit || child.gfn !== gfn || child.span !== (has64k ? 16 : 1)) return this.#unbuilt.other;
    const flags = has64k ? lo & ~IPS : lo;
    if (shadowLo !== withFrameLo(flags, mfn) || shadowHi !== withFrameHi(hi, mfn)) return FLAGS;
    return has64k ? IPS_DROPPED : TRANSLATED;
  }

  /** A page of 2 MiB or 1 GiB. */
  #large(table: TableView, index: number, lo: number, hi: number): ReasonCode {
    const { kind, shadow } = table;
    if (!this.#hugePages || kind !== PDE) return this.#refused(table, index, LARGE_REFUSED);
    const gfn = largeFrameOf(lo, hi);
    const mfn = this.#ram.largePage(gfn);
    if (mfn === NO_PAGE) return this.#refused(table, index, NO_RAM);
    const [shadowLo, shadowHi] = [shadow[2 * index]!, shadow[2 * index + 1]!];
    if ((shadowLo & PRESENT) === 0) return MISSING;
    if (mfn !== SPLIT_PAGE) {
      if (shadowLo === withLargeFrameLo(lo, mfn) && shadowHi === withFrameHi(hi, mfn)) return TRANSLATED;
      if (!isLarge(PDE, shadowLo)) return this.#isScratch(PDE, frameOf(shadowLo, shadowHi)) ? MISSING : TABLE;
      if (largeFrameOf(shadowLo, shadowHi) === mfn) return FLAGS;
      return this.#largeTarget(shadowLo, shadowHi) === FOREIGN ? FOREIGN : FRAME;
    }
    if (isLarge(PDE, shadowLo)) return this.#largeTarget(shadowLo, shadowHi) === FOREIGN ? FOREIGN : LARGE;
    const own = frameOf(shadowLo, shadowHi);
    if (this.#isScratch(PDE, own)) return MISSING;
    const child = this.#snapshot.tableAt(own);
    if (child === undefined || child.kind !== PTE) return DANGLING;
    if (!child.isSplit || child.gfn !== gfn) return TABLE;
    const flags = lo & ~(PAGE_LARGE | IPS | DIRTY);
    return shadowLo === withFrameLo(flags, own) && shadowHi === withFrameHi(hi, own) ? SPLIT : FLAGS;
  }

  /**
   * How a leaf differs.
   *
   * @param lo Low lane.
   * @param hi High lane.
   * @param mfn Host frame that it should lead to.
   * @returns The reason.
   */
  differs(lo: number, hi: number, mfn: number): ReasonCode {
    const found = frameOf(lo, hi);
    if ((lo & PRESENT) === 0 || this.#isScratch(PTE, found)) return MISSING;
    if (found === mfn) return FLAGS;
    return this.#isGuests(found) ? FRAME : FOREIGN;
  }

  /** A directory entry that the engine cannot follow: it maps nothing, or, where stores trap, what it did before. */
  #refused(table: TableView, index: number, nothing: ReasonCode): ReasonCode {
    if (!this.maps(table, index)) return nothing;
    if (this.#isTrapped) return this.#left(table, index);
    const [lo, hi] = [table.shadow[2 * index]!, table.shadow[2 * index + 1]!];
    if (isLarge(table.kind, lo)) {
      return table.kind === PDE && this.#hugePages ? this.#largeTarget(lo, hi) : LARGE;
    }
    return this.#snapshot.tableAt(frameOf(lo, hi))?.kind === table.kind - 1 ? MAPS : DANGLING;
  }

  /** A refused store leaves the old entry live (`engine.md` §13, 15), whatever that was; but it was a good one. */
  #left({ kind, shadow }: TableView, index: number): ReasonCode {
    const [lo, hi] = [shadow[2 * index]!, shadow[2 * index + 1]!];
    const mfn = frameOf(lo, hi);
    if ((lo & PRESENT) === 0 || this.#isScratch(kind, mfn) && !isLarge(kind, lo)) return LEFT;
    if (kind === PTE) return this.#isGuests(mfn) ? LEFT : FOREIGN;
    if (!isLarge(kind, lo)) return this.#snapshot.tableAt(mfn)?.kind === kind - 1 ? LEFT : DANGLING;
    if (kind !== PDE || !this.#hugePages) return LARGE;
    return this.#largeTarget(lo, hi) === FOREIGN ? FOREIGN : LEFT;
  }

  /**
   * Whether an entry of a shadow leads to anything but scratch.
   *
   * @param table Its table.
   * @param index Entry, 0..511.
   */
  maps({ kind, shadow }: TableView, index: number): boolean {
    const lo = shadow[2 * index]!;
    if ((lo & PRESENT) === 0) return false;
    return isLarge(kind, lo) || !this.#isScratch(kind, frameOf(lo, shadow[2 * index + 1]!));
  }

  /** Whether entries of such a table lead nowhere by this frame. */
  #isScratch(kind: TableKind, mfn: number): boolean {
    return mfn === this.#snapshot.parts.scratch[kind] || kind === PTE && mfn === this.#globalScratch;
  }

  /** Whether a host frame is one that leaves may lead to: of the guest's RAM, or scratch. */
  #isGuests(mfn: number): boolean {
    return this.#ram.gfnOf(mfn) >= 0 || this.#isScratch(PTE, mfn);
  }

  /** Whether a 2 MiB page of the shadow maps guest RAM only. */
  #largeTarget(lo: number, hi: number): ReasonCode {
    const gfn = this.#ram.gfnOf(largeFrameOf(lo, hi));
    return gfn >= 0 && this.#ram.largePage(gfn) === largeFrameOf(lo, hi) ? MAPS : FOREIGN;
  }
}
