// What a broken or hostile VMM can send. After each: the right errno or the end of the session, no descriptor left, and
// a device that serves.

import { assertEquals } from "@std/assert";
import { MAX_MESSAGE_BYTES, MAX_VERSION_BYTES } from "../../protocol/vfio_user.ts";
import { RpcSession } from "../../src/server/rpc_session.ts";
import { DeviceService } from "../../src/server/device_service.ts";
import { encode } from "../../protocol/codec.ts";
import { close, dup, memfd } from "./peer_libc.ts";
import { Command, CountedDescriptors, Errno, HeaderFlag, peerTest, SessionPeer } from "./session_peer.ts";
import {
  access,
  ask,
  concat,
  dmaMap,
  dmaUnmap,
  message,
  payload,
  setIrqs,
  store,
  storeMany,
  u16,
  u32,
  u64,
  version,
} from "./wire.ts";

const NONE = new Uint8Array(0);

/** The session has ended as it should; another VMM finds a device that serves. */
function assertNextIsServed(peer: SessionPeer): void {
  peer.assertEnded();
  using next = new SessionPeer({ served: peer.served, descriptors: peer.descriptors });
  next.assertServes();
}

// ---- a stream that is wrong ends, with a last error where there is something to answer

for (const size of [0, 1, 15, MAX_MESSAGE_BYTES + 1, 0x7fff_ffff, 0xffff_ffff]) {
  peerTest(`a message that says it has ${size} bytes ends the session with EMSGSIZE`, () => {
    using peer = new SessionPeer();

    const reply = peer.call(Command.REGION_READ, access(7, 0, 4), [peer.descriptors.make()], { size });

    assertEquals([reply.flags, reply.errno], [0x21, Errno.EMSGSIZE]);
    assertNextIsServed(peer);
  });
}

peerTest("the largest message there can be is none too large", () => {
  using peer = new SessionPeer();

  assertEquals(peer.errno(99, new Uint8Array(MAX_MESSAGE_BYTES - 16)), Errno.ENOSYS);

  peer.assertServes();
});

peerTest("a first message that is larger than a version can be ends the session", () => {
  using peer = new SessionPeer({ silent: true });

  const size = MAX_VERSION_BYTES + 1;
  assertEquals(peer.errno(Command.VERSION, NONE, [], { size }), Errno.EMSGSIZE);

  assertNextIsServed(peer);
});

for (
  const [what, flags] of [["a reply to nothing", 1], ["an error reply to nothing", 0x21], [
    "a reply that wants none",
    0x11,
  ]] as const
) {
  peerTest(`${what} ends the session without a word`, () => {
    using peer = new SessionPeer();

    peer.send(message(Command.DMA_READ, access(7, 0, 4), { flags }), [peer.descriptors.make()]);

    assertEquals(peer.replies(), []);
    assertNextIsServed(peer);
  });
}

peerTest("a reply of a wrong size ends the session without a word", () => {
  using peer = new SessionPeer();

  peer.send(message(Command.DMA_READ, NONE, { flags: 1, size: 3 }));

  assertEquals(peer.replies(), []);
  assertNextIsServed(peer);
});

peerTest("something that is neither command nor reply ends the session with EINVAL", () => {
  using peer = new SessionPeer();

  assertEquals(peer.errno(Command.REGION_READ, access(7, 0, 4), [], { flags: 2 }), Errno.EINVAL);

  assertNextIsServed(peer);
});

peerTest("what comes after the end of a stream is not looked at", () => {
  using peer = new SessionPeer();
  const before = peer.served.device.vgpu.counters.bar0Writes;

  peer.send(concat([
    message(Command.REGION_READ, NONE, { size: 5 }),
    message(Command.REGION_WRITE, store(0, 0x2030, 4, 1), { flags: HeaderFlag.NO_REPLY }),
  ]));
  peer.send(message(Command.REGION_READ, access(7, 0, 4)), [peer.descriptors.make()]);

  assertEquals([peer.replies().length, peer.served.device.vgpu.counters.bar0Writes - before], [1, 0]);
  assertNextIsServed(peer);
});

// ---- the version

const text = (json: string) => payload(u16(0), u16(0), new TextEncoder().encode(json));

