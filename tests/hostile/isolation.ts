/**
 * What must hold whatever a guest or a VMM did: nothing that the hardware could walk leads anywhere but to the guest's own
 * RAM or to scratch.
 *
 * @module
 */

import { assert } from "@std/assert";
import { assertInvariants } from "../../src/gtt/invariants.ts";
import type { DeviceService } from "../../src/server/device_service.ts";

/** Bits 12..45 of an entry of two lanes, as a frame number. */
function frame(lo: number, hi: number): number {
  return (lo >>> 12) + (hi & 0x3fff) * 2 ** 20;
}

/** Checks the engine's invariants, and every present leaf of every shadow table and of the host's GGTT. */
export function assertContained({ served: { device } }: DeviceService): void {
  const { host, ram, gvt, vgpu: { gtt } } = device;
  assertInvariants(gtt);
  if (!gtt.initialised) return;
  const isHarmless = (mfn: number) => {
    return ram.gfnOf(mfn) >= 0 || mfn === gvt.globalScratch || gtt.parts.scratch.has(mfn);
  };
  for (const table of gtt.parts.tables.all()) {
    if (table.kind !== 1) continue;
    assertLanes(table.lanes, 0, 512, isHarmless, `PTE table of gfn 0x${table.gfn.toString(16)}`);
  }
  const { apertureBase, apertureSize, hiddenBase, hiddenSize } = gtt.gm.layout;
  for (const [base, size] of [[apertureBase, apertureSize], [hiddenBase, hiddenSize]] as const) {
    assertLanes(host.ggtt.lanes, base / 4096, (base + size) / 4096, isHarmless, "host GGTT");
  }
}

function assertLanes(
  lanes: Uint32Array,
  first: number,
  end: number,
  isHarmless: (mfn: number) => boolean,
  where: string,
): void {
  for (let index = first; index < end; index++) {
    const lo = lanes[2 * index]!;
    if ((lo & 1) === 0) continue;
    const mfn = frame(lo, lanes[2 * index + 1]!);
    if (!isHarmless(mfn)) assert(false, `${where}, entry ${index}: leads to frame 0x${mfn.toString(16)}`);
  }
}
