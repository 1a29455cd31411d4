import type fs from "node:fs";
import type { Backing } from "./backing.ts";
import { FileBacking, type PositionedFile } from "./file_backing.ts";
import { notRegular, requireRoom } from "./file_rules.ts";
import { quoteText, RamError, type RamErrorCode } from "./ram_error.ts";

let loaded: typeof fs | null = null;

/** `node:fs`, loaded when it is first needed: that takes longer than everything else that a device loads. */
function nodeFs(): typeof fs {
  return loaded ??= globalThis.process.getBuiltinModule("node:fs");
}

/** An open file behind Deno's permissions. By `node:fs`: Deno's own calls take neither flags nor positions. */
class DenoFile implements PositionedFile {
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  readAt(into: Uint8Array<ArrayBuffer>, position: number): number {
    try {
      return nodeFs().readSync(this.#fd, into, 0, into.length, position);
    } catch {
      return -1; // the host's failure: the access fails, the device goes on
    }
  }

  writeAt(bytes: Uint8Array<ArrayBuffer>, position: number): number {
    try {
      return nodeFs().writeSync(this.#fd, bytes, 0, bytes.length, position);
    } catch {
      return -1;
    }
  }

  close(): void {
    nodeFs().closeSync(this.#fd);
  }
}

/**
 * Opens a file as guest RAM without FFI: by position, with Deno's read and write permissions for its path.
 *
 * @param path Absolute path of a regular file, not under `/dev`, `/proc` or `/sys`.
 * @param readonly Whether the guest may not write.
 * @param offset Where in the file the region starts: bytes, a multiple of 4096.
 * @param size How much of the file it takes: bytes, a multiple of 4096.
 * @returns The open file's bytes.
 * @throws {RamError} If the file or the permissions do not allow it.
 */
export function openWithDeno(path: string, readonly: boolean, offset: number, size: number): Backing {
  const fd = open(path, readonly);
  try {
    const status = nodeFs().fstatSync(fd);
    requireRegular(status);
    requireRoom(status.size, offset, size);
    return new FileBacking(new DenoFile(fd), offset, size, readonly);
  } catch (error) {
    nodeFs().closeSync(fd);
    throw error;
  }
}

function open(path: string, readonly: boolean): number {
  const { O_RDONLY, O_RDWR, O_NONBLOCK, O_NOCTTY } = nodeFs().constants;
  try {
    // Nothing but a regular file is opened at all; O_NONBLOCK, in case the name changes hands now.
    requireRegular(nodeFs().statSync(path));
    return nodeFs().openSync(path, (readonly ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_NOCTTY);
  } catch (cause) {
    throw cause instanceof RamError ? cause : openError(path, readonly, cause);
  }
}

function requireRegular(status: fs.Stats): void {
  if (status.isFile()) return;
  if (status.isDirectory()) throw notRegular("a directory");
  if (status.isFIFO()) throw notRegular("a pipe");
  if (status.isSocket()) throw notRegular("a socket");
  throw notRegular("a device");
}

const CODES: Readonly<Record<string, RamErrorCode>> = {
  EACCES: "EACCES",
  EPERM: "EACCES",
  EROFS: "EACCES",
  ENOENT: "ENOENT",
  ENOTDIR: "ENOENT",
  ELOOP: "EINVAL",
  ENAMETOOLONG: "EINVAL",
  EMFILE: "EMFILE",
  ENFILE: "EMFILE",
};

function openError(path: string, readonly: boolean, cause: unknown): RamError {
  const name = quoteText(path);
  if (cause instanceof Deno.errors.NotCapable) {
    const advice = /^\/(dev|proc|sys)\//.test(path)
      ? "Deno keeps this folder closed: start the device with --allow-ffi"
      : `start the device with --allow-read${
        readonly ? "" : " and --allow-write"
      } for it, or with --allow-ffi`;
    return new RamError("EACCES", `no permission for ${name}: ${advice}`, { cause });
  }
  const errno = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  return new RamError(CODES[errno] ?? "EIO", `cannot open ${name}: ${errno || "unknown reason"}`, { cause });
}
