import { assert, assertEquals } from "@std/assert";
import { ENOMEM, OK } from "../../src/gtt/errno.ts";
import { GvtGtt } from "../../src/gtt/gvt_gtt.ts";
import type { HostPage } from "../../src/gtt/host.ts";
import { VgpuGtt } from "../../src/gtt/vgpu_gtt.ts";
import { RamMap } from "../../src/memory/ram_map.ts";
import { FaultInjection } from "../../src/vgpu/fault_injection.ts";
import { VgpuHost } from "../../src/vgpu/vgpu_host.ts";
import { graphicsMemory, vgpuConfig } from "../../src/vgpu/vgpu_options.ts";
import {
  announce,
  FRAMES,
  gma,
  LEAF,
  PDE_PAGE,
  PDP_PAGE,
  PML4_PAGE,
  PTE_PAGE,
  ROOTS,
  rootsAt,
  shadowOf,
  store,
  to,
  writeTree,
} from "./gtt_untracked_guest.ts";

/** Pages that are no shadow tables: the device's scratch page and the vGPU's four. */
const SCRATCH = 5;

/** A host with memory for so many shadow tables. */
class SmallHost extends FaultInjection {
  /** Shadow tables there is memory for. */
  limit: number;
  /** How often a page was asked for in vain. */
  refusals = 0;
  #pages = 0;

  constructor(ram: RamMap, limit: number) {
    super(new VgpuHost(ram, graphicsMemory(vgpuConfig({})).layout.total));
    this.limit = limit;
  }

  override allocPage(): HostPage | null {
    if (this.#pages < this.limit + SCRATCH) {
      this.#pages++;
      return super.allocPage();
    }
    this.refusals++;
    return null;
  }

  override freePage(page: HostPage): void {
    this.#pages--;
    super.freePage(page);
  }
}

/** An engine that traps nothing on such a host, the tree in RAM. */
function startSmall(limit: number) {
  const ram = new RamMap();
  ram.map({ gpa: 0, size: FRAMES * 4096 });
  writeTree(ram);
  const host = new SmallHost(ram, limit);
  const gvt = new GvtGtt(host, { tracking: "untracked" });
  assertEquals(gvt.init(), OK);
  const gtt = new VgpuGtt(gvt, host, graphicsMemory(vgpuConfig({})));
  assertEquals(gtt.init(), OK);
  return { ram, host, gtt, [Symbol.dispose]: () => ram[Symbol.dispose]() };
}

Deno.test("createMm() without memory for all its tables fails and leaves nothing", () => {
  using small = startSmall(3);
  const { gtt } = small;
  assertEquals(gtt.createMm(4, ROOTS), ENOMEM);
  assertEquals([gtt.parts.tables.size, gtt.parts.oos.attached.size], [0, 0]);
  small.host.limit = 4;
  assertEquals(shadowOf(gtt, announce(gtt), gma(0)), "0x100040");
});

Deno.test("submit() without memory for a new table fails, and nothing leads where it led before", () => {
  using small = startSmall(4);
  const { gtt, ram } = small;
  const mm = announce(gtt);
  store(ram, PTE_PAGE, 0, to(0x41));
  for (const [index, gfn] of [[0, 0x23], [1, PTE_PAGE], [2, 0x24]] as const) {
    store(ram, PDE_PAGE, index, to(gfn));
  }
  for (const gfn of [0x23, 0x24]) store(ram, gfn, 0, to(LEAF + 2));
  assertEquals(gtt.submit(4, ROOTS, () => assert(false, "it ran")), ENOMEM);
  const shadows = () => [0, 1, 2].map((index) => shadowOf(gtt, mm, gma(0, 0, index)));
  // The first entry gives up the table that the second wants; so there is memory for one of the new ones.
  assertEquals(shadows().filter((shadow) => shadow !== null).length, 1);
  small.host.limit = 6;
  let ran = false;
  gtt.submit(4, ROOTS, () => ran = true);
  assertEquals([ran, shadows()], [true, ["0x100042", "0x100041", "0x100042"]]);
});

