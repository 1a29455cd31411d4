/**
 * What it costs to follow a guest that nobody traps: syncs of trees, over local guest RAM, in one process.
 *
 * The time of a sync divided by the tables that it compares, in the name, is the time a table. "Floor" is the least that
 * any engine could do: read those pages and compare them.
 *
 * @module
 */

import { createDevice, type Device, OK, type PpgttMm } from "../../mod.ts";

const MIB = 1 << 20;
const PRESENT_WRITABLE = 0x3;
/** First frames of the directories, of the PTE tables and of what they map. */
const DIRECTORIES = 0x100;
const PTE_TABLES = 0x1000;
const LEAVES = 0x4000;

function writeTable(device: Device, gfn: number, frames: readonly number[]): void {
  const lanes = new Uint32Array(1024);
  for (const [index, frame] of frames.entries()) lanes[2 * index] = (frame << 12) | PRESENT_WRITABLE;
  device.ram.write(gfn * 4096, new Uint8Array(lanes.buffer));
}

function roots(gfn: number): Uint32Array {
  const lanes = new Uint32Array(8);
  lanes[0] = gfn << 12;
  return lanes;
}

function run(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

function newDevice(): Device {
  const device = createDevice({ tracking: "untracked" });
  device.ram.map({ gpa: 0, size: 128 * MIB });
  return device;
}

/** A 4-level tree with so many full PTE tables, its directories from `first` on. @returns Its tables. */
function build(device: Device, first: number, tables: readonly number[]): number {
  writeTable(device, first, [first + 1]);
  const pdes = run(first + 2, Math.ceil(tables.length / 512));
  writeTable(device, first + 1, pdes);
  for (const [i, pde] of pdes.entries()) writeTable(device, pde, tables.slice(512 * i, 512 * (i + 1)));
  for (const table of tables) writeTable(device, table, run(LEAVES + (table & 0xff), 512));
  if (typeof device.vgpu.gtt.createMm(4, roots(first)) === "number") {
    throw new Error("cannot create the PPGTT");
  }
  return 2 + pdes.length + tables.length;
}

for (const tables of [1, 64, 1000]) {
  const device = newDevice();
  const compared = build(device, DIRECTORIES, run(PTE_TABLES, tables));
  const { gtt } = device.vgpu;
  const page = new Uint32Array(1024);
  const other = new Float64Array(512);
  const entries = new Float64Array(page.buffer);
  Deno.bench(`floor: ${compared} pages read and compared`, { group: `${tables} tables` }, () => {
    let different = 0;
    for (let gfn = PTE_TABLES; gfn < PTE_TABLES + compared; gfn++) {
      device.host.readPage(gfn, page);
      if (gfn === PTE_TABLES) other.set(entries);
      for (let i = 0; i < 512; i++) if (entries[i] !== other[i]) different++;
    }
    if (different === -1) throw new Error("cannot be");
  });
  Deno.bench(`sync of ${compared} unchanged tables`, { group: `${tables} tables` }, () => {
    if (gtt.syncOosPages() !== OK) throw new Error("sync failed");
  });
  for (const changed of [1, 512]) {
    let turn = 0;
    const one = run(LEAVES, 512);
    Deno.bench(`sync of ${compared} tables, one of them with ${changed} new leaves`, {
      group: `${tables} tables`,
    }, (b) => {
      turn ^= 1;
      for (let i = 0; i < changed; i++) one[i] = LEAVES + 0x200 + i + turn;
      writeTable(device, PTE_TABLES, one);
      b.start();
      gtt.syncOosPages();
      b.end();
    });
  }
}

/** Fifty address spaces of 20 PTE tables each, and scratch tables that they all share. */
function fifty(): { device: Device; spaces: number } {
  const device = newDevice();
  const spaces = 50;
  const scratch = run(DIRECTORIES - 3, 3); // a PTE, a PDE and a PDP table all of whose entries are alike
  writeTable(device, scratch[0]!, new Array(512).fill(LEAVES));
  writeTable(device, scratch[1]!, new Array(512).fill(scratch[0]));
  writeTable(device, scratch[2]!, new Array(512).fill(scratch[1]));
  for (let i = 0; i < spaces; i++) {
    const root = DIRECTORIES + 3 * i;
    const tables = run(PTE_TABLES + 20 * i, 20);
    const padded = (
      own: readonly number[],
      filler: number,
    ) => [...own, ...new Array(512 - own.length).fill(filler)];
    writeTable(device, root, padded([root + 1], scratch[2]!));
    writeTable(device, root + 1, padded([root + 2], scratch[1]!));
    writeTable(device, root + 2, padded(tables, scratch[0]!));
    for (const table of tables) writeTable(device, table, run(LEAVES, 512));
    if (typeof device.vgpu.gtt.createMm(4, roots(root)) === "number") {
      throw new Error("cannot create the PPGTT");
    }
  }
  return { device, spaces };
}

const { device, spaces } = fifty();
const { gtt } = device.vgpu;

Deno.bench(`submit of one of ${spaces} address spaces, 26 tables`, { group: "fifty" }, () => {
  if (typeof gtt.submit(4, roots(DIRECTORIES), (_: PpgttMm) => {}) === "number") {
    throw new Error("submit failed");
  }
});

Deno.bench(`sync of ${spaces} address spaces, 1153 tables`, { group: "fifty" }, () => {
  gtt.syncOosPages();
});

Deno.bench("1000 tables shadowed and torn down", { group: "churn" }, () => {
  const before = gtt.counters.tablesBuilt;
  gtt.resetGtt();
  for (let i = 0; i < spaces; i++) gtt.createMm(4, roots(DIRECTORIES + 3 * i));
  if (gtt.counters.tablesBuilt - before !== 1153) throw new Error("not as many tables as the name says");
});
