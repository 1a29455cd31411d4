// Loads and stores of a guest, as a VMM passes them on.

import { assertEquals } from "@std/assert";
import { MAX_DATA_TRANSFER } from "../../protocol/vfio_user.ts";
import { Command, Errno, HeaderFlag, peerTest, SessionPeer } from "./session_peer.ts";
import { access, concat, field, message, payload, store, storeMany, u64 } from "./wire.ts";

/** A register that keeps what is written. */
const REGISTER = 0x2030;
const TLB_INVALIDATE = 0x4260;
/** The GTT entry of the vGPU's first page. */
const ENTRY = 0x80_0000 + (64 << 20) / 4096 * 8;

for (const count of [1, 2, 4, 8] as const) {
  peerTest(`a load gives what a store of ${count} bytes left`, () => {
    using peer = new SessionPeer();
    const value = 0x8877_6655_4433_2211n & ((1n << BigInt(8 * count)) - 1n);

    peer.store(0, REGISTER, count, value);

    const body = peer.ok(Command.REGION_READ, access(0, REGISTER, count));
    assertEquals(body, payload(access(0, REGISTER, count), payload(u64(value)).subarray(0, count)));
  });
}

peerTest("a store of 8 bytes is one store of a GTT entry", () => {
  using peer = new SessionPeer();

  peer.store(0, ENTRY, 8, 0x12_3456_7001n);

  assertEquals(peer.load(0, ENTRY, 8), 0x12_3456_7001);
  assertEquals(peer.served.device.vgpu.counters.bar0Writes, 1);
});

peerTest("an access that is not aligned is done in aligned pieces", () => {
  using peer = new SessionPeer();
  peer.store(0, REGISTER, 8, 0x8877_6655_4433_2211n);
  const { counters } = peer.served.device.vgpu;
  const before = counters.bar0Reads;

  const body = peer.ok(Command.REGION_READ, access(0, REGISTER + 1, 6)).slice(16);

  assertEquals([...body], [0x22, 0x33, 0x44, 0x55, 0x66, 0x77]);
  assertEquals([counters.bar0Reads - before, counters.badAccesses], [4, 0]); // 1, 2, 2 and 1 bytes
  peer.store(0, REGISTER + 3, 3, 0xaabbcc);
  assertEquals(peer.load(0, REGISTER, 8), Number(0x8877_aabb_cc33_2211n));
});

peerTest("a load of the most data there can be is answered, one of more is refused", () => {
  using peer = new SessionPeer();

  const body = peer.ok(Command.REGION_READ, access(2, 0x1000, MAX_DATA_TRANSFER));

  assertEquals(body.length, 16 + MAX_DATA_TRANSFER);
  assertEquals(peer.errno(Command.REGION_READ, access(2, 0x1000, MAX_DATA_TRANSFER + 1)), Errno.EINVAL);
  const write = payload(access(2, 0x1000, MAX_DATA_TRANSFER), new Uint8Array(MAX_DATA_TRANSFER).fill(1));
  assertEquals(peer.ok(Command.REGION_WRITE, write).length, 16);
});

peerTest("an access of nothing is answered with nothing", () => {
  using peer = new SessionPeer();

  assertEquals(peer.ok(Command.REGION_READ, access(7, 256, 0)), access(7, 256, 0));
  assertEquals(peer.ok(Command.REGION_WRITE, access(0, 0, 0)), access(0, 0, 0));
});

peerTest("the last bytes of each region can be reached, and none after them", () => {
  using peer = new SessionPeer();

  for (const [region, size] of [[0, 16 << 20], [2, 256 << 20], [7, 256]] as const) {
    assertEquals(peer.ok(Command.REGION_READ, access(region, size - 8, 8)).length, 24);
    assertEquals(peer.errno(Command.REGION_READ, access(region, size - 7, 8)), Errno.EINVAL);
    assertEquals(peer.errno(Command.REGION_WRITE, store(region, size - 7, 8, 0)), Errno.EINVAL);
  }
});

peerTest("a posted store has no answer, and the next load sees it", () => {
  using peer = new SessionPeer();
  const posted = { flags: HeaderFlag.NO_REPLY };

  peer.send(concat([
    message(Command.REGION_WRITE, store(0, REGISTER, 4, 0x1234), posted),
    message(Command.REGION_READ, access(0, REGISTER, 4), { id: 77 }),
  ]));

  assertEquals(peer.replies().map(({ id, body }) => [id, field(body, 16, 32)]), [[77, 0x1234]]);
  assertEquals(peer.session.failedNotifications, 0);
});

peerTest("many stores in one message are done in order", () => {
  using peer = new SessionPeer();

  peer.post(
    Command.REGION_WRITE_MULTI,
    storeMany([0, REGISTER, 4, 1], [0, ENTRY, 8, 0x5001], [0, REGISTER, 4, 2], [0, REGISTER + 4, 1, 3]),
  );

  assertEquals([peer.load(0, REGISTER, 8), peer.load(0, ENTRY, 8)], [0x3_0000_0002, 0x5001]);
  assertEquals(peer.session.failedNotifications, 0);
});

peerTest("a bug among many stores of a message ends the session, with the stores before it done", () => {
  using peer = new SessionPeer();
  const { vgpu } = peer.served.device;
  const write = vgpu.bar0.write.bind(vgpu.bar0);
  vgpu.bar0.write = (offset, size, lo, hi) => {
    if (offset === REGISTER) throw new Error("a bug");
    write(offset, size, lo, hi);
  };
  const stores = storeMany([0, TLB_INVALIDATE, 4, 1], [0, REGISTER, 4, 1], [0, TLB_INVALIDATE, 4, 1]);

  assertEquals(peer.errno(Command.REGION_WRITE_MULTI, stores), Errno.EIO);

  assertEquals([vgpu.counters.tlbInvalidations, peer.session.isClosing], [1, true]);
});

