import { assertEquals, assertMatch } from "@std/assert";
import { RECORDING, ServedPage } from "./web_test_case.ts";

/** Asks as somebody who may say anything, which `fetch` may not; the answer up to the end of its headers. */
async function ask(url: string, path: string, headers: Record<string, string>): Promise<string> {
  const { hostname, port } = new URL(url);
  using connection = await Deno.connect({ hostname, port: Number(port) });
  const lines = Object.entries({ connection: "close", ...headers }).map(([name, value]) =>
    `${name}: ${value}\r\n`
  );
  await connection.write(new TextEncoder().encode(`GET ${path} HTTP/1.1\r\n${lines.join("")}\r\n`));
  let answer = "";
  const buffer = new Uint8Array(4096);
  // A connection that might have become a WebSocket stays open.
  while (!answer.includes("\r\n\r\n")) {
    const count = await connection.read(buffer);
    if (count === null) break;
    answer += new TextDecoder().decode(buffer.subarray(0, count));
  }
  return answer;
}

/** The status of an answer. */
function statusOf(answer: string): number {
  return Number(answer.split(" ")[1]);
}

Deno.test("page server answers only who knows the token, under its own names, to its own page", async () => {
  await using server = await ServedPage.start(RECORDING);
  const { host, port, pathname } = new URL(server.url);
  const status = async (path: string, headers: Record<string, string>) => {
    return statusOf(await ask(server.url, path, headers));
  };
  assertEquals(await status(pathname, { host }), 200);
  assertEquals(await status(pathname, { host: `localhost:${port}` }), 200);
  assertEquals(await status("/", { host }), 403);
  assertEquals(await status("/page.js", { host }), 403);
  assertEquals(await status(pathname.slice(0, -2) + "/", { host }), 403);
  assertEquals(await status(pathname, { host: `rebound.example:${port}` }), 403);
  assertEquals(await status(pathname, { host: "127.0.0.1" }), 403);
  assertEquals(await status(pathname, { host, origin: "https://evil.example" }), 403);
  assertEquals(await status(`${pathname}live`, { host, origin: "null" }), 403);
  const upgrade = {
    connection: "Upgrade",
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
  };
  assertEquals(await status(`${pathname}live`, { host, ...upgrade, origin: "https://evil.example" }), 403);
  assertEquals(await status("/live", { host, ...upgrade, origin: `http://${host}` }), 403);
  assertEquals(await status(`${pathname}../etc/passwd`, { host }), 403);
  assertEquals(await status(`${pathname}page.tsx`, { host }), 404);
});

Deno.test("page server forbids the page everything that does not come from it", async () => {
  await using server = await ServedPage.start(RECORDING);
  const { host, pathname } = new URL(server.url);
  const answer = await ask(server.url, pathname, { host });
  assertMatch(answer, /content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'/i);
  assertMatch(answer, /referrer-policy: no-referrer/i);
  assertMatch(answer, /cache-control: no-store/i);
  assertEquals(/access-control-allow-origin/i.test(answer), false);
});

Deno.test("page server outlives a page that says what ours does not", async () => {
  await using server = await ServedPage.start(RECORDING);
  const url = `${server.url.replace("http", "ws")}live`;
  const look = { space: 3, from: 0, cellBytes: 4096, cells: 16, gma: 0, open: ["0"], isPaused: false };
  const hostile = [
    "",
    "{",
    "null",
    '{"ask":"look"}',
    '{"ask":"look","look":null}',
    JSON.stringify({
      ask: "look",
      look: { ...look, cells: 1e300, cellBytes: -1, from: "x", gma: 1e99, space: {} },
    }),
    JSON.stringify({ ask: "look", look: { ...look, open: Array(5000).fill("0/0/0") } }),
    JSON.stringify({
      ask: "look",
      look: { ...look, space: { valueOf: 1, toString: 1 }, open: [{ toString: 1 }] },
    }),
    JSON.stringify({ ask: "look", look: { ...look, space: 999, gma: 2 ** 48, from: 2 ** 48, cells: 4096 } }),
    '{"ask":"find","n":1,"after":0,"isForward":true}',
    '{"ask":"hover","n":1,"from":0,"bytes":281474976710656}',
    '{"ask":"hover","n":"n","from":null,"bytes":-5}',
    '{"ask":"find","n":1,"after":-1}',
  ];
  const socket = new WebSocket(url);
  await new Promise((resolve) => socket.onopen = resolve);
  for (const text of hostile) socket.send(text);
  const walked = new Promise<string>((resolve) => {
    socket.onmessage = ({ data }) => {
      if (data.includes('"say":"walk"') && data.includes("0x1e18000")) resolve(data);
    };
  });
  socket.send(JSON.stringify({ ask: "look", look }));
  await walked;
  const closed = new Promise((resolve) => socket.onclose = resolve);
  socket.close();
  await closed;
});
