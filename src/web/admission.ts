/**
 * Who may talk to the page's server. It listens on this machine only, but whatever runs on this machine can reach it, web
 * pages of others in the user's browser included: so whoever asks must know the token, and a browser must say that it was
 * our own page that asked.
 *
 * @module
 */

/** Bytes of randomness in a token. */
const TOKEN_BYTES = 24;

const HTTP_PORT = 80;
/** What this machine is called by its own browsers. */
const NAMES: readonly string[] = ["127.0.0.1", "localhost"];

/** Why a request is refused, in the server's words. */
export type Refusal = "wrong host" | "wrong origin" | "wrong token";

/** A token that nobody can guess, in letters that a URL may have. */
export function newToken(): string {
  return crypto.getRandomValues(new Uint8Array(TOKEN_BYTES)).toHex();
}

/**
 * Judges a request.
 *
 * @param request The request.
 * @param port The server's port.
 * @param token The server's token, which is the first part of the path.
 * @returns The path after the token, or why the request is refused.
 *
 * @example A name that somebody made lead to this machine is refused, token or not
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { admit } from "./admission.ts";
 *
 * const ask = (url: string, headers: Record<string, string>) => admit(new Request(url, { headers }), 4000, "s3cret");
 * assertEquals(ask("http://127.0.0.1:4000/s3cret/page.js", { host: "127.0.0.1:4000" }), { path: "/page.js" });
 * assertEquals(ask("http://127.0.0.1:4000/s3cret/", { host: "rebound.example:4000" }), { refused: "wrong host" });
 * assertEquals(ask("http://127.0.0.1:4000/guess/", { host: "127.0.0.1:4000" }), { refused: "wrong token" });
 * assertEquals(
 *   ask("http://127.0.0.1:4000/s3cret/", { host: "localhost:4000", origin: "https://evil.example" }),
 *   { refused: "wrong origin" },
 * );
 * ```
 */
export function admit(
  request: Request,
  port: number,
  token: string,
): { readonly path: string } | { readonly refused: Refusal } {
  const host = request.headers.get("host");
  // A browser leaves the port away that is HTTP's own.
  const names = port === HTTP_PORT ? NAMES : NAMES.map((name) => `${name}:${port}`);
  if (host === null || !names.includes(host)) return { refused: "wrong host" };
  const origin = request.headers.get("origin");
  if (origin !== null && origin !== `http://${host}`) return { refused: "wrong origin" };
  const [, given = "", path = ""] = /^\/([^/]*)(.*)$/.exec(new URL(request.url).pathname) ?? [];
  return isSame(given, token) ? { path } : { refused: "wrong token" };
}

/** Whether two texts are the same, in a time that does not tell how much of them is. */
function isSame(given: string, wanted: string): boolean {
  let difference = given.length ^ wanted.length;
  for (let at = 0; at < wanted.length; at++) difference |= given.charCodeAt(at) ^ wanted.charCodeAt(at);
  return difference === 0;
}
