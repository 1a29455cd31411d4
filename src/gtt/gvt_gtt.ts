/**
 * The device's share of the engine (`engine.md` §4, §6.1): what all vGPUs of one GPU have in common, which is
 * the global scratch page, the pool of out-of-sync pages and the order in which address spaces were last
 * used.
 *
 * @module
 */

import { EBUSY, ENODEV, ENOMEM, OK } from "./errno.ts";
import { type GttHost, type HostPage, INVALID_MFN } from "./host.ts";
import type { LruList } from "./mm.ts";
import { OOS_POOL_PAGES, OosPool } from "./oos.ts";

/** The part of the host that hands out pages. */
export type PageAllocator = Pick<GttHost, "allocPage" | "mapPage" | "freePage">;

/**
 * How shadow tables follow the guest's: by stores that the host traps, or by looking before each use
 * (`engine.md` §16).
 */
export type Tracking = "trapped" | "untracked";

/** How a device is set up. */
export interface GvtOptions {
  /**
   * How shadow tables follow the guest's. Default `"trapped"`, as documented. With `"untracked"` the host is never
   * asked to protect a table page; `submit` and `syncOosPages` compare the tables with guest memory instead
   * (`engine.md` §16), and `oos` and `oosPoolPages` mean nothing.
   */
  readonly tracking?: Tracking;
  /**
   * Whether guests may use pages of 64 KiB and 2 MiB (`engine.md` §17). Default false, as in the original. Who offers
   * them says so in the PVINFO page.
   */
  readonly hugePages?: boolean;
  /** Whether this is a platform with gen8 page tables: Broadwell, Skylake or Kaby Lake. Default true. */
  readonly platformSupported?: boolean;
  /** Whether PTE tables that are written often go out of sync. Default false, as in the original. */
  readonly oos?: boolean;
  /** Out-of-sync pages of the device, 0 or more. Default {@linkcode OOS_POOL_PAGES}. */
  readonly oosPoolPages?: number;
}

/**
 * One GPU's shared translation state.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { GvtGtt } from "./gvt_gtt.ts";
 * import { OK } from "./errno.ts";
 *
 * const pages = { allocPage: () => ({ mfn: -1, lanes: new Uint32Array(1024) }), freePage() {},
 *   mapPage(page: { mfn: number }) { page.mfn = 7; return true; } };
 * const gvt = new GvtGtt(pages);
 * assertEquals(gvt.init(), OK);
 * assertEquals(gvt.globalScratch, 7);
 * ```
 */
export class GvtGtt {
  /** Address spaces of all vGPUs, the longest unused first. */
  readonly lru: LruList = new Set();
  /** Whether the platform's page tables are supported; looked at by {@linkcode init}. */
  platformSupported: boolean;
  /** How the shadow tables of its vGPUs follow the guests'. */
  readonly tracking: Tracking;
  /** Whether guests may use pages of 64 KiB and 2 MiB. */
  readonly hugePages: boolean;
  readonly #pages: PageAllocator;
  readonly #oos: boolean;
  readonly #oosPoolPages: number;
  #scratch: HostPage | null = null;
  #pool: OosPool | null = null;
  #vgpus = 0;

  /**
   * A device that is not initialised yet.
   *
   * @param pages Where the global scratch page comes from.
   * @param options Platform and out-of-sync pages.
   */
  constructor(pages: PageAllocator, options: GvtOptions = {}) {
    this.#pages = pages;
    this.platformSupported = options.platformSupported ?? true;
    this.tracking = options.tracking ?? "trapped";
    this.hugePages = options.hugePages ?? false;
    this.#oos = this.tracking === "trapped" && (options.oos ?? false);
    this.#oosPoolPages = options.oosPoolPages ?? OOS_POOL_PAGES;
  }

  /**
   * Whether {@linkcode init} succeeded and {@linkcode clean} was not called since.
   *
   * @returns Whether vGPUs can be initialised.
   */
  get initialised(): boolean {
    return this.#scratch !== null;
  }

  /**
   * Host frame of the global scratch page (`engine.md` §2), to which GGTT entries and leaves without a valid
   * frame lead.
   *
   * @returns Frame number, or {@linkcode INVALID_MFN} before init.
   */
  get globalScratch(): number {
    return this.#scratch?.mfn ?? INVALID_MFN;
  }

  /**
   * The pool of out-of-sync pages (`engine.md` §10).
   *
   * @returns The pool, or `null` while out-of-sync pages are disabled.
   *
   * @example They are disabled unless asked for
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, OOS_POOL_PAGES } from "../../mod.ts";
   *
   * using plain = createDevice();
   * assertEquals(plain.gvt.oosPool, null);
   * using device = createDevice({ oos: true });
   * assertEquals(device.gvt.oosPool?.free, OOS_POOL_PAGES);
   * ```
   */
  get oosPool(): OosPool | null {
    return this.#pool;
  }

  /**
   * Sets the device up (`intel_gvt_init_gtt`, `engine.md` §6.1): the platform is looked at first, then the
   * global scratch page is made and mapped.
   *
   * @returns 0; -ENODEV on an unsupported platform, -ENOMEM without a scratch page, then nothing is left
   *   allocated; -EBUSY when done already.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, ENODEV, OK } from "../../mod.ts";
   *
   * using device = createDevice({ platformSupported: false }); // has called init, in vain
   * assertEquals(device.gvt.init(), ENODEV);
   * device.gvt.platformSupported = true;
   * assertEquals(device.gvt.init(), OK);
   * ```
   */
  init(): number {
    if (!this.platformSupported) return ENODEV;
    if (this.initialised) return EBUSY;
    const page = this.#pages.allocPage();
    if (page === null) return ENOMEM;
    if (!this.#pages.mapPage(page)) {
      this.#pages.freePage(page);
      return ENOMEM;
    }
    this.#scratch = page;
    this.#pool = this.#oos ? new OosPool(this.#oosPoolPages) : null;
    this.lru.clear();
    return OK;
  }

  /**
   * Gives the scratch page and the pool back (`intel_gvt_clean_gtt`, `engine.md` §6.1).
   *
   * @returns 0; -ENODEV before init, -EBUSY while a vGPU is set up.
   *
   * @example vGPUs first
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, EBUSY, OK } from "../../mod.ts";
   *
   * using device = createDevice();
   * assertEquals(device.gvt.clean(), EBUSY);
   * device.vgpu.gtt.clean();
   * assertEquals(device.gvt.clean(), OK);
   * assertEquals(device.gvt.initialised, false);
   * ```
   */
  clean(): number {
    if (this.#scratch === null) return ENODEV;
    if (this.#vgpus > 0) return EBUSY;
    this.#pages.freePage(this.#scratch);
    this.#scratch = null;
    this.#pool = null;
    return OK;
  }

  /**
   * A vGPU of this device was set up or taken down. Called by the vGPU's engine.
   *
   * @param change 1 for set up, -1 for taken down.
   */
  countVgpu(change: 1 | -1): void {
    this.#vgpus += change;
  }
}
