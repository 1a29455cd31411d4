/**
 * The check that every translation is right, made from outside: a VMM's connection reads the guest's tables from guest
 * memory, walks them itself, and compares every entry with the shadow that the device shows.
 *
 * Tables are shared (all 512 entries of a real guest's PML4 may lead to one scratch tree), so every distinct table page is
 * compared once, all 512 entries, and every distinct present leaf is walked once from its root; of a 2 MiB page three
 * addresses are.
 *
 * @module
 */

import type { Client } from "../../protocol/client.ts";
import {
  childKind,
  ENTRIES,
  frameOf,
  FRAMES_64K,
  IPS,
  isLarge,
  kindName,
  LARGE_FRAMES,
  largeFrameOf,
  PAGE_LARGE,
  PAGE_SIZE,
  PAT_LARGE,
  PDE,
  PML4,
  PRESENT,
  PTE,
  type TableKind,
} from "../gtt/entry.ts";
import { splitEntryLo } from "../gtt/large_page.ts";
import { flagsText, hex, largeFlagsText } from "./target.ts";
import {
  ENTRY_SHIFT,
  isTable,
  type ShadowTree,
  tableFrame,
  type TreeChild,
  type TreeEntry,
  type TreeTable,
} from "./tree.ts";

/** What a check found. */
export interface CheckResult {
  /** Address spaces looked at. */
  spaces: number;
  /** Distinct table pages compared. */
  tables: number;
  /** Entries of those tables compared. */
  entries: number;
  /** Leaves walked from their root, by the engine's walk and by guest memory. */
  walks: number;
  /** GGTT entries compared. */
  ggttEntries: number;
  /** One line for each entry or walk that is wrong; at most {@linkcode MAX_PROBLEMS} are kept. */
  problems: string[];
  /** How many are wrong. */
  wrong: number;
}

/** Problems that are told one by one; the rest is only counted. */
export const MAX_PROBLEMS = 20;

/** What the VMM knows about its guest and the check needs. */
export interface GuestKnowledge {
  /** The host frame of a guest frame, or -1 if it is no RAM. */
  mfnOf(gfn: number): number;
  /** GGTT entries that the guest stored last, by index, two lanes each. */
  readonly ggtt: ReadonlyMap<number, readonly [lo: number, hi: number]>;
}

/**
 * Checks every address space of a device.
 *
 * @param client A VMM's connection.
 * @param guest What the VMM knows about its guest.
 * @returns What was compared and what is wrong.
 */
export async function checkTranslations(client: Client, guest: GuestKnowledge): Promise<CheckResult> {
  const check = new Check(client, guest);
  await check.ggtt();
  const { mms } = await client.call("state") as { mms: [id: number, level: number][] };
  for (const [id] of mms) await check.space(id);
  return check.result;
}

class Check {
  readonly result: CheckResult = {
    spaces: 0,
    tables: 0,
    entries: 0,
    walks: 0,
    ggttEntries: 0,
    problems: [],
    wrong: 0,
  };
  readonly #client: Client;
  readonly #guest: GuestKnowledge;
  /** Whether the device takes pages of 64 KiB and 2 MiB. */
  readonly #hugePages: boolean;
  readonly #compared = new Set<string>();

  constructor(client: Client, guest: GuestKnowledge) {
    this.#client = client;
    this.#guest = guest;
    this.#hugePages = client.hello.config["hugePages"] === true;
  }

  /** Checks every GGTT entry that the guest stored. */
  async ggtt(): Promise<void> {
    for (const [index, [lo, hi]] of this.#guest.ggtt) {
      if ((lo & PRESENT) === 0) continue;
      this.result.ggttEntries++;
      const wanted = frameOf(lo, hi);
      const gma = index * PAGE_SIZE;
      const told = await this.#client.call("translate", "ggtt", gma) as { shadow: string | null };
      this.#expect(`GGTT entry ${index}, shadow`, this.#target(wanted), told.shadow);
      const gpa = await this.#client.call("gma_to_gpa", "ggtt", gma + 0x123);
      this.#expect(`GGTT entry ${index}, gma_to_gpa`, wanted * PAGE_SIZE + 0x123, gpa);
    }
  }

