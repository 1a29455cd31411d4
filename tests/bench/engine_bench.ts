/**
 * What the engine's own work costs, in one process, over local guest RAM.
 *
 * Each iteration does a batch, so that the harness costs nothing: divide the time by the number in the name.
 *
 * @module
 */

import { createDevice, type Device, GTT_START_OFFSET, type PpgttMm } from "../../mod.ts";

const MIB = 1 << 20;
const BATCH = 512;
const PRESENT_WRITABLE = 0x3;

/** A device with 64 MiB of RAM and a 4-level PPGTT of `tables` full PTE tables, from gfn 0x100 on. */
function deviceWithTables(tables: number): { device: Device; mm: PpgttMm } {
  const device = createDevice();
  device.ram.map({ gpa: 0, size: 64 * MIB });
  writeTable(device, 0x100, 1, () => 0x101);
  writeTable(device, 0x101, 1, () => 0x102);
  writeTable(device, 0x102, tables, (index) => 0x200 + index);
  for (let table = 0; table < tables; table++) {
    writeTable(device, 0x200 + table, 512, (index) => 0x1000 + index);
  }
  const mm = device.vgpu.gtt.createMm(4, roots());
  if (typeof mm === "number") throw new Error(`cannot create the PPGTT: ${mm}`);
  return { device, mm };
}

function roots(): Uint32Array {
  const lanes = new Uint32Array(8);
  lanes[0] = 0x100 << 12;
  return lanes;
}

function writeTable(device: Device, gfn: number, count: number, frame: (index: number) => number): void {
  const lanes = new Uint32Array(1024);
  for (let index = 0; index < count; index++) lanes[2 * index] = (frame(index) << 12) | PRESENT_WRITABLE;
  device.ram.write(gfn * 4096, new Uint8Array(lanes.buffer));
}

const { device, mm } = deviceWithTables(64);
const { gtt } = device.vgpu;
const firstEntry = GTT_START_OFFSET + device.config.apertureBase / 4096 * 8;
const value = new Uint32Array(2);

Deno.bench(`${BATCH} GGTT entry stores`, () => {
  for (let i = 0; i < BATCH; i++) gtt.emulateGttMmioWrite(firstEntry + 8 * i, 8, (0x1000 + i) << 12 | 1, 0);
});

Deno.bench(`${BATCH} GGTT entry reads`, () => {
  for (let i = 0; i < BATCH; i++) gtt.emulateGttMmioRead(firstEntry + 8 * i, 8, value);
});

Deno.bench(`${BATCH} trapped PTE stores`, () => {
  for (let i = 0; i < BATCH; i++) gtt.dispatchStore(0x200 * 4096 + 8 * i, 8);
});

Deno.bench(`${BATCH} translations of PPGTT addresses`, () => {
  for (let i = 0; i < BATCH; i++) gtt.gmaToGpa(mm, i << 12, 0);
});

Deno.bench(`${BATCH} translations of GGTT addresses`, () => {
  for (let i = 0; i < BATCH; i++) gtt.ggttGmaToGpa(device.config.apertureBase + 4096 * i);
});

const { device: other, mm: first } = deviceWithTables(64);
other.vgpu.gtt.destroyMm(first);

Deno.bench("32768 leaves shadowed and torn down", () => {
  const fresh = other.vgpu.gtt.createMm(4, roots());
  if (typeof fresh === "number") throw new Error(`cannot create the PPGTT: ${fresh}`);
  other.vgpu.gtt.destroyMm(fresh);
});
