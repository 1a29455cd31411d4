import { RamError } from "./ram_error.ts";

/**
 * The error for a path or a descriptor that leads to something else than a regular file.
 *
 * @param what What it is, with its article: "a directory".
 * @param named What was given: "the path" or "the descriptor".
 * @returns The error.
 */
export function notRegular(what: string, named: string = "the path"): RamError {
  return new RamError("EINVAL", `${named} is ${what}: only a regular file or a memfd can be RAM`);
}

/**
 * Checks that a region lies inside its file.
 *
 * @param fileSize Bytes.
 * @param offset Where in the file the region starts, bytes.
 * @param size How much of the file it takes, bytes.
 * @throws {RamError} `EINVAL` if the file ends before the region does.
 */
export function requireRoom(fileSize: number, offset: number, size: number): void {
  if (offset + size > fileSize) {
    throw new RamError("EINVAL", `file is ${fileSize} bytes: need ${offset + size}`);
  }
}
