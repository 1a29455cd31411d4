/**
 * Snapshots for the inspector's tests and examples: of a device in this process, and drawn by hand.
 *
 * @module
 */

import { ENTRIES, LANES, type TableKind } from "../../src/gtt/entry.ts";
import {
  GGTT_CHUNK,
  type GgttChunk,
  Snapshot,
  type SnapshotParts,
  type SpaceView,
  type TableView,
} from "../../src/observe/snapshot.ts";
import type { GttHost } from "../../src/gtt/host.ts";
import type { VgpuGtt } from "../../src/gtt/vgpu_gtt.ts";
import type { Device } from "../../src/vgpu/device.ts";
import type { ShadowTable } from "../../src/gtt/shadow_table.ts";

const PAGE = 4096;
/** Frames that may be RAM of an engine whose RAM is not told. */
const FRAMES = 0x2000;

/** The snapshot of a device in this process, straight from its engine. */
export function snapshotOf({ vgpu: { gtt }, host, ram }: Device): Snapshot {
  return snapshotOfEngine(gtt, ram.regions, host.ggtt.lanes);
}

/** The snapshot of an engine; without the RAM that it has, all that its host can translate below 32 MiB. */
export function snapshotOfEngine(
  gtt: VgpuGtt,
  regions: Device["ram"]["regions"] | null = null,
  hostGgtt: Uint32Array = new Uint32Array(gtt.parts.ggtt.entries.length),
): Snapshot {
  const { gvt } = gtt;
  const { tables, mms, post, scratch, oos, trees, ggtt } = gtt.parts;
  const views = new Map<number, TableView>();
  let serial = 0;
  for (const table of tables.all()) {
    views.set(++serial, {
      serial,
      gfn: table.gfn,
      kind: table.kind,
      span: table.span,
      isSplit: table.isSplit,
      mfn: table.page.mfn,
      refs: table.refs,
      writes: table.writeCount,
      isTracked: table.enabled,
      isOutOfSync: oos.outOfSync.has(table),
      isLookedAt: trees === null || table.isSplit || table.syncedIn === trees.epoch,
      queued: post.listed.has(table) ? table.queuedIndices() : [],
      shadow: table.lanes.slice(),
      guest: guestPage(table),
      seen: oos.outOfSync.has(table) ? table.snapshot!.slice() : null,
    });
  }
  function guestPage(table: ShadowTable): Uint32Array | null {
    const page = new Uint32Array(LANES);
    return !table.isSplit && gtt.host.readPage(table.gfn, page) === 0 ? page : null;
  }
  const { apertureBase, apertureSize, hiddenBase, hiddenSize } = gtt.gm.layout;
  const windows = [
    { name: "aperture", base: apertureBase, size: apertureSize },
    { name: "hidden", base: hiddenBase, size: hiddenSize },
  ] as const;
  const chunks = new Map<number, GgttChunk>();
  for (const { base, size } of windows) {
    for (
      let chunk = Math.floor(base / PAGE / GGTT_CHUNK);
      chunk < (base + size) / PAGE / GGTT_CHUNK;
      chunk++
    ) {
      const [from, to] = [chunk * LANES, (chunk + 1) * LANES];
      chunks.set(chunk, { guest: ggtt.entries.slice(from, to), host: hostGgtt.slice(from, to) });
    }
  }
  return new Snapshot({
    engine: 1,
    tracking: gvt.tracking,
    hugePages: gvt.hugePages,
    failsafe: gtt.failsafe,
    refusedStores: gtt.counters.badTrappedStores,
    recordedEvents: 0,
    globalScratch: gvt.globalScratch,
    scratch: scratch.mfn.slice(),
    tables: views,
    spaces: [...mms.all()].map(({ id, level, refs, pins, shadowed, roots, shadowRoots }) => {
      const copies = { roots: roots.slice(), shadowRoots: shadowRoots.slice() };
      return { id, level, refs, pins, isShadowed: shadowed, ...copies };
    }),
    lru: [...gvt.lru].map(({ id }) => id),
    ram: regions?.map((each) => ({ ...each })) ?? goodRam(gtt.host),
    tracks: [],
    windows,
    ggtt: chunks,
  });
}

/** The frames of RAM that can be translated, as runs. */
function goodRam(host: GttHost): SnapshotParts["ram"] {
  const found: { gpa: number; size: number; mfn: number; kind: string; readonly: boolean }[] = [];
  for (let gfn = 0; gfn < FRAMES; gfn++) {
    if (!host.isValidGfn(gfn)) continue;
    const mfn = host.gfnToMfn(gfn);
    const last = found.at(-1);
    const isNext = last !== undefined && last.gpa + last.size === gfn * PAGE &&
      last.mfn + last.size / PAGE === mfn;
    if (isNext) last.size += PAGE;
    else if (mfn >= 0) found.push({ gpa: gfn * PAGE, size: PAGE, mfn, kind: "local", readonly: false });
  }
  return found;
}