  /** Checks every distinct table of one address space. */
  async space(id: number): Promise<void> {
    this.result.spaces++;
    const tree = await this.#client.call("tree", id) as unknown as ShadowTree;
    const rootKind = tree.level === 4 ? PML4 : PDE;
    for (const [slot, , child] of tree.roots) {
      await this.#table(id, rootKind, child, tree.level === 4 ? 0n : BigInt(slot) << 30n, 1);
    }
  }

  /** Compares a table and all below it; in one of 64 KiB pages the first of each `span` entries stands for all. */
  async #table(mm: number, kind: TableKind, child: TreeChild, gma: bigint, span: number): Promise<void> {
    if (!isTable(child)) {
      if (typeof child === "string") this.#expect(`a ${kindName(kind)} table`, "a table", child);
      return;
    }
    this.#expect(`kind of the table of gfn ${hex(child.g)}`, kindName(kind), child.t);
    this.#expect(`pages of the table of gfn ${hex(child.g)}`, span === 1 ? undefined : "64K", child.p);
    const key = `${child.t} ${child.g} ${span}`;
    if (this.#compared.has(key)) return;
    this.#compared.add(key);
    this.result.tables++;
    const page = await this.#client.call("mem_read", child.g * PAGE_SIZE, PAGE_SIZE);
    const guest = new Uint32Array(page.slice().buffer);
    const shadow = new Map(child.e.map((entry) => [entry[0], entry]));
    const leaves: Leaf[] = [];
    for (let index = 0; index < ENTRIES; index++) {
      this.result.entries++;
      const lo = guest[2 * (index - index % span)]!;
      const hi = guest[2 * (index - index % span) + 1]!;
      const entry = shadow.get(index);
      const address = below(gma, kind, index);
      if (this.#hugePages && kind === PDE && isLarge(kind, lo) && (lo & PRESENT) !== 0) {
        leaves.push(...this.#largePage(child, index, lo, hi, entry, address));
        continue;
      }
      const frame = frameOf(lo, hi) - frameOf(lo, hi) % span + index % span;
      const has64k = this.#hugePages && kind === PDE && (lo & IPS) !== 0;
      this.#entry(child, kind, index, has64k ? lo & ~IPS : lo, hi, frame, entry);
      if ((lo & PRESENT) === 0) continue;
      if (kind === PTE) leaves.push({ address, gfn: frame, isMapped: true });
      else {await this.#table(
          mm,
          childKind(kind),
          entry?.[2] ?? "nothing",
          address,
          has64k ? FRAMES_64K : 1,
        );}
    }
    await this.#walkLeaves(mm, leaves);
  }

