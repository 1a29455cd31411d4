/**
 * All engines of a vGPU: what its registers and whoever gives them their turns see of them.
 *
 * Engines work in *turns*: a store to a register only says what there is to do, and whoever owns the thread gives
 * turns when nothing more urgent waits, for as long as {@linkcode CommandStreamers.isRunnable} says so. Each engine has
 * its share of a turn, so one that hangs leaves the others running.
 *
 * @module
 */

import type { GraphicsMemory } from "../gtt/address.ts";
import type { PpgttMm } from "../gtt/mm.ts";
import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
import type { RamMap } from "../memory/ram_map.ts";
import type { StreamerRegisters, TimestampClock } from "./data_commands.ts";
import { type EngineInfo, ENGINES, RESET_ALL, RING } from "./engines.ts";
import { Execlist } from "./execlist.ts";
import { GgttSpace, GraphicsAccess, type HardwareGgtt, PpgttSpace } from "./graphics_access.ts";
import type { StreamerWitness } from "./witness.ts";
import type { StreamerCounters } from "./streamer_counters.ts";

/** The fault registers (`guest.md` §9): what, and where. They hold the first fault until the guest clears it. */
export const FAULT = { STATUS: 0x4094, ADDRESS: 0x4b10, ADDRESS_UDW: 0x4b14 } as const;

const FAULT_VALID = 1;
const FAULT_GGTT = 1 << 11;
const FAULT_ADDRESS_GGTT = 1 << 4;
const ENGINE_SHIFT = 12;
const PAGE_SIZE = 4096;
const LANE = 2 ** 32;
/** The high lane of an address, in pages: bits 47..44 of it are the upper register's. */
const ADDRESS_BITS = 44;

/** What is told of the engines' work to whoever wants to know. Engines are named by their index in {@linkcode ENGINES}. */
export interface StreamerEvents {
  /**
   * A context begins, or goes on with more commands; page tables are up to date, or will be as they are used.
   *
   * @param engine Which engine.
   * @param context GGTT address of the context.
   * @param mm Handle of its address space.
   * @param isGoingOn Whether it ran already.
   */
  began(engine: number, context: number, mm: number, isGoingOn: boolean): void;
  /**
   * A context has come to its end.
   *
   * @param engine Which engine.
   * @param context GGTT address of the context.
   */
  completed(engine: number, context: number): void;
  /**
   * A submission was refused.
   *
   * @param engine Which engine.
   * @param context GGTT address of the context, 0 if its descriptor was wrong.
   */
  refused(engine: number, context: number): void;
  /**
   * An address led nowhere.
   *
   * @param engine Which engine.
   * @param gma Graphics address, bytes.
   * @param isGgtt Whether it is one of the GGTT.
   */
  faulted(engine: number, gma: number, isGgtt: boolean): void;
  /**
   * An engine halted at a command that is none.
   *
   * @param engine Which engine.
   * @param dword The command.
   * @param gma Where it is.
   */
  halted(engine: number, dword: number, gma: number): void;
  /**
   * An engine was reset.
   *
   * @param engine Which engine.
   */
  reset(engine: number): void;
}

/** What the engines of a vGPU work with. */
export interface CommandStreamersParts {
  /** Which graphics addresses are the vGPU's. */
  readonly gm: GraphicsMemory;
  /** The page tables. */
  readonly gtt: VgpuGtt;
  /** The GGTT that the hardware walks. */
  readonly ggtt: HardwareGgtt;
  /** Guest RAM. */
  readonly ram: RamMap;
  /** Registers. */
  readonly registers: StreamerRegisters;
  /** The counter that engines and guest tell time by. */
  readonly clock: TimestampClock;
  /** Counts. */
  readonly counters: StreamerCounters;
  /** An engine lets events happen: bits of `ENGINE_EVENT`. */
  raise(engine: EngineInfo, events: number): void;
  /** Checks page tables and translations. Default: nobody. */
  readonly witness?: StreamerWitness | undefined;
  /** Told of what they do. Default: nobody. */
  readonly events?: StreamerEvents | undefined;
}

const COUNTED = {
  rcs0: "submissionsRcs0",
  bcs0: "submissionsBcs0",
  vcs0: "submissionsVcs0",
  vecs0: "submissionsVecs0",
} as const;

/** The engines of one vGPU. */
export class CommandStreamers {
  readonly #execlists: readonly Execlist[];
  readonly #parts: CommandStreamersParts;
  /** Index of the engine that goes first. */
  #next = 0;

