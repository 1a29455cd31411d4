/**
 * The GPUs that a vGPU can be: what differs between them, by PCI device id (`guest.md` §1.1).
 *
 * @module
 */

/** What a model has of its own. */
export interface Model {
  /** Its name. */
  readonly name: string;
  /** PCI revision: one that drivers do not take for a sample. */
  readonly revision: number;
  /** Ticks of the counter in a second. */
  readonly timestampHz: number;
}

const BROADWELL: Model = { name: "Broadwell GT2", revision: 0x09, timestampHz: 12_500_000 };
const SKYLAKE: Model = { name: "Skylake GT2", revision: 0x06, timestampHz: 12_000_000 };
const KABY_LAKE: Model = { name: "Kaby Lake GT2", revision: 0x04, timestampHz: 12_000_000 };

const IDS: readonly (readonly [Model, readonly number[]])[] = [
  [BROADWELL, [0x1612, 0x1616, 0x161a, 0x161d, 0x161e]],
  [SKYLAKE, [0x1912, 0x1916, 0x191a, 0x191b, 0x191d, 0x191e, 0x1921]],
  [KABY_LAKE, [0x5912, 0x5916, 0x5917, 0x591a, 0x591b, 0x591d, 0x591e]],
];

const BY_ID: ReadonlyMap<number, Model> = new Map(
  IDS.flatMap(([model, ids]) => ids.map((id) => [id, model] as const)),
);

/**
 * The model with a PCI device id.
 *
 * @param deviceId 0..0xffff.
 * @returns The model; Skylake for an id that is not known.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { modelOf } from "./models.ts";
 *
 * assertEquals([0x1612, 0x1912, 0x5912].map((id) => modelOf(id).revision), [9, 6, 4]);
 * ```
 */
export function modelOf(deviceId: number): Model {
  return BY_ID.get(deviceId) ?? SKYLAKE;
}
