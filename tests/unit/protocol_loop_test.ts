import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Client, ClientOptions } from "../../protocol/client.ts";
import { encode } from "../../protocol/codec.ts";
import { OUTPUT_LIMIT } from "../../protocol/limits.ts";
import type { Connection } from "../../src/server/listener.ts";
import { ListenError } from "../../src/server/socket_file.ts";
import { serve } from "../../src/server/portable_loop.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";
import { TURN_TIME, TurnQueue } from "../../src/server/turns.ts";
import { type LoopDevice, type LoopEnd, type LoopOptions, testLoop } from "./loop_habits.ts";
import { FakeService } from "./protocol_fake.ts";
import { messagesIn } from "./protocol_peer.ts";
import { FakeDevice, readAll, writeAll } from "./protocol_socket.ts";
import { concat } from "./protocol_wire.ts";
import { ScriptedService, work } from "./scripted_service.ts";

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

/** Calls of one method in one piece. */
function pipeline(method: string, count: number): Uint8Array<ArrayBuffer> {
  return concat(...Array.from({ length: count }, (_, id) => encode([0, id, method, []])));
}

/** A scripted device behind a portable loop. */
class ScriptedDevice implements LoopDevice {
  readonly #service: ScriptedService;
  readonly #device: FakeDevice;

  private constructor(service: ScriptedService, device: FakeDevice) {
    this.#service = service;
    this.#device = device;
  }

  static async start(options: LoopOptions = {}): Promise<ScriptedDevice> {
    const service = new ScriptedService();
    return new ScriptedDevice(service, await FakeDevice.start(options, service));
  }

  connect(options?: ClientOptions): Promise<Client> {
    return this.#device.connect(options);
  }

  dial(): Promise<Deno.UnixConn> {
    return this.#device.dial();
  }

  async stop(): Promise<LoopEnd> {
    await this.#device.stop();
    return this.#service.end;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#device[Symbol.asyncDispose]();
  }
}

testLoop("serve()", (options) => ScriptedDevice.start(options));

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
