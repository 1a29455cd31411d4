/**
 * Life of a PPGTT mm: creation, references, pins, look-up, translation (engine.md §8.1, §8.6, §8.7).
 *
 * @module
 */

import { frameOf, isPresent } from "./entry.ts";
import { EINVAL, ENOMEM } from "./host.ts";
import { shadow, unshadow } from "./tables.ts";
import { Mm, type Vgpu } from "./vgpu.ts";

/** Most PPGTT mms a vGPU may have (§15, Caps). */
const MAX_MMS = 4096;

/** `intel_vgpu_create_mm` of a PPGTT: the mm, or a negative errno. */
export function createMm(vgpu: Vgpu, level: number, roots: readonly bigint[]): Mm | number {
  if (level !== 3 && level !== 4) return EINVAL;
  if (vgpu.mms.length >= MAX_MMS) return ENOMEM;
  const mm = new Mm(vgpu.nextId, level, roots);
  const rc = shadow(vgpu, mm);
  if (rc !== 0) return rc;
  vgpu.nextId++;
  vgpu.mms.push(mm);
  vgpu.lru.push(mm);
  return mm;
}

/** Drops a reference; the last one destroys the mm, pinned or not. */
export function unreference(vgpu: Vgpu, mm: Mm): void {
  mm.references--;
  if (mm.references > 0) return;
  vgpu.mms = vgpu.mms.filter((other) => other !== mm);
  vgpu.lru = vgpu.lru.filter((other) => other !== mm);
  unshadow(vgpu, mm);
}

/** `intel_vgpu_pin_mm`. */
export function pin(vgpu: Vgpu, mm: Mm): number {
  const rc = mm.shadowed ? 0 : shadow(vgpu, mm);
  if (rc !== 0) return rc;
  mm.pins++;
  vgpu.lru = [...vgpu.lru.filter((other) => other !== mm), mm];
  return 0;
}

/** `intel_vgpu_unpin_mm`; at 0 it does nothing (§15, 11). */
export function unpin(mm: Mm): void {
  if (mm.pins > 0) mm.pins--;
}

/** `intel_vgpu_find_ppgtt_mm`: level 4 compares slot 0 only. */
export function findMm(vgpu: Vgpu, level: number, roots: readonly bigint[]): Mm | undefined {
  const compared = level === 4 ? 1 : 4;
  return vgpu.mms.find((mm) =>
    mm.level === level && mm.roots.slice(0, compared).every((root, slot) => root === roots[slot])
  );
}

/** `intel_vgpu_g2v_create_ppgtt_mm`. */
export function g2vCreate(vgpu: Vgpu, level: number, roots: readonly bigint[]): number {
  if (level !== 3 && level !== 4) return EINVAL;
  const known = findMm(vgpu, level, roots);
  if (known !== undefined) {
    known.references++;
    return 0;
  }
  const created = createMm(vgpu, level, roots);
  return typeof created === "number" ? created : 0;
}

/** `intel_vgpu_g2v_destroy_ppgtt_mm`. */
export function g2vDestroy(vgpu: Vgpu, level: number, roots: readonly bigint[]): number {
  if (level !== 3 && level !== 4) return EINVAL;
  const known = findMm(vgpu, level, roots);
  if (known === undefined) return EINVAL;
  unreference(vgpu, known);
  return 0;
}

/** `intel_vgpu_gma_to_gpa` of a PPGTT: the last entry is read live from guest memory. */
export function toGpa(vgpu: Vgpu, mm: Mm, gma: bigint): bigint | null {
  const bits = (low: bigint, count: number) => Number(BigInt.asUintN(count, gma >> low));
  const slot = mm.level === 4 ? 0 : bits(30n, 2);
  const upper = mm.level === 4 ? [bits(39n, 9), bits(30n, 9), bits(21n, 9)] : [bits(21n, 9)];
  let table = mm.shadowRoots[slot]?.table;
  for (const index of upper) {
    const entry = table?.entries[index] ?? 0n;
    if (!isPresent(entry)) return null;
    table = vgpu.tables.find((other) => other.mfn === frameOf(entry));
  }
  if (table === undefined) return null;
  const last = vgpu.host.readEntry(table.gfn, bits(12n, 9));
  if (last === undefined || !isPresent(last)) return null;
  return (BigInt(frameOf(last)) << 12n) + BigInt(bits(0n, 12));
}
