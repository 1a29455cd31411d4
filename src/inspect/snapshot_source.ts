/**
 * The device's side of snapshots: answers what has changed since an observer asked last, a bounded piece at a time, and
 * keeps nothing for anybody.
 *
 * Engines only mark the tables that they change; the GGTT is compared with what it was. A *round* is an observer's question
 * for everything newer than a moment that it knows, in as many answers as it takes. When one begins, whatever has changed
 * gets the *version* of that moment. What changes while it is under way is newer, and part of the next one; a round of one
 * answer says all there is at one moment: then the observer's copy is consistent.
 *
 * @module
 */

import { LANES } from "../gtt/entry.ts";
import { OK } from "../gtt/errno.ts";
import type { PageTrack } from "../gtt/page_track.ts";
import { BITMAP_WORDS, type ShadowTable } from "../gtt/shadow_table.ts";
import type { EngineParts, VgpuGtt } from "../gtt/vgpu_gtt.ts";
import { GgttWatch } from "./ggtt_watch.ts";
import {
  bytesOf,
  CHUNKS_PER_ANSWER,
  FIRST_TABLE_CURSOR,
  PAGES_PER_ANSWER,
  putRecord,
  RECHECKS_PER_ANSWER,
  RECORD_DWORDS,
  RECORDS_PER_BIN,
  SNAPSHOT_FORMAT,
  type SnapshotAnswer,
  type SnapshotLists,
  TABLE_FLAG,
  TRACK_DWORDS,
} from "./snapshot_wire.ts";

/** What a snapshot is taken of. */
export interface SnapshotSubject {
  /** The engine. */
  readonly gtt: VgpuGtt;
  /** Lanes of the host's GGTT. */
  readonly hostGgtt: Uint32Array;
  /** Guest RAM. */
  readonly ram: readonly { gpa: number; size: number; mfn: number; kind: string; readonly: boolean }[];
  /** The VMM's page tracks by handle. */
  readonly tracks: ReadonlyMap<number, PageTrack>;
  /** Events recorded so far. */
  readonly recordedEvents: number;
}

/**
 * Answers an observer's questions.
 *
 * @example A table that changes after the first round is all that the second one has
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice } from "../../mod.ts";
 * import { SnapshotSource } from "./snapshot_source.ts";
 *
 * using device = createDevice({ apertureSize: 1 << 20, hiddenSize: 1 << 20 }); // little for an answer to tell
 * device.mapRam({ gpa: 0, size: 0x10000 });
 * const { vgpu: { gtt }, host, ram } = device;
 * device.store(0x1000, Uint8Array.of(3, 0x20)); // a PDE table that leads to a PTE table
 * gtt.createMm(3, Uint32Array.of(0x1000, 0, 0, 0, 0, 0, 0, 0));
 * const source = new SnapshotSource();
 * const subject = { gtt, hostGgtt: host.ggtt.lanes, ram: ram.regions, tracks: new Map(), recordedEvents: 0 };
 * const first = source.answer(subject, 0, 0, false);
 * assertEquals(new Uint32Array(first.pages[0].slice().buffer), Uint32Array.of(1, 2));
 * device.store(0x2008, Uint8Array.of(3, 0x50)); // frame 5, in the PTE table
 * const second = source.answer(subject, first.now, 0, false);
 * assertEquals(second.pages[0].length, 4); // one serial
 * assertEquals(second.lists?.spaces.length, 1);
 * ```
 */
export class SnapshotSource {
  /** Number of the engine that was asked last. The engine itself is not kept: it may have gone long ago. */
  #engine = 0;
  /** Number of the last round that began. */
  #now = 0;
  #lastSerial = 0;
  #ggtt = new GgttWatch();
  /** What an answer is put together in, GGTT first; it is sent before the next one is made. */
  readonly #wanted: ShadowTable[] = [];
  readonly #shadow = new Uint32Array(PAGES_PER_ANSWER * LANES);
  readonly #guest = new Uint32Array(PAGES_PER_ANSWER * LANES);

