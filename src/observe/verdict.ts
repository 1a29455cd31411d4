/**
 * What is to be said of each entry of a shadow: whether it is what the guest's entry asks for, and if not, why
 * ({@link "./reasons.ts" | reasons}).
 *
 * What must be is said by {@link "./shadow_rules.ts" | rules}. A table may be behind the guest's page: then it is compared with
 * the page as the engine saw it last. Where that is not known, a difference is *pending* if the engine could have made it of
 * any older page, and *wrong* only if nothing the guest may write explains it: a frame that is not the guest's, a table of
 * another kind.
 *
 * @module
 */

import {
  ENTRIES,
  frameOf,
  isLarge,
  largeFrameOf,
  PAGE_LARGE,
  PAT_LARGE,
  PDE,
  PRESENT,
  PTE,
  withFrameHi,
  withFrameLo,
} from "../gtt/entry.ts";
import { RamFrames } from "./ram_frames.ts";
import {
  CLASSES,
  classNumber,
  type Reason,
  REASON_CODES,
  type ReasonCode,
  REASONS,
  type VerdictClass,
} from "./reasons.ts";
import { entrySentence, ggttSentence, rootSentence } from "./sentences.ts";
import { ShadowRules } from "./shadow_rules.ts";
import type { Snapshot, SpaceView, TableView } from "./snapshot.ts";

const {
  "of 2m": OF_2M,
  "unreadable": UNREADABLE,
  "queued": QUEUED,
  "out of sync": OUT_OF_SYNC,
  "not looked at": NOT_LOOKED_AT,
  "changed": CHANGED,
  "stale": STALE,
  "not read": NOT_READ,
  "parent": PARENT,
  "unconfirmed": UNCONFIRMED,
  "flags": FLAGS,
  "foreign": FOREIGN,
  "dangling": DANGLING,
  "large": LARGE,
} = REASON_CODES;

/** Index of "pending" among the classes: what is below it agrees. */
const PENDING_CLASS = CLASSES.indexOf("pending");
/** Trapped stores after which a table is out of sync; one that has more and is not is one whose sync failed. */
const STORES_OUT_OF_SYNC = 2;
/** Bits by which {@linkcode PAT_LARGE} is above the PAT bit of a PTE. */
const PAT_SHIFT = 5;

/** What is known of the guest besides the snapshot. */
export interface JudgeOptions {
  /**
   * Whether the guest has stored nothing since its tables were last looked at, where nothing traps. Then what differs in a
   * table that was looked at is wrong; else it may be newer than the look, and is pending. Default false.
   */
  readonly isQuiet?: boolean | undefined;
  /**
   * A snapshot of a moment before. Where stores trap, a store is in guest memory before the device is told of it; what was not
   * just so in both snapshots may be one that is on its way, and is pending.
   */
  readonly earlier?: Snapshot | null | undefined;
}

/** What is said of an entry. */
export interface Verdict {
  /** How serious it is. */
  readonly class: VerdictClass;
  /** Why, in short. */
  readonly reason: Reason;
  /** Why, as a sentence. */
  readonly sentence: string;
}

/** What is said of a table as a whole. */
export interface TableState {
  /** In a few words: "in sync", "out of sync", "split". */
  readonly text: string;
  /** How serious it is. */
  readonly class: VerdictClass;
}

/**
 * Judges the entries of one snapshot.
 *
 * @example A frame of another table's
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { sketch } from "../../tests/unit/inspect_snapshot.ts";
 * import { Judge } from "./verdict.ts";
 *
 * const table = { kind: 1, gfn: 0x20, mfn: 0x9000 } as const;
 * const guest = { 0: 0x5003, 1: 0x6003, 2: 0x7777003 };
 * const shadow = { 0: 0x100005003, 1: 0x100007003, 2: 0xff00003 };
 * const snapshot = sketch({ tables: [{ ...table, guest, shadow }] });
 * const judge = new Judge(snapshot);
 * const verdicts = [0, 1, 2, 3].map((index) => judge.entry(snapshot.parts.tables.get(1)!, index));
 * assertEquals(verdicts.map(({ reason }) => reason), ["translated", "frame", "no ram", "absent"]);
 * assertEquals(verdicts.map((verdict) => verdict.class), ["same", "wrong", "expected", "same"]);
 * assertEquals(verdicts[1]!.sentence, "the guest maps gfn 0x6 (mfn 0x100006), the shadow leads to gfn 0x7 (mfn 0x100007)");
 * ```
 */
export class Judge {
  /** What is judged. */
  readonly snapshot: Snapshot;
  /** Guest RAM. */
  readonly ram: RamFrames;
  readonly #rules: ShadowRules;
  readonly #isQuiet: boolean;
  readonly #isTrapped: boolean;
  readonly #earlier: Snapshot | null;
  /** The entry that leads to each split page, and its table. */
  #splitParents: Map<TableView, readonly [parent: TableView, index: number]> | null = null;
  /** First entry of a table that no sync can get past. */
  readonly #firstBad = new Map<TableView, number>();

