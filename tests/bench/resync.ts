/**
 * What it costs to follow a guest that nobody traps, over RAM that a hypervisor shares: a look at every table, a look
 * at those that a workload uses, and what has changed.
 *
 * @module
 */

import { OK, PpgttSpace } from "../../mod.ts";
import { dup, memfd } from "../vfio_user/peer_libc.ts";
import { shuffled } from "./order.ts";
import { nanoseconds, reportLimit, reportOnly } from "./sample.ts";
import { RAM_FRAMES, TableGuest } from "./table_guest.ts";

const PAGE = 4096;
const ENTRIES = 512;

/** A look at every table, of which nothing or little has changed. */
function looks(guest: TableGuest, name: string, limit: number | null): void {
  const { gtt } = guest.device.vgpu;
  const sync = () => {
    if (gtt.syncOosPages() !== OK) throw new Error("sync failed");
  };
  const perTable = nanoseconds(guest.tables, sync) / 1000;
  if (limit === null) reportOnly(name, "µs", perTable);
  else reportLimit(name, "µs", perTable, limit);
}

/** What a changed entry costs beyond the look at its table. */
function changes(guest: TableGuest, changed: number): void {
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
function submission(guest: TableGuest, pages: number): number {
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
  const guest = new TableGuest(tables, dup(RAM));
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
looks(new TableGuest(1000), "the same of 1000 tables without the C library", null);