Deno.test("submit() replaces a table by another when there is memory for one of them", () => {
  using small = startSmall(4);
  const { gtt, ram } = small;
  const mm = announce(gtt);
  store(ram, 0x23, 0, to(0x41));
  store(ram, PDE_PAGE, 0, to(0x23));
  let ran = false;
  gtt.submit(4, ROOTS, () => ran = true);
  assertEquals([ran, shadowOf(gtt, mm, gma(0))], [true, "0x100041"]);
});

Deno.test("an entry that changes to a known table leads there although there is no memory for another one", () => {
  using small = startSmall(5);
  const { gtt, ram } = small;
  store(ram, PDE_PAGE, 1, to(0x23));
  store(ram, PDE_PAGE, 2, to(PTE_PAGE)); // so the table stays, whatever entry 0 does
  const mm = announce(gtt);
  store(ram, PML4_PAGE, 1, to(0x30)); // no memory
  store(ram, PDE_PAGE, 0, to(PTE_PAGE) | 0x18n); // the same table with other flags
  store(ram, PDE_PAGE, 1, to(PTE_PAGE));
  assertEquals(gtt.syncOosPages(), ENOMEM);
  assertEquals([0, 1].map((index) => shadowOf(gtt, mm, gma(0, 0, index))), ["0x100040", "0x100040"]);
});

Deno.test("a host without memory is asked once a sync, however many tables the guest wants", () => {
  using small = startSmall(4);
  const { gtt, ram, host } = small;
  announce(gtt);
  for (let index = 1; index < 100; index++) store(ram, PDE_PAGE, index, to(0x20 + index));
  for (let index = 1; index < 100; index++) store(ram, PDP_PAGE, index, to(0x90 + index));
  for (let i = 1; i <= 3; i++) {
    assertEquals(gtt.syncOosPages(), ENOMEM);
    assertEquals(host.refusals, i);
  }
});

Deno.test("a sync makes room by taking the shadow of others, never its own", () => {
  using small = startSmall(8);
  const { gtt, ram, host } = small;
  const own = announce(gtt); // the longest unused: the first that a reclaim would take
  for (let gfn = 0x20; gfn < 0x23; gfn++) store(ram, gfn, 0, to(gfn + 1));
  const other = announce(gtt, 4, rootsAt(0x20));
  store(ram, PDE_PAGE, 1, to(0x30));
  store(ram, 0x30, 0, to(0x41));
  assertEquals(gtt.parts.trees!.syncMm(own), OK);
  assertEquals([own.shadowed, other.shadowed, own.pins], [true, false, 0]);
  assertEquals(shadowOf(gtt, own, gma(0, 0, 1)), "0x100041");
  assertEquals(host.refusals, 1);
});

Deno.test("syncOosPages() brings all others up to date although one lacks memory", () => {
  using small = startSmall(8);
  const { gtt, ram } = small;
  const one = announce(gtt);
  for (let gfn = 0x20; gfn < 0x23; gfn++) store(ram, gfn, 0, to(gfn + 1));
  store(ram, 0x23, 0, to(LEAF));
  const two = announce(gtt, 4, rootsAt(0x20));
  for (const mm of [one, two]) assertEquals(gtt.pinMm(mm), OK); // there is nothing to reclaim
  store(ram, PML4_PAGE, 1, to(0x30));
  store(ram, PTE_PAGE, 0, to(0x41));
  store(ram, 0x23, 0, to(0x42));
  assertEquals(gtt.syncOosPages(), ENOMEM);
  assertEquals([one, two].map((mm) => shadowOf(gtt, mm, gma(0))), ["0x100041", "0x100042"]);
});

Deno.test("snapshots are used again: tables that come and go take no more memory than those alive at once", () => {
  using small = startSmall(8);
  const { gtt, ram } = small;
  announce(gtt);
  const seen = new Set<Uint32Array>();
  for (let i = 0; i < 100; i++) {
    store(ram, PDE_PAGE, 0, to(0x20 + i % 7));
    assertEquals(gtt.syncOosPages(), OK);
    for (const table of gtt.parts.oos.attached) seen.add(table.snapshot!);
  }
  assertEquals([gtt.parts.tables.size, seen.size], [4, 5]);
});
