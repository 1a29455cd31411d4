import { assertEquals, assertThrows } from "@std/assert";
import { makeLog, parseLogOptions } from "../../src/cli/log.ts";
import { UsageError } from "../../src/cli/usage.ts";

Deno.test("parseLogOptions() has defaults and takes each part on its own", () => {
  assertEquals(parseLogOptions(""), { format: "text", level: "info" });
  assertEquals(parseLogOptions("level=error"), { format: "text", level: "error" });
  assertEquals(parseLogOptions("format=json,level=debug"), { format: "json", level: "debug" });
  assertEquals(parseLogOptions("level=warn,,format=text"), { format: "text", level: "warn" });
});

for (
  const text of [
    "json",
    "format",
    "format=",
    "format=xml",
    "level=all",
    "colour=red",
    "format=json;level=info",
  ]
) {
  Deno.test(`parseLogOptions() refuses ${JSON.stringify(text)} and says what there is`, () => {
    assertThrows(
      () => parseLogOptions(text),
      UsageError,
      "--log takes format=text|json and level=debug|info|warn|error",
    );
  });
}

Deno.test("makeLog() writes the level and those above it", () => {
  const lines: string[] = [];
  const log = makeLog({ format: "text", level: "warn" }, (line) => lines.push(line), () => 0);
  for (const level of ["debug", "info", "warn", "error"] as const) log(level, "hello");
  assertEquals(lines, ["1970-01-01T00:00:00.000Z warn hello", "1970-01-01T00:00:00.000Z error hello"]);
});

Deno.test("makeLog() writes text on one line whatever the fields hold", () => {
  const lines: string[] = [];
  const log = makeLog({ format: "text", level: "info" }, (line) => lines.push(line), () => 1000);
  log("info", "lost", { session: 1, why: 'a "b"\r\n\x1b[2J', last: true });
  assertEquals(lines, [
    '1970-01-01T00:00:01.000Z info lost session=1 why="a \\"b\\"\\r\\n\\u001b[2J" last=true',
  ]);
});

Deno.test("makeLog() writes one JSON object a line", () => {
  const lines: string[] = [];
  const log = makeLog({ format: "json", level: "info" }, (line) => lines.push(line), () => 0);
  log("info", "lost", { session: 1, why: "a\nb" });
  assertEquals(lines.map((line) => JSON.parse(line)), [
    { time: "1970-01-01T00:00:00.000Z", level: "info", message: "lost", session: 1, why: "a\nb" },
  ]);
  assertEquals(lines[0]!.includes("\n"), false);
});

Deno.test("makeLog() drops what is more than 50 lines a second and says how many", () => {
  const lines: string[] = [];
  let now = 5000;
  const log = makeLog({ format: "json", level: "info" }, (line) => lines.push(line), () => now);
  for (let i = 0; i < 73; i++) log("warn", "flood", { i });
  assertEquals(lines.length, 50);
  now = 5999;
  log("error", "still the same second");
  assertEquals(lines.length, 50);
  now = 6000;
  log("info", "quiet again");
  assertEquals(
    lines.slice(50).map((line) => JSON.parse(line)).map(({ message, lines }) => [message, lines]),
    [
      ["log lines dropped", 24],
      ["quiet again", undefined],
    ],
  );
  now = 9000;
  log("info", "nothing was dropped");
  assertEquals(lines.length, 53);
});

Deno.test("makeLog() does not count lines below its level", () => {
  const lines: string[] = [];
  const log = makeLog({ format: "text", level: "info" }, (line) => lines.push(line), () => 0);
  for (let i = 0; i < 100; i++) log("debug", "chatter");
  log("info", "heard");
  assertEquals(lines, ["1970-01-01T00:00:00.000Z info heard"]);
});
