// Guest RAM whose bytes stay with the VMM.

import { assertEquals, assertThrows } from "@std/assert";
import { MessageBacking, type RemoteMemory } from "../../src/memory/message.ts";
import { RamError, RamMap } from "../../src/memory/ram_map.ts";

const PAGE = 4096;
const BASE = 0x1_4000_0000;

/** Memory of somebody else's, who writes down what he was asked. */
class Remote implements RemoteMemory {
  readonly memory = new Uint8Array(4 * PAGE);
  readonly asked: [what: "read" | "write", gpa: number, length: number][] = [];
  isWilling = true;

  read(gpa: number, out: Uint8Array): boolean {
    this.asked.push(["read", gpa, out.length]);
    if (this.isWilling) out.set(this.memory.subarray(gpa - BASE, gpa - BASE + out.length));
    return this.isWilling;
  }

  write(gpa: number, bytes: Uint8Array): boolean {
    this.asked.push(["write", gpa, bytes.length]);
    if (this.isWilling) this.memory.set(bytes, gpa - BASE);
    return this.isWilling;
  }
}

function mapped(readonly = false): { ram: RamMap; remote: Remote } {
  const ram = new RamMap();
  const remote = new Remote();
  ram.map({ gpa: BASE, size: 4 * PAGE, remote, readonly });
  return { ram, remote };
}

Deno.test("a region of somebody else's memory asks for each access, by guest address", () => {
  const { ram, remote } = mapped();
  remote.memory.set([1, 2, 3, 4, 5, 6, 7, 0x88], PAGE + 8);
  const entry = new Uint32Array(2);
  const page = new Uint32Array(1024);

  assertEquals(ram.readEntry(BASE + PAGE + 8, entry), true);
  assertEquals(ram.readPage(BASE / PAGE + 1, page), true);
  assertEquals(ram.write(BASE + 5, Uint8Array.of(9, 8)), true);

  assertEquals([entry, page.subarray(2, 4)], [
    Uint32Array.of(0x04030201, 0x88070605),
    Uint32Array.of(0x04030201, 0x88070605),
  ]);
  assertEquals([...remote.memory.subarray(4, 8)], [0, 9, 8, 0]);
  assertEquals(remote.asked, [["read", BASE + PAGE + 8, 8], ["read", BASE + PAGE, PAGE], [
    "write",
    BASE + 5,
    2,
  ]]);
  assertEquals(ram.regions.map(({ kind, readonly }) => [kind, readonly]), [["message", false]]);
});

Deno.test("a region of somebody else's memory fails, and changes nothing, when he does not answer", () => {
  const { ram, remote } = mapped();
  remote.isWilling = false;
  const entry = Uint32Array.of(7, 7);
  const page = new Uint32Array(1024).fill(7);
  const bytes = Uint8Array.of(7);

  assertEquals([ram.readEntry(BASE, entry), ram.readPage(BASE / PAGE, page), ram.read(BASE, bytes)], [
    false,
    false,
    false,
  ]);

  assertEquals([entry[0], page[0], bytes[0], ram.write(BASE, bytes)], [7, 7, 7, false]);
});

Deno.test("a region of somebody else's ROM is not written", () => {
  const { ram, remote } = mapped(true);

  assertEquals(ram.write(BASE, Uint8Array.of(1)), false);

  assertEquals(remote.asked, []);
});

Deno.test("nobody is asked for a region that is gone, or for what is beyond it", () => {
  const remote = new Remote();
  const backing = new MessageBacking(remote, BASE, PAGE, false);
  const byte = new Uint8Array(1);

  assertEquals([backing.read(PAGE, byte), backing.write(PAGE, byte)], [false, false]);
  assertEquals(backing.readPage(8, new Uint32Array(1024)), false);
  backing.close();
  backing.close();
  assertEquals([backing.read(0, byte), backing.write(0, byte)], [false, false]);
  assertEquals(remote.asked, []);
});

Deno.test("a region has one source", () => {
  using ram = new RamMap();
  const remote = new Remote();
  const place = { gpa: 0, size: PAGE };

  for (const sources of [{ remote, fd: 3 }, { remote, path: "/ram" }, { fd: 3, path: "/ram" }]) {
    assertThrows(() => ram.map({ ...place, ...sources }), RamError, "a region has one source");
  }
  assertThrows(() => ram.map({ ...place, offset: PAGE, remote }), RamError, "a file offset without a file");
  assertEquals(ram.regions, []);
});