  /**
   * @param snapshot What to judge.
   * @param options What else is known.
   */
  constructor(snapshot: Snapshot, { isQuiet = false, earlier = null }: JudgeOptions = {}) {
    this.snapshot = snapshot;
    this.ram = new RamFrames(snapshot.parts.ram);
    this.#rules = new ShadowRules(snapshot, this.ram);
    this.#isQuiet = isQuiet;
    this.#earlier = earlier?.parts.engine === snapshot.parts.engine ? earlier : null;
    this.#isTrapped = snapshot.parts.tracking === "trapped";
  }

  /**
   * What is to be said of an entry.
   *
   * @param table Its table.
   * @param index Entry, 0..511.
   * @returns Class, reason and sentence.
   */
  entry(table: TableView, index: number): Verdict {
    const code = this.code(table, index);
    return verdict(code, entrySentence(this, REASONS[code]!, table, index));
  }

  /**
   * What is to be said of a root of an address space.
   *
   * @param space The address space.
   * @param slot Root slot, 0..3.
   * @returns Class, reason and sentence.
   */
  root(space: SpaceView, slot: number): Verdict {
    const code = this.#rules.root(space, slot);
    return verdict(code, rootSentence(this, REASONS[code]!, space, slot));
  }

  /**
   * What is to be said of an entry of the GGTT.
   *
   * @param index Number of the entry.
   * @returns Class, reason and sentence.
   */
  ggtt(index: number): Verdict {
    const code = this.#rules.ggtt(index);
    return verdict(code, ggttSentence(this, REASONS[code]!, index));
  }

  /**
   * How a table follows the guest's at the moment.
   *
   * @param table The table.
   * @returns A few words.
   */
  table(table: TableView): TableState {
    if (table.isSplit) return { text: "split", class: "expected" };
    if (table.guest === null) return { text: "guest page unreadable", class: "pending" };
    if (!this.#isTrapped) {
      return table.isLookedAt
        ? { text: "looked at", class: "same" }
        : { text: "not looked at", class: "pending" };
    }
    if (table.isOutOfSync) return { text: "out of sync", class: "pending" };
    if (!table.isTracked) return { text: "not trapped", class: "wrong" };
    if (this.#isStale(table)) return { text: "stale: its sync failed", class: "pending" };
    if (table.queued.length > 0) return { text: `in sync, ${table.queued.length} queued`, class: "pending" };
    return { text: "in sync", class: "same" };
  }

  /**
   * Why an entry of a shadow is as it is.
   *
   * @param table Its table.
   * @param index Entry, 0..511.
   * @returns The reason.
   */
  code(table: TableView, index: number): ReasonCode {
    if (table.isSplit) return this.#splitLeaf(table, index);
    if (table.guest === null) return this.#rules.maps(table, index) ? NOT_READ : UNREADABLE;
    const code = this.#rules.compare(table, table.guest, index);
    if (classNumber(code) < PENDING_CLASS || code === FOREIGN || code === DANGLING || code === LARGE) {
      return code;
    }
    const lag = this.#lag(table, index);
    if (lag === null) return this.#wasSo(table, index) ? code : UNCONFIRMED;
    const { seen } = table;
    if (seen === null || lag === QUEUED) return lag;
    return classNumber(this.#rules.compare(table, seen, index)) < PENDING_CLASS ? lag : code;
  }

  /**
   * The reasons of all entries of a table.
   *
   * @param table The table.
   * @param out Receives 512 reasons.
   */
  codes(table: TableView, out: Uint8Array): void {
    const { shadow, guest, span, isSplit } = table;
    // Neighbours that are alike, as in a table of scratch, have one reason, unless something else matters.
    const mayRepeat = guest !== null && span === 1 && !isSplit;
    for (let index = 0; index < ENTRIES; index++) {
      const lane = 2 * index;
      const isAlike = mayRepeat && index > 0 && classNumber(out[index - 1]!) < PENDING_CLASS &&
        guest[lane] === guest[lane - 2] && guest[lane + 1] === guest[lane - 1] &&
        shadow[lane] === shadow[lane - 2] && shadow[lane + 1] === shadow[lane - 1];
      out[index] = isAlike ? out[index - 1]! : this.code(table, index);
    }
  }

  /**
   * Why a root of an address space is as it is.
   *
   * @param space The address space.
   * @param slot Root slot, 0..3.
   * @returns The reason.
   */
  rootCode(space: SpaceView, slot: number): ReasonCode {
    return this.#rules.root(space, slot);
  }

  /**
   * Why an entry of the host's GGTT is as it is.
   *
   * @param index Number of the entry.
   * @returns The reason; "absent" outside the windows.
   */
  ggttCode(index: number): ReasonCode {
    return this.#rules.ggtt(index);
  }

  /** The entry that leads to a split page: its table and index; `null` if none does. */
  splitParent(table: TableView): readonly [parent: TableView, index: number] | null {
    if (this.#splitParents === null) {
      this.#splitParents = new Map();
      for (const parent of this.snapshot.parts.tables.values()) {
        for (let index = 0; index < ENTRIES && parent.kind === PDE; index++) {
          const child = this.#child(parent, index);
          if (child !== undefined && child.isSplit) this.#splitParents.set(child, [parent, index]);
        }
      }
    }
    return this.#splitParents.get(table) ?? null;
  }

  /** A leaf of a 2 MiB page that is split: by its frame, and by the flags of the guest's entry. */
  #splitLeaf(table: TableView, index: number): ReasonCode {
    const [lo, hi] = [table.shadow[2 * index]!, table.shadow[2 * index + 1]!];
    const mfn = this.ram.mfnOf(table.gfn + index);
    const parent = this.splitParent(table);
    if (parent === null) return DANGLING;
    const [{ guest, seen }, at] = parent;
    const isCurrent = isPageAt(guest, at, table.gfn);
    if (mfn >= 0 && isCurrent && isLeafOf(guest!, at, mfn, lo, hi)) return OF_2M;
    if (mfn >= 0 && isPageAt(seen, at, table.gfn)) {
      return isLeafOf(seen!, at, mfn, lo, hi) ? PARENT : this.#rules.differs(lo, hi, mfn);
    }
    const code = this.#rules.differs(lo, hi, mfn);
    if (code === FOREIGN) return code;
    if (classNumber(this.code(parent[0], at)) === PENDING_CLASS) return PARENT;
    // What was refused has left the page before it, with that one's flags.
    return code === FLAGS && !isCurrent ? OF_2M : code;
  }

  /** Why an entry may be behind; `null` if it may not. */
  #lag(table: TableView, index: number): ReasonCode | null {
    if (!this.#isTrapped) return !table.isLookedAt ? NOT_LOOKED_AT : this.#isQuiet ? null : CHANGED;
    if (table.queued.length > 0 && table.queued.includes(index - index % table.span)) return QUEUED;
    if (table.isOutOfSync) return OUT_OF_SYNC;
    return this.#isStale(table) && index >= this.#badFrom(table) ? STALE : null;
  }

  /** Whether an entry was as it is already before, on both sides; or it is not known what was before. */
  #wasSo({ serial, guest, shadow }: TableView, index: number): boolean {
    if (this.#earlier === null || !this.#isTrapped) return true;
    const before = this.#earlier.parts.tables.get(serial);
    if (before === undefined || before.guest === null || guest === null) return false;
    const lane = 2 * (index - index % before.span);
    return before.guest[lane] === guest[lane] && before.guest[lane + 1] === guest[lane + 1] &&
      before.shadow[2 * index] === shadow[2 * index] &&
      before.shadow[2 * index + 1] === shadow[2 * index + 1];
  }

  /** Whether a sync of the table failed half way and left what came after as it was (`engine.md` §13, 19). */
  #isStale({ kind, writes, isOutOfSync }: TableView): boolean {
    return this.#isTrapped && kind === PTE && !isOutOfSync && writes >= STORES_OUT_OF_SYNC;
  }