peerTest("a store among many that no region has is dropped and counted, the others are done", () => {
  using peer = new SessionPeer();
  const stores = storeMany(
    [0, REGISTER, 4, 1],
    [3, 0, 4, 2],
    [7, 255, 4, 2],
    [0, REGISTER, 9, 2],
    [0, REGISTER + 4, 4, 3],
  );

  peer.post(Command.REGION_WRITE_MULTI, stores);

  assertEquals(peer.load(0, REGISTER, 8), 0x3_0000_0001);
  assertEquals(peer.session.failedNotifications, 3);
  assertEquals(field(peer.ok(Command.REGION_WRITE_MULTI, stores), 0, 64), 2); // whoever asks is told
});

peerTest("posted commands that are wrong are counted and not answered", () => {
  using peer = new SessionPeer();

  peer.post(Command.REGION_WRITE, store(9, 0, 4, 0));
  peer.post(Command.REGION_READ, access(0, 1 << 30, 4));
  peer.post(99);
  peer.post(Command.DMA_UNMAP, new Uint8Array(24));
  peer.post(Command.DEVICE_SET_IRQS, new Uint8Array(20));
  peer.post(Command.REGION_WRITE_MULTI, new Uint8Array(7));

  assertEquals(peer.session.failedNotifications, 6);
  assertEquals(peer.served.vmm?.failedNotifications, 6);
  peer.assertServes();
});

peerTest("posted commands that are right are done and not answered", () => {
  using peer = new SessionPeer();
  peer.store(0, REGISTER, 4, 5);
  const eventfd = peer.descriptors.make();

  peer.post(Command.REGION_READ, access(7, 0, 4));
  peer.post(Command.DEVICE_GET_INFO, payload(u64(16), u64(0)));
  peer.post(Command.DMA_MAP, payload(u64(0x3_0000_0020), u64(0), u64(0), u64(0x1000)));
  peer.post(Command.DEVICE_SET_IRQS, payload(u64(0x24_0000_0014), u64(1), u64(1)).subarray(0, 20), [eventfd]);
  peer.post(Command.DEVICE_RESET);
  peer.post(Command.DMA_UNMAP, payload(u64(24), u64(0), u64(0x1000)));

  assertEquals([peer.session.failedNotifications, peer.load(0, REGISTER, 4)], [0, 0]);
  assertEquals([peer.descriptors.openCount, peer.served.device.ram.regions], [1, []]);
});

peerTest("a device reset resets the device, and RAM stays", () => {
  using peer = new SessionPeer();
  peer.ok(Command.DMA_MAP, payload(u64(0x3_0000_0020), u64(0), u64(0), u64(0x1000)));
  peer.store(0, REGISTER, 4, 5);
  peer.store(7, 4, 2, 7);

  peer.ok(Command.DEVICE_RESET);

  assertEquals([peer.load(0, REGISTER, 4), peer.load(7, 4, 2)], [0, 0]);
  assertEquals(peer.served.device.ram.regions.length, 1);
});

peerTest("messages of any length may be cut and joined anywhere", () => {
  using peer = new SessionPeer();
  const stream = concat([
    message(Command.REGION_WRITE, store(0, REGISTER, 8, 0x1122_3344_5566_7788n), { id: 1 }),
    message(Command.REGION_WRITE_MULTI, storeMany([0, ENTRY, 8, 0x7001], [0, REGISTER, 1, 9]), {
      flags: HeaderFlag.NO_REPLY,
    }),
    message(Command.REGION_READ, access(0, REGISTER, 8), { id: 2 }),
    message(Command.DEVICE_RESET, undefined, { id: 3 }),
    message(Command.REGION_READ, access(7, 0, 256), { id: 4 }),
  ]);
  const answers = () => peer.replies().map(({ id, errno, body }) => [id, errno, ...body]);
  peer.send(stream);
  const expected = answers();
  assertEquals(expected.length, 4);

  for (let cut = 1; cut < stream.length; cut++) {
    peer.send(stream.subarray(0, cut));
    peer.send(stream.subarray(cut));
    assertEquals(answers(), expected, `cut at ${cut}`);
  }
  for (const byte of stream) peer.send(Uint8Array.of(byte));
  assertEquals(answers(), expected);
});

peerTest("a session stops between messages when its turn is over, and goes on in the next", () => {
  using peer = new SessionPeer();
  let left = 2;
  const turn = { isOver: () => left-- <= 0 };
  const reads = [1, 2, 3].map((id) => message(Command.REGION_READ, access(7, 0, 4), { id }));

  peer.session.receive(concat(reads), turn);

  assertEquals([peer.session.isStalled, peer.session.wantsInput], [true, false]);
  assertEquals(peer.replies().map(({ id }) => id), [1, 2, 3]);
  assertEquals([peer.session.isStalled, peer.session.wantsInput], [false, true]);
});

peerTest("a session that is not read from does not pile answers up", () => {
  using peer = new SessionPeer();
  const reads = concat(Array.from({ length: 20 }, () => message(Command.REGION_READ, access(2, 0, 65536))));

  peer.session.receive(reads);

  assertEquals([peer.session.isStalled, peer.session.wantsInput], [true, false]);
  const first = peer.session.takeOutput()!.length;
  assertEquals(first < 6 * 65536, true);
  let rest = 0;
  for (let out = peer.session.takeOutput(); out !== null; out = peer.session.takeOutput()) rest += out.length;
  assertEquals(first + rest, 20 * (65536 + 32));
});
