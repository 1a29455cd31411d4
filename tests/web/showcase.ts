/**
 * A guest whose address space has something of everything that the page can show: small pages, large ones whole and split,
 * scratch, entries that wait, lead nowhere, or were stored behind the device's back.
 *
 * @module
 */

import { le64, PAGE, tablePage } from "../scenarios/guest_pages.ts";
import { NOOP, start, store } from "../streamer/commands.ts";
import { ENGINE_NAMES, Guest, HIDDEN, NOWHERE } from "../streamer/guest.ts";

/** Guest RAM of large pages: in one piece, and in two on the host. */
const [WHOLE, SPLIT] = [0x400000, 0xc00000] as const;
const MIB = 1 << 20;
/** Frames that small pages lead to. */
const FRAMES = WHOLE / PAGE;
/** The frame that the guest fills a table with. */
const FILLER = 0x3f0;
/** A frame that is no RAM. */
const NO_RAM = 0x8000;
/** Flags of entries: present and writable; of a large page; of a table of 64 KiB pages. */
const [PAGE_FLAGS, LARGE_FLAGS, TABLE_64K] = [0x3, 0x83, 0x803] as const;

/** A table of small pages whose entries are where `isMapped` says. */
function smallPages(isMapped: (index: number) => boolean, otherwise = 0): Uint8Array {
  const entries: Record<number, number> = {};
  for (let index = 0; index < 512; index++) {
    const entry = isMapped(index) ? (FRAMES + index) * PAGE + PAGE_FLAGS : otherwise;
    if (entry !== 0) entries[index] = entry;
  }
  return tablePage(entries);
}

/** The guest, and its address space. */
export class Showcase implements AsyncDisposable {
  /** The guest. */
  readonly guest: Guest;
  /** The handle of its address space. */
  readonly mm: number;
  readonly #tables: readonly number[];
  #round = 0;

  private constructor(guest: Guest, mm: number, tables: readonly number[]) {
    this.guest = guest;
    this.mm = mm;
    this.#tables = tables;
  }

  /** Starts a device and its guest. */
  static async start(): Promise<Showcase> {
    const device = { hugePages: true, oos: true, verify: false };
    const guest = await Guest.start({ device, debug: true });
    const { vmm } = guest;
    await vmm.call("ram_map", { gpa: WHOLE, size: 8 * MIB });
    await vmm.call("ram_map", { gpa: SPLIT, size: MIB });
    await vmm.call("ram_map", { gpa: SPLIT + MIB, size: MIB, mfn: 0x300000 });
    await guest.table.announce();
    const [root, pdp, pde] = [guest.page(), guest.page(), guest.page()];
    const tables = Array.from({ length: 6 }, () => guest.page());
    const [runs, filled, of64k, late, wrong, sparse] = tables as [
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    const leads = (table: number, flags: number = PAGE_FLAGS) => table + flags;
    await vmm.call("mem_write", runs, smallPages((index) => index % 96 < 70 && index % 17 !== 3));
    await vmm.call("mem_write", filled, smallPages((index) => index % 128 < 40, FILLER * PAGE + 0x19));
    await vmm.call("mem_write", of64k, smallPages((index) => index % 16 === 0 && index < 384));
    await vmm.call("mem_write", late, smallPages((index) => index < 420));
    await vmm.call("mem_write", wrong, smallPages((index) => index > 60 && index < 400));
    await vmm.call("mem_write", sparse, smallPages((index) => index % 32 === 0));
    const entries = [
      leads(runs),
      leads(filled),
      leads(WHOLE, LARGE_FLAGS),
      leads(SPLIT, LARGE_FLAGS),
      leads(of64k, TABLE_64K),
      leads(late),
      leads(wrong),
      leads(sparse),
    ];
    await vmm.call("mem_write", pde, tablePage(Object.fromEntries(entries.entries())));
    await vmm.call("mem_write", pdp, tablePage({ 0: leads(pde) }));
    await vmm.call("mem_write", root, tablePage({ 0: leads(pdp) }));
    const mm = await vmm.call("mm_create", 4, [root, 0, 0, 0]);
    const showcase = new Showcase(guest, mm, tables);
    await showcase.disturb();
    return showcase;
  }

  /** Makes entries that wait, that lead nowhere, and that the device was not told of. */
  async disturb(): Promise<void> {
    const { vmm } = this.guest;
    const [, , , late = 0, wrong = 0, sparse = 0] = this.#tables;
    for (let index = 100; index < 228; index++) {
      await vmm.call(
        "mem_write",
        late + 8 * index,
        le64((FRAMES + 600 + index + this.#round) * PAGE + PAGE_FLAGS),
      );
    }
    await vmm.call("mem_write", sparse + 8 * 100, le64(NO_RAM * PAGE + PAGE_FLAGS));
    for (let index = 200; index < 216; index++) {
      await vmm.call("debug_poke", wrong + 8 * index, le64((FRAMES + 700 + index) * PAGE + PAGE_FLAGS));
    }
  }

  /** The guest physical address of a table of small pages: those at 0, 2, 8, 10, 12 and 14 MiB. */
  table(index: number): number {
    return this.#tables[index]!;
  }

  /** Stores an entry of the table at 0. */
  async storeEntry(index: number, gfn: number): Promise<void> {
    await this.guest.vmm.call("mem_write", this.table(0) + 8 * index, le64(gfn * PAGE + PAGE_FLAGS));
  }

  /** Does a little of everything. */
  async work(): Promise<void> {
    const { guest } = this;
    const round = this.#round++;
    for (const [index, engine] of ENGINE_NAMES.entries()) {
      const times = Math.max(0, Math.round(3 - index + 2.5 * Math.sin(round / (5 + index))));
      for (let time = 0; time < times; time++) {
        await guest.runBatch(engine, [...store(guest.data, round), NOOP, NOOP]);
      }
    }
    for (let time = 0; time < 12 + 8 * Math.sin(round / 9); time++) {
      await guest.setGlobal(HIDDEN + 64 * MIB + time * PAGE, 0x300000 + PAGE * time + 1);
    }
    await this.storeEntry(3 + 17 * (round % 20), 0x380 + round % 16);
    if (round % 24 === 11) {
      await guest.startRing("vecs0", start(NOWHERE));
      await guest.halt();
      guest.forgetContexts();
      await guest.writeAt(0x941c, 1 << 4);
      await guest.resume("vecs0");
    }
  }

  /** Stops the device. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.guest[Symbol.asyncDispose]();
  }
}
