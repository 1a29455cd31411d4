import { assertEquals } from "@std/assert";
import { address, loadImmediate, NOOP, store, storeRegister } from "./commands.ts";
import { ENGINE_NAMES, ENGINES, Guest, NOWHERE, READ_ONLY } from "./guest.ts";

/** MI_ATOMIC: operations. */
const OPERATION = {
  and: 1,
  or: 2,
  xor: 3,
  move: 4,
  increment: 5,
  decrement: 6,
  add: 7,
  subtract: 8,
  reverseSubtract: 9,
  signedMax: 10,
  signedMin: 11,
  max: 12,
  min: 13,
  compareAndWrite: 14,
} as const;

/** MI_ATOMIC with its operands in the command; two dwords each. */
function atomic(
  gma: number,
  operation: number,
  first: readonly [number, number],
  second: readonly [number, number] = [0, 0],
  flags = 0,
): number[] {
  const head = 0x1784_0009 + (operation << 8) + flags;
  return [head, ...address(gma), first[0], second[0], first[1], second[1], 0, 0, 0, 0];
}
const QWORD = 1 << 19;
const RETURN = 1 << 16;

for (
  const [operation, memory, operand, dword, qword] of [
    ["and", [0xf0f0_f0f0, 0x00ff_00ff], [0xff00_ff00, 0x0f0f_0f0f], 0xf000_f000, [0xf000_f000, 0x000f_000f]],
    ["or", [0xf000_0000, 1], [0x0000_000f, 2], 0xf000_000f, [0xf000_000f, 3]],
    ["xor", [0xffff_0000, 7], [0x0ff0_0ff0, 2], 0xf00f_0ff0, [0xf00f_0ff0, 5]],
    ["move", [1, 2], [0xabcd, 0xef], 0xabcd, [0xabcd, 0xef]],
    ["increment", [0xffff_ffff, 4], [9, 9], 0, [0, 5]],
    ["decrement", [0, 4], [9, 9], 0xffff_ffff, [0xffff_ffff, 3]],
    ["add", [0xffff_fff0, 1], [0x20, 2], 0x10, [0x10, 4]],
    ["subtract", [0x10, 5], [0x20, 1], 0xffff_fff0, [0xffff_fff0, 3]],
    ["reverseSubtract", [0x20, 1], [0x10, 5], 0xffff_fff0, [0xffff_fff0, 3]],
    ["signedMax", [0xffff_ffff, 0x8000_0000], [1, 0], 1, [1, 0]],
    ["signedMin", [0xffff_ffff, 0x8000_0000], [1, 0], 0xffff_ffff, [0xffff_ffff, 0x8000_0000]],
    ["max", [0xffff_ffff, 0x8000_0000], [1, 0], 0xffff_ffff, [0xffff_ffff, 0x8000_0000]],
    ["min", [0xffff_ffff, 0x8000_0000], [1, 0], 1, [1, 0]],
  ] as const
) {
  Deno.test(`MI_ATOMIC: ${operation}, of a dword and a qword`, async () => {
    await using guest = await Guest.start();
    await guest.put(guest.data, [memory[0], memory[1], memory[0], memory[1], 0x77]);
    await guest.runBatch("rcs0", [
      ...atomic(guest.data, OPERATION[operation], operand),
      ...atomic(guest.data + 8, OPERATION[operation] + 0x20, operand, [0, 0], QWORD),
    ]);
    assertEquals(await guest.get(guest.data, 5), [dword, memory[1], ...qword, 0x77]);
  });
}

Deno.test("MI_ATOMIC: compare and write", async () => {
  await using guest = await Guest.start();
  await guest.put(guest.data, [5, 6, 5, 6, 5, 6]);
  await guest.runBatch("rcs0", [
    ...atomic(guest.data, OPERATION.compareAndWrite, [5, 99], [0x11, 0x12]),
    ...atomic(guest.data + 4, OPERATION.compareAndWrite, [5, 99], [0x21, 0x22]), // 6 is not 5
    ...atomic(guest.data + 8, OPERATION.compareAndWrite + 0x20, [5, 6], [0x31, 0x32], QWORD),
    ...atomic(guest.data + 16, OPERATION.compareAndWrite + 0x20, [5, 7], [0x41, 0x42], QWORD),
  ]);
  assertEquals(await guest.get(guest.data, 6), [0x11, 6, 0x31, 0x32, 5, 6]);
});

for (const engine of ENGINE_NAMES) {
  const gpr = ENGINES[engine].base + 0x600;

  Deno.test(`MI_ATOMIC on ${engine} takes its operands from registers, and returns what was there`, async () => {
    await using guest = await Guest.start();
    await guest.put(guest.data, [100, 0, 7, 8]);
    await guest.runBatch(engine, [
      ...loadImmediate([gpr, 7], [gpr + 4, 8], [gpr + 16, 0x55], [gpr + 20, 0x66]),
      ...[0x1780_0001 + (OPERATION.add << 8) + RETURN, ...address(guest.data)],
      ...storeRegister(gpr + 32, guest.data + 0x10),
      ...[
        0x1780_0001 + ((OPERATION.compareAndWrite + 0x20) << 8) + RETURN + QWORD,
        ...address(guest.data + 8),
      ],
      ...storeRegister(gpr + 32, guest.data + 0x14),
      ...storeRegister(gpr + 36, guest.data + 0x18),
    ]);
    assertEquals(await guest.get(guest.data, 7), [107, 0, 0x55, 0x66, 100, 7, 8]);
  });
}

