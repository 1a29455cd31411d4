import { assert, assertEquals } from "@std/assert";
import { ERRNO, RpcError } from "../../protocol/errors.ts";
import { parseEnvelope } from "../../protocol/messages.ts";
import { checkParams, findMethod, type MethodName, METHODS, NOTICES } from "../../protocol/methods.ts";
import { u64 } from "../../protocol/schema.ts";

/** The message with which parameters are refused; `null` if they pass. */
function refusal(method: MethodName, params: unknown): string | null {
  try {
    checkParams(method, METHODS[method], params);
    return null;
  } catch (error) {
    assert(error instanceof RpcError && error.code === "EINVAL" && error.errno === 22);
    return error.message;
  }
}

Deno.test("checkParams() names method, index, parameter, rule and value when a parameter is wrong", () => {
  assertEquals(
    refusal("mmio_read", [0, 0x78000, 3]),
    "mmio_read: params[2] (size) must be 1, 2, 4 or 8: got 3",
  );
  assertEquals(refusal("mmio_read", [9, 0, 4]), "mmio_read: params[0] (region) must be uint 0..8: got 9");
  assertEquals(
    refusal("mmio_read", [0, 2 ** 52, 4]),
    "mmio_read: params[1] (offset) must be address (uint 0..4503599627370495): got 4503599627370496",
  );
  assertEquals(
    refusal("mmio_write_many", [0, [[0, 4, 0], [0, 5, 0]]]),
    "mmio_write_many: params[1] (writes)[1][1] (size) must be 1, 2, 4 or 8: got 5",
  );
  assertEquals(
    refusal("mmio_write_many", [0, [[0, 4]]]),
    "mmio_write_many: params[1] (writes)[0] must be an array of 3: got an array of 2",
  );
  assertEquals(
    refusal("ram_map", [{ gpa: 0 }]),
    "ram_map: params[0] (ram).size must be given: address",
  );
  assertEquals(
    refusal("ram_map", [{ gpa: 0, size: 4096, colour: "red" }]),
    'ram_map: params[0] (ram) must not have a field "colour"',
  );
  assertEquals(
    refusal("hello", [{ protocol: 1, role: "root" }]),
    'hello: params[0] (hello).role must be "vmm" or "observer": got "root"',
  );
  assertEquals(
    refusal("gma_to_gpa", ["ppgtt", 0]),
    'gma_to_gpa: params[0] (space) must be u32 or "ggtt": got "ppgtt"',
  );
});

Deno.test("checkParams() refuses missing and extra parameters, and params that are no array", () => {
  assertEquals(refusal("mm_pin", []), "mm_pin: params must be [mm]: got an array of 0");
  assertEquals(refusal("mm_pin", [1, 2]), "mm_pin: params must be [mm]: got an array of 2");
  assertEquals(refusal("stats", [null]), "stats: params must be []: got an array of 1");
  assertEquals(refusal("stats", {}), "stats: params must be an array");
  assertEquals(refusal("stats", null), "stats: params must be an array");
});

Deno.test("checkParams() refuses values of another type", () => {
  const wrong: [MethodName, unknown[]][] = [
    ["mmio_read", ["0", 0, 4]],
    ["mmio_read", [0, 0.5, 4]],
    ["mmio_read", [0, -1, 4]],
    ["mmio_read", [0, 2n ** 60n, 4]],
    ["mmio_write", [0, 0, 4, -1]],
    ["mmio_write", [0, 0, 4, -(2n ** 60n)]],
    ["mmio_write", [0, 0, 4, "1"]],
    ["mem_write", [0, [1, 2]]],
    ["mem_write", [0, "bytes"]],
    ["mem_write", [0, new Uint8Array(2 * 1024 * 1024 + 1)]],
    ["mem_read", [0, 2 * 1024 * 1024 + 1]],
    ["ram_map", [[]]],
    ["ram_map", [new Uint8Array(1)]],
    ["ram_map", [{ gpa: 0, size: 4096, path: "" }]],
    ["ram_map", [{ gpa: 0, size: 4096, path: "/a\0b" }]],
    ["ram_map", [{ gpa: 0, size: 4096, path: "relative" }]],
    ["ram_map", [{ gpa: 0, size: 4096, path: "/" + "x".repeat(4095) }]],
    ["ram_map", [{ gpa: 0, size: 4096, path: "/" + "ü".repeat(2048) }]],
    ["page_wrote", [0, 2 * 1024 * 1024 + 1]],
    ["mmio_write_many", [0, new Array(4097).fill([0, 4, 0])]],
    ["ram_map", [{ gpa: 0, size: 4096, path: null }]],
    ["ram_map", [{ gpa: 0, size: 4096, readonly: 1 }]],
    ["mm_create", [4, [1, 2, 3, 4, 5]]],
    ["mm_create", [256, null]],
    ["mm_find", [4, null]],
    ["debug_init", [null]],
    ["debug_inject", [{ kind: "wp", n: 2 ** 31 }]],
  ];
  for (const [method, params] of wrong) assert(refusal(method, params) !== null, `${method} ${params}`);
});

