import { assert, assertEquals, assertRejects } from "@std/assert";
import { encode } from "../../protocol/codec.ts";
import { ConnectionError } from "../../protocol/errors.ts";
import { OUTPUT_LIMIT } from "../../protocol/limits.ts";
import type { Connection } from "../../src/server/listener.ts";
import { ListenError } from "../../src/server/socket_file.ts";
import { serve } from "../../src/server/portable_loop.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";
import { TURN_TIME, TurnQueue } from "../../src/server/turns.ts";
import { FakeService } from "./protocol_fake.ts";
import { messagesIn } from "./protocol_peer.ts";
import { FakeDevice, readAll, writeAll } from "./protocol_socket.ts";
import { concat } from "./protocol_wire.ts";

const HELLO = encode([0, 0, "hello", [{ protocol: 1, role: "vmm" }]]);
const OBSERVE = encode([0, 0, "hello", [{ protocol: 1, role: "observer" }]]);

/** Waits until something is so. */
async function until(isSo: () => boolean): Promise<void> {
  const start = performance.now();
  while (!isSo()) {
    assert(performance.now() - start < 5000, "it never came");
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

Deno.test("serve() drives a VMM and observers at once", async () => {
  await using device = await FakeDevice.start();
  await using vmm = await device.connect({ role: "vmm" });
  await using first = await device.connect();
  await using second = await device.connect();
  device.service.overrides.set("stats", (peer) => ({ peer: peer.id }));
  const answers = await Promise.all([first.call("stats"), second.call("stats"), vmm.call("stats")]);
  assertEquals(answers, [{ peer: 2 }, { peer: 3 }, { peer: 1 }]);
});

Deno.test("serve() carries out posted writes before the call that follows", async () => {
  await using device = await FakeDevice.start();
  await using vmm = await device.connect({ role: "vmm" });
  device.service.records = false;
  for (let i = 0; i <= 50_000; i++) await vmm.notify("mmio_write", 0, 8, 8, i);
  assertEquals(await vmm.call("mmio_read", 0, 8, 8), 50_000);
});

Deno.test("serve() frees the VMM's place when it goes without a word", async () => {
  await using device = await FakeDevice.start();
  const conn = await device.dial();
  await writeAll(conn, HELLO);
  await until(() => device.service.vmm !== null);
  conn.close();
  await until(() => device.service.vmm === null);
  await using vmm = await device.connect({ role: "vmm" });
  assertEquals(vmm.hello.role, "vmm");
});

Deno.test("serve() answers what was sent before the peer stopped sending", async () => {
  await using device = await FakeDevice.start();
  using conn = await device.dial();
  await writeAll(conn, concat(HELLO, encode([0, 1, "stats", []])));
  await conn.closeWrite();
  const answers = messagesIn(await readAll(conn)) as unknown[][];
  assertEquals(answers.map(([, id]) => id), [0, 1]);
});

Deno.test("serve() sends what one session's call makes for another, or a timer", async () => {
  await using device = await FakeDevice.start();
  await using vmm = await device.connect({ role: "vmm" });
  await using observer = await device.connect();
  const vectors: number[] = [];
  vmm.on("irq", (vector) => vectors.push(vector));
  device.service.overrides.set("stats", () => {
    device.service.vmm!.notify("irq", [5]);
    return {};
  });
  await observer.call("stats");
  await until(() => vectors.length === 1);
  device.service.vmm!.notify("irq", [6]);
  await until(() => vectors.length === 2);
  assertEquals(vectors, [5, 6]);
});

Deno.test("serve() keeps a peer that does not read from costing memory or others' time", async () => {
  await using device = await FakeDevice.start();
  device.service.records = false;
  using slow = await device.dial();
  await writeAll(slow, HELLO);
  const call = encode([0, 1, "mem_read", [0, 100_000]]);
  const flood = concat(...Array.from({ length: 200 }, () => call));
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
  await device.stop();
  await flooding;
});

Deno.test("serve() hangs up on a peer that does not read its notifications", async () => {
  await using device = await FakeDevice.start();
  using deaf = await device.dial();
  await writeAll(deaf, HELLO);
  await until(() => device.service.vmm !== null);
  while (device.service.vmm !== null) {
    for (let frame = 0; frame < 20_000; frame++) device.service.vmm?.notify("page_track", [frame, true]);
    await new Promise((resolve) => setTimeout(resolve));
  }
  const hungUp = async () => {
    for (;;) {
      await writeAll(deaf, encode([2, "reset", []]));
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  };
  await assertRejects(hungUp, Deno.errors.BrokenPipe);
});

Deno.test("serve() refuses connections above the cap and takes the next when one has gone", async () => {
  await using device = await FakeDevice.start({ maxConnections: 2 });
  const first = await device.connect();
  await using _second = await device.connect();
  using refused = await device.dial();
  const [[type, id, error]] = messagesIn(await readAll(refused)) as [[1, null, { code: string }]];
  assertEquals([type, id, error.code], [1, null, "EBUSY"]);
  await first.close();
  await until(() => device.service.peers.size === 1);
  await using third = await device.connect();
  assertEquals(third.hello.role, "observer");
});

Deno.test("serve() stops within a second, sends what it answered and removes the socket", async () => {
  await using device = await FakeDevice.start();
  await using vmm = await device.connect({ role: "vmm" });
  await using _idle = await device.connect();
  using deaf = await device.dial();
  await writeAll(deaf, concat(encode([0, 0, "hello", [{ protocol: 1, role: "observer" }]])));
  await until(() => device.service.peers.size === 3);
  const start = performance.now();
  await device.stop();
  assert(performance.now() - start < 1000);
  await assertRejects(() => vmm.call("stats"), ConnectionError);
  assertEquals(device.service.peers.size, 0);
  await assertRejects(() => device.dial(), Deno.errors.NotFound);
});

Deno.test("serve() stops within a second when a peer does not read", async () => {
  await using device = await FakeDevice.start();
  using deaf = await device.dial();
  await writeAll(
    deaf,
    concat(HELLO, ...Array.from({ length: 100 }, () => encode([0, 1, "mem_read", [0, 100_000]]))),
  );
  await until(() => device.service.calls.length > 2);
  const start = performance.now();
  await device.stop();
  assert(performance.now() - start < 1000);
});

/** Keeps the thread busy. */
function work(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

/** Calls of one method in one piece. */
function pipeline(method: string, count: number): Uint8Array<ArrayBuffer> {
  return concat(...Array.from({ length: count }, (_, id) => encode([0, id, method, []])));
}

Deno.test("serve() answers others, runs timers and stops in the middle of a peer's pipeline", async () => {
  // One read full of costly calls was handled in one go: minutes in which nobody else was served, nor SIGTERM.
  await using device = await FakeDevice.start();
  await using vmm = await device.connect({ role: "vmm" });
  device.service.overrides.set("state", () => (work(4), {}));
  using greedy = await device.dial();
  using other = await device.dial();
  for (const conn of [greedy, other]) await writeAll(conn, concat(OBSERVE, pipeline("state", 2000)));
  await until(() => device.service.calls.length > 0);
  for (let i = 0; i < 5; i++) {
    const start = performance.now();
    await vmm.call("mmio_read", 0, 8, 8);
    assert(performance.now() - start < 150, `${performance.now() - start} ms`);
  }
  const start = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 1));
  await device.stop();
  assert(performance.now() - start < 300, `${performance.now() - start} ms`);
  assert(device.service.calls.length < 1000);
});

Deno.test("serve() gives all who have much to do their turns, and answers everything", async () => {
  let time = 0;
  await using device = await FakeDevice.start({ now: () => time });
  const order: number[] = [];
  device.service.overrides.set("state", (peer) => {
    time += TURN_TIME;
    order.push(peer.id);
    return {};
  });
  const conns = await Promise.all([device.dial(), device.dial(), device.dial()]);
  for (const conn of conns) await writeAll(conn, concat(OBSERVE, pipeline("state", 50)));
  for (const conn of conns) await conn.closeWrite();
  for (const conn of conns) {
    const answers = messagesIn(await readAll(conn)) as number[][];
    assertEquals(answers.map(([, id]) => id), [0, ...Array(50).keys()]);
    conn.close();
  }
  // Nobody had two turns while the other two waited, once all three were in the queue, which is at their second.
  const from = Math.max(...[1, 2, 3].map((id) => order.indexOf(id, order.indexOf(id) + 1)));
  const to = Math.min(...[1, 2, 3].map((id) => order.lastIndexOf(id)));
  for (let i = from; i + 3 <= to; i++) assertEquals(new Set(order.slice(i, i + 3)).size, 3, `${order}`);
});

Deno.test("TurnQueue lets what else there is go first between any two turns", async () => {
  const queue = new TurnQueue();
  const order: string[] = [];
  const turns = [1, 2, 3].map(async (number) => {
    await queue.next();
    order.push(`turn ${number}`);
    if (number < 3) setTimeout(() => order.push("others"));
  });
  await Promise.all(turns);
  assertEquals(order, ["turn 1", "others", "turn 2", "others", "turn 3"]);
});

Deno.test("serve() runs timers while a peer floods it with posted writes", async () => {
  await using device = await FakeDevice.start();
  device.service.records = false;
  using conn = await device.dial();
  const writes = concat(
    HELLO,
    ...Array.from({ length: 4000 }, () => encode([2, "mmio_write", [0, 8, 8, 1]])),
  );
  let isDone = false;
  const flooding = (async () => {
    while (!isDone) await writeAll(conn, writes);
  })();
  let longest = 0;
  for (let i = 0; i < 50; i++) {
    const start = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 1));
    longest = Math.max(longest, performance.now() - start);
  }
  isDone = true;
  await flooding;
  assert(longest < 200, `${longest} ms`);
});

