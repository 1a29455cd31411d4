/**
 * An observer's copy of a device's page tables: asks what has changed since it asked last, until it knows one moment as a
 * whole.
 *
 * @module
 */

import { ENTRIES, LANES } from "../gtt/entry.ts";
import {
  type GgttChunk,
  Snapshot,
  type SpaceView,
  type TableView,
  type TrackView,
  type WindowView,
} from "./snapshot.ts";
import {
  lanesOf,
  RECORD_DWORDS,
  recordAt,
  SNAPSHOT_FORMAT,
  type SnapshotAnswer,
  type SnapshotLists,
  TABLE_FLAG,
  type TableRecord,
  TRACK_DWORDS,
} from "../inspect/snapshot_wire.ts";

/** Rounds after which a guest is too fast: each is shorter than the one before, unless it changes everything all the time. */
const MAX_ROUNDS = 50;

/** Whoever can be asked: a connection to a device, in any role. */
export interface SnapshotPeer {
  /** Calls the method. */
  call(
    method: "snapshot",
    since: number,
    after: number,
    recheck: boolean,
  ): Promise<Readonly<Record<string, unknown>>>;
}

/** The two sides of a table. */
interface Pages {
  readonly shadow: Uint32Array;
  readonly guest: Uint32Array | null;
  readonly seen: Uint32Array | null;
  readonly queued: readonly number[];
}

/** The device answers in another format than this one: it is of another version. */
export class FormatError extends Error {
  /** Always `"FormatError"`. */
  override readonly name = "FormatError";
}

/** The guest changes its tables faster than an observer can look. */
export class TooFastError extends Error {
  /** Always `"TooFastError"`. */
  override readonly name = "TooFastError";
}

/**
 * A copy of the page tables of a device.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice } from "../../mod.ts";
 * import { Mirror } from "./mirror.ts";
 * import { SnapshotSource } from "../inspect/snapshot_source.ts";
 *
 * using device = createDevice();
 * device.mapRam({ gpa: 0, size: 0x10000 });
 * device.store(0x1000, Uint8Array.of(3, 0x50)); // frame 5, in a PTE table
 * device.vgpu.gtt.parts.tables.obtain(1, 1);
 * const { vgpu: { gtt }, host, ram } = device;
 * const subject = { gtt, hostGgtt: host.ggtt.lanes, ram: ram.regions, tracks: new Map(), recordedEvents: 0 };
 * const source = new SnapshotSource();
 * // What a connection does, without a socket between:
 * const mirror = new Mirror({
 *   call: (_name, since, after, recheck) => Promise.resolve({ ...source.answer(subject, since, after, recheck) }),
 * });
 * const [table] = (await mirror.take()).parts.tables.values();
 * assertEquals([table?.gfn, table?.guest?.[0], table?.shadow[0]], [1, 0x5003, 0x100005003 % 2 ** 32]);
 * device.store(0x1000, Uint8Array.of(3, 0x60));
 * await mirror.take();
 * assertEquals([...mirror.changed], [[1, 1]]); // one entry of table 1
 * ```
 */
export class Mirror {
  readonly #peer: SnapshotPeer;
  #engine = -1;
  #since = 0;
  readonly #pages = new Map<number, Pages>();
  readonly #ggtt = new Map<number, GgttChunk>();
  #changed = new Map<number, number>();

  /** @param peer A connection, usually an observer's. */
  constructor(peer: SnapshotPeer) {
    this.#peer = peer;
  }

  /**
   * How many entries of each table, of either side, changed between the last two snapshots.
   *
   * @returns Entries by serial; tables that are new are not there.
   */
  get changed(): ReadonlyMap<number, number> {
    return this.#changed;
  }

