import { assert, assertEquals, assertRejects } from "@std/assert";
import { encode } from "../../protocol/codec.ts";
import { ConnectionError } from "../../protocol/errors.ts";
import { type Connection, ListenError } from "../../src/server/listener.ts";
import { serve } from "../../src/server/portable_loop.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";
import { FakeService } from "./protocol_fake.ts";
import { messagesIn } from "./protocol_peer.ts";
import { FakeDevice, readAll, writeAll } from "./protocol_socket.ts";
import { concat } from "./protocol_wire.ts";

const HELLO = encode([0, 0, "hello", [{ protocol: 1, role: "vmm" }]]);

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
