/**
 * The reference model: the engine of engine.md, written straight from its text, as plainly as possible.
 *
 * It executes the operations of `traces/FORMAT.md` one by one on a simulated host and answers exactly what a trace
 * records. It is slow, shares no code with the engine, and exists only to check it. Where to find what: `entry.ts` bits
 * (§3), `host.ts` services (§1.1), `tracks.ts` page tracks (§9.1), `ggtt.ts` windows and GGTT (§5, §7), `vgpu.ts` state
 * and life (§4, §6, §12), `tables.ts` shadow tables (§8.2–§8.5, §11), `mms.ts` mms (§8.1, §8.6, §8.7), `stores.ts`
 * trapped stores (§9.2–§9.5), `oos.ts` out-of-sync pages (§10), `observe.ts` what a trace shows.
 *
 * @module
 */

import { TABLE_KINDS } from "./entry.ts";
import { Host, PAGE } from "./host.ts";
import { createMm, findMm, g2vCreate, g2vDestroy, pin, toGpa, unpin, unreference } from "./mms.ts";
import { describe, hex, stateOf, tablesOf, treeOf } from "./observe.ts";
import { syncOosPages } from "./oos.ts";
import { flushPostShadow, trappedStore } from "./stores.ts";
import type { Answer } from "./ggtt.ts";
import type { Expect, StateKeys, TraceConfig, TraceOp } from "../../src/replay/trace.ts";
import { type Mm, Vgpu } from "./vgpu.ts";

/** The operation of one name. */
type Op<N extends TraceOp["op"]> = Extract<TraceOp, { readonly op: N }>;

/** The model of one gvt with one vGPU. */
export class Model {
  /** The simulated host. */
  readonly host: Host;
  /** The vGPU. */
  readonly vgpu: Vgpu;
  /** State keys after the previous step, as JSON. */
  #shown: Map<string, string>;

  /** A model before init. */
  constructor(config: TraceConfig) {
    this.host = new Host(config.ramPages);
    this.vgpu = new Vgpu(this.host, config);
    this.#shown = asJson(stateOf(this.vgpu));
  }

  /**
   * Executes one operation.
   *
   * @param op The operation.
   * @returns What it answers, and the state keys that changed.
   */
  step(op: TraceOp): Expect {
    const ggttBefore = new Map(this.host.ggtt);
    this.host.flushes = 0;
    const answer = this.#execute(op);
    const ggtt = this.#changedGgtt(ggttBefore);
    return {
      ...answer,
      ...this.#changedState(op.op === "state"),
      ...(ggtt.length > 0 && { ggtt }),
      ...(this.host.flushes > 0 && { flush: this.host.flushes }),
    };
  }

  #execute(op: TraceOp): Expect {
    const { vgpu } = this;
    switch (op.op) {
      case "init":
        return { rc: vgpu.init() };
      case "clean":
        return this.#silent(() => vgpu.clean());
      case "mem":
        return this.#silent(() =>
          op.vals.forEach((val, i) => this.#poke(Number(op.gpa) + i * 8, BigInt(val)))
        );
      case "memfill":
        return this.#silent(() => this.#fill(op));
      case "mem_read":
        return { val: hex(this.host.peek(Number(op.gpa))) };
      case "guest_write":
        return this.#guestWrite(op);
      case "ggtt_read":
        return converted(vgpu.ggtt.read(BigInt(op.off), op.bytes));
      case "ggtt_write":
        return { rc: vgpu.ggtt.write(BigInt(op.off), op.bytes, BigInt(op.val), vgpu.globalScratch) };
      case "reset_ggtt":
        return this.#silent(() => vgpu.ggtt.reset(vgpu.globalScratch));
      case "reset_gtt":
        return this.#silent(() => vgpu.resetGtt());
      case "sync":
        return { rc: syncOosPages(vgpu) };
      case "flush":
        return { rc: flushPostShadow(vgpu) };
      case "g2v_create":
        return { rc: g2vCreate(vgpu, op.level, op.pdps.map(BigInt)) };
      case "g2v_destroy":
        return { rc: g2vDestroy(vgpu, op.level, op.pdps.map(BigInt)) };
      case "create":
        return this.#create(op.level, op.pdps.map(BigInt));
      case "create_null":
        return this.#create(op.level, [0n, 0n, 0n, 0n]);
      case "find":
        return { id: findMm(vgpu, op.level, op.pdps.map(BigInt))?.id ?? null };
      case "pin":
        return this.#withMm(op.mm, (mm) => ({ rc: pin(vgpu, mm) }));
      case "unpin":
        return this.#withMm(op.mm, (mm) => this.#silent(() => unpin(mm)));
      case "ref":
        return this.#withMm(op.mm, (mm) => this.#silent(() => mm.references++));
      case "unref":
        return this.#withMm(op.mm, (mm) => this.#silent(() => unreference(vgpu, mm)));
      case "dump":
        return this.#withMm(op.mm, (mm) => ({ tree: treeOf(vgpu, mm) }));
      case "gma_to_gpa":
        return this.#gmaToGpa(op);
      case "range":
        return { ok: vgpu.ggtt.inRange(BigInt(op.addr), BigInt(op.size)) };
      case "g2h":
        return converted(vgpu.ggtt.toHost(BigInt(op.addr)));
      case "h2g":
        return converted(vgpu.ggtt.toGuest(BigInt(op.addr)));
      case "index_g2h":
        return converted(asIndex(vgpu.ggtt.toHost(BigInt(op.index) * BigInt(PAGE))));
      case "index_h2g":
        return converted(asIndex(vgpu.ggtt.toGuest(BigInt(op.index) * BigInt(PAGE))));
      case "track":
        return this.#track(op);
      case "inject":
        return this.#silent(() => this.#inject(op));
      case "state":
        return { spts: tablesOf(vgpu) };
      case "scratch":
        return { pages: this.#scratchPages() };
      case "host":
        return { e: describe(vgpu, this.host.ggtt.get(op.index) ?? 0n) };
    }
  }

