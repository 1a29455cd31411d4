import { assert, assertEquals } from "@std/assert";
import { decode, encode } from "../../protocol/codec.ts";
import { ERRNO } from "../../protocol/errors.ts";
import {
  HELLO_GRACE,
  HELLO_LIMITS,
  MAX_PATH_BYTES,
  OUTPUT_HIGH_WATER,
  OUTPUT_LIMIT,
  REPLY_LIMITS,
  REQUEST_LIMITS,
} from "../../protocol/limits.ts";
import { parseEnvelope } from "../../protocol/messages.ts";
import { type Method, METHODS, NOTICES } from "../../protocol/methods.ts";
import { NEED_MORE, REFUSED, Scanner } from "../../protocol/scan.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";
import { TURN_TIME } from "../../src/server/turns.ts";
import { FakeService } from "./protocol_fake.ts";
import { decodeAll } from "./protocol_peer.ts";
import { fromHex, revive, toHex } from "./protocol_wire.ts";

const FOLDER = new URL("../../protocol/", import.meta.url);

function load<T>(name: string): T[] {
  return JSON.parse(Deno.readTextFileSync(new URL(`vectors/${name}.json`, FOLDER)));
}

Deno.test("every valid vector encodes to its bytes and decodes from all of its encodings", () => {
  const vectors = load<{ name: string; value: unknown; hex: string; also: string[] }>("valid");
  assert(vectors.length > 25);
  for (const { name, value, hex, also } of vectors) {
    const message = revive(value);
    assertEquals(toHex(encode(message)), hex, name);
    for (const form of [hex, ...also]) {
      const bytes = fromHex(form);
      const scanner = new Scanner(REPLY_LIMITS);
      assertEquals(scanner.scan(bytes, 0, bytes.length), bytes.length, name);
      assertEquals(scanner.fault, null, name);
      assertEquals(decode(bytes), message, name);
      assert(parseEnvelope(message) !== null, name);
    }
  }
});

Deno.test("every invalid vector is refused for its reason with its last byte and not before", () => {
  type Invalid = { name: string; hex: string; reason: string; fatal: boolean; limits: "request" | "reply" };
  const vectors = load<Invalid>("invalid");
  assert(vectors.length > 35);
  for (const { name, hex, reason, fatal, limits } of vectors) {
    const bytes = fromHex(hex);
    const scanner = new Scanner(limits === "request" ? REQUEST_LIMITS : REPLY_LIMITS);
    assertEquals(scanner.scan(bytes, 0, bytes.length - 1), NEED_MORE, name);
    assertEquals(scanner.scan(bytes, 0, bytes.length), fatal ? REFUSED : bytes.length, name);
    assertEquals(scanner.fault, reason as typeof scanner.fault, name);
  }
});

Deno.test("every session vector is answered as it says", () => {
  type Step = { send?: unknown; hex?: string; expect: unknown[]; closed: boolean };
  const vectors = load<{ name: string; steps: Step[] }>("sessions");
  assert(vectors.length > 15);
  for (const { name, steps } of vectors) {
    const service = new FakeService();
    const session = new RpcSession(service, { id: 1 });
    for (const { send, hex, expect, closed } of steps) {
      session.receive(hex === undefined ? encode(revive(send)) : fromHex(hex));
      const answers = decodeAll(session);
      assertEquals(answers.length, expect.length, `${name}: ${JSON.stringify(answers)}`);
      expect.forEach((wanted, i) => assertContains(answers[i], wanted, name));
      assertEquals(session.isClosing, closed, name);
    }
    assertEquals(service.calls, [], name);
  }
});

/** Fails unless everything in `wanted` is in `actual`; maps may have more. */
function assertContains(actual: unknown, wanted: unknown, name: string): void {
  if (typeof wanted !== "object" || wanted === null) return assertEquals(actual, wanted, name);
  assert(typeof actual === "object" && actual !== null, name);
  if (Array.isArray(wanted)) assertEquals((actual as unknown[]).length, wanted.length, name);
  for (const [key, value] of Object.entries(wanted)) {
    assertContains((actual as Record<string, unknown>)[key], value, `${name}: ${key}`);
  }
}

