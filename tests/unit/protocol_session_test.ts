import { assert, assertEquals } from "@std/assert";
import { encode } from "../../protocol/codec.ts";
import { RpcError } from "../../protocol/errors.ts";
import { OUTPUT_HIGH_WATER, OUTPUT_LIMIT } from "../../protocol/limits.ts";
import { type Log, type RpcPeer, RpcSession } from "../../src/server/rpc_session.ts";
import { FakeService } from "./protocol_fake.ts";
import { decodeAll, messagesIn } from "./protocol_peer.ts";
import { concat } from "./protocol_wire.ts";

const HELLO = encode([0, 0, "hello", [{ protocol: 1, role: "vmm" }]]);
const OBSERVE = encode([0, 0, "hello", [{ protocol: 1, role: "observer", client: "test" }]]);

/** A session that has said hello, and its service. */
function opened(hello = HELLO, service = new FakeService(), id = 1, log?: Log): [RpcSession, FakeService] {
  const session = new RpcSession(service, log === undefined ? { id } : { id, log });
  session.receive(hello);
  decodeAll(session);
  return [session, service];
}

/** The error map that a session answers a message with. */
function errorOf(session: RpcSession, message: unknown): { code: string; message: string; data: unknown } {
  session.receive(encode(message));
  const [[, , error]] = decodeAll(session) as [
    [number, number, { code: string; message: string; data: unknown }],
  ];
  return error;
}

Deno.test("RpcSession answers hello with what the service says and takes the role", () => {
  const service = new FakeService();
  const session = new RpcSession(service, { id: 7 });
  session.receive(OBSERVE);
  const [[type, id, error, result]] = decodeAll(session) as [[number, number, null, Record<string, unknown>]];
  assertEquals([type, id, error, result.role, result.server], [1, 0, null, "observer", "fake/1"]);
  assertEquals(session.role, "observer");
  assertEquals([...service.peers], [session]);
});

Deno.test("RpcSession lets a refused VMM try again on the same connection", () => {
  const [first, service] = opened();
  const second = new RpcSession(service, { id: 2 });
  const error = errorOf(second, [0, 0, "hello", [{ protocol: 1, role: "vmm" }]]);
  assertEquals([error.code, error.data], ["EBUSY", { session: 1 }]);
  assertEquals(second.role, null);
  first.end();
  second.receive(HELLO);
  assertEquals((decodeAll(second) as [[1, 0, null, unknown]])[0][2], null);
  assertEquals(service.vmm, second);
});

Deno.test("RpcSession hands over calls and their results in order", () => {
  const [session, service] = opened();
  session.receive(concat(
    encode([2, "mmio_write", [0, 0x78000, 4, 5]]),
    encode([0, 1, "mmio_read", [0, 0x78000, 4]]),
    encode([0, 2, "mem_read", [0, 3]]),
    encode([0, 2 ** 32 - 1, "stats", []]),
  ));
  assertEquals(decodeAll(session), [
    [1, 1, null, 5],
    [1, 2, null, new Uint8Array(3)],
    [1, 2 ** 32 - 1, null, { calls: 4 }],
  ]);
  assertEquals(service.calls.map(([method]) => method), ["mmio_write", "mmio_read", "mem_read", "stats"]);
  assertEquals(service.calls[0]![1], [0, 0x78000, 4, 5]);
});

Deno.test("RpcSession answers 64-bit values in full", () => {
  const [session] = opened();
  const value = 0x8000_0000_0006_4003n;
  session.receive(encode([0, 1, "mmio_write", [0, 0x80_0000, 8, value]]));
  session.receive(encode([0, 2, "mmio_read", [0, 0x80_0000, 8]]));
  assertEquals(decodeAll(session), [[1, 1, null, null], [1, 2, null, value]]);
});

Deno.test("RpcSession answers with the error that the service throws", () => {
  const [session] = opened();
  assertEquals(errorOf(session, [0, 5, "mm_pin", [9]]), {
    code: "ENOENT",
    errno: 2,
    message: "mm_pin: no mm 9",
    data: null,
  } as never);
  assertEquals(session.isClosing, false);
});

