/**
 * What the page and its server say to each other: JSON over one WebSocket. The page says what it looks at; the server says
 * what is there, again whenever it is another.
 *
 * @module
 */

import type { EventText } from "../inspect/event_list.ts";
import type { VerdictClass } from "../observe/reasons.ts";
import type { Strip, StripSpace } from "../observe/strip.ts";
import type { WalkView } from "./walk_view.ts";
import type { TreeRow } from "./tree_rows.ts";

/** What a page looks at. */
export interface Look {
  /** The address space. */
  readonly space: StripSpace;
  /** Graphics address of the strip's first cell. */
  readonly from: number;
  /** Bytes of a cell. */
  readonly cellBytes: number;
  /** How many cells. */
  readonly cells: number;
  /** Address to walk; `null`: none. */
  readonly gma: number | null;
  /** Keys of the rows of the tree that are open. */
  readonly open: readonly string[];
  /** Whether the page stays at the moment that it shows. */
  readonly isPaused: boolean;
}

/** What the page says. */
export type PageMessage =
  | { readonly ask: "look"; readonly look: Look }
  /** What is in a piece of the space that it looks at: the number comes back with the answer. */
  | { readonly ask: "hover"; readonly n: number; readonly from: number; readonly bytes: number }
  /** The nearest page after or before an address that maps more than scratch. */
  | { readonly ask: "find"; readonly n: number; readonly after: number; readonly isForward: boolean };

/** An address space as the page lists it. */
export interface SpaceItem {
  /** Which one. */
  readonly space: StripSpace;
  /** First graphics address. */
  readonly from: number;
  /** Bytes. */
  readonly bytes: number;
  /** What it is, in a few words. */
  readonly text: string;
  /** Pages that the shadow maps, without scratch. */
  readonly mapped: number;
  /** Pages that it has wrong. */
  readonly wrong: number;
}

/** The device as a whole. */
export interface DeviceView {
  /** Its address spaces. */
  readonly spaces: readonly SpaceItem[];
  /** Number of the engine: with another one everything is another. */
  readonly engine: number;
  /** How tables follow the guest's. */
  readonly tracking: "trapped" | "untracked";
  /** Whether large pages are offered. */
  readonly hugePages: boolean;
  /** Whether the engine gave up on its guest. */
  readonly failsafe: boolean;
  /** Shadow tables. */
  readonly tables: number;
  /** Those that may differ from the guest's. */
  readonly outOfSync: number;
  /** Bytes of guest RAM. */
  readonly ramBytes: number;
}

/** How the server gets on with what it looks at. */
export interface SourceState {
  /** What it is, for people. */
  readonly name: string;
  /** Whether it can change: a device does, a recording does not. */
  readonly kind: "device" | "recording" | "snapshot";
  /** Whether the device answers. */
  readonly state: "live" | "still" | "lost";
  /** Why it is lost. */
  readonly why: string;
}

/** What counters were at a moment, in the order of `COUNTERS`. */
export type Sample = readonly [milliseconds: number, ...values: number[]];

/** What a piece of the address space is. */
export interface HoverView {
  /** Its first address. */
  readonly from: number;
  /** Its bytes. */
  readonly bytes: number;
  /** The page in it that tells most, which the rest is about. */
  readonly gma: number;
  /** The last entry of its walk. */
  readonly name: string;
  /** That entry of the guest's. */
  readonly guest: string;
  /** That entry of the shadow's. */
  readonly shadow: string;
  /** What is to be said of it. */
  readonly verdict: string;
  /** The class of that. */
  readonly class: VerdictClass;
}

/** What the server says. */
export type ServerMessage =
  | { readonly say: "source"; readonly source: SourceState }
  | { readonly say: "device"; readonly device: DeviceView }
  | { readonly say: "strip"; readonly space: StripSpace; readonly strip: Strip }
  /** `more` rows are not told; `path`: keys of the rows that lead to the address that is walked. */
  | {
    readonly say: "tree";
    readonly space: StripSpace;
    readonly rows: readonly TreeRow[];
    readonly more: number;
    readonly path: readonly string[];
  }
  | { readonly say: "walk"; readonly walk: WalkView | null }
  | { readonly say: "found"; readonly n: number; readonly gma: number | null }
  | { readonly say: "hover"; readonly n: number; readonly hover: HoverView }
  /** Samples that the page does not have; all there are if `isAll`. */
  | { readonly say: "samples"; readonly samples: readonly Sample[]; readonly isAll: boolean }
  /** Events that the page does not have; all that are kept if `isAll`. `now`: microseconds on their clock. */
  | {
    readonly say: "events";
    readonly events: readonly EventText[];
    readonly lost: number;
    readonly now: number;
    readonly isAll: boolean;
  };
