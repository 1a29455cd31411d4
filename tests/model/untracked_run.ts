/**
 * Random life of a guest without write protection: it changes its tables in RAM as it likes, uses pages again at another
 * level, links cycles, takes RAM away, and now and then submits or invalidates the TLB. After each of these, guest walk =
 * shadow walk; after each step the engine's invariants hold.
 *
 * The same seed and length always give the same run.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { ENTRIES, frameOf, isPresent, withFrame } from "./entry.ts";
import { Random } from "./random.ts";
import { FRAMES, Guest, type Space } from "./untracked_guest.ts";
import { assertContained, KIND_OF_NUMBER, ShadowComparison } from "./untracked_shadow.ts";
import { assertInvariants } from "../../src/gtt/invariants.ts";
import type { PpgttMm } from "../../src/gtt/mm.ts";
import { createDevice, type Device } from "../../src/vgpu/device.ts";

const EINVAL = -22;
const EFAULT = -14;
const ENOMEM = -12;

/** Frames that serve as tables of every kind; few, so that pages are shared and used again. */
const TABLES = Array.from({ length: 14 }, (_, i) => i + 1);
/** Frames that serve as leaves, some of them in RAM that comes and goes. */
const LEAVES = [0, 20, 21, 22, 23, 32, 33, 39];
/** Runs of frames that are RAM, each a region: the first stays, the others come and go. */
const REGIONS = [[0, 8], [8, 24], [32, 8], [40, 8]] as const;
/** Frames that never are RAM. */
const NO_RAM = [60, FRAMES - 1, FRAMES, 0x12345, 0x3_ffff_ffff];
/** Entries that are used more often than others. */
const INDICES = [0, 1, 2, 3, 255, 510, 511];
/** Values that are easily mistaken: no numbers as doubles, minus zero, all ones, only the present bit. */
const STRANGE = [
  0x8000_0000_0000_0000n,
  0x7ff8_0000_0000_0001n,
  0xfff0_0000_0000_2003n,
  0xffff_ffff_ffff_ffffn,
  0x7ff0_0000_0000_0000n,
  1n,
  2n,
];
/** More address spaces than this are not made. */
const MANY_SPACES = 6;

/** What happened in a run, to see that it was worth running. */
export interface RunCounts {
  /** Steps. */
  steps: number;
  /** Syncs after which everything was compared. */
  compared: number;
  /** Syncs that the host failed. */
  failed: number;
  /** Tables that the syncs freed or built. */
  churn: number;
}

/** Runs a guest. @throws When a walk differs or an invariant is broken; the message says after which step. */
export function runGuest(seed: number, steps: number): RunCounts {
  using device = createDevice({ tracking: "untracked", faults: true });
  const run = new Run(device, new Random(seed));
  for (let step = 0; step < steps; step++) {
    const what = run.step();
    try {
      assertInvariants(device.vgpu.gtt);
      assertEquals(device.host.protectedFrames.size, 0);
      assertContained(device);
    } catch (cause) {
      throw new Error(`seed ${seed}, step ${step}, ${what}: ${(cause as Error).message}`, { cause });
    }
  }
  const { tablesBuilt, tablesFreed } = device.vgpu.gtt.counters;
  return { steps, ...run.counts, churn: tablesBuilt + tablesFreed };
}