for (
  const [what, body] of [
    ["another major number", payload(u16(1), u16(0), new TextEncoder().encode("{}\0"))],
    ["nothing", NONE],
    ["half a version", Uint8Array.of(0, 0, 0)],
    ["text without NUL", text('{"capabilities":{}}')],
    ["text that is no JSON", text("{\0")],
    ["text that is no UTF-8", payload(u16(0), u16(0), Uint8Array.of(0x22, 0xff, 0x22, 0))],
    ["an empty text", text("\0")],
    ["a list", text("[]\0")],
    ["a number", text("7\0")],
    ["null", text("null\0")],
    ["capabilities that are a list", text('{"capabilities":[]}\0')],
    ["capabilities that are text", text('{"capabilities":"all"}\0')],
    ["fewer than no descriptors", text('{"capabilities":{"max_msg_fds":-1}}\0')],
    ["half a descriptor", text('{"capabilities":{"max_msg_fds":0.5}}\0')],
    ["descriptors as text", text('{"capabilities":{"max_msg_fds":"8"}}\0')],
    ["transfers of nothing", text('{"capabilities":{"max_data_xfer_size":0}}\0')],
    ["transfers without measure", text('{"capabilities":{"max_data_xfer_size":1e300}}\0')],
    ["write_multiple that is a number", text('{"capabilities":{"write_multiple":1}}\0')],
    ["very deep nesting", text(`${"[".repeat(4000)}\0`)],
  ] as const
) {
  peerTest(`a version with ${what} ends the session with EINVAL`, () => {
    using peer = new SessionPeer({ silent: true });

    assertEquals(peer.errno(Command.VERSION, body), Errno.EINVAL);

    assertEquals(peer.session.isOpen, false);
    assertNextIsServed(peer);
  });
}

for (
  const [what, bytes] of [
    ["without text", version(null)],
    ["of a later minor number", version("{}", 0, 7)],
    ["without capabilities", version("{}")],
    [
      "with capabilities that nobody knows",
      version('{"capabilities":{"twin_socket":{"supported":true},"x":[1]},"y":0}'),
    ],
    ["with text that goes on after NUL", concat([version("{}").with(4, 24), Uint8Array.of(65)])],
  ] as const
) {
  peerTest(`a version ${what} is accepted`, () => {
    using peer = new SessionPeer({ silent: true });

    peer.send(bytes.with(4, bytes.length));

    assertEquals(peer.replies().map(({ flags }) => flags), [HeaderFlag.REPLY]);
    peer.assertServes();
  });
}

for (const command of [0, 2, 3, 4, 8, 9, 10, 13, 15, 99]) {
  peerTest(`command ${command} before the version ends the session with EINVAL`, () => {
    using peer = new SessionPeer({ silent: true });

    assertEquals(peer.errno(command, dmaMap(0, 4096), [peer.descriptors.make()]), Errno.EINVAL);

    assertNextIsServed(peer);
  });
}

peerTest("a version with a descriptor ends the session with EINVAL", () => {
  using peer = new SessionPeer({ silent: true });

  peer.send(version(), [peer.descriptors.make()]);

  assertEquals(peer.replies().map(({ errno }) => errno), [Errno.EINVAL]);
  assertNextIsServed(peer);
});

peerTest("a second version is refused and changes nothing", () => {
  using peer = new SessionPeer();

  assertEquals(peer.errno(Command.VERSION, text("{}\0")), Errno.EINVAL);

  peer.assertServes();
});

// ---- commands that are wrong get an errno

