/**
 * A map from frame numbers, made for frames that lie close together as page tables do.
 *
 * @module
 */

/** Frames of one chunk: enough to find neighbours without hashing, few enough to be cheap for one that lies alone. */
const CHUNK_FRAMES = 32;

/** Frames of guests and hosts are below this: their chunks have numbers of 29 bits, which are fast to look up. */
const USUAL_FRAMES = 2 ** 34;

/** No chunk has this number. */
const NO_CHUNK = -(2 ** 30);

/** Number of a frame's chunk. */
function chunkOf(frame: number): number {
  return frame >= 0 && frame < USUAL_FRAMES ? frame / CHUNK_FRAMES | 0 : Math.floor(frame / CHUNK_FRAMES);
}

/** So many frames that follow one another. */
class Chunk<T> {
  readonly slots: (T | undefined)[] = new Array(CHUNK_FRAMES).fill(undefined);
  used = 0;
}

/**
 * What is known of frames, by frame number. A look-up next to the last one costs two loads; others hash a number that is
 * small for each frame an address space has, where hashing is cheapest.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { FrameMap } from "./frame_map.ts";
 *
 * const map = new FrameMap<string>();
 * map.set(0x3_0000_0001, "a host page");
 * assertEquals([map.get(0x3_0000_0001), map.get(1), map.size], ["a host page", undefined, 1]);
 * map.delete(0x3_0000_0001);
 * assertEquals([...map.values()], []);
 * ```
 */
export class FrameMap<T> {
  readonly #chunks = new Map<number, Chunk<T>>();
  #lastNumber = NO_CHUNK;
  #last: Chunk<T> | undefined;
  #size = 0;

  /**
   * How many frames are known.
   *
   * @returns 0 or more.
   */
  get size(): number {
    return this.#size;
  }

  /**
   * Looks a frame up.
   *
   * @param frame Frame number, 0 or more; fast below 2^34.
   * @returns What is known, or `undefined`.
   */
  get(frame: number): T | undefined {
    const number = chunkOf(frame);
    const chunk = number === this.#lastNumber ? this.#last : this.#chunkAt(number);
    return chunk === undefined ? undefined : chunk.slots[frame & CHUNK_FRAMES - 1];
  }

  /**
   * Keeps something for a frame, in the place of what was known.
   *
   * @param frame Frame number, 0 or more; fast below 2^34.
   * @param value What to keep.
   */
  set(frame: number, value: T): void {
    const number = chunkOf(frame);
    let chunk = this.#chunkAt(number);
    if (chunk === undefined) {
      this.#chunks.set(number, chunk = new Chunk());
      this.#last = chunk;
    }
    const slot = frame & CHUNK_FRAMES - 1;
    if (chunk.slots[slot] === undefined) {
      chunk.used++;
      this.#size++;
    }
    chunk.slots[slot] = value;
  }

  /**
   * Forgets a frame.
   *
   * @param frame Frame number, 0 or more; fast below 2^34.
   */
  delete(frame: number): void {
    const number = chunkOf(frame);
    const chunk = this.#chunkAt(number);
    const slot = frame & CHUNK_FRAMES - 1;
    if (chunk === undefined || chunk.slots[slot] === undefined) return;
    chunk.slots[slot] = undefined;
    this.#size--;
    if (--chunk.used > 0) return;
    this.#chunks.delete(number);
    this.#lastNumber = NO_CHUNK;
    this.#last = undefined;
  }

  /** Forgets all frames. */
  clear(): void {
    this.#chunks.clear();
    this.#lastNumber = NO_CHUNK;
    this.#last = undefined;
    this.#size = 0;
  }

  /**
   * Visits what is known, in the order of {@linkcode values}; allocates nothing to speak of.
   *
   * @param visit Called for each value; it must not change the map.
   */
  forEach(visit: (value: T) => void): void {
    for (const { slots } of this.#chunks.values()) {
      for (let index = 0; index < CHUNK_FRAMES; index++) {
        const value = slots[index];
        if (value !== undefined) visit(value);
      }
    }
  }

  /**
   * All that is known. Frames may be forgotten on the way.
   *
   * @returns The values, neighbours in order of their frames.
   */
  *values(): IterableIterator<T> {
    for (const { slots } of this.#chunks.values()) {
      for (const value of slots) if (value !== undefined) yield value;
    }
  }

  #chunkAt(number: number): Chunk<T> | undefined {
    if (number !== this.#lastNumber) {
      this.#lastNumber = number;
      this.#last = this.#chunks.get(number);
    }
    return this.#last;
  }
}