  /** Compares one entry of the guest with the shadow's. */
  #entry(
    table: TreeTable,
    kind: TableKind,
    index: number,
    lo: number,
    hi: number,
    gfn: number,
    entry: TreeEntry | undefined,
  ): void {
    const place = `${table.t} table of gfn ${hex(table.g)}, entry ${index}`;
    const isShadowed = entry !== undefined && isPresent(entry);
    if ((lo & PRESENT) === 0) {
      // A removed entry keeps its flags and leads to scratch.
      if (isShadowed) this.#expect(place, `s${kindName(kind)}`, entry[2]);
      return;
    }
    if (!isShadowed) return this.#fail(`${place}: the guest maps it, the shadow does not`);
    this.#expect(`${place}, flags`, flagsText(lo, hi), entry[1]);
    if (kind === PTE) this.#expect(place, this.#target(gfn), entry[2]);
    else this.#expect(`${place}, table`, gfn, tableFrame(entry[2]) ?? entry[2]);
  }

  /**
   * Compares a 2 MiB page (`engine.md` §17.1): one entry where the host's frames allow it, else a table of 512, and nothing
   * if a frame is no RAM.
   *
   * @returns The first, a middle and the last of its pages.
   */
  #largePage(
    table: TreeTable,
    index: number,
    lo: number,
    hi: number,
    entry: TreeEntry | undefined,
    address: bigint,
  ): Leaf[] {
    const place = `${table.t} table of gfn ${hex(table.g)}, entry ${index}`;
    const first = largeFrameOf(lo, hi);
    const mfns = Array.from({ length: LARGE_FRAMES }, (_, i) => this.#guest.mfnOf(first + i));
    const isMapped = !mfns.includes(-1);
    const isWhole = mfns[0]! % LARGE_FRAMES === 0 && mfns.every((mfn, i) => mfn === mfns[0]! + i);
    if (!isMapped) {
      if (entry !== undefined && isPresent(entry)) this.#expect(place, `s${table.t}`, entry[2]);
    } else if (entry === undefined) this.#fail(`${place}: the guest maps it, the shadow does not`);
    else if (isWhole) {
      this.#expect(`${place}, flags`, largeFlagsText(lo, hi), entry[1]);
      this.#expect(place, hex(mfns[0]!), entry[2]);
    } else {
      this.#expect(`${place}, flags`, flagsText(splitEntryLo(lo), hi), entry[1]);
      this.#splitPage(place, entry[2], mfns, flagsText(lo & ~PAGE_LARGE | (lo & PAT_LARGE) >>> 5, hi));
    }
    return [0, 255, 511].map((i) => {
      return { address: address + (BigInt(i) << 12n), gfn: first + i, isMapped };
    });
  }

  /** Compares the table of a 2 MiB page that is split. */
  #splitPage(place: string, child: TreeChild, mfns: readonly number[], flags: string): void {
    if (!isTable(child)) return this.#expect(place, "a table", child);
    this.#expect(`${place}, pages`, "2M", child.p);
    this.#expect(place, JSON.stringify(mfns.map((mfn, i) => [i, flags, hex(mfn)])), JSON.stringify(child.e));
  }

  /** Walks each present leaf of a table from its root, by the engine and through the shadow. */
  async #walkLeaves(mm: number, leaves: readonly Leaf[]): Promise<void> {
    await Promise.all(leaves.map(async ({ address: first, gfn, isMapped }) => {
      this.result.walks++;
      const address = first + 0x2a8n;
      const wire = address <= Number.MAX_SAFE_INTEGER ? Number(address) : address;
      const [gpa, walk] = await Promise.all([
        this.#client.call("gma_to_gpa", mm, wire),
        this.#client.call("translate", mm, wire) as Promise<unknown> as Promise<{ shadow: string | null }>,
      ]);
      const place = `mm ${mm}, gma 0x${address.toString(16)}`;
      this.#expect(`${place}, gma_to_gpa`, isMapped ? gfn * PAGE_SIZE + 0x2a8 : null, gpa);
      this.#expect(`${place}, shadow`, isMapped ? this.#target(gfn) : null, walk.shadow);
    }));
  }

  /** What a leaf's shadow should lead to: the frame's host frame, or the device's scratch page if it is no RAM. */
  #target(gfn: number): string {
    const mfn = this.#guest.mfnOf(gfn);
    return mfn < 0 ? "S" : hex(mfn);
  }

  #expect(place: string, wanted: unknown, found: unknown): void {
    if (wanted !== found) this.#fail(`${place}: guest says ${wanted}, shadow says ${JSON.stringify(found)}`);
  }

  #fail(problem: string): void {
    this.result.wrong++;
    if (this.result.problems.length < MAX_PROBLEMS) this.result.problems.push(problem);
  }
}

/** A page that a table maps. */
interface Leaf {
  /** Graphics address of its first byte. */
  readonly address: bigint;
  /** Its guest frame. */
  readonly gfn: number;
  /** Whether the shadow should lead somewhere; not for a 2 MiB page with a frame that is no RAM. */
  readonly isMapped: boolean;
}

/** Whether an entry of the shadow is present. */
function isPresent([, flags]: TreeEntry): boolean {
  return (BigInt(flags) & 1n) !== 0n;
}

/** The graphics address of an entry's first byte. */
function below(gma: bigint, kind: TableKind, index: number): bigint {
  return gma + (BigInt(index) << BigInt(ENTRY_SHIFT[kindName(kind)]!));
}
