/**
 * Looks on use (engine.md §16.5): engines and views translate through tables that are compared only as a walk comes to
 * them, while a guest changes its tables, invalidates, takes RAM away and makes and ends address spaces.
 *
 * What an address may lead to is found by a plain walk over the guest's memory in which each entry has every value that it
 * had since the last invalidation: one value, if nobody stored to it since. The same seed always gives the same run.
 */

import { assert, assertEquals } from "@std/assert";
import { childKind, ENTRIES, frameOf, isLarge, isPresent, withFrame } from "./entry.ts";
import { HugeGuest, LARGE, type Space, type Table } from "./huge_guest.ts";
import { Random } from "./random.ts";
import { assertInvariants } from "../../src/gtt/invariants.ts";
import type { PpgttMm } from "../../src/gtt/mm.ts";
import { walkPpgtt } from "../../src/inspect/walk.ts";
import { PpgttSpace } from "../../src/streamer/graphics_access.ts";
import { createDevice, type Device } from "../../src/vgpu/device.ts";
import { TLB_INVALIDATE } from "../../src/vgpu/tlb.ts";

const EINVAL = -22;
const ENOMEM = -12;
const NOWHERE = -1;
/** Low bits of each address: the same offset everywhere. */
const OFFSET = 0x120;

/** Frames that serve as tables of every kind; few, so that pages are shared and used again. */
const TABLES = Array.from({ length: 12 }, (_, i) => i + 1);
/** First frame, frames, and first host frame of each region: the first stays. The last page's frames are split. */
const REGIONS = [
  [0, 8, 0x100000],
  [8, 24, 0x100008],
  [0x200, 0x100, 0x100200],
  [0x300, 0x100, 0x100300],
  [0x400, 0x100, 0x200401],
  [0x500, 0x100, 0x300500],
] as const;
const LEAVES = [0, 5, 20, 31, 0x200, 0x210, 0x3ff, 0x400, 0x4f3, 0x510, 0x600, 0x3_ffff_ffff];
/** Entries that are used more than others: neighbours, and those of 64 KiB pages. */
const INDICES = [0, 1, 16, 18, 511];
const SHIFTS = { PML4: 39n, PDP: 30n, PDE: 21n, PTE: 12n };
const [WRITABLE, PAGE_LARGE, IPS] = [2n, 0x80n, 0x800n];
const ENGINES = 3;
const MANY_SPACES = 6;

/** Where an address leads: a guest frame and whether it may be written. */
type Lead = `${number} ${boolean}`;
const NO_LEAD: Lead = "-1 false";

/** A guest that remembers what its entries were since the last invalidation. */
class RememberingGuest extends HugeGuest {
  readonly #before = new Map<string, Set<bigint>>();
  readonly #hugePages: boolean;

  constructor(hugePages: boolean) {
    super();
    this.#hugePages = hugePages;
  }

  store(gfn: number, index: number, value: bigint): void {
    const key = `${gfn} ${index}`;
    const before = this.#before.get(key) ?? new Set();
    this.#before.set(key, before.add(this.entry(gfn, index)));
    if (!this.entries.has(gfn)) this.entries.set(gfn, new BigUint64Array(ENTRIES));
    this.entries.get(gfn)![index] = value;
  }

  /** Whatever was is seen no more. */
  invalidate(): void {
    this.#before.clear();
  }

  /** Everything that an address may lead to now. */
  leads(space: Space, gma: bigint): Set<Lead> {
    const found = new Set<Lead>();
    const root = this.roots(space)[space.level === 4 ? 0 : Number(gma >> 30n & 3n)] ?? null;
    if (root === null) found.add(NO_LEAD);
    else this.#descend(root, gma, true, found);
    return found;
  }