Deno.test("checkParams() accepts values at both ends of their range", () => {
  const right: [MethodName, unknown[]][] = [
    ["mmio_read", [8, 2 ** 52 - 1, 8]],
    ["mmio_write", [0, 0, 1, 2n ** 64n - 1n]],
    ["mmio_write", [0, 0, 1, 2 ** 53]],
    ["mmio_write_many", [0, []]],
    ["mmio_write_many", [0, new Array(4096).fill([0, 4, 0])]],
    ["page_wrote", [0, 2 * 1024 * 1024]],
    ["ram_map", [{ gpa: 0, size: 4096, path: "/" + "ü".repeat(2047) }]],
    ["mem_read", [0, 2 * 1024 * 1024]],
    ["mem_write", [0, new Uint8Array(2 * 1024 * 1024)]],
    ["ram_map", [{ gpa: 0, size: 0, path: "/x", offset: 0, readonly: false, mfn: 2 ** 40 - 1 }]],
    ["mm_create", [255, null]],
    ["mm_create", [3, [0, 1, 2n ** 63n, 3]]],
    ["gma_to_gpa", ["ggtt", 2n ** 64n - 1n]],
    ["gma_to_gpa", [4294967295, 0]],
    ["debug_inject", [{ kind: "trackrc", n: -(2 ** 31) }]],
  ];
  for (const [method, params] of right) assertEquals(refusal(method, params), null, method);
});

Deno.test("an inherited name is no field of a record", () => {
  const inherits = Object.create({ gpa: 0, size: 4096 });
  assertEquals(refusal("ram_unmap", [inherits]), "ram_unmap: params[0] (ram).gpa must be given: address");
});

Deno.test("findMethod() knows the table's names and no property of an object", () => {
  for (const name of Object.keys(METHODS)) assert(findMethod(name) !== undefined, name);
  for (const name of ["", "constructor", "__proto__", "toString", "Hello"]) {
    assertEquals(findMethod(name), undefined);
  }
});

Deno.test("results of records may have fields that this version does not know", () => {
  assertEquals(METHODS.submit.result.problem({ mm: 1, created: true, later: [] }), null);
  assertEquals(METHODS.submit.result.problem({ mm: 1 }), ".created must be given: bool");
});

Deno.test("observers may call what only reads, and nothing else", () => {
  const any = Object.entries(METHODS).filter(([, { caller }]) => caller === "any").map(([name]) => name);
  assertEquals(any, [
    "hello",
    "mem_read",
    "gma_to_gpa",
    "stats",
    "state",
    "tree",
    "translate",
    "registers",
    "snapshot",
    "events",
  ]);
  const debug = Object.entries(METHODS).filter(([, { caller }]) => caller === "debug").map(([name]) => name);
  assertEquals(debug, Object.keys(METHODS).filter((name) => name.startsWith("debug_")));
});

Deno.test("every method and notification has a line of documentation and distinct parameter names", () => {
  for (const [name, { doc, params }] of [...Object.entries(METHODS), ...Object.entries(NOTICES)]) {
    assert(doc.length > 10 && doc.endsWith("."), name);
    assertEquals(new Set(params.map((p) => p.name)).size, params.length, name);
  }
});

Deno.test("u64 accepts exactly the unsigned 64-bit integers", () => {
  for (const value of [0, 1, 2 ** 53, 2n ** 53n, 2n ** 64n - 1n]) assertEquals(u64.problem(value), null);
  for (const value of [-1, 0.5, NaN, -1n, 2n ** 64n, null, "1", undefined]) {
    assert(u64.problem(value) !== null, String(value));
  }
});

Deno.test("parseEnvelope() accepts the three forms only", () => {
  for (
    const message of [[0, 0, "m", []], [0, 2 ** 32 - 1, 1, 2], [1, 5, null, 1], [1, null, {}, null], [
      2,
      "m",
      [],
    ]]
  ) {
    assertEquals(parseEnvelope(message), message as never);
  }
  const others = [
    null,
    0,
    "call",
    {},
    [],
    [0],
    [0, 0, "m"],
    [0, 0, "m", [], 0],
    [0, -1, "m", []],
    [0, 2 ** 32, "m", []],
    [0, 0.5, "m", []],
    [0, null, "m", []],
    [0, 5n, "m", []],
    [1, 0, null],
    [2, "m"],
    [2, "m", [], 0],
    [3, 0, "m", []],
    ["0", 0, "m", []],
  ];
  for (const message of others) assertEquals(parseEnvelope(message), null);
});

Deno.test("RpcError keeps code, number, message and data over the wire", () => {
  const sent = new RpcError("EBUSY", "there is a VMM", { session: 3 });
  const received = RpcError.fromWire(sent.toWire());
  assertEquals(received.toWire(), {
    code: "EBUSY",
    errno: 16,
    message: "there is a VMM",
    data: { session: 3 },
  });
});

Deno.test("RpcError.fromErrno() names every number of the table and keeps one that has no name", () => {
  for (const [code, errno] of Object.entries(ERRNO)) {
    const error = RpcError.fromErrno(-errno, "m");
    assertEquals([error.code, error.errno], [code, errno]);
  }
  assertEquals([RpcError.fromErrno(-111, "m").code, RpcError.fromErrno(-111, "m").errno], ["E111", 111]);
});

Deno.test("RpcError.fromWire() makes an error of anything", () => {
  assertEquals(RpcError.fromWire({ code: "ELATER", errno: 200, message: "m", more: 1 }).code, "ELATER");
  assertEquals(RpcError.fromWire("plain text").message, "plain text");
  for (const value of [null, 5, [], {}, { code: 1, errno: "2", message: 3 }]) {
    assertEquals(RpcError.fromWire(value).code, "EPROTO");
  }
});

Deno.test("checkParams() cuts a peer's text short in its message", () => {
  const message = refusal("hello", [{ protocol: 1, role: "x".repeat(4000) }]);
  assert(message !== null && message.length < 200);
});
