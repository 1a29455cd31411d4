/**
 * The engine's own work beside the original's: C, -O2, over the same simulated host, figures of a machine like CI's.
 *
 * @module
 */

import { DEFAULT_VGPU, graphicsMemory, GTT_START_OFFSET, GvtGtt, type PpgttMm, VgpuGtt } from "../../mod.ts";
import { shuffled } from "./order.ts";
import { nanoseconds, report, reportLimit } from "./sample.ts";
import { SimulatedHost } from "./simulated_host.ts";

const PAGE = 4096;
const ENTRIES = 512;
const PRESENT_WRITABLE = 0x3;
/** PTE tables of the big tree: 512 K leaves. */
const PTE_TABLES = 1024;
/** First frames of the tree's root and of its PTE tables. */
const ROOT = 0x10;
const FIRST_PTE_TABLE = 0x20;
const TABLE_FRAMES = FIRST_PTE_TABLE + PTE_TABLES;
/** Frames of guest memory that leaves lead to. */
const FRAMES = 0x10_0000;
/** Operations that are timed as one. */
const BATCH = 1 << 16;
/** The first of as many entries of the hidden part. */
const FIRST_ENTRY = DEFAULT_VGPU.hiddenBase / PAGE;

const gm = graphicsMemory(DEFAULT_VGPU);
const host = new SimulatedHost(TABLE_FRAMES, FRAMES, gm.entries);
const gvt = new GvtGtt(host);
gvt.init();
const gtt = new VgpuGtt(gvt, host, gm);
gtt.init();

function setEntry(gfn: number, index: number, frame: number): void {
  host.memory[gfn * 1024 + 2 * index] = (frame << 12) | PRESENT_WRITABLE;
}

/** A 4-level tree with two PDE tables and 1024 full PTE tables. */
function writeTree(): void {
  setEntry(ROOT, 0, ROOT + 1);
  for (let pde = 0; pde < PTE_TABLES / ENTRIES; pde++) {
    setEntry(ROOT + 1, pde, ROOT + 2 + pde);
    for (let index = 0; index < ENTRIES; index++) {
      setEntry(ROOT + 2 + pde, index, FIRST_PTE_TABLE + pde * ENTRIES + index);
    }
  }
  for (let leaf = 0; leaf < PTE_TABLES * ENTRIES; leaf++) {
    setEntry(FIRST_PTE_TABLE + Math.floor(leaf / ENTRIES), leaf % ENTRIES, 0x1000 + leaf);
  }
}

const roots = Uint32Array.of(ROOT << 12, 0, 0, 0, 0, 0, 0, 0);

function createTree(): PpgttMm {
  const mm = gtt.createMm(4, roots);
  if (typeof mm === "number") throw new Error(`cannot create the PPGTT: ${mm}`);
  return mm;
}

/** Times one row, and sees that its operations allocate nothing. */
function row(name: string, original: number, operations: number, work: () => void): void {
  const ours = nanoseconds(operations, work);
  report({ name, unit: "ns", ours, reference: original, against: "original", target: 1 });
  const before = Deno.memoryUsage().heapUsed;
  for (let turn = 0; turn < TURNS; turn++) work();
  allocated = Math.max(allocated, (Deno.memoryUsage().heapUsed - before) / (TURNS * operations));
}

/** Times that the work is done again to see whether it allocates; less than what fills the young generation. */
const TURNS = 8;
/** The most bytes that any operation allocated. */
let allocated = 0;

function ggttRows(): void {
  const order = shuffled(BATCH);
  const out = new Uint32Array(2);
  let round = 0;
  row("GGTT entry store, sequential", 14.7, BATCH, () => {
    round++;
    for (let i = 0; i < BATCH; i++) {
      gtt.emulateGttMmioWrite(
        GTT_START_OFFSET + 8 * (FIRST_ENTRY + i),
        8,
        (((i + round) & 0xfffff) << 12) | 1,
        0,
      );
    }
  });
  row("GGTT entry store, random", 15.3, BATCH, () => {
    round++;
    for (let i = 0; i < BATCH; i++) {
      const at = FIRST_ENTRY + order[i]!;
      gtt.emulateGttMmioWrite(GTT_START_OFFSET + 8 * at, 8, (((i + round) & 0xfffff) << 12) | 1, 0);
    }
  });
  row("GGTT entry read, random", 3.9, BATCH, () => {
    round++;
    for (let i = 0; i < BATCH; i++) {
      gtt.emulateGttMmioRead(GTT_START_OFFSET + 8 * (FIRST_ENTRY + order[i]!), 8, out);
    }
  });
  row("GGTT address translated, random", 6.9, BATCH, () => {
    round++;
    let sum = 0;
    for (let i = 0; i < BATCH; i++) {
      sum += gtt.ggttGmaToGpa(PAGE * (FIRST_ENTRY + order[i]!) + (i & 0xfff));
    }
    if (sum === 0) throw new Error("cannot be: entries were stored");
  });
}

function ppgttRows(): void {
  writeTree();
  const mm = createTree();
  const leaves = PTE_TABLES * ENTRIES;
  const order = shuffled(leaves);
  let round = 0;
  const store = (leaf: number) => {
    const gpa = FIRST_PTE_TABLE * PAGE + 8 * leaf;
    host.memory[gpa / 4] = (((leaf + round) & 0xfffff) << 12) | PRESENT_WRITABLE;
    gtt.dispatchStore(gpa, 8);
  };
  row("trapped PTE store, sequential", 21, BATCH, () => {
    round++;
    const first = (round * BATCH) & leaves - 1;
    for (let i = 0; i < BATCH; i++) store(first + i);
  });
  row("trapped PTE store, random", 59, BATCH, () => {
    round++;
    const first = (round * BATCH) & leaves - 1;
    for (let i = 0; i < BATCH; i++) store(order[first + i]!);
  });
  if (gtt.counters.badTrappedStores > 0) throw new Error("a trapped store failed");
  let sum = 0;
  row("PPGTT address translated, sequential", 41, BATCH, () => {
    round++;
    const first = (round * BATCH) & leaves - 1;
    for (let i = 0; i < BATCH; i++) sum += gtt.gmaToGpa(mm, (first + i) * PAGE, 0);
  });
  row("PPGTT address translated, random", 79, BATCH, () => {
    round++;
    const first = (round * BATCH) & leaves - 1;
    for (let i = 0; i < BATCH; i++) sum += gtt.gmaToGpa(mm, order[first + i]! * PAGE, 0);
  });
  if (sum === 0) throw new Error("cannot be: the leaves lead somewhere");
  gtt.destroyMm(mm);
}

/** Shadows the whole tree and tears it down, each timed by itself. */
function treeRows(): void {
  const leaves = PTE_TABLES * ENTRIES;
  const builds: number[] = [];
  const ends: number[] = [];
  for (let turn = 0; turn < TREES; turn++) {
    const start = performance.now();
    const mm = createTree();
    const built = performance.now();
    gtt.destroyMm(mm);
    builds.push(built - start);
    ends.push(performance.now() - built);
  }
  for (
    const [name, times, original] of [
      ["shadow of 512 K leaves built, per entry", builds, 10.6],
      ["shadow of 512 K leaves torn down, per entry", ends, 0.07],
    ] as const
  ) {
    const ours = times.toSorted((a, b) => a - b)[Math.floor(TREES / 4)]! * 1e6 / leaves;
    report({ name, unit: "ns", ours, reference: original, against: "original", target: 1 });
  }
}

const TREES = 60;

ggttRows();
ppgttRows();
treeRows();
reportLimit("allocated by the greediest operation above, none of them building", "bytes", allocated, 1);
