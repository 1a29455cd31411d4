import { PAGE_BYTES } from "../memory/ram_region.ts";
import type { RamMap, RamRegion } from "../memory/ram_map.ts";

/** Pages at a region's start that are looked at: firmware and kernels leave something in the first megabyte. */
const FIRST_PAGES = 256;
/** Pages that are looked at beyond, evenly spread. */
const SPREAD_PAGES = 256;
const LANES_PER_PAGE = 1024;

/**
 * Whether shared guest RAM holds nothing at all, although the guest runs already. Then the VMM has passed a file of which
 * it uses a private copy (QEMU's `share=off`): its guest's stores never get here, and no error says so.
 *
 * @param ram Guest RAM.
 * @returns Whether there is writable shared RAM, and every page that was looked at is zero.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { RamMap } from "../memory/ram_map.ts";
 * import { looksUnshared } from "./vfio_user_content.ts";
 *
 * using ram = new RamMap();
 * ram.map({ gpa: 0, size: 0x10000 });
 * assertEquals(looksUnshared(ram), false); // it is the device's own, and never shared
 * ```
 */
export function looksUnshared(ram: RamMap): boolean {
  const shared = ram.regions.filter(({ kind, readonly }) =>
    (kind === "mapped" || kind === "file") && !readonly
  );
  return shared.length > 0 && shared.every((region) => isZero(ram, region));
}

function isZero(ram: RamMap, { gpa, size }: RamRegion): boolean {
  const page = new Uint32Array(LANES_PER_PAGE);
  const [first, pages] = [gpa / PAGE_BYTES, size / PAGE_BYTES];
  const stride = Math.max(1, Math.floor(pages / SPREAD_PAGES));
  for (let at = 0; at < pages; at += at < FIRST_PAGES ? 1 : stride) {
    if (!ram.readPage(first + at, page) || page.some((lane) => lane !== 0)) return false;
  }
  return true;
}
