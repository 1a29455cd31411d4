import { assertEquals } from "@std/assert";
import { Alu } from "../../src/streamer/alu.ts";
import { Random } from "../model/random.ts";

const MASK = (1n << 64n) - 1n;
const NOOP = 0x000;
const [LOAD, LOADINV, LOAD0, LOAD1] = [0x080, 0x480, 0x081, 0x481] as const;
const [ADD, SUB, AND, OR, XOR] = [0x100, 0x101, 0x102, 0x103, 0x104] as const;
const [STORE, STOREINV] = [0x180, 0x580] as const;
const OPCODES = [NOOP, LOAD, LOADINV, LOAD0, LOAD1, ADD, SUB, AND, OR, XOR, STORE, STOREINV];
const [SRCA, SRCB, ACCU, ZF, CF] = [0x20, 0x21, 0x31, 0x32, 0x33] as const;

function instruction(opcode: number, operand1 = 0, operand2 = 0): number {
  return ((opcode << 20) | (operand1 << 10) | operand2) >>> 0;
}

/** Sixteen registers, of which the first few have values. */
function registers(...values: bigint[]): Uint32Array {
  const gpr = new BigUint64Array(16);
  gpr.set(values);
  return new Uint32Array(gpr.buffer);
}

function values(gpr: Uint32Array): bigint[] {
  return [...new BigUint64Array(gpr.buffer)];
}

/** R2, R3 and R4 after an operation on R0 and R1: accumulator, zero flag and carry flag. */
function compute(opcode: number, a: bigint, b: bigint): bigint[] {
  const gpr = registers(a, b);
  const program = [
    instruction(LOAD, SRCA, 0),
    instruction(LOAD, SRCB, 1),
    instruction(opcode),
    instruction(STORE, 2, ACCU),
    instruction(STORE, 3, ZF),
    instruction(STORE, 4, CF),
  ];
  assertEquals(new Alu().run(new Uint32Array(program), 0, program.length, gpr), 0);
  return values(gpr).slice(2, 5);
}

/** The ALU in plain 64-bit arithmetic. */
class Model {
  readonly named = new Map<number, bigint>([[SRCA, 0n], [SRCB, 0n], [ACCU, 0n], [ZF, 0n], [CF, 0n]]);
  readonly gpr: bigint[];

  constructor(gpr: bigint[]) {
    this.gpr = gpr;
  }

  /** Returns whether the instruction means something. */
  step(opcode: number, operand1: number, operand2: number): boolean {
    const source = operand2 < 16 ? this.gpr[operand2] : this.named.get(operand2);
    const [a, b] = [this.named.get(SRCA)!, this.named.get(SRCB)!];
    switch (opcode) {
      case NOOP:
        return true;
      case LOAD:
        return this.#load(operand1, source);
      case LOADINV:
        return this.#load(operand1, source === undefined ? undefined : source ^ MASK);
      case LOAD0:
        return this.#load(operand1, 0n);
      case LOAD1:
        return this.#load(operand1, MASK);
      case ADD:
        return this.#result(a + b, a + b > MASK);
      case SUB:
        return this.#result(a - b, a < b);
      case AND:
        return this.#result(a & b, false);
      case OR:
        return this.#result(a | b, false);
      case XOR:
        return this.#result(a ^ b, false);
      case STORE:
      case STOREINV:
        if (operand1 >= 16 || source === undefined) return false;
        this.gpr[operand1] = opcode === STORE ? source : source ^ MASK;
        return true;
      default:
        return false;
    }
  }

  #load(operand: number, value: bigint | undefined): boolean {
    if ((operand !== SRCA && operand !== SRCB) || value === undefined) return false;
    this.named.set(operand, value);
    return true;
  }

  #result(value: bigint, carry: boolean): true {
    const accumulator = BigInt.asUintN(64, value);
    this.named.set(ACCU, accumulator);
    this.named.set(ZF, accumulator === 0n ? MASK : 0n);
    this.named.set(CF, carry ? MASK : 0n);
    return true;
  }
}

Deno.test("Alu adds across lanes", () => {
  assertEquals(compute(ADD, 0xffffffffn, 1n), [0x1_0000_0000n, 0n, 0n]);
});

Deno.test("Alu sets zero and carry when a sum wraps to 0", () => {
  assertEquals(compute(ADD, MASK, 1n), [0n, MASK, MASK]);
});

Deno.test("Alu carries out of the high lane only because the low lane did", () => {
  assertEquals(compute(ADD, 0xffffffff_00000001n, 0x00000000_ffffffffn), [0n, MASK, MASK]);
});