/** What is wrong, the command, its body, and the answer. */
const WRONG: readonly (readonly [string, number, Uint8Array, number])[] = [
  ["command 0", 0, NONE, Errno.ENOSYS],
  ["command 17", 17, NONE, Errno.ENOSYS],
  ["command 0xffff", 0xffff, new Uint8Array(100), Errno.ENOSYS],
  ["reading guest memory of the VMM's", Command.DMA_READ, payload(u64(0), u64(4)), Errno.EINVAL],
  ["writing guest memory of the VMM's", Command.DMA_WRITE, payload(u64(0), u64(4), u32(0)), Errno.EINVAL],
  ["device information without room for it", Command.DEVICE_GET_INFO, ask(15), Errno.EINVAL],
  ["information on region 9", Command.DEVICE_GET_REGION_INFO, ask(32, 9), Errno.EINVAL],
  ["information on region -1", Command.DEVICE_GET_REGION_INFO, ask(32, 0xffff_ffff), Errno.EINVAL],
  [
    "information on a region without room for it",
    Command.DEVICE_GET_REGION_INFO,
    ask(32).with(0, 31),
    Errno.EINVAL,
  ],
  ["descriptors of region 9", Command.DEVICE_GET_REGION_IO_FDS, ask(16, 9), Errno.EINVAL],
  ["information on interrupt 5", Command.DEVICE_GET_IRQ_INFO, ask(16, 5), Errno.EINVAL],
  ["information on interrupt -1", Command.DEVICE_GET_IRQ_INFO, ask(16, 0xffff_ffff), Errno.EINVAL],
  [
    "information on an interrupt without room",
    Command.DEVICE_GET_IRQ_INFO,
    ask(16).with(0, 15),
    Errno.EINVAL,
  ],
  ["a load of region 9", Command.REGION_READ, access(9, 0, 4), Errno.EINVAL],
  ["a load of region -1", Command.REGION_READ, access(0xffff_ffff, 0, 4), Errno.EINVAL],
  ["a load of a region of size 0", Command.REGION_READ, access(1, 0, 4), Errno.EINVAL],
  ["a load beyond the region", Command.REGION_READ, access(7, 253, 4), Errno.EINVAL],
  ["a load whose end overflows 32 bits", Command.REGION_READ, access(0, 0xffff_fffc, 8), Errno.EINVAL],
  ["a load whose end overflows 64 bits", Command.REGION_READ, access(0, 2n ** 64n - 4n, 8), Errno.EINVAL],
  ["a load at 2^53", Command.REGION_READ, access(0, 2n ** 53n + 1n, 4), Errno.EINVAL],
  ["a load of 4 GiB", Command.REGION_READ, access(2, 0, 0xffff_ffff), Errno.EINVAL],
  ["a load with data", Command.REGION_READ, payload(access(7, 0, 4), u32(1)), Errno.EINVAL],
  ["a store beyond the region", Command.REGION_WRITE, store(2, (256 << 20) - 2, 4, 0), Errno.EINVAL],
  [
    "a store whose end overflows",
    Command.REGION_WRITE,
    payload(access(0, 2n ** 64n - 4n, 4), u32(0)),
    Errno.EINVAL,
  ],
  [
    "a store with less data than it says",
    Command.REGION_WRITE,
    payload(access(0, 0, 8), u32(0)),
    Errno.EINVAL,
  ],
  [
    "a store with more data than it says",
    Command.REGION_WRITE,
    payload(access(0, 0, 2), u32(0)),
    Errno.EINVAL,
  ],
  ["a store of 4 GiB", Command.REGION_WRITE, payload(access(2, 0, 0xffff_ffff), u32(0)), Errno.EINVAL],
  ["fewer stores than it says", Command.REGION_WRITE_MULTI, storeMany([0, 0, 4, 0]).with(0, 2), Errno.EINVAL],
  ["more stores than it says", Command.REGION_WRITE_MULTI, storeMany([0, 0, 4, 0]).with(0, 0), Errno.EINVAL],
  ["stores without number", Command.REGION_WRITE_MULTI, payload(u64(2n ** 64n - 1n)), Errno.EINVAL],
  ["dirty pages", Command.DIRTY_PAGES, payload(u32(8), u32(1)), Errno.EOPNOTSUPP],
  ["dirty pages, not whole", Command.DIRTY_PAGES, payload(u32(8)), Errno.EINVAL],
  [
    "an unknown feature, whether it is there",
    Command.DEVICE_FEATURE,
    payload(u32(8), u32(0x5_0001)),
    Errno.ENOTTY,
  ],
  ["an unknown feature, to read it", Command.DEVICE_FEATURE, payload(u32(64), u32(0x1_0002)), Errno.ENOTTY],
  [
    "an unknown feature, to set it",
    Command.DEVICE_FEATURE,
    payload(u32(12), u32(0x2_0000), u32(1)),
    Errno.ENOTTY,
  ],
  [
    "a feature, whether it can be read and set",
    Command.DEVICE_FEATURE,
    payload(u32(8), u32(0x7_0000)),
    Errno.ENOTTY,
  ],
  ["a feature, to read and set it", Command.DEVICE_FEATURE, payload(u32(8), u32(0x3_0000)), Errno.EINVAL],
  ["a feature, for nothing", Command.DEVICE_FEATURE, payload(u32(8), u32(1)), Errno.EINVAL],
  ["a feature, with unknown flags", Command.DEVICE_FEATURE, payload(u32(8), u32(0x8_0001)), Errno.EINVAL],
  ["a feature, not whole", Command.DEVICE_FEATURE, payload(u32(8)), Errno.EINVAL],
  ["a feature, with a size of 0", Command.DEVICE_FEATURE, payload(u32(0), u32(0x1_0001)), Errno.EINVAL],
];

