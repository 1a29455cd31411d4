/**
 * As much of HTTP as a server of one text needs.
 *
 * @module
 */

/** What is wrong with a request, or what it asks for. */
export type HttpRequest =
  | { readonly method: string; readonly path: string }
  | { readonly status: 400 | 431 };

/** What is answered. */
export interface HttpResponse {
  /** The status. */
  readonly status: 200 | 400 | 404 | 405 | 431 | 503;
  /** The media type of the text; default plain text. */
  readonly type?: string;
  /** The text. */
  readonly body: string;
}

/** Bytes of a request without a body: some ten times what scrapers send. */
export const MAX_REQUEST_BYTES = 8192;

const REASONS: Readonly<Record<HttpResponse["status"], string>> = {
  200: "OK",
  400: "Bad Request",
  404: "Not Found",
  405: "Method Not Allowed",
  431: "Request Header Fields Too Large",
  503: "Service Unavailable",
};

/** Method, path without the query, version. A proxy may name scheme and host before the path. */
const REQUEST_LINE = /^([A-Z]+) (?:http:\/\/[^/? ]*)?(\/[^? ]*)(?:\?\S*)? HTTP\/1\.[01]\r?\n/;

/**
 * Reads a request as far as it has come; a body is not looked at.
 *
 * @param text What has arrived, its bytes as characters.
 * @returns The request; `null` if there has to come more.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseRequest } from "./http_request.ts";
 *
 * assertEquals(parseRequest("GET /metrics?x=1 HTTP/1.1\r\nHost: here\r\n\r\n"), { method: "GET", path: "/metrics" });
 * assertEquals(parseRequest("GET /metrics HTTP/1.1\r\nHo"), null);
 * assertEquals(parseRequest("hello\r\n\r\n"), { status: 400 });
 * ```
 */
export function parseRequest(text: string): HttpRequest | null {
  const end = /\r?\n\r?\n/.exec(text);
  if (end === null) return text.length < MAX_REQUEST_BYTES ? null : { status: 431 };
  const [, method, path] = REQUEST_LINE.exec(text) ?? [];
  return method === undefined || path === undefined ? { status: 400 } : { method, path };
}

/**
 * Writes a response, after which the connection ends.
 *
 * @param response What is answered.
 * @param withBody Whether the text goes along: it does not for HEAD.
 * @returns The bytes.
 */
export function formatResponse(
  { status, type = "text/plain; charset=utf-8", body }: HttpResponse,
  withBody: boolean,
): Uint8Array<ArrayBuffer> {
  const bytes = new TextEncoder().encode(body);
  const head = [
    `HTTP/1.1 ${status} ${REASONS[status]}`,
    `Content-Type: ${type}`,
    `Content-Length: ${bytes.length}`,
    ...(status === 405 ? ["Allow: GET, HEAD"] : []),
    "Connection: close",
  ];
  const text = `${head.join("\r\n")}\r\n\r\n`;
  return new TextEncoder().encode(withBody ? text + body : text);
}
