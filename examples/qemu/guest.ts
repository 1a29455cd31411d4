/**
 * The initramfs of the guest that `deno task qemu` shows: busybox, and two scripts.
 *
 * @module
 */

import type { Cache } from "./cache.ts";
import { Initramfs } from "./initramfs.ts";
import type { Kernel } from "./kernel.ts";

/** What every initramfs here begins with: busybox and a console. */
export async function withBusybox(kernel: Kernel): Promise<Initramfs> {
  const initramfs = new Initramfs();
  for (const folder of ["proc", "sys", "dev", "tmp"]) initramfs.folder(folder);
  return initramfs.device("dev/console", 5, 1).file("bin/busybox", await Deno.readFile(kernel.busybox));
}

const ENTRY = "guest-";

/**
 * The guest with a shell.
 *
 * @param cache Where its archive is kept, named by its content: so a command line with it can be used again.
 * @param kernel The kernel that it is for.
 * @returns The archive's path.
 */
export async function shellGuest(cache: Cache, kernel: Kernel): Promise<string> {
  const script = (name: string) => Deno.readFile(new URL(name, import.meta.url));
  const initramfs = (await withBusybox(kernel))
    .file("init", await script("guest_init.sh")).file("bin/look", await script("guest_look.sh"));
  const archive = await initramfs.bytes();
  const name = `${ENTRY}${await digest(archive)}.gz`;
  if (cache.has(name)) return cache.entry(name);
  return await cache.make(name, (path) => Deno.writeFile(path, archive));
}

/** What tells contents apart, as the end of a name. */
export async function digest(content: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", content)).toHex().slice(0, 16);
}
