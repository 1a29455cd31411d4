import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Client, ClientOptions } from "../../protocol/client.ts";
import { encode } from "../../protocol/codec.ts";
import { connect } from "../../protocol/connect.ts";
import { ConnectionError } from "../../protocol/errors.ts";
import { type Libc, loadLibc } from "../../src/platform/libc.ts";
import { adoptListening, listenByLibc, type ListeningSocket } from "../../src/server/fast_listener.ts";
import { ListenError } from "../../src/server/socket_file.ts";
import type { FastLoopOrder } from "./fast_loop_worker.ts";
import { messagesIn } from "./protocol_peer.ts";
import { readAll, scratchFolder, writeAll } from "./protocol_socket.ts";
import { concat } from "./protocol_wire.ts";

const HELLO = encode([0, 0, "hello", [{ protocol: 1, role: "vmm" }]]);
const OBSERVE = encode([0, 0, "hello", [{ protocol: 1, role: "observer" }]]);

const libc: Libc = loadLibc();

/** How the thread ended: peers that it thinks are there still, and how many `state` calls it carried out. */
interface End {
  readonly peers: number;
  readonly states: number;
}

/**
 * A fake device behind a fast loop in a thread of its own: `stats` tells who is there, `state` takes 4 ms, `tree` sends the VMM an
 * `irq`, `reset` sends it more than it is allowed to leave unread, `page_wrote` has a bug.
 */
class FastDevice implements AsyncDisposable {
  readonly path: string;
  readonly #folder: { readonly path: string } & Disposable;
  readonly #socket: ListeningSocket;
  readonly #worker: Worker;
  readonly #wake: number;
  readonly #stop = new Int32Array(new SharedArrayBuffer(4));
  readonly #ended: Promise<End>;
  #isStopped = false;