  /**
   * Answers one question.
   *
   * @param subject What is looked at.
   * @param since The moment that the observer knows, 0 for none: `now` of the first answer of its last round.
   * @param after Where its round goes on, 0 at the beginning: `next` of the answer before.
   * @param recheck Whether tables that nobody traps count as changed if the guest's page is not as the engine knows it.
   * @returns What is newer, as far as one answer goes.
   */
  answer(subject: SnapshotSubject, since: number, after: number, recheck: boolean): SnapshotAnswer {
    const { gtt } = subject;
    // What changes while a round is under way is the next one's.
    if (after === 0 || gtt.parts.number !== this.#engine) this.#mark(gtt.parts);
    if (after === 0) this.#ggtt.look(gtt, subject.hostGgtt, this.#now);
    const chunks = after < FIRST_TABLE_CURSOR
      ? this.#ggtt.tell(gtt, subject.hostGgtt, {
        since,
        first: after,
        limit: CHUNKS_PER_ANSWER,
        now: this.#later,
      })
      : [];
    const from = Math.max(after - FIRST_TABLE_CURSOR, 0);
    // There may be more of them: tables come when there are none.
    const { tables, next } = chunks.length === CHUNKS_PER_ANSWER
      ? { tables: [], next: chunks.at(-1)! + 1 }
      : this.#newerTables(subject, since, from, PAGES_PER_ANSWER - chunks.length, recheck);
    return {
      format: SNAPSHOT_FORMAT,
      engine: this.#engine,
      now: this.#now,
      next,
      ggtt: this.#chunkPages(subject, chunks),
      ...this.#tablePages(subject, tables, chunks.length),
      lists: after === 0 && next === null ? this.#lists(subject) : null,
    };
  }

  /** A moment after all rounds that have begun: what gets this version is told to each of their observers once more. */
  get #later(): number {
    return this.#now + 1;
  }

  /** Gives all that has changed the version of this moment. */
  #mark(parts: EngineParts): void {
    if (parts.number !== this.#engine) {
      this.#engine = parts.number;
      this.#ggtt = new GgttWatch();
    }
    const now = ++this.#now;
    parts.tables.forEach((table) => {
      if (!table.isChanged) return;
      if (table.serial === 0) table.serial = ++this.#lastSerial;
      table.version = now;
      table.isChanged = false;
    });
  }

  #newerTables(
    { gtt }: SnapshotSubject,
    since: number,
    after: number,
    room: number,
    recheck: boolean,
  ): { tables: ShadowTable[]; next: number | null } {
    const { tables, oos: { outOfSync } } = gtt.parts;
    const wanted = this.#wanted;
    let isSorted = true;
    tables.forEach((table) => {
      if (table.serial <= after) return;
      if (table.version <= since && !(recheck && (table.wasToldAhead || outOfSync.has(table)))) return;
      isSorted &&= wanted.length === 0 || table.serial > wanted.at(-1)!.serial;
      wanted.push(table);
    });
    // The lowest serials come first, whatever order the tables are in; mostly it is that of their serials.
    if (!isSorted) wanted.sort((a, b) => a.serial - b.serial);
    const count = Math.min(wanted.length, recheck ? RECHECKS_PER_ANSWER : room);
    const newer: ShadowTable[] = [];
    let at = 0;
    while (at < count && newer.length < room) {
      const table = wanted[at++]!;
      const isBehind = outOfSync.has(table) && !isAsKnown(gtt, table);
      if (table.version > since || isBehind || table.wasToldAhead) newer.push(table);
    }
    const next = at < wanted.length ? wanted[at - 1]!.serial + FIRST_TABLE_CURSOR : null;
    wanted.length = 0;
    return { tables: newer, next };
  }

  #chunkPages({ gtt, hostGgtt }: SnapshotSubject, chunks: number[]): SnapshotAnswer["ggtt"] {
    const { entries } = gtt.parts.ggtt;
    const guest = this.#guest.subarray(0, chunks.length * LANES);
    const host = this.#shadow.subarray(0, chunks.length * LANES);
    chunks.forEach((chunk, at) => {
      guest.set(entries.subarray(chunk * LANES, (chunk + 1) * LANES), at * LANES);
      host.set(hostGgtt.subarray(chunk * LANES, (chunk + 1) * LANES), at * LANES);
    });
    return [bytesOf(Uint32Array.from(chunks)), bytesOf(guest), bytesOf(host)];
  }

  #lists({ gtt, ram, tracks, recordedEvents }: SnapshotSubject): SnapshotLists {
    const { tables, mms, scratch } = gtt.parts;
    const { apertureBase, apertureSize, hiddenBase, hiddenSize } = gtt.gm.layout;
    return {
      tables: this.#records(gtt, tables.size),
      spaces: [...mms.all()].map((
        { id, level, refs, pins, shadowed, roots, shadowRoots },
      ) => [id, level, refs, pins, shadowed, bytesOf(roots).slice(), bytesOf(shadowRoots).slice()]),
      lru: [...gtt.gvt.lru].filter((mm) => mms.get(mm.id) === mm).map((mm) => mm.id),
      ram: ram.map(({ gpa, size, mfn, kind, readonly }) => [gpa, size, mfn, kind, readonly]),
      tracks: trackRecords(tracks),
      scratch: [gtt.gvt.globalScratch, ...scratch.mfn.slice(1)],
      windows: [apertureBase, apertureSize, hiddenBase, hiddenSize],
      tracking: gtt.gvt.tracking,
      hugePages: gtt.gvt.hugePages,
      failsafe: gtt.failsafe,
      refusedStores: gtt.counters.badTrappedStores,
      recordedEvents,
    };
  }

  #records(gtt: VgpuGtt, count: number): Uint8Array[] {
    const { tables, oos: { outOfSync }, trees } = gtt.parts;
    const records = new Uint32Array(count * RECORD_DWORDS);
    let at = 0;
    tables.forEach((table) => {
      const isLookedAt = trees === null || table.isSplit || table.syncedIn === trees.epoch;
      const flags = (table.enabled ? TABLE_FLAG.tracked : 0) |
        (outOfSync.has(table) ? TABLE_FLAG.outOfSync : 0) |
        (isLookedAt ? TABLE_FLAG.lookedAt : 0) | (table.isSplit ? TABLE_FLAG.split : 0) |
        (table.span === 16 ? TABLE_FLAG.pages64k : 0);
      putRecord(records, at, table, flags);
      at += RECORD_DWORDS;
    });
    const bytes = bytesOf(records);
    const size = 4 * RECORD_DWORDS * RECORDS_PER_BIN;
    const bins: Uint8Array[] = [];
    for (let from = 0; from < bytes.length; from += size) bins.push(bytes.subarray(from, from + size));
    return bins;
  }

  #tablePages(
    { gtt }: SnapshotSubject,
    tables: readonly ShadowTable[],
    used: number,
  ): Pick<SnapshotAnswer, "pages" | "queued" | "unreadable" | "kept" | "seen"> {
    const { outOfSync } = gtt.parts.oos;
    const shadow = this.#shadow.subarray(used * LANES, (used + tables.length) * LANES);
    const guest = this.#guest.subarray(used * LANES, (used + tables.length) * LANES);
    const unreadable: number[] = [];
    const kept: number[] = [];
    const moved: ShadowTable[] = [];
    tables.forEach((table, index) => {
      const page = guest.subarray(index * LANES, (index + 1) * LANES);
      shadow.set(table.lanes, index * LANES);
      if (table.isSplit || gtt.host.readPage(table.gfn, page) !== OK) {
        page.fill(0);
        unreadable.push(table.serial);
      }
      const { snapshot } = table;
      // Whatever is told now, those who were told of a page that the engine had not seen are to hear it as well.
      if (table.wasToldAhead) table.version = this.#later;
      table.wasToldAhead = false;
      if (snapshot === null || !outOfSync.has(table)) return;
      kept.push(table.serial);
      if (isSame(snapshot, page)) return;
      moved.push(table);
      table.wasToldAhead = true;
    });
    const waiting = tables.filter((table) => gtt.parts.post.listed.has(table));
    const queued = new Uint32Array(waiting.length * BITMAP_WORDS);
    waiting.forEach((table, index) => queued.set(table.queued!, index * BITMAP_WORDS));
    const seen = new Uint32Array(moved.length * LANES);
    moved.forEach(({ snapshot }, index) => seen.set(snapshot!, index * LANES));
    return {
      pages: [serialsOf(tables), bytesOf(shadow), bytesOf(guest)],
      queued: [serialsOf(waiting), bytesOf(queued)],
      unreadable,
      kept,
      seen: [serialsOf(moved), bytesOf(seen)],
    };
  }
}

function trackRecords(tracks: SnapshotSubject["tracks"]): Uint8Array {
  const records = new Uint32Array(tracks.size * TRACK_DWORDS);
  let at = 0;
  tracks.forEach(({ gfn, enabled, registered }, handle) => {
    if (!registered) return;
    records[at] = gfn;
    records[at + 1] = gfn / LANE;
    records[at + 2] = handle;
    records[at + 3] = enabled ? 1 : 0;
    at += TRACK_DWORDS;
  });
  return bytesOf(records.subarray(0, at));
}

const LANE = 2 ** 32;

function serialsOf(tables: readonly ShadowTable[]): Uint8Array {
  return bytesOf(Uint32Array.from(tables, ({ serial }) => serial));
}

function isSame(page: Uint32Array, other: Uint32Array): boolean {
  for (let lane = 0; lane < LANES; lane++) if (page[lane] !== other[lane]) return false;
  return true;
}

/** Whether the guest's page of a table is as it was when the engine saw it last. */
function isAsKnown(gtt: VgpuGtt, { copy, gfn }: ShadowTable): boolean {
  return copy !== null && gtt.host.holdsPage(gfn, copy);
}
