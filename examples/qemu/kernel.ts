/**
 * What the guest runs: a stock kernel of Debian 12 with its modules, and busybox. Taken from the packages; nothing
 * is installed.
 *
 * @module
 */

import { Apt, move } from "./apt.ts";
import { type Cache, SIZE_MB } from "./cache.ts";
import { HelpfulError } from "./command.ts";
import type { Steps } from "./steps.ts";

const ENTRY = "debian-12-kernel";
const SUITES = ["bookworm", "bookworm-security"];
/** What of the packages is kept. */
const KEPT = ["boot", "lib/modules", "bin/busybox"];
const META_PACKAGE = "linux-image-amd64";
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
 * Finds the kernel in the cache, or fetches the newest of Debian 12.
 *
 * @throws {HelpfulError} If it cannot be fetched.
 */
export async function findKernel(cache: Cache, steps: Steps): Promise<Kernel> {
  if (!cache.has(ENTRY)) {
    await steps.run(`kernel: fetching Debian 12's (${SIZE_MB.kernel} MB)`, () => fetchKernel(cache));
  }
  const folder = cache.entry(ENTRY);
  const image = [...Deno.readDirSync(`${folder}/boot`)].map(({ name }) => name)
    .find((name) => name.startsWith("vmlinuz-"));
  if (image === undefined) throw new HelpfulError(`There is no kernel in ${folder}; try --fresh`);
  const release = image.slice("vmlinuz-".length);
  steps.note(`kernel: ${release}, in ${folder}`);
  return {
    release,
    image: `${folder}/boot/${image}`,
    modules: `${folder}/lib/modules/${release}`,
    busybox: `${folder}/bin/busybox`,
  };
}

async function fetchKernel(cache: Cache): Promise<void> {
  await cache.make(ENTRY, async (path, scratch) => {
    const apt = await Apt.open(scratch, SUITES, OTHERWISE, cache.signal);
    // The meta package names the newest; the one for clouds has no graphics drivers.
    const [image] = await apt.dependencies(META_PACKAGE);
    if (image === undefined) throw new HelpfulError(`Debian's ${META_PACKAGE} names no kernel`);
    const unpacked = `${scratch}/unpacked`;
    for (const file of await apt.downloadAlone(image, "busybox-static")) await file.unpack(unpacked);
    for (const name of KEPT) await move(unpacked, path, name);
  });
}
