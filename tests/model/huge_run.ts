/**
 * Random life of a guest with large pages, where its stores trap and where they do not: it changes its tables, lets PDEs
 * lead to the same page as a table of 4 KiB pages and of 64 KiB pages, maps 2 MiB that are one piece on the host, several,
 * or not all there; RAM comes and goes, frames cannot be translated, memory is short. When all is settled guest walk =
 * shadow walk; after each step the engine's invariants hold.
 *
 * Where stores trap, a store that the engine refuses leaves the old entry live (engine.md §13, 15): the guest takes it back
 * at once, so that its tables always say what is shadowed.
 *
 * The same options always give the same run.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { ENTRIES, frameOf, isPresent, withFrame } from "./entry.ts";
import { HugeGuest, LARGE, type Space } from "./huge_guest.ts";
import { HugeComparison, type Seen } from "./huge_shadow.ts";
import { Random } from "./random.ts";
import { assertInvariants } from "../../src/gtt/invariants.ts";
import type { PpgttMm } from "../../src/gtt/mm.ts";
import { walkPpgtt } from "../../src/inspect/walk.ts";
import { PpgttSpace } from "../../src/streamer/graphics_access.ts";
import { createDevice, type Device } from "../../src/vgpu/device.ts";

const ENXIO = -6;
const ENOMEM = -12;
const EINVAL = -22;

/** Frames that serve as tables of every kind, the last ones in RAM that comes and goes. */
const TABLES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 17, 18];
/** A run of frames that are RAM together. Without `mfn` the host frames are the guest's and 0x100000. */
interface Region {
  readonly gfn: number;
  readonly frames: number;
  readonly mfn?: number;
}
/** The first stays, the others come and go. */
const REGIONS: readonly Region[] = [
  { gfn: 0, frames: 16 },
  { gfn: 16, frames: 24 },
  { gfn: 1 * LARGE, frames: LARGE }, // one piece
  { gfn: 2 * LARGE, frames: LARGE, mfn: 0x200007 }, // one piece that does not begin at a multiple of 512
  { gfn: 3 * LARGE, frames: 256 }, // two pieces that are one
  { gfn: 3 * LARGE + 256, frames: 256 },
  { gfn: 4 * LARGE, frames: 200 }, // two pieces
  { gfn: 4 * LARGE + 200, frames: 312, mfn: 0x300000 },
  { gfn: 5 * LARGE, frames: 500 }, // never all there
];
/** Frames that never are RAM. */
const NO_RAM = [60, 6 * LARGE, 0x12345, 0x3_ffff_ffff];
/** Entries that are used more often than others. */
const INDICES = [0, 1, 15, 16, 17, 32, 255, 496, 511];
/** More address spaces than this are not made. */
const MANY_SPACES = 5;

/** How the stores of a guest are followed. */
export type Policy = "trapped" | "oos" | "untracked";

/** What happened in a run, to see that it was worth running. */
export interface HugeCounts extends Seen {
  /** Times that everything was compared. */
  compared: number;
  /** Stores that were refused and taken back. */
  refused: number;
  /** Tables that came and went. */
  churn: number;
  /** Tables that went out of sync. */
  outOfSync: number;
}

/** Runs a guest. @throws When a walk differs or an invariant is broken; the message says after which step. */
export function runHugeGuest(policy: Policy, seed: number, steps: number): HugeCounts {
  using device = createDevice({
    hugePages: true,
    faults: true,
    oos: policy === "oos",
    tracking: policy === "untracked" ? "untracked" : "trapped",
  });
  const run = new Run(device, policy, new Random(seed));
  let what = "start";
  for (let step = 0; step < steps; step++) {
    try {
      what = run.step();
    } catch (cause) {
      throw new Error(`${policy}, seed ${seed}, step ${step}, after ${what}: ${(cause as Error).stack}`, {
        cause,
      });
    }
  }
  const { tablesBuilt, tablesFreed, outOfSync } = device.vgpu.gtt.counters;
  return { ...run.counts, churn: tablesBuilt + tablesFreed, outOfSync };
}

