/**
 * The initramfs of the guest that `deno task qemu` shows: busybox, and two scripts.
 *
 * @module
 */

import { Initramfs } from "./initramfs.ts";
import type { Kernel } from "./kernel.ts";

/** What every initramfs here begins with: busybox and a console. */
export async function withBusybox(kernel: Kernel): Promise<Initramfs> {
  const initramfs = new Initramfs();
  for (const folder of ["proc", "sys", "dev", "tmp"]) initramfs.folder(folder);
  return initramfs.device("dev/console", 5, 1).file("bin/busybox", await Deno.readFile(kernel.busybox));
}

/** The guest with a shell. @returns The archive. */
export async function shellGuest(kernel: Kernel): Promise<Uint8Array> {
  const script = (name: string) => Deno.readFile(new URL(name, import.meta.url));
  const initramfs = (await withBusybox(kernel))
    .file("init", await script("guest_init.sh")).file("bin/look", await script("guest_look.sh"));
  return await initramfs.bytes();
}