  #descend(table: Table, gma: bigint, mayWrite: boolean, found: Set<Lead>): void {
    const { gfn, kind, has64k } = table;
    const index = Number(gma >> SHIFTS[kind] & 511n);
    const counting = has64k ? index - index % 16 : index;
    for (const entry of new Set(this.#before.get(`${gfn} ${counting}`)).add(this.entry(gfn, counting))) {
      const isWritable = mayWrite && (entry & WRITABLE) !== 0n;
      const frame = frameOf(entry);
      if (!isPresent(entry)) found.add(NO_LEAD);
      else if (kind === "PTE") this.#add(has64k ? frame - frame % 16 + index % 16 : frame, isWritable, found);
      else if (isLarge(kind, entry)) {
        const first = frame - frame % LARGE;
        const isPage = kind === "PDE" && this.#hugePages && this.hostLarge(first) !== null;
        if (isPage) this.#add(first + Number(gma >> 12n & 511n), isWritable, found);
        else found.add(NO_LEAD);
      } else if (!this.isTable(frame)) found.add(NO_LEAD);
      else {
        const is64k = this.#hugePages && kind === "PDE" && (entry & IPS) !== 0n;
        this.#descend({ gfn: frame, kind: childKind(kind), has64k: is64k }, gma, isWritable, found);
      }
    }
  }

  #add(gfn: number, isWritable: boolean, found: Set<Lead>): void {
    found.add(this.ram.has(gfn) ? `${gfn} ${isWritable}` : NO_LEAD);
  }
}

/** What a run came to, to see that it was worth running. */
interface RunCounts {
  /** Translations that led somewhere, of which only one answer was right. */
  exact: number;
  /** Translations of which several answers were right. */
  loose: number;
  churn: number;
  reclaimed: number;
}

/** An engine's way to memory, and the address space of the context that runs. */
interface Engine {
  readonly access: PpgttSpace;
  space: Space | null;
}

/** What can happen. */
type Action =
  | "store"
  | "page"
  | "chain"
  | "announce"
  | "withdraw"
  | "begin"
  | "end"
  | "goOn"
  | "invalidate"
  | "sync"
  | "turn"
  | "look"
  | "ram"
  | "shortage"
  | "reset";

