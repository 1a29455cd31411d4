// A device process and a VMM on its vfio-user socket: what needs a kernel between them.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect } from "../../protocol/connect.ts";
import { RpcError } from "../../protocol/errors.ts";
import { VfioUserDevice } from "./device.ts";
import { awaitSignal, close, eventfd, memfd, peek, pipe, poke, procText, signals } from "./peer_libc.ts";
import { Command, Errno, HeaderFlag, peerTest } from "./session_peer.ts";
import {
  access,
  concat,
  dmaMap,
  dmaUnmap,
  field,
  message,
  payload,
  setIrqs,
  store,
  storeMany,
  u64,
  version,
} from "./wire.ts";

const PAGE = 4096;
const SIZE = 64 * PAGE;
const GMA = 64 << 20;
const ENTRY = 0x80_0000 + GMA / PAGE * 8;
const REGISTER = 0x2030;
const POSTED = { flags: HeaderFlag.NO_REPLY };
const HANG = 10_000;

/** Shared memory that is closed at the end. */
class Memory implements Disposable {
  readonly fd: number = memfd(SIZE);
  [Symbol.dispose](): void {
    close(this.fd);
  }
}

peerTest(
  "a device process answers the whole of QEMU's attach, and gives everything back when QEMU goes",
  async () => {
    await using device = await VfioUserDevice.start();
    const ram = memfd(256 << 20);
    const line = eventfd();
    {
      using qemu = device.attach(true);
      for (
        const each of Deno.readTextFileSync(new URL("qemu_attach.txt", import.meta.url)).trim().split("\n")
      ) {
        const [hex = "", kind] = each.split(" ");
        qemu.send(Uint8Array.fromHex(hex), kind === "ram" ? [ram] : kind === "eventfd" ? [line] : []);
        assertEquals(qemu.next()?.flags, HeaderFlag.REPLY, hex);
      }
      assert(procText(device.process.pid, "maps").includes("memfd:guest-ram"));
      qemu.assertServed();
    }
    await device.idle();
    assert(!procText(device.process.pid, "maps").includes("memfd:guest-ram"));
    close(ram);
    close(line);
  },
);

peerTest("guest RAM is shared with a device process, both ways", async () => {
  await using device = await VfioUserDevice.start();
  using memory = new Memory();
  using peer = device.attach();
  peer.ok(Command.DMA_MAP, dmaMap(0x10_0000, SIZE), [memory.fd]);
  peer.store(0, ENTRY, 8, 0x10_5001);
  poke(memory.fd, 5 * PAGE + 8, Uint8Array.of(1, 2, 3, 4));

  assertEquals(peer.load(2, GMA + 8, 4), 0x0403_0201n);
  peer.store(2, GMA + 16, 4, 0xaabb_ccdd);
  peer.assertServed();

  assertEquals([...peek(memory.fd, 5 * PAGE + 16, 4)], [0xdd, 0xcc, 0xbb, 0xaa]);
});

peerTest("each reply comes in one piece", async () => {
  await using device = await VfioUserDevice.start();
  using peer = device.attach();

  for (const count of [4, 256]) {
    peer.send(message(Command.REGION_READ, access(7, 0, count)));
    assertEquals(peer.receive()?.length, 32 + count);
  }
});

peerTest("stores without number arrive in order, and the load behind them sees the last", async () => {
  await using device = await VfioUserDevice.start();
  using peer = device.attach();
  const stores = Array.from(
    { length: 50_000 },
    (_, i) => message(Command.REGION_WRITE, store(0, REGISTER, 4, i), POSTED),
  );

  peer.send(concat(stores));

  assertEquals(peer.load(0, REGISTER, 4), 49_999n);
});

peerTest(
  "an observer looks at the vGPU that a hypervisor drives, and its event interrupts the guest",
  async () => {
    await using device = await VfioUserDevice.start("--debug");
    using memory = new Memory();
    using peer = device.attach();
    await using observer = await device.observe();
    const [msi, line] = [eventfd(), eventfd()];
    peer.ok(Command.DMA_MAP, dmaMap(0, SIZE), [memory.fd]);
    peer.ok(Command.DEVICE_SET_IRQS, setIrqs(0x24, 0), [line]);
    peer.ok(Command.DEVICE_SET_IRQS, setIrqs(0x24, 1), [msi]);
    for (const [offset, value] of [[0x44304, 0], [0x4430c, 1], [0x44200, 0x8000_0000]] as const) {
      peer.store(0, offset, 4, value);
    }
    peer.store(7, 4, 2, 6);
    peer.store(0, ENTRY, 8, 0x5001);
    peer.assertServed();

    assertEquals(await observer.call("gma_to_gpa", "ggtt", GMA + 0x123), 0x5123);
    await observer.call("debug_raise", "gt0", 1);
    assertEquals([awaitSignal(line, HANG), signals(msi)], [1, 0]);
    peer.store(7, 0x92, 2, 1);
    assertEquals([awaitSignal(msi, HANG), signals(line)], [1, 0]);
    await assertRejects(() => observer.call("mmio_read", 0, 0, 4), RpcError, "only the VMM");
    peer.assertServed();
    close(msi);
    close(line);
  },
);

