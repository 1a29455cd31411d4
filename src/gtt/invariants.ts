/**
 * What must hold in an engine after every operation. Tests call it after each step; a failure is a bug of
 * ours, whatever the guest did.
 *
 * @module
 */

import {
  childKind,
  ENTRIES,
  frameOf,
  FRAMES_64K,
  IPS,
  isLarge,
  kindName,
  LARGE_FRAMES,
  largeFrameOf,
  PDE,
  PRESENT,
  PTE,
  type TableKind,
  withFrameHi,
  withFrameLo,
  withLargeFrameLo,
} from "./entry.ts";
import { splitEntryLo } from "./large_page.ts";
import { MAX_PPGTT_MMS } from "./mm.ts";
import { ShadowTable } from "./shadow_table.ts";
import { MAX_SHADOW_TABLES } from "./shadow_tables.ts";
import type { VgpuGtt } from "./vgpu_gtt.ts";

/** References found by looking at every directory entry and root. */
type References = Map<ShadowTable, number>;

/**
 * Checks every invariant of an engine that has no work in progress: references are exact, tables are tracked,
 * lists hold live things only.
 *
 * @param gtt The engine.
 * @throws {Error} Naming the first invariant that does not hold.
 *
 * @example
 * ```ts
 * import { assertThrows } from "@std/assert";
 * import { assertInvariants, createDevice, PTE } from "../../mod.ts";
 *
 * using device = createDevice();
 * device.ram.map({ gpa: 0, size: 0x10000 });
 * const { tables } = device.vgpu.gtt.parts;
 * assertInvariants(device.vgpu.gtt);
 * tables.obtain(PTE, 2); // a reference that no entry or root explains
 * assertThrows(() => assertInvariants(device.vgpu.gtt), Error, "has 1 references, found 0");
 * ```
 */
export function assertInvariants(gtt: VgpuGtt): void {
  const references = countReferences(gtt);
  checkTables(gtt, references);
  checkLargePages(gtt);
  checkTracks(gtt);
  checkLists(gtt);
  if (gtt.parts.trees !== null) checkUntracked(gtt);
}

/** Fails with a message unless the condition holds. */
function check(condition: boolean, message: () => string): void {
  if (!condition) throw new Error(`invariant broken: ${message()}`);
}

/** A table's name in a message. */
function name(table: ShadowTable): string {
  const pages = table.isSplit ? "split page" : table.span === 1 ? "table" : "table of 64 KiB pages";
  return `${kindName(table.kind)} ${pages} of gfn 0x${table.gfn.toString(16)}`;
}

function countReferences(gtt: VgpuGtt): References {
  const { tables, mms, scratch } = gtt.parts;
  const references: References = new Map();
  const refer = (mfn: number, kind: TableKind, from: () => string) => {
    const target = tables.byMfn(mfn);
    check(target?.kind === kind, () => `${from()} points to no live ${kindName(kind)} table`);
    references.set(target!, (references.get(target!) ?? 0) + 1);
  };
  for (const table of tables.all()) {
    if (table.kind === PTE) continue;
    for (let index = 0; index < ENTRIES; index++) {
      const lo = table.lanes[2 * index]!;
      const mfn = table.target(index);
      const where = () => `entry ${index} of the ${name(table)}`;
      const leadsOn = (lo & PRESENT) !== 0 && !isLarge(table.kind, lo) && mfn !== scratch.mfn[table.kind];
      const child = leadsOn ? tables.byMfn(mfn) ?? null : null;
      check(table.below![index] === child, () => `${where()} and the table known below it differ`);
      if (leadsOn) refer(mfn, (table.kind - 1) as TableKind, where);
    }
  }
  for (const mm of mms.all()) {
    for (let slot = 0; slot < 4; slot++) {
      const lo = mm.shadowRoots[2 * slot]!;
      const hi = mm.shadowRoots[2 * slot + 1]!;
      const root = lo !== 0 || hi !== 0 ? tables.byMfn(frameOf(lo, hi)) : null;
      check(mm.rootTables[slot] === root, () => `root ${slot} of mm ${mm.id} and its table differ`);
      if (lo !== 0 || hi !== 0) refer(frameOf(lo, hi), mm.rootKind, () => `root ${slot} of mm ${mm.id}`);
    }
  }
  return references;
}