  /** Does something that answers nothing. */
  #silent(action: () => unknown): Expect {
    action();
    return {};
  }

  #withMm(id: number, action: (mm: Mm) => Expect): Expect {
    const mm = this.vgpu.mms.find((candidate) => candidate.id === id);
    return mm === undefined ? { nomm: true } : action(mm);
  }

  #create(level: number, roots: readonly bigint[]): Expect {
    const created = createMm(this.vgpu, level, roots);
    return typeof created === "number" ? { rc: created, id: null } : { rc: 0, id: created.id };
  }

  #gmaToGpa(op: Op<"gma_to_gpa">): Expect {
    const shown = (gpa: bigint | null): Expect => ({ gpa: gpa === null ? null : hex(gpa) });
    const gma = BigInt(op.gma);
    if (op.mm === "ggtt") return shown(this.vgpu.ggtt.toGpa(gma));
    return this.#withMm(op.mm, (mm) => shown(toGpa(this.vgpu, mm, gma)));
  }

  /** A store by the guest: RAM first, then the trap. */
  #guestWrite(op: Op<"guest_write">): Expect {
    const gpa = Number(op.gpa);
    this.host.poke(gpa, littleEndian(BigInt(op.val), op.bytes));
    if (!this.host.protectedFrames.has(Math.floor(gpa / PAGE))) return { trap: false };
    const calls: Array<[number, string, number]> = [];
    const rc = trappedStore(this.vgpu, gpa, op.bytes, (gfn) => {
      calls.push([gfn, op.gpa, op.bytes]);
      return this.host.counts.trackrc;
    });
    return { trap: true, rc, ...(calls.length > 0 && { calls }) };
  }

  #fill(op: Op<"memfill">): void {
    for (let i = 0; i < op.count; i++) {
      const val = BigInt(op.start) + BigInt(i) * BigInt(op.step);
      this.#poke(Number(op.gpa) + i * 8, BigInt.asUintN(64, val));
    }
  }

  #poke(gpa: number, val: bigint): void {
    this.host.poke(gpa, littleEndian(val, 8));
  }

  /** Acts on the newest user track of the frame; without one it does nothing. */
  #track({ what, gfn }: Op<"track">): Expect {
    const { tracks } = this.vgpu;
    if (what === "init") {
      tracks.register(gfn, null);
      return { rc: 0 };
    }
    if (what === "find") {
      const found = tracks.find(gfn);
      if (found === undefined) return { found: null };
      return { found: found.table === null ? "user" : "ppgtt", tracked: found.enabled };
    }
    const track = tracks.of(gfn).findLast((candidate) => candidate.table === null);
    if (track === undefined) return {};
    if (what === "clean") return this.#silent(() => tracks.remove(track));
    return { rc: what === "enable" ? tracks.enable(track) : tracks.disable(track) };
  }

  #inject(op: Op<"inject">): void {
    if ("n" in op) this.host.counts[op.kind] = op.n;
    else if (op.on) this.host.frameFaults[op.kind].add(op.gfn);
    else this.host.frameFaults[op.kind].delete(op.gfn);
  }

  #scratchPages(): NonNullable<Expect["pages"]> {
    return TABLE_KINDS.map((kind) => {
      const [target, flags] = describe(this.vgpu, this.vgpu.scratchEntry[kind]);
      return [`s${kind}`, true, target, flags] as const;
    });
  }

  #changedState(all: boolean): Partial<StateKeys> {
    const state = stateOf(this.vgpu);
    const before = this.#shown;
    this.#shown = asJson(state);
    const changed = Object.entries(state).filter(([key]) => all || before.get(key) !== this.#shown.get(key));
    return Object.fromEntries(changed);
  }

  /** Host GGTT entries that changed, neighbours with equal values together. */
  #changedGgtt(before: ReadonlyMap<number, bigint>): NonNullable<Expect["ggtt"]> {
    const runs: Array<[first: number, count: number, target: string, flags: string]> = [];
    let previous = 0n;
    for (const index of [...this.host.ggtt.keys()].sort((a, b) => a - b)) {
      const entry = this.host.ggtt.get(index) ?? 0n;
      if (entry === (before.get(index) ?? 0n)) continue;
      const run = runs.at(-1);
      if (run !== undefined && run[0] + run[1] === index && entry === previous) run[1]++;
      else runs.push([index, 1, ...describe(this.vgpu, entry)]);
      previous = entry;
    }
    return runs;
  }
}

function converted({ rc, val }: Answer): Expect {
  return val === undefined ? { rc } : { rc, val: hex(val) };
}

function asIndex({ rc, val }: Answer): Answer {
  return val === undefined ? { rc } : { rc, val: val / BigInt(PAGE) };
}

/** The low bytes of a value; beyond 8 they are zeros. */
function littleEndian(val: bigint, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, i) => i < 8 ? Number((val >> BigInt(i * 8)) & 0xffn) : 0);
}

function asJson(state: StateKeys): Map<string, string> {
  return new Map(Object.entries(state).map(([key, value]) => [key, JSON.stringify(value)]));
}
