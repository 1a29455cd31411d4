/**
 * What the guest runs: a stock kernel of Debian with its modules, and busybox. Taken from the packages; nothing is
 * installed. Debian 12's own if nobody says; other suites have newer ones.
 *
 * @module
 */

import { Apt, move } from "./apt.ts";
import { type Cache, SIZE_MB } from "./cache.ts";
import { HelpfulError } from "./command.ts";
import type { Steps } from "./steps.ts";

/** The suite of Debian's archive whose kernel it is if nobody says. */
export const DEFAULT_SUITE = "bookworm";
const DEFAULT_ENTRY = "debian-12-kernel";
const BACKPORTS = "-backports";
const META_PACKAGE = "linux-image-amd64";
/** Newer kernels come in several packages: image, binary, modules. */
const PART = /^linux-(image|binary|modules)-\d/;
/** Where a kernel's parts may be in its packages, and where they are kept. */
const KEPT = [
  { to: "boot", from: ["boot"] },
  { to: "lib/modules", from: ["lib/modules", "usr/lib/modules"] },
  { to: "bin/busybox", from: ["bin/busybox", "usr/bin/busybox"] },
] as const;
const OTHERWISE = "copy the cache folder from a Debian machine";

/** A kernel and what belongs to it. */
export interface Kernel {
  /** Its release, as `6.1.0-56-amd64`. */
  readonly release: string;
  /** The path of its image. */
  readonly image: string;
  /** The folder of its modules: `kernel/drivers/…`. */
  readonly modules: string;
  /** The path of a busybox that needs no libraries. */
  readonly busybox: string;
}

/**
 * Finds the kernel in the cache, or fetches a suite's newest.
 *
 * @param suite A suite of Debian's archive: `bookworm`, `bookworm-backports`, `trixie`, …
 * @throws {HelpfulError} If it cannot be fetched.
 */
export async function findKernel(cache: Cache, steps: Steps, suite: string = DEFAULT_SUITE): Promise<Kernel> {
  const entry = suite === DEFAULT_SUITE ? DEFAULT_ENTRY : `kernel-${suite}`;
  if (!cache.has(entry)) {
    const [name, size] = suite === DEFAULT_SUITE
      ? ["Debian 12", SIZE_MB.kernel]
      : [`Debian ${suite}`, SIZE_MB.otherKernel];
    await steps.run(`kernel: fetching ${name}'s (${size} MB)`, () => fetchKernel(cache, entry, suite));
  }
  const folder = cache.entry(entry);
  const [release] = names(`${folder}/lib/modules`);
  if (release === undefined) throw new HelpfulError(`There is no kernel in ${folder}; try --fresh`);
  const modules = `${folder}/lib/modules/${release}`;
  steps.note(`kernel: ${release}, in ${folder}`);
  return { release, image: imageOf(folder, release), modules, busybox: `${folder}/bin/busybox` };
}

/** A kernel's image is in `/boot`, or beside its modules. */
function imageOf(folder: string, release: string): string {
  const paths = [`${folder}/boot/vmlinuz-${release}`, `${folder}/lib/modules/${release}/vmlinuz`];
  const image = paths.find(isThere);
  if (image === undefined) throw new HelpfulError(`There is no image of a kernel in ${folder}; try --fresh`);
  return image;
}

async function fetchKernel(cache: Cache, entry: string, suite: string): Promise<void> {
  await cache.make(entry, async (path, scratch) => {
    const apt = await Apt.open(scratch, suites(suite), OTHERWISE, cache.signal);
    const unpacked = `${scratch}/unpacked`;
    const packages = [...await parts(apt), "busybox-static"];
    for (const file of await apt.downloadAlone(...packages)) await file.unpack(unpacked);
    for (const { from, to } of KEPT) {
      const found = from.find((name) => isThere(`${unpacked}/${name}`));
      if (found !== undefined) await move(`${unpacked}/${found}`, `${path}/${to}`);
    }
  });
}

/** The packages of the newest kernel. The meta package names it; the one for clouds has no graphics drivers. */
async function parts(apt: Apt): Promise<string[]> {
  const found = new Set<string>();
  const add = async (name: string) => {
    for (const needed of await apt.dependencies(name)) {
      if (!PART.test(needed) || found.has(needed)) continue;
      found.add(needed);
      await add(needed);
    }
  };
  await add(META_PACKAGE);
  if (found.size === 0) throw new HelpfulError(`Debian's ${META_PACKAGE} names no kernel`);
  return [...found];
}

/** A suite and the one that it completes, or that completes it; packages come from the last that has them. */
function suites(suite: string): string[] {
  if (suite.endsWith(BACKPORTS)) return [suite.slice(0, -BACKPORTS.length), suite];
  return [suite, `${suite}-security`];
}

function names(folder: string): string[] {
  return isThere(folder) ? [...Deno.readDirSync(folder)].map(({ name }) => name) : [];
}

function isThere(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