Deno.test("MI_ATOMIC by the GGTT needs privilege", async () => {
  await using guest = await Guest.start();
  const add = atomic(guest.global, OPERATION.add, [5, 0], [0, 0], 1 << 22);
  await guest.runBatch("rcs0", add);
  assertEquals(await guest.words(guest.globalPage, 1), [0]);
  await guest.runRing("rcs0", add);
  assertEquals(await guest.words(guest.globalPage, 1), [5]);
});

Deno.test("MI_ATOMIC on what is read-only or not mapped returns what it reads and changes nothing", async () => {
  await using guest = await Guest.start();
  await guest.put(READ_ONLY, [0x1234]);
  await guest.runBatch("rcs0", [
    ...atomic(READ_ONLY, OPERATION.add, [1, 0], [0, 0], RETURN),
    ...storeRegister(0x2620, guest.data),
    ...atomic(NOWHERE, OPERATION.add, [1, 0], [0, 0], RETURN),
    ...storeRegister(0x2620, guest.data + 4),
  ]);
  assertEquals(await guest.get(READ_ONLY), [0x1234]);
  assertEquals(await guest.get(guest.data, 2), [0x1234, 0]);
});

Deno.test("MI_ATOMIC of a dword may lie in the last one of a page, a qword loses its low bits", async () => {
  await using guest = await Guest.start();
  await guest.runBatch("rcs0", [
    ...atomic(guest.data + 0xffc, OPERATION.add, [1, 0]),
    ...atomic(guest.data + 0x1004, OPERATION.add, [2, 3], [0, 0], QWORD),
  ]);
  assertEquals(await guest.get(guest.data + 0xffc, 4), [1, 2, 3, 0]);
});

Deno.test("MI_ATOMIC that is none, or of an octword, is skipped and counted", async () => {
  await using guest = await Guest.start();
  await guest.put(guest.data, [7]);
  await guest.runBatch("rcs0", [
    ...atomic(guest.data, 0, [1, 0]),
    ...atomic(guest.data, 0x10, [1, 0]),
    ...atomic(guest.data, OPERATION.add, [1, 0], [0, 0], 2 << 19),
    ...store(guest.data + 4, 1),
  ]);
  assertEquals(await guest.get(guest.data, 2), [7, 1]);
  assertEquals(await guest.device.counter("csUnknownCommands"), 3);
});

/** MI_MATH: instructions. */
const LOAD = (source: number, from: number) => (0x080 << 20) + (source << 10) + from;
const STORE = (to: number, from: number) => (0x180 << 20) + (to << 10) + from;
const [A, B, RESULT, ZERO, CARRY] = [0x20, 0x21, 0x31, 0x32, 0x33];
const [ADD, SUB, AND, OR, XOR] = [0x100, 0x101, 0x102, 0x103, 0x104].map((each) => each * 2 ** 20);

/** MI_MATH. */
function math(...instructions: readonly number[]): number[] {
  return [0x0d00_0000 + instructions.length - 1, ...instructions];
}

for (const engine of ENGINE_NAMES) {
  const gpr = ENGINES[engine].base + 0x600;

  Deno.test(`MI_MATH on ${engine} computes with its registers, 64 bits wide`, async () => {
    await using guest = await Guest.start();
    await guest.runBatch(engine, [
      ...loadImmediate([gpr, 0xffff_ffff], [gpr + 4, 1], [gpr + 8, 2], [gpr + 12, 0xffff_fffe]),
      ...math(LOAD(A, 0), LOAD(B, 1), ADD!, STORE(2, RESULT), STORE(3, CARRY), STORE(15, ZERO)),
      ...storeRegister(gpr + 16, guest.data),
      ...storeRegister(gpr + 20, guest.data + 4),
      ...storeRegister(gpr + 24, guest.data + 8),
      ...storeRegister(gpr + 120, guest.data + 12),
    ]);
    // 0x1_ffffffff + 0xfffffffe_00000002 = 1 << 64 + 1
    assertEquals(await guest.get(guest.data, 4), [1, 0, 0xffff_ffff, 0]);
  });
}

Deno.test("MI_MATH: the other operations, and a long one that is skipped exactly", async () => {
  await using guest = await Guest.start();
  const show = (register: number, index: number) =>
    storeRegister(0x2600 + 8 * register, guest.data + 4 * index);
  await guest.runBatch("rcs0", [
    ...loadImmediate([0x2600, 0xff00], [0x2604, 0], [0x2608, 0x0ff0], [0x260c, 0]),
    ...math(LOAD(A, 0), LOAD(B, 1), SUB!, STORE(2, RESULT), AND!, STORE(3, RESULT)),
    ...math(OR!, STORE(4, RESULT), XOR!, STORE(5, RESULT)), // sources stay
    ...math(LOAD(A, 0), LOAD(B, 0), SUB!, STORE(6, ZERO)),
    ...math(...new Array(256).fill(NOOP)),
    ...math(STORE(7, A)),
    ...[2, 3, 4, 5, 6, 7].flatMap((register, index) => show(register, index)),
  ]);
  assertEquals(await guest.get(guest.data, 6), [0xef10, 0x0f00, 0xfff0, 0xf0f0, 0xffff_ffff, 0xff00]);
});