Deno.test("RpcSession sends notifications of a call before its response", () => {
  const [session, service] = opened();
  service.overrides.set("mmio_write", (peer) => {
    peer.notify("page_track", [16, true]);
    peer.notify("page_track", [17, true]);
    return null;
  });
  session.receive(encode([0, 1, "mmio_write", [0, 0, 4, 0]]));
  assertEquals(decodeAll(session), [
    [2, "page_track", [16, true]],
    [2, "page_track", [17, true]],
    [1, 1, null, null],
  ]);
});

Deno.test("RpcSession keeps notifications of a call that fails", () => {
  const [session, service] = opened();
  service.overrides.set("reset", (peer) => {
    peer.notify("page_track", [16, false]);
    throw new RpcError("ENODEV", "not initialised");
  });
  session.receive(encode([0, 1, "reset", []]));
  assertEquals(decodeAll(session), [
    [2, "page_track", [16, false]],
    [1, 1, { code: "ENODEV", errno: 19, message: "not initialised", data: null }, null],
  ]);
});

Deno.test("RpcSession.notify() tells the loop when nobody is receiving, and only then", () => {
  const [session, service] = opened();
  let told = 0;
  session.onOutput = () => told++;
  service.overrides.set("reset", (peer) => peer.notify("irq", [0]));
  session.receive(encode([0, 1, "reset", []]));
  assertEquals(told, 0);
  session.notify("irq", [1]);
  assertEquals(told, 1);
});

Deno.test("RpcSession counts notifications that fail and answers none", () => {
  const [session, service] = opened();
  const posted = [
    [2, "no_such", []],
    [2, "mmio_write", [0, 0, 3, 0]],
    [2, "mmio_read", [0, 0, 4]],
    [2, "hello", [{ protocol: 1, role: "vmm" }]],
    [2, "mm_pin", [9]],
    [2, "debug_scratch", []],
    [2, 5, []],
    [2, "reset", null],
  ];
  for (const message of posted) session.receive(encode(message));
  session.receive(Uint8Array.of(0x93, 2, 0xa1, 0x78, 0x91, 0xca, 0, 0, 0, 0));
  assertEquals(decodeAll(session), []);
  assertEquals(session.failedNotifications, posted.length + 1);
  assertEquals(service.calls.map(([method]) => method), ["mm_pin"]);
});

Deno.test("RpcSession refuses an observer what is the VMM's, and everyone debug methods without --debug", () => {
  const service = new FakeService();
  const [observer] = opened(OBSERVE, service, 1);
  const [vmm] = opened(HELLO, service, 2);
  assertEquals(errorOf(observer, [0, 1, "reset", []]).code, "EPERM");
  for (const session of [observer, vmm]) {
    const error = errorOf(session, [0, 1, "debug_scratch", []]);
    assertEquals([error.code, error.message.includes("--debug")], ["ENOSYS", true]);
  }
  assertEquals(service.calls, []);
});

Deno.test("RpcSession lets any role call debug methods of a device started with --debug", () => {
  const service = new FakeService();
  service.debug = true;
  service.overrides.set("debug_scratch", () => []);
  for (const hello of [OBSERVE, HELLO]) {
    const [session] = opened(hello, service);
    session.receive(encode([0, 2, "debug_scratch", []]));
    assertEquals(decodeAll(session), [[1, 2, null, []]]);
  }
  assertEquals(service.calls.map(([method]) => method), ["debug_scratch", "debug_scratch"]);
});

Deno.test("RpcSession stops taking input when output waits, and goes on when it was taken", () => {
  const [session, service] = opened();
  const size = 64 * 1024;
  const calls = Array.from({ length: 40 }, (_, i) => encode([0, i, "mem_read", [0, size]]));
  session.receive(concat(...calls));
  assertEquals(session.wantsInput, false);
  assert(service.calls.length <= OUTPUT_HIGH_WATER / size + 1);
  const ids = (decodeAll(session) as [1, number][]).map(([, id]) => id);
  assertEquals(ids, calls.map((_, i) => i));
  assertEquals(session.wantsInput, true);
});