class Run {
  /** What the last step did. */
  doing: Action = "store";
  readonly #device: Device;
  readonly #random: Random;
  readonly #guest: RememberingGuest;
  readonly #spaces: Space[] = [];
  readonly #engines: readonly Engine[];
  #isShort = false;
  /** Index of the entries that were last made to lead somewhere. */
  #usedIndex = 0;
  /** The engine that they are for. */
  #usedEngine: Engine;
  #exact = 0;
  #loose = 0;
  readonly #actions: Readonly<Record<Action, () => void>> = {
    store: () => this.#store(),
    page: () => this.#page(),
    chain: () => this.#chain(),
    announce: () => this.#announce(),
    withdraw: () => this.#withdraw(),
    begin: () => this.#begin(),
    end: () => this.#end(this.#engine()),
    goOn: () => this.#goOn(),
    turn: () => this.#turn(),
    look: () => this.#look(),
    invalidate: () => this.#invalidate(),
    sync: () => this.#sync(),
    ram: () => this.#ram(),
    shortage: () => this.#shortage(),
    reset: () => this.#reset(),
  };

  constructor(device: Device, random: Random, hugePages: boolean) {
    this.#device = device;
    this.#random = random;
    this.#guest = new RememberingGuest(hugePages);
    this.#engines = Array.from({ length: ENGINES }, () => {
      return { access: new PpgttSpace(device.vgpu.gtt, device.ram), space: null };
    });
    this.#usedEngine = this.#engines[0]!;
    for (const [first, frames, mfn] of REGIONS) this.#addRam(first, frames, mfn);
    for (const gfn of TABLES) for (const index of INDICES) this.#write(gfn, index, this.#entry());
  }

  get counts(): RunCounts {
    const { tablesBuilt, tablesFreed, mmsReclaimed } = this.#device.vgpu.gtt.counters;
    const churn = tablesBuilt + tablesFreed;
    return { exact: this.#exact, loose: this.#loose, churn, reclaimed: mmsReclaimed };
  }

  /** Does something. */
  step(): void {
    this.doing = this.#random.weighted({
      store: 50,
      page: 2,
      chain: 25,
      announce: 5,
      withdraw: 4,
      begin: 20,
      end: 2,
      goOn: 5,
      turn: 40,
      look: 10,
      invalidate: 20,
      sync: 1,
      ram: 2,
      shortage: 2,
      reset: 0.3,
    });
    this.#actions[this.doing]();
  }

  // ---- what the guest does to its memory

  #write(gfn: number, index: number, value: bigint): void {
    if (!this.#guest.ram.has(gfn)) return; // such a store is lost
    this.#guest.store(gfn, index, value);
    assert(this.#device.ram.write(gfn * 4096 + 8 * index, new Uint8Array(BigUint64Array.of(value).buffer)));
  }

  #entry(): bigint {
    const random = this.#random;
    if (random.chance(0.15)) return 0n;
    const frame = random.pick(random.chance(0.7) ? TABLES : LEAVES);
    let flags = random.pick([3n, 3n, 3n, 1n, 0x1bn, 0x8000_0000_0000_0003n, 2n]);
    if (random.chance(0.15)) flags |= PAGE_LARGE;
    if (random.chance(0.25)) flags |= IPS;
    return withFrame(flags, frame);
  }

  #store(): void {
    const index = this.#random.chance(0.95) ? this.#random.pick(INDICES) : this.#random.below(ENTRIES);
    this.#write(this.#random.pick(TABLES), index, this.#entry());
  }

  /** A whole page at once: freed, or all entries alike as in scratch tables. */
  #page(): void {
    const gfn = this.#random.pick(TABLES);
    const entry = this.#random.chance(0.5) ? 0n : this.#entry();
    for (let index = 0; index < ENTRIES; index++) this.#write(gfn, index, entry);
  }

  /** A proper way down from one page to the next, whatever the pages were before; some lead to themselves. */
  #chain(): void {
    const index = this.#usedIndex = this.#random.pick(INDICES);
    const { space } = this.#usedEngine = this.#engine();
    const levels = space?.level === 3 ? 2 : 4;
    let gfn = space === null ? this.#random.pick(TABLES) : frameOf(space.roots[0]!);
    for (let i = 1; i <= levels; i++) {
      const next = this.#random.pick(i === levels ? LEAVES : TABLES);
      let flags = this.#random.chance(0.3) ? 3n | IPS : 3n;
      const isLarge = i === levels - 1 && this.#random.chance(0.3);
      if (isLarge) flags |= PAGE_LARGE;
      this.#write(gfn, index, withFrame(flags, isLarge ? this.#random.pick(LEAVES) : next));
      gfn = next;
    }
  }

  // ---- what it tells the device

  #newSpace(): Space {
    const random = this.#random;
    const root = () => withFrame(0n, random.chance(0.97) ? random.pick(TABLES) : 0x700);
    if (random.chance(0.7)) return { level: 4, roots: [root(), 0n, 0n, 0n] };
    return { level: 3, roots: [root(), 0n, root(), random.chance(0.5) ? 0n : root()] };
  }

  #announce(): void {
    if (this.#spaces.length >= MANY_SPACES) return this.#withdraw();
    const space = this.#newSpace();
    const isKnown = this.#mm(space) !== undefined;
    const rc = this.#device.vgpu.gtt.g2vCreatePpgttMm(space.level, lanes(space.roots));
    if (rc === 0) this.#spaces.push(space);
    if (!isKnown) this.#expectBegun(space, rc);
  }

  /** One reference less, sometimes one that an engine holds. */
  #withdraw(): void {
    const isEngines = this.#random.chance(0.1);
    const [space] = isEngines
      ? [this.#engine().space]
      : this.#spaces.splice(this.#random.below(this.#spaces.length), 1);
    if (space) this.#device.vgpu.gtt.g2vDestroyPpgttMm(space.level, lanes(space.roots));
  }

  #expectBegun(space: Space, rc: number): void {
    const allowed = this.#guest.hasRoots(space) ? [0] : [EINVAL];
    if (this.#isShort) allowed.push(ENOMEM);
    assert(allowed.includes(rc), `${rc} is none of ${allowed}`);
  }

  #begin(): void {
    const engine = this.#engine();
    this.#end(engine);
    const space = this.#spaces.length === 0 || this.#random.chance(0.3)
      ? this.#newSpace()
      : this.#random.pick(this.#spaces);
    const begun = this.#device.vgpu.gtt.beginWorkload(space.level, lanes(space.roots), "on use");
    this.#expectBegun(space, typeof begun === "number" ? begun : 0);
    if (typeof begun === "number") return;
    engine.space = space;
    engine.access.mm = begun.mm;
    this.#invalidated();
  }

  #end(engine: Engine): void {
    const { mm } = engine.access;
    engine.access.mm = engine.space = null;
    if (mm !== null) this.#device.vgpu.gtt.endWorkload(mm);
  }

  /** As after a lite restore. */
  #goOn(): void {
    const { mm } = this.#engine().access;
    if (mm === null) return;
    assertEquals(this.#device.vgpu.gtt.refreshWorkload(mm, "on use"), 0);
    this.#invalidated();
  }

  #invalidate(): void {
    this.#device.vgpu.write(0, TLB_INVALIDATE, 4, 1, 0);
    this.#invalidated();
  }

  #sync(): void {
    this.#device.vgpu.gtt.syncOosPages();
    this.#invalidated();
  }

  #invalidated(): void {
    this.#guest.invalidate();
  }

  // ---- what is translated

  /** An engine's turn, while a CPU goes on storing. */
  #turn(): void {
    const { access, space } = this.#engine();
    access.forget();
    for (let i = 0; i < 6; i++) {
      if (this.#random.chance(0.2)) this.#store();
      if (this.#random.chance(0.05)) this.#invalidate();
      const gma = this.#gma();
      const forWriting = this.#random.chance(0.3);
      const gpa = access.resolve(Number(gma), forWriting);
      const leads = this.#leads(space, access.mm, gma);
      const isRight = [...leads].some((lead) => {
        const [gfn, isWritable] = lead.split(" ");
        if (gpa === NOWHERE) return gfn === "-1" || forWriting && isWritable === "false";
        return gpa === Number(gfn) * 4096 + OFFSET && (!forWriting || isWritable === "true");
      });
      this.#expect(isRight || gpa === NOWHERE && this.#isShort, gma, gpa, leads);
    }
  }

  /** Someone from outside translates: by the documented function, whose leaf is read at once, or in the view. */
  #look(): void {
    const { gtt } = this.#device.vgpu;
    const mms = [...gtt.parts.mms.all()];
    if (mms.length === 0) return;
    const mm = this.#random.pick(mms);
    const gma = this.#gma();
    const [lo, hi] = [Number(gma & 0xffff_ffffn), Number(gma >> 32n)];
    const leads = this.#leads(spaceOf(mm), mm, gma);
    const isExact = leads.size === 1 && !this.#isShort && mm.shadowed;
    if (this.#random.chance(0.5)) {
      const { agrees } = walkPpgtt(gtt, mm, lo, hi);
      this.#expect(agrees || !isExact, gma, agrees ? 1 : 0, leads);
      return;
    }
    const gpa = gtt.gmaToGpa(mm, lo, hi);
    const gfn = gpa === NOWHERE ? NOWHERE : (gpa - OFFSET) / 4096;
    // The frame need not be RAM.
    const isRight = gpa === NOWHERE || !this.#guest.ram.has(gfn)
      ? leads.has(NO_LEAD)
      : [...leads].some((lead) => lead.startsWith(`${gfn} `));
    this.#expect(isRight || !isExact, gma, gpa, leads);
  }

  #leads(space: Space | null, mm: PpgttMm | null, gma: bigint): Set<Lead> {
    return space === null || !mm?.shadowed ? new Set<Lead>([NO_LEAD]) : this.#guest.leads(space, gma);
  }

  #expect(isRight: boolean, gma: bigint, got: number, leads: Set<Lead>): void {
    assert(isRight, `0x${gma.toString(16)}: ${got} is none of ${[...leads].join(", ")}`);
    if (leads.size > 1) this.#loose++;
    else if (!leads.has(NO_LEAD)) this.#exact++;
  }

  #gma(): bigint {
    const index = () => BigInt(this.#random.pick(INDICES));
    const same = this.#random.chance(0.7) ? BigInt(this.#usedIndex) : index();
    const next = () => this.#random.chance(0.9) ? same : index();
    return next() << 39n | next() << 30n | next() << 21n | next() << 12n | BigInt(OFFSET);
  }

  #engine(): Engine {
    return this.#random.chance(0.5) ? this.#usedEngine : this.#random.pick(this.#engines);
  }

  #mm(space: Space): PpgttMm | undefined {
    return this.#device.vgpu.gtt.findPpgttMm(space.level, lanes(space.roots));
  }

  // ---- upheavals

  #ram(): void {
    const [first, frames, mfn] = this.#random.pick(REGIONS.slice(1));
    if (!this.#guest.ram.has(first)) return this.#addRam(first, frames, mfn);
    for (let gfn = first; gfn < first + frames; gfn++) {
      this.#guest.ram.delete(gfn);
      this.#guest.entries.delete(gfn);
    }
    this.#device.unmapRam(first * 4096, frames * 4096);
  }

  #addRam(first: number, frames: number, mfn: number): void {
    for (let i = 0; i < frames; i++) this.#guest.ram.set(first + i, mfn + i);
    this.#device.mapRam({ gpa: first * 4096, size: frames * 4096, mfn });
  }

  /** The host lacks memory for a while: shadows of who runs nothing are taken, and less may be mapped. */
  #shortage(): void {
    this.#isShort = true;
    this.#device.faults!.setCount("alloc", 1 + this.#random.below(4));
    for (let i = 0; i < 8; i++) {
      this.#chain();
      this.#invalidate();
      this.#turn();
      this.#look();
    }
    this.#device.faults!.setCount("alloc", 0);
    this.#invalidate();
    this.#isShort = false;
  }

  #reset(): void {
    this.#device.vgpu.gtt.resetGtt();
    this.#spaces.length = 0;
  }
}

