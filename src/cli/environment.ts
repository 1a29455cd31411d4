/**
 * The environment, as far as it may be seen.
 *
 * @module
 */

/** A variable of the environment; empty if it is not set or may not be read. */
export function environment(name: string): string {
  const { state } = Deno.permissions.querySync({ name: "env", variable: name });
  return state === "granted" ? Deno.env.get(name) ?? "" : "";
}