  /**
   * Idle engines.
   *
   * @param parts What they work with.
   */
  constructor(parts: CommandStreamersParts) {
    const { gm, gtt, ggtt, ram, registers, clock, counters, events } = parts;
    this.#parts = parts;
    const access = new GraphicsAccess(gtt, ram, counters);
    const global = new GgttSpace(gm, ggtt, ram);
    this.#execlists = ENGINES.map((info, engine) => {
      const ppgtt = new PpgttSpace(gtt, ram, parts.witness?.translated, info);
      const raise = (events: number) => parts.raise(info, events);
      const began = (context: number, mm: PpgttMm, isGoingOn: boolean) => {
        if (!isGoingOn) counters[COUNTED[info.name]]++;
        events?.began(engine, context, mm.id, isGoingOn);
        parts.witness?.began(mm, info);
      };
      const completed = (context: number) => events?.completed(engine, context);
      const refused = (context: number) => {
        counters.csRefusedSubmissions++;
        events?.refused(engine, context);
      };
      return new Execlist(
        {
          info,
          gtt,
          ggtt: global,
          ppgtt,
          access,
          registers,
          clock,
          counters,
          raise,
          began,
          completed,
          refused,
        },
        {
          fault: (gma, isGgtt) => this.#fault(engine, info, gma, isGgtt),
          halted: (dword, gma) => events?.halted(engine, dword, gma),
        },
      );
    });
  }

  /**
   * Whether a turn would do something.
   *
   * @returns Whether some engine has commands and can go on.
   */
  get isRunnable(): boolean {
    return this.#execlists.some(isRunnable);
  }

  /**
   * Whether the next turn will most likely do nothing, because all that engines do is wait.
   *
   * @returns Whether it may as well come a moment later.
   */
  get isWaiting(): boolean {
    return this.#execlists.every(isNotInHaste);
  }

  /**
   * A turn for all engines.
   *
   * @param budget Commands of each at most.
   */
  run(budget: number): void {
    const count = this.#execlists.length;
    for (let step = 0; step < count; step++) {
      const index = (this.#next + step) % count;
      const execlist = this.#execlists[index]!;
      if (!execlist.isRunnable || execlist.run(budget) >= 0) continue;
      // Its page tables took the time of others: they go first when there is some again.
      this.#next = (index + 1) % count;
      return;
    }
  }

  /**
   * The guest stores to the submission port of an engine.
   *
   * @param engine Index in {@linkcode ENGINES}.
   * @param value 32 bits.
   */
  submit(engine: number, value: number): void {
    this.#execlists[engine]!.store(value);
  }

  /**
   * A store to the submission port of an engine was not heard: what came before it is no submission any more.
   *
   * @param engine Index in {@linkcode ENGINES}.
   */
  forgetPort(engine: number): void {
    this.#execlists[engine]!.forgetPort();
  }

  /**
   * The guest wrote MI_MODE of an engine.
   *
   * @param engine Index in {@linkcode ENGINES}.
   */
  modeWritten(engine: number): void {
    this.#execlists[engine]!.modeWritten();
  }

  /**
   * For how long the context of an engine has run.
   *
   * @param engine Index in {@linkcode ENGINES}.
   * @returns Ticks of the counter, 32 bits.
   */
  contextTimestamp(engine: number): number {
    return this.#execlists[engine]!.contextTimestamp;
  }

  /**
   * Resets engines: what was submitted to them is dropped.
   *
   * @param mask Bits of GDRST.
   */
  reset(mask: number): void {
    const { registers, counters, events } = this.#parts;
    ENGINES.forEach(({ base, reset }, index) => {
      if ((mask & (RESET_ALL | reset)) === 0) return;
      counters.engineResets++;
      events?.reset(index);
      for (const register of PLACE) registers.set(base + register, 0);
      registers.set(base + RING.MI_MODE, 0);
      registers.set(base + RING.IMR, 0xffffffff);
      registers.set(base + RING.CSB_POINTER, RESET_CSB_POINTER);
      for (const error of [RING.EIR, RING.ESR]) registers.set(base + error, 0);
      this.#execlists[index]!.reset();
    });
  }

  /** Everything that was submitted is dropped, and registers are as after power-on already. */
  forgetAll(): void {
    for (const execlist of this.#execlists) execlist.reset();
  }

  /** Latches a fault, unless an earlier one is still there. */
  #fault(engine: number, { id }: EngineInfo, gma: number, isGgtt: boolean): void {
    const { registers, counters, events } = this.#parts;
    counters.csFaults++;
    events?.faulted(engine, gma, isGgtt);
    if ((registers.get(FAULT.STATUS) & FAULT_VALID) !== 0) return;
    const page = Math.floor(gma / PAGE_SIZE);
    registers.set(FAULT.STATUS, FAULT_VALID | (id << ENGINE_SHIFT) | (isGgtt ? FAULT_GGTT : 0));
    registers.set(FAULT.ADDRESS, page % LANE);
    registers.set(FAULT.ADDRESS_UDW, Math.floor(gma / 2 ** ADDRESS_BITS) | (isGgtt ? FAULT_ADDRESS_GGTT : 0));
  }
}

/** Where an engine is; after a reset nowhere. */
const PLACE = [
  RING.HEAD,
  RING.TAIL,
  RING.ACTHD,
  RING.ACTHD_UDW,
  RING.BB_ADDR,
  RING.BB_ADDR_UDW,
] as const;

/** Both pointers of the status buffer after a reset: the first entry is entry 0. */
const RESET_CSB_POINTER = 0x0505;

function isRunnable(execlist: Execlist): boolean {
  return execlist.isRunnable;
}

function isNotInHaste(execlist: Execlist): boolean {
  return !execlist.isRunnable || execlist.isWaiting;
}
