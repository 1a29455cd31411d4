/**
 * The initramfs of the guests that `deno task qemu` shows: busybox and scripts; for a guest with `i915` the driver
 * and IGT's programs too.
 *
 * @module
 */

import type { Cache } from "./cache.ts";
import { addIgt, type Igt } from "./igt.ts";
import { Initramfs } from "./initramfs.ts";
import type { Kernel } from "./kernel.ts";
import { modulesInOrder } from "./modules.ts";

const ENTRY = "guest-";
const I915_ENTRY = "i915-guest-";

/** Where the guest has the driver's modules, and the list of them in the order in which they are loaded. */
export const MODULES_PATH = "/modules";
const ORDER = "order";

/** What every initramfs here begins with: busybox and a console. */
export async function withBusybox(kernel: Kernel): Promise<Initramfs> {
  const initramfs = new Initramfs();
  for (const folder of ["proc", "sys", "dev", "tmp"]) initramfs.folder(folder);
  return initramfs.device("dev/console", 5, 1).file("bin/busybox", await Deno.readFile(kernel.busybox));
}

/**
 * The guest with a shell.
 *
 * @param cache Where its archive is kept.
 * @param kernel The kernel that it is for.
 * @returns The archive's path.
 */
export async function shellGuest(cache: Cache, kernel: Kernel): Promise<string> {
  const initramfs = (await withBusybox(kernel))
    .file("init", await script("guest_init.sh")).file("bin/look", await script("guest_look.sh"));
  return await kept(cache, ENTRY, [await initramfs.bytes()]);
}

/**
 * The guest that loads `i915` and lets IGT's programs use it.
 *
 * @param cache Where its archive is kept.
 * @param kernel The kernel that it is for.
 * @param igt The programs.
 * @returns The archive's path.
 */
export async function i915Guest(cache: Cache, kernel: Kernel, igt: Igt): Promise<string> {
  const initramfs = (await withBusybox(kernel))
    .file("init", await script("guest_init.sh")).file("bin/look", await script("guest_look.sh"))
    .file("bin/load", await script("guest_load.sh")).file("bin/show", await script("guest_show.sh"));
  const parts = [await i915Archive(kernel, igt), await initramfs.bytes()];
  return await kept(cache, I915_ENTRY, parts);
}

/** What a guest with `i915` has besides its own archive, which comes behind this one: the modules, and IGT. */
export async function i915Archive(kernel: Kernel, igt: Igt): Promise<Uint8Array<ArrayBuffer>> {
  const initramfs = new Initramfs();
  const folder = MODULES_PATH.slice(1);
  const modules = await modulesInOrder(kernel, ["i915"]);
  for (const { name, content } of modules) initramfs.file(`${folder}/${name}.ko`, content);
  const order = modules.map(({ name }) => `${name}\n`).join("");
  initramfs.file(`${folder}/${ORDER}`, new TextEncoder().encode(order));
  await addIgt(initramfs, igt);
  return await initramfs.plainBytes();
}

/**
 * Keeps an initramfs in the cache under a name that its content gives: so a command line with it can be used again.
 * Old ones of the same kind are removed.
 *
 * @param prefix How names of this kind begin.
 * @param parts Archives, one behind the other.
 * @returns Its path.
 */
export async function kept(
  cache: Cache,
  prefix: string,
  parts: readonly Uint8Array<ArrayBuffer>[],
): Promise<string> {
  const archive = new Uint8Array(await new Blob([...parts]).arrayBuffer());
  const name = `${prefix}${await digest(archive)}.${parts.length > 1 ? "cpio" : "gz"}`;
  if (cache.has(name)) return cache.entry(name);
  cache.removeOld(prefix);
  return await cache.make(name, (path) => Deno.writeFile(path, archive));
}

/** What tells contents apart, as the end of a name. */
export async function digest(content: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", content)).toHex().slice(0, 16);
}

async function script(name: string): Promise<Uint8Array<ArrayBuffer>> {
  return await Deno.readFile(new URL(name, import.meta.url));
}
