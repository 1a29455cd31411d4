import { environment } from "./environment.ts";

/**
 * A path as the user means it: `deno task` changes to the project's folder before it runs a command, and says in
 * `INIT_CWD` where the user was.
 *
 * @param path As given.
 * @returns The same file for this process.
 */
export function userPath(path: string): string {
  if (path.startsWith("/")) return path;
  const folder = environment("INIT_CWD");
  return folder === "" ? path : `${folder}/${path}`;
}
