/**
 * Where a device listens, and where whoever looks for one looks, if nobody says otherwise.
 *
 * @module
 */

import { environment } from "./environment.ts";

/** The socket in the user's own folder for such things, if that is known. */
export function defaultSocketPath(): string {
  const folder = environment("XDG_RUNTIME_DIR");
  return `${folder === "" ? "/tmp" : folder}/vgtt.sock`;
}
