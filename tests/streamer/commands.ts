/**
 * Commands as a guest's driver writes them, from the public manuals and `guest.md` §8.1: dwords, low one first.
 *
 * @module
 */

/** Nothing. */
export const NOOP = 0;
/** MI_BATCH_BUFFER_END. */
export const END = 0x0500_0000;
/** MI_ARB_CHECK. */
export const ARB_CHECK = 0x0280_0000;
/** MI_USER_INTERRUPT. */
export const USER_INTERRUPT = 0x0100_0000;
/** Bit 22 of most commands: the address is of the GGTT. */
export const GGTT = 0x0040_0000;

/** A graphics address as two dwords. */
export function address(gma: number): [lo: number, hi: number] {
  return [gma % 2 ** 32, Math.floor(gma / 2 ** 32)];
}

/** MI_STORE_DATA_IMM of a dword. */
export function store(gma: number, value: number, flags = 0): number[] {
  return [0x1000_0002 + flags, ...address(gma), value];
}

/** MI_STORE_DATA_IMM of a qword. */
export function storeQword(gma: number, lo: number, hi: number, flags = 0): number[] {
  return [0x1020_0003 + flags, ...address(gma), lo, hi];
}

/** MI_BATCH_BUFFER_START in the PPGTT. */
export function start(gma: number, flags = 0): number[] {
  return [0x1880_0101 + flags, ...address(gma)];
}

/** MI_BATCH_BUFFER_START in the GGTT. */
export function startGlobal(gma: number): number[] {
  return [0x1880_0001, ...address(gma)];
}

/** Bit 22 of MI_BATCH_BUFFER_START: a second-level batch, which returns to the batch that starts it. */
export const SECOND_LEVEL = 0x0040_0000;

/** MI_LOAD_REGISTER_IMM of pairs of offset and value. */
export function loadImmediate(...pairs: readonly (readonly [offset: number, value: number])[]): number[] {
  return [0x1100_0000 + 2 * pairs.length - 1, ...pairs.flat()];
}

/** MI_STORE_REGISTER_MEM. */
export function storeRegister(offset: number, gma: number, flags = 0): number[] {
  return [0x1200_0002 + flags, offset, ...address(gma)];
}

/** MI_LOAD_REGISTER_MEM. */
export function loadRegister(offset: number, gma: number, flags = 0): number[] {
  return [0x1480_0002 + flags, offset, ...address(gma)];
}

/** MI_LOAD_REGISTER_REG. */
export function moveRegister(from: number, to: number): number[] {
  return [0x1500_0001, from, to];
}

/** What MI_SEMAPHORE_WAIT waits for: the value in memory, compared with the command's. */
export const WAIT = { above: 0, atLeast: 1, below: 2, atMost: 3, equal: 4, other: 5 } as const;

/** MI_SEMAPHORE_WAIT, polling. */
export function wait(gma: number, test: number, value: number, flags = 0): number[] {
  return [0x0e00_8002 + (test << 12) + flags, value, ...address(gma)];
}

/** A batch that loops until somebody makes an end of its first dword. */
export function spinner(at: number): number[] {
  return [NOOP, ARB_CHECK, ...start(at)];
}

/** PIPE_CONTROL. */
export function pipeControl(flags: number, gma = 0, lo = 0, hi = 0): number[] {
  return [0x7a00_0004, flags, ...address(gma), lo, hi];
}
