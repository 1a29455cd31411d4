/**
 * What the walk of an address through both tables found: levels, ends and the verdict.
 *
 * @module
 */

import type { TableKind } from "../gtt/entry.ts";
import type { EntryKind } from "./entry_text.ts";
import type { Reason, VerdictClass } from "./reasons.ts";
import type { TableView } from "./snapshot.ts";
import type { Verdict } from "./verdict.ts";

/** One side of a step. */
export interface WalkEntry {
  /** Frame of the table: a guest frame, or a host frame. */
  readonly frame: number;
  /** Index of the entry; of a 64 KiB page that of the one that counts. */
  readonly index: number;
  /** The entry, 16 digits; `null` where the guest's page cannot be read. */
  readonly hex: string | null;
  /** Whether it is present. */
  readonly isPresent: boolean;
  /** Whether it is a page of 2 MiB or 1 GiB. */
  readonly isLarge: boolean;
  /** Its flags, short. */
  readonly flags: string;
  /** Its flags in words, and what it leads to. */
  readonly words: readonly string[];
  /** Frame that it leads to: a guest frame, or a host frame. */
  readonly target: number;
  /** What its target is: a scratch page's name, or the guest frame of the shadow table there. */
  readonly note: string | null;
}

/** One level of both walks. */
export interface WalkStep {
  /** Kind of the table: `PTE`, `PDE`, `PDP`, `PML4`, or `GGTT`. */
  readonly table: EntryKind;
  /** Index that the address asks for. */
  readonly index: number;
  /** The bits of the address that it is made of: `47:39`. */
  readonly bits: string;
  /** The guest's step; `null` if its walk does not come so far. */
  readonly guest: WalkEntry | null;
  /** The shadow's step; `null` if its walk does not come so far. */
  readonly shadow: WalkEntry | null;
  /** What is to be said of the shadow's entry, if it is the shadow of the guest's. */
  readonly verdict: Verdict | null;
}

/** Where a walk ends. */
export interface WalkEnd {
  /** What stopped it. */
  readonly is: WalkStop;
  /** Frame of the page that it leads to: a guest frame, or a host frame; `null` if there is none. */
  readonly frame: number | null;
  /** Address in that page: guest physical, or of the host. */
  readonly address: number | null;
  /** Of the shadow's: the name of the scratch page that it leads to. */
  readonly scratch: string | null;
}

/**
 * What stops a walk: a page; a root or an entry that is not present; scratch; a page that cannot be read, or is not known; a
 * large page that is not offered or not all RAM; a host frame that is no table; an address outside; no shadow at all.
 */
export type WalkStop =
  | "page"
  | "no root"
  | "absent"
  | "scratch"
  | "unreadable"
  | "unknown"
  | "refused"
  | "no table"
  | "outside"
  | "no shadow";

/** An address, walked. */
export interface Walk {
  /** Handle of the address space, or `"ggtt"`. */
  readonly space: number | "ggtt";
  /** Levels of its tables; 1 of the GGTT. */
  readonly level: number;
  /** The address as it was asked for, hexadecimal. */
  readonly gma: string;
  /** The address that is walked: of 48 or 32 bits. */
  readonly address: number;
  /** What is to be said of the address itself: that it is outside, or not canonical. */
  readonly note: string | null;
  /** Root slot. */
  readonly slot: number;
  /** What is to be said of the root; `null` of the GGTT. */
  readonly root: Verdict | null;
  /** The levels, from the root down. */
  readonly steps: readonly WalkStep[];
  /** Where the guest's tables lead. */
  readonly guest: WalkEnd;
  /** Where the shadow leads. */
  readonly shadow: WalkEnd;
  /** Guest frame of the page that is needed to walk on; `null` if none is. */
  readonly wanted: number | null;
  /** What is to be said of the whole. */
  readonly verdict: {
    readonly class: VerdictClass;
    readonly reason: Reason | "outside" | "unknown";
    readonly sentence: string;
  };
}

/** One side's walk. */
export interface SideWalk {
  /** Steps by kind. */
  readonly steps: Map<TableKind, WalkEntry>;
  /** Tables by kind: of the shadow's walk. */
  readonly tables: Map<TableKind, TableView>;
  /** Where it ends. */
  end: WalkEnd;
  /** A page that is needed. */
  wanted: number | null;
}
