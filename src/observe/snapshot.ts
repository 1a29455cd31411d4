/**
 * What one vGPU's page tables are at one moment: the guest's side and the shadow's, of all tables, address spaces and the
 * GGTT. Everything the inspector shows is made of this.
 *
 * A snapshot is made by a {@link "./mirror.ts" | mirror}, which asks a device, and can be kept in a file
 * ({@link "./snapshot_file.ts" | snapshot file}). It is never changed: the next moment is another one.
 *
 * @module
 */

import { frameOf, type TableKind } from "../gtt/entry.ts";

export { GGTT_CHUNK } from "../inspect/snapshot_wire.ts";

/** One shadow table and the guest's page that it shadows. */
export interface TableView {
  /** Its number, of which no other table of the same device ever was; in the order in which observers saw them. */
  readonly serial: number;
  /** Guest frame of the table page; of a split 2 MiB page the page's first frame. */
  readonly gfn: number;
  /** What the guest page is read as. */
  readonly kind: TableKind;
  /** Entries that one guest entry stands for: 16 in a PTE table of 64 KiB pages. */
  readonly span: 1 | 16;
  /** Whether it stands for a 2 MiB page of the guest that is split; then there is no guest page. */
  readonly isSplit: boolean;
  /** Host frame of the shadow. */
  readonly mfn: number;
  /** References. */
  readonly refs: number;
  /** Trapped stores since it was last in sync; counted only where out-of-sync pages are enabled. */
  readonly writes: number;
  /** Whether the guest's stores to it are trapped. */
  readonly isTracked: boolean;
  /** Whether it may differ from the guest's page until it is synced or looked at. */
  readonly isOutOfSync: boolean;
  /** Whether it was compared since the last invalidation, where nothing traps; else it is. */
  readonly isLookedAt: boolean;
  /** Entries with half stores that wait for the flush. */
  readonly queued: readonly number[];
  /** The shadow: 1024 lanes, low lane of an entry first. */
  readonly shadow: Uint32Array;
  /** The guest's page at the same moment, as `shadow`; `null` for a split page or one that cannot be read. */
  readonly guest: Uint32Array | null;
  /**
   * The guest's page as the engine saw it last, where it may have changed since without a trap: what the shadow was made
   * of. `null` where every store traps, or nothing is known.
   */
  readonly seen: Uint32Array | null;
}

/** A PPGTT address space. */
export interface SpaceView {
  /** Its handle. */
  readonly id: number;
  /** Levels of its tables. */
  readonly level: 3 | 4;
  /** References. */
  readonly refs: number;
  /** Pins. */
  readonly pins: number;
  /** Whether the shadow exists. */
  readonly isShadowed: boolean;
  /** The guest's roots: 8 lanes. Level 4 uses the first root only. */
  readonly roots: Uint32Array;
  /** The shadow's roots: 8 lanes, 0 where there is none. */
  readonly shadowRoots: Uint32Array;
}

/** Part of guest RAM. */
export interface RamView {
  /** Guest physical address of the first byte. */
  readonly gpa: number;
  /** Size in bytes. */
  readonly size: number;
  /** Host frame of its first page. */
  readonly mfn: number;
  /** How its bytes are reached. */
  readonly kind: string;
  /** Whether the guest may not write. */
  readonly readonly: boolean;
}

/** Somebody's page track other than a shadow table's. */
export interface TrackView {
  /** Guest frame. */
  readonly gfn: number;
  /** The VMM's handle. */
  readonly track: number;
  /** Whether stores are told. */
  readonly isEnabled: boolean;
}

/** {@linkcode GGTT_CHUNK} entries of the GGTT, 1024 lanes a side. */
export interface GgttChunk {
  /** As the guest stored them. */
  readonly guest: Uint32Array;
  /** As the host's GGTT has them. */
  readonly host: Uint32Array;
}

/** A part of graphics memory that is the vGPU's. */
export interface WindowView {
  /** Which one. */
  readonly name: "aperture" | "hidden";
  /** First graphics address, bytes. */
  readonly base: number;
  /** Bytes. */
  readonly size: number;
}