  /**
   * Takes a snapshot. What the engine did is consistent in it; where the guest's stores do not trap, its pages are read one
   * after another while its CPU goes on.
   *
   * @returns One moment during this call.
   * @throws {FormatError} If the device is of another version.
   * @throws {TooFastError} If the guest changes more tables between two questions than an answer has, for long.
   * @throws {ConnectionError} If the device is lost.
   */
  async take(): Promise<Snapshot> {
    this.#changed = new Map();
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const answer = await this.#round(round === 0);
      if (answer !== null) return this.#snapshot(answer.engine, answer.lists!);
    }
    throw new TooFastError(
      `The guest changes its tables faster than they can be looked at: ${MAX_ROUNDS} looks`,
    );
  }

  /** Asks for all that is newer. @returns The answer, if it was a single one. */
  async #round(recheck: boolean): Promise<SnapshotAnswer | null> {
    let first: number | null = null;
    let after = 0;
    for (let answers = 1;; answers++) {
      const answer = await this.#ask(after, recheck);
      if (answer.engine !== this.#engine) {
        this.#forget(answer.engine);
        if (answers > 1 || this.#since > 0) {
          this.#since = 0;
          return null;
        }
      }
      first ??= answer.now;
      this.#keep(answer);
      if (answer.next === null) {
        this.#since = first;
        return answers === 1 ? answer : null;
      }
      after = answer.next;
    }
  }

  async #ask(after: number, recheck: boolean): Promise<SnapshotAnswer> {
    const answer = await this.#peer.call("snapshot", this.#since, after, recheck);
    const { format } = answer;
    if (format === SNAPSHOT_FORMAT) return answer as unknown as SnapshotAnswer;
    throw new FormatError(
      `The device answers snapshots in format ${format}, this program knows ${SNAPSHOT_FORMAT}: take both of one version`,
    );
  }

  /** Another engine: nothing of what was known is true any more. */
  #forget(engine: number): void {
    this.#engine = engine;
    this.#pages.clear();
    this.#ggtt.clear();
    this.#changed.clear();
  }

  #keep({ ggtt, pages, queued, unreadable, kept, seen }: SnapshotAnswer): void {
    const [numbers, guests, hosts] = ggtt.map(lanesOf) as [Uint32Array, Uint32Array, Uint32Array];
    numbers.forEach((chunk, index) => {
      this.#ggtt.set(chunk, { guest: pageAt(guests, index), host: pageAt(hosts, index) });
    });
    const [serials, shadows, guestPages] = pages.map(lanesOf) as [Uint32Array, Uint32Array, Uint32Array];
    const dark = new Set(unreadable);
    const known = new Set(kept);
    const moved = pagesOf(seen);
    const waiting = queuesOf(queued);
    serials.forEach((serial, index) => {
      const before = this.#pages.get(serial);
      const guest = dark.has(serial) ? null : pageAt(guestPages, index);
      const shadow = pageAt(shadows, index);
      const now = {
        shadow,
        guest,
        seen: known.has(serial) ? moved.get(serial) ?? guest : null,
        queued: waiting.get(serial) ?? [],
      };
      this.#pages.set(serial, now);
      if (before === undefined) return;
      const count = (this.#changed.get(serial) ?? 0) + changedEntries(before, now);
      if (count > 0) this.#changed.set(serial, count);
    });
  }

  #snapshot(engine: number, lists: SnapshotLists): Snapshot {
    const records = lists.tables.flatMap(recordsOf).sort((a, b) => a.serial - b.serial);
    const tables = new Map<number, TableView>();
    for (const record of records) {
      tables.set(
        record.serial,
        tableView(record, this.#pages.get(record.serial)!),
      );
    }
    for (const serial of this.#pages.keys()) if (!tables.has(serial)) this.#pages.delete(serial);
    const [globalScratch = -1, ...scratch] = lists.scratch;
    const { tracking, hugePages, failsafe, refusedStores, recordedEvents, lru } = lists;
    return new Snapshot({
      engine,
      tracking,
      hugePages,
      failsafe,
      refusedStores,
      recordedEvents,
      globalScratch,
      scratch: [-1, ...scratch],
      tables,
      spaces: lists.spaces.map(spaceView),
      lru,
      ram: lists.ram.map(([gpa, size, mfn, kind, readonly]) => ({ gpa, size, mfn, kind, readonly })),
      tracks: trackViews(lists.tracks),
      windows: windowViews(lists.windows),
      ggtt: new Map([...this.#ggtt].sort(([a], [b]) => a - b)),
    });
  }
}

function recordsOf(bytes: Uint8Array): TableRecord[] {
  const lanes = lanesOf(bytes);
  const records: TableRecord[] = [];
  for (let at = 0; at < lanes.length; at += RECORD_DWORDS) records.push(recordAt(lanes, at));
  return records;
}

function tableView(
  record: TableRecord,
  { shadow, guest, seen, queued }: Pages,
): TableView {
  const { serial, gfn, kind, mfn, refs, writes, flags } = record;
  return {
    serial,
    gfn,
    kind,
    span: (flags & TABLE_FLAG.pages64k) !== 0 ? 16 : 1,
    isSplit: (flags & TABLE_FLAG.split) !== 0,
    mfn,
    refs,
    writes,
    isTracked: (flags & TABLE_FLAG.tracked) !== 0,
    isOutOfSync: (flags & TABLE_FLAG.outOfSync) !== 0,
    isLookedAt: (flags & TABLE_FLAG.lookedAt) !== 0,
    queued,
    shadow,
    guest,
    seen,
  };
}

function spaceView(
  [id, level, refs, pins, isShadowed, roots, shadowRoots]: SnapshotLists["spaces"][0],
): SpaceView {
  return {
    id,
    level: level as 3 | 4,
    refs,
    pins,
    isShadowed,
    roots: lanesOf(roots),
    shadowRoots: lanesOf(shadowRoots),
  };
}

function windowViews(
  [apertureBase, apertureSize, hiddenBase, hiddenSize]: SnapshotLists["windows"],
): WindowView[] {
  return [
    { name: "aperture", base: apertureBase, size: apertureSize },
    { name: "hidden", base: hiddenBase, size: hiddenSize },
  ];
}

function trackViews(bytes: Uint8Array): TrackView[] {
  const lanes = lanesOf(bytes);
  const views: TrackView[] = [];
  for (let at = 0; at < lanes.length; at += TRACK_DWORDS) {
    views.push({
      gfn: lanes[at]! + lanes[at + 1]! * 2 ** 32,
      track: lanes[at + 2]!,
      isEnabled: lanes[at + 3] === 1,
    });
  }
  return views;
}

/** Entries that wait, by serial. */
function queuesOf([serials, bitmaps]: SnapshotAnswer["queued"]): Map<number, readonly number[]> {
  const lanes = lanesOf(bitmaps);
  const isSet = (table: number, index: number) =>
    (lanes[table * (ENTRIES / 32) + (index >>> 5)]! & 1 << (index & 31)) !== 0;
  const indices = Array.from({ length: ENTRIES }, (_, index) => index);
  return new Map([...lanesOf(serials)].map((serial, table) => [
    serial,
    indices.filter((index) => isSet(table, index)),
  ]));
}

/** Pages by serial. */
function pagesOf([serials, pages]: SnapshotAnswer["seen"]): Map<number, Uint32Array> {
  const lanes = lanesOf(pages);
  return new Map([...lanesOf(serials)].map((serial, index) => [serial, pageAt(lanes, index)]));
}

/** One page of several. */
function pageAt(lanes: Uint32Array, index: number): Uint32Array {
  return lanes.slice(index * LANES, (index + 1) * LANES);
}

function changedEntries(before: Pages, now: Pages): number {
  let count = 0;
  for (let index = 0; index < ENTRIES; index++) {
    if (differs(before.shadow, now.shadow, index) || differs(before.guest, now.guest, index)) count++;
  }
  return count;
}

function differs(before: Uint32Array | null, now: Uint32Array | null, index: number): boolean {
  if (before === null || now === null) return before !== now;
  return before[2 * index] !== now[2 * index] || before[2 * index + 1] !== now[2 * index + 1];
}
