/**
 * How a snapshot travels (`protocol/README.md` §4.1): what the device's side and the observer's side of it agree on.
 *
 * @module
 */

import { ENTRIES, type TableKind } from "../gtt/entry.ts";
import type { ShadowTable } from "../gtt/shadow_table.ts";

/** What {@linkcode SnapshotAnswer} is in this version. */
export const SNAPSHOT_FORMAT = 1;

/** Entries of the GGTT that are kept and told together: those of one table page. */
export const GGTT_CHUNK = ENTRIES;

/** Pages of each side that one answer carries at most: they keep the device from its guest for a millisecond or two. */
export const PAGES_PER_ANSWER = 64;

/** Chunks of the GGTT among them: they are copied to be compared later, into memory that is new the first time. */
export const CHUNKS_PER_ANSWER = 16;

/** Tables that are compared with the guest's pages for one answer, where it is asked to: as long as that takes. */
export const RECHECKS_PER_ANSWER = 2048;

/** Dwords of a table's record. */
export const RECORD_DWORDS = 8;

/** Dwords of a page track. */
export const TRACK_DWORDS = 4;

/** Table records of one `bin`: it may have 2 MiB. */
export const RECORDS_PER_BIN = 65536;

/** Cursors below this are chunks of the GGTT, the others tables, by their serial. */
export const FIRST_TABLE_CURSOR = 65536;

/** What a table's record says about its state. */
export const TABLE_FLAG = {
  /** The guest's stores to it are trapped. */
  tracked: 1,
  /** It may differ from the guest's page. */
  outOfSync: 2,
  /** It was compared since the last invalidation, or never has to be. */
  lookedAt: 4,
  /** It stands for a 2 MiB page that is split. */
  split: 8,
  /** It is one of 64 KiB pages. */
  pages64k: 16,
} as const;

/** A table as its record tells it. */
export interface TableRecord {
  /** Its number among all that observers saw. */
  readonly serial: number;
  /** Which of its states. */
  readonly version: number;
  /** Guest frame. */
  readonly gfn: number;
  /** Host frame. */
  readonly mfn: number;
  /** What the guest page is read as. */
  readonly kind: TableKind;
  /** Bits of {@linkcode TABLE_FLAG}. */
  readonly flags: number;
  /** References. */
  readonly refs: number;
  /** Trapped stores since it was in sync. */
  readonly writes: number;
}

/** The lists that the answer of a round of one has. */
export interface SnapshotLists {
  /** Records of all tables. */
  tables: Uint8Array[];
  /** Address spaces: handle, level, references, pins, whether shadowed, guest roots, shadow roots. */
  spaces: [number, number, number, number, boolean, Uint8Array, Uint8Array][];
  /** Handles, the longest unused first. */
  lru: number[];
  /** Guest RAM: address, size, first host frame, kind, whether read-only. */
  ram: [number, number, number, string, boolean][];
  /** Page tracks of the VMM, {@linkcode TRACK_DWORDS} each: frame, its high half, handle, whether enabled. */
  tracks: Uint8Array;
  /** Host frames of scratch tables by kind, -1 for none; that of the device's scratch page at 0. */
  scratch: number[];
  /** The vGPU's windows: address and size of the aperture part, of the hidden part. */
  windows: [number, number, number, number];
  /** See `SnapshotParts`, as what follows. */
  tracking: "trapped" | "untracked";
  hugePages: boolean;
  failsafe: boolean;
  refusedStores: number;
  recordedEvents: number;
}

/** One answer. */
export interface SnapshotAnswer {
  /** {@linkcode SNAPSHOT_FORMAT} of the device. */
  format: number;
  /** Number of the engine. */
  engine: number;
  /** The moment: what changes later is newer. */
  now: number;
  /** Where the round goes on; `null` if it is done. */
  next: number | null;
  /** Chunks of the GGTT: numbers, guest entries, host entries. */
  ggtt: [Uint8Array, Uint8Array, Uint8Array];
  /** Tables: serials, shadows, guest pages. */
  pages: [Uint8Array, Uint8Array, Uint8Array];
  /** Of those with entries that wait for the flush: serials, a bitmap of 512 bits each. */
  queued: [Uint8Array, Uint8Array];
  /** Serials of those without a guest page that can be read. */
  unreadable: number[];
  /** Serials of those that have a page as the engine saw it last. */
  kept: number[];
  /** Those of `kept` where that is another page than the guest's of now: serials, pages. */
  seen: [Uint8Array, Uint8Array];
  /** Everything else, where the round has one answer. */
  lists: SnapshotLists | null;
}

/**
 * Writes a record; allocates nothing.
 *
 * @param into Where to.
 * @param at First dword.
 * @param table Which table.
 * @param flags Bits of {@linkcode TABLE_FLAG}.
 */
export function putRecord(into: Uint32Array, at: number, table: ShadowTable, flags: number): void {
  const { gfn, page: { mfn } } = table;
  into[at] = table.serial;
  into[at + 1] = table.version;
  into[at + 2] = gfn;
  into[at + 3] = mfn;
  into[at + 4] = Math.floor(gfn / LANE) | Math.floor(mfn / LANE) << 8 | table.kind << 16 | flags << 20;
  into[at + 5] = table.refs;
  into[at + 6] = table.writeCount;
}

/** Reads a record. */
export function recordAt(from: Uint32Array, at: number): TableRecord {
  const packed = from[at + 4]!;
  return {
    serial: from[at]!,
    version: from[at + 1]!,
    gfn: from[at + 2]! + (packed & 0xff) * LANE,
    mfn: from[at + 3]! + (packed >>> 8 & 0xff) * LANE,
    kind: (packed >>> 16 & 7) as TableKind,
    flags: packed >>> 20,
    refs: from[at + 5]!,
    writes: from[at + 6]!,
  };
}

/** Lanes as the bytes that they are. */
export function bytesOf(lanes: Uint32Array): Uint8Array {
  return new Uint8Array(lanes.buffer, lanes.byteOffset, lanes.byteLength);
}

/** Bytes as lanes; copied, for they may begin anywhere. */
export function lanesOf(bytes: Uint8Array): Uint32Array {
  return new Uint32Array(bytes.slice().buffer);
}

const LANE = 2 ** 32;
