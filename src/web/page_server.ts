/**
 * The inspector as a page for a browser on the same machine. The page and its script are made when the server starts; it
 * asks nobody else for anything, and nobody else is answered ({@link "./admission.ts" | admission}).
 *
 * The room: a *watch* looks at the device while *viewers*, one for each open page, want to see it; what they see are views
 * of `src/inspect` over its snapshots. What is in `page/` runs in the browser.
 *
 * @module
 */

import { admit, newToken } from "./admission.ts";
import { bundlePage } from "./bundle.ts";
import { Viewer } from "./viewer.ts";
import type { Watch } from "./watch.ts";

/** What a page may do: only what comes from here. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const HEADERS = {
  "content-security-policy": POLICY,
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "cache-control": "no-store",
} as const;

/** Bytes of a page's message. */
const MAX_MESSAGE = 64 * 1024;

/** A file that is served. */
interface Served {
  readonly type: string;
  readonly text: string;
}

/** A server of the page. */
export class PageServer implements AsyncDisposable {
  /** The address for a browser, with the token. */
  readonly url: string;
  readonly #watch: Watch;
  readonly #files: ReadonlyMap<string, Served>;
  readonly #token = newToken();
  readonly #sockets = new Set<WebSocket>();
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  private constructor(watch: Watch, files: ReadonlyMap<string, Served>, port: number) {
    this.#watch = watch;
    this.#files = files;
    const options = { hostname: "127.0.0.1", port, onListen() {} };
    this.#server = Deno.serve(options, (request) => this.#answer(request));
    this.url = `http://127.0.0.1:${this.#server.addr.port}/${this.#token}/`;
  }

  /**
   * Starts a server.
   *
   * @param watch What the pages show.
   * @param port Where to listen on this machine; 0: where there is room.
   * @throws {BundleError} When the page cannot be made.
   * @throws {Deno.errors.AddrInUse} When the port is taken.
   */
  static async start(watch: Watch, port = 0): Promise<PageServer> {
    const read = (name: string) => Deno.readTextFile(new URL(`page/${name}`, import.meta.url));
    const [script, html, style, icon] = await Promise.all([
      bundlePage(),
      read("page.html"),
      read("page.css"),
      read("icon.svg"),
    ]);
    const files = new Map([
      ["/", { type: "text/html; charset=utf-8", text: html }],
      ["/page.js", { type: "text/javascript; charset=utf-8", text: script }],
      ["/icon.svg", { type: "image/svg+xml", text: icon }],
      ["/page.css", { type: "text/css; charset=utf-8", text: style }],
    ]);
    return new PageServer(watch, files, port);
  }

  /** Ends all connections and stops listening. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.close(1001, "the inspector ends");
    await this.#server.shutdown();
  }

  #answer(request: Request): Response {
    const admitted = admit(request, this.#server.addr.port, this.#token);
    if ("refused" in admitted) return refusal(403, `Refused: ${admitted.refused}`);
    if (request.method !== "GET") return refusal(405, "Only GET is known here");
    if (admitted.path === "/live") return this.#connect(request);
    const file = this.#files.get(admitted.path);
    if (file === undefined) return refusal(404, "There is no such thing here");
    return new Response(file.text, { headers: { ...HEADERS, "content-type": file.type } });
  }

  #connect(request: Request): Response {
    // A browser says which page asks; who is no browser need not, and knows the token.
    if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
      return refusal(426, "This is a WebSocket");
    }
    const { socket, response } = Deno.upgradeWebSocket(request);
    const viewer = new Viewer(socket);
    socket.onopen = () => {
      this.#sockets.add(socket);
      this.#watch.join(viewer);
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string" && data.length <= MAX_MESSAGE) viewer.hear(data);
    };
    socket.onclose = () => {
      this.#sockets.delete(socket);
      this.#watch.leave(viewer);
    };
    return response;
  }
}

function refusal(status: number, text: string): Response {
  return new Response(`${text}.\n`, {
    status,
    headers: { ...HEADERS, "content-type": "text/plain; charset=utf-8" },
  });
}
