/**
 * A kernel's modules, with all that they need. Each says in its section `.modinfo` which others it depends on; names
 * there and names of files are the same but for `-` and `_`.
 *
 * @module
 */

import { HelpfulError, rawOutput } from "./command.ts";
import { sectionOf } from "./elf.ts";
import type { Kernel } from "./kernel.ts";

/** A module that can be loaded. */
export interface Module {
  /** Its name, as the kernel has it: `drm_kms_helper`. */
  readonly name: string;
  /** What `insmod` loads: an object file, not compressed. */
  readonly content: Uint8Array<ArrayBuffer>;
}

/** How files of modules end, and which of busybox's applets unpacks those that are compressed. */
const FILE_NAME = /^(.+)\.ko(\.xz|\.gz)?$/;
const UNPACKERS: Readonly<Record<string, string>> = { ".xz": "xzcat", ".gz": "zcat" };

/**
 * Reads modules and all that they need.
 *
 * @param kernel Whose modules they are.
 * @param names Which are wanted.
 * @returns Them in an order in which they can be loaded.
 * @throws {HelpfulError} If the kernel lacks one.
 */
export async function modulesInOrder(kernel: Kernel, names: readonly string[]): Promise<Module[]> {
  const files = moduleFiles(`${kernel.modules}/kernel`);
  const found = new Map<string, Module>();
  const add = async (name: string) => {
    if (found.has(name)) return;
    const path = files.get(name);
    if (path === undefined) throw new HelpfulError(`Linux ${kernel.release} has no module ${name}`);
    const content = await readModule(kernel, path);
    for (const needed of dependencies(content)) await add(needed);
    found.set(name, { name, content });
  };
  for (const name of names) await add(kernelName(name));
  return [...found.values()];
}

/** The paths of all modules below a folder, by name. */
function moduleFiles(folder: string, files: Map<string, string> = new Map()): Map<string, string> {
  for (const { name, isDirectory } of Deno.readDirSync(folder)) {
    const path = `${folder}/${name}`;
    const stem = FILE_NAME.exec(name)?.[1];
    if (isDirectory) moduleFiles(path, files);
    else if (stem !== undefined) files.set(kernelName(stem), path);
  }
  return files;
}

async function readModule(kernel: Kernel, path: string): Promise<Uint8Array<ArrayBuffer>> {
  const unpacker = UNPACKERS[FILE_NAME.exec(path)?.[2] ?? ""];
  if (unpacker === undefined) return await Deno.readFile(path);
  const { code, stdout } = await rawOutput(kernel.busybox, [unpacker, path], `There is no ${kernel.busybox}`);
  if (code !== 0) throw new HelpfulError(`Cannot unpack ${path}; try --fresh`);
  return new Uint8Array(stdout);
}

/** What a module depends on, by name. */
function dependencies(module: Uint8Array<ArrayBuffer>): string[] {
  const lines = new TextDecoder().decode(sectionOf(module, ".modinfo")).split("\0");
  const list = lines.find((line) => line.startsWith("depends="))?.slice("depends=".length) ?? "";
  return list.split(",").filter((name) => name !== "").map(kernelName);
}

function kernelName(name: string): string {
  return name.replaceAll("-", "_");
}
