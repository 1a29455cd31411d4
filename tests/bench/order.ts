/**
 * An order that nothing foresees.
 *
 * @module
 */

/** Numbers below a limit, in an order that no cache foresees: the same in each run. */
export function shuffled(limit: number): Int32Array {
  const order = Int32Array.from({ length: limit }, (_, index) => index);
  let state = 0x2545f491;
  for (let index = limit - 1; index > 0; index--) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const other = (state >>> 0) % (index + 1);
    [order[index], order[other]] = [order[other]!, order[index]!];
  }
  return order;
}