peerTest("one VMM at a time drives a device process, whatever it speaks", async () => {
  await using device = await VfioUserDevice.start();
  {
    using first = device.attach();
    using second = device.attach(true);
    second.send(version());
    assertEquals(second.next()?.errno, Errno.EBUSY);
    second.assertEnd();
    await assertRejects(() => connect(device.rpcPath, { role: "vmm" }), RpcError, "another VMM");
    first.store(0, REGISTER, 4, 5);
    assertEquals(first.load(0, REGISTER, 4), 5n);
  }
  await device.idle();
  {
    await using vmm = await connect(device.rpcPath, { role: "vmm" });
    assertEquals(await vmm.call("mmio_read", 0, REGISTER, 4), 0); // as new
    using late = device.attach(true);
    late.send(version());
    assertEquals(late.next()?.errno, Errno.EBUSY);
  }
  await device.idle();
  using last = device.attach();
  last.assertServed();
});

peerTest("a VMM that goes in the middle of anything leaves a device process as it was", async () => {
  await using device = await VfioUserDevice.start();
  using memory = new Memory();
  const [one, other] = pipe();
  const map = message(Command.DMA_MAP, dmaMap(0, SIZE));
  const ends: readonly (readonly [Uint8Array<ArrayBuffer>, number[]])[] = [
    [map, [memory.fd]],
    [map.subarray(0, 20), [memory.fd]],
    [map.subarray(0, 47), [memory.fd, memory.fd]],
    [message(Command.DEVICE_SET_IRQS, setIrqs(0x24, 1)), [one]],
    [message(Command.REGION_READ, access(7, 0, 4)), [one, other]],
    [message(Command.REGION_READ, access(7, 0, 4), { size: 3 }), [one]],
    [message(Command.REGION_READ, access(7, 0, 4), { flags: 1 }), [one]],
    [message(99), Array.from({ length: 200 }, () => one)],
  ];
  for (const [bytes, fds] of ends) {
    using peer = device.attach();
    peer.ok(Command.DMA_MAP, dmaMap(SIZE, SIZE), [memory.fd]);
    peer.send(bytes.slice(), fds);
    peer[Symbol.dispose]();
    await device.idle();
    using next = device.attach();
    next.assertServed();
  }
  close(one);
  close(other);
});

peerTest("a stream that is wrong is closed by a device process, after its last errno", async () => {
  await using device = await VfioUserDevice.start();
  const load = access(7, 0, 4);
  const streams: readonly (readonly [Uint8Array<ArrayBuffer>, number | null])[] = [
    [message(Command.REGION_READ, load, { size: 15 }), Errno.EMSGSIZE],
    [message(Command.REGION_READ, load, { size: 0xffff_ffff }), Errno.EMSGSIZE],
    [message(Command.REGION_READ, load, { flags: 1 }), null],
    [message(Command.REGION_READ, load, { flags: 3 }), Errno.EINVAL],
  ];
  for (const [bytes, errno] of streams) {
    using peer = device.attach();
    peer.send(bytes);
    if (errno !== null) assertEquals(peer.next()?.errno, errno);
    peer.assertEnd();
    await device.idle();
  }
  using silent = device.attach(true);
  silent.send(message(Command.DEVICE_GET_INFO, new Uint8Array(16)));
  assertEquals(silent.next()?.errno, Errno.EINVAL);
  silent.assertEnd();
});

peerTest("descriptors that nobody asked for are closed by a device process", async () => {
  await using device = await VfioUserDevice.start();
  const fd = eventfd();
  const many = (count: number) => Array.from({ length: count }, () => fd);
  {
    using peer = device.attach();
    assertEquals(peer.errno(Command.REGION_READ, access(7, 0, 4), [fd]), Errno.EINVAL);
    assertEquals(peer.errno(Command.DEVICE_SET_IRQS, setIrqs(0x24, 1), many(2)), Errno.EINVAL);
    assertEquals(peer.errno(Command.DEVICE_SET_IRQS, setIrqs(0x24, 1), many(17)), Errno.EINVAL);
    assertEquals(peer.errno(Command.DMA_MAP, dmaMap(0, SIZE), [fd]), Errno.EINVAL);
    peer.post(Command.DEVICE_RESET, undefined, many(16));
    peer.assertServed();
    peer.ok(Command.DEVICE_SET_IRQS, setIrqs(0x24, 1), [fd]);
    peer.ok(Command.DEVICE_SET_IRQS, setIrqs(0x24, 1));
  }
  await device.idle();
  {
    await using observer = await device.observe();
    using peer = device.attach();
    // More than any message has: some are lost on the way, and what they came with is not carried out without them.
    peer.send(message(Command.DEVICE_SET_IRQS, setIrqs(0x24, 1)), many(253));
    peer.assertEnd();
    // That was held against whoever spoke next, too.
    assertEquals(typeof (await observer.call("stats"))["bar0Reads"], "number");
  }
  await device.idle();
  close(fd);
});

