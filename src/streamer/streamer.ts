/**
 * The command streamer of one engine (`guest.md` §8): fetches the commands of a context, one after another, and carries
 * them out, for as long as its turn lasts. A batch that loops until a CPU changes it, or a semaphore that nobody
 * signals, costs a turn each time and no more.
 *
 * A command that is none, or that cannot be fetched, halts the engine: it stays where it is until it is reset. Accesses
 * of a command that lead nowhere do not.
 *
 * @module
 */

import { pageTableWork } from "../gtt/counters.ts";
import { type BlitMemory, Blitter } from "./blitter.ts";
import { CLIENT, commandLength, MI, PIPE_CONTROL, shortestLength } from "./commands.ts";
import { DataCommands, type StreamerParts } from "./data_commands.ts";
import { ENGINE_EVENT, INSTRUCTION_ERROR, RING } from "./engines.ts";
import { GMA_LIMIT, NOWHERE } from "./graphics_access.ts";
import { InstructionStream, type Ring } from "./instruction_stream.ts";

/** What a streamer is at. */
export type StreamerState =
  /** It has no commands. */
  | "idle"
  /** Its next turn goes on. */
  | "running"
  /** It looks at a semaphore again in its next turn. */
  | "waiting"
  /** It goes on after a reset only. */
  | "halted";

/** Where and how an engine halted, for whoever reports it. */
export interface StreamerFaults {
  /**
   * An address led nowhere.
   *
   * @param gma Graphics address, bytes.
   * @param isGgtt Whether it is one of the GGTT.
   */
  fault(gma: number, isGgtt: boolean): void;
  /**
   * A command was none.
   *
   * @param dword Its first dword.
   * @param gma Graphics address of it, bytes.
   */
  halted(dword: number, gma: number): void;
}

/** Bytes of a blit that cost as much as a command: no more time than that takes, whatever they are and the memory. */
const BLIT_BYTES_PER_COMMAND = 1024;
/** The longest command of the blitter that is looked at, dwords. */
const MAX_BLIT_COMMAND = 16;
/** So many jumps without anything that anybody could see are waiting. */
const SPIN_JUMPS = 4;

const BATCH_PPGTT = 1 << 8;
const BATCH_PREDICATED = 1 << 15;
const BATCH_SECOND_LEVEL = 1 << 22;
const NOOP_IDENTIFIED = 1 << 22;
const NOOP_ID_MASK = 0x3fffff;
/** MI_NOOP's register. */
const NOPID = 0x94;
const GGTT_BIT = 1 << 22;
/** MI_CONDITIONAL_BATCH_BUFFER_END. */
const COMPARE = 1 << 21;
const COMPARE_MASKED = 1 << 19;
const END_ONE_LEVEL = 1 << 18;
const ADDRESS_MASK = 0xfffffffc;
const LANE = 2 ** 32;

/** MI_PREDICATE: bits 7..6, 4..3 and 1..0. */
const PREDICATE_LOAD = { keep: 0, load: 2, loadInverted: 3 } as const;
const PREDICATE_COMBINE = { set: 0, and: 1, or: 2, xor: 3 } as const;
/** Registers that MI_PREDICATE compares, from the engine's base: two of 8 bytes. */
const PREDICATE_SOURCES = 0x400;

/** Compares as MI_SEMAPHORE_WAIT does, by bits 14..12. */
const SEMAPHORE_TESTS: readonly ((memory: number, data: number) => boolean)[] = [
  (memory, data) => memory > data,
  (memory, data) => memory >= data,
  (memory, data) => memory < data,
  (memory, data) => memory <= data,
  (memory, data) => memory === data,
  (memory, data) => memory !== data,
  () => true,
  () => true,
];

/** The command streamer of one engine. */
export class Streamer {
  /** What it is at. */
  state: StreamerState = "idle";
  /** Whether its last turn did nothing but go round in a circle. */
  isSpinning = false;
  readonly #parts: StreamerParts;
  readonly #faults: StreamerFaults;
  readonly #base: number;
  readonly #stream: InstructionStream;
  readonly #data: DataCommands;
  readonly #blitter = new Blitter();
  readonly #blitCommand = new Uint32Array(MAX_BLIT_COMMAND);
  readonly #blitMemory: BlitMemory;
  #isBlitting = false;
  #isStopped = false;
  /** Whether the guest knows of the semaphore that is waited for. */
  #isWaitTold = false;
  /** Commands that the turn still has. */
  #budget = 0;
  /** Starts of batches since there was something to see. */
  #jumps = 0;

