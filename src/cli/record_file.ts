/**
 * The file of `start --record`.
 *
 * @module
 */

/** The recording cannot be made. */
export class RecordError extends Error {
  /** The class's name. */
  override readonly name = "RecordError";
}

/** Permission bits of a recording: guest memory is in it. */
const MODE = 0o600;

/**
 * Makes the file of a recording; the device opens it.
 *
 * @param path Where; `null`: nothing is recorded.
 * @throws {RecordError} When it cannot be made, or there is something already: no recording is ever lost.
 */
export function createRecording(path: string | null): void {
  if (path === null) return;
  try {
    Deno.openSync(path, { write: true, createNew: true, mode: MODE }).close();
  } catch (error) {
    const why = error instanceof Deno.errors.AlreadyExists
      ? "there is such a file already: remove it, or give another name"
      : error instanceof Deno.errors.NotCapable
      ? "it is no plain file, or in a folder of the system's: give the name of a new one"
      : error instanceof Error
      ? error.message
      : String(error);
    throw new RecordError(`Cannot record to ${path}: ${why}`);
  }
}
