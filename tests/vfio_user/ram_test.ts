// Guest RAM, with descriptors and without.

import { assert, assertEquals } from "@std/assert";
import { loadLibc, OpenFlag } from "../../src/platform/libc.ts";
import { ServedDevice } from "../../src/server/served_device.ts";
import {
  close,
  dup,
  eventfd,
  F_SEAL_WRITE,
  memfd,
  openDescriptors,
  openFile,
  peek,
  pipe,
  poke,
  reopenReadonly,
} from "./peer_libc.ts";
import { Command, Errno, peerTest, SessionPeer } from "./session_peer.ts";
import { dmaMap, dmaUnmap, payload, u32, u64 } from "./wire.ts";

const PAGE = 4096;
const SIZE = 16 * PAGE;
const O_APPEND = 0x400;

/** Shared memory that is closed at the end. */
class Memory implements Disposable {
  readonly fd: number;
  constructor(size: number = SIZE, seals?: number) {
    this.fd = memfd(size, seals);
  }
  [Symbol.dispose](): void {
    close(this.fd);
  }
}

/** A descriptor of shared memory whose every write goes to the end. */
function appending(): number {
  using memory = new Memory(SIZE, 0);
  return loadLibc().open(`/proc/self/fd/${memory.fd}`, OpenFlag.RDWR | OpenFlag.CLOEXEC | O_APPEND);
}

/** What the device finds at an address; `null` if it is no RAM. */
function read(peer: SessionPeer, gpa: number, length = 4): number[] | null {
  const bytes = new Uint8Array(length);
  return peer.served.device.ram.read(gpa, bytes) ? [...bytes] : null;
}

/** Kinds and rights of what is mapped. */
function regions(peer: SessionPeer): unknown[] {
  return peer.served.device.ram.regions.map(({ gpa, kind, readonly }) => [gpa, kind, readonly]);
}

peerTest("RAM whose memory is sealed is mapped, and both sides see each other's stores", () => {
  using memory = new Memory();
  using peer = new SessionPeer();
  peer.ok(Command.DMA_MAP, dmaMap(0x10_0000, 8 * PAGE, 3, 4 * PAGE), [dup(memory.fd)]);

  poke(memory.fd, 5 * PAGE, Uint8Array.of(1, 2, 3, 4));
  peer.served.device.ram.write(0x10_0000, Uint8Array.of(9, 8));

  assertEquals(read(peer, 0x10_1000), [1, 2, 3, 4]);
  assertEquals([...peek(memory.fd, 4 * PAGE, 2)], [9, 8]);
  assertEquals(regions(peer), [[0x10_0000, "mapped", false]]);
  peer.assertDescriptors(); // the mapping needs none
});

peerTest("RAM whose memory could shrink is read by position, and its descriptor kept", () => {
  using memory = new Memory(SIZE, 0);
  using peer = new SessionPeer();
  peer.ok(Command.DMA_MAP, dmaMap(0, SIZE), [dup(memory.fd)]);

  poke(memory.fd, 0, Uint8Array.of(1, 2, 3, 4));

  assertEquals([read(peer, 0), regions(peer)], [[1, 2, 3, 4], [[0, "file", false]]]);
  peer.assertDescriptors(1);
  peer.ok(Command.DMA_UNMAP, dmaUnmap(0, SIZE));
  assertEquals(read(peer, 0), null);
  peer.assertDescriptors();
});

for (const seals of [undefined, 0]) {
  const how = seals === 0 ? "read by position" : "mapped";
  peerTest(`RAM that may only be read is not written when it is ${how}`, () => {
    using memory = new Memory(SIZE, seals);
    using peer = new SessionPeer();
    peer.ok(Command.DMA_MAP, dmaMap(0, SIZE, 1), [dup(memory.fd)]);
    peer.ok(Command.DMA_MAP, dmaMap(SIZE, SIZE, 3), [reopenReadonly(memory.fd)]);

    const { ram } = peer.served.device;

    assertEquals(ram.regions.map(({ readonly }) => readonly), [true, true]);
    assertEquals([ram.write(0, Uint8Array.of(1)), ram.write(SIZE, Uint8Array.of(1))], [false, false]);
    assertEquals([read(peer, 0, 1), read(peer, SIZE, 1)], [[0], [0]]);
  });
}