  /**
   * A streamer without commands.
   *
   * @param parts What it works with.
   * @param faults Told of addresses that lead nowhere.
   */
  constructor(parts: StreamerParts, faults: StreamerFaults) {
    const { access, ppgtt } = parts;
    this.#parts = parts;
    this.#faults = faults;
    this.#base = parts.info.base;
    this.#stream = new InstructionStream(parts.ggtt, ppgtt, access);
    this.#data = new DataCommands(parts, this.#stream);
    this.#blitMemory = {
      read: (gma, out) => access.read(ppgtt, gma, out),
      write: (gma, bytes) => access.write(ppgtt, gma, bytes),
      copy: (from, to, size, isBackward) => access.copy(ppgtt, from, to, size, isBackward),
    };
  }

  /**
   * Begins with the commands of a context.
   *
   * @param context GGTT address of the context.
   * @param ring Its ring.
   */
  begin(context: number, ring: Ring): void {
    this.#data.context = context;
    this.#stream.begin(ring);
    this.#isBlitting = this.#isWaitTold = false;
    this.#jumps = 0;
    this.state = "running";
  }

  /**
   * The guest has added commands to the ring.
   *
   * @param tail Where they end, bytes from the ring's start.
   */
  extend(tail: number): void {
    this.#stream.tail = tail;
  }

  /** Whether the guest has stopped the engine: it keeps its place, but fetches nothing. */
  set isStopped(isStopped: boolean) {
    this.#isStopped = isStopped;
  }

  /**
   * Where the ring's next command is.
   *
   * @returns Bytes from the ring's start.
   */
  get head(): number {
    return this.#stream.head;
  }

  /** Goes nowhere from here until a reset. */
  halt(): void {
    this.state = "halted";
  }

  /** Forgets its commands. */
  stop(): void {
    this.#stream.begin({ start: 0, size: 1, head: 0, tail: 0 });
    this.#isBlitting = false;
    this.isSpinning = false;
    this.state = "idle";
  }

  /**
   * One turn.
   *
   * @param budget Commands at most; a blit costs by its size.
   * @returns What of it is left; below 0 if page tables took more.
   */
  run(budget: number): number {
    if (this.#isStopped || this.state === "idle" || this.state === "halted") return budget;
    const data = this.#data;
    this.#parts.ppgtt.forget();
    data.effects = 0;
    this.#budget = budget;
    this.state = "running";
    const { counters } = this.#parts.gtt;
    let before = pageTableWork(counters);
    while (this.state === "running" && this.#budget > 0) {
      if (this.#isBlitting) this.#goOnBlitting();
      else if (this.#stream.isAtEnd) this.state = "idle";
      else this.#step();
      // A store to a table page that traps may have built whole trees; a walk looks at tables, and builds others.
      const looked = pageTableWork(counters);
      this.#budget -= looked - before;
      before = looked;
    }
    if (data.effects > 0) this.#jumps = 0;
    this.isSpinning = this.state === "running" && this.#jumps >= SPIN_JUMPS;
    this.#mirror();
    return this.#budget;
  }

  /** Fetches a command and carries it out. */
  #step(): void {
    const { access, info } = this.#parts;
    const stream = this.#stream;
    this.#budget--;
    this.#parts.counters.csCommands++;
    access.faultAddress = NOWHERE;
    const dword = stream.dword(0);
    if (access.faultAddress !== NOWHERE) return this.#stay();
    const length = commandLength(dword, info.kind);
    if (length < shortestLength(dword) || !stream.holds(length)) return this.#refuse(dword);
    if (!stream.isMapped(length)) return this.#stay();
    // Long ones, of which many pages were looked at, cost more.
    this.#budget -= length >>> 10;
    switch (dword >>> 29) {
      case CLIENT.MI:
        this.#streamerCommand(dword, length);
        break;
      case CLIENT.BLT:
        this.#blit(dword, length);
        break;
      default:
        if (dword >>> 16 === PIPE_CONTROL && info.kind === "render") this.#data.pipeControl(length);
        stream.skip(length);
    }
    if (access.faultAddress !== NOWHERE) this.#noteFault();
  }

  /** A command that cannot be fetched: the guest finds where, and the engine stays there. */
  #stay(): void {
    this.#noteFault();
    this.state = "halted";
  }

  /** Commands of the command streamer itself. */
  #streamerCommand(dword: number, length: number): void {
    const data = this.#data;
    switch (dword >>> 23) {
      case MI.NOOP:
        if ((dword & NOOP_IDENTIFIED) !== 0) {
          this.#parts.registers.set(this.#base + NOPID, dword & NOOP_ID_MASK);
        }
        break;
      case MI.USER_INTERRUPT:
        data.userInterrupt();
        break;
      case MI.BATCH_BUFFER_START:
        return this.#startBatch(dword, length);
      case MI.BATCH_BUFFER_END:
        if (this.#stream.level !== 0) return this.#stream.leaveBatch(false);
        break; // in a ring there is nothing to end
      case MI.CONDITIONAL_BATCH_BUFFER_END:
        return this.#endBatchIf(dword, length);
      case MI.SEMAPHORE_WAIT:
        if (!this.#isSignalled(dword)) return this.#wait();
        this.#isWaitTold = false;
        break;
      case MI.PREDICATE:
        if (this.#parts.info.kind === "render") this.#predicate(dword);
        break;
      case MI.STORE_DATA_IMM:
        data.storeDataImmediate(dword, length);
        break;
      case MI.STORE_DATA_INDEX:
        data.storeDataIndex(dword, length);
        break;
      case MI.LOAD_REGISTER_IMM:
        data.loadRegisterImmediate(length);
        break;
      case MI.LOAD_REGISTER_MEM:
        data.loadRegisterMemory(dword);
        break;
      case MI.LOAD_REGISTER_REG:
        data.loadRegisterRegister();
        break;
      case MI.STORE_REGISTER_MEM:
        data.storeRegisterMemory(dword);
        break;
      case MI.FLUSH_DW:
        data.flush(dword, length);
        break;
      case MI.COPY_MEM_MEM:
        data.copyMemory(dword);
        break;
      case MI.MATH:
        data.math(length);
        break;
      case MI.ATOMIC:
        data.atomic(dword, length);
        break;
    }
    // Long ones, of which hundreds of dwords were fetched, cost more.
    this.#budget -= length >>> 3;
    this.#stream.skip(length);
  }

  #startBatch(dword: number, length: number): void {
    const stream = this.#stream;
    const isPredicated = (dword & BATCH_PREDICATED) !== 0 && this.#parts.info.kind === "render";
    const gma = stream.gma(1, ADDRESS_MASK);
    stream.skip(length);
    if (isPredicated && (this.#parts.registers.get(this.#base + RING.PREDICATE_RESULT_1) & 1) === 0) return;
    this.#jumps++;
    stream.enterBatch(gma, (dword & BATCH_PPGTT) !== 0, (dword & BATCH_SECOND_LEVEL) !== 0);
  }

  /** MI_CONDITIONAL_BATCH_BUFFER_END: ends the batch unless memory is above what the command says. */
  #endBatchIf(dword: number, length: number): void {
    const stream = this.#stream;
    if (stream.level === 0) return this.#refuse(dword);
    const space = this.#data.spaceOf((dword & GGTT_BIT) !== 0);
    let isOver = false;
    if (space !== null && (dword & COMPARE) !== 0) {
      const { access } = this.#parts;
      const gma = stream.gma(2, ADDRESS_MASK);
      let value = access.read32(space, gma);
      if ((dword & COMPARE_MASKED) !== 0) value = (value & access.read32(space, (gma + 4) % GMA_LIMIT)) >>> 0;
      isOver = value <= stream.dword(1);
    }
    if (isOver) stream.leaveBatch((dword & END_ONE_LEVEL) === 0);
    else stream.skip(length);
  }

  #isSignalled(dword: number): boolean {
    const space = this.#data.spaceOf((dword & GGTT_BIT) !== 0);
    if (space === null) return true;
    const value = this.#parts.access.read32(space, this.#stream.gma(2, ADDRESS_MASK));
    return SEMAPHORE_TESTS[(dword >>> 12) & 7]!(value, this.#stream.dword(1));
  }

  /** Keeps its place at the semaphore; the guest is told once. */
  #wait(): void {
    this.state = "waiting";
    if (this.#isWaitTold) return;
    this.#isWaitTold = true;
    this.#parts.raise(ENGINE_EVENT.semaphore);
  }

  #predicate(dword: number): void {
    const { registers } = this.#parts;
    const load = (dword >>> 6) & 3;
    if (load === PREDICATE_LOAD.keep) return;
    const at = this.#base + PREDICATE_SOURCES;
    const isEqual = registers.get(at) === registers.get(at + 8) &&
      registers.get(at + 4) === registers.get(at + 12);
    const compare = dword & 3;
    const outcome = compare === 0 || (compare === 2 && isEqual);
    const isLoaded = load === PREDICATE_LOAD.load ? outcome : !outcome;
    const isSet = this.#data.isPredicateSet;
    switch ((dword >>> 3) & 3) {
      case PREDICATE_COMBINE.set:
        this.#data.isPredicateSet = isLoaded;
        break;
      case PREDICATE_COMBINE.and:
        this.#data.isPredicateSet = isSet && isLoaded;
        break;
      case PREDICATE_COMBINE.or:
        this.#data.isPredicateSet = isSet || isLoaded;
        break;
      default:
        this.#data.isPredicateSet = isSet !== isLoaded;
    }
  }

  #blit(dword: number, length: number): void {
    const { info, counters } = this.#parts;
    const count = Math.min(length, MAX_BLIT_COMMAND);
    if (info.kind !== "copy") return this.#refuse(dword);
    for (let index = 0; index < count; index++) this.#blitCommand[index] = this.#stream.dword(index);
    this.#stream.skip(length);
    if (count === length && this.#blitter.begin(this.#blitCommand, length)) {
      counters.csBlits++;
      this.#isBlitting = true;
    } else {
      counters.csSkippedBlits++;
    }
  }

  #goOnBlitting(): void {
    const { access } = this.#parts;
    access.faultAddress = NOWHERE;
    this.#data.effects++;
    const isDone = this.#blitter.run(this.#blitMemory, this.#budget * BLIT_BYTES_PER_COMMAND);
    if (access.faultAddress !== NOWHERE) this.#noteFault();
    this.#isBlitting = !isDone;
    this.#budget -= Math.ceil(this.#blitter.spent / BLIT_BYTES_PER_COMMAND);
  }

  /** A command that is none: the guest is told, and the engine stays where it is. */
  #refuse(dword: number): void {
    const { registers, counters } = this.#parts;
    const eir = this.#base + RING.EIR;
    counters.csFaults++;
    this.state = "halted";
    this.#faults.halted(dword, this.#stream.address);
    registers.set(this.#base + RING.IPEHR, dword);
    registers.set(this.#base + RING.ESR, INSTRUCTION_ERROR);
    if ((registers.get(this.#base + RING.EMR) & INSTRUCTION_ERROR) !== 0) return;
    registers.set(eir, registers.get(eir) | INSTRUCTION_ERROR);
    this.#parts.raise(ENGINE_EVENT.error);
  }

  #noteFault(): void {
    const { access, ggtt } = this.#parts;
    this.#faults.fault(access.faultAddress, access.faultSpace === ggtt);
    access.faultAddress = NOWHERE;
  }

  /** Shows the guest where the engine is. */
  #mirror(): void {
    const { registers } = this.#parts;
    const { address, head, level } = this.#stream;
    registers.set(this.#base + RING.HEAD, head);
    registers.set(this.#base + RING.ACTHD, address);
    registers.set(this.#base + RING.ACTHD_UDW, Math.floor(address / LANE));
    if (level === 0) return;
    registers.set(this.#base + RING.BB_ADDR, address);
    registers.set(this.#base + RING.BB_ADDR_UDW, Math.floor(address / LANE));
  }
}