peerTest("fifty VMMs one after the other leave nothing in a device process", async () => {
  await using device = await VfioUserDevice.start();
  using memory = new Memory();
  const fd = eventfd();
  for (let i = 0; i < 50; i++) {
    using peer = device.attach();
    peer.ok(Command.DMA_MAP, dmaMap(0, SIZE), [memory.fd]);
    peer.ok(Command.DEVICE_SET_IRQS, setIrqs(0x24, 1), [fd]);
    assertEquals(peer.load(0, REGISTER, 4), 0n);
    peer.store(0, REGISTER, 4, 1);
    if (i % 2 === 0) peer.ok(Command.DMA_UNMAP, dmaUnmap(0, SIZE));
    peer[Symbol.dispose]();
    await device.idle();
  }
  assert(!procText(device.process.pid, "maps").includes("memfd:guest-ram"));
  close(fd);
});

peerTest("a device process asks for memory that is not shared, and answers loads meanwhile", async () => {
  await using device = await VfioUserDevice.start();
  using peer = device.attach();
  peer.ok(Command.DMA_MAP, dmaMap(0, SIZE));
  peer.store(7, 4, 2, 6);
  peer.store(0, ENTRY, 8, 0x5001);

  peer.store(2, GMA + 8, 4, 0x1234);
  const question = peer.next()!;
  assertEquals([question.command, field(question.body, 0, 64), field(question.body, 16, 32)], [
    Command.DMA_WRITE,
    0x5008,
    0x1234,
  ]);
  assertEquals(peer.load(7, 0, 4), 0x1912_8086n); // before the answer
  peer.send(message(Command.DMA_WRITE, undefined, { id: question.id, flags: 1 }));
  peer.assertServed();

  // Nobody answers the next one: after a second it is given up, and nobody is asked again.
  peer.send(message(Command.REGION_WRITE_MULTI, storeMany([2, GMA, 4, 1], [2, GMA, 4, 2]), POSTED));
  assertEquals(peer.next()?.command, Command.DMA_WRITE);
  peer.assertServed();
  await new Promise((resolve) => setTimeout(resolve, 1100));
  peer.send(message(Command.REGION_WRITE, store(2, GMA, 4, 3), POSTED));
  peer.assertServed();
  assertEquals(
    await device.process.log.find((line) => line.includes("guest RAM is not shared")) !== "",
    true,
  );
});

peerTest("a VMM that reads nothing does not stop others from looking", async () => {
  await using device = await VfioUserDevice.start();
  await using observer = await device.observe();
  using peer = device.attach();
  const loads = concat(Array.from({ length: 20 }, () => message(Command.REGION_READ, access(2, 0, 65536))));

  assert(peer.trySend(loads));
  const stats = await observer.call("stats");

  assert(typeof stats === "object");
  for (let i = 0; i < 20; i++) assertEquals(peer.next()?.body.length, 16 + 65536);
  peer.assertServed();
});

peerTest("a question to a VMM that reads nothing waits behind the answers it was sent", async () => {
  await using device = await VfioUserDevice.start();
  using peer = device.attach();
  peer.ok(Command.DMA_MAP, dmaMap(0, SIZE));
  peer.store(7, 4, 2, 6);
  peer.store(0, ENTRY, 8, 0x5001);
  const load = message(Command.REGION_READ, access(2, 0, 65536));

  // More than a socket holds, less than stops the device from reading on.
  peer.send(concat([load, load, load, load]));
  await new Promise((resolve) => setTimeout(resolve, 100));
  peer.store(2, GMA, 4, 1);
  await new Promise((resolve) => setTimeout(resolve, 100));

  for (let i = 0; i < 4; i++) assertEquals(peer.next()?.command, Command.REGION_READ);
  assertEquals(peer.next()?.command, Command.DMA_WRITE);
  peer.assertServed();
});

peerTest("a device process that stops lets its VMM go", async () => {
  await using device = await VfioUserDevice.start();
  using memory = new Memory();
  using peer = device.attach();
  peer.ok(Command.DMA_MAP, dmaMap(0, SIZE), [memory.fd]);

  const { code, signal } = await device.process.stop();

  assertEquals([code, signal], [0, null]);
  peer.assertEnd();
});

peerTest("what a device process does not know it refuses, and serves on", async () => {
  await using device = await VfioUserDevice.start();
  using peer = device.attach();

  assertEquals(peer.errno(200, payload(u64(1))), Errno.ENOSYS);
  assertEquals(peer.errno(Command.DEVICE_FEATURE, payload(u64(0x1_0001_0000_0008))), Errno.ENOTTY);
  peer.assertServed();
});
