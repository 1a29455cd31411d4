// What every device loop does, whatever it is made of: tests for both of them.

import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Client, ClientOptions } from "../../protocol/client.ts";
import { encode } from "../../protocol/codec.ts";
import { ConnectionError } from "../../protocol/errors.ts";
import { messagesIn } from "./protocol_peer.ts";
import { readAll, writeAll } from "./protocol_socket.ts";
import { concat } from "./protocol_wire.ts";

/** Options that every loop has. */
export interface LoopOptions {
  readonly maxConnections?: number;
  readonly helloGrace?: number;
}

/** How a loop ended: peers that are there still, and `state` calls that were carried out. */
export interface LoopEnd {
  readonly peers: number;
  readonly states: number;
}

/** A device behind a loop, which does what `scripted_service.ts` says. */
export interface LoopDevice extends AsyncDisposable {
  /** A client of the device. */
  connect(options?: ClientOptions): Promise<Client>;
  /** A bare connection to the device. */
  dial(): Promise<Deno.UnixConn>;
  /** Stops as SIGTERM does. */
  stop(): Promise<LoopEnd>;
}

const HELLO = encode([0, 0, "hello", [{ protocol: 1, role: "vmm" }]]);
const OBSERVE = encode([0, 0, "hello", [{ protocol: 1, role: "observer" }]]);

