/**
 * The ALU of a command streamer: what MI_MATH computes (`guest.md` §8.1).
 *
 * An instruction is one dword: opcode in bits 31:20, two operands in 19:10 and 9:0. Sources A and B are loaded from
 * registers, an operation combines them into the accumulator and sets two flags, and a store brings accumulator or
 * flag back into a register. Everything is 64 bits wide, kept as two lanes of 32 bits, low lane first. A flag that is
 * set is all ones, so that it stores as a mask and its inverse stores as 0.
 *
 * Sources, accumulator and flags keep their values from one MI_MATH to the next. What an instruction cannot mean, an
 * unknown opcode or an operand that has no place in it, does nothing.
 *
 * @module
 */

/** Opcodes that move: to a source, or from anywhere to a register. `INVERT` inverts what is moved. */
const [LOAD, LOAD0, STORE] = [0x080, 0x081, 0x180];
const INVERT = 0x400;
const [LOADINV, LOAD1, STOREINV] = [LOAD | INVERT, LOAD0 | INVERT, STORE | INVERT];
/** Opcodes that compute: accumulator and flags from source A and source B. */
const [ADD, SUB, AND, OR, XOR] = [0x100, 0x101, 0x102, 0x103, 0x104];
const NOOP = 0x000;

/** Operands that are general-purpose registers are below this. */
const REGISTERS = 16;
/** The other operands: sources, accumulator, zero flag and carry flag. */
const [SRCA, SRCB, ACCU, ZF, CF] = [0x20, 0x21, 0x31, 0x32, 0x33];

/** Lanes of a flag. */
const [SET, CLEAR] = [0xffffffff, 0];
/** What a lane does not hold: the carry out of it. */
const LANE = 2 ** 32;

/**
 * What MI_MATH computes with: sources, accumulator and flags.
 *
 * @example R2 = R0 + R1, and R3 says whether that overflowed
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { Alu } from "./alu.ts";
 *
 * const gpr = new Uint32Array(32);
 * gpr.set([0xffffffff, 0xffffffff, 2, 0]); // R0 is -1, R1 is 2
 * const instructions = new Uint32Array([
 *   0x08008000, // LOAD SRCA, R0
 *   0x08008401, // LOAD SRCB, R1
 *   0x10000000, // ADD
 *   0x18000831, // STORE R2, ACCU
 *   0x18000c33, // STORE R3, CF
 * ]);
 * assertEquals(new Alu().run(instructions, 0, 5, gpr), 0);
 * assertEquals([...gpr.subarray(4, 8)], [1, 0, 0xffffffff, 0xffffffff]);
 * ```
 */
export class Alu {
  readonly #a = new Uint32Array(2);
  readonly #b = new Uint32Array(2);
  readonly #accumulator = new Uint32Array(2);
  /** The flags: both lanes of one are {@linkcode SET} or {@linkcode CLEAR}. */
  #zero = CLEAR;
  #carry = CLEAR;
  /** What {@linkcode Alu.#fetch} found. */
  #lo = 0;
  #hi = 0;

  /**
   * Carries out instructions, in order.
   *
   * @param instructions Holds them, one in each dword.
   * @param from Index of the first.
   * @param count How many there are.
   * @param gpr The 16 general-purpose registers, 32 lanes, low lane first; stores change them.
   * @returns How many instructions did nothing because they mean nothing.
   *
   * @example An opcode that there is not
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { Alu } from "./alu.ts";
   *
   * assertEquals(new Alu().run(new Uint32Array([0x00000000, 0x7ff00000]), 0, 2, new Uint32Array(32)), 1);
   * ```
   */
  run(instructions: Uint32Array, from: number, count: number, gpr: Uint32Array): number {
    let ignored = 0;
    for (let i = from; i < from + count; i++) {
      if (!this.#step(instructions[i]!, gpr)) ignored++;
    }
    return ignored;
  }

  /** One instruction. Returns whether it means something. */
  #step(instruction: number, gpr: Uint32Array): boolean {
    const opcode = instruction >>> 20;
    const first = (instruction >>> 10) & 0x3ff;
    const inversion = (opcode & INVERT) !== 0 ? 0xffffffff : 0;
    switch (opcode) {
      case NOOP:
        return true;
      case LOAD:
      case LOADINV:
        return this.#fetch(instruction & 0x3ff, gpr) && this.#load(first, inversion);
      case LOAD0:
      case LOAD1:
        this.#lo = this.#hi = 0;
        return this.#load(first, inversion);
      case STORE:
      case STOREINV:
        if (first >= REGISTERS || !this.#fetch(instruction & 0x3ff, gpr)) return false;
        gpr[2 * first] = this.#lo ^ inversion;
        gpr[2 * first + 1] = this.#hi ^ inversion;
        return true;
      case ADD:
      case SUB:
      case AND:
      case OR:
      case XOR:
        this.#compute(opcode);
        return true;
      default:
        return false;
    }
  }

  /** Reads an operand. Returns whether there is such a one. */
  #fetch(operand: number, gpr: Uint32Array): boolean {
    if (operand < REGISTERS) return this.#take(gpr[2 * operand]!, gpr[2 * operand + 1]!);
    switch (operand) {
      case SRCA:
        return this.#take(this.#a[0]!, this.#a[1]!);
      case SRCB:
        return this.#take(this.#b[0]!, this.#b[1]!);
      case ACCU:
        return this.#take(this.#accumulator[0]!, this.#accumulator[1]!);
      case ZF:
        return this.#take(this.#zero, this.#zero);
      case CF:
        return this.#take(this.#carry, this.#carry);
      default:
        return false;
    }
  }

  #take(lo: number, hi: number): true {
    this.#lo = lo;
    this.#hi = hi;
    return true;
  }

  /** Puts what was fetched into a source. Returns whether the operand is one. */
  #load(operand: number, inversion: number): boolean {
    if (operand !== SRCA && operand !== SRCB) return false;
    const source = operand === SRCA ? this.#a : this.#b;
    source[0] = this.#lo ^ inversion;
    source[1] = this.#hi ^ inversion;
    return true;
  }

  /** Accumulator and flags from the sources. Carry is the borrow of a subtraction, and clear for what is bitwise. */
  #compute(opcode: number): void {
    const a = this.#a;
    const b = this.#b;
    const accumulator = this.#accumulator;
    let hi: number;
    switch (opcode) {
      case ADD: {
        const lo = a[0]! + b[0]!;
        hi = a[1]! + b[1]! + (lo >= LANE ? 1 : 0);
        accumulator[0] = lo;
        break;
      }
      case SUB: {
        const lo = a[0]! - b[0]!;
        hi = a[1]! - b[1]! - (lo < 0 ? 1 : 0);
        accumulator[0] = lo;
        break;
      }
      case AND:
        accumulator[0] = a[0]! & b[0]!;
        hi = (a[1]! & b[1]!) >>> 0;
        break;
      case OR:
        accumulator[0] = a[0]! | b[0]!;
        hi = (a[1]! | b[1]!) >>> 0;
        break;
      default:
        accumulator[0] = a[0]! ^ b[0]!;
        hi = (a[1]! ^ b[1]!) >>> 0;
        break;
    }
    accumulator[1] = hi;
    this.#carry = hi < 0 || hi >= LANE ? SET : CLEAR;
    this.#zero = accumulator[0] === 0 && accumulator[1] === 0 ? SET : CLEAR;
  }
}
