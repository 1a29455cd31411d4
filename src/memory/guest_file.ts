/**
 * Opening a file as guest RAM.
 *
 * The path comes from the VMM, who may be hostile. Only a regular file becomes RAM (a memfd is one, also
 * under its `/proc/PID/fd/N` name): a pipe or a device is refused without opening it, for opening alone can
 * block or set off something. The size is checked against the open file, not against the name.
 *
 * There are two ways to the same bytes. By libc ({@linkcode openWithLibc}) a memfd that cannot shrink is
 * mapped and everything else is read and written by position. Without the FFI permission
 * ({@linkcode openWithDeno}) everything is read and written by position, but Deno keeps `/dev`, `/proc` and
 * `/sys` closed, so neither a memfd nor a file in `/dev/shm` can be had that way.
 *
 * @module
 */

import type { Backing } from "./backing.ts";
import { openWithDeno } from "./deno_file.ts";
import { openWithLibc } from "./libc_file.ts";

/** Opens `size` bytes at `offset` of the file at `path`; throws a `RamError` that does not name the region. */
export type OpenFile = (path: string, readonly: boolean, offset: number, size: number) => Backing;

/**
 * Opens a file as guest RAM in the best way the permissions allow.
 *
 * @param path Absolute path of a regular file, without NUL characters.
 * @param readonly Whether the guest may not write; the file is opened read-only then.
 * @param offset Where in the file the region starts: bytes, a multiple of 4096.
 * @param size How much of the file it takes: bytes, a multiple of 4096.
 * @returns The open file's bytes.
 * @throws {RamError} If the path, the file or the permissions do not allow it.
 *
 * @example
 * ```ts ignore
 * using ram = new RamMap({ openFile: openGuestFile });
 * ram.map({ gpa: 0, size: 2 ** 30, path: "/proc/4711/fd/9" });
 * ```
 */
export function openGuestFile(path: string, readonly: boolean, offset: number, size: number): Backing {
  return mayCallLibc()
    ? openWithLibc(path, readonly, offset, size)
    : openWithDeno(path, readonly, offset, size);
}

function mayCallLibc(): boolean {
  return Deno.build.os === "linux" && Deno.permissions.querySync({ name: "ffi" }).state === "granted";
}
