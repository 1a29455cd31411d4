/**
 * Pages of 2 MiB (`engine.md` §17.1): what 512 guest frames that follow one another are on the host, and the table of
 * 4 KiB pages that takes their place in a shadow where the host's frames do not.
 *
 * Frames are looked at in runs ({@linkcode GttHost.gfnRun}), so a page costs as many questions as its RAM has pieces.
 *
 * @module
 */

import { DIRTY, IPS, LARGE_FRAMES, PAGE_LARGE, PAT_LARGE, withFrameHi, withFrameLo } from "./entry.ts";
import { type GttHost, INVALID_MFN } from "./host.ts";

/** Bits by which {@linkcode PAT_LARGE} is above the PAT bit of a PTE, which is that of {@linkcode PAGE_LARGE}. */
const PAT_SHIFT = 5;

/**
 * The host frame by which the hardware can map a 2 MiB page with one entry.
 *
 * @param host Translates frames.
 * @param gfn First guest frame of the page.
 * @returns The first host frame: all are there, follow one another and begin at a multiple of 512; else
 *   {@linkcode INVALID_MFN}.
 *
 * @example RAM whose host frames are shifted cannot be mapped by one entry
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, INVALID_MFN, wholeLargeFrame } from "../../mod.ts";
 *
 * using device = createDevice();
 * device.mapRam({ gpa: 0x200000, size: 0x200000 });
 * device.mapRam({ gpa: 0x400000, size: 0x200000, mfn: 0x800001 });
 * assertEquals(wholeLargeFrame(device.host, 0x200), 0x100200);
 * assertEquals(wholeLargeFrame(device.host, 0x400), INVALID_MFN);
 * ```
 */
export function wholeLargeFrame(host: GttHost, gfn: number): number {
  if (host.gfnRun(gfn, LARGE_FRAMES) < LARGE_FRAMES) return INVALID_MFN;
  const mfn = host.gfnToMfn(gfn);
  return mfn % LARGE_FRAMES === 0 ? mfn : INVALID_MFN;
}

/**
 * Whether every frame of a 2 MiB page can be translated.
 *
 * @param host Translates frames.
 * @param gfn First guest frame of the page.
 * @returns Whether the page can be shadowed, by one entry or by 512.
 *
 * @example One frame short
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, isLargePageRam } from "../../mod.ts";
 *
 * using device = createDevice();
 * device.mapRam({ gpa: 0x200000, size: 0x1ff000 });
 * assertEquals(isLargePageRam(device.host, 0x200), false);
 * device.mapRam({ gpa: 0x3ff000, size: 0x1000, mfn: 0x800000 });
 * assertEquals(isLargePageRam(device.host, 0x200), true);
 * ```
 */
export function isLargePageRam(host: GttHost, gfn: number): boolean {
  for (let at = 0; at < LARGE_FRAMES;) {
    const run = host.gfnRun(gfn + at, LARGE_FRAMES - at);
    if (run === 0) return false;
    at += run;
  }
  return true;
}

/**
 * Fills the table of a 2 MiB page that is split: 512 leaves with the flags of the page's entry, its PAT bit where a
 * PTE has it.
 *
 * @param host Translates frames.
 * @param lanes The table's 1024 lanes.
 * @param gfn First guest frame of the page.
 * @param lo Low lane of the guest's entry.
 * @param hi High lane of the guest's entry.
 * @returns Whether every frame could be translated; if not the lanes are of no use.
 *
 * @example Bit 12, PAT, becomes bit 7
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, fillSplitPage } from "../../mod.ts";
 *
 * using device = createDevice();
 * device.mapRam({ gpa: 0x200000, size: 0x200000 });
 * const lanes = new Uint32Array(1024);
 * assertEquals(fillSplitPage(device.host, lanes, 0x200, 0x201083, 0), true);
 * assertEquals([lanes[0], lanes[1022]], [0x00200083, 0x003ff083]);
 * fillSplitPage(device.host, lanes, 0x200, 0x200083, 0);
 * assertEquals(lanes[0], 0x00200003);
 * ```
 */
export function fillSplitPage(
  host: GttHost,
  lanes: Uint32Array,
  gfn: number,
  lo: number,
  hi: number,
): boolean {
  const flags = lo & ~PAGE_LARGE | (lo & PAT_LARGE) >>> PAT_SHIFT;
  for (let at = 0; at < LARGE_FRAMES;) {
    const run = host.gfnRun(gfn + at, LARGE_FRAMES - at);
    if (run === 0) return false;
    const mfn = host.gfnToMfn(gfn + at);
    for (let i = 0; i < run; i++) {
      lanes[2 * (at + i)] = withFrameLo(flags, mfn + i);
      lanes[2 * (at + i) + 1] = withFrameHi(hi, mfn + i);
    }
    at += run;
  }
  return true;
}

/**
 * The low lane of the directory entry that leads to the table of a split page: what only a leaf has is gone.
 *
 * @param lo Low lane of the guest's entry.
 * @returns It without page size, IPS and dirty bit; its frame is to be replaced.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { splitEntryLo } from "./large_page.ts";
 *
 * assertEquals(splitEntryLo(0x2008e3), 0x200023);
 * ```
 */
export function splitEntryLo(lo: number): number {
  return (lo & ~(PAGE_LARGE | IPS | DIRTY)) >>> 0;
}