/** Entries by index, each 64 bits. */
export type Entries = Readonly<Record<number, bigint | number>>;

/** A table as it is drawn. */
export interface SketchTable extends Partial<Omit<TableView, "shadow" | "guest">> {
  /** Kind. */
  readonly kind: TableKind;
  /** Guest frame. */
  readonly gfn: number;
  /** Host frame of the shadow. */
  readonly mfn: number;
  /** Entries of the guest's page; `null` for none. */
  readonly guest?: Entries | null;
  /** Entries of the shadow. */
  readonly shadow?: Entries;
}

/** An address space as it is drawn. */
export interface SketchSpace extends Partial<Omit<SpaceView, "roots" | "shadowRoots">> {
  /** The guest's roots. */
  readonly roots: readonly (bigint | number)[];
  /** The shadow's. */
  readonly shadowRoots?: readonly (bigint | number)[];
}

/** What a drawing differs in from an empty device with 16 MiB of RAM at host frame 0x100000. */
export interface Sketch extends Partial<Omit<SnapshotParts, "tables" | "spaces" | "ggtt">> {
  /** Tables. */
  readonly tables?: readonly SketchTable[];
  /** Address spaces. */
  readonly spaces?: readonly SketchSpace[];
  /** GGTT entries: guest, host. */
  readonly ggtt?: Readonly<Record<number, readonly [guest: bigint | number, host: bigint | number]>>;
}

/** Host frame of the device's scratch page in a drawing. */
export const SCRATCH = 0xff00;
/** Host frames of scratch tables in a drawing, by kind. */
export const SCRATCH_TABLES = [-1, 0xff01, 0xff02, 0xff03, 0xff04] as const;

/** A snapshot drawn by hand. */
export function sketch({ tables = [], spaces = [], ggtt = {}, ...parts }: Sketch): Snapshot {
  return new Snapshot({
    engine: 1,
    tracking: "trapped",
    hugePages: false,
    failsafe: false,
    refusedStores: 0,
    recordedEvents: 0,
    globalScratch: SCRATCH,
    scratch: SCRATCH_TABLES,
    lru: [],
    ram: [{ gpa: 0, size: 0x1000000, mfn: 0x100000, kind: "local", readonly: false }],
    tracks: [],
    windows: [
      { name: "aperture", base: 0x400000, size: 0x200000 },
      { name: "hidden", base: 0x800000, size: 0x200000 },
    ],
    ...parts,
    tables: new Map(tables.map((table, i) => [table.serial ?? i + 1, tableView(table, i + 1)])),
    spaces: spaces.map((space, i) => spaceView(space, i)),
    ggtt: chunksOf(ggtt),
  });
}

function tableView({ guest = {}, shadow = {}, ...table }: SketchTable, serial: number): TableView {
  return {
    serial,
    span: 1,
    isSplit: false,
    refs: 1,
    writes: 0,
    isTracked: true,
    isOutOfSync: false,
    isLookedAt: true,
    queued: [],
    seen: null,
    ...table,
    guest: guest === null ? null : lanesOf(guest, ENTRIES),
    shadow: lanesOf(shadow, ENTRIES),
  };
}

function spaceView({ roots, shadowRoots = [], ...space }: SketchSpace, id: number): SpaceView {
  const lanes = (values: readonly (bigint | number)[]) => lanesOf(Object.fromEntries(values.entries()), 4);
  return {
    id,
    level: 4,
    refs: 1,
    pins: 0,
    isShadowed: true,
    ...space,
    roots: lanes(roots),
    shadowRoots: lanes(shadowRoots),
  };
}

function lanesOf(entries: Entries, count: number): Uint32Array {
  const values = new BigUint64Array(count);
  for (const [index, entry] of Object.entries(entries)) values[Number(index)] = BigInt(entry);
  return new Uint32Array(values.buffer);
}

/** The chunks of a drawing's windows, where what the guest never stored leads to scratch. */
function chunksOf(entries: NonNullable<Sketch["ggtt"]>): Map<number, GgttChunk> {
  const chunks = new Map<number, GgttChunk>();
  for (const chunk of [2, 4]) {
    const guest = new BigUint64Array(GGTT_CHUNK);
    const host = new BigUint64Array(GGTT_CHUNK).fill(BigInt(SCRATCH * PAGE + 1));
    for (const [index, [one, other]] of Object.entries(entries)) {
      if (Math.floor(Number(index) / GGTT_CHUNK) !== chunk) continue;
      guest[Number(index) % GGTT_CHUNK] = BigInt(one);
      host[Number(index) % GGTT_CHUNK] = BigInt(other);
    }
    chunks.set(chunk, { guest: new Uint32Array(guest.buffer), host: new Uint32Array(host.buffer) });
  }
  return chunks;
}
