/**
 * IGT GPU Tools, the programs by which `i915` is tested and measured, from Debian 12's package, with the libraries
 * that they need. They run in the guest under the paths where the package has them.
 *
 * @module
 */

import { Apt } from "./apt.ts";
import { type Cache, SIZE_MB } from "./cache.ts";
import { HelpfulError, run } from "./command.ts";
import type { Initramfs } from "./initramfs.ts";
import type { Steps } from "./steps.ts";

const ENTRY = "igt";
const SUITES = ["bookworm", "bookworm-security"];
const PACKAGE = "intel-gpu-tools";
const BENCHMARKS = "usr/libexec/igt-gpu-tools/benchmarks";
const TOOLS = ["usr/bin/intel_gpu_top", "usr/bin/lsgpu"];
/** A library that the C library opens by name when a thread ends early. */
const OPENED = "lib/x86_64-linux-gnu/libgcc_s.so.1";
const LIBRARIES = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
/** Where programs expect their dynamic loader, and where it is. */
const LOADER = "lib64/ld-linux-x86-64.so.2";
const REAL_LOADER = "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
const OTHERWISE = "copy the cache folder from a Debian machine";

/** The folder of the benchmarks in the guest. */
export const BENCHMARKS_PATH = `/${BENCHMARKS}`;

/** IGT's programs and their libraries. */
export interface Igt {
  /** The folder that holds them, laid out as the guest's `/`. */
  readonly folder: string;
}

/**
 * Finds IGT in the cache, or fetches Debian 12's.
 *
 * @throws {HelpfulError} If it cannot be fetched.
 */
export async function findIgt(cache: Cache, steps: Steps): Promise<Igt> {
  if (!cache.has(ENTRY)) {
    await steps.run(`IGT: fetching Debian 12's (${SIZE_MB.igt} MB)`, () => fetchIgt(cache));
  }
  steps.note(`IGT: in ${cache.entry(ENTRY)}`);
  return { folder: cache.entry(ENTRY) };
}

/** Puts IGT's programs into a guest. */
export async function addIgt(initramfs: Initramfs, { folder }: Igt): Promise<void> {
  for (const path of files(folder, "")) initramfs.file(path, await Deno.readFile(`${folder}/${path}`));
}

async function fetchIgt(cache: Cache): Promise<void> {
  await cache.make(ENTRY, async (path, scratch) => {
    const apt = await Apt.open(scratch, SUITES, OTHERWISE, cache.signal);
    const unpacked = `${scratch}/unpacked`;
    for (const file of await apt.download(PACKAGE)) await file.unpack(unpacked);
    const benchmarks = [...Deno.readDirSync(`${unpacked}/${BENCHMARKS}`)].map(({ name }) => name)
      .filter((name) => !name.endsWith(".so")).map((name) => `${BENCHMARKS}/${name}`);
    const programs = [...benchmarks, ...TOOLS];
    const libraries = new Set([OPENED]);
    for (const program of programs) {
      for (const library of await librariesOf(unpacked, program)) libraries.add(library);
    }
    for (const name of [...programs, ...libraries]) await copy(`${unpacked}/${name}`, `${path}/${name}`);
    await copy(`${unpacked}/${REAL_LOADER}`, `${path}/${LOADER}`);
  });
}

/** The libraries that a program needs, directly or not: what its own dynamic loader says. */
async function librariesOf(folder: string, program: string): Promise<string[]> {
  const path = LIBRARIES.map((name) => `${folder}/${name}`).join(":");
  const args = ["--inhibit-cache", "--library-path", path, "--list", `${folder}/${program}`];
  const list = await run(`${folder}/${REAL_LOADER}`, args, `IGT's package has no ${REAL_LOADER}`);
  const found = [...list.matchAll(/ => (\S+) \(/g)].map(([, file]) => file!);
  const stranger = found.find((file) => !file.startsWith(`${folder}/`));
  if (stranger !== undefined) throw new HelpfulError(`${program} needs ${stranger}, which no package has`);
  return found.map((file) => file.slice(folder.length + 1)).filter((name) => name !== REAL_LOADER);
}

/** Copies a file, or what a link leads to. */
async function copy(from: string, to: string): Promise<void> {
  await Deno.mkdir(to.slice(0, to.lastIndexOf("/")), { recursive: true });
  await Deno.copyFile(from, to);
}

/** The paths of all files in a folder, sorted. */
function files(root: string, folder: string): string[] {
  return [...Deno.readDirSync(`${root}/${folder}`)].flatMap(({ name, isDirectory }) => {
    const path = folder === "" ? name : `${folder}/${name}`;
    return isDirectory ? files(root, path) : [path];
  }).sort();
}
