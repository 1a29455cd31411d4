/**
 * The witness (`--verify`) where stores trap: before a workload runs, every entry of every distinct table of its shadow
 * tree is compared with the guest's own tables, by a walk over guest memory that knows nothing of how the engine works.
 *
 * Nothing may be left to bring up to date: what differs is a mismatch. (That takes a VMM which has told of every store
 * before it passes on the one that submits; and an entry that was refused, as documented, is one, too.)
 *
 * @module
 */

import {
  childKind,
  DIRTY,
  ENTRIES,
  frameOf,
  IPS,
  isLarge,
  kindName,
  LANES,
  LARGE_FRAMES,
  largeFrameOf,
  PAGE_LARGE,
  PAT_LARGE,
  PDE,
  PRESENT,
  PTE,
  type TableKind,
  withFrameHi,
  withFrameLo,
  withLargeFrameLo,
} from "../gtt/entry.ts";
import { type PpgttMm, ROOTS } from "../gtt/mm.ts";
import type { ShadowTable } from "../gtt/shadow_table.ts";
import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
import type { EngineInfo } from "../streamer/engines.ts";
import type { StreamerWitness } from "../streamer/witness.ts";
import { hex } from "./target.ts";
import type { GuestMemory, WitnessCounters } from "./witness_counters.ts";

const ROOT_FLAGS = 0xfff;

/** What differs, and where. */
interface Difference {
  /** The way to the entry, from the root. */
  readonly path: string;
  /** The guest's entry and what the shadow has for it. */
  readonly text: string;
}

/** Compares shadow tables with the guest's. */
export class TableWitness implements StreamerWitness {
  /** What the tables say is what engines get: nobody has to check that, too. */
  readonly translated = null;
  readonly #gtt: VgpuGtt;
  readonly #memory: GuestMemory;
  readonly #counters: WitnessCounters;
  readonly #onMismatch: (text: string) => void;
  /** A page of the guest for each kind of table: the walk goes down, never back into a kind. */
  readonly #pages = [0, 1, 2, 3, 4].map(() => new Uint32Array(LANES));
  readonly #seen = new Set<ShadowTable>();
  readonly #hugePages: boolean;
  #difference: Difference | null = null;

  /**
   * A witness of one vGPU.
   *
   * @param gtt The engine.
   * @param memory Guest memory.
   * @param counters Counts.
   * @param onMismatch Told what is wrong, with the full path.
   */
  constructor(
    gtt: VgpuGtt,
    memory: GuestMemory,
    counters: WitnessCounters,
    onMismatch: (text: string) => void,
  ) {
    this.#gtt = gtt;
    this.#memory = memory;
    this.#counters = counters;
    this.#onMismatch = onMismatch;
    this.#hugePages = gtt.gvt.hugePages;
  }

  /**
   * Compares the tables of an address space that was just brought up to date.
   *
   * @param mm It, pinned.
   * @param engine Which engine is to run it, for the message.
   */
  began(mm: PpgttMm, { name }: EngineInfo): void {
    this.#counters.verifiedSubmissions++;
    const difference = this.#compare(mm);
    if (difference === null) return;
    this.#counters.verifyMismatches++;
    this.#onMismatch(`mm ${mm.id}, for ${name}: ${difference.path}: ${difference.text}`);
  }

