/**
 * Finds out which parts of a GGTT have changed, by comparing: its stores are the most frequent thing a guest does, and are not
 * to pay for being looked at.
 *
 * @module
 */

import { LANES, PAGE_SIZE } from "../gtt/entry.ts";
import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
import { GGTT_CHUNK } from "./snapshot.ts";

/** {@linkcode GGTT_CHUNK} entries as they were when they were last told or seen to change; `null` before they were told. */
interface Chunk {
  readonly number: number;
  copy: { readonly guest: Uint32Array; readonly host: Uint32Array } | null;
  /** Moment of the look at which they were found changed. */
  version: number;
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
 * assertEquals(watch.tell(gtt, ggtt.lanes, 0, 0, 100).length, 4);
 * gtt.emulateGttMmioWrite(GTT_START_OFFSET + gma / 4096 * 8 + 8, 8, 0x5001, 0);
 * watch.look(gtt, ggtt.lanes, 2);
 * assertEquals(watch.tell(gtt, ggtt.lanes, 1, 0, 100), [gma / 0x20_0000]);
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
    const { entries } = gtt.parts.ggtt;
    this.#chunks ??= ownChunks(gtt);
    for (const chunk of this.#chunks) {
      const { copy, number } = chunk;
      if (copy === null) {
        chunk.version = now;
        continue;
      }
      const isGuestChanged = update(copy.guest, entries, number * LANES);
      const isHostChanged = update(copy.host, host, number * LANES);
      if (isGuestChanged || isHostChanged) chunk.version = now;
    }
  }

  /**
   * What was found changed after a moment, and is told now.
   *
   * @param gtt As for {@linkcode look}.
   * @param host As for {@linkcode look}.
   * @param since The moment.
   * @param first The first chunk that is wanted.
   * @param limit How many at most.
   * @returns Numbers of chunks, ascending.
   */
  tell(gtt: VgpuGtt, host: Uint32Array, since: number, first: number, limit: number): number[] {
    const told = (this.#chunks ?? []).filter(({ number, version }) => number >= first && version > since);
    told.length = Math.min(told.length, limit);
    const { entries } = gtt.parts.ggtt;
    for (const chunk of told) chunk.copy ??= { guest: pageOf(entries, chunk), host: pageOf(host, chunk) };
    return told.map(({ number }) => number);
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

function pageOf(lanes: Uint32Array, { number }: Chunk): Uint32Array {
  const page = new Uint32Array(LANES);
  page.set(lanes.subarray(number * LANES, (number + 1) * LANES));
  return page;
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