  private constructor(
    folder: { readonly path: string } & Disposable,
    socket: ListeningSocket,
    options: object,
  ) {
    this.#folder = folder;
    this.#socket = socket;
    this.path = socket.name;
    this.#wake = libc.eventfd();
    this.#worker = new Worker(new URL("./fast_loop_worker.ts", import.meta.url).href, { type: "module" });
    this.#ended = new Promise((resolve, reject) => {
      this.#worker.onmessage = ({ data }: MessageEvent<End>) => resolve(data);
      this.#worker.onerror = (event) => (event.preventDefault(), reject(new Error(event.message)));
    });
    this.#worker.postMessage(
      { fd: socket.fd, wake: this.#wake, stop: this.#stop, options } satisfies FastLoopOrder,
    );
  }

  static async start(options: FastLoopOrder["options"] = {}): Promise<FastDevice> {
    const folder = scratchFolder();
    return new FastDevice(folder, await listenByLibc(libc, `${folder.path}/s`), options);
  }

  connect(options: ClientOptions = {}): Promise<Client> {
    return connect(this.path, options);
  }

  dial(): Promise<Deno.UnixConn> {
    return Deno.connect({ transport: "unix", path: this.path });
  }

  async stop(): Promise<End> {
    Atomics.store(this.#stop, 0, 1);
    libc.signalEvent(this.#wake);
    const end = await this.#ended;
    if (!this.#isStopped) {
      this.#isStopped = true;
      this.#worker.terminate();
      libc.close(this.#wake);
      this.#socket.close();
    }
    return end;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.#folder[Symbol.dispose]();
  }
}

/** Waits until something is so. */
async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  const start = performance.now();
  while (!await isSo()) {
    assert(performance.now() - start < 10_000, "it never came");
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** What `stats` tells. */
async function stat(client: Client, name: string): Promise<number> {
  return (await client.call("stats"))[name]!;
}

/** Calls of one method in one piece. */
function pipeline(method: string, count: number): Uint8Array<ArrayBuffer> {
  return concat(...Array.from({ length: count }, (_, id) => encode([0, id, method, []])));
}

Deno.test("FastLoop drives a VMM and observers at once", async () => {
  await using device = await FastDevice.start();
  await using vmm = await device.connect({ role: "vmm" });
  await using first = await device.connect();
  await using second = await device.connect();
  const answers = await Promise.all([first, second, vmm].map((client) => stat(client, "peer")));
  assertEquals(answers, [2, 3, 1]);
});

Deno.test("FastLoop carries out posted writes before the call that follows", async () => {
  await using device = await FastDevice.start();
  await using vmm = await device.connect({ role: "vmm" });
  for (let i = 0; i <= 50_000; i++) await vmm.notify("mmio_write", 0, 8, 8, i);
  assertEquals(await vmm.call("mmio_read", 0, 8, 8), 50_000);
});

Deno.test("FastLoop takes and gives messages larger than its buffers", async () => {
  await using device = await FastDevice.start();
  await using vmm = await device.connect({ role: "vmm" });
  const sizes = [70_000, 300_000, 2_000_000];
  for (const size of sizes) {
    assertEquals(await vmm.call("mem_write", 0, new Uint8Array(size)), 0);
    assertEquals((await vmm.call("mem_read", 0, size)).length, size);
  }
});

Deno.test("FastLoop frees the VMM's place when it goes without a word", async () => {
  await using device = await FastDevice.start();
  await using observer = await device.connect();
  const conn = await device.dial();
  await writeAll(conn, HELLO);
  await until(async () => await stat(observer, "vmm") === 1);
  conn.close();
  await until(async () => await stat(observer, "vmm") === 0);
  await using vmm = await device.connect({ role: "vmm" });
  assertEquals(vmm.hello.role, "vmm");
});

Deno.test("FastLoop answers what was sent before the peer stopped sending", async () => {
  await using device = await FastDevice.start();
  using conn = await device.dial();
  await writeAll(conn, concat(HELLO, encode([0, 1, "stats", []]), pipeline("state", 20)));
  await conn.closeWrite();
  const answers = messagesIn(await readAll(conn)) as unknown[][];
  assertEquals(answers.length, 22);
});

Deno.test("FastLoop sends what one session's call makes for another", async () => {
  await using device = await FastDevice.start();
  await using vmm = await device.connect({ role: "vmm" });
  await using observer = await device.connect();
  const vectors: number[] = [];
  vmm.on("irq", (vector) => vectors.push(vector));
  await observer.call("tree", 0);
  await until(() => vectors.length === 1);
  assertEquals(vectors, [5]);
});

Deno.test("FastLoop keeps a peer that does not read from costing memory or others' time", async () => {
  await using device = await FastDevice.start();
  using slow = await device.dial();
  await writeAll(slow, HELLO);
  const flood = concat(...Array.from({ length: 200 }, () => encode([0, 1, "mem_read", [0, 100_000]])));
  let sent = 0;
  const flooding = (async () => {
    for (let i = 0; i < 1000; i++) {
      await writeAll(slow, flood);
      sent++;
    }
  })().catch(() => {});
  await using observer = await device.connect();
  for (let i = 0; i < 100; i++) await observer.call("stats");
  assert(sent < 1000, "the flood was taken in whole");
  const start = performance.now();
  await device.stop();
  assert(performance.now() - start < 1500, "a deaf peer held up the end");
  await flooding;
});

Deno.test("FastLoop hangs up on a VMM that does not read its notifications", async () => {
  await using device = await FastDevice.start();
  using deaf = await device.dial();
  await writeAll(deaf, concat(HELLO, encode([2, "reset", []])));
  await using observer = await device.connect();
  await until(async () => await stat(observer, "vmm") === 0);
  await using vmm = await device.connect({ role: "vmm" });
  assertEquals(vmm.hello.role, "vmm");
});

Deno.test("FastLoop refuses connections above the cap and takes the next when one has gone", async () => {
  await using device = await FastDevice.start({ maxConnections: 2 });
  const first = await device.connect();
  await using second = await device.connect();
  using refused = await device.dial();
  const [[type, id, error]] = messagesIn(await readAll(refused)) as [[1, null, { code: string }]];
  assertEquals([type, id, error.code], [1, null, "EBUSY"]);
  await first.close();
  await until(async () => await stat(second, "peers") === 1);
  await using third = await device.connect();
  assertEquals(third.hello.role, "observer");
});

Deno.test("FastLoop stops within a second, forgets every peer and removes the socket", async () => {
  await using device = await FastDevice.start();
  await using vmm = await device.connect({ role: "vmm" });
  using deaf = await device.dial();
  await writeAll(deaf, OBSERVE);
  await until(async () => await stat(vmm, "peers") === 2);
  await writeAll(deaf, concat(...Array.from({ length: 50 }, () => encode([0, 1, "stats", []]))));
  const start = performance.now();
  const { peers } = await device.stop();
  assert(performance.now() - start < 1000);
  assertEquals(peers, 0);
  await assertRejects(() => vmm.call("stats"), ConnectionError);
  await assertRejects(() => device.dial(), Deno.errors.NotFound);
});

Deno.test("FastLoop answers the VMM, and stops, in the middle of others' pipelines", async () => {
  await using device = await FastDevice.start();
  await using vmm = await device.connect({ role: "vmm" });
  const greedy = await Promise.all([device.dial(), device.dial(), device.dial()]);
  for (const conn of greedy) await writeAll(conn, concat(OBSERVE, pipeline("state", 1000)));
  await until(async () => await stat(vmm, "states") > 0);
  let longest = 0;
  for (let i = 0; i < 20; i++) {
    const start = performance.now();
    await vmm.call("mmio_read", 0, 8, 8);
    longest = Math.max(longest, performance.now() - start);
  }
  assert(longest < 100, `${longest} ms`);
  const start = performance.now();
  const { states } = await device.stop();
  assert(performance.now() - start < 1000, `${performance.now() - start} ms`);
  assert(states < 1500, `${states} of 3000 calls were carried out`);
  for (const conn of greedy) conn.close();
});

Deno.test("FastLoop gives everyone who has much to do a turn, and answers everything", async () => {
  await using device = await FastDevice.start();
  const conns = await Promise.all([device.dial(), device.dial(), device.dial()]);
  for (const conn of conns) await writeAll(conn, concat(OBSERVE, pipeline("state", 40)));
  for (const conn of conns) await conn.closeWrite();
  const ends: number[] = [];
  const start = performance.now();
  await Promise.all(conns.map(async (conn) => {
    const answers = messagesIn(await readAll(conn)) as number[][];
    assertEquals(answers.map(([, id]) => id), [0, ...Array(40).keys()]);
    ends.push(performance.now() - start);
    conn.close();
  }));
  // In turns all end at about the same time; one after the other the first would end after a third of it.
  assert(ends[0]! > 0.6 * ends[2]!, `${ends}`);
});

Deno.test("FastLoop closes connections that say no hello, and no others", async () => {
  await using device = await FastDevice.start({ maxConnections: 3, helloGrace: 50 });
  await using vmm = await device.connect({ role: "vmm" });
  using silent = await device.dial();
  using refused = await device.dial();
  await writeAll(refused, HELLO);
  assertEquals((await readAll(silent)).length, 0);
  assertEquals(messagesIn(await readAll(refused)).length, 1);
  await using observer = await device.connect();
  await new Promise((resolve) => setTimeout(resolve, 80));
  assertEquals([await vmm.call("mmio_read", 0, 8, 8), observer.isClosed], [0, false]);
});

Deno.test("FastLoop frees the place of a peer that breaks the stream and never reads", async () => {
  await using device = await FastDevice.start();
  await using observer = await device.connect();
  using deaf = await device.dial();
  const answers = Array.from({ length: 10 }, () => encode([0, 1, "mem_read", [0, 20_000]]));
  await writeAll(deaf, concat(HELLO, ...answers, Uint8Array.of(0xc1)));
  await until(async () => await stat(observer, "vmm") === 0 && await stat(observer, "peers") === 1);
});

Deno.test("FastLoop goes on when a session's service has a bug", async () => {
  await using device = await FastDevice.start();
  await using vmm = await device.connect({ role: "vmm" });
  await using observer = await device.connect();
  await assertRejects(() => vmm.call("page_wrote", 0, 8), Error, "internal error");
  await until(async () => await stat(observer, "vmm") === 0);
});

Deno.test("listenByLibc() refuses a socket that is in use, and takes a stale one over", async () => {
  using folder = scratchFolder();
  const path = `${folder.path}/s`;
  const first = await listenByLibc(libc, path, { mode: 0o640 });
  assertEquals(Deno.statSync(path).mode! & 0o777, 0o640);
  await assertRejects(() => listenByLibc(libc, path), ListenError, "in use");
  libc.close(first.fd);
  const second = await listenByLibc(libc, path);
  second.close();
  second.close();
  assertEquals([...Deno.readDirSync(folder.path)], []);
  await assertRejects(() => listenByLibc(libc, `${folder.path}/missing/s`), ListenError, "No such file");
});

Deno.test("adoptListening() takes a listening socket and nothing else", async () => {
  using folder = scratchFolder();
  const { fd } = await listenByLibc(libc, `${folder.path}/s`);
  const adopted = adoptListening(libc, fd);
  assertEquals(adopted.name, `descriptor ${fd}`);
  adopted.close();
  const event = libc.eventfd();
  const unbound = libc.unixSocket();
  for (const each of [event, unbound, fd, -1, 1.5]) {
    let message = "";
    try {
      adoptListening(libc, each);
    } catch (error) {
      message = error instanceof ListenError ? error.message : "";
    }
    assertEquals(message.includes("no Unix stream socket that listens"), true, `${each}`);
  }
  libc.close(event);
  libc.close(unbound);
});
