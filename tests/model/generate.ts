/**
 * Random traces, aimed so that collisions, sharing and rewriting of live tables are frequent.
 *
 * A trace is made by running the model along and looking at it: stores go mostly to frames that are protected right
 * now, ids are mostly alive, roots mostly known. The same profile, seed and length always give the same trace.
 *
 * @module
 */

import { Aim } from "./aim.ts";
import { childKind } from "./entry.ts";
import { PAGE } from "./host.ts";
import { Model } from "./model.ts";
import { hex } from "./observe.ts";
import { type Action, type Profile, PROFILES, SETTINGS, type Settings } from "./profiles.ts";
import { Random } from "./random.ts";
import type { FrameFault, TraceConfig, TraceOp } from "../../src/replay/trace.ts";

export type { Profile } from "./profiles.ts";

/** More mms than this are rarely made. */
const MANY_MMS = 7;
/** More user tracks than this are not made. */
const MANY_TRACKS = 6;
/** More faulty frames than this are soon repaired. */
const MANY_FAULTS = 3;

/**
 * Generates a trace.
 *
 * @param profile What kind of trace.
 * @param seed Any integer; equal seeds give equal traces.
 * @param ops How many operations, at least 1.
 * @returns The configuration and the operations, `init` first.
 */
export function generate(
  profile: Profile,
  seed: number,
  ops: number,
): { config: TraceConfig; ops: TraceOp[] } {
  const random = new Random(seed * PROFILES.length + PROFILES.indexOf(profile));
  const config = makeConfig(random, profile, seed);
  return { config, ops: new Generator(random, SETTINGS[profile], config).run(ops) };
}

function makeConfig(random: Random, profile: Profile, seed: number): TraceConfig {
  const settings = SETTINGS[profile];
  return {
    ramPages: random.pick([512, 1024]),
    apertureBase: random.pick(["0x2000000", "0x4000000"]),
    apertureSize: random.pick(["0x100000", "0x200000"]),
    hiddenBase: random.pick(["0x10000000", "0x20000000"]),
    hiddenSize: random.pick(["0x100000", "0x400000"]),
    ggttTotal: "0x100000000",
    mappableEnd: "0x10000000",
    oos: settings.oos,
    oosPool: random.pick(settings.pools),
    format: 1,
    name: `${profile}-${seed}`,
    about: `random, profile ${profile}, seed ${seed}`,
    gttStartOffset: "0x800000",
    mfn: "gfn+0x100000",
    addressBits: 46,
  };
}

