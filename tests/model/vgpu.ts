/**
 * What a vGPU consists of (engine.md §4), and how it comes and goes (§6, §12).
 *
 * One gvt with one vGPU: the gvt-wide parts (global scratch page, LRU, pool of out-of-sync pages) live here too.
 *
 * @module
 */

import { ENTRIES, TABLE_KINDS, type TableKind, withFrame } from "./entry.ts";
import { Ggtt } from "./ggtt.ts";
import { ENODEV, ENOMEM, type Host } from "./host.ts";
import type { TraceConfig } from "../../src/replay/trace.ts";
import { PageTracks, type Track } from "./tracks.ts";

/** A host page that shadows one guest table page. */
export class ShadowTable {
  /** Which table it is. */
  readonly kind: TableKind;
  /** Guest frame of the table. */
  readonly gfn: number;
  /** Host frame of the shadow page. */
  readonly mfn: number;
  /** The page track of the guest frame. */
  readonly track: Track;
  /** Shadow entries. */
  readonly entries: bigint[] = Array<bigint>(ENTRIES).fill(0n);
  /** The post-shadow bitmap: indices whose bit is set. */
  readonly queued: Set<number> = new Set();
  /** How many shadow entries and roots point here, plus a hold while a store or flush works on it. */
  references = 1;
  /** Trapped writes since the last sync. */
  writeCount = 0;
  /** Snapshot of the guest page, when an out-of-sync page is attached. */
  snapshot: bigint[] | null = null;

  /** A table with count 1, registered with the tracks. */
  constructor(kind: TableKind, gfn: number, mfn: number, tracks: PageTracks) {
    this.kind = kind;
    this.gfn = gfn;
    this.mfn = mfn;
    this.track = tracks.register(gfn, this);
  }
}

/** A shadow root: the value the hardware sees and the table it leads to. */
export interface ShadowRoot {
  /** The guest's root with the frame replaced. */
  readonly value: bigint;
  /** The table. */
  readonly table: ShadowTable;
}

/** One PPGTT. */
export class Mm {
  /** Number in order of creation. */
  readonly id: number;
  /** 3 or 4. */
  readonly level: number;
  /** What the guest wrote: four root values. */
  readonly roots: readonly bigint[];
  /** Shadow roots, by slot. */
  readonly shadowRoots: Array<ShadowRoot | null> = [null, null, null, null];
  /** Reference count. */
  references = 1;
  /** Pin count. */
  pins = 0;
  /** Whether a shadow is kept. */
  shadowed = false;

  /** An mm with one reference, not shadowed. */
  constructor(id: number, level: number, roots: readonly bigint[]) {
    this.id = id;
    this.level = level;
    this.roots = roots;
  }
}

/** One vGPU. */
export class Vgpu {
  /** The services. */
  readonly host: Host;
  /** What it runs on. */
  readonly config: TraceConfig;
  /** The GGTT. */
  readonly ggtt: Ggtt;
  /** Page tracks by frame. */
  tracks: PageTracks;
  /** Live shadow tables, oldest first. */
  tables: ShadowTable[] = [];
  /** Live PPGTT mms, oldest first. */
  mms: Mm[] = [];
  /** Shadowed mms, head first. */
  lru: Mm[] = [];
  /** Tables with queued indices, in list order. */
  postList: ShadowTable[] = [];
  /** Tables out of sync, in list order. */
  oosList: ShadowTable[] = [];
  /** Tables that own an out-of-sync page, oldest attachment first. */
  oosUse: ShadowTable[] = [];
  /** The global scratch page. */
  globalScratch = 0;
  /** What a removed entry of each kind of table points to. */
  scratch: Record<TableKind, number> = { PTE: 0, PDE: 0, PDP: 0, PML4: 0 };
  /** What is in the scratch pages: the one value of all their entries. */
  scratchEntry: Record<TableKind, bigint> = { PTE: 0n, PDE: 0n, PDP: 0n, PML4: 0n };
  /** Whether init succeeded and clean did not follow. */
  initialised = false;
  /** The number the next mm gets. */
  nextId = 0;

  /** A vGPU before init. */
  constructor(host: Host, config: TraceConfig) {
    this.host = host;
    this.config = config;
    this.ggtt = new Ggtt(host, config);
    this.tracks = new PageTracks(host);
  }

  /** Initialises gvt and vGPU (§6.1, §6.2). */
  init(): number {
    if (this.initialised) throw new Error("A trace initialises twice");
    if (this.host.counts.platform === 0) return ENODEV;
    const page = this.host.allocatePage("S");
    if (page === undefined || !this.host.mapPage(page)) return ENOMEM;
    this.globalScratch = page;
    this.tracks = new PageTracks(this.host);
    this.ggtt.reset(page);
    this.ggtt.clearVirtual();
    const rc = this.#buildScratch();
    this.initialised = rc === 0;
    return rc;
  }

  /** Cleans vGPU and gvt (§6.2). User tracks stay. */
  clean(): void {
    if (!this.initialised) throw new Error("A trace cleans what is not initialised");
    this.freeAllTables();
    this.#forgetMms();
    for (const kind of TABLE_KINDS) this.host.freePage(this.scratch[kind]);
    this.host.freePage(this.globalScratch);
    this.initialised = false;
  }

  /** `intel_vgpu_reset_gtt` (§12). */
  resetGtt(): void {
    this.freeAllTables();
    this.#forgetMms();
    this.ggtt.reset(this.globalScratch);
  }

  /** Takes a table out of everything and frees its page (§8.5). What it points to is not touched. */
  freeTable(table: ShadowTable): void {
    this.tables = this.tables.filter((other) => other !== table);
    this.oosList = this.oosList.filter((other) => other !== table);
    this.oosUse = this.oosUse.filter((other) => other !== table);
    this.postList = this.postList.filter((other) => other !== table);
    this.tracks.remove(table.track);
    this.host.freePage(table.mfn);
  }

  /** Frees every table, without regard to counts. */
  freeAllTables(): void {
    for (const table of this.tables) this.freeTable(table);
  }

  #forgetMms(): void {
    this.mms = [];
    this.lru = [];
  }

  /** Builds the scratch pages, PTE first, each pointing to the one before. */
  #buildScratch(): number {
    const flags = { PTE: 0n, PDE: 0x83n, PDP: 0x3n, PML4: 0x3n };
    let below = 0;
    for (const kind of TABLE_KINDS) {
      const page = this.host.allocatePage(`s${kind}`);
      if (page === undefined || !this.host.mapPage(page)) return ENOMEM;
      this.scratch[kind] = page;
      this.scratchEntry[kind] = withFrame(flags[kind], below);
      below = page;
    }
    return 0;
  }
}
