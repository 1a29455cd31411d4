/**
 * Aim: which frames, entries, roots and addresses a generated operation uses, given the model's present state.
 *
 * @module
 */

import {
  childKind,
  frameOf,
  isLarge,
  isPresent,
  rootTableKind,
  TABLE_KINDS,
  type TableKind,
} from "./entry.ts";
import { PAGE } from "./host.ts";
import type { Model } from "./model.ts";
import { hex } from "./observe.ts";
import type { Settings } from "./profiles.ts";
import type { Random } from "./random.ts";
import type { Hex, TraceConfig } from "../../src/replay/trace.ts";
import type { Mm, ShadowTable } from "./vgpu.ts";

/** First frame used for tables. */
const FIRST_TABLE = 16;
/** First frame used for leaves. */
const FIRST_LEAF = 96;
/** How many frames leaves use. */
const LEAVES = 24;
/** Indices that are used again and again, and the corners. */
const HOT_INDICES = [0, 1, 2, 3];
const OTHER_INDICES = [5, 7, 8, 15, 255, 256, 510, 511];
const FLAGS = [0x1n, 0x3n, 0x3n, 0x3n, 0x1bn, 0x803n];
const LEAF_FLAGS = [...FLAGS, 0x83n, 0x9bn, 0x8000_0000_0000_0003n];
const HIGH_BITS = [1n << 46n, 1n << 52n, 1n << 63n, 0xffffn << 46n];

/** Chooses the arguments of operations. */
export class Aim {
  /** Frames that serve as tables. */
  readonly tableFrames: readonly number[];
  /** Frames that leaves map. */
  readonly leaves: readonly number[] = Array.from({ length: LEAVES }, (_, i) => FIRST_LEAF + i);
  readonly #random: Random;
  readonly #settings: Settings;
  readonly #config: TraceConfig;
  readonly #model: Model;
  /** Frames that serve as tables of each kind. */
  readonly #frames: Record<TableKind, number[]>;

