/**
 * A small deterministic pseudo-random generator (the "mulberry32" mixing function).
 *
 * @module
 */

/** Numbers that depend on nothing but the seed. */
export class Random {
  #state: number;

  /** A generator for a 32-bit seed. */
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** An integer from 0 to below the limit. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor(((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32 * limit);
  }

  /** True with the given probability. */
  chance(probability: number): boolean {
    return this.below(1_000_000) < probability * 1_000_000;
  }

  /** One of the items. */
  pick<T>(items: readonly T[]): T {
    const index = this.below(items.length);
    if (items.length === 0) throw new Error("Cannot pick from nothing");
    return items[index] as T;
  }

  /** One of the keys, each as likely as its weight says. */
  weighted<K extends string>(weights: Readonly<Partial<Record<K, number>>>): K {
    const entries = Object.entries(weights) as Array<[K, number]>;
    let point = this.below(entries.reduce((sum, [, weight]) => sum + weight, 0));
    for (const [key, weight] of entries) {
      point -= weight;
      if (point < 0) return key;
    }
    throw new Error("Cannot pick by weight: no weights");
  }
}