for (const [what, command, body, errno] of WRONG) {
  peerTest(`asking for ${what} gets an errno, and the session lives`, () => {
    using peer = new SessionPeer();

    assertEquals(peer.errno(command, body), errno);

    peer.assertServes();
    peer.assertDescriptors();
  });
}

peerTest("room for a very large answer gets the ordinary one", () => {
  using peer = new SessionPeer();
  const roomy = (size: number, index: number) => payload(u32(0xffff_ffff), ask(size, index).subarray(4));

  assertEquals(peer.ok(Command.DEVICE_GET_INFO, roomy(16, 0)).length, 16);
  assertEquals(peer.ok(Command.DEVICE_GET_REGION_INFO, roomy(32, 0)).length, 32);
  assertEquals(peer.ok(Command.DEVICE_GET_IRQ_INFO, roomy(16, 1)).length, 16);
  assertEquals(
    peer.ok(Command.DEVICE_GET_REGION_IO_FDS, roomy(16, 0)),
    payload(u32(16), u32(0), u32(0), u32(0)),
  );
});

// ---- every kind of command, whole

/** A message of each kind, and whether it needs a descriptor. */
const EACH: readonly (readonly [string, number, Uint8Array, "ram" | "eventfd" | null])[] = [
  ["DMA_MAP", Command.DMA_MAP, dmaMap(0, 4096), "ram"],
  ["DMA_UNMAP", Command.DMA_UNMAP, dmaUnmap(0x80_0000, 4096), null],
  ["DEVICE_GET_INFO", Command.DEVICE_GET_INFO, ask(16), null],
  ["DEVICE_GET_REGION_INFO", Command.DEVICE_GET_REGION_INFO, ask(32), null],
  ["DEVICE_GET_REGION_IO_FDS", Command.DEVICE_GET_REGION_IO_FDS, ask(16), null],
  ["DEVICE_GET_IRQ_INFO", Command.DEVICE_GET_IRQ_INFO, ask(16), null],
  ["DEVICE_SET_IRQS", Command.DEVICE_SET_IRQS, setIrqs(0x24, 1), "eventfd"],
  ["REGION_READ", Command.REGION_READ, access(0, 0x2030, 4), null],
  ["REGION_WRITE", Command.REGION_WRITE, store(0, 0x2030, 8, 1), null],
  ["REGION_WRITE_MULTI", Command.REGION_WRITE_MULTI, storeMany([0, 0x2030, 4, 1], [0, 0x2034, 4, 1]), null],
  ["DEVICE_RESET", Command.DEVICE_RESET, NONE, null],
];

/** The descriptors that a message needs. */
function descriptorsFor(peer: SessionPeer, kind: "ram" | "eventfd" | null): number[] {
  return kind === null ? [] : [kind === "ram" ? memfd(4096) : peer.descriptors.make()];
}