  /** Aims at what a model holds. */
  constructor(random: Random, settings: Settings, config: TraceConfig, model: Model) {
    this.#random = random;
    this.#settings = settings;
    this.#config = config;
    this.#model = model;
    this.#frames = layOut(settings);
    this.tableFrames = [...new Set(TABLE_KINDS.flatMap((kind) => this.#frames[kind]))];
  }

  /** Frames dealt out as tables of a kind. */
  framesOf(kind: TableKind): readonly number[] {
    return this.#frames[kind];
  }

  /** An index, mostly one of a few. */
  index(): number {
    return this.#random.pick(this.#random.chance(0.7) ? HOT_INDICES : OTHER_INDICES);
  }

  /** An index to store to in a frame: often one that is queued already. */
  indexIn(gfn: number): number {
    const queued = this.#model.vgpu.tables.filter((table) => table.gfn === gfn).flatMap((t) => [...t.queued]);
    return queued.length > 0 && this.#random.chance(0.35) ? this.#random.pick(queued) : this.index();
  }

  /** An address in a frame. */
  gpa(gfn: number, index: number, within = 0): Hex {
    return hex(BigInt(gfn * PAGE + index * 8 + within));
  }

  /** A frame to store to: mostly one whose stores trap. */
  target(): number {
    const random = this.#random;
    const { vgpu, host } = this.#model;
    const { aimOos } = this.#settings;
    if (vgpu.oosUse.length > 0 && random.chance(aimOos)) return random.pick(vgpu.oosUse).gfn;
    const tables = vgpu.tables.filter((table) => table.kind === "PTE");
    if (tables.length > 0 && random.chance(aimOos)) return random.pick(tables).gfn;
    const trapping = [...host.protectedFrames];
    if (trapping.length > 0 && random.chance(0.85)) return random.pick(trapping);
    return random.pick(random.chance(0.9) ? this.tableFrames : this.leaves);
  }

  /** An entry for a frame, according to the tables it serves as; now and then a nasty one. */
  entryFor(gfn: number): bigint {
    const random = this.#random;
    if (random.chance(this.#settings.strange)) return this.strangeEntryFor(gfn);
    const entry = this.cleanEntryFor(gfn);
    return random.chance(this.#settings.large) ? entry | 0x81n : entry;
  }

  /** An entry with high bits, or with a frame that is not RAM or fails. */
  strangeEntryFor(gfn: number): bigint {
    const random = this.#random;
    const entry = this.cleanEntryFor(gfn);
    if (random.chance(0.4)) return entry | random.pick(HIGH_BITS);
    return (BigInt(this.#strangeFrame()) << 12n) | (entry & 0xfffn);
  }

  /** An entry for a frame that no table it serves as refuses. */
  cleanEntryFor(gfn: number): bigint {
    return this.cleanEntry(this.#kindOf(gfn));
  }

  /** An entry for a table of a kind that is not refused. */
  cleanEntry(kind: TableKind): bigint {
    const random = this.#random;
    if (random.chance(0.15)) return 0n;
    const { tangled } = this.#settings;
    const leafFrames = tangled && random.chance(0.4) ? this.tableFrames : this.leaves;
    const frame = random.pick(kind === "PTE" ? leafFrames : this.#frames[childKind(kind)]);
    // Bit 7 is harmless in a leaf, but in a tangled profile the frame may be a directory too.
    const flags = random.pick(kind === "PTE" && !tangled ? LEAF_FLAGS : FLAGS);
    const entry = BigInt(frame) << 12n | flags;
    return random.chance(0.06) ? entry & ~1n : entry;
  }

  /** Places in guest memory that make a directory be refused. */
  refused(): Array<{ gfn: number; index: number }> {
    const places: Array<{ gfn: number; index: number }> = [];
    for (const gfn of this.tableFrames) {
      if (this.#kindsOf(gfn).every((kind) => kind === "PTE")) continue;
      for (const index of [...HOT_INDICES, 4, 5, 6, ...OTHER_INDICES]) {
        const entry = this.#model.host.peek(gfn * PAGE + index * 8);
        const isOutside = frameOf(entry) >= this.#config.ramPages;
        if (isPresent(entry) && (isLarge("PDE", entry) || isOutside)) places.push({ gfn, index });
      }
    }
    return places;
  }

  /** Roots of a live mm, or new ones. */
  knownRoots(): { level: number; pdps: Hex[] } {
    const { mms } = this.#model.vgpu;
    if (mms.length === 0 || this.#random.chance(0.3)) return this.newRoots();
    const mm = this.#random.pick(mms);
    return { level: mm.level, pdps: mm.roots.map(hex) };
  }

  /** Roots made up anew, rarely of an impossible level. */
  newRoots(): { level: number; pdps: Hex[] } {
    const level = this.#random.chance(0.02) ? this.#random.pick([0, 1, 2, 5]) : this.#random.pick([3, 4, 4]);
    return { level, pdps: this.#roots(level) };
  }

  /** Id of an mm, now and then a dead one. */
  mm(): number {
    const { mms, nextId } = this.#model.vgpu;
    if (mms.length === 0 || this.#random.chance(0.04)) return this.#random.below(nextId + 2);
    return this.#random.pick(mms).id;
  }

  /** A graphics address: mostly one that the shadow of the mm maps. */
  gma(id: number): Hex {
    const random = this.#random;
    const mm = this.#model.vgpu.mms.find((candidate) => candidate.id === id);
    const isBlind = mm === undefined || random.chance(0.15);
    const indices = isBlind ? [0, 0, 0, 0].map(() => this.index()) : this.#path(mm);
    const page = indices.reduce((sum, index) => sum << 9n | BigInt(index), 0n);
    const gma = page << 12n | BigInt(random.below(PAGE));
    return hex(random.chance(0.05) ? gma | 0xffffn << 48n : gma);
  }

  /** A GGTT index: mostly a few of each window, their edges, and just outside. */
  ggttIndex(): bigint {
    const random = this.#random;
    const pages = (bytes: Hex) => BigInt(bytes) / BigInt(PAGE);
    const config = this.#config;
    const [base, size] = random.pick(
      [
        [pages(config.apertureBase), pages(config.apertureSize)],
        [pages(config.hiddenBase), pages(config.hiddenSize)],
      ] as const,
    );
    const choices = {
      start: () => base + BigInt(random.below(4)),
      end: () => base + size - 1n,
      inside: () => base + BigInt(random.below(Number(size))),
      outside: () => random.pick([base - 1n, base + size]),
      anywhere: () => BigInt(random.below(Number(pages(config.ggttTotal)))),
    };
    return choices[random.weighted({ start: 10, end: 3, inside: 4, outside: 2, anywhere: 1 })]();
  }

  /** Where a range check may end: near either end of either window. */
  rangeEnd(): bigint {
    const { apertureBase, apertureSize, hiddenBase, hiddenSize } = this.#config;
    const ends = [apertureBase, hiddenBase].map(BigInt);
    ends.push(BigInt(apertureBase) + BigInt(apertureSize), BigInt(hiddenBase) + BigInt(hiddenSize));
    return this.#random.pick(ends) + this.#random.pick([0n, 0n, 1n, 0x1000n]);
  }

  /** An access to the GGTT, now and then of a size, alignment or offset that cannot be. */
  ggttAccess(): { off: Hex; bytes: number } {
    const random = this.#random;
    const start = BigInt(this.#config.gttStartOffset);
    if (random.chance(this.#settings.farOffsets)) {
      const past = start + BigInt(this.#config.ggttTotal) / 512n;
      return { off: hex(random.pick([0n, start - 8n, past, past + 8n, 1n << 32n, 1n << 45n])), bytes: 8 };
    }
    const off = start + this.ggttIndex() * 8n;
    if (random.chance(this.#settings.odd)) {
      return { off: hex(off + BigInt(random.below(8))), bytes: random.pick([1, 2, 4, 8, 16]) };
    }
    if (random.chance(0.3)) return { off: hex(off + random.pick([0n, 4n])), bytes: 4 };
    return { off: hex(off), bytes: 8 };
  }

  /** Kinds of table a frame may be: the live ones, else those it was dealt out for. */
  #kindsOf(gfn: number): TableKind[] {
    const live = this.#model.vgpu.tables.filter((table) => table.gfn === gfn).map((table) => table.kind);
    return live.length > 0 ? live : TABLE_KINDS.filter((kind) => this.#frames[kind].includes(gfn));
  }

  #kindOf(gfn: number): TableKind {
    const kinds = this.#kindsOf(gfn);
    return kinds.length > 0 ? this.#random.pick(kinds) : "PTE";
  }

  /** A frame that is not RAM, or that a fault is injected for. */
  #strangeFrame(): number {
    const { ramPages } = this.#config;
    const { invalid, p2m } = this.#model.host.frameFaults;
    const faulty = [...invalid, ...p2m];
    if (faulty.length > 0 && this.#random.chance(0.6)) return this.#random.pick(faulty);
    return this.#random.pick([ramPages, ramPages + 1, 0x1388, 0xfffff, 0x3_ffff_ffff]);
  }

  #roots(level: number): Hex[] {
    const random = this.#random;
    const { strange, large, tangled } = this.#settings;
    return [0, 1, 2, 3].map((slot) => {
      if (level === 4 && slot > 0) return tangled && random.chance(0.2) ? "0x14001" : "0x0";
      if (slot > 0 && random.chance(0.6)) return "0x0";
      if (random.chance(strange / 2)) return hex(BigInt(this.#strangeFrame()) << 12n);
      const flags = random.chance(large) ? random.pick([0x80n, 0x81n]) : random.pick([0n, 0n, 1n, 3n]);
      return hex(BigInt(random.pick(this.#frames[rootTableKind(level)])) << 12n | flags);
    });
  }

  /** Indices down a shadow, along present entries where there are any. */
  #path(mm: Mm): number[] {
    const slots = mm.shadowRoots.flatMap((root, slot) => root === null ? [] : [{ slot, table: root.table }]);
    if (slots.length === 0) return [this.index()];
    const start = this.#random.pick(slots);
    const path = mm.level === 4 ? [] : [start.slot];
    let table: ShadowTable | undefined = start.table;
    for (let left = mm.level === 4 ? 4 : 2; left > 0; left--) {
      const entries: readonly bigint[] = table?.entries ?? [];
      const present = [...entries.keys()].filter((index) => isPresent(entries[index] ?? 0n));
      const index = present.length > 0 && this.#random.chance(0.97)
        ? this.#random.pick(present)
        : this.index();
      path.push(index);
      table = this.#model.vgpu.tables.find((other) => other.mfn === frameOf(entries[index] ?? 0n));
    }
    return path;
  }
}

/** Deals out the table frames; in a tangled profile every kind may use all of them. */
function layOut(settings: Settings): Record<TableKind, number[]> {
  let next = FIRST_TABLE;
  const take = (count: number) => Array.from({ length: count }, () => next++);
  const [pte, pde, pdp, pml4] = settings.tables;
  const frames = { PTE: take(pte), PDE: take(pde), PDP: take(pdp), PML4: take(pml4) };
  if (!settings.tangled) return frames;
  const all = TABLE_KINDS.flatMap((kind) => frames[kind]);
  return { PTE: all, PDE: all, PDP: all, PML4: all };
}