peerTest("RAM that may only be read can have a descriptor that appends", () => {
  using peer = new SessionPeer();

  peer.ok(Command.DMA_MAP, dmaMap(0, SIZE, 1), [appending()]);

  assertEquals(regions(peer), [[0, "file", true]]);
  assertEquals(read(peer, 0), [0, 0, 0, 0]);
});

peerTest("RAM beyond 4 GiB can be mapped", () => {
  using memory = new Memory();
  using peer = new SessionPeer();
  poke(memory.fd, 0, Uint8Array.of(7));

  peer.ok(Command.DMA_MAP, dmaMap(0x1_4000_0000, SIZE), [dup(memory.fd)]);

  assertEquals(read(peer, 0x1_4000_0000, 1), [7]);
});

peerTest("RAM that is not shared draws one clear line, however much there is", () => {
  using peer = new SessionPeer();

  peer.ok(Command.DMA_MAP, dmaMap(0, SIZE));
  peer.ok(Command.DMA_MAP, dmaMap(SIZE, SIZE));

  const warnings = peer.log.filter(({ level }) => level === "warn").map(({ message }) => message);
  assertEquals(warnings, [
    "guest RAM is not shared: add -object memory-backend-memfd,id=ram0,size=…,share=on and " +
    "-machine memory-backend=ram0 to QEMU's command line",
  ]);
  assertEquals(regions(peer), [[0, "message", false], [SIZE, "message", false]]);
  assertEquals(read(peer, 0), null); // nobody can be asked here
});

peerTest("ROM that is not shared draws no warning", () => {
  using peer = new SessionPeer();

  peer.ok(Command.DMA_MAP, dmaMap(0xfffc_0000, 0x4_0000, 1));

  assertEquals(peer.log.filter(({ level }) => level === "warn"), []);
  assertEquals(regions(peer), [[0xfffc_0000, "message", true]]);
});

peerTest("shared RAM that holds nothing draws one line when the guest begins to use the device", () => {
  using memory = new Memory();
  using peer = new SessionPeer();
  const warnings = () => peer.log.filter(({ level }) => level === "warn").map(({ message }) => message);
  peer.ok(Command.DMA_MAP, dmaMap(0, SIZE), [dup(memory.fd)]);
  peer.store(7, 4, 2, 6);
  assertEquals(warnings(), []);

  peer.store(0, 0x2030, 4, 1);
  peer.store(0, 0x2030, 4, 1);

  assertEquals(warnings(), ["guest RAM holds nothing but zeros: is its memory backend share=on?"]);
});

for (const page of [0, SIZE / PAGE - 1]) {
  peerTest(`shared RAM that holds something in page ${page} draws no line`, () => {
    using memory = new Memory();
    using peer = new SessionPeer();
    peer.ok(Command.DMA_MAP, dmaMap(0, SIZE / 2), [dup(memory.fd)]);
    peer.ok(Command.DMA_MAP, dmaMap(SIZE / 2, SIZE / 2, 3, SIZE / 2), [dup(memory.fd)]);
    poke(memory.fd, page * PAGE + 4092, Uint8Array.of(1));

    peer.store(0, 0x2030, 4, 1);

    assertEquals(peer.log.filter(({ level }) => level === "warn"), []);
  });
}

peerTest("RAM is removed by exact address and size only", () => {
  using peer = new SessionPeer();
  peer.ok(Command.DMA_MAP, dmaMap(PAGE, 4 * PAGE));

  for (
    const [gpa, size] of [[PAGE, PAGE], [0, 4 * PAGE], [2 * PAGE, 3 * PAGE], [PAGE, 5 * PAGE], [
      0,
      0,
    ]] as const
  ) {
    assertEquals(peer.errno(Command.DMA_UNMAP, dmaUnmap(gpa, size)), Errno.ENOENT);
  }
  assertEquals(regions(peer).length, 1);
  assertEquals(peer.ok(Command.DMA_UNMAP, dmaUnmap(PAGE, 4 * PAGE)), dmaUnmap(PAGE, 4 * PAGE));
  assertEquals(peer.errno(Command.DMA_UNMAP, dmaUnmap(PAGE, 4 * PAGE)), Errno.ENOENT);
  assertEquals(regions(peer), []);
});