for (const [name, command, body, kind] of EACH) {
  peerTest(`${name} that is shorter than itself gets EINVAL, however short`, () => {
    using peer = new SessionPeer();
    for (let length = 0; length < body.length; length++) {
      const fds = descriptorsFor(peer, kind);
      assertEquals(peer.errno(command, body.subarray(0, length), fds), Errno.EINVAL, `${length} bytes`);
      peer.assertDescriptors();
    }
    peer.assertServes();
  });

  peerTest(`${name} that never comes to its end leaves nothing, wherever it stops`, () => {
    using first = new SessionPeer();
    const { served } = first;
    first.session.end();
    const whole = message(command, body);
    for (let length = 1; length < whole.length; length++) {
      using peer = new SessionPeer({ served });
      peer.send(whole.subarray(0, length), descriptorsFor(peer, kind));
      assertEquals([peer.replies(), peer.session.isStalled], [[], false]);
      peer.session.end();
      peer.assertEnded();
    }
    using last = new SessionPeer({ served });
    last.assertServes();
  });

  peerTest(`${name} is the same wherever it is cut, and with either piece its descriptors come`, () => {
    using peer = new SessionPeer();
    const whole = message(command, body, { id: 5 });
    const undo = () => {
      peer.post(Command.DMA_UNMAP, dmaUnmap(0, 0, 2));
      peer.post(Command.DMA_MAP, dmaMap(0x80_0000, 4096));
      peer.post(Command.DEVICE_SET_IRQS, setIrqs(0x21, 1, 0));
    };
    undo();
    for (let cut = 1; cut < whole.length; cut++) {
      for (const isFirst of kind === null ? [true] : [true, false]) {
        const fds = descriptorsFor(peer, kind);
        peer.send(whole.subarray(0, cut), isFirst ? fds : []);
        assertEquals(peer.replies(), []);
        peer.send(whole.subarray(cut), isFirst ? [] : fds);
        assertEquals(peer.replies().map(({ id, errno }) => [id, errno]), [[5, 0]], `cut at ${cut}`);
        undo();
        peer.assertDescriptors();
      }
    }
    peer.assertServes();
  });

  if (kind !== null) continue;
  peerTest(`${name} with a descriptor gets EINVAL, and the descriptor is closed`, () => {
    using peer = new SessionPeer();

    assertEquals(peer.errno(command, body, [peer.descriptors.make()]), Errno.EINVAL);
    peer.post(command, body, [peer.descriptors.make(), peer.descriptors.make()]);

    assertEquals(peer.session.failedNotifications, 1);
    peer.assertDescriptors();
    peer.assertServes();
  });
}

// ---- descriptors

peerTest("descriptors belong to the last of the messages that come together", () => {
  using peer = new SessionPeer();
  const [ram, eventfd] = [memfd(4096), peer.descriptors.make()];

  peer.send(
    concat([
      message(Command.REGION_READ, access(7, 0, 4), { id: 1 }),
      message(Command.REGION_WRITE, store(0, 0x2030, 4, 1), { id: 2, flags: HeaderFlag.NO_REPLY }),
      message(Command.DMA_MAP, dmaMap(0, 4096), { id: 3 }),
    ]),
    [ram],
  );
  peer.send(
    concat([
      message(Command.DMA_MAP, dmaMap(4096, 4096), { id: 4 }),
      message(Command.DEVICE_SET_IRQS, setIrqs(0x24, 1), { id: 5 }),
    ]),
    [eventfd],
  );

  assertEquals(peer.replies().map(({ id, errno }) => [id, errno]), [[1, 0], [3, 0], [4, 0], [5, 0]]);
  assertEquals(peer.served.device.ram.regions.map(({ kind }) => kind), ["mapped", "message"]);
  assertEquals(peer.descriptors.openCount, 1);
});

peerTest("descriptors wait with their message for another turn", () => {
  using peer = new SessionPeer();
  const ram = memfd(4096);
  const turns = { isOver: () => true };
  const bytes = concat([
    message(Command.REGION_READ, access(7, 0, 4), { id: 1 }),
    message(Command.DMA_MAP, dmaMap(0, 4096), { id: 2 }),
  ]);

  peer.session.receive(bytes, turns, bytes.length, [ram]);
  assertEquals([peer.session.isStalled, peer.served.device.ram.regions.length], [true, 0]);

  assertEquals(peer.replies().map(({ id, errno }) => [id, errno]), [[1, 0], [2, 0]]);
  assertEquals(peer.served.device.ram.regions.map(({ kind }) => kind), ["mapped"]);
});

peerTest("descriptors that wait are closed when the session ends", () => {
  using peer = new SessionPeer();
  const bytes = message(Command.DMA_MAP, dmaMap(0, 4096));

  peer.session.receive(bytes, { isOver: () => true }, bytes.length, [memfd(4096), peer.descriptors.make()]);
  peer.session.close();

  peer.assertEnded();
});

