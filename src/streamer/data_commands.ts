/**
 * Commands that move data between memory and registers (`guest.md` §8.1): the part of the command streamer that a
 * guest can see the results of.
 *
 * A command says for each address whether the GGTT or the context's table translates it. Where a batch has no privilege
 * for that, the command does nothing and is counted.
 *
 * @module
 */

import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
import { Alu } from "./alu.ts";
import { applyAtomic } from "./atomic.ts";
import { ENGINE_BYTES, ENGINE_EVENT, type EngineInfo, ENGINES, RING } from "./engines.ts";
import {
  type AddressSpace,
  type GgttSpace,
  GMA_LIMIT,
  type GraphicsAccess,
  type PpgttSpace,
} from "./graphics_access.ts";
import type { InstructionStream } from "./instruction_stream.ts";
import type { StreamerCounters } from "./streamer_counters.ts";

const PAGE_OFFSET = 0xfff;
const PAGE_MASK = 0xfffff000;
/** Bits of a register's offset in a command. */
const REGISTER_MASK = 0x7ffffc;
const DWORD_ALIGNED = 0xfffffffc;
const QWORD_ALIGNED = 0xfffffff8;
const GGTT_BIT = 1 << 22;
/** Bit 21 has a meaning of its own in MI_STORE_DATA_IMM, MI_STORE_REGISTER_MEM and MI_COPY_MEM_MEM. */
const [QWORD_DATA, PREDICATED, DESTINATION_GGTT] = [1 << 21, 1 << 21, 1 << 21] as const;

/** PIPE_CONTROL, second dword, and MI_FLUSH_DW, first: bits 15..14, what is written when all is done. */
const POST_SYNC_SHIFT = 14;
const POST_SYNC = { none: 0, immediate: 1, depthCount: 2, timestamp: 3 } as const;
const NOTIFY = 1 << 8;
/** Translations are forgotten, before anything is written. */
const TLB_INVALIDATE = 1 << 18;
/** What is stored goes into a status page. */
const STORE_INDEX = 1 << 21;
const PIPE_CONTROL_GGTT = 1 << 24;
const PIPE_CONTROL_REGISTER = 1 << 23;
/** MI_FLUSH_DW: the address is of the GGTT. */
const FLUSH_GGTT = 1 << 2;
/** Dwords of an MI_FLUSH_DW whose data are 8 bytes. */
const FLUSH_QWORD_LENGTH = 5;

/** MI_ATOMIC. */
const ATOMIC_INLINE = 1 << 18;
const ATOMIC_RETURN = 1 << 16;
/** General-purpose registers of MI_ATOMIC: operands, and what was in memory. */
const ATOMIC_GPR = { first: 0, second: 2, returned: 4 } as const;

/** Instructions that one MI_MATH can have. */
const MAX_INSTRUCTIONS = 256;
const GPR_LANES = 32;

/** Registers, as commands see them. */
export interface StreamerRegisters {
  /**
   * The value of a register, for the device itself.
   *
   * @param offset Bytes, a multiple of 4.
   * @returns 32 bits.
   */
  get(offset: number): number;
  /**
   * Changes a register, for the device itself.
   *
   * @param offset Bytes, a multiple of 4.
   * @param value 32 bits.
   */
  set(offset: number, value: number): void;
  /**
   * A command loads a register.
   *
   * @param offset Bytes, a multiple of 4; whatever a command says.
   * @returns Its value, 32 bits; 0 where there is none.
   */
  load(offset: number): number;
  /**
   * A command stores to a register.
   *
   * @param offset Bytes, a multiple of 4; whatever a command says.
   * @param value 32 bits.
   * @param isPrivileged Whether the command is.
   * @returns Whether such commands may store to it; if not, nothing has changed.
   */
  store(offset: number, value: number, isPrivileged: boolean): boolean;
}

/** The counter that engines and guests tell time by. */
export interface TimestampClock {
  /**
   * Reads the counter.
   *
   * @param out Receives it as two lanes.
   */
  read(out: Uint32Array): void;
}

/** What an engine works with. */
export interface StreamerParts {
  /** Which engine it is. */
  readonly info: EngineInfo;
  /** The page tables. */
  readonly gtt: VgpuGtt;
  /** The global table. */
  readonly ggtt: GgttSpace;
  /** The table of the context that runs. */
  readonly ppgtt: PpgttSpace;
  /** Loads and stores. */
  readonly access: GraphicsAccess;
  /** Registers. */
  readonly registers: StreamerRegisters;
  /** The counter. */
  readonly clock: TimestampClock;
  /** Counts what a guest's commands came to. */
  readonly counters: StreamerCounters;
  /** Lets events happen; bits of {@linkcode ENGINE_EVENT}. */
  raise(events: number): void;
}