Deno.test("RpcSession.takeOutput() gives bytes that stay while more output arises", () => {
  const [session] = opened();
  session.receive(encode([0, 1, "stats", []]));
  const taken = session.takeOutput()!;
  const before = taken.slice();
  for (let i = 0; i < 100; i++) session.receive(encode([0, i, "mem_read", [0, 100]]));
  assertEquals(taken, before);
  assertEquals(messagesIn(session.takeOutput()!).length, 100);
});

/** Notifies a peer of more than it may leave unread. */
function flood(peer: RpcPeer): void {
  for (let i = 0; i < OUTPUT_LIMIT / 16; i++) peer.notify("page_track", [2 ** 33 + i, true]);
}

Deno.test("RpcSession gives up a peer that does not read", () => {
  const lines: unknown[][] = [];
  const [session, service] = opened(HELLO, new FakeService(), 1, (...line) => lines.push(line));
  flood(session);
  assertEquals([session.isClosed, session.isGivenUp], [true, true]);
  assertEquals(lines.map(([level, text]) => `${level} ${text}`), ["warn output limit exceeded"]);
  session.close();
  assertEquals(service.vmm, null);
});

Deno.test("RpcSession lets a call end before it closes for the output that the call made", () => {
  // The service was told in the middle of the call, replaced the device under it, and the call was answered after all.
  const [session, service] = opened();
  let vmmAtEnd: unknown = null;
  service.overrides.set("reset", (peer) => {
    flood(peer);
    vmmAtEnd = service.vmm;
  });
  session.receive(concat(encode([0, 1, "reset", []]), encode([0, 2, "stats", []])));
  assertEquals(vmmAtEnd, session);
  assertEquals([session.isClosed, session.isGivenUp, service.vmm], [true, true, null]);
  assertEquals(session.takeOutput(), null);
  assertEquals(service.calls.map(([method]) => method), ["reset"]);
});

Deno.test("RpcSession answers no failure of a call after which it closes", () => {
  for (const error of [new RpcError("EINVAL", "late"), new TypeError("bug")]) {
    const [session, service] = opened();
    service.overrides.set("reset", (peer) => {
      flood(peer);
      throw error;
    });
    session.receive(encode([0, 1, "reset", []]));
    assertEquals([session.isClosed, session.takeOutput()], [true, null]);
  }
});

Deno.test("RpcSession tells the service of a given-up peer only when no other session's call is under way", () => {
  const [vmm, service] = opened();
  const [observer] = opened(OBSERVE, service, 2);
  let vmmAtEnd: unknown = null;
  service.overrides.set("stats", () => {
    flood(vmm);
    vmmAtEnd = service.vmm;
    return {};
  });
  observer.receive(encode([0, 1, "stats", []]));
  assertEquals([vmm.isGivenUp, vmmAtEnd], [true, vmm]);
  vmm.close();
  assertEquals(service.vmm, null);
});

Deno.test("RpcSession stops when its turn is over, reads no more, and goes on in the next", () => {
  const [session, service] = opened();
  let left = 3;
  const turn = { isOver: () => left-- === 0 };
  session.receive(concat(...[1, 2, 3, 4, 5].map((id) => encode([0, id, "stats", []]))), turn);
  const said = () => messagesIn(session.takeOutput(turn) ?? new Uint8Array()).map((m) => (m as number[])[1]);
  assertEquals([service.calls.length, session.isStalled, session.wantsInput], [3, true, false]);
  left = 0;
  assertEquals([said(), said()], [[1, 2, 3], []]);
  left = 10;
  assertEquals([said(), session.isStalled, session.wantsInput], [[4, 5], false, true]);
});

Deno.test("RpcSession takes 64 KiB in one message before hello, and all of it after", () => {
  const hello = (size: number) => {
    const client = "x".repeat(4000);
    const filler = Array.from({ length: Math.ceil(size / 4000) }, (_, i) => [`k${i}`, client]);
    return encode([0, 0, "hello", [{ protocol: 1, role: "vmm", ...Object.fromEntries(filler) }]]);
  };
  const [session] = opened(hello(56_000));
  assertEquals(session.role, "vmm");
  session.receive(encode([0, 1, "mem_write", [0, new Uint8Array(100_000)]]));
  assertEquals(decodeAll(session), [[1, 1, null, 0]]);

  const refused = new RpcSession(new FakeService(), { id: 2 });
  refused.receive(hello(70_000));
  const [[, id, error]] = decodeAll(refused) as [[1, number, { code: string; data: unknown }]];
  assertEquals([id, error.code, error.data, refused.isClosed], [0, "EMSGSIZE", { reason: "length" }, true]);
});

