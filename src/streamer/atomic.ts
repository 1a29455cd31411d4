/**
 * What MI_ATOMIC makes of a value in memory (`guest.md` §8.1). Values are pairs of 32-bit lanes, low one first; a dword
 * is the low lane alone.
 *
 * @module
 */

/** Bit of the operation that makes it one of qwords. */
const QWORD = 0x20;
const SIGN = 0x80000000;
const LANE = 2 ** 32;

/** Operations of MI_ATOMIC, bits 12..8 of its first dword. */
export const ATOMIC = {
  AND: 0x01,
  OR: 0x02,
  XOR: 0x03,
  MOVE: 0x04,
  INC: 0x05,
  DEC: 0x06,
  ADD: 0x07,
  SUB: 0x08,
  RSUB: 0x09,
  IMAX: 0x0a,
  IMIN: 0x0b,
  UMAX: 0x0c,
  UMIN: 0x0d,
  CMPWR: 0x0e,
  PREDEC: 0x0f,
} as const;

/**
 * Computes what replaces a value.
 *
 * @param operation Bits 15..8 of the command: one of {@linkcode ATOMIC}, and 0x20 for qwords.
 * @param value The value in memory, two lanes; it is replaced by the result.
 * @param first The first operand, two lanes.
 * @param second The second operand, two lanes: what {@linkcode ATOMIC.CMPWR} writes.
 * @returns Whether there is such an operation; if not, the value stays.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { applyAtomic, ATOMIC } from "./atomic.ts";
 *
 * const value = Uint32Array.of(0xffffffff, 1);
 * applyAtomic(ATOMIC.INC | 0x20, value, new Uint32Array(2), new Uint32Array(2));
 * assertEquals(value, Uint32Array.of(0, 2)); // a qword
 * applyAtomic(ATOMIC.CMPWR, value, Uint32Array.of(0, 9), Uint32Array.of(5, 9));
 * assertEquals(value, Uint32Array.of(5, 2)); // a dword that was equal
 * ```
 */
export function applyAtomic(
  operation: number,
  value: Uint32Array,
  first: Uint32Array,
  second: Uint32Array,
): boolean {
  const isQword = (operation & QWORD) !== 0;
  switch (operation & ~QWORD) {
    case ATOMIC.AND:
      return put(value, isQword, value[0]! & first[0]!, value[1]! & first[1]!);
    case ATOMIC.OR:
      return put(value, isQword, value[0]! | first[0]!, value[1]! | first[1]!);
    case ATOMIC.XOR:
      return put(value, isQword, value[0]! ^ first[0]!, value[1]! ^ first[1]!);
    case ATOMIC.MOVE:
      return put(value, isQword, first[0]!, first[1]!);
    case ATOMIC.INC:
      return add(value, isQword, value[0]!, value[1]!, 1, 0);
    case ATOMIC.DEC:
    case ATOMIC.PREDEC:
      return subtract(value, isQword, value[0]!, value[1]!, 1, 0);
    case ATOMIC.ADD:
      return add(value, isQword, value[0]!, value[1]!, first[0]!, first[1]!);
    case ATOMIC.SUB:
      return subtract(value, isQword, value[0]!, value[1]!, first[0]!, first[1]!);
    case ATOMIC.RSUB:
      return subtract(value, isQword, first[0]!, first[1]!, value[0]!, value[1]!);
    case ATOMIC.IMAX:
      return isLess(value, first, isQword, true) ? put(value, isQword, first[0]!, first[1]!) : true;
    case ATOMIC.IMIN:
      return isLess(first, value, isQword, true) ? put(value, isQword, first[0]!, first[1]!) : true;
    case ATOMIC.UMAX:
      return isLess(value, first, isQword, false) ? put(value, isQword, first[0]!, first[1]!) : true;
    case ATOMIC.UMIN:
      return isLess(first, value, isQword, false) ? put(value, isQword, first[0]!, first[1]!) : true;
    case ATOMIC.CMPWR: {
      const isEqual = value[0] === first[0] && (!isQword || value[1] === first[1]);
      return isEqual ? put(value, isQword, second[0]!, second[1]!) : true;
    }
    default:
      return false;
  }
}

function put(value: Uint32Array, isQword: boolean, lo: number, hi: number): true {
  value[0] = lo;
  if (isQword) value[1] = hi;
  return true;
}

function add(value: Uint32Array, isQword: boolean, lo: number, hi: number, byLo: number, byHi: number): true {
  return put(value, isQword, lo + byLo, hi + byHi + (lo + byLo >= LANE ? 1 : 0));
}

function subtract(
  value: Uint32Array,
  isQword: boolean,
  lo: number,
  hi: number,
  byLo: number,
  byHi: number,
): true {
  return put(value, isQword, lo - byLo, hi - byHi - (lo < byLo ? 1 : 0));
}

function isLess(a: Uint32Array, b: Uint32Array, isQword: boolean, isSigned: boolean): boolean {
  // Turning the sign bit makes the order of signed values that of unsigned ones.
  const turn = isSigned ? SIGN : 0;
  if (!isQword) return ((a[0]! ^ turn) >>> 0) < ((b[0]! ^ turn) >>> 0);
  const high = (a[1]! ^ turn) >>> 0;
  const other = (b[1]! ^ turn) >>> 0;
  return high === other ? a[0]! < b[0]! : high < other;
}