function checkTables(gtt: VgpuGtt, references: References): void {
  const { tables, scratch } = gtt.parts;
  check(tables.size <= MAX_SHADOW_TABLES, () => "more shadow tables than the cap");
  for (const table of tables.all()) {
    const counted = references.get(table) ?? 0;
    check(table.refs === counted, () => `${name(table)} has ${table.refs} references, found ${counted}`);
    check(table.refs > 0, () => `${name(table)} is live without references`);
    check(tables.byMfn(table.page.mfn) === table, () => `${name(table)} is not found by its host frame`);
    if (table.isSplit) checkSplit(gtt, table);
    else checkFollows(gtt, table);
    if (table.kind === PTE) checkLeaves(table, (mfn) => tables.byMfn(mfn) === undefined || scratch.has(mfn));
  }
}

/** A table with a guest page is found by it, and follows it. */
function checkFollows(gtt: VgpuGtt, table: ShadowTable): void {
  const { tables, tracks, oos } = gtt.parts;
  const found = tables.find(table.gfn, table.kind, table.span);
  check(found === table, () => `${name(table)} is not found by frame and kind`);
  check(tracks.at(table.gfn).includes(table), () => `${name(table)} is not tracked`);
  check(table.enabled || oos.outOfSync.has(table), () => `${name(table)} neither traps nor is out of sync`);
  const isSpan = table.span === 1 || gtt.gvt.hugePages && table.kind === PTE;
  check(isSpan, () => `${name(table)} has an entry for ${table.span}`);
}

/** A split page has no guest page, one place, and all its leaves (`engine.md` §17.1). */
function checkSplit(gtt: VgpuGtt, table: ShadowTable): void {
  check(gtt.gvt.hugePages && table.kind === PTE, () => `${name(table)} exists`);
  check(table.gfn % LARGE_FRAMES === 0, () => `${name(table)} begins within a page`);
  check(table.refs === 1, () => `${name(table)} has ${table.refs} places`);
  check(!table.registered && !table.enabled, () => `${name(table)} is tracked`);
  check(table.snapshot === null && table.queued === null, () => `${name(table)} waits for something`);
  for (let index = 0; index < ENTRIES; index++) {
    const isMapped = (table.lanes[2 * index]! & PRESENT) !== 0;
    check(isMapped, () => `leaf ${index} of the ${name(table)} is missing`);
    const mfn = gtt.host.gfnToMfn(table.gfn + index);
    check(table.target(index) === mfn, () => `leaf ${index} of the ${name(table)} leads elsewhere`);
  }
}

/** 2 MiB pages are offered, are aligned and show the guest none of the engine's own pages (`engine.md` §17.1). */
function checkLargePages(gtt: VgpuGtt): void {
  const { tables, scratch } = gtt.parts;
  const own = new Set(scratch.mfn.slice(PTE).map(largeBaseOf)).add(largeBaseOf(gtt.gvt.globalScratch));
  for (const table of tables.all()) own.add(largeBaseOf(table.page.mfn));
  for (const table of tables.all()) {
    for (let index = 0; index < ENTRIES && table.kind !== PTE; index++) {
      const lo = table.lanes[2 * index]!;
      if (!isLarge(table.kind, lo)) continue;
      const where = () => `entry ${index} of the ${name(table)}`;
      const isOffered = gtt.gvt.hugePages && table.kind === PDE && (lo & PRESENT) !== 0;
      check(isOffered, () => `${where()} is a large page`);
      check(!own.has(table.target(index)), () => `${where()} maps a page of the engine's own`);
    }
  }
}

/** The first frame of the 2 MiB that a host frame lies in. */
function largeBaseOf(mfn: number): number {
  return mfn - mfn % LARGE_FRAMES;
}

/** No present leaf may show the guest one of the engine's own pages. */
function checkLeaves(table: ShadowTable, isHarmless: (mfn: number) => boolean): void {
  for (let index = 0; index < ENTRIES; index++) {
    if ((table.lanes[2 * index]! & PRESENT) === 0) continue;
    check(isHarmless(table.target(index)), () => `leaf ${index} of the ${name(table)} maps a shadow table`);
  }
}

function checkTracks(gtt: VgpuGtt): void {
  const { tracks, tables } = gtt.parts;
  let enabled = 0;
  for (const track of tracks.all()) {
    const where = () => `a track of frame 0x${track.gfn.toString(16)}`;
    check(
      track.owner === tracks && tracks.at(track.gfn).includes(track),
      () => `${where()} is not registered there`,
    );
    const isDead = track instanceof ShadowTable && tables.byMfn(track.page.mfn) !== track;
    check(!isDead, () => `${where()} is a freed table`);
    if (track.enabled) enabled++;
  }
  check(
    enabled === tracks.enabledTracks,
    () => `${tracks.enabledTracks} enabled tracks counted, found ${enabled}`,
  );
}

