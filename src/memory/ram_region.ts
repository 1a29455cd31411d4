/**
 * What a region of guest RAM is, and the rules it must keep to by itself. (What it must not share with other
 * regions is up to the map.)
 *
 * @module
 */

import type { Backing, BackingKind } from "./backing.ts";
import type { RemoteMemory } from "./message.ts";
import { hex, RamError } from "./ram_error.ts";

/** Size of a page in bytes. */
export const PAGE_BYTES = 4096;

/** End of the guest physical address space, bytes: addresses have 46 bits (`engine.md` §2). */
export const GPA_LIMIT: number = 2 ** 46;

/** End of the host frame numbers that an entry can hold: 46 address bits less the page's 12. */
export const MFN_LIMIT: number = 2 ** 34;

/** Where the host frames of guest RAM start unless a region says otherwise: `mfn` = gfn + this. */
export const DEFAULT_MFN_OFFSET = 0x10_0000;

/** First frame number of the device's own host pages (shadow tables, scratch); all of RAM's are below it. */
export const HOST_PAGE_MFN_BASE = 0x3_0000_0000;

/** Most regions at once: a VM has a dozen, and each may cost a file descriptor, of which 1024 are usual. */
export const MAX_REGIONS = 256;

/** Largest region, 1 TiB: more than a guest has, far less than the longest buffer there is (about 2^45 bytes). */
export const MAX_REGION_BYTES: number = 2 ** 40;

/** Most local RAM at once, 16 GiB: the VMM can fill it, and it comes out of this process. */
export const MAX_LOCAL_BYTES: number = 2 ** 34;

/** Longest path that Linux takes, bytes, with the NUL at its end. */
const PATH_MAX = 4096;

/** A region as the VMM asks for it. All addresses and sizes are multiples of 4096. */
export interface RamRegionOptions {
  /** Guest physical address of the first byte, below 2^46. */
  readonly gpa: number;
  /** Size in bytes, at most {@linkcode MAX_REGION_BYTES}. */
  readonly size: number;
  /** Absolute path of a file that holds the region. Without any of path, fd, remote and backing the region is local. */
  readonly path?: string | undefined;
  /**
   * Descriptor of an open file that holds the region. It belongs to the region when that is mapped, and stays the
   * caller's when it is not.
   */
  readonly fd?: number | undefined;
  /** Where in the file the region starts, bytes; 0 if not given. Only with a file. */
  readonly offset?: number | undefined;
  /** Whoever holds the region's bytes and gives and takes them one piece at a time. */
  readonly remote?: RemoteMemory | undefined;
  /** Bytes that are there already, as many as the size says; closed with the region. */
  readonly backing?: Backing | undefined;
  /** Whether the guest may not write; it may if not given. */
  readonly readonly?: boolean | undefined;
  /** Host frame number of the first page; gfn + {@linkcode DEFAULT_MFN_OFFSET} if not given. */
  readonly mfn?: number | undefined;
}

/** A region that is mapped. */
export interface RamRegion {
  /** Guest physical address of the first byte. */
  readonly gpa: number;
  /** Size in bytes. */
  readonly size: number;
  /** Host frame number of the first page. */
  readonly mfn: number;
  /** Whether the guest may not write. */
  readonly readonly: boolean;
  /** How the bytes are reached. */
  readonly kind: BackingKind;
}

/** Where a region wants to be. */
export type Placement = Omit<RamRegion, "kind">;

/**
 * Checks the numbers of a region.
 *
 * @param options What the VMM asks for.
 * @returns The region's place, with the defaults filled in.
 * @throws {RamError} `EINVAL` if it breaks a rule.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(placeRegion({ gpa: 0x2000, size: 4096 }).mfn, 0x100002);
 * ```
 */
export function placeRegion(options: RamRegionOptions): Placement {
  const { gpa, size, path, fd, offset = 0, remote, backing } = options;
  requirePages("address", gpa);
  requirePages("size", size);
  requirePages("file offset", offset);
  if (size === 0) throw new RamError("EINVAL", "size is 0: a region has at least one page of 4096 bytes");
  if (size > MAX_REGION_BYTES) {
    throw new RamError("EINVAL", `size is ${size}: a region has at most ${MAX_REGION_BYTES} bytes`);
  }
  if (gpa + size > GPA_LIMIT) {
    throw new RamError("EINVAL", `it ends at ${hex(gpa + size)}: guest addresses end at ${hex(GPA_LIMIT)}`);
  }
  if (!Number.isSafeInteger(offset + size)) {
    throw new RamError("EINVAL", `file offset ${offset} is beyond what a file can have`);
  }
  if ([path, fd, remote, backing].filter((source) => source !== undefined).length > 1) {
    throw new RamError("EINVAL", "a region has one source: a path, a descriptor, or whoever holds its bytes");
  }
  if (path !== undefined) requirePath(path);
  else if (fd === undefined && offset !== 0) {
    throw new RamError("EINVAL", "a file offset without a file: there is none to begin in");
  }
  return { gpa, size, mfn: placeFrames(options), readonly: options.readonly ?? false };
}

function requirePages(what: string, bytes: number): void {
  if (!Number.isSafeInteger(bytes) || bytes < 0) {
    throw new RamError("EINVAL", `${what} is not a number of bytes from 0 to 2^53-1`);
  }
  if (bytes % PAGE_BYTES !== 0) {
    throw new RamError("EINVAL", `${what} ${hex(bytes)} is not a multiple of ${PAGE_BYTES}`);
  }
}

function requirePath(path: string): void {
  if (typeof path !== "string" || path === "") {
    throw new RamError("EINVAL", "the path is empty: name a file, or leave the path out for local RAM");
  }
  if (path.includes("\0")) throw new RamError("EINVAL", "the path contains a NUL character");
  if (!path.startsWith("/")) {
    throw new RamError(
      "EINVAL",
      "the path is relative: the device has another working directory, give the whole path",
    );
  }
  if (new TextEncoder().encode(path).length >= PATH_MAX) {
    throw new RamError("EINVAL", `the path is longer than ${PATH_MAX - 1} bytes`);
  }
}

/** The first host frame, once all of them are known to be free for guest RAM to have. */
function placeFrames({ gpa, size, mfn }: RamRegionOptions): number {
  const first = mfn ?? gpa / PAGE_BYTES + DEFAULT_MFN_OFFSET;
  if (!Number.isSafeInteger(first) || first < 0) {
    throw new RamError("EINVAL", "mfn is not a frame number from 0 up");
  }
  const end = first + size / PAGE_BYTES;
  if (end > MFN_LIMIT) {
    throw new RamError(
      "EINVAL",
      `its host frames end at ${hex(end)}: frame numbers end at ${hex(MFN_LIMIT)}`,
    );
  }
  if (end > HOST_PAGE_MFN_BASE) {
    const reserved = hex(HOST_PAGE_MFN_BASE);
    throw new RamError(
      "EINVAL",
      `its host frames end at ${
        hex(end)
      }: those from ${reserved} on are the device's own pages: give a lower mfn`,
    );
  }
  return first;
}