/** Waits until something is so. */
async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  const begin = performance.now();
  while (!await isSo()) {
    assert(performance.now() - begin < 10_000, "it never came");
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

/** Registers the tests for one kind of loop. */
export function testLoop(name: string, start: (options?: LoopOptions) => Promise<LoopDevice>): void {
  Deno.test(`${name} drives a VMM and observers at once`, async () => {
    await using device = await start();
    await using vmm = await device.connect({ role: "vmm" });
    await using first = await device.connect();
    await using second = await device.connect();
    const answers = await Promise.all([first, second, vmm].map((client) => stat(client, "peer")));
    assertEquals(answers, [2, 3, 1]);
  });

  Deno.test(`${name} carries out posted writes before the call that follows`, async () => {
    await using device = await start();
    await using vmm = await device.connect({ role: "vmm" });
    for (let i = 0; i <= 50_000; i++) await vmm.notify("mmio_write", 0, 8, 8, i);
    assertEquals(await vmm.call("mmio_read", 0, 8, 8), 50_000);
  });

  Deno.test(`${name} takes and gives messages larger than its buffers`, async () => {
    await using device = await start();
    await using vmm = await device.connect({ role: "vmm" });
    const sizes = [70_000, 300_000, 2_000_000];
    for (const size of sizes) {
      assertEquals(await vmm.call("mem_write", 0, new Uint8Array(size)), 0);
      assertEquals((await vmm.call("mem_read", 0, size)).length, size);
    }
  });

  Deno.test(`${name} frees the VMM's place when it goes without a word`, async () => {
    await using device = await start();
    await using observer = await device.connect();
    const conn = await device.dial();
    await writeAll(conn, HELLO);
    await until(async () => await stat(observer, "vmm") === 1);
    conn.close();
    await until(async () => await stat(observer, "vmm") === 0);
    await using vmm = await device.connect({ role: "vmm" });
    assertEquals(vmm.hello.role, "vmm");
  });

  Deno.test(`${name} answers what was sent before the peer stopped sending`, async () => {
    await using device = await start();
    using conn = await device.dial();
    await writeAll(conn, concat(HELLO, encode([0, 1, "stats", []]), pipeline("state", 20)));
    await conn.closeWrite();
    const answers = messagesIn(await readAll(conn)) as unknown[][];
    assertEquals(answers.length, 22);
  });

  Deno.test(`${name} sends what one session's call makes for another`, async () => {
    await using device = await start();
    await using vmm = await device.connect({ role: "vmm" });
    await using observer = await device.connect();
    const vectors: number[] = [];
    vmm.on("irq", (vector) => vectors.push(vector));
    await observer.call("tree", 0);
    await until(() => vectors.length === 1);
    assertEquals(vectors, [5]);
  });

  Deno.test(`${name} keeps a peer that does not read from costing memory or others' time`, async () => {
    await using device = await start();
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
    const begin = performance.now();
    await device.stop();
    assert(performance.now() - begin < 4000, "a deaf peer held up the end");
    await flooding;
  });

  Deno.test(`${name} hangs up on a VMM that does not read its notifications`, async () => {
    await using device = await start();
    using deaf = await device.dial();
    await writeAll(deaf, concat(HELLO, encode([0, 1, "tree", [1]])));
    await using observer = await device.connect();
    await until(async () => await stat(observer, "vmm") === 0);
    await using vmm = await device.connect({ role: "vmm" });
    assertEquals(vmm.hello.role, "vmm");
  });

  Deno.test(`${name} hangs up on such a VMM also when it has not read its answers`, async () => {
    await using device = await start();
    using deaf = await device.dial();
    const answers = Array.from({ length: 10 }, () => encode([0, 1, "mem_read", [0, 100_000]]));
    await writeAll(deaf, concat(HELLO, ...answers));
    await using observer = await device.connect();
    await until(async () => await stat(observer, "vmm") === 1);
    await observer.call("tree", 1);
    await until(async () => await stat(observer, "vmm") === 0);
  });

  Deno.test(`${name} gives a peer that stopped sending time to read, whenever it said hello`, async () => {
    await using device = await start({ helloGrace: 50 });
    using conn = await device.dial();
    const answers = Array.from({ length: 10 }, () => encode([0, 1, "mem_read", [0, 100_000]]));
    await writeAll(conn, concat(HELLO, ...answers));
    await conn.closeWrite();
    await new Promise((resolve) => setTimeout(resolve, 200));
    assertEquals(messagesIn(await readAll(conn)).length, 11);
  });

  Deno.test(`${name} refuses connections above the cap and takes the next when one has gone`, async () => {
    await using device = await start({ maxConnections: 2 });
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

  Deno.test(`${name} stops soon, forgets every peer and removes the socket`, async () => {
    await using device = await start();
    await using vmm = await device.connect({ role: "vmm" });
    using deaf = await device.dial();
    await writeAll(deaf, OBSERVE);
    await until(async () => await stat(vmm, "peers") === 2);
    await writeAll(deaf, concat(...Array.from({ length: 50 }, () => encode([0, 1, "stats", []]))));
    const begin = performance.now();
    const { peers } = await device.stop();
    assert(performance.now() - begin < 4000);
    assertEquals(peers, 0);
    await assertRejects(() => vmm.call("stats"), ConnectionError);
    await assertRejects(() => device.dial(), Deno.errors.NotFound);
  });

  Deno.test(`${name} answers the VMM, and stops, in the middle of others' pipelines`, async () => {
    await using device = await start();
    await using vmm = await device.connect({ role: "vmm" });
    const greedy = await Promise.all([device.dial(), device.dial(), device.dial()]);
    for (const conn of greedy) await writeAll(conn, concat(OBSERVE, pipeline("state", 1000)));
    await until(async () => await stat(vmm, "states") > 0);
    for (let i = 0; i < 20; i++) await vmm.call("mmio_read", 0, 8, 8);
    assert(await stat(vmm, "states") < 1500, "the VMM waited for the others");
    const begin = performance.now();
    const { states } = await device.stop();
    assert(performance.now() - begin < 4000, `${performance.now() - begin} ms`);
    assert(states < 1500, `${states} of 3000 calls were carried out`);
    for (const conn of greedy) conn.close();
  });

  Deno.test(`${name} gives everyone who has much to do a turn, and answers everything`, async () => {
    await using device = await start();
    const conns = await Promise.all([device.dial(), device.dial(), device.dial()]);
    for (const conn of conns) await writeAll(conn, concat(OBSERVE, pipeline("state", 40)));
    for (const conn of conns) await conn.closeWrite();
    const ends: number[] = [];
    const begin = performance.now();
    await Promise.all(conns.map(async (conn) => {
      const answers = messagesIn(await readAll(conn)) as number[][];
      assertEquals(answers.map(([, id]) => id), [0, ...Array(40).keys()]);
      ends.push(performance.now() - begin);
      conn.close();
    }));
    // In turns all end at about the same time; one after the other the first would end after a third of it.
    assert(ends[0]! > 0.6 * ends[2]!, `${ends}`);
  });

  Deno.test(`${name} closes connections that say no hello, and no others`, async () => {
    await using device = await start({ maxConnections: 3, helloGrace: 50 });
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

  Deno.test(`${name} frees the place of a peer that breaks the stream and never reads`, async () => {
    await using device = await start();
    await using observer = await device.connect();
    using deaf = await device.dial();
    const answers = Array.from({ length: 10 }, () => encode([0, 1, "mem_read", [0, 20_000]]));
    await writeAll(deaf, concat(HELLO, ...answers, Uint8Array.of(0xc1)));
    await until(async () => await stat(observer, "vmm") === 0 && await stat(observer, "peers") === 1);
  });

  Deno.test(`${name} goes on when a session's service has a bug`, async () => {
    await using device = await start();
    await using vmm = await device.connect({ role: "vmm" });
    await using observer = await device.connect();
    await assertRejects(() => vmm.call("page_wrote", 0, 8), Error, "internal error");
    await until(async () => await stat(observer, "vmm") === 0);
  });
}