class Generator {
  readonly #random: Random;
  readonly #settings: Settings;
  readonly #config: TraceConfig;
  readonly #model: Model;
  readonly #aim: Aim;
  readonly #ops: TraceOp[] = [];
  /** Frames with active faults. */
  readonly #faults: Array<{ kind: FrameFault; gfn: number }> = [];
  readonly #actions: Readonly<Record<Action, () => void>> = {
    build: () => this.#build(),
    store: () => this.#store(),
    pair: () => this.#pair(),
    burst: () => this.#burst(),
    create: () => this.#create(),
    destroy: () => this.#needingMm(() => this.#destroy()),
    find: () => this.#emit({ op: "find", ...this.#aim.knownRoots() }),
    hold: () => this.#needingMm(() => this.#hold()),
    workload: () => this.#needingMm(() => this.#workload()),
    settle: () => this.#emit({ op: this.#settings.oos && this.#random.chance(0.5) ? "sync" : "flush" }),
    walk: () => this.#needingMm(() => this.#walk()),
    look: () => this.#look(),
    ggttWrite: () => this.#ggttWrite(),
    ggttRead: () => this.#emit({ op: "ggtt_read", ...this.#aim.ggttAccess() }),
    address: () => this.#address(),
    reset: () => this.#emit({ op: this.#random.chance(0.6) ? "reset_ggtt" : "reset_gtt" }),
    track: () => this.#track(),
    fault: () => this.#fault(),
    shortage: () => this.#shortage(),
    failsafe: () => this.#failsafe(),
    restart: () => this.#restart(),
  };

  constructor(random: Random, settings: Settings, config: TraceConfig) {
    this.#random = random;
    this.#settings = settings;
    this.#config = config;
    this.#model = new Model(config);
    this.#aim = new Aim(random, settings, config, this.#model);
  }

  run(count: number): TraceOp[] {
    this.#emit({ op: "init" });
    for (const gfn of this.#aim.tableFrames) this.#fillTable(gfn);
    while (this.#ops.length < count) this.#actions[this.#random.weighted(this.#settings.actions)]();
    return this.#ops.slice(0, count);
  }

  /** Adds an operation, and often repairs what it tripped over. */
  #emit(op: TraceOp): void {
    const { rc = 0 } = this.#model.step(op);
    this.#ops.push(op);
    if (rc >= 0 || !this.#random.chance(0.6)) return;
    if (op.op === "guest_write" && op.bytes === 8) this.#repair(Number(op.gpa));
    else if (op.op === "create" || op.op === "g2v_create" || op.op === "flush") this.#repairAll();
  }

  #repairAll(): void {
    const places = this.#aim.refused().filter(() => this.#random.chance(0.9));
    for (const { gfn, index } of places) this.#repair(gfn * PAGE + index * 8);
  }

  #repair(gpa: number): void {
    const val = hex(this.#aim.cleanEntryFor(Math.floor(gpa / PAGE)));
    const op: TraceOp = { op: "guest_write", gpa: hex(BigInt(gpa - gpa % 8)), bytes: 8, val };
    this.#model.step(op);
    this.#ops.push(op);
  }

  /** Does something to an mm; without any it mostly makes one. */
  #needingMm(action: () => void): void {
    if (this.#model.vgpu.mms.length === 0 && this.#random.chance(0.85)) this.#create();
    else action();
  }

  // Guest memory.

  #fillTable(gfn: number): void {
    const from = this.#random.below(4);
    const vals = Array.from({ length: 2 + this.#random.below(3) }, () => hex(this.#aim.cleanEntryFor(gfn)));
    this.#emit({ op: "mem", gpa: this.#aim.gpa(gfn, from), vals });
  }

  /** Changes a table behind the engine's back, rarely one that is protected. */
  #build(): void {
    const random = this.#random;
    const { tableFrames } = this.#aim;
    const free = tableFrames.filter((gfn) => !this.#model.host.protectedFrames.has(gfn));
    const gfn = random.pick(free.length > 0 && random.chance(0.9) ? free : tableFrames);
    const val = hex(this.#aim.entryFor(gfn));
    if (random.chance(0.1)) {
      const count = random.pick([3, 16, 32]);
      const step = random.pick(["0x0", "0x1000"]);
      this.#emit({ op: "memfill", gpa: this.#aim.gpa(gfn, 0), count, start: val, step });
    } else if (random.chance(0.6)) {
      this.#emit({ op: "mem", gpa: this.#aim.gpa(gfn, this.#aim.index()), vals: [val] });
    } else {
      this.#fillTable(gfn);
    }
  }

  #store(gfn = this.#aim.target()): void {
    const random = this.#random;
    const index = this.#aim.indexIn(gfn);
    const entry = this.#aim.entryFor(gfn);
    if (random.chance(this.#settings.odd)) this.#storeOdd(gfn, index, entry);
    else if (!random.chance(this.#settings.half)) this.#storeFull(gfn, index, entry);
    else this.#storeHalf(gfn, index, entry, random.chance(0.7) ? 0 : 4);
  }

  /** Both halves of one entry, with something in between now and then. */
  #pair(): void {
    const random = this.#random;
    const gfn = this.#aim.target();
    const index = this.#aim.indexIn(gfn);
    const entry = this.#aim.entryFor(gfn);
    const first = random.pick([0, 4]);
    this.#storeHalf(gfn, index, entry, first);
    const between = random.weighted({ nothing: 5, other: 2, full: 3 });
    if (between === "other") this.#store();
    if (between === "full") this.#storeFull(gfn, index, this.#aim.entryFor(gfn));
    this.#storeHalf(gfn, index, entry, 4 - first);
    if (random.chance(0.2)) this.#emit({ op: "dump", mm: this.#aim.mm() });
    if (random.chance(0.4)) this.#emit({ op: "flush" });
  }

  /** Half stores all over one table, of which one may be refused, and a flush. */
  #burst(): void {
    const random = this.#random;
    const gfn = this.#aim.target();
    const bad = random.below(6);
    for (let i = 0; i < 4; i++) {
      const entry = i === bad ? this.#aim.strangeEntryFor(gfn) : this.#aim.entryFor(gfn);
      this.#storeHalf(gfn, this.#aim.index(), entry, 0);
    }
    this.#emit({ op: "flush" });
    if (random.chance(0.3)) this.#emit({ op: "flush" });
  }

  #storeFull(gfn: number, index: number, entry: bigint): void {
    this.#emit({ op: "guest_write", gpa: this.#aim.gpa(gfn, index), bytes: 8, val: hex(entry) });
  }

  #storeHalf(gfn: number, index: number, entry: bigint, within: number): void {
    const val = BigInt.asUintN(32, entry >> BigInt(within * 8));
    this.#emit({ op: "guest_write", gpa: this.#aim.gpa(gfn, index, within), bytes: 4, val: hex(val) });
  }

  /** A store of odd size or alignment that stays inside its page. */
  #storeOdd(gfn: number, index: number, entry: bigint): void {
    const bytes = this.#random.pick([1, 2, 4, 8, 8, 16]);
    const gpa = gfn * PAGE + Math.min(index * 8 + this.#random.below(8), PAGE - bytes);
    const val = hex(BigInt.asUintN(Math.min(bytes, 8) * 8, entry));
    this.#emit({ op: "guest_write", gpa: hex(BigInt(gpa)), bytes, val });
  }

  // Address spaces.

  #create(): void {
    const random = this.#random;
    if (this.#model.vgpu.mms.length > MANY_MMS && random.chance(0.8)) return this.#destroy();
    const op = random.weighted({ create: 6, g2v_create: 10, create_null: 1 });
    const roots = op === "g2v_create" && random.chance(0.3) ? this.#aim.knownRoots() : this.#aim.newRoots();
    this.#emit({ op, ...roots });
  }

  #destroy(): void {
    if (this.#random.chance(0.5)) this.#emit({ op: "g2v_destroy", ...this.#aim.knownRoots() });
    else this.#emit({ op: "unref", mm: this.#aim.mm() });
  }

  #hold(): void {
    const op = this.#random.weighted({ pin: 4, unpin: 4, ref: 1, unref: 1 });
    this.#emit({ op, mm: this.#aim.mm() });
  }

  #workload(): void {
    const mm = this.#aim.mm();
    this.#emit({ op: "pin", mm });
    this.#emit({ op: "sync" });
    this.#emit({ op: "flush" });
    this.#emit({ op: "gma_to_gpa", mm, gma: this.#aim.gma(mm) });
    this.#emit({ op: "unpin", mm });
  }

  #walk(): void {
    if (this.#random.chance(0.2)) {
      const gma = hex(this.#aim.ggttIndex() * BigInt(PAGE) + 0x123n);
      return this.#emit({ op: "gma_to_gpa", mm: "ggtt", gma });
    }
    const mm = this.#aim.mm();
    this.#emit({ op: "gma_to_gpa", mm, gma: this.#aim.gma(mm) });
  }

  #look(): void {
    const op = this.#random.weighted({ dump: 10, state: 10, scratch: 1, host: 2, mem_read: 1 });
    if (op === "dump") this.#emit({ op, mm: this.#aim.mm() });
    else if (op === "host") this.#emit({ op, index: Number(this.#aim.ggttIndex()) });
    else if (op === "mem_read") this.#emit({ op, gpa: this.#aim.gpa(this.#aim.target(), this.#aim.index()) });
    else this.#emit({ op });
  }

  // The GGTT.

  #ggttWrite(): void {
    const random = this.#random;
    const { off, bytes } = this.#aim.ggttAccess();
    const isHighHalf = bytes === 4 && BigInt(off) % 8n === 4n;
    const entry = isHighHalf
      ? random.pick([0n, 0n, 0n, 0x40n, 0x8000_0000n])
      : this.#aim.entryFor(random.pick(this.#aim.leaves));
    const val = hex(BigInt.asUintN(Math.min(bytes, 8) * 8, entry));
    this.#emit({ op: "ggtt_write", off, bytes, val });
  }

  #address(): void {
    const random = this.#random;
    const index = this.#aim.ggttIndex();
    const addr = hex(index * BigInt(PAGE) + random.pick([0n, 0n, 1n, 0x800n, 0xfffn]));
    const sizes = [
      "0x0",
      "0x1",
      "0x1000",
      "0x1001",
      "0x100000",
      "0x400000",
      "0x10000000",
      "0xffffffffffffffff",
    ];
    const op = random.weighted({ range: 4, g2h: 1, h2g: 1, index_g2h: 1, index_h2g: 1 });
    if (op === "range") this.#emit({ op, addr, size: random.pick(sizes) });
    else if (op === "g2h" || op === "h2g") this.#emit({ op, addr });
    else this.#emit({ op, index: Number(index) });
  }

  // Tracks, faults, upheavals.

  #track(): void {
    const random = this.#random;
    const users = this.#model.vgpu.tracks.all().filter((track) => track.table === null);
    const isFull = users.length >= MANY_TRACKS;
    const what = random.weighted({
      find: 2,
      init: isFull ? 0 : 3,
      enable: 4,
      disable: 2,
      clean: isFull ? 4 : 1,
    });
    const frames = random.chance(0.8) ? this.#aim.tableFrames : [...this.#aim.leaves, this.#config.ramPages];
    const isKnown = users.length > 0 && what !== "init" && random.chance(0.8);
    const gfn = isKnown ? random.pick(users).gfn : random.pick(frames);
    this.#emit({ op: "track", what, gfn });
    if (what === "init" && random.chance(0.7)) this.#emit({ op: "track", what: "enable", gfn });
  }

  /** Switches a fault of a frame on, or one of the active ones off. */
  #fault(): void {
    const random = this.#random;
    if (random.chance(0.05)) {
      return this.#emit({ op: "inject", kind: "trackrc", n: random.pick([0, 0, 5, -22]) });
    }
    if (this.#faults.length > 0 && random.chance(this.#faults.length > MANY_FAULTS ? 0.75 : 0.45)) {
      for (const fault of this.#faults.splice(random.below(this.#faults.length), 1)) {
        this.#emit({ op: "inject", ...fault, on: false });
      }
      return;
    }
    const kind = random.pick(this.#settings.faults);
    const isLeafFault = kind === "invalid" || kind === "p2m";
    const gfn = isLeafFault && random.chance(0.8)
      ? random.pick(this.#aim.leaves)
      : random.chance(0.5)
      ? this.#aim.target()
      : random.pick(this.#aim.tableFrames);
    this.#faults.push({ kind, gfn });
    this.#emit({ op: "inject", kind, gfn, on: true });
    if (!isLeafFault && random.chance(0.6)) this.#provoke(gfn);
  }

  /** Uses a frame right after something was made to fail there. */
  #provoke(gfn: number): void {
    const stores = 1 + this.#random.below(4);
    for (let i = 0; i < stores; i++) this.#store(gfn);
    this.#actions.settle();
  }

  /** Lets allocations or mappings fail, and does something that allocates. */
  #shortage(): void {
    const random = this.#random;
    const kind = random.chance(0.85) ? "alloc" : "dma";
    this.#emit({ op: "inject", kind, n: random.pick([1, 1, 1, 1, 2, 2, 3]) });
    const next = random.weighted({ create: 3, pin: 2, store: 5, flush: 2 });
    if (next === "create") this.#emit({ op: "g2v_create", ...this.#aim.newRoots() });
    else if (next === "pin") this.#emit({ op: "pin", mm: this.#unshadowed() });
    else this.#growDirectory(next === "flush");
    if (random.chance(0.9)) this.#emit({ op: "inject", kind, n: 0 });
    if (random.chance(0.3)) this.#emit({ op: "state" });
  }

  #unshadowed(): number {
    const idle = this.#model.vgpu.mms.filter((mm) => !mm.shadowed);
    return idle.length > 0 ? this.#random.pick(idle).id : this.#aim.mm();
  }

  /** Points a live directory at a frame that has no table yet, at once or through the queue. */
  #growDirectory(queued: boolean): void {
    const random = this.#random;
    const { tables } = this.#model.vgpu;
    const directories = tables.filter((table) => table.kind !== "PTE");
    if (directories.length === 0) return this.#create();
    const directory = random.pick(directories);
    const kind = childKind(directory.kind);
    const taken = new Set(tables.filter((table) => table.kind === kind).map((table) => table.gfn));
    const fresh = this.#aim.framesOf(kind).filter((gfn) => !taken.has(gfn));
    const child = random.pick(fresh.length > 0 ? fresh : this.#aim.framesOf(kind));
    const entry = BigInt(child) << 12n | 0x3n;
    const index = this.#aim.index();
    if (!queued) return this.#storeFull(directory.gfn, index, entry);
    this.#storeHalf(directory.gfn, index, entry, 0);
    this.#storeHalf(directory.gfn, index, entry, 4);
    this.#emit({ op: "flush" });
  }

  #failsafe(): void {
    this.#emit({ op: "inject", kind: "failsafe", n: 1 });
    const stores = this.#random.below(3);
    for (let i = 0; i < stores; i++) this.#store();
    if (this.#random.chance(0.3)) this.#create();
    this.#emit({ op: "inject", kind: "failsafe", n: 0 });
    this.#emit({ op: "state" });
  }

  /** Cleans and initialises anew, now and then failing at first. Users give up their tracks before. */
  #restart(): void {
    const random = this.#random;
    for (const track of this.#model.vgpu.tracks.all()) {
      if (track.table === null) this.#emit({ op: "track", what: "clean", gfn: track.gfn });
    }
    this.#emit({ op: "clean" });
    this.#emit({ op: "inject", kind: "alloc", n: 0 });
    this.#emit({ op: "inject", kind: "dma", n: 0 });
    const failure = random.weighted({ none: 5, platform: 1, alloc: 1, dma: 1 });
    if (failure !== "none") {
      this.#emit({ op: "inject", kind: failure, n: failure === "platform" ? 0 : 1 });
      this.#emit({ op: "init" });
      this.#emit({ op: "inject", kind: failure, n: failure === "platform" ? 1 : 0 });
    }
    this.#emit({ op: "init" });
  }
}
