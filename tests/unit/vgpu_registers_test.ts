import { assertEquals, assertThrows } from "@std/assert";
import { RegisterFile } from "../../src/vgpu/register_file.ts";
import { type Register, RegisterTable } from "../../src/vgpu/register_table.ts";
import { REGISTERS } from "../../src/vgpu/registers.ts";
import { VgpuCounters } from "../../src/vgpu/vgpu_counters.ts";

const AT = 0x2000;

/** One register of this access, and what its block was told. */
function one(row: Partial<Register<"b">>): {
  registers: RegisterFile<"b">;
  told: [offset: number, value: number][];
  counters: VgpuCounters;
} {
  const told: [number, number][] = [];
  const counters = new VgpuCounters();
  const table = new RegisterTable<"b">([
    { name: "R", offsets: [AT], access: "rw", block: "b", note: "", ...row },
  ]);
  const written = (offset: number, value: number) => void told.push([offset, value]);
  let reads = 0;
  return {
    registers: new RegisterFile(table, { b: { written, live: () => ++reads } }, counters),
    told,
    counters,
  };
}

function read(registers: RegisterFile<"b">, offset: number, size: number): number[] {
  const out = new Uint32Array(2);
  registers.read(offset, size, out);
  return [...out];
}

Deno.test("RegisterFile write() to rw changes the writable bits of the enabled bytes", () => {
  const { registers, told } = one({ reset: 0x5500_00aa, writable: 0x00ff_ff00 });
  registers.write(AT, 4, 0x1234_5678, 0);
  assertEquals(registers.get(AT), 0x5534_56aa);
  registers.write(AT + 1, 1, 0xff9a, 0);
  assertEquals(registers.get(AT), 0x5534_9aaa);
  registers.write(AT + 2, 2, 0xffff_ffff, 0);
  assertEquals(registers.get(AT), 0x55ff_9aaa);
  assertEquals(told, [[AT, 0x1234_5678], [AT, 0x9a00], [AT, 0xffff_0000]]);
});

Deno.test("RegisterFile write() to w1c clears writable ones of the enabled bytes", () => {
  const { registers, told } = one({ access: "w1c", writable: 0x0fff_ffff });
  registers.set(AT, 0xffff_ffff);
  registers.write(AT, 4, 0xf000_0001, 0);
  registers.write(AT + 3, 1, 0x01, 0);
  assertEquals(registers.get(AT), 0xfeff_fffe);
  assertEquals(told, [[AT, 0xf000_0001], [AT, 0x0100_0000]]);
});

Deno.test("RegisterFile write() to a mode register changes what the upper half selects", () => {
  const { registers } = one({ access: "mode", reset: 0x0200, writable: 0xfdff });
  registers.write(AT, 4, 0xffff_0101, 0);
  assertEquals(registers.get(AT), 0x0301);
  registers.write(AT, 4, 0x0100_0000, 0);
  assertEquals(registers.get(AT), 0x0201);
  registers.write(AT, 2, 0xffff, 0); // no byte that selects
  assertEquals(registers.get(AT), 0x0201);
});

Deno.test("RegisterFile write() to a trigger keeps nothing and tells the block", () => {
  const { registers, told } = one({ access: "trigger", reset: 0x7 });
  registers.write(AT, 4, 0x1234, 0);
  assertEquals([registers.get(AT), told], [0x7, [[AT, 0x1234]]]);
});

Deno.test("RegisterFile write() to what is read-only is counted and tells nobody", () => {
  for (const access of ["ro", "live"] as const) {
    const { registers, told, counters } = one({ access, reset: 0x7 });
    registers.write(AT, 4, 0, 0);
    assertEquals([registers.get(AT), told, counters.badRegisterWrites], [0x7, [], 1]);
  }
});

Deno.test("RegisterFile read() asks the block for a live register, whatever the size", () => {
  const { registers } = one({ access: "live", offsets: [AT, AT + 4] });
  assertEquals(read(registers, AT, 4), [1, 0]);
  assertEquals(read(registers, AT, 8), [2, 3]);
  assertEquals([read(registers, AT, 1), read(registers, AT + 1, 1)], [[4, 0], [0, 0]]);
});

Deno.test("RegisterFile write() of 8 bytes is two registers, lower first", () => {
  const { registers, told } = one({ offsets: [AT, AT + 4] });
  registers.write(AT, 8, 1, 2);
  assertEquals(told, [[AT, 1], [AT + 4, 2]]);
  const { registers: half } = one({ offsets: [AT + 4], writable: 0xff });
  half.write(AT, 8, 0xffff_ffff, 0xffff_ffff);
  assertEquals(read(half, AT, 8), [0xffff_ffff, 0xff]);
});

Deno.test("RegisterFile store() ignores access and block", () => {
  const { registers, told } = one({ access: "ro", reset: 0x7 });
  registers.store(AT, 4, 0x11223344);
  registers.store(AT, 1, 0x55);
  registers.store(AT + 2, 2, 0x6677);
  assertEquals([registers.get(AT), told], [0x6677_3355, []]);
});

Deno.test("RegisterFile reset() gives every register its reset value", () => {
  const { registers, told } = one({ offsets: [AT, AT + 8], reset: 0xffff_ffff });
  for (let at = AT; at < AT + 16; at += 4) registers.set(at, 0x1234);
  registers.reset();
  assertEquals([0, 4, 8, 12].map((at) => registers.get(AT + at)), [0xffff_ffff, 0, 0xffff_ffff, 0]);
  assertEquals(told, []);
});

Deno.test("RegisterTable refuses offsets that are no register's, and too many rows", () => {
  const row = (offset: number): Register => ({ name: "R", offsets: [offset], access: "rw", note: "" });
  for (const offset of [2, -4, 0x200000]) {
    assertThrows(() => new RegisterTable([row(offset)]), RangeError, "R cannot be at");
  }
  const many = Array.from({ length: 256 }, (_, i) => row(4 * i));
  assertThrows(() => new RegisterTable(many), RangeError, "at most 255 rows");
  assertEquals(new RegisterTable(many.slice(1)).at(4 * 255 + 3)?.name, "R");
});

Deno.test("REGISTERS says what each of its registers is, and none lies in the PVINFO page", () => {
  for (const { name, offsets, note } of REGISTERS.rows) {
    assertEquals(name.length > 0 && note.length > 0 && offsets.length > 0, true, name);
    assertEquals(offsets.filter((offset) => offset >= 0x78000 && offset < 0x79000), [], name);
  }
});
