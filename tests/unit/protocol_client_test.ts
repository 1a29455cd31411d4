import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type ByteStream, Client } from "../../protocol/client.ts";
import { encode } from "../../protocol/codec.ts";
import { connect } from "../../protocol/connect.ts";
import { ConnectionError, RpcError } from "../../protocol/errors.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";
import { FakeService } from "./protocol_fake.ts";
import { messagesIn } from "./protocol_peer.ts";
import { concat } from "./protocol_wire.ts";

/** A stream whose other end is the test's. */
class FakeStream implements ByteStream {
  readonly written: Uint8Array[] = [];
  isClosed = false;
  /** Bytes taken by one write. */
  most = Infinity;
  /** Holds writes back while set. */
  gate: Promise<void> | null = null;
  onWrite: (bytes: Uint8Array) => void = () => {};
  readonly #incoming: Uint8Array[] = [];
  #isEnded = false;
  #wake: () => void = () => {};

  /** Lets the client read these bytes. */
  feed(...pieces: Uint8Array[]): void {
    this.#incoming.push(...pieces);
    this.#wake();
  }

  /** Lets the client read the end of the stream. */
  end(): void {
    this.#isEnded = true;
    this.#wake();
  }

  async read(into: Uint8Array): Promise<number | null> {
    while (this.#incoming.length === 0) {
      if (this.#isEnded) return null;
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    const piece = this.#incoming.shift()!;
    const count = Math.min(piece.length, into.length);
    into.set(piece.subarray(0, count));
    if (count < piece.length) this.#incoming.unshift(piece.subarray(count));
    return count;
  }

  async write(bytes: Uint8Array): Promise<number> {
    await this.gate;
    if (this.isClosed) throw new Error("closed");
    const taken = bytes.slice(0, Math.min(bytes.length, this.most));
    this.written.push(taken);
    this.onWrite(taken);
    return taken.length;
  }

  close(): void {
    assert(!this.isClosed, "closed twice");
    this.isClosed = true;
    this.end();
  }
}

/** A stream whose other end is a session. */
function served(service = new FakeService()): FakeStream {
  const stream = new FakeStream();
  const session = new RpcSession(service, { id: 1 });
  stream.onWrite = (bytes) => {
    session.receive(bytes);
    for (let out = session.takeOutput(); out !== null; out = session.takeOutput()) stream.feed(out.slice());
    if (session.isClosing) stream.end();
  };
  return stream;
}

Deno.test("connect() says hello and tells what the device said", async () => {
  await using client = await connect({ conn: served() }, { role: "vmm", client: "test" });
  assertEquals([client.hello.role, client.hello.server, client.hello.regions.length], ["vmm", "fake/1", 3]);
});

Deno.test("connect() is an observer unless told otherwise", async () => {
  await using client = await connect({ conn: served() });
  assertEquals(client.hello.role, "observer");
});

Deno.test("connect() closes the stream when the device refuses", async () => {
  const service = new FakeService();
  service.vmm = { id: 99, role: "vmm", failedNotifications: 0, isBehind: false, notify() {} };
  const stream = served(service);
  const error = await assertRejects(() => connect({ conn: stream }, { role: "vmm" }), RpcError);
  assertEquals([error.code, stream.isClosed], ["EBUSY", true]);
});

Deno.test("Client.call() returns results and throws the device's errors", async () => {
  await using client = await connect({ conn: served() }, { role: "vmm" });
  await client.call("mmio_write", 0, 0x80_0000, 8, 2n ** 63n);
  assertEquals(await client.call("mmio_read", 0, 0x80_0000, 8), 2n ** 63n);
  const error = await assertRejects(() => client.call("mm_pin", 3), RpcError);
  assertEquals([error.code, error.errno, error.message], ["ENOENT", 2, "mm_pin: no mm 3"]);
});

Deno.test("Client sends what arises in one turn in one write", async () => {
  const stream = served();
  await using client = await connect({ conn: stream }, { role: "vmm" });
  const before = stream.written.length;
  const calls = [client.call("stats"), client.call("stats")];
  for (let i = 0; i < 100; i++) client.notify("mmio_write", 0, 8 * i, 8, i);
  calls.push(client.call("stats"));
  assertEquals(await Promise.all(calls), [{ calls: 1 }, { calls: 2 }, { calls: 103 }]);
  assertEquals(stream.written.length, before + 1);
});

Deno.test("Client sends everything when the stream takes few bytes at a time", async () => {
  const stream = new FakeStream();
  stream.most = 7;
  await using client = new Client(stream);
  for (let i = 0; i < 50; i++) client.notify("mmio_write", 0, i, 4, i);
  await client.close();
  const messages = messagesIn(concat(...stream.written));
  assertEquals(messages.length, 50);
  assertEquals(messages[49], [2, "mmio_write", [0, 49, 4, 49]]);
});

Deno.test("Client.notify() waits when the device does not read, and goes on when it does", async () => {
  const stream = new FakeStream();
  const gate = Promise.withResolvers<void>();
  stream.gate = gate.promise;
  await using client = new Client(stream);
  let posted = 0;
  const posting = (async () => {
    for (; posted < 20_000; posted++) {
      await client.notify("debug_poke", 0, new Uint8Array(1000));
    }
  })();
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert(posted < 2000, `${posted} messages wait`);
  gate.resolve();
  await posting;
  await client.close();
  assertEquals(messagesIn(concat(...stream.written)).length, 20_000);
});

Deno.test("Client delivers notifications before the reply that follows them", async () => {
  const service = new FakeService();
  service.overrides.set("mmio_write", (peer) => {
    peer.notify("page_track", [16, true]);
    peer.notify("irq", [2]);
    return null;
  });
  await using client = await connect({ conn: served(service) }, { role: "vmm" });
  const events: unknown[] = [];
  client.on("page_track", (gfn, on) => events.push([gfn, on]));
  client.on("irq", (vector) => events.push(vector));
  await client.call("mmio_write", 0, 0, 4, 0).then(() => events.push("reply"));
  assertEquals(events, [[16, true], 2, "reply"]);
});

Deno.test("Client ignores notifications that nobody handles or knows", async () => {
  const stream = served();
  await using client = await connect({ conn: stream }, { role: "vmm" });
  stream.feed(encode([2, "irq", [1]]), encode([2, "a_later_one", [{}]]), encode([2, "constructor", []]));
  assertEquals(await client.call("mmio_read", 0, 0, 4), 0);
});

Deno.test("Client reads replies that arrive in pieces and together", async () => {
  const stream = new FakeStream();
  await using client = new Client(stream);
  const calls = [client.call("stats"), client.call("mem_read", 0, 100_000), client.call("stats")];
  const bytes = concat(
    encode([1, 0, null, { a: 1 }]),
    encode([1, 1, null, new Uint8Array(100_000).fill(7)]),
    encode([1, 2, null, { b: 2 }]),
  );
  stream.feed(bytes.subarray(0, 1), bytes.subarray(1, 9), bytes.subarray(9));
  assertEquals(await Promise.all(calls), [{ a: 1 }, new Uint8Array(100_000).fill(7), { b: 2 }]);
});

Deno.test("Client takes answers in any order", async () => {
  const stream = new FakeStream();
  await using client = new Client(stream);
  const calls = [client.call("stats"), client.call("stats")];
  stream.feed(encode([1, 1, null, { second: 1 }]), encode([1, 0, null, { first: 1 }]));
  assertEquals(await Promise.all(calls), [{ first: 1 }, { second: 1 }]);
});

Deno.test("Client ends when a call is answered twice", async () => {
  const stream = new FakeStream();
  await using client = new Client(stream);
  const calls = [client.call("stats"), client.call("stats")] as const;
  stream.feed(encode([1, 0, null, {}]), encode([1, 0, null, {}]));
  assertEquals(await calls[0], {});
  await assertRejects(() => calls[1], RpcError, "not made");
});

Deno.test("Client rejects everything outstanding when the device closes", async () => {
  const stream = new FakeStream();
  await using client = new Client(stream);
  const calls = [client.call("stats"), client.call("state")];
  stream.end();
  for (const call of calls) await assertRejects(() => call, ConnectionError, "closed by the device");
  await assertRejects(() => client.call("stats"), ConnectionError);
  assertThrows(() => client.notify("reset"), ConnectionError);
  assert(client.isClosed && stream.isClosed);
});

Deno.test("Client rejects everything outstanding with the device's last error", async () => {
  const stream = new FakeStream();
  await using client = new Client(stream);
  const call = client.call("stats");
  stream.feed(
    encode([1, null, { code: "EPROTO", errno: 71, message: "Malformed stream", data: null }, null]),
  );
  const error = await assertRejects(() => call, RpcError, "Malformed stream");
  assertEquals(error.code, "EPROTO");
});

Deno.test("Client hears the device's last error also when sending fails first", async () => {
  const stream = new FakeStream();
  stream.write = () => Promise.reject(new Error("broken pipe"));
  await using client = new Client(stream);
  const call = client.call("stats");
  await new Promise((resolve) => setTimeout(resolve, 5));
  stream.feed(encode([1, null, { code: "EBUSY", errno: 16, message: "too many", data: null }, null]));
  assertEquals((await assertRejects(() => call, RpcError)).code, "EBUSY");
});

Deno.test("Client ends when the device does not keep to the protocol", async () => {
  const deviations: [Uint8Array, string][] = [
    [Uint8Array.of(0xc1), "0xc1"],
    [Uint8Array.of(0x91, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0), "floats"],
    [encode([0, 0, "call", []]), "sent a call"],
    [encode("text"), "something else"],
    [encode([1, 77, null, null]), "not made"],
    [encode([2, "page_track", [1]]), "page_track: params must be"],
  ];
  for (const [bytes, what] of deviations) {
    const stream = new FakeStream();
    await using client = new Client(stream);
    const call = client.call("stats");
    stream.feed(bytes);
    await assertRejects(() => call, RpcError, what);
    assertEquals(client.isClosed, true);
  }
});

Deno.test("Client rejects one call whose result is of another type and goes on", async () => {
  const stream = new FakeStream();
  await using client = new Client(stream);
  const calls = [client.call("mmio_read", 0, 0, 4), client.call("mmio_read", 0, 0, 4)] as const;
  stream.feed(encode([1, 0, null, "5"]), encode([1, 1, null, 5]));
  await assertRejects(() => calls[0], RpcError, 'its result of mmio_read must be u64: got "5"');
  assertEquals(await calls[1], 5);
});

Deno.test("Client ends with the error of a handler that throws", async () => {
  const stream = new FakeStream();
  await using client = new Client(stream);
  client.on("irq", () => {
    throw new Error("handler");
  });
  const call = client.call("stats");
  stream.feed(encode([2, "irq", [0]]));
  const error = await assertRejects(() => call, ConnectionError);
  assertEquals((error.cause as Error).message, "handler");
});

Deno.test("Client.close() is legal twice, and rejects what is outstanding", async () => {
  const stream = new FakeStream();
  const client = new Client(stream);
  const call = client.call("stats");
  const rejected = assertRejects(() => call, ConnectionError, "closed by this end");
  await Promise.all([client.close(), client.close()]);
  await client.close();
  await rejected;
  assertEquals(messagesIn(concat(...stream.written)), [[0, 0, "stats", []]]);
});

Deno.test("Client.close() does not wait for ever for a device that does not read", async () => {
  const stream = new FakeStream();
  const gate = Promise.withResolvers<void>();
  stream.gate = gate.promise;
  const client = new Client(stream);
  client.notify("reset");
  const start = performance.now();
  const closing = client.close();
  while (!stream.isClosed) await new Promise((resolve) => setTimeout(resolve, 20));
  assert(performance.now() - start < 3000);
  gate.resolve(); // as a real stream's write fails when it is closed
  await closing;
});

Deno.test("Client throws for a parameter that cannot be sent, and goes on", async () => {
  await using client = await connect({ conn: served() }, { role: "vmm" });
  await assertRejects(() => client.call("mmio_write", 0, 0, 8, 0.5), TypeError, "0.5");
  await assertRejects(() => client.call("mem_write", 0, new Uint8Array(3_000_000)), RpcError, "too big");
  assertEquals(await client.call("mmio_read", 0, 0, 4), 0);
});
