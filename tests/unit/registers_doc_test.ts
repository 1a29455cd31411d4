import { assert, assertEquals } from "@std/assert";
import { registerStates } from "../../src/inspect/register_list.ts";
import { ENGINES } from "../../src/streamer/engines.ts";
import { REGISTERS } from "../../src/vgpu/registers.ts";
import { REGISTERS_DOC, registersDoc } from "./registers_doc.ts";

Deno.test("registers.md is what the table of registers says", () => {
  const isUpToDate = Deno.readTextFileSync(REGISTERS_DOC) === registersDoc();
  assert(isUpToDate, "src/vgpu/registers.md is out of date: write it anew with `deno task registers`");
});

Deno.test("registerStates() has every register of the table once", () => {
  const states = registerStates(REGISTERS, ENGINES, (offset) => offset);
  const offsets = states.flatMap(({ values }) => values.map(([offset]) => offset));
  assertEquals(offsets.length, REGISTERS.rowNumbers.filter((number) => number !== 0).length);
  assertEquals(new Set(offsets).size, offsets.length);
  for (const { name, values } of states) {
    for (const [offset] of values) assertEquals(REGISTERS.at(offset)?.name, name);
  }
});
