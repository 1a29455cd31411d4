/**
 * Guest walk = shadow walk with large pages, for every address at once: both trees are gone down side by side, the guest's
 * by its memory and the shadow by the host pages that the hardware would read.
 *
 * @module
 */

import { ENTRIES, flagsOf, frameOf, isPresent, TABLE_KINDS, type TableKind } from "./entry.ts";
import type { HugeGuest, Space, Table } from "./huge_guest.ts";
import { LARGE } from "./huge_guest.ts";
import { entryOf } from "./untracked_shadow.ts";
import type { Device } from "../../src/vgpu/device.ts";

/** Bits of an entry that only a leaf of 2 MiB has: dirty, page size, IPS. */
const LEAF_ONLY = 0x8c0n;
const PAGE_SIZE_BIT = 0x80n;
const IPS = 0x800n;
/** PAT of a 2 MiB page, and of a PTE. */
const [PAT_LARGE, PAT] = [0x1000n, 0x80n];
/** The bits of a 2 MiB page's entry that are frame. */
const LARGE_FIELD = 0x3fff_ffe0_0000n;

/** What a comparison saw. */
export interface Seen {
  /** 2 MiB pages that are one entry. */
  whole: number;
  /** 2 MiB pages that are a table. */
  split: number;
  /** Leaves of 64 KiB pages that are mapped. */
  leaves64k: number;
  /** 2 MiB pages that map nothing. */
  bad: number;
}

/** Where a shadow differs from the guest's tables. */
export class HugeComparison {
  /** One line for each difference. */
  readonly problems: string[] = [];
  /** What was compared. */
  readonly seen: Seen = { whole: 0, split: 0, leaves64k: 0, bad: 0 };
  readonly #guest: HugeGuest;
  readonly #mayMiss: boolean;
  readonly #pages = new Map<number, Uint32Array>();
  readonly #scratch: ReadonlyMap<TableKind, number>;
  readonly #globalScratch: number;
  readonly #compared = new Set<string>();

  /** A comparison with the shadow as it is now; it may map less than the guest if `mayMiss`, never something else. */
  constructor(guest: HugeGuest, { vgpu, gvt }: Device, mayMiss: boolean) {
    this.#guest = guest;
    this.#mayMiss = mayMiss;
    const { tables, scratch } = vgpu.gtt.parts;
    for (const { page } of tables.all()) this.#pages.set(page.mfn, page.lanes);
    this.#scratch = new Map(TABLE_KINDS.map((kind, i) => [kind, scratch.mfn[i + 1] ?? -1]));
    this.#globalScratch = gvt.globalScratch;
  }

  /** Compares an address space; `shadowRoots` are the lanes that the hardware would be given. */
  space(space: Space, shadowRoots: Uint32Array): void {
    for (const [slot, table] of this.#guest.roots(space).entries()) {
      const root = entryOf(shadowRoots, slot);
      if (table === null) this.#expect(root === 0n, `root ${slot} leads somewhere`);
      else this.#tables(table, frameOf(root), `root ${slot}`);
    }
  }

  #tables(table: Table, mfn: number, where: string): void {
    const key = `${table.kind} ${table.gfn} ${table.has64k} ${mfn}`;
    if (this.#compared.has(key)) return;
    this.#compared.add(key);
    const page = this.#pages.get(mfn);
    if (page === undefined) return this.#expect(false, `${where} leads to no shadow table`);
    for (let index = 0; index < ENTRIES; index++) {
      const at = `${table.kind}${table.has64k ? " 64K" : ""} of gfn ${table.gfn}, entry ${index}`;
      this.#entry(table, index, entryOf(page, index), at);
    }
  }

  #entry(table: Table, index: number, shadow: bigint, at: string): void {
    const step = this.#guest.step(table, index);
    const entry = this.#guest.entry(table.gfn, table.has64k ? index - index % 16 : index);
    if (step === null) return this.#nothing(table.kind, shadow, at);
    if ("page" in step) {
      const mfn = this.#guest.host(step.page);
      if (mfn === null) return this.#nothing("PTE", shadow, at);
      if (!this.#maps("PTE", shadow, at)) return;
      if (table.has64k) this.seen.leaves64k++;
      return this.#same(shadow, flagsOf(entry), mfn, at);
    }
    if ("large" in step) return this.#large(step.large, entry, shadow, at);
    if (!this.#guest.isTable(step.table.gfn)) return this.#nothing(table.kind, shadow, at);
    if (!this.#maps(table.kind, shadow, at)) return;
    const flags = step.table.has64k ? flagsOf(entry) & ~IPS : flagsOf(entry);
    this.#same(shadow, flags, frameOf(shadow), at);
    this.#tables(step.table, frameOf(shadow), at);
  }

  #large(gfn: number, entry: bigint, shadow: bigint, at: string): void {
    const mfns = this.#guest.hostLarge(gfn);
    if (mfns === null) {
      this.seen.bad++;
      return this.#nothing("PDE", shadow, at);
    }
    if (!this.#maps("PDE", shadow, at)) return;
    const first = mfns[0]!;
    if (first % LARGE === 0 && mfns.every((mfn, i) => mfn === first + i)) {
      this.seen.whole++;
      const wanted = entry & ~LARGE_FIELD | BigInt(first) << 12n;
      return this.#expect(shadow === wanted, `${at}: wants one entry ${hex(wanted)}, has ${hex(shadow)}`);
    }
    this.seen.split++;
    this.#same(shadow, flagsOf(entry) & ~LEAF_ONLY, frameOf(shadow), at);
    const page = this.#pages.get(frameOf(shadow));
    if (page === undefined) return this.#expect(false, `${at} leads to no table`);
    const flags = flagsOf(entry) & ~PAGE_SIZE_BIT | ((entry & PAT_LARGE) !== 0n ? PAT : 0n);
    for (const [i, mfn] of mfns.entries()) this.#same(entryOf(page, i), flags, mfn, `${at}, page ${i}`);
  }

  #nothing(kind: TableKind, shadow: bigint, at: string): void {
    this.#expect(this.#mapsNothing(kind, shadow), `${at}: the shadow maps ${hex(shadow)}, the guest nothing`);
  }

  /** Whether the shadow maps something, as it must unless it may miss things. */
  #maps(kind: TableKind, shadow: bigint, at: string): boolean {
    const isMissing = this.#mapsNothing(kind, shadow);
    if (isMissing) this.#expect(this.#mayMiss, `${at}: the shadow misses it: ${hex(shadow)}`);
    return !isMissing;
  }

  #mapsNothing(kind: TableKind, shadow: bigint): boolean {
    if (!isPresent(shadow)) return true;
    if (kind === "PDE" && (shadow & PAGE_SIZE_BIT) !== 0n) return false;
    const mfn = frameOf(shadow);
    return mfn === this.#scratch.get(kind) || kind === "PTE" && mfn === this.#globalScratch;
  }

  #same(shadow: bigint, flags: bigint, mfn: number, at: string): void {
    const wanted = flags | BigInt(mfn) << 12n;
    this.#expect(shadow === wanted, `${at}: wants ${hex(wanted)}, has ${hex(shadow)}`);
  }

  #expect(holds: boolean, problem: string): void {
    if (!holds) this.problems.push(problem);
  }
}

function hex(entry: bigint): string {
  return `0x${entry.toString(16)}`;
}