/** Runs a guest. @throws When a translation is wrong or an invariant is broken; the message says after which step. */
function run(seed: number, steps: number, hugePages: boolean): RunCounts {
  using device = createDevice({ tracking: "untracked", faults: true, hugePages });
  const guest = new Run(device, new Random(seed), hugePages);
  for (let step = 0; step < steps; step++) {
    try {
      guest.step();
      assertInvariants(device.vgpu.gtt);
    } catch (cause) {
      throw new Error(`seed ${seed}, step ${step}, ${guest.doing}: ${(cause as Error).message}`, { cause });
    }
  }
  return guest.counts;
}

function spaceOf(mm: PpgttMm): Space {
  return { level: mm.level, roots: [...new BigUint64Array(mm.roots.buffer)] };
}

function lanes(roots: readonly bigint[]): Uint32Array {
  return new Uint32Array(BigUint64Array.from(roots).buffer);
}

/** Seeds, and steps of each run: as many as two slow cores do in a few seconds. */
const SEEDS = [1, 2, 3, 4];
const STEPS = 1200;

for (const hugePages of [false, true]) {
  for (const seed of SEEDS) {
    const pages = hugePages ? "large pages" : "pages of 4 KiB";
    Deno.test(`looks on use translate as a guest's tables say, ${pages}, seed ${seed}`, () => {
      const counts = run(seed, STEPS, hugePages);
      assert(counts.exact > STEPS / 10, `only ${counts.exact} exact translations`);
      assert(counts.churn > STEPS / 4, `only ${counts.churn} tables came and went`);
      assert(counts.reclaimed > 0, "nothing was reclaimed");
    });
  }
}
