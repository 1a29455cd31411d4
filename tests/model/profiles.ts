/**
 * Profiles of generated traces: which operations, how often, and how nasty.
 *
 * @module
 */

import type { FrameFault } from "../../src/replay/trace.ts";

/** Names of the profiles. */
export const PROFILES = ["sane", "ggtt", "partial", "oos", "reclaim", "wild", "hostile"] as const;
/** Name of a profile. */
export type Profile = (typeof PROFILES)[number];

/** What a generator may do next. */
export type Action =
  | "build"
  | "store"
  | "pair"
  | "burst"
  | "address"
  | "create"
  | "destroy"
  | "find"
  | "hold"
  | "workload"
  | "settle"
  | "walk"
  | "look"
  | "ggttWrite"
  | "ggttRead"
  | "reset"
  | "track"
  | "fault"
  | "shortage"
  | "failsafe"
  | "restart";

/** One profile. Shares are probabilities from 0 to 1. */
export interface Settings {
  /** Whether out-of-sync pages are on. */
  readonly oos: boolean;
  /** Possible sizes of the pool. */
  readonly pools: readonly number[];
  /** How many frames serve as tables of each kind: PTE, PDE, PDP, PML4. */
  readonly tables: readonly [pte: number, pde: number, pdp: number, pml4: number];
  /** Whether every table frame may serve as every kind of table. */
  readonly tangled: boolean;
  /** Share of stores that are half an entry. */
  readonly half: number;
  /** Share of stores with an odd size or alignment. */
  readonly odd: number;
  /** Share of directory entries that are large pages. */
  readonly large: number;
  /** Share of entries with a frame outside RAM or high bits. */
  readonly strange: number;
  /** Share of stores aimed at PTE tables that own a page or are out of sync. */
  readonly aimOos: number;
  /** Share of GGTT accesses below or past the table. */
  readonly farOffsets: number;
  /** Faults that may be injected. */
  readonly faults: readonly FrameFault[];
  /** How likely each action is. */
  readonly actions: Readonly<Partial<Record<Action, number>>>;
}

const COMMON = {
  build: 6,
  store: 40,
  create: 10,
  destroy: 6,
  find: 2,
  hold: 8,
  workload: 3,
  settle: 4,
  walk: 10,
  look: 6,
  ggttWrite: 5,
  ggttRead: 3,
  address: 2,
  reset: 1,
} as const;

const CALM = {
  oos: false,
  pools: [8192],
  tables: [6, 3, 2, 2],
  tangled: false,
  half: 0,
  odd: 0,
  large: 0,
  strange: 0.02,
  aimOos: 0,
  farOffsets: 0,
  faults: [],
} as const;

const ALL_FAULTS = ["invalid", "p2m", "read", "wp", "unwp"] as const;

/** The settings of every profile. */
export const SETTINGS: Readonly<Record<Profile, Settings>> = {
  sane: { ...CALM, actions: COMMON },
  ggtt: {
    ...CALM,
    strange: 0.1,
    odd: 0.02,
    faults: ["invalid", "p2m"],
    actions: { ...COMMON, ggttWrite: 90, ggttRead: 40, address: 12, reset: 3, store: 10, fault: 2, walk: 20 },
  },
  partial: { ...CALM, half: 0.5, actions: { ...COMMON, pair: 20, burst: 4, settle: 10 } },
  oos: {
    ...CALM,
    oos: true,
    pools: [1, 1, 2, 2, 3, 5],
    half: 0.15,
    aimOos: 0.45,
    strange: 0.06,
    faults: ALL_FAULTS,
    actions: { ...COMMON, store: 80, settle: 10, pair: 4, burst: 1, fault: 4 },
  },
  reclaim: {
    ...CALM,
    tables: [10, 6, 4, 4],
    half: 0.2,
    actions: { ...COMMON, create: 16, shortage: 20, settle: 8, pair: 4, burst: 1 },
  },
  wild: {
    ...CALM,
    tangled: true,
    half: 0.25,
    odd: 0.04,
    large: 0.03,
    strange: 0.04,
    faults: ALL_FAULTS,
    actions: { ...COMMON, settle: 10, pair: 5, burst: 2, track: 8, fault: 12, shortage: 3 },
  },
  hostile: {
    ...CALM,
    oos: true,
    pools: [0, 1, 1, 2, 3],
    tables: [4, 3, 2, 2],
    tangled: true,
    half: 0.25,
    odd: 0.06,
    large: 0.03,
    strange: 0.05,
    aimOos: 0.3,
    farOffsets: 0.04,
    faults: ALL_FAULTS,
    actions: {
      ...COMMON,
      store: 60,
      settle: 10,
      pair: 6,
      burst: 1,
      track: 8,
      fault: 12,
      shortage: 8,
      failsafe: 3,
      restart: 1,
      reset: 2,
      address: 4,
    },
  },
};