Deno.test("RpcSession answers E2BIG when the result does not fit into a message", () => {
  const [session, service] = opened();
  service.overrides.set("state", () => ({ list: new Array(3_000_000).fill(0) }));
  assertEquals(errorOf(session, [0, 1, "state", []]).code, "E2BIG");
  assertEquals(session.isClosing, false);
});

Deno.test("RpcSession closes at an exception of the service and tells the peer nothing of it", () => {
  const lines: unknown[][] = [];
  const [session, service] = opened(HELLO, new FakeService(), 3, (...line) => lines.push(line));
  service.overrides.set("reset", () => {
    throw new TypeError("secret text");
  });
  const error = errorOf(session, [0, 9, "reset", []]);
  assertEquals([error.code, error.message, error.data], ["EIO", "internal error, please report", null]);
  assertEquals([session.isClosing, session.isClosed], [true, true]);
  assertEquals(service.vmm, null);
  const [[level, , fields]] = lines as [[string, string, Record<string, unknown>]];
  // A field named "message" once took the place of the line's own text in JSON logs.
  assertEquals([level, fields.session, fields.call, "message" in fields], ["error", 3, 2, false]);
  assert(String(fields.error).includes("secret text"));
});

Deno.test("RpcSession closes when a result or an error's data cannot be sent", () => {
  for (const method of ["state", "tree"] as const) {
    const [session, service] = opened();
    service.overrides.set("state", () => ({ rate: 0.5 }));
    service.overrides.set("tree", () => {
      throw new RpcError("EINVAL", "bad", { rate: 0.5 });
    });
    const params = method === "tree" ? [0] : [];
    assertEquals(errorOf(session, [0, 1, method, params]).code, "EIO");
    assertEquals(session.isClosing, true);
  }
});

Deno.test("RpcSession tells the service of an end once, however it ends", () => {
  const ends: ((session: RpcSession) => void)[] = [
    (session) => session.end(),
    (session) => session.close(),
    (session) => session.receive(Uint8Array.of(0xc1)),
    (session) => session.receive(encode([1, 0, null, null])),
  ];
  for (const end of ends) {
    const [session, service] = opened();
    let closed = 0;
    service.close = () => closed++;
    end(session);
    end(session);
    session.end();
    session.close();
    assertEquals(closed, 1);
  }
});

Deno.test("RpcSession tells the service nothing of a peer that never said hello", () => {
  const service = new FakeService();
  service.close = () => {
    throw new Error("must not be called");
  };
  const session = new RpcSession(service, { id: 1 });
  session.receive(Uint8Array.of(0xc1));
  session.end();
  assertEquals(session.isClosing, true);
});

Deno.test("RpcSession survives a service whose close throws", () => {
  const lines: unknown[][] = [];
  const [session, service] = opened(HELLO, new FakeService(), 1, (...line) => lines.push(line));
  service.close = () => {
    throw new Error("bug");
  };
  session.end();
  assertEquals([session.isClosed, lines.length], [true, 1]);
});

Deno.test("RpcSession drops notifications when it is closing", () => {
  const [session, service] = opened();
  service.close = (peer) => peer.notify("page_track", [1, false]);
  session.receive(Uint8Array.of(0xc1));
  assertEquals((decodeAll(session) as unknown[][]).map(([type]) => type), [1]);
});

Deno.test("RpcSession.end() reports a message that was left unfinished, and close() does not", () => {
  const [ended] = opened();
  ended.receive(HELLO.subarray(0, 5));
  ended.end();
  const [[, id, error]] = decodeAll(ended) as [[1, null, { code: string; message: string }]];
  assertEquals([id, error.code, error.message], [null, "EPROTO", "The stream ended inside a message"]);
  const [closed] = opened();
  closed.receive(HELLO.subarray(0, 5));
  closed.close();
  assertEquals(decodeAll(closed), []);
});
