/**
 * The witness (`--verify`) where nothing traps: each translation that an engine uses is compared with a walk through the
 * guest's own tables, which knows nothing of how the engine works.
 *
 * Here tables are compared with the guest's when a walk comes to them, once after each invalidation (`engine.md` §16.5).
 * That rests on the guest: what it needs to be seen it has stored before it submits or invalidates. So a translation
 * that differs from what the guest's tables say now is wrong,
 * - if a table on the way was not compared since the last invalidation: the look was left out;
 * - if the comparison saw every entry on the way as it is now: the shadow says something else.
 *
 * Otherwise the guest has changed an entry since. Then the translation is made once more, and counts as *late* if it is
 * right. A guest may change an entry to and fro, so this is done {@linkcode MAX_LOOKS} times; it is late, too, unless the
 * entries never changed: then the comparison misses something.
 *
 * What the host could not do maps nothing and is counted elsewhere (`engine.md` §16.3): that is no mistake either.
 *
 * And no context begins or goes on without an invalidation.
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
  PAGE_SIZE,
  PDE,
  PRESENT,
  PTE,
  type TableKind,
} from "../gtt/entry.ts";
import type { PpgttMm } from "../gtt/mm.ts";
import type { TreeSync } from "../gtt/tree_sync.ts";
import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
import type { EngineInfo } from "../streamer/engines.ts";
import type { StreamerWitness, Translation } from "../streamer/witness.ts";
import { hex } from "./target.ts";
import type { GuestMemory, WitnessCounters } from "./witness_counters.ts";

/** How often a translation is made: a guest that never stops changing its tables is left alone then. */
const MAX_LOOKS = 16;
const WRITABLE = 0x2;
const LANE = 2 ** 32;
/** Bits of an address below the table index of each kind of table. */
const SHIFTS = [0, 12, 21, 30, 39] as const;

/** What the guest's tables say of an address, and the way to it. */
interface GuestWalk extends Translation {
  /** The entries on the way, from the root down. */
  readonly steps: readonly Step[];
}

/** One entry on the way. */
interface Step {
  readonly kind: TableKind;
  /** Guest frame of the table. */
  readonly gfn: number;
  /** How many entries of a PTE table one stands for. */
  readonly span: 1 | 16;
  readonly index: number;
  readonly lo: number;
  readonly hi: number;
}