peerTest("all RAM is removed at once when the VMM asks for that", () => {
  using memory = new Memory(SIZE, 0);
  using peer = new SessionPeer();
  peer.ok(Command.DMA_MAP, dmaMap(0, SIZE), [dup(memory.fd)]);
  peer.ok(Command.DMA_MAP, dmaMap(SIZE, SIZE));
  peer.ok(Command.DMA_MAP, dmaMap(2n ** 62n, SIZE));

  assertEquals(peer.errno(Command.DMA_UNMAP, dmaUnmap(0, SIZE, 2)), Errno.EINVAL);
  assertEquals(regions(peer).length, 2);
  peer.ok(Command.DMA_UNMAP, dmaUnmap(0, 0, 2));

  assertEquals(regions(peer), []);
  peer.assertDescriptors();
  peer.ok(Command.DMA_MAP, dmaMap(2n ** 62n, SIZE));
});

peerTest("RAM beyond what the GPU can address is accepted, and forgotten as exactly as it was mapped", () => {
  using memory = new Memory();
  using peer = new SessionPeer();
  const high = 2n ** 63n + 0x1000n;

  peer.ok(Command.DMA_MAP, dmaMap(high, SIZE), [dup(memory.fd)]);
  peer.ok(Command.DMA_MAP, dmaMap(2 ** 46 - PAGE, 2 * PAGE), [dup(memory.fd)]);

  assertEquals(regions(peer), []);
  peer.assertDescriptors(); // nothing is kept
  assertEquals(peer.errno(Command.DMA_MAP, dmaMap(high, SIZE)), Errno.EEXIST);
  assertEquals(peer.errno(Command.DMA_UNMAP, dmaUnmap(high + 1n, SIZE)), Errno.ENOENT);
  peer.ok(Command.DMA_UNMAP, dmaUnmap(high, SIZE));
  assertEquals(peer.errno(Command.DMA_UNMAP, dmaUnmap(high, SIZE)), Errno.ENOENT);
});

peerTest("ranges beyond what the GPU can address cannot be made without end", () => {
  using peer = new SessionPeer();
  const results = new Set<number>();
  for (let i = 0n; i < 300n; i++) results.add(peer.call(Command.DMA_MAP, dmaMap(2n ** 60n + i, 1)).errno);

  assertEquals(results, new Set([0, Errno.ENOSPC]));
  peer.assertServes();
});

peerTest("RAM is given back when the VMM goes, and the next one finds none", () => {
  const before = openDescriptors();
  using memory = new Memory(SIZE, 0);
  const served = new ServedDevice({}, false);
  {
    using first = new SessionPeer({ served });
    first.ok(Command.DMA_MAP, dmaMap(0, SIZE), [dup(memory.fd)]);
    first.store(0, 0x2030, 4, 1);
  }
  assertEquals(openDescriptors() - before, 1);
  {
    using second = new SessionPeer({ served });
    assertEquals([second.load(0, 0x2030, 4), regions(second)], [0, []]);
    second.ok(Command.DMA_MAP, dmaMap(0, SIZE), [dup(memory.fd)]);
  }
  assertEquals(openDescriptors() - before, 1);
  served.device[Symbol.dispose]();
});

