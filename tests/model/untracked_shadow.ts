/**
 * Guest walk = shadow walk, for every address at once: both trees are gone down side by side, the guest's by its memory
 * and the shadow by the host pages that the hardware would read. A pair of tables is compared once, all 512 entries.
 *
 * @module
 */

import { assert } from "@std/assert";
import {
  childKind,
  ENTRIES,
  flagsOf,
  frameOf,
  isPresent,
  rootTableKind,
  TABLE_KINDS,
  type TableKind,
} from "./entry.ts";
import type { Guest, Space } from "./untracked_guest.ts";
import type { Device } from "../../src/vgpu/device.ts";

/** Guest frame g is host frame g + this. */
const MFN_OFFSET = 0x100000;

/** Where a shadow differs from the guest's tables. */
export class ShadowComparison {
  /** One line for each difference. */
  readonly problems: string[] = [];
  readonly #guest: Guest;
  readonly #mayMiss: boolean;
  readonly #pages = new Map<number, Uint32Array>();
  readonly #scratch: Readonly<Record<TableKind, number>>;
  readonly #globalScratch: number;
  readonly #compared = new Set<string>();

  /**
   * A comparison with the shadow as it is now.
   *
   * @param guest The guest.
   * @param device The device.
   * @param mayMiss Whether the shadow may map less than the guest, as after a lack of memory; never something else.
   */
  constructor(guest: Guest, device: Device, mayMiss: boolean) {
    this.#guest = guest;
    this.#mayMiss = mayMiss;
    const { tables, scratch } = device.vgpu.gtt.parts;
    for (const { page } of tables.all()) this.#pages.set(page.mfn, page.lanes);
    const [, PTE = -1, PDE = -1, PDP = -1, PML4 = -1] = scratch.mfn;
    this.#scratch = { PTE, PDE, PDP, PML4 };
    this.#globalScratch = device.gvt.globalScratch;
  }

  /** Compares an address space; `shadowRoots` are the lanes that the hardware would be given. */
  space(space: Space, shadowRoots: Uint32Array): void {
    for (const [slot, gfn] of this.#guest.roots(space).entries()) {
      const root = entryOf(shadowRoots, slot);
      const where = `root ${slot}`;
      if (gfn === null) this.#expect(root === 0n, `${where} leads somewhere`);
      else this.#tables(rootTableKind(space.level), gfn, frameOf(root), where);
    }
  }

  #tables(kind: TableKind, gfn: number, mfn: number, where: string): void {
    const key = `${kind} ${gfn} ${mfn}`;
    if (this.#compared.has(key)) return;
    this.#compared.add(key);
    const page = this.#pages.get(mfn);
    if (page === undefined) return this.#expect(false, `${where} leads to no shadow table`);
    for (let index = 0; index < ENTRIES; index++) {
      const entry = this.#guest.entry(gfn, index);
      const at = `${kind} of gfn ${gfn}, entry ${index}`;
      if (kind === "PTE") this.#leaf(entry, entryOf(page, index), at);
      else this.#directory(kind, entry, entryOf(page, index), at);
    }
  }

  #leaf(guest: bigint, shadow: bigint, at: string): void {
    const mapsNothing = !isPresent(shadow) || this.#isScratch(frameOf(shadow), "PTE");
    const isMapped = isPresent(guest) && this.#guest.ram.has(frameOf(guest));
    if (!isMapped) {
      return this.#expect(mapsNothing, `${at}: the shadow maps ${hex(shadow)}, the guest nothing`);
    }
    if (mapsNothing) return this.#expect(this.#mayMiss, `${at}: the shadow misses ${hex(guest)}`);
    const isSame = frameOf(shadow) === frameOf(guest) + MFN_OFFSET && flagsOf(shadow) === flagsOf(guest);
    this.#expect(isSame, `${at}: the guest has ${hex(guest)}, the shadow ${hex(shadow)}`);
  }

  #directory(kind: TableKind, guest: bigint, shadow: bigint, at: string): void {
    const mapsNothing = !isPresent(shadow) || this.#isScratch(frameOf(shadow), kind);
    const child = this.#guest.table(kind, guest);
    if (child === null) {
      return this.#expect(mapsNothing, `${at}: the shadow has ${hex(shadow)}, the guest no table`);
    }
    if (mapsNothing) {
      return this.#expect(this.#mayMiss, `${at}: the shadow misses the table of ${hex(guest)}`);
    }
    this.#expect(
      flagsOf(shadow) === flagsOf(guest),
      `${at}: flags of ${hex(guest)}, in the shadow ${hex(shadow)}`,
    );
    this.#tables(childKind(kind), child, frameOf(shadow), at);
  }

  #isScratch(mfn: number, kind: TableKind): boolean {
    return mfn === this.#scratch[kind] || kind === "PTE" && mfn === this.#globalScratch;
  }

  #expect(holds: boolean, problem: string): void {
    if (!holds) this.problems.push(problem);
  }
}

/** No leaf, however old, leads anywhere but to RAM or scratch. */
export function assertContained({ vgpu: { gtt }, gvt, ram }: Device): void {
  for (const { kind, lanes, gfn } of gtt.parts.tables.all()) {
    for (let index = 0; index < ENTRIES && KIND_OF_NUMBER[kind] === "PTE"; index++) {
      const leaf = entryOf(lanes, index);
      const mfn = frameOf(leaf);
      const isHarmless = ram.gfnOf(mfn) >= 0 || mfn === gvt.globalScratch || gtt.parts.scratch.has(mfn);
      assert(!isPresent(leaf) || isHarmless, `entry ${index} of gfn ${gfn} leads to ${mfn}`);
    }
  }
}

/** The kinds by the numbers that the device has for them. */
export const KIND_OF_NUMBER: readonly (TableKind | undefined)[] = [undefined, ...TABLE_KINDS];

/** An entry of two lanes. */
export function entryOf(lanes: Uint32Array, index: number): bigint {
  return BigInt(lanes[2 * index] ?? 0) | BigInt(lanes[2 * index + 1] ?? 0) << 32n;
}

function hex(entry: bigint): string {
  return `0x${entry.toString(16)}`;
}