/** Carries out commands that move data. */
export class DataCommands {
  /** GGTT address of the context that runs: its first page is its own status page. */
  context = 0;
  /** Stores to memory or registers and events since this was set to 0: what others can see. */
  effects = 0;
  readonly #parts: StreamerParts;
  readonly #base: number;
  readonly #stream: InstructionStream;
  readonly #alu = new Alu();
  readonly #instructions = new Uint32Array(MAX_INSTRUCTIONS);
  readonly #gpr = new Uint32Array(GPR_LANES);
  readonly #value = new Uint32Array(2);
  readonly #old = new Uint32Array(2);
  readonly #first = new Uint32Array(2);
  readonly #second = new Uint32Array(2);

  /**
   * Commands of one engine.
   *
   * @param parts What it works with.
   * @param stream Where it fetches.
   */
  constructor(parts: StreamerParts, stream: InstructionStream) {
    this.#parts = parts;
    this.#base = parts.info.base;
    this.#stream = stream;
  }

  /**
   * The table that a command names, if it may.
   *
   * @param isGgtt Whether it names the GGTT.
   * @returns The table; `null` where the batch has no privilege for it, which is counted.
   */
  spaceOf(isGgtt: boolean): AddressSpace | null {
    if (!isGgtt) return this.#parts.ppgtt;
    if (this.#stream.isPrivileged) return this.#parts.ggtt;
    this.#parts.counters.csPrivilegeViolations++;
    return null;
  }

  /**
   * MI_STORE_DATA_IMM: dwords or qwords, one after another.
   *
   * @param dword Its first dword.
   * @param length Its dwords.
   */
  storeDataImmediate(dword: number, length: number): void {
    const space = this.spaceOf((dword & GGTT_BIT) !== 0);
    if (space === null) return;
    const gma = this.#stream.gma(1, DWORD_ALIGNED);
    const isQword = (dword & QWORD_DATA) !== 0;
    const step = isQword ? 2 : 1;
    const { access } = this.#parts;
    this.#effect();
    for (let index = 3; index + step <= length; index += step) {
      const at = (gma + 4 * (index - 3)) % GMA_LIMIT;
      if (isQword) access.write64(space, at, this.#stream.dword(index), this.#stream.dword(index + 1));
      else access.write32(space, at, this.#stream.dword(index));
    }
  }

  /**
   * MI_STORE_DATA_INDEX: into a status page.
   *
   * @param dword Its first dword.
   * @param length Its dwords.
   */
  storeDataIndex(dword: number, length: number): void {
    const isOwn = (dword & STORE_INDEX) !== 0;
    if (!isOwn && !this.#stream.isPrivileged) {
      this.#parts.counters.csPrivilegeViolations++;
      return;
    }
    const gma = this.#statusPage(!isOwn) + (this.#stream.dword(1) & PAGE_OFFSET & ~3);
    const { access, ggtt } = this.#parts;
    this.#effect();
    if (length >= 4) access.write64(ggtt, gma, this.#stream.dword(2), this.#stream.dword(3));
    else access.write32(ggtt, gma, this.#stream.dword(2));
  }

  /**
   * MI_LOAD_REGISTER_IMM: pairs of offset and value.
   *
   * @param length Its dwords.
   */
  loadRegisterImmediate(length: number): void {
    for (let index = 1; index + 1 < length; index += 2) {
      this.#storeRegister(this.#stream.dword(index), this.#stream.dword(index + 1));
    }
  }

  /**
   * MI_LOAD_REGISTER_MEM.
   *
   * @param dword Its first dword.
   */
  loadRegisterMemory(dword: number): void {
    const space = this.spaceOf((dword & GGTT_BIT) !== 0);
    if (space === null) return;
    const value = this.#parts.access.read32(space, this.#stream.gma(2, DWORD_ALIGNED));
    this.#storeRegister(this.#stream.dword(1), value);
  }

  /** MI_LOAD_REGISTER_REG. */
  loadRegisterRegister(): void {
    this.#storeRegister(this.#stream.dword(2), this.#loadRegister(this.#stream.dword(1)));
  }

  /**
   * MI_STORE_REGISTER_MEM.
   *
   * @param dword Its first dword.
   */
  storeRegisterMemory(dword: number): void {
    const isPredicated = (dword & PREDICATED) !== 0;
    if (isPredicated && !this.isPredicateSet) return;
    const space = this.spaceOf((dword & GGTT_BIT) !== 0);
    if (space === null) return;
    const gma = this.#stream.gma(2, DWORD_ALIGNED);
    this.#effect();
    this.#parts.access.write32(space, gma, this.#loadRegister(this.#stream.dword(1)));
  }

  /**
   * MI_COPY_MEM_MEM: one dword.
   *
   * @param dword Its first dword.
   */
  copyMemory(dword: number): void {
    const source = this.spaceOf((dword & GGTT_BIT) !== 0);
    const destination = this.spaceOf((dword & DESTINATION_GGTT) !== 0);
    if (source === null || destination === null) return;
    const { access } = this.#parts;
    const value = access.read32(source, this.#stream.gma(3, DWORD_ALIGNED));
    this.#effect();
    access.write32(destination, this.#stream.gma(1, DWORD_ALIGNED), value);
  }

  /**
   * MI_MATH.
   *
   * @param length Its dwords.
   */
  math(length: number): void {
    const count = Math.min(length - 1, MAX_INSTRUCTIONS);
    for (let index = 0; index < count; index++) {
      this.#instructions[index] = this.#stream.dword(1 + index);
    }
    const { registers, counters } = this.#parts;
    const gpr = this.#base + RING.GPR;
    for (let lane = 0; lane < GPR_LANES; lane++) this.#gpr[lane] = registers.get(gpr + 4 * lane);
    this.#effect();
    counters.csUnknownCommands += this.#alu.run(this.#instructions, 0, count, this.#gpr);
    for (let lane = 0; lane < GPR_LANES; lane++) registers.set(gpr + 4 * lane, this.#gpr[lane]!);
  }

  /**
   * MI_ATOMIC on a dword or a qword.
   *
   * @param dword Its first dword.
   * @param length Its dwords.
   */
  atomic(dword: number, length: number): void {
    const space = this.spaceOf((dword & GGTT_BIT) !== 0);
    if (space === null) return;
    const size = (dword >>> 19) & 3;
    const isInline = (dword & ATOMIC_INLINE) !== 0;
    if (size > 1 || (isInline && length < 11)) {
      this.#parts.counters.csUnknownCommands++;
      return;
    }
    const gma = this.#stream.gma(1, size === 0 ? DWORD_ALIGNED : QWORD_ALIGNED);
    const { access, counters } = this.#parts;
    const old = this.#old;
    old[0] = access.read32(space, gma);
    old[1] = size === 0 ? 0 : access.read32(space, gma + 4);
    this.#value.set(old);
    this.#operand(this.#first, isInline, 3, ATOMIC_GPR.first);
    this.#operand(this.#second, isInline, 4, ATOMIC_GPR.second);
    const operation = (dword >>> 8) & 0x1f | (size === 1 ? 0x20 : 0);
    if (!applyAtomic(operation, this.#value, this.#first, this.#second)) {
      counters.csUnknownCommands++;
      return;
    }
    this.#effect();
    if (size === 0) access.write32(space, gma, this.#value[0]!);
    else access.write64(space, gma, this.#value[0]!, this.#value[1]!);
    if ((dword & ATOMIC_RETURN) === 0) return;
    const at = this.#base + RING.GPR + 8 * ATOMIC_GPR.returned;
    this.#parts.registers.set(at, old[0]!);
    if (size === 1) this.#parts.registers.set(at + 4, old[1]!);
  }

  /**
   * PIPE_CONTROL: what it leaves behind when everything before it is done, as it is.
   *
   * @param length Its dwords.
   */
  pipeControl(length: number): void {
    if (length < 6) return;
    const flags = this.#stream.dword(1);
    if ((flags & TLB_INVALIDATE) !== 0) this.#parts.gtt.invalidate();
    const operation = (flags >>> POST_SYNC_SHIFT) & 3;
    if ((flags & PIPE_CONTROL_REGISTER) !== 0) {
      if (operation === POST_SYNC.immediate) {
        this.#storeRegister(this.#stream.dword(2), this.#stream.dword(4));
      }
    } else if (operation !== POST_SYNC.none) {
      const isGgtt = (flags & PIPE_CONTROL_GGTT) !== 0;
      this.#postSync(operation, (flags & STORE_INDEX) !== 0, isGgtt, 2, QWORD_ALIGNED, true);
    }
    if ((flags & NOTIFY) !== 0) this.#raise(ENGINE_EVENT.flush);
  }

  /**
   * MI_FLUSH_DW: the same on the other engines.
   *
   * @param dword Its first dword.
   * @param length Its dwords.
   */
  flush(dword: number, length: number): void {
    if ((dword & TLB_INVALIDATE) !== 0) this.#parts.gtt.invalidate();
    const operation = (dword >>> POST_SYNC_SHIFT) & 3;
    if ((operation === POST_SYNC.immediate || operation === POST_SYNC.timestamp) && length >= 4) {
      const isGgtt = (this.#stream.dword(1) & FLUSH_GGTT) !== 0;
      const isQword = length >= FLUSH_QWORD_LENGTH || operation !== POST_SYNC.immediate;
      this.#postSync(operation, (dword & STORE_INDEX) !== 0, isGgtt, 1, QWORD_ALIGNED, isQword);
    }
    if ((dword & NOTIFY) !== 0) this.#raise(ENGINE_EVENT.flush);
  }

  /**
   * Result of the last MI_PREDICATE, or what a command stored there.
   *
   * @returns Whether predicated commands are carried out.
   */
  get isPredicateSet(): boolean {
    return (this.#parts.registers.get(this.#base + RING.PREDICATE_RESULT) & 1) !== 0;
  }

  /** Result of MI_PREDICATE. */
  set isPredicateSet(isSet: boolean) {
    this.#parts.registers.set(this.#base + RING.PREDICATE_RESULT, isSet ? 1 : 0);
  }

  /** MI_USER_INTERRUPT. */
  userInterrupt(): void {
    this.#raise(ENGINE_EVENT.user);
  }

  /** Writes what a flush leaves behind; address and data begin at this dword. */
  #postSync(
    operation: number,
    isIndex: boolean,
    isGgtt: boolean,
    index: number,
    mask: number,
    isQword: boolean,
  ): void {
    const { access, ggtt, clock } = this.#parts;
    // An index into the context's own status page needs no privilege; into the engine's it does.
    const space = isIndex && !isGgtt ? ggtt : this.spaceOf(isGgtt);
    if (space === null) return;
    const gma = isIndex
      ? this.#statusPage(isGgtt) + (this.#stream.dword(index) & PAGE_OFFSET & mask)
      : this.#stream.gma(index, mask);
    const value = this.#value;
    value[0] = value[1] = 0;
    if (operation === POST_SYNC.timestamp) clock.read(value);
    else if (operation === POST_SYNC.immediate) {
      value[0] = this.#stream.dword(index + 2);
      if (isQword) value[1] = this.#stream.dword(index + 3);
    }
    this.#effect();
    if (isQword) access.write64(space, gma, value[0]!, value[1]!);
    else access.write32(space, gma, value[0]!);
  }

  /** GGTT address of the engine's status page, or of the context's own. */
  #statusPage(isGlobal: boolean): number {
    return isGlobal ? (this.#parts.registers.get(this.#base + RING.HWS_PGA) & PAGE_MASK) >>> 0 : this.context;
  }

  #operand(out: Uint32Array, isInline: boolean, index: number, register: number): void {
    if (isInline) {
      // The dwords of the two operands take turns.
      out[0] = this.#stream.dword(index);
      out[1] = this.#stream.dword(index + 2);
      return;
    }
    const at = this.#base + RING.GPR + 8 * register;
    out[0] = this.#parts.registers.get(at);
    out[1] = this.#parts.registers.get(at + 4);
  }

  #loadRegister(offset: number): number {
    return this.#parts.registers.load(offset & REGISTER_MASK);
  }

  #storeRegister(offset: number, value: number): void {
    const { registers, counters } = this.#parts;
    const { isPrivileged } = this.#stream;
    const register = offset & REGISTER_MASK;
    this.#effect();
    const isForeign = !isPrivileged && isOfAnotherEngine(register, this.#base);
    if (isForeign || !registers.store(register, value, isPrivileged)) counters.csBadRegisterWrites++;
  }

  #raise(events: number): void {
    this.#effect();
    this.#parts.raise(events);
  }

  #effect(): void {
    this.effects++;
  }
}

/** Whether a register belongs to an engine with another base: what a batch there works with is not this one's. */
function isOfAnotherEngine(register: number, own: number): boolean {
  for (const { base } of ENGINES) {
    if (base !== own && register >= base && register < base + ENGINE_BYTES) return true;
  }
  return false;
}