/** Compares translations with the guest's own tables. */
export class TranslationWitness implements StreamerWitness {
  readonly #gtt: VgpuGtt;
  readonly #memory: GuestMemory;
  readonly #counters: WitnessCounters;
  readonly #onMismatch: (text: string) => void;
  readonly #entry = new Uint32Array(2);
  /** The invalidations that the last context began with: who counts them, and how many. */
  #trees: TreeSync | null = null;
  #epoch = -1;

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
  }

  /** Sees that what was compared before counts no more: see {@linkcode StreamerWitness.began}. */
  began(mm: PpgttMm, { name }: EngineInfo): void {
    this.#counters.verifiedSubmissions++;
    const trees = this.#gtt.parts.trees!;
    if (trees === this.#trees && trees.epoch === this.#epoch) {
      this.#report(mm, name, "it began without an invalidation");
    }
    this.#trees = trees;
    this.#epoch = trees.epoch;
  }

  /** Compares one translation: see {@linkcode StreamerWitness.translated}. */
  readonly translated = (
    mm: PpgttMm,
    gma: number,
    gfn: number,
    isWritable: boolean,
    { name }: EngineInfo,
    again: () => Translation,
  ): void => {
    this.#counters.verifiedTranslations++;
    let found: Translation = { gfn, isWritable };
    let wanted = this.#walk(mm, gma);
    if (isSame(wanted, found)) return;
    let isSteady = true;
    for (let looks = 1; looks < MAX_LOOKS; looks++) {
      const mistake = this.#mistake(wanted.steps);
      if (mistake !== null) return this.#report(mm, name, differ(gma, found, wanted, mistake));
      const { badLooks } = this.#gtt.counters;
      found = again();
      if (found.gfn < 0 && this.#gtt.counters.badLooks > badLooks) return;
      const next = this.#walk(mm, gma);
      if (isSame(next, found)) return void this.#counters.verifyLate++;
      if (!areSame(next.steps, wanted.steps)) isSteady = false;
      wanted = next;
    }
    if (!isSteady) this.#counters.verifyLate++;
    else this.#report(mm, name, differ(gma, found, wanted, "again and again, though it never changed"));
  };

  #report(mm: PpgttMm, who: string, text: string): void {
    this.#counters.verifyMismatches++;
    this.#onMismatch(`mm ${mm.id}, for ${who}: ${text}`);
  }

  /** Walks the guest's own tables, from its roots. */
  #walk(mm: PpgttMm, gma: number): GuestWalk {
    const steps: Step[] = [];
    let isWritable = true;
    const nowhere = (): GuestWalk => ({ gfn: -1, isWritable: false, steps });
    if (!mm.shadowed) return nowhere(); // it has ended, and was taken from whoever uses it
    const slot = mm.level === 4 ? 0 : Math.floor(gma % LANE / 2 ** 30);
    const [rootLo, rootHi] = [mm.roots[2 * slot]!, mm.roots[2 * slot + 1]!];
    if (rootLo === 0 && rootHi === 0 || mm.level === 3 && isLarge(PDE, rootLo)) return nowhere();
    let gfn = frameOf(rootLo, rootHi);
    let span: 1 | 16 = 1;
    for (let kind = mm.rootKind;; kind = childKind(kind)) {
      const index = Math.floor(gma / 2 ** SHIFTS[kind]!) % ENTRIES;
      const counting = index - index % span;
      if (!this.#memory.readEntry(gfn * PAGE_SIZE + 8 * counting, this.#entry)) return nowhere();
      const [lo, hi] = [this.#entry[0]!, this.#entry[1]!];
      steps.push({ kind, gfn, span, index: counting, lo, hi });
      if ((lo & PRESENT) === 0) return nowhere();
      if ((lo & WRITABLE) === 0) isWritable = false;
      if (isLarge(kind, lo)) {
        if (kind !== PDE || !this.#gtt.gvt.hugePages) return nowhere();
        const first = largeFrameOf(lo, hi);
        for (let i = 0; i < LARGE_FRAMES; i++) if (this.#memory.mfnOf(first + i) < 0) return nowhere();
        return { gfn: first + Math.floor(gma / PAGE_SIZE) % LARGE_FRAMES, isWritable, steps };
      }
      const frame = frameOf(lo, hi);
      if (kind === PTE) {
        const leaf = frame - frame % span + index % span;
        return this.#memory.mfnOf(leaf) < 0 ? nowhere() : { gfn: leaf, isWritable, steps };
      }
      if (this.#memory.mfnOf(frame) < 0) return nowhere();
      gfn = frame;
      span = this.#gtt.gvt.hugePages && kind === PDE && (lo & IPS) !== 0 ? FRAMES_64K : 1;
    }
  }

  /** Goes the guest's way through the shadow. @returns What is wrong; `null` if the guest has changed something. */
  #mistake(steps: readonly Step[]): string | null {
    const { tables, trees } = this.#gtt.parts;
    let path = "root";
    for (const { kind, gfn, span, index, lo, hi } of steps) {
      const table = tables.find(gfn, kind, span);
      if (table === undefined) return `${path}: there is no ${kindName(kind)} table of gfn ${hex(gfn)}`;
      path += ` > ${kindName(kind)}[${index}]`;
      if (table.syncedIn !== trees!.epoch) {
        return `${path}: the table was not compared since the last invalidation`;
      }
      const { snapshot } = table;
      if (snapshot![2 * index] !== lo || snapshot![2 * index + 1] !== hi) return null;
    }
    return `${path}: every entry on the way was seen as it is`;
  }
}

function differ(gma: number, found: Translation, wanted: Translation, why: string): string {
  return `${hex(gma)} leads to ${shown(found)}, the guest's tables say ${shown(wanted)}: ${why}`;
}

function areSame(some: readonly Step[], others: readonly Step[]): boolean {
  return some.length === others.length &&
    some.every(({ gfn, lo, hi }, at) =>
      gfn === others[at]!.gfn && lo === others[at]!.lo && hi === others[at]!.hi
    );
}

function isSame(one: Translation, other: Translation): boolean {
  return one.gfn === other.gfn && (one.gfn < 0 || one.isWritable === other.isWritable);
}

function shown({ gfn, isWritable }: Translation): string {
  return gfn < 0 ? "nothing" : `gfn ${hex(gfn)}${isWritable ? "" : ", read only"}`;
}
