/**
 * What a device process costs before it does anything: the time until it listens, and memory, idle and in use.
 *
 * Memory is what is resident, without the guest's own that is mapped: that is the VMM's.
 *
 * @module
 */

import type { Client } from "../../protocol/client.ts";
import { connect } from "../../protocol/connect.ts";
import { DeviceProcess, ROOT, taskArguments, TempFolder } from "../scenarios/process.ts";
import { memfd, poke, procText } from "../vfio_user/peer_libc.ts";
import { reportLimit, reportOnly } from "./sample.ts";

const PAGE = 4096;
const ENTRIES = 512;
const KIB = 1024;
/** Entries that lead on: present and writable. */
const LEADS = 3;
const RAM_BYTES = 64 << 20;
/** Starts of a process that are timed; the second fastest counts, because others use the machine, too. */
const STARTS = 7;
/** Milliseconds until a process that was started must listen. */
const START_LIMIT = 150;
/** PDE tables that are full, so there are about eight thousand tables in all. */
const PDE_TABLES = 16;
/** Frames of the root, the PDP table, the PDE tables and the PTE tables behind them. */
const [ROOT_FRAME, PDP_FRAME, FIRST_PDE, FIRST_PTE] = [0x10, 0x11, 0x12, 0x100];
const TABLES = 2 + PDE_TABLES * (1 + ENTRIES);
/** What a thousand tables may take: twice their pages, KiB. */
const THOUSAND_TABLES = 2 * 4 * 1000;
/** The parts of the GGTT that are the vGPU's by default, as first entry and number. */
const OWN_ENTRIES = [[0x4000, 0x4000], [0x28000, 0x18000]] as const;
const GTT_WINDOW = 0x80_0000;
/** Calls that are sent before an answer is waited for. */
const BURST = 4096;

/** Resident memory of a process without what it shares with its VMM, KiB. */
function resident(pid: number): number {
  const status = procText(pid, "status");
  const field = (name: string) => Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, "m").exec(status)?.[1]);
  return field("VmRSS") - field("RssShmem");
}

/** Connects as soon as somebody accepts. */
async function firstConnection(path: string): Promise<Deno.UnixConn> {
  for (;;) {
    try {
      return await Deno.connect({ transport: "unix", path });
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused)) {
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

/** From the start of a process until it accepts a connection, and until it has answered its first call. */
async function startRows(folder: string): Promise<void> {
  const accepted: number[] = [];
  const answered: number[] = [];
  for (let start = 0; start < STARTS; start++) {
    const path = `${folder}/start${start}`;
    const begin = performance.now();
    const child = new Deno.Command(Deno.execPath(), {
      args: [...taskArguments("start"), "--socket-path", path],
      cwd: ROOT,
      stdout: "null",
      stderr: "null",
    }).spawn();
    const conn = await firstConnection(path);
    accepted.push(performance.now() - begin);
    const observer = await connect({ conn });
    answered.push(performance.now() - begin);
    await observer.close();
    child.kill("SIGTERM");
    await child.status;
  }
  const second = (times: readonly number[]) => times.toSorted((a, b) => a - b)[1]!;
  reportLimit("process started until it accepts a connection", "ms", second(accepted), START_LIMIT);
  reportOnly("process started until its first answer", "ms", second(answered));
}

/** Stores a table page in the guest's memory. */
function storeTable(ram: number, frame: number, entryOf: (index: number) => number): void {
  const entries = new Uint32Array(2 * ENTRIES);
  for (let index = 0; index < ENTRIES; index++) entries[2 * index] = entryOf(index);
  poke(ram, frame * PAGE, new Uint8Array(entries.buffer));
}

/** A 4-level tree of {@linkcode TABLES} tables. */
function storeTree(ram: number): void {
  const leadTo = (frame: number) => frame * PAGE + LEADS;
  storeTable(ram, ROOT_FRAME, (index) => index === 0 ? leadTo(PDP_FRAME) : 0);
  storeTable(ram, PDP_FRAME, (index) => index < PDE_TABLES ? leadTo(FIRST_PDE + index) : 0);
  for (let pde = 0; pde < PDE_TABLES; pde++) {
    storeTable(ram, FIRST_PDE + pde, (index) => leadTo(FIRST_PTE + pde * ENTRIES + index));
    for (let pte = 0; pte < ENTRIES; pte++) {
      storeTable(ram, FIRST_PTE + pde * ENTRIES + pte, (index) => leadTo(index));
    }
  }
}

/** The guest's driver stores every entry of the GGTT that is its own, as it does when it begins. */
async function fillGgtt(vmm: Client): Promise<void> {
  for (const [first, count] of OWN_ENTRIES) {
    for (let entry = first; entry < first + count; entry++) {
      const stored = vmm.notify("mmio_write", 0, GTT_WINDOW + 8 * entry, 8, PAGE * 0x20 + 1);
      if (entry % BURST === 0) await stored;
    }
  }
  await vmm.call("stats");
}

/** Memory of a process: idle, with a guest, and for each thousand of the guest's tables. */
async function memoryRows(folder: string, tracking: "trapped" | "untracked"): Promise<void> {
  const path = `${folder}/${tracking}`;
  await using device = await DeviceProcess.start("--socket-path", path);
  await (await connect(path)).close(); // whose answer comes when everything is loaded
  const idle = resident(device.pid);
  await using vmm = await connect(path, { role: "vmm", tracking });
  const ram = memfd(RAM_BYTES);
  await vmm.call("ram_map", { gpa: 0, size: RAM_BYTES, path: `/proc/${Deno.pid}/fd/${ram}` });
  storeTree(ram);
  await vmm.call("mmio_read", 0, 0x78000, 8);
  await fillGgtt(vmm);
  const attached = resident(device.pid);
  await vmm.call("mm_create", 4, [ROOT_FRAME * PAGE, 0, 0, 0]);
  const { shadowTables } = await vmm.call("stats");
  if (shadowTables !== TABLES) throw new Error(`${shadowTables} tables instead of ${TABLES}`);
  const perThousand = (resident(device.pid) - attached) / TABLES * 1000;
  const name = `memory of 1,000 shadow tables, ${tracking}`;
  if (tracking === "untracked") return reportOnly(name, "KiB", perThousand);
  reportOnly("memory of an idle device process", "MiB", idle / KIB);
  reportOnly("memory of a VMM's vGPU, all of its GGTT stored", "MiB", (attached - idle) / KIB);
  reportLimit(name, "KiB", perThousand, THOUSAND_TABLES);
}

await using folder = new TempFolder();
await startRows(folder.path);
await memoryRows(folder.path, "trapped");
await memoryRows(folder.path, "untracked");