  /** @returns The first difference. */
  #compare(mm: PpgttMm): Difference | null {
    this.#seen.clear();
    this.#difference = null;
    for (let slot = 0; slot < mm.rootSlots && slot < ROOTS; slot++) {
      const [lo, hi] = [mm.roots[2 * slot]!, mm.roots[2 * slot + 1]!];
      if (lo === 0 && hi === 0) continue;
      if (mm.level === 3 && isLarge(PDE, lo)) continue;
      const gfn = frameOf(lo, hi);
      const shadowLo = mm.shadowRoots[2 * slot]!;
      const shadowHi = mm.shadowRoots[2 * slot + 1]!;
      const path = `root ${slot}`;
      if ((shadowLo & ROOT_FLAGS) !== (lo & ROOT_FLAGS)) this.#differ(path, lo, hi, "its flags", "others");
      const table = this.#gtt.parts.tables.byMfn(frameOf(shadowLo, shadowHi));
      if (table === undefined) this.#differ(path, lo, hi, `a table of gfn ${hex(gfn)}`, "none");
      else this.#compareTable(path, gfn, mm.rootKind, 1, table);
    }
    return this.#difference;
  }

  /** Compares a table that the guest's own tables say is this frame's. */
  #compareTable(path: string, gfn: number, kind: TableKind, span: number, table: ShadowTable): void {
    if (table.gfn !== gfn || table.kind !== kind || table.span !== span || table.isSplit) {
      const found = `${kindName(table.kind)} table of gfn ${hex(table.gfn)}, span ${table.span}`;
      this.#differ(path, gfn, 0, `${kindName(kind)} table of gfn ${hex(gfn)}, span ${span}`, found);
      return;
    }
    if (this.#seen.has(table)) return;
    this.#seen.add(table);
    const page = this.#pages[kind]!;
    if (!this.#memory.readPage(gfn, page)) return; // what cannot be read stays as it was
    this.#counters.verifiedEntries += ENTRIES;
    for (let index = 0; index < ENTRIES && this.#difference === null; index++) {
      // Of a 64 KiB page the first of sixteen entries counts.
      const counting = index - index % span;
      const [lo, hi] = [page[2 * counting]!, page[2 * counting + 1]!];
      if ((lo & PRESENT) === 0) this.#nothing(path, kind, index, lo, hi, table);
      else if (kind === PTE) this.#leaf(path, index, span, lo, hi, table);
      else this.#directory(path, kind, index, lo, hi, table);
    }
  }

  /** The guest maps nothing here: the shadow must lead to nothing of the guest's. */
  #nothing(path: string, kind: TableKind, index: number, lo: number, hi: number, table: ShadowTable): void {
    if ((table.lanes[2 * index]! & PRESENT) === 0) return;
    const mfn = table.target(index);
    const isNothing = this.#memory.gfnOf(mfn) < 0 && this.#gtt.parts.tables.byMfn(mfn) === undefined;
    if (!isNothing) this.#differ(entryPath(path, kind, index), lo, hi, "nothing", `mfn ${hex(mfn)}`);
  }

  #leaf(path: string, index: number, span: number, lo: number, hi: number, table: ShadowTable): void {
    const first = frameOf(lo, hi);
    const gfn = first - first % span + index % span;
    const mfn = this.#memory.mfnOf(gfn);
    if (mfn < 0) return; // a guest's mistake leaves what was there (`engine.md` §13, 15), here and below
    if (!hasEntry(table, index, withFrameLo(lo, mfn), withFrameHi(hi, mfn))) {
      this.#differ(
        entryPath(path, PTE, index),
        lo,
        hi,
        `mfn ${hex(mfn)} (gfn ${hex(gfn)})`,
        shown(table, index),
      );
    }
  }

  #directory(
    path: string,
    kind: TableKind,
    index: number,
    lo: number,
    hi: number,
    table: ShadowTable,
  ): void {
    const frame = frameOf(lo, hi);
    if (isLarge(kind, lo)) {
      if (this.#hugePages && kind === PDE) this.#large(path, index, lo, hi, table);
      return;
    }
    if (this.#memory.mfnOf(frame) < 0) return;
    const place = entryPath(path, kind, index);
    const child = this.#gtt.parts.tables.byMfn(table.target(index));
    const isShadowed = (table.lanes[2 * index]! & PRESENT) !== 0 && child !== undefined;
    if (!isShadowed) {
      this.#differ(place, lo, hi, `a table of gfn ${hex(frame)}`, shown(table, index));
      return;
    }
    const is64k = this.#hugePages && kind === PDE && (lo & IPS) !== 0;
    const flags = is64k ? lo & ~IPS : lo;
    const { mfn } = child.page;
    if (!hasEntry(table, index, withFrameLo(flags, mfn), withFrameHi(hi, mfn))) {
      this.#differ(place, lo, hi, "its flags", shown(table, index));
      return;
    }
    this.#compareTable(place, frame, childKind(kind), is64k ? 16 : 1, child);
  }

  /** A 2 MiB page: one entry where its host frames follow one another, else a table of its own. */
  #large(path: string, index: number, lo: number, hi: number, table: ShadowTable): void {
    const first = largeFrameOf(lo, hi);
    const mfn = this.#memory.mfnOf(first);
    let isWhole = mfn >= 0 && mfn % LARGE_FRAMES === 0;
    for (let i = 0; i < LARGE_FRAMES; i++) {
      const each = this.#memory.mfnOf(first + i);
      if (each < 0) return;
      if (each !== mfn + i) isWhole = false;
    }
    const place = entryPath(path, PDE, index);
    if (isWhole) {
      if (hasEntry(table, index, withLargeFrameLo(lo, mfn), withFrameHi(hi, mfn))) return;
      this.#differ(place, lo, hi, `2 MiB at mfn ${hex(mfn)}`, shown(table, index));
      return;
    }
    const split = this.#gtt.parts.tables.byMfn(table.target(index));
    if (split?.isSplit !== true) {
      this.#differ(place, lo, hi, "a split 2 MiB page", shown(table, index));
      return;
    }
    const { mfn: own } = split.page;
    const directory = lo & ~(PAGE_LARGE | IPS | DIRTY | PAT_LARGE);
    if (!hasEntry(table, index, withFrameLo(directory, own), withFrameHi(hi, own))) {
      this.#differ(place, lo, hi, "the flags of a split 2 MiB page", shown(table, index));
      return;
    }
    // A page's caching bit is another one in an entry of 4 KiB.
    const leaf = (lo & ~PAGE_LARGE) | ((lo & PAT_LARGE) === 0 ? 0 : PAGE_LARGE);
    for (let i = 0; i < ENTRIES; i++) {
      const wanted = this.#memory.mfnOf(first + i);
      if (hasEntry(split, i, withFrameLo(leaf, wanted), withFrameHi(hi, wanted))) continue;
      this.#differ(entryPath(place, PTE, i), lo, hi, `mfn ${hex(wanted)}`, shown(split, i));
      return;
    }
  }

  #differ(path: string, lo: number, hi: number, wanted: string, found: string): void {
    const guest = `0x${hi.toString(16).padStart(8, "0")}${lo.toString(16).padStart(8, "0")}`;
    this.#difference ??= {
      path,
      text: `the guest's entry ${guest} means ${wanted}, the shadow has ${found}`,
    };
  }
}

function entryPath(path: string, kind: TableKind, index: number): string {
  return `${path} > ${kindName(kind)}[${index}]`;
}

function shown(table: ShadowTable, index: number): string {
  const lo = table.lanes[2 * index]!;
  const hi = table.lanes[2 * index + 1]!;
  return `0x${hi.toString(16).padStart(8, "0")}${lo.toString(16).padStart(8, "0")}`;
}

/** Whether an entry of a shadow table is this one, both lanes. */
function hasEntry(table: ShadowTable, index: number, lo: number, hi: number): boolean {
  return table.lanes[2 * index] === lo && table.lanes[2 * index + 1] === hi;
}
