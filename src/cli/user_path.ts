/**
 * A path as the user means it: `deno task` changes to the project's folder before it runs a command, and says in
 * `INIT_CWD` where the user was.
 *
 * @param path As given.
 * @returns The same file for this process.
 */
export function userPath(path: string): string {
  if (path.startsWith("/")) return path;
  const variable = "INIT_CWD";
  const mayRead = Deno.permissions.querySync({ name: "env", variable }).state === "granted";
  const folder = mayRead ? Deno.env.get(variable) : undefined;
  return folder === undefined ? path : `${folder}/${path}`;
}
