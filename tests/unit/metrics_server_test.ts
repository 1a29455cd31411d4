import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { ScrapeServer } from "../../src/metrics/scrape_server.ts";
import { listenTcp } from "../../src/metrics/tcp_listener.ts";
import { ask, dial } from "./metrics_http.ts";

/** A server of a page that says how often it was made. */
class Served implements AsyncDisposable {
  readonly target: string;
  pages = 0;
  readonly #server: ScrapeServer;

  constructor(requestGrace?: number) {
    const listener = listenTcp({ hostname: "127.0.0.1", port: 0 });
    this.target = listener.name;
    const page = () =>
      Promise.resolve({ status: 200, type: "text/x", body: `page ${++this.pages} ✓\n` } as const);
    this.#server = new ScrapeServer(listener, page, requestGrace);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
  }
}

Deno.test("ScrapeServer answers GET /metrics with the page, and closes", async () => {
  await using served = new Served();
  const { status, headers, body } = await ask(served.target);
  assertEquals([status, body], [200, "page 1 ✓\n"]);
  const { length } = new TextEncoder().encode(body);
  assertEquals([...headers], [["Content-Type", "text/x"], ["Content-Length", String(length)], [
    "Connection",
    "close",
  ]]);
  assertEquals((await ask(served.target)).body, "page 2 ✓\n");
});

Deno.test("ScrapeServer answers HEAD without the page", async () => {
  await using served = new Served();
  const { status, headers, body } = await ask(served.target, "HEAD /metrics HTTP/1.1\r\n\r\n");
  assertEquals([status, headers.get("Content-Length"), body], [200, "11", ""]);
});

for (
  const [what, request, expected] of [
    ["a query", "GET /metrics?name=x HTTP/1.1\r\n\r\n", 200],
    ["a whole URL", "GET http://vgtt/metrics HTTP/1.1\r\nHost: vgtt\r\n\r\n", 200],
    ["lines without CR", "GET /metrics HTTP/1.0\n\n", 200],
    ["another page", "GET /metrics/ HTTP/1.1\r\n\r\n", 404],
    ["the root", "GET / HTTP/1.1\r\n\r\n", 404],
    ["another page by another method", "DELETE / HTTP/1.1\r\n\r\n", 404],
    ["another method", "POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405],
    ["a body", `PUT /metrics HTTP/1.1\r\nContent-Length: 5000\r\n\r\n${"x".repeat(5000)}`, 405],
    ["no HTTP", "hello\r\n\r\n", 400],
    ["another version", "GET /metrics HTTP/2\r\n\r\n", 400],
    ["MessagePack", "\x94\0\0\xa5hello\x91\x80\r\n\r\n", 400],
    ["endless headers", `GET /metrics HTTP/1.1\r\n${"X: y\r\n".repeat(3000)}`, 431],
  ] as const
) {
  Deno.test(`ScrapeServer answers ${what} with ${expected}`, async () => {
    await using served = new Served();
    const { status, headers } = await ask(served.target, request);
    assertEquals([status, served.pages], [expected, expected === 200 ? 1 : 0]);
    assertEquals(headers.get("Allow"), expected === 405 ? "GET, HEAD" : undefined);
    assertStringIncludes((await ask(served.target)).body, "page");
  });
}

/** How long a connection is silent until it ends, milliseconds. */
async function timeUntilEnd(conn: Deno.Conn): Promise<number> {
  const begin = performance.now();
  assertEquals(await conn.read(new Uint8Array(16)), null);
  return performance.now() - begin;
}

Deno.test("ScrapeServer waits for a request for some time only", async () => {
  await using served = new Served(100);
  using conn = await dial(served.target);
  await conn.write(new TextEncoder().encode("GET /met"));
  const ms = await timeUntilEnd(conn);
  assert(ms > 50 && ms < 2000, `it took ${ms} ms`);
});

Deno.test("ScrapeServer has 16 connections at once, and room again when one has gone", async () => {
  await using served = new Served();
  const idle = await Promise.all(Array.from({ length: 16 }, () => dial(served.target)));
  using refused = await dial(served.target);
  const ms = await timeUntilEnd(refused);
  assert(ms < 1000, `it took ${ms} ms`);
  for (const conn of idle) conn.close();
  await new Promise((resolve) => setTimeout(resolve, 50));
  assertEquals((await ask(served.target)).status, 200);
});

Deno.test("ScrapeServer ends with requests under way", async () => {
  const served = new Served();
  using conn = await dial(served.target);
  await conn.write(new TextEncoder().encode("GET /met"));
  await served[Symbol.asyncDispose]();
  await served[Symbol.asyncDispose]();
  assert(await timeUntilEnd(conn) < 1000);
});