class Run {
  readonly counts = { compared: 0, refused: 0, whole: 0, split: 0, leaves64k: 0, bad: 0 };
  readonly #device: Device;
  readonly #isTrapped: boolean;
  readonly #random: Random;
  readonly #guest = new HugeGuest();
  readonly #spaces: Space[] = [];
  /** Frames with faults, by region. */
  readonly #faults = new Map<Region, ["invalid" | "p2m", number][]>();
  readonly #actions = {
    store: () => this.#randomStore(),
    large: () => this.#large(),
    ips: () => this.#toggleIps(),
    often: () => this.#often(),
    half: () => this.#half(),
    page: () => this.#page(),
    chain: () => this.#chain(),
    announce: () => this.#announce(),
    withdraw: () => this.#withdraw(),
    submit: () => this.#submit(),
    invalidate: () => {},
    ram: () => this.#ram(),
    shortage: () => this.#shortage(),
    reset: () => this.#reset(),
  };

  constructor(device: Device, policy: Policy, random: Random) {
    this.#device = device;
    this.#isTrapped = policy !== "untracked";
    this.#random = random;
    for (const gfn of TABLES) this.#guest.entries.set(gfn, new BigUint64Array(ENTRIES));
    for (const region of REGIONS) this.#addRam(region);
  }

  /** Does something, and compares. @returns What it was. */
  step(): string {
    const what = this.#random.weighted({
      store: 60,
      large: this.#isTrapped ? 50 : 25,
      ips: 10,
      often: 8,
      half: this.#isTrapped ? 12 : 0,
      page: 2,
      chain: 12,
      announce: 6,
      withdraw: 2,
      submit: 8,
      invalidate: 12,
      ram: 8,
      shortage: 4,
      reset: 0.2,
    });
    try {
      this.#actions[what]();
      assertInvariants(this.#device.vgpu.gtt);
      const isSettling = what === "invalidate" || this.#isTrapped && this.#random.chance(0.7);
      if (isSettling) this.#settle();
      assertInvariants(this.#device.vgpu.gtt);
      if (isSettling) this.#compare(this.#shadowed(), false);
    } catch (cause) {
      throw new Error(`${what}: ${(cause as Error).stack}`, { cause });
    }
    return what;
  }

  // ---- what the guest does to its memory

  /** A whole entry; one that is refused is taken back. */
  #write(gfn: number, index: number, value: bigint): void {
    const entries = this.#guest.entries.get(gfn);
    if (entries === undefined || !this.#guest.ram.has(gfn)) return; // such a store is lost
    entries[index] = value;
    const rc = this.#store(gfn * 4096 + 8 * index, BigUint64Array.of(value));
    if (rc === 0) return;
    this.counts.refused++;
    assert([ENXIO, EINVAL, ENOMEM].includes(rc), `a store was answered by ${rc}`);
    assert(isPresent(value));
    entries[index] = 0n;
    assertEquals(this.#store(gfn * 4096 + 8 * index, new BigUint64Array(1)), 0);
  }

  #store(gpa: number, values: BigUint64Array | Uint32Array): number {
    const bytes = new Uint8Array(values.buffer);
    if (this.#isTrapped) return this.#device.store(gpa, bytes)!;
    assert(this.#device.ram.write(gpa, bytes));
    return 0;
  }

  #entry(): bigint {
    const random = this.#random;
    if (random.chance(0.2)) return 0n;
    const frames = random.weighted({ tables: 60, data: 36, none: 4 });
    const frame = frames === "tables"
      ? random.pick(TABLES)
      : frames === "data"
      ? random.pick(REGIONS).gfn + random.below(LARGE)
      : random.pick(NO_RAM);
    let flags = random.pick([3n, 3n, 3n, 1n, 0x1bn, 0x43n, 0x8000_0000_0000_0003n, 2n]);
    if (random.chance(0.15)) flags |= 0x80n;
    if (random.chance(0.3)) flags |= 0x800n;
    return withFrame(flags, frame);
  }

  /** A 2 MiB page; the low bits of its frame are flags. */
  #largeEntry(): bigint {
    const base = this.#random.pick([1, 1, 2, 2, 3, 3, 4, 4, 5, 0, 6]) * LARGE;
    const flags = this.#random.pick([0x83n, 0x81n, 0x8c3n, 0x4000_0000_0000_0093n, 0x82n]);
    return withFrame(flags, base + (this.#random.chance(0.5) ? 0 : this.#random.below(LARGE)));
  }

  #index(): number {
    return this.#random.chance(0.9) ? this.#random.pick(INDICES) : this.#random.below(ENTRIES);
  }

  /** Tables that are shadowed as such, as the device has them; any if there is none. 0: all. */
  #tablesOf(kind: number): number[] {
    const found = [...this.#device.vgpu.gtt.parts.tables.all()]
      .filter((table) => table.kind === kind && !table.isSplit)
      .map(({ gfn }) => gfn);
    return found.length > 0 ? found : TABLES;
  }

  #randomStore(): void {
    const kind = this.#random.pick([0, 1, 1, 2, 3]);
    this.#write(this.#random.pick(this.#tablesOf(kind)), this.#index(), this.#entry());
  }

  #large(): void {
    this.#write(this.#random.pick(this.#tablesOf(2)), this.#index(), this.#largeEntry());
  }

  /** Only the IPS bit of a PDE changes. */
  #toggleIps(): void {
    const gfn = this.#random.pick(this.#tablesOf(2));
    const index = this.#random.pick(INDICES);
    const entry = this.#guest.entry(gfn, index);
    this.#write(gfn, index, entry ^ 0x800n);
  }

  /** Many stores to one PTE table, as lets it go out of sync. */
  #often(): void {
    const gfn = this.#random.pick(this.#tablesOf(1));
    for (let n = 3 + this.#random.below(6); n > 0; n--) this.#write(gfn, this.#index(), this.#entry());
  }

  /** Some entries in halves, and the flush. */
  #half(): void {
    const places: [gfn: number, index: number][] = [];
    for (let n = 1 + this.#random.below(3); n > 0; n--) {
      const isLarge = this.#random.chance(0.4);
      const gfn = this.#random.pick(isLarge ? this.#tablesOf(2) : TABLES);
      const entries = this.#guest.entries.get(gfn);
      if (entries === undefined || !this.#guest.ram.has(gfn)) continue;
      const index = this.#index();
      const lanes = Uint32Array.of(0, 0);
      new BigUint64Array(lanes.buffer)[0] = isLarge ? this.#largeEntry() : this.#entry();
      for (const half of this.#random.pick([[0], [1], [0, 1], [1, 0]])) {
        new Uint32Array(entries.buffer)[2 * index + half] = lanes[half]!;
        assertEquals(this.#store(gfn * 4096 + 8 * index + 4 * half, Uint32Array.of(lanes[half]!)), 0);
        assertInvariants(this.#device.vgpu.gtt);
      }
      places.push([gfn, index]);
    }
    const { gtt } = this.#device.vgpu;
    if (this.#random.chance(0.2)) this.#ram(); // what waits is not touched
    this.#repair(); // a flush comes after the sync, as documented: alone it would leave snapshots behind
    if (gtt.flushPostShadow() === 0) return;
    this.counts.refused++;
    for (const [gfn, index] of places) this.#write(gfn, index, 0n);
    assertEquals(gtt.flushPostShadow(), 0);
  }

  /** A whole page at once. */
  #page(): void {
    const gfn = this.#random.pick(TABLES);
    const entries = this.#guest.entries.get(gfn)!;
    if (!this.#guest.ram.has(gfn)) return;
    const entry = this.#random.chance(0.5) ? 0n : this.#entry();
    entries.fill(entry);
    if (this.#store(gfn * 4096, entries.slice()) === 0) return;
    this.counts.refused++;
    entries.fill(0n);
    assertEquals(this.#store(gfn * 4096, entries.slice()), 0);
  }

  /** A proper way down from one page to the next, whatever the pages were before; often to 64 KiB pages. */
  #chain(): void {
    const pages = [...TABLES].sort(() => this.#random.below(3) - 1).slice(0, 4);
    const index = this.#random.pick(INDICES);
    if (this.#isTrapped && this.#random.chance(0.8)) this.#clear(pages);
    const leaf = this.#random.pick(REGIONS).gfn + this.#random.below(200);
    for (const [i, gfn] of [...pages.entries()].reverse()) {
      const flags = i === 2 && this.#random.chance(0.5) ? 0x803n : 3n;
      this.#write(gfn, index, withFrame(flags, pages[i + 1] ?? leaf));
    }
    if (this.#random.chance(0.6) && this.#spaces.length < MANY_SPACES) {
      this.#create({ level: 4, roots: [withFrame(0n, pages[0]!), 0n, 0n, 0n] });
    }
  }

  /** Pages that are empty can be shadowed where one bad entry would fail all. */
  #clear(pages: readonly number[]): void {
    for (const gfn of pages) {
      if (!this.#guest.ram.has(gfn)) continue;
      this.#guest.entries.get(gfn)!.fill(0n);
      assertEquals(this.#store(gfn * 4096, new BigUint64Array(ENTRIES)), 0);
    }
  }

  // ---- what it tells the device

  #newSpace(): Space {
    const random = this.#random;
    const frame = () => random.chance(0.97) ? random.pick(TABLES) : random.pick(NO_RAM);
    const root = () => random.chance(0.3) ? 0n : withFrame(random.pick([0n, 1n, 3n]), frame());
    if (random.chance(0.4)) return { level: 4, roots: [withFrame(0n, frame()), 0n, 0n, 0n] };
    return { level: 3, roots: [withFrame(0n, frame()), root(), root(), root()] };
  }

  #announce(): void {
    if (this.#spaces.length >= MANY_SPACES) return this.#withdraw();
    this.#create(this.#newSpace());
  }

  #create(space: Space): void {
    const { gtt } = this.#device.vgpu;
    const isKnown = gtt.findPpgttMm(space.level, lanes(space.roots)) !== undefined;
    const rc = gtt.g2vCreatePpgttMm(space.level, lanes(space.roots));
    if (rc === 0) this.#spaces.push(space);
    if (isKnown) return assertEquals(rc, 0);
    this.#expectShadowed(space, rc);
    if (rc === 0 && !this.#isTrapped) {
      this.#compare([gtt.findPpgttMm(space.level, lanes(space.roots))!], false);
    }
  }

  /** Where stores trap, one bad entry fails all, unless its table was shadowed before; else only a bad root does. */
  #expectShadowed(space: Space, rc: number): void {
    if (this.#isTrapped ? this.#guest.isClean(space) : this.#guest.hasRoots(space)) assertEquals(rc, 0);
    else if (!this.#isTrapped) assertEquals(rc, EINVAL);
    else assert([0, ENXIO, EINVAL].includes(rc), `shadowing was answered by ${rc}`);
  }

  #withdraw(): void {
    const [space] = this.#spaces.splice(this.#random.below(this.#spaces.length), 1);
    if (space === undefined) return;
    assertEquals(this.#device.vgpu.gtt.g2vDestroyPpgttMm(space.level, lanes(space.roots)), 0);
  }

  #submit(): void {
    if (this.#isTrapped) this.#settle();
    const isNew = this.#spaces.length === 0 || this.#random.chance(0.2);
    const space = isNew ? this.#newSpace() : this.#random.pick(this.#spaces);
    const done = this.#device.vgpu.gtt.submit(space.level, lanes(space.roots), (mm) => {
      this.#compare([mm], false);
    });
    this.#expectShadowed(space, typeof done === "number" ? done : 0);
  }

  /** Brings everything in sync. Where stores trap, leaves that cannot be followed are taken back. */
  #settle(): void {
    const { gtt } = this.#device.vgpu;
    if (!this.#isTrapped) {
      const before = gtt.counters.compared;
      assertEquals(gtt.syncOosPages(), 0);
      const tables = [...gtt.parts.tables.all()].filter((table) => !table.isSplit);
      return assertEquals(gtt.counters.compared - before, tables.length, "each table once");
    }
    this.#repair();
    assertEquals(gtt.flushPostShadow(), 0);
  }

  #repair(): void {
    const { gtt } = this.#device.vgpu;
    for (let tries = 0; gtt.syncOosPages() !== 0; tries++) {
      assert(tries < 50, "a sync goes on failing");
      this.counts.refused++;
      for (const gfn of this.#tablesOf(1)) {
        for (let index = 0; index < ENTRIES; index++) {
          if (this.#isBadLeaf(this.#guest.entry(gfn, index))) this.#write(gfn, index, 0n);
        }
      }
    }
  }

  /** Whether an entry is bad as a leaf of 4 KiB or of 64 KiB. */
  #isBadLeaf(entry: bigint): boolean {
    if (!isPresent(entry)) return false;
    const first = frameOf(entry) - frameOf(entry) % 16;
    return Array.from({ length: 16 }, (_, i) => this.#guest.host(first + i)).includes(null) ||
      this.#guest.host(frameOf(entry)) === null;
  }

  #compare(mms: readonly PpgttMm[], mayMiss: boolean): void {
    const comparison = new HugeComparison(this.#guest, this.#device, mayMiss);
    for (const mm of mms) {
      if (!mm.shadowed) continue;
      comparison.space(spaceOf(mm), mm.shadowRoots);
      if (!mayMiss) this.#probe(mm);
    }
    assertEquals(comparison.problems.slice(0, 5), []);
    this.counts.compared++;
    for (const key of ["whole", "split", "leaves64k", "bad"] as const) {
      this.counts[key] += comparison.seen[key];
    }
  }

  /** Some addresses by the documented function, by the view of both walks, and as the engines walk the shadow. */
  #probe(mm: PpgttMm): void {
    const { gtt } = this.#device.vgpu;
    const space = new PpgttSpace(gtt, this.#device.ram);
    space.mm = mm;
    for (let i = 0; i < 6; i++) {
      const index = () => BigInt(this.#random.pick(INDICES));
      const gma = index() << 39n | index() << 30n | index() << 21n | index() << 12n | 0x123n;
      const gfn = this.#guest.walk(spaceOf(mm), gma);
      const [lo, hi] = [Number(gma & 0xffff_ffffn), Number(gma >> 32n)];
      assertEquals(
        gtt.gmaToGpa(mm, lo, hi),
        gfn === null ? -1 : gfn * 4096 + 0x123,
        `gma ${gma.toString(16)}`,
      );
      const isRam = gfn !== null && this.#guest.host(gfn) !== null;
      const address = mm.level === 4 ? Number(gma) : lo;
      assertEquals(space.resolve(address, false), isRam ? gfn * 4096 + 0x123 : -1);
      assert(walkPpgtt(gtt, mm, lo, hi).agrees, `the walks of ${gma.toString(16)} do not agree`);
    }
  }

  #shadowed(): PpgttMm[] {
    return [...this.#device.vgpu.gtt.parts.mms.all()].filter((mm) => mm.shadowed);
  }

  // ---- upheavals

  /** RAM comes or goes; what maps its frames follows at once. */
  #ram(): void {
    const region = this.#random.pick(REGIONS.slice(this.#random.chance(0.2) ? 1 : 2));
    if (!this.#guest.ram.has(region.gfn)) return this.#addRam(region);
    for (let i = 0; i < region.frames; i++) {
      this.#guest.ram.delete(region.gfn + i);
      this.#guest.entries.get(region.gfn + i)?.fill(0n);
    }
    this.#device.unmapRam(region.gfn * 4096, region.frames * 4096);
    for (const [fault, gfn] of this.#faults.get(region) ?? []) {
      this.#guest.faulty.delete(gfn);
      this.#guest.noTables.delete(gfn);
      this.#device.faults!.setFrame(fault, gfn, false);
    }
    this.#faults.delete(region);
  }

  /** Frames that cannot be translated are so from the moment they come. */
  #addRam(region: Region): void {
    const { gfn, frames, mfn = gfn + 0x100000 } = region;
    if (gfn >= LARGE && this.#random.chance(0.2)) {
      const fault = this.#random.pick(["invalid", "p2m"] as const);
      const bad = gfn + this.#random.pick([0, frames - 1, this.#random.below(frames)]);
      this.#faults.set(region, [[fault, bad]]);
      this.#guest.faulty.add(bad);
      if (fault === "invalid" && !this.#isTrapped) this.#guest.noTables.add(bad);
      this.#device.faults!.setFrame(fault, bad, true);
    }
    for (let i = 0; i < frames; i++) this.#guest.ram.set(gfn + i, mfn + i);
    this.#device.mapRam({ gpa: gfn * 4096, size: frames * 4096, mfn });
  }

  /** The host lacks memory: less may be mapped, but nothing wrong; what was refused is taken back. */
  #shortage(): void {
    const faults = this.#device.faults!;
    const fault = this.#random.pick(["alloc", "dma"] as const);
    if (!this.#isTrapped) {
      for (let i = 0; i < 4; i++) this.#large();
      this.#chain();
    }
    faults.setCount(fault, 1 + this.#random.below(4));
    if (this.#isTrapped) {
      for (let i = 0; i < 4; i++) this.#large();
      const space = this.#newSpace();
      const rc = this.#device.vgpu.gtt.createMm(space.level, lanes(space.roots));
      if (typeof rc !== "number") this.#device.vgpu.gtt.destroyMm(rc);
    } else {
      const rc = this.#device.vgpu.gtt.syncOosPages();
      assert([0, ENOMEM, EINVAL].includes(rc), `a sync was answered by ${rc}`);
      this.#compare(this.#shadowed(), rc !== 0);
    }
    faults.setCount(fault, 0);
    this.#settle();
    this.#compare(this.#shadowed(), false);
  }

  #reset(): void {
    this.#device.vgpu.gtt.resetGtt();
    this.#spaces.length = 0;
  }
}

function spaceOf(mm: PpgttMm): Space {
  const roots = Array.from({ length: 4 }, (_, i) => {
    return BigInt(mm.roots[2 * i] ?? 0) | BigInt(mm.roots[2 * i + 1] ?? 0) << 32n;
  });
  return { level: mm.level, roots };
}

function lanes(roots: readonly bigint[]): Uint32Array {
  return new Uint32Array(BigUint64Array.from(roots).buffer);
}
