/**
 * What it costs to follow a guest that nobody traps, over RAM that a hypervisor shares: a look at every table, a look
 * at those that a workload uses, and what has changed.
 *
 * @module
 */

import { createDevice, type Device, OK, type PpgttMm, PpgttSpace } from "../../mod.ts";
import { dup, memfd } from "../vfio_user/peer_libc.ts";
import { shuffled } from "./order.ts";
import { nanoseconds, reportLimit, reportOnly } from "./sample.ts";

const PAGE = 4096;
const ENTRIES = 512;
const RAM_FRAMES = 1 << 15;
const PRESENT_WRITABLE = 0x3;

/** A guest with one address space of so many table pages, anywhere in its RAM. */
class Guest {
  readonly device: Device = createDevice({ tracking: "untracked" });
  readonly mm: PpgttMm;
  /** Frames of the PTE tables, in order of their addresses. */
  readonly pteTables: number[] = [];
  readonly roots = new Uint32Array(8);
  readonly #frames: IterableIterator<number>;

  /**
   * @param tables How many PTE tables it has; a few directories come on top.
   * @param fd The RAM, shared; without it the device's own.
   */
  constructor(tables: number, fd?: number) {
    const size = RAM_FRAMES * PAGE;
    this.device.mapRam(fd === undefined ? { gpa: 0, size } : { gpa: 0, size, fd });
    this.#frames = shuffled(RAM_FRAMES).values();
    const root = this.#table([this.#table(this.#directories(tables))]);
    this.roots[0] = root * PAGE;
    const mm = this.device.vgpu.gtt.createMm(4, this.roots);
    if (typeof mm === "number") throw new Error(`cannot create the PPGTT: ${mm}`);
    this.mm = mm;
  }

  /** How many tables are compared by a look at all. */
  get tables(): number {
    return this.device.vgpu.gtt.parts.tables.size;
  }

  /** Stores an entry. */
  store(table: number, index: number, frame: number): void {
    this.#entry[0] = (frame * PAGE) | PRESENT_WRITABLE;
    this.device.ram.write(table * PAGE + 8 * index, this.#bytes);
  }

  readonly #entry = new Uint32Array(2);
  readonly #bytes = new Uint8Array(this.#entry.buffer);

  #directories(tables: number): number[] {
    const directories: number[] = [];
    for (let first = 0; first < tables; first += ENTRIES) {
      const below: number[] = [];
      for (let i = first; i < Math.min(first + ENTRIES, tables); i++) {
        below.push(this.#table(Array.from({ length: ENTRIES }, (_, leaf) => (i + leaf) % RAM_FRAMES)));
      }
      this.pteTables.push(...below);
      directories.push(this.#table(below));
    }
    return directories;
  }

  #table(frames: readonly number[]): number {
    const table = this.#frames.next().value!;
    frames.forEach((frame, index) => this.store(table, index, frame));
    return table;
  }
}

/** A look at every table, of which nothing or little has changed. */
function looks(guest: Guest, name: string, limit: number | null): void {
  const { gtt } = guest.device.vgpu;
  const sync = () => {
    if (gtt.syncOosPages() !== OK) throw new Error("sync failed");
  };
  const perTable = nanoseconds(guest.tables, sync) / 1000;
  if (limit === null) reportOnly(name, "µs", perTable);
  else reportLimit(name, "µs", perTable, limit);
}

/** What a changed entry costs beyond the look at its table. */
function changes(guest: Guest, changed: number): void {
  const { gtt } = guest.device.vgpu;
  let turn = 0;
  const times: number[] = [];
  const idle: number[] = [];
  for (let call = 0; call < CALLS; call++) {
    turn = (turn + 1) % 64;
    const table = guest.pteTables[call % guest.pteTables.length]!;
    for (let i = 0; i < changed; i++) guest.store(table, i, 0x100 + turn + i);
    const start = performance.now();
    gtt.syncOosPages();
    const middle = performance.now();
    gtt.syncOosPages();
    times.push(middle - start);
    idle.push(performance.now() - middle);
  }
  times.sort((a, b) => a - b);
  idle.sort((a, b) => a - b);
  const beyond = (times[CALLS >> 2]! - idle[CALLS >> 2]!) * 1000;
  reportOnly(
    `${changed} of 512 entries of one table changed, beyond the look, per entry`,
    "µs",
    beyond / changed,
  );
}

/** A submission that uses so many pages anywhere in its address space, of which nothing has changed. */
function submission(guest: Guest, pages: number): number {
  const { device, roots, pteTables } = guest;
  const { gtt } = device.vgpu;
  const space = new PpgttSpace(gtt, device.ram);
  const order = shuffled(pteTables.length * ENTRIES);
  let first = 0;
  return nanoseconds(1000, () => {
    const begun = gtt.beginWorkload(4, roots, "on use");
    if (typeof begun === "number") throw new Error(`cannot begin: ${begun}`);
    space.mm = begun.mm;
    for (let i = 0; i < pages; i++) {
      if (space.resolve(order[(first + i) % order.length]! * PAGE, true) < 0) {
        throw new Error("it leads nowhere");
      }
    }
    first += pages;
    space.mm = null;
    gtt.endWorkload(begun.mm);
  });
}

const CALLS = 400;
/** Pages that a submission uses: ring, context and status are the GGTT's, a batch and what it names are these. */
const PAGES = 64;
const RAM = memfd(RAM_FRAMES * PAGE);

for (const tables of [100, 1000, 10_000]) {
  const guest = new Guest(tables, dup(RAM));
  looks(guest, `a look at every one of ${tables} tables, shared RAM, per table`, 0.15);
  reportLimit(
    `a submission with ${tables} tables, which uses ${PAGES} pages anywhere`,
    "µs",
    submission(guest, PAGES),
    2000,
  );
  if (tables === 100) { for (const changed of [1, 16, 512]) changes(guest, changed); }
  guest.device[Symbol.dispose]();
}
looks(new Guest(1000), "the same of 1000 tables without the C library", null);