  /** The first leaf of a table that a sync fails at. */
  #badFrom(table: TableView): number {
    let first = this.#firstBad.get(table);
    if (first !== undefined) return first;
    const { guest, span } = table;
    for (first = 0; first < ENTRIES && guest !== null; first += span) {
      const lo = guest[2 * first]!;
      if ((lo & PRESENT) === 0) continue;
      const gfn = frameOf(lo, guest[2 * first + 1]!);
      if (!this.ram.hasAll(gfn - gfn % span, span)) break;
    }
    this.#firstBad.set(table, first);
    return first;
  }

  #child({ shadow }: TableView, index: number): TableView | undefined {
    const lo = shadow[2 * index]!;
    if ((lo & PRESENT) === 0 || isLarge(PDE, lo)) return undefined;
    return this.snapshot.tableAt(frameOf(lo, shadow[2 * index + 1]!));
  }
}

function verdict(code: ReasonCode, sentence: string): Verdict {
  return { class: CLASSES[classNumber(code)]!, reason: REASONS[code]!, sentence };
}

/** Whether an entry of a PDE table is the 2 MiB page that begins with this frame. */
function isPageAt(page: Uint32Array | null, index: number, gfn: number): boolean {
  if (page === null) return false;
  const [lo, hi] = [page[2 * index]!, page[2 * index + 1]!];
  return (lo & PRESENT) !== 0 && isLarge(PDE, lo) && largeFrameOf(lo, hi) === gfn;
}

/** Whether a leaf is what splitting a 2 MiB page makes for one of its frames. */
function isLeafOf(page: Uint32Array, index: number, mfn: number, lo: number, hi: number): boolean {
  const [pageLo, pageHi] = [page[2 * index]!, page[2 * index + 1]!];
  const flags = pageLo & ~PAGE_LARGE | (pageLo & PAT_LARGE) >>> PAT_SHIFT;
  return lo === withFrameLo(flags, mfn) && hi === withFrameHi(pageHi, mfn);
}