const README = Deno.readTextFileSync(new URL("README.md", FOLDER));

Deno.test("every dump in the README is what the code writes", () => {
  const dumps = [...README.matchAll(/^```msgpack\n(.+)\n([^`]+)```$/gm)];
  assert(dumps.length >= 6);
  for (const [, json, dump] of dumps) {
    const hex = dump!.replace(/;.*$/gm, "").replace(/\s/g, "");
    assertEquals(hex, toHex(encode(revive(JSON.parse(json!)))), json!);
  }
});

/** The cells of the README's table rows whose first cell is a name in backticks, by that name. */
function tableRows(heading: string): Map<string, string[]> {
  const [, after = ""] = README.split(heading);
  const rows = new Map<string, string[]>();
  for (const line of after.trimStart().split("\n")) {
    if (!line.startsWith("|")) break;
    const cells = line.split("|").slice(1, -1).map((cell) => cell.trim());
    const name = cells[0]?.match(/^`(\w+)`$/)?.[1];
    if (name !== undefined) rows.set(name, cells.slice(1));
  }
  return rows;
}

const parameters = ({ params }: Pick<Method, "params">) =>
  params.map(({ name, schema }) => `${name}: ${schema.type}`).join(", ") || "none";

Deno.test("the README's method table has exactly the rows of the code", () => {
  const rows = tableRows("<!-- deno-fmt-ignore-start -->\n");
  assertEquals([...rows.keys()], Object.keys(METHODS));
  for (const [name, method] of Object.entries<Method>(METHODS)) {
    assertEquals(rows.get(name), [method.caller, parameters(method), method.result.type, method.doc], name);
  }
});

Deno.test("the README's notification table has exactly the rows of the code", () => {
  const rows = tableRows("Notifications from the device to the VMM:\n\n<!-- deno-fmt-ignore-start -->\n");
  assertEquals([...rows.keys()], Object.keys(NOTICES));
  for (const [name, notice] of Object.entries(NOTICES)) {
    assertEquals(rows.get(name), [parameters(notice), notice.doc], name);
  }
});

Deno.test("the README's limits are the code's", () => {
  const numbers = (limits: typeof REQUEST_LIMITS) => [
    limits.messageBytes,
    limits.depth,
    limits.elements,
    limits.stringBytes,
    limits.bytes,
  ];
  const [, section = ""] = README.split("## 7. Limits");
  const rows = [...section.matchAll(/^\| [a-z].*\| +(\d+) +\| +(\d+) +\|$/gm)];
  assertEquals(rows.map((row) => Number(row[1])), numbers(REQUEST_LIMITS));
  assertEquals(rows.map((row) => Number(row[2])), numbers(REPLY_LIMITS));
});

Deno.test("the README's numbers in words are the code's", () => {
  assert(README.includes(`within ${HELLO_GRACE / 1000} seconds`));
  assert(README.includes(`a message of more than ${HELLO_LIMITS.messageBytes} bytes`));
  assert(README.includes(`more than ${OUTPUT_HIGH_WATER / 1024} KiB of output`));
  assert(README.includes(`more than ${OUTPUT_LIMIT / 1024 / 1024} MiB of output`));
  assert(README.includes(`at most ${MAX_PATH_BYTES} bytes without NUL`));
  assert(README.includes(`after ${TURN_TIME} ms of work`));
});

Deno.test("the README's error codes are the code's, with its numbers", () => {
  const [, section = ""] = README.split("## 6. Errors");
  const rows = [...section.matchAll(/^\| ((?:E[A-Z0-9]+ ?)+) +\| +([\d ]+?) +\|/gm)];
  for (const [, codes, numbers] of rows) {
    const named = codes!.trim().split(" ").map((code) => ERRNO[code as keyof typeof ERRNO]);
    assertEquals(named, numbers!.split(" ").map(Number), codes!);
  }
  const documented = rows.flatMap(([, codes]) => codes!.trim().split(" "));
  assertEquals(documented.sort(), Object.keys(ERRNO).sort());
});