Deno.test("Alu sets carry when it borrows", () => {
  assertEquals(compute(SUB, 1n, 2n), [MASK, 0n, MASK]);
  assertEquals(compute(SUB, 0x1_0000_0000n, 1n), [0xffffffffn, 0n, 0n]);
  assertEquals(compute(SUB, 0x1_0000_0000n, 0x1_0000_0001n), [MASK, 0n, MASK]);
});

Deno.test("Alu sets zero when a difference is 0", () => {
  assertEquals(compute(SUB, 1n << 63n, 1n << 63n), [0n, MASK, 0n]);
});

Deno.test("Alu clears carry in bitwise operations", () => {
  assertEquals(compute(AND, MASK, 0x80000000_80000000n), [0x80000000_80000000n, 0n, 0n]);
  assertEquals(compute(OR, 0x80000000_00000000n, 0x80000000n), [0x80000000_80000000n, 0n, 0n]);
  assertEquals(compute(XOR, MASK, MASK), [0n, MASK, 0n]);
});

Deno.test("Alu keeps sources, accumulator and flags from one run to the next", () => {
  const alu = new Alu();
  const gpr = registers(5n, 7n);
  alu.run(new Uint32Array([instruction(LOAD, SRCA, 0), instruction(LOAD, SRCB, 1)]), 0, 2, gpr);
  alu.run(new Uint32Array([instruction(SUB)]), 0, 1, gpr);
  alu.run(new Uint32Array([instruction(STORE, 2, ACCU), instruction(STOREINV, 3, CF)]), 0, 2, gpr);
  assertEquals(values(gpr).slice(0, 4), [5n, 7n, BigInt.asUintN(64, -2n), 0n]);
});

Deno.test("Alu carries out only the instructions from the first on, as many as said", () => {
  const program = [LOAD1, LOAD0, LOAD1].map((opcode) => instruction(opcode, SRCA));
  const alu = new Alu();
  const gpr = registers(1n, 2n);
  alu.run(new Uint32Array(program), 1, 1, gpr);
  alu.run(new Uint32Array([instruction(STORE, 1, SRCA)]), 0, 1, gpr);
  assertEquals(values(gpr).slice(0, 2), [1n, 0n]);
});

Deno.test("Alu counts what means nothing, and does nothing for it", () => {
  const nonsense = [
    instruction(0x7ff, 0, 0),
    instruction(0x500, 0, 0), // ADD, inverted
    instruction(LOAD, 3, 0), // to a register
    instruction(LOAD, ACCU, 0),
    instruction(LOAD, SRCA, 0x10), // no such register
    instruction(LOAD1, ZF),
    instruction(STORE, SRCB, 0),
    instruction(STORE, 0x10, ACCU),
    instruction(STOREINV, 0, 0x3ff),
  ];
  const alu = new Alu();
  const gpr = registers(1n, 2n);
  assertEquals(alu.run(new Uint32Array(nonsense), 0, nonsense.length, gpr), nonsense.length);
  assertEquals(values(gpr), values(registers(1n, 2n)));
  const look = [SRCA, SRCB, ACCU, ZF, CF].map((operand, i) => instruction(STORE, i, operand));
  alu.run(new Uint32Array(look), 0, look.length, gpr);
  assertEquals(values(gpr).slice(0, 5), [0n, 0n, 0n, 0n, 0n]);
});

Deno.test("Alu computes what 64-bit arithmetic does, in random programs", () => {
  const random = new Random(1);
  const corners = [0n, 1n, MASK, 1n << 63n, 0xffffffffn, 1n << 32n, 0x7fffffffn, 0xffffffff_00000000n];
  const lane = () => BigInt(random.below(2 ** 32));
  for (let run = 0; run < 300; run++) {
    const start = Array.from(
      { length: 16 },
      () => random.chance(0.5) ? random.pick(corners) : (lane() << 32n) | lane(),
    );
    const alu = new Alu();
    const model = new Model([...start]);
    const gpr = registers(...start);
    const operand = () =>
      random.chance(0.95) ? random.pick([random.below(16), SRCA, SRCB, ACCU, ZF, CF]) : 0x2ff;
    const program: number[] = [];
    let ignored = 0;
    for (let i = 0; i < 60; i++) {
      const opcode = random.chance(0.95) ? random.pick(OPCODES) : random.below(0x1000);
      const isLoad = (opcode & 0x3fe) === LOAD;
      const operand1 = random.chance(0.9) ? isLoad ? random.pick([SRCA, SRCB]) : random.below(16) : operand();
      const operand2 = operand();
      program.push(instruction(opcode, operand1, operand2));
      if (!model.step(opcode, operand1, operand2)) ignored++;
    }
    assertEquals(alu.run(new Uint32Array(program), 0, program.length, gpr), ignored);
    assertEquals(values(gpr), model.gpr);
  }
});