Deno.test("serve() frees the place of a peer whose call made too much output, though it never reads", async () => {
  await using device = await FakeDevice.start({ maxConnections: 1 });
  using deaf = await device.dial();
  device.service.overrides.set("reset", (peer) => {
    for (let i = 0; i < OUTPUT_LIMIT / 16; i++) peer.notify("page_track", [2 ** 33 + i, true]);
  });
  // Enough answers that a write is under way which never ends.
  const answers = Array.from({ length: 10 }, () => encode([0, 1, "mem_read", [0, 100_000]]));
  await writeAll(deaf, concat(HELLO, ...answers));
  await until(() => device.service.calls.length > 2);
  await writeAll(deaf, encode([0, 2, "reset", []]));
  device.service.overrides.get("reset")!(device.service.vmm!, []);
  await until(() => device.service.vmm === null);
  await using next = await device.connect({ role: "vmm" });
  assertEquals(next.hello.role, "vmm");
});

Deno.test("serve() frees the place of a peer that breaks the stream and never reads", async () => {
  await using device = await FakeDevice.start({ maxConnections: 1 });
  using deaf = await device.dial();
  const answers = Array.from({ length: 10 }, () => encode([0, 1, "mem_read", [0, 20_000]]));
  await writeAll(deaf, concat(HELLO, ...answers, Uint8Array.of(0xc1)));
  const start = performance.now();
  const again = async () => {
    for (;;) {
      assert(performance.now() - start < 5000, "its place was not freed");
      try {
        return await device.connect({ role: "vmm" });
      } catch (error) {
        assertEquals((error as { code?: string }).code, "EBUSY");
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  };
  await using next = await again();
  assertEquals(next.hello.role, "vmm");
});

Deno.test("serve() closes connections that say no hello, and no others", async () => {
  // 64 of them kept the VMM out for as long as they liked.
  await using device = await FakeDevice.start({ maxConnections: 3, helloGrace: 50 });
  await using vmm = await device.connect({ role: "vmm" });
  using silent = await device.dial();
  using refused = await device.dial();
  await writeAll(refused, HELLO); // there is a VMM: EBUSY
  assertEquals((await readAll(silent)).length, 0);
  assertEquals(messagesIn(await readAll(refused)).length, 1);
  await using observer = await device.connect();
  await new Promise((resolve) => setTimeout(resolve, 80));
  assertEquals([await vmm.call("mmio_read", 0, 8, 8), observer.isClosed], [0, false]);
});

Deno.test("serve() drops messages that wait when it stops, and answers none of them", async () => {
  await using device = await FakeDevice.start();
  using conn = await device.dial();
  device.service.overrides.set("state", () => (work(2), {}));
  await writeAll(conn, concat(OBSERVE, pipeline("state", 1000)));
  await until(() => device.service.calls.length > 0);
  const stopped = device.stop();
  const answers = messagesIn(await readAll(conn)).length - 1;
  await stopped;
  assertEquals(answers, device.service.calls.length);
  assert(answers < 1000);
});

Deno.test("serve() ends with the error of a listener that failed for good, after its connections", async () => {
  const gone = Promise.withResolvers<null>();
  const connection: Connection = {
    read: () => gone.promise,
    write: () => gone.promise.then(() => 0),
    close() {},
  };
  const answers: (() => Promise<Connection>)[] = [() => Promise.resolve(connection)];
  let closed = 0;
  const listener = {
    name: "fake",
    accept: () => answers.shift()?.() ?? Promise.reject(new ListenError("no descriptor is free")),
    close: () => void closed++,
  };
  const lines: string[] = [];
  const served = serve(listener, (id) => new RpcSession(new FakeService(), { id }), {
    log: (level, message, fields) => lines.push(`${level} ${message} ${fields?.error ?? ""}`),
  });
  const outcome = assertRejects(() => served, ListenError, "no descriptor is free");
  await until(() => closed === 1);
  assertEquals(lines.filter((line) => line.startsWith("debug dis")), []);
  gone.resolve(null);
  await outcome;
  assertEquals(lines.at(-1), "debug disconnected ");
  assert(
    lines.some((line) => line.startsWith("error cannot accept a connection ListenError: no descriptor")),
  );
});

Deno.test("serve() goes on when a session's service has a bug", async () => {
  await using device = await FakeDevice.start();
  await using vmm = await device.connect({ role: "vmm" });
  await using observer = await device.connect();
  device.service.overrides.set("reset", () => {
    throw new TypeError("bug");
  });
  await assertRejects(() => vmm.call("reset"), Error, "internal error");
  await until(() => device.service.vmm === null);
  assertEquals(Object.keys(await observer.call("stats")), ["calls"]);
});

Deno.test("serve() goes on when a connection or an accept fails", async () => {
  const stop = new AbortController();
  const ended = Promise.withResolvers<null>();
  const broken: Connection = {
    read: () => Promise.reject(new Error("broken")),
    write: () => Promise.reject(new Error("broken")),
    close() {},
  };
  const answers: (() => Promise<Connection | null>)[] = [
    () => Promise.resolve(broken),
    () => Promise.reject(new Error("too many open files")),
    () => Promise.resolve(broken),
  ];
  const listener = {
    name: "fake",
    accept: () => answers.shift()?.() ?? ended.promise,
    close() {
      ended.resolve(null);
      throw new ListenError("cannot remove the file");
    },
  };
  const lines: string[] = [];
  const service = new FakeService();
  const served = serve(listener, (id) => new RpcSession(service, { id }), {
    signal: stop.signal,
    log: (level, message) => lines.push(`${level} ${message}`),
  });
  await until(() => lines.filter((line) => line === "debug disconnected").length === 2);
  stop.abort();
  await served;
  assertEquals(lines.filter((line) => line.startsWith("error")), [
    "error cannot accept a connection",
    "error cannot close the listener",
  ]);
});

Deno.test("serve() returns at once when the signal was given before", async () => {
  const ended = Promise.withResolvers<null>();
  const listener = { name: "fake", accept: () => ended.promise, close: () => ended.resolve(null) };
  await serve(listener, () => {
    throw new Error("must not be called");
  }, { signal: AbortSignal.abort() });
});