/** What a snapshot consists of. */
export interface SnapshotParts {
  /** Number of the device's engine: serials and handles of another one mean something else. */
  readonly engine: number;
  /** How tables follow the guest's. */
  readonly tracking: "trapped" | "untracked";
  /** Whether pages of 64 KiB and 2 MiB are offered. */
  readonly hugePages: boolean;
  /** Whether the engine gave up on its guest: nothing is shadowed any more. */
  readonly failsafe: boolean;
  /** Stores to tables that the engine refused: what they left is as it was before. */
  readonly refusedStores: number;
  /** Events recorded by then, to replay as far as this; 0 if nothing is recorded. */
  readonly recordedEvents: number;
  /** Host frame of the device's scratch page, -1 if there is none. */
  readonly globalScratch: number;
  /** Host frames of the vGPU's scratch tables by kind; index 0 is unused, -1 for none. */
  readonly scratch: readonly number[];
  /** Tables by serial, ascending. */
  readonly tables: ReadonlyMap<number, TableView>;
  /** Address spaces in creation order. */
  readonly spaces: readonly SpaceView[];
  /** Handles of address spaces, the longest unused first. */
  readonly lru: readonly number[];
  /** Guest RAM by address. */
  readonly ram: readonly RamView[];
  /** Page tracks of the VMM. */
  readonly tracks: readonly TrackView[];
  /** The vGPU's windows. */
  readonly windows: readonly WindowView[];
  /** The GGTT, by chunk: entry `i` is in chunk `i / 512`. Chunks outside the windows are not there. */
  readonly ggtt: ReadonlyMap<number, GgttChunk>;
}

/** One moment of one vGPU. */
export class Snapshot {
  /** What it consists of. */
  readonly parts: SnapshotParts;
  readonly #byMfn = new Map<number, TableView>();

  /** @param parts What it consists of; kept, not copied. */
  constructor(parts: SnapshotParts) {
    this.parts = parts;
    for (const table of parts.tables.values()) this.#byMfn.set(table.mfn, table);
  }

  /**
   * The table whose shadow is in a host frame.
   *
   * @param mfn Host frame number.
   * @returns The table, or `undefined`.
   */
  tableAt(mfn: number): TableView | undefined {
    return this.#byMfn.get(mfn);
  }

  /**
   * The address space with this handle.
   *
   * @param id Handle.
   * @returns The address space, or `undefined`.
   */
  space(id: number): SpaceView | undefined {
    return this.parts.spaces.find((space) => space.id === id);
  }

  /**
   * The tables that the roots of an address space lead to.
   *
   * @param space One of this snapshot.
   * @returns Slot and table of each root that is shadowed.
   */
  rootTables({ level, shadowRoots }: SpaceView): [slot: number, table: TableView][] {
    const found: [number, TableView][] = [];
    for (let slot = 0; slot < (level === 4 ? 1 : 4); slot++) {
      const table = this.tableAt(frameOf(shadowRoots[2 * slot]!, shadowRoots[2 * slot + 1]!));
      if (table !== undefined) found.push([slot, table]);
    }
    return found;
  }

  /**
   * The host frame of a guest frame.
   *
   * @param gfn Guest frame number.
   * @returns Its host frame, or -1 if it is no RAM.
   */
  mfnOf(gfn: number): number {
    const region = this.#region(gfn);
    return region === undefined ? -1 : region.mfn + gfn - region.gpa / PAGE;
  }

  /**
   * The guest frame of a host frame.
   *
   * @param mfn Host frame number.
   * @returns Its guest frame, or -1 if no RAM has it.
   */
  gfnOf(mfn: number): number {
    const region = this.parts.ram.find((each) => mfn >= each.mfn && mfn < each.mfn + each.size / PAGE);
    return region === undefined ? -1 : region.gpa / PAGE + mfn - region.mfn;
  }

  /**
   * The name of a scratch page: `"S"` for the device's, `"sPTE"` to `"sPML4"` for the vGPU's.
   *
   * @param mfn Host frame number.
   * @returns The name, or `null` if it is none.
   */
  scratchName(mfn: number): string | null {
    if (mfn < 0) return null;
    if (mfn === this.parts.globalScratch) return "S";
    const kind = this.parts.scratch.indexOf(mfn, 1);
    return kind < 1 ? null : SCRATCH_NAMES[kind] ?? null;
  }

  #region(gfn: number): RamView | undefined {
    const gpa = gfn * PAGE;
    return this.parts.ram.find((each) => gpa >= each.gpa && gpa < each.gpa + each.size);
  }
}

const PAGE = 4096;
const SCRATCH_NAMES: readonly string[] = ["", "sPTE", "sPDE", "sPDP", "sPML4"];
