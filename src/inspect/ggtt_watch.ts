/**
 * Finds out which parts of a GGTT have changed, by comparing: its stores are the most frequent thing a guest does, and are not
 * to pay for being looked at.
 *
 * @module
 */

import { LANES, PAGE_SIZE } from "../gtt/entry.ts";
import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
import { GGTT_CHUNK } from "./snapshot_wire.ts";

/** {@linkcode GGTT_CHUNK} entries as they were when they were last told or seen to change; `null` before they were told. */
interface Chunk {
  readonly number: number;
  copy: { readonly guest: Uint32Array; readonly host: Uint32Array } | null;
  /** Moment of the look at which they were found changed. */
  version: number;
}

/** What is asked of a GGTT. */
export interface GgttQuestion {
  /** What changed after this moment. */
  readonly since: number;
  /** Number of the first chunk that is wanted. */
  readonly first: number;
  /** Chunks at most. */
  readonly limit: number;
  /** The moment of the question. */
  readonly now: number;
}

/**
 * Both sides of one engine's GGTT as they were.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, GTT_START_OFFSET } from "../../mod.ts";
 * import { GgttWatch } from "./ggtt_watch.ts";
 *
 * using device = createDevice({ apertureSize: 4 << 20, hiddenSize: 4 << 20 });
 * const { config: { apertureBase: gma }, host: { ggtt }, vgpu: { gtt } } = device;
 * const watch = new GgttWatch();
 * watch.look(gtt, ggtt.lanes, 1);
 * assertEquals(watch.tell(gtt, ggtt.lanes, { since: 0, first: 0, limit: 9, now: 1 }).length, 4);
 * gtt.emulateGttMmioWrite(GTT_START_OFFSET + gma / 4096 * 8 + 8, 8, 0x5001, 0);
 * watch.look(gtt, ggtt.lanes, 2);
 * assertEquals(watch.tell(gtt, ggtt.lanes, { since: 1, first: 0, limit: 9, now: 2 }), [gma / 0x20_0000]);
 * ```
 */
export class GgttWatch {
  #chunks: readonly Chunk[] | null = null;

  /**
   * Looks at the parts that are the vGPU's.
   *
   * @param gtt The engine, always the same one.
   * @param host Lanes of the host's GGTT.
   * @param now The moment, above 0 and later than any before.
   */
  look(gtt: VgpuGtt, host: Uint32Array, now: number): void {
    this.#chunks ??= ownChunks(gtt);
    for (const chunk of this.#chunks) {
      if (chunk.copy === null || this.#update(chunk, gtt, host)) chunk.version = now;
    }
  }

  /**
   * What was found changed after a moment, and is told as it is now.
   *
   * @param gtt As for {@linkcode look}.
   * @param host As for {@linkcode look}.
   * @param what Changed since when; the first chunk that is wanted; how many at most; the moment of this question.
   * @returns Numbers of chunks, ascending.
   */
  tell(gtt: VgpuGtt, host: Uint32Array, what: GgttQuestion): number[] {
    const { since, first, limit, now } = what;
    const told = (this.#chunks ?? []).filter(({ number, version }) => number >= first && version > since);
    told.length = Math.min(told.length, limit);
    for (const chunk of told) {
      chunk.copy ??= { guest: new Uint32Array(LANES), host: new Uint32Array(LANES) };
      // What has changed since the last look is told already: who hears of it only now must hear of what comes after.
      if (this.#update(chunk, gtt, host)) chunk.version = now;
    }
    return told.map(({ number }) => number);
  }

  /** Makes the copies of a chunk what it is now. @returns Whether it was something else. */
  #update({ copy, number }: Chunk, gtt: VgpuGtt, host: Uint32Array): boolean {
    const isGuestChanged = update(copy!.guest, gtt.parts.ggtt.entries, number * LANES);
    const isHostChanged = update(copy!.host, host, number * LANES);
    return isGuestChanged || isHostChanged;
  }
}

/** The chunks that the vGPU's windows have a part of, in order. */
function ownChunks({ gm }: VgpuGtt): Chunk[] {
  const { apertureBase, apertureSize, hiddenBase, hiddenSize } = gm.layout;
  const numbers = new Set<number>();
  for (const [base, size] of [[apertureBase, apertureSize], [hiddenBase, hiddenSize]] as const) {
    const bytes = GGTT_CHUNK * PAGE_SIZE;
    for (let number = Math.floor(base / bytes); number * bytes < base + size; number++) numbers.add(number);
  }
  return [...numbers].sort((a, b) => a - b).map((number) => ({
    number,
    copy: null,
    version: 0,
  }));
}

/** Makes a copy what is at a place. @returns Whether it was something else. */
function update(copy: Uint32Array, lanes: Uint32Array, from: number): boolean {
  const end = Math.min(LANES, lanes.length - from);
  let at = 0;
  while (at < end && copy[at] === lanes[from + at]) at++;
  if (at === end) return false;
  for (; at < end; at++) copy[at] = lanes[from + at]!;
  return true;
}