function checkLists(gtt: VgpuGtt): void {
  const { tables, post, oos, mms } = gtt.parts;
  const isLive = (table: ShadowTable) => tables.byMfn(table.page.mfn) === table;
  for (const table of post.listed) check(isLive(table), () => `freed ${name(table)} waits for the flush`);
  for (const table of oos.attached) {
    check(isLive(table) && table.snapshot !== null, () => `${name(table)} owns no snapshot but is listed so`);
  }
  for (const table of oos.outOfSync) {
    check(oos.attached.has(table), () => `${name(table)} is out of sync without a snapshot`);
    const mayBe = gtt.parts.trees !== null || table.kind === PTE;
    check(mayBe, () => `${name(table)} is out of sync but no PTE table`);
  }
  check(mms.size <= MAX_PPGTT_MMS, () => "more address spaces than the cap");
  for (const mm of mms.all()) {
    check(mm.alive && mm.refs > 0, () => `mm ${mm.id} is listed without references`);
    check(mm.shadowed || !gtt.gvt.lru.has(mm), () => `mm ${mm.id} is not shadowed but may be reclaimed`);
    check(!mm.shadowed || gtt.gvt.lru.has(mm), () => `mm ${mm.id} is shadowed but cannot be reclaimed`);
  }
  for (const mm of gtt.gvt.lru) check(mm.alive, () => `ended mm ${mm.id} is still in the LRU list`);
}

/** Where nothing traps, every table is out of sync, and its snapshot says what it shows (`engine.md` §16). */
function checkUntracked(gtt: VgpuGtt): void {
  const { tables, oos, post } = gtt.parts;
  check(post.listed.size === 0, () => "a half store waits where no store traps");
  const withPage = [...tables.all()].filter((table) => !table.isSplit);
  check(
    oos.attached.size === withPage.length,
    () => `${withPage.length} tables with a page, ${oos.attached.size} snapshots`,
  );
  for (const table of withPage) {
    const isOut = !table.enabled && oos.outOfSync.has(table) && oos.attached.has(table);
    check(isOut, () => `${name(table)} is not out of sync`);
    check(table.writeCount === 0, () => `${name(table)} counted a store`);
    for (let index = 0; index < ENTRIES; index++) checkSnapshot(gtt, table, index);
    for (const child of table.children ?? []) {
      check(tables.byMfn(child.page.mfn) === child, () => `the ${name(table)} remembers a freed child`);
    }
  }
}

/** An entry maps what its snapshot says, or nothing. */
function checkSnapshot(gtt: VgpuGtt, table: ShadowTable, index: number): void {
  const { tables, scratch } = gtt.parts;
  const where = () => `entry ${index} of the ${name(table)}`;
  const first = 2 * (index - index % table.span);
  const wantedLo = table.snapshot![first]!;
  const wantedHi = table.snapshot![first + 1]!;
  const lo = table.lanes[2 * index]!;
  const hi = table.lanes[2 * index + 1]!;
  const mfn = table.target(index);
  if ((lo & PRESENT) === 0 || mfn === scratch.mfn[table.kind]) {
    const isMissing = table.kind === PTE && (wantedLo & PRESENT) !== 0;
    return check(!isMissing, () => `${where()} maps nothing, its snapshot is present`);
  }
  check((wantedLo & PRESENT) !== 0, () => `${where()} maps something, its snapshot is not present`);
  const child = isLarge(table.kind, lo) ? undefined : tables.byMfn(mfn);
  const isSame = shadowLo(gtt, table, wantedLo, mfn, child) === lo && withFrameHi(wantedHi, mfn) === hi;
  check(isSame, () => `${where()} has other flags than its snapshot`);
  if (child === undefined) return;
  const isRight = isLarge(table.kind, wantedLo)
    ? child.isSplit && child.gfn === largeFrameOf(wantedLo, wantedHi)
    : child === tables.find(frameOf(wantedLo, wantedHi), childKind(table.kind), child.span);
  check(isRight, () => `${where()} leads to another table than its snapshot`);
  check(
    child.isSplit || table.children === null || table.children.includes(child),
    () => `${where()} leads to a table that the next sync would not visit`,
  );
}

/** The low lane of the shadow of a present entry, by where it leads. */
function shadowLo(gtt: VgpuGtt, { kind }: ShadowTable, lo: number, mfn: number, child?: ShadowTable): number {
  if (isLarge(kind, lo)) {
    return child === undefined ? withLargeFrameLo(lo, mfn) : withFrameLo(splitEntryLo(lo), mfn);
  }
  const has64k = gtt.gvt.hugePages && kind === PDE && (lo & IPS) !== 0;
  check(
    child === undefined || (child.span === FRAMES_64K) === has64k,
    () => "a PTE table is read the wrong way",
  );
  return withFrameLo(has64k ? lo & ~IPS : lo, mfn);
}
