import { assertEquals, assertThrows } from "@std/assert";
import { differences, parseTrace, serialiseTrace } from "../../src/replay/trace.ts";

const TEXT = `{"config":{"ramPages":4}}
{"op":{"op":"sync"},"expect":{"rc":0}}
`;

Deno.test("serialiseTrace() gives back what parseTrace() read", () => {
  assertEquals(serialiseTrace(parseTrace(TEXT)), TEXT);
});

Deno.test("parseTrace() throws when the first line has no config", () => {
  assertThrows(() => parseTrace('{"op":{"op":"sync"},"expect":{}}\n'), Error, "no config");
});

Deno.test("parseTrace() throws when a step has no expect", () => {
  assertThrows(() => parseTrace('{"config":{}}\n{"op":{"op":"sync"}}\n'), Error, "line 2");
});

Deno.test("differences() is empty when only warnings differ", () => {
  assertEquals(differences({ rc: 0, warn: 1 }, { rc: 0 }), []);
});

Deno.test("differences() names a key that is on one side only", () => {
  assertEquals(differences({ rc: 0 }, { rc: 0, flush: 1 }), ["flush: expected nothing, got 1"]);
  assertEquals(differences({ gpa: null }, {}), ["gpa: expected null, got nothing"]);
});

Deno.test("differences() compares trees whatever the order of their keys", () => {
  const tree = { level: 4, shadowed: true, roots: [] };
  const same = { roots: [], shadowed: true, level: 4 };
  assertEquals(differences({ tree }, { tree: same }), []);
  assertEquals(differences({ tree }, { tree: { ...same, level: 3 } }).length, 1);
});
