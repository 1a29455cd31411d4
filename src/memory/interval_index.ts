/** One entry of an {@linkcode IntervalIndex}. */
export interface Interval<T> {
  /** First number of the interval. */
  readonly start: number;
  /** First number after it. */
  readonly end: number;
  /** What is there. */
  readonly value: T;
}

/**
 * Intervals of numbers that do not overlap, found by a number in them.
 *
 * Kept in order and searched by halving; before that, the interval found last is tried, because accesses come
 * in runs. A search allocates nothing.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * const index = new IntervalIndex<string>();
 * index.add(0, 10, "low");
 * index.add(20, 30, "high");
 * assertEquals([index.find(9), index.find(10), index.find(20)], ["low", null, "high"]);
 * ```
 */
export class IntervalIndex<T> {
  readonly #sorted: Interval<T>[] = [];
  #last: Interval<T> | null = null;

  /** The intervals in order. */
  get intervals(): readonly Interval<T>[] {
    return this.#sorted;
  }

  /**
   * What is at a number.
   *
   * @param at The number.
   * @returns The value of the interval that contains it, or `null`.
   */
  find(at: number): T | null {
    const last = this.#last;
    if (last !== null && at >= last.start && at < last.end) return last.value;
    const candidate = this.#sorted[this.#firstEndingAfter(at)];
    if (candidate === undefined || !(at >= candidate.start)) return null;
    this.#last = candidate;
    return candidate.value;
  }

  /**
   * What is in the way of a new interval.
   *
   * @param start First number.
   * @param end First number after it.
   * @returns The value of the first interval that overlaps, or `null`.
   */
  overlapping(start: number, end: number): T | null {
    const candidate = this.#sorted[this.#firstEndingAfter(start)];
    return candidate !== undefined && candidate.start < end ? candidate.value : null;
  }

  /**
   * Adds an interval, which must not overlap another one.
   *
   * @param start First number.
   * @param end First number after it.
   * @param value What is there.
   */
  add(start: number, end: number, value: T): void {
    this.#sorted.splice(this.#firstEndingAfter(start), 0, { start, end, value });
  }

  /**
   * Removes the interval that starts at a number, if there is one.
   *
   * @param start First number.
   */
  remove(start: number): void {
    const position = this.#firstEndingAfter(start);
    if (this.#sorted[position]?.start !== start) return;
    this.#sorted.splice(position, 1);
    this.#last = null;
  }

  /** Position of the first interval that ends after a number: the one containing it, or the next. */
  #firstEndingAfter(at: number): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sorted[middle] as Interval<T>).end > at) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
