import { assertEquals } from "@std/assert";
import { PageCopy } from "../../mod.ts";
import { Guest, KINDS, testKinds } from "./memory_kinds.ts";

const PAGE = 4096;

/** A guest with two pages, the second full of entries, and a copy of that one. */
function guestWithCopy(kind: typeof KINDS[number]): [guest: Guest, copy: PageCopy] {
  const guest = new Guest(kind);
  guest.map(0, 2 * PAGE);
  const lanes = Uint32Array.from({ length: 1024 }, (_, lane) => lane * 0x9e37_79b1);
  guest.ram.write(PAGE, new Uint8Array(lanes.buffer));
  return [guest, new PageCopy(lanes)];
}

testKinds(
  "holdsPage() is true for the same bytes in memory of this process, never known of files",
  KINDS,
  (kind) => {
    const [guest, copy] = guestWithCopy(kind);
    using _ = guest;
    const isMemory = kind.expected !== "file";
    assertEquals([guest.ram.holdsPage(1, copy), guest.ram.holdsPage(0, copy)], [isMemory, false]);
    assertEquals([guest.ram.holdsPage(2, copy), guest.ram.holdsPage(2 ** 33, copy)], [false, false]);
  },
);

testKinds("holdsPage() sees each bit of each entry", KINDS, (kind) => {
  const [guest, copy] = guestWithCopy(kind);
  using _ = guest;
  for (const lane of [0, 1, 2, 511, 512, 1022, 1023]) {
    for (const bit of [0, 11, 31]) {
      copy.lanes[lane]! ^= 1 << bit;
      assertEquals(guest.ram.holdsPage(1, copy), false, `lane ${lane}, bit ${bit}`);
      copy.lanes[lane]! ^= 1 << bit;
    }
  }
  assertEquals(guest.ram.holdsPage(1, copy), kind.expected !== "file");
});

testKinds(
  "holdsPage() tells apart numbers that floating point does not, and knows itself in those that equal nothing",
  KINDS,
  (kind) => {
    const [guest, copy] = guestWithCopy(kind);
    using _ = guest;
    copy.lanes.fill(0);
    guest.ram.write(PAGE, copy.bytes);
    copy.lanes[7] = 0x8000_0000; // minus zero
    assertEquals(guest.ram.holdsPage(1, copy), false);
    copy.lanes.fill(0xffff_ffff); // no number
    guest.ram.write(PAGE, copy.bytes);
    assertEquals(guest.ram.holdsPage(1, copy), kind.expected !== "file");
  },
);

testKinds("holdsPage() knows nothing of memory that is gone, whatever was compared before", KINDS, (kind) => {
  const [guest, copy] = guestWithCopy(kind);
  using _ = guest;
  guest.ram.holdsPage(1, copy);
  guest.ram.unmap(0, 2 * PAGE);
  assertEquals(guest.ram.holdsPage(1, copy), false);
});