class Run {
  readonly counts = { compared: 0, failed: 0 };
  readonly #device: Device;
  readonly #random: Random;
  readonly #guest = new Guest();
  readonly #spaces: Space[] = [];
  readonly #actions = {
    store: () => this.#store(),
    page: () => this.#page(),
    chain: () => this.#chain(),
    swap: () => this.#swap(),
    announce: () => this.#announce(),
    withdraw: () => this.#withdraw(),
    submit: () => this.#submit(),
    invalidate: () => this.#invalidate(),
    hold: () => this.#hold(),
    ram: () => this.#ram(),
    shortage: () => this.#shortage(),
    unreadable: () => this.#unreadable(),
    reset: () => this.#reset(),
  };

  constructor(device: Device, random: Random) {
    this.#device = device;
    this.#random = random;
    for (const [first, frames] of REGIONS) this.#addRam(first, frames);
    for (const gfn of TABLES) this.#fill(gfn, (index) => INDICES.includes(index) ? this.#entry() : 0n);
  }

  /** Does something. @returns What it was. */
  step(): string {
    const what = this.#random.weighted({
      store: 60,
      page: 6,
      chain: 8,
      swap: 4,
      announce: 5,
      withdraw: 3,
      submit: 14,
      invalidate: 8,
      hold: 2,
      ram: 3,
      shortage: 3,
      unreadable: 1,
      reset: 0.2,
    });
    this.#actions[what]();
    return what;
  }

  // ---- what the guest does to its memory

  #write(gfn: number, index: number, value: bigint): void {
    if (!this.#guest.ram.has(gfn)) return; // such a store is lost
    this.#guest.entries[gfn * ENTRIES + index] = value;
    const bytes = new Uint8Array(BigUint64Array.of(value).buffer);
    assert(this.#device.ram.write(gfn * 4096 + 8 * index, bytes));
  }

  #fill(gfn: number, value: (index: number) => bigint): void {
    for (let index = 0; index < ENTRIES; index++) this.#write(gfn, index, value(index));
  }

  #entry(): bigint {
    const random = this.#random;
    if (random.chance(0.15)) return 0n;
    if (random.chance(0.05)) return random.pick(STRANGE);
    const frames = random.weighted({ tables: 70, leaves: 25, none: 5 });
    const frame = random.pick(frames === "tables" ? TABLES : frames === "leaves" ? LEAVES : NO_RAM);
    let flags = random.pick([3n, 3n, 3n, 1n, 0x1bn, 0x803n, 0x8000_0000_0000_0003n, 2n]);
    if (random.chance(0.07)) flags |= 0x80n;
    return withFrame(flags, frame);
  }

  #store(): void {
    const index = this.#random.chance(0.9) ? this.#random.pick(INDICES) : this.#random.below(ENTRIES);
    this.#write(this.#random.pick(TABLES), index, this.#entry());
  }

  /** A whole page at once: freed, all entries alike as in scratch tables, or data. */
  #page(): void {
    const gfn = this.#random.pick(TABLES);
    const entry = this.#entry();
    const how = this.#random.weighted({ empty: 3, uniform: 2, data: 1 });
    if (how === "empty") this.#fill(gfn, () => 0n);
    else if (how === "uniform") this.#fill(gfn, () => entry);
    else {this.#fill(gfn, (index) =>
        this.#random.chance(0.1) ? this.#entry() : BigInt(index * 0x1234567 & ~1));}
  }

  /** A proper way down from one page to the next, whatever the pages were before. */
  #chain(): void {
    const pages = [...TABLES].sort(() => this.#random.below(3) - 1).slice(0, 4);
    const index = this.#random.pick(INDICES);
    for (const [i, gfn] of pages.entries()) {
      this.#write(gfn, index, withFrame(3n, pages[i + 1] ?? this.#random.pick(LEAVES)));
    }
  }

  #swap(): void {
    const [one, two] = [this.#random.pick(TABLES), this.#random.pick(TABLES)];
    const before = this.#guest.entries.slice(one * ENTRIES, (one + 1) * ENTRIES);
    const other = this.#guest.entries.slice(two * ENTRIES, (two + 1) * ENTRIES);
    this.#fill(one, (index) => other[index] ?? 0n);
    this.#fill(two, (index) => before[index] ?? 0n);
  }

  // ---- what it tells the device

  #newSpace(): Space {
    const random = this.#random;
    const frame = () => random.chance(0.97) ? random.pick(TABLES) : random.pick(NO_RAM);
    const root = () => random.chance(0.3) ? 0n : withFrame(random.pick([0n, 1n, 3n]), frame());
    if (random.chance(0.7)) return { level: 4, roots: [withFrame(0n, frame()), 0n, 0n, 0n] };
    return { level: 3, roots: [withFrame(0n, frame()), root(), root(), root()] };
  }

  #announce(): void {
    if (this.#spaces.length >= MANY_SPACES) return this.#withdraw();
    const space = this.#newSpace();
    const rc = this.#device.vgpu.gtt.g2vCreatePpgttMm(space.level, lanes(space.roots));
    const isKnown = this.#spaces.some((each) => isSame(each, space));
    if (rc === 0) this.#spaces.push(space);
    if (!isKnown) this.#expectShadowed(space, rc);
    if (rc === 0 && !isKnown) this.#compare([this.#mm(space)], false);
  }

  /** Shadowing fails exactly where a root is no RAM or a page cannot be read; the lower root speaks first. */
  #expectShadowed(space: Space, rc: number): void {
    const allowed = [];
    if (!this.#guest.canExist(space)) allowed.push(EINVAL);
    if (!this.#isReadable([space])) allowed.push(EFAULT);
    assert((allowed.length > 0 ? allowed : [0]).includes(rc), `${rc} is none of ${allowed}`);
  }

  #isReadable(spaces: Iterable<Space>): boolean {
    const frames = [...this.#guest.reachable(spaces)].map((key) => Number(key.split(" ")[1]));
    return !frames.some((gfn) => this.#guest.unreadable.has(gfn));
  }

  #withdraw(): void {
    const [space] = this.#spaces.splice(this.#random.below(this.#spaces.length), 1);
    if (space === undefined) return;
    assertEquals(this.#device.vgpu.gtt.g2vDestroyPpgttMm(space.level, lanes(space.roots)), 0);
  }

  #submit(): void {
    const isNew = this.#spaces.length === 0 || this.#random.chance(0.2);
    const space = isNew ? this.#newSpace() : this.#random.pick(this.#spaces);
    let ran = false;
    const done = this.#device.vgpu.gtt.submit(space.level, lanes(space.roots), (mm) => {
      ran = true;
      this.#compare([mm], false);
    });
    assertEquals(ran, typeof done !== "number");
    this.#expectShadowed(space, typeof done === "number" ? done : 0);
  }

  #invalidate(): void {
    const { gtt } = this.#device.vgpu;
    const before = gtt.counters.compared;
    const rc = gtt.syncOosPages();
    const mms = this.#shadowed();
    assertEquals(rc, this.#isReadable(mms.map(spaceOf)) ? 0 : EFAULT);
    this.#compare(mms, false);
    this.#compareTables(mms);
    assertEquals(gtt.counters.compared - before, gtt.parts.tables.size, "each table once");
  }

  /** There are just the tables that the guest's trees consist of. */
  #compareTables(mms: readonly PpgttMm[]): void {
    const live = [...this.#device.vgpu.gtt.parts.tables.all()].map(({ kind, gfn }) => {
      return `${KIND_OF_NUMBER[kind]} ${gfn}`;
    });
    assertEquals(live.sort(), [...this.#guest.reachable(mms.map(spaceOf))].sort());
  }

  #compare(mms: readonly (PpgttMm | undefined)[], mayMiss: boolean): void {
    const comparison = new ShadowComparison(this.#guest, this.#device, mayMiss);
    for (const mm of mms) {
      if (mm === undefined || !mm.shadowed) continue;
      comparison.space(spaceOf(mm), mm.shadowRoots);
      if (!mayMiss) this.#probe(mm);
    }
    assertEquals(comparison.problems, []);
    if (mayMiss) this.counts.failed++;
    else this.counts.compared++;
  }

  /** Some addresses by the documented function. */
  #probe(mm: PpgttMm): void {
    for (let i = 0; i < 8; i++) {
      const index = () => BigInt(this.#random.pick(INDICES));
      const gma = index() << 39n | index() << 30n | index() << 21n | index() << 12n | 0x123n;
      const leaf = this.#guest.walk(spaceOf(mm), gma);
      const gpa = this.#device.vgpu.gtt.gmaToGpa(mm, Number(gma & 0xffff_ffffn), Number(gma >> 32n));
      assertEquals(gpa, leaf !== null && isPresent(leaf) ? frameOf(leaf) * 4096 + 0x123 : -1);
    }
  }

  #hold(): void {
    const space = this.#random.pick(this.#spaces.length > 0 ? this.#spaces : [this.#newSpace()]);
    const mm = this.#mm(space);
    if (mm === undefined) return;
    if (this.#random.chance(0.5)) this.#device.vgpu.gtt.unpinMm(mm);
    else this.#device.vgpu.gtt.pinMm(mm);
  }

  #mm(space: Space): PpgttMm | undefined {
    return this.#device.vgpu.gtt.findPpgttMm(space.level, lanes(space.roots));
  }

  #shadowed(): PpgttMm[] {
    return [...this.#device.vgpu.gtt.parts.mms.all()].filter((mm) => mm.shadowed);
  }

  // ---- upheavals

  /** RAM comes or goes; what maps its frames follows at once, and tables with the next sync. */
  #ram(): void {
    const [first, frames] = this.#random.pick(REGIONS.slice(1));
    if (!this.#guest.ram.has(first)) return this.#addRam(first, frames);
    for (let i = 0; i < frames; i++) this.#guest.ram.delete(first + i);
    for (let i = 0; i < frames; i++) {
      this.#guest.entries.fill(0n, (first + i) * ENTRIES, (first + i + 1) * ENTRIES);
    }
    this.#device.unmapRam(first * 4096, frames * 4096);
  }

  #addRam(first: number, frames: number): void {
    for (let i = 0; i < frames; i++) this.#guest.ram.add(first + i);
    this.#device.mapRam({ gpa: first * 4096, size: frames * 4096 });
  }

  /** The host lacks memory while it builds: less may be mapped, but nothing wrong; then all is made up for. */
  #shortage(): void {
    const { gtt } = this.#device.vgpu;
    const faults = this.#device.faults!;
    this.#chain();
    for (let i = 0; i < 6; i++) this.#store();
    const fault = this.#random.pick(["alloc", "dma"] as const);
    faults.setCount(fault, 1 + this.#random.below(6));
    const rc = gtt.syncOosPages();
    assert([0, ENOMEM, EINVAL, EFAULT].includes(rc));
    this.#compare(this.#shadowed(), rc !== 0);
    faults.setCount(fault, 0);
    this.#invalidate();
  }

  #unreadable(): void {
    const { unreadable } = this.#guest;
    const gfn = unreadable.size > 0 ? [...unreadable][0]! : this.#random.pick(TABLES);
    const isOn = !unreadable.delete(gfn);
    if (isOn) unreadable.add(gfn);
    this.#device.faults!.setFrame("read", gfn, isOn);
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

/** Whether the device takes two address spaces for one: level 4 looks at its first root only. */
function isSame(one: Space, two: Space): boolean {
  const used = one.level === 4 ? 1 : 4;
  return one.level === two.level && one.roots.slice(0, used).every((root, i) => root === two.roots[i]);
}