/** What is wrong, the message's body, what comes with it, and the answer. */
const WRONG: readonly (readonly [string, Uint8Array, () => number[], number])[] = [
  ["two descriptors", dmaMap(0, SIZE), () => [memfd(SIZE), memfd(SIZE)], Errno.EINVAL],
  ["seventeen descriptors", dmaMap(0, SIZE), () => Array.from({ length: 17 }, eventfd), Errno.EINVAL],
  ["an eventfd", dmaMap(0, SIZE), () => [eventfd()], Errno.EINVAL],
  [
    "a pipe",
    dmaMap(0, SIZE),
    () => {
      const [out, into] = pipe();
      close(into);
      return [out];
    },
    Errno.EINVAL,
  ],
  ["a file of the kernel's", dmaMap(0, PAGE), () => [openFile("/proc/self/status")], Errno.EINVAL],
  ["a folder", dmaMap(0, PAGE), () => [openFile("/tmp")], Errno.EINVAL],
  ["memory that ends before the region", dmaMap(0, 2 * SIZE), () => [memfd(SIZE)], Errno.EINVAL],
  ["an offset beyond the memory", dmaMap(0, PAGE, 3, SIZE), () => [memfd(SIZE)], Errno.EINVAL],
  ["an offset that overflows", payload(u32(32), u32(3), u64(2n ** 64n - 4096n), u64(0), u64(SIZE)), () => [
    memfd(SIZE),
  ], Errno.EINVAL],
  ["memory that is sealed against writing", dmaMap(0, SIZE), () => [memfd(SIZE, F_SEAL_WRITE)], Errno.EACCES],
  ["memory whose descriptor appends", dmaMap(0, SIZE), () => [appending()], Errno.EINVAL],
  ["an address inside a page", dmaMap(0x10, SIZE), () => [memfd(SIZE)], Errno.EINVAL],
  ["a size of half a page", dmaMap(0, 0x800), () => [memfd(SIZE)], Errno.EINVAL],
  ["an offset inside a page", dmaMap(0, PAGE, 3, 8), () => [memfd(SIZE)], Errno.EINVAL],
  ["a size of 0", dmaMap(0, 0), () => [memfd(SIZE)], Errno.EINVAL],
  ["a size that no guest has", dmaMap(0, 2 ** 41), () => [memfd(SIZE)], Errno.EINVAL],
  ["an overlap", dmaMap(0x7f_f000, 2 * PAGE), () => [memfd(SIZE)], Errno.EEXIST],
  ["an overlap without descriptor", dmaMap(0x80_0000, PAGE), () => [], Errno.EEXIST],
  ["no rights", dmaMap(0, SIZE, 0), () => [memfd(SIZE)], Errno.EINVAL],
  ["the right to write only", dmaMap(0, SIZE, 2), () => [memfd(SIZE)], Errno.EINVAL],
  ["a flag that there is not", dmaMap(0, SIZE, 7), () => [memfd(SIZE)], Errno.EINVAL],
  ["less than a whole message", dmaMap(0, SIZE).subarray(0, 31), () => [memfd(SIZE)], Errno.EINVAL],
  ["a size of arguments that is too small", dmaMap(0, SIZE).with(0, 31), () => [memfd(SIZE)], Errno.EINVAL],
];

for (const [what, body, fds, errno] of WRONG) {
  peerTest(`mapping RAM fails and changes nothing with ${what}`, () => {
    using peer = new SessionPeer();
    peer.ok(Command.DMA_MAP, dmaMap(0x80_0000, PAGE));

    assertEquals(peer.errno(Command.DMA_MAP, body, fds()), errno);

    assertEquals(regions(peer), [[0x80_0000, "message", false]]);
    peer.assertDescriptors();
    peer.assertServes();
  });
}

peerTest("mapping RAM says in the log what is wrong with it", () => {
  using peer = new SessionPeer();

  peer.errno(Command.DMA_MAP, dmaMap(0, 2 * SIZE), [memfd(SIZE)]);

  assert(peer.log.some(({ level, message }) => level === "warn" && message === "RAM refused"));
});

for (
  const [what, body, errno] of [
    ["tracking of dirty pages", dmaUnmap(0x80_0000, PAGE, 1), Errno.EOPNOTSUPP],
    ["two flags", dmaUnmap(0, 0, 3), Errno.EINVAL],
    ["a flag that there is not", dmaUnmap(0x80_0000, PAGE, 4), Errno.EINVAL],
    ["less than a whole message", dmaUnmap(0x80_0000, PAGE).subarray(0, 23), Errno.EINVAL],
    ["a size of arguments that is too small", dmaUnmap(0x80_0000, PAGE).with(0, 23), Errno.EINVAL],
  ] as const
) {
  peerTest(`removing RAM fails and changes nothing with ${what}`, () => {
    using peer = new SessionPeer();
    peer.ok(Command.DMA_MAP, dmaMap(0x80_0000, PAGE));

    assertEquals(peer.errno(Command.DMA_UNMAP, body), errno);

    assertEquals(regions(peer).length, 1);
    peer.assertServes();
  });
}