peerTest("descriptors for a message that comes in many pieces are counted together", () => {
  using peer = new SessionPeer();
  const whole = message(Command.DEVICE_SET_IRQS, setIrqs(0x24, 1), { id: 8 });

  for (let at = 0; at < 17; at++) peer.send(whole.subarray(at, at + 1), [peer.descriptors.make()]);
  peer.send(whole.subarray(17));

  assertEquals(peer.replies().map(({ id, errno }) => [id, errno]), [[8, Errno.EINVAL]]);
  peer.assertDescriptors();
  peer.assertServes();
});

peerTest("descriptors without end for a message that never ends end the session", () => {
  using peer = new SessionPeer();
  const whole = message(99, new Uint8Array(1000));

  for (let at = 0; at < 100; at++) peer.send(whole.subarray(at, at + 1), [peer.descriptors.make()]);

  assertNextIsServed(peer);
});

peerTest("a descriptor in place of memory that is none is closed", () => {
  using peer = new SessionPeer();

  assertEquals(peer.errno(Command.DMA_MAP, dmaMap(0, 4096), [peer.descriptors.make("other")]), Errno.EACCES);

  peer.assertDescriptors();
  peer.assertServes();
});

peerTest("the same memory may be mapped many times", () => {
  using peer = new SessionPeer();
  const ram = memfd(4096, 0);
  for (let i = 0; i < 200; i++) peer.ok(Command.DMA_MAP, dmaMap(i * 4096, 4096), [dup(ram)]);
  close(ram);

  peer.assertDescriptors(200);
  peer.session.end();
  peer.assertEnded();
});

peerTest("there are only so many regions of RAM", () => {
  using peer = new SessionPeer();
  for (let i = 0; i < 256; i++) peer.ok(Command.DMA_MAP, dmaMap(i * 4096, 4096));

  assertEquals(peer.errno(Command.DMA_MAP, dmaMap(256 * 4096, 4096), [memfd(4096)]), Errno.ENOSPC);

  peer.assertDescriptors();
  peer.assertServes();
});

// ---- who may drive the device

peerTest("a second vfio-user client gets EBUSY, and the device when the first has gone", () => {
  using first = new SessionPeer();
  using second = new SessionPeer({ served: first.served, descriptors: first.descriptors, silent: true });

  second.send(version());

  assertEquals(second.replies().map(({ errno }) => errno), [Errno.EBUSY]);
  assertEquals([second.session.isOpen, second.session.isClosing], [false, true]);
  first.assertServes();
  first.session.end();
  using third = new SessionPeer({ served: first.served, descriptors: first.descriptors });
  third.assertServes();
});

peerTest("a VMM of either protocol gets EBUSY while one of the other drives the device", () => {
  const service = new DeviceService();
  const descriptors = new CountedDescriptors();
  const hello = encode([0, 0, "hello", [{ protocol: 1, role: "vmm" }]]);
  const rpc = new RpcSession(service, { id: 2 });
  rpc.receive(hello);
  assertEquals(rpc.isOpen, true);
  using early = new SessionPeer({ served: service.served, descriptors, silent: true });
  early.send(version());
  assertEquals(early.replies().map(({ errno }) => errno), [Errno.EBUSY]);
  rpc.end();

  using peer = new SessionPeer({ served: service.served, descriptors });
  const late = new RpcSession(service, { id: 3 });
  late.receive(hello);
  assertEquals(late.isOpen, false);
  peer.assertServes();
  peer.session.end();
  late.receive(hello);
  assertEquals(late.isOpen, true);
  late.end();
  service.served.device[Symbol.dispose]();
});

peerTest("a bug costs the session that met it, and no other", () => {
  using peer = new SessionPeer();
  peer.ok(Command.DMA_MAP, dmaMap(0, 4096), [memfd(4096)]);
  peer.served.device.vgpu.reset = () => {
    throw new Error("a bug");
  };

  assertEquals(peer.errno(Command.DEVICE_RESET), Errno.EIO);

  assertEquals(peer.log.filter(({ level }) => level === "error").map(({ message }) => message), [
    "internal error",
  ]);
  assertEquals([peer.session.isClosed, peer.served.vmm], [true, null]);
  using next = new SessionPeer({ served: peer.served });
  next.assertServes();
  next.ok(Command.DEVICE_RESET);
});
