// What unpatched hypervisors really send, byte for byte, and what they need to get.

import { assert, assertEquals } from "@std/assert";
import { MAX_VERSION_REPLY_BYTES } from "../../protocol/vfio_user.ts";
import { dup, F_SEAL_SHRINK, memfd } from "./peer_libc.ts";
import { Command, HeaderFlag, peerTest, SessionPeer } from "./session_peer.ts";
import { access, ask, dmaMap, dmaUnmap, field, message, payload, setIrqs, u16, u32 } from "./wire.ts";

const MIB = 1 << 20;

/** A message of a recording, and what descriptor came with it. */
interface Recorded {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly fd: "ram" | "eventfd" | undefined;
}

/** All that QEMU 11.1.3 (`pc`, 256 MiB, SeaBIOS) sends until its guest looks for something to boot. */
async function recordedAttach(): Promise<Recorded[]> {
  const text = await Deno.readTextFile(new URL("qemu_attach.txt", import.meta.url));
  return text.trim().split("\n").map((line) => {
    const [hex = "", fd] = line.split(" ");
    return { bytes: Uint8Array.fromHex(hex), fd: fd as Recorded["fd"] };
  });
}

peerTest(
  "a session answers every message of QEMU's attach with success, and keeps what it mapped",
  async () => {
    using peer = new SessionPeer({ silent: true });
    const ram = memfd(256 * MIB, F_SEAL_SHRINK);
    const wanted = new Map<number, number | null>([
      [Command.VERSION, null],
      [Command.DMA_MAP, 0],
      [Command.DMA_UNMAP, 24],
      [Command.DEVICE_GET_INFO, 16],
      [Command.DEVICE_GET_REGION_INFO, 32],
      [Command.DEVICE_GET_IRQ_INFO, 16],
      [Command.DEVICE_SET_IRQS, 0],
      [Command.REGION_WRITE, 16],
      [Command.DEVICE_RESET, 0],
    ]);

    for (const { bytes, fd } of await recordedAttach()) {
      peer.send(bytes, fd === "ram" ? [dup(ram)] : fd === "eventfd" ? [peer.descriptors.make()] : []);
      const [reply, ...more] = peer.replies();
      assert(reply !== undefined, bytes.toHex());
      assertEquals([reply.flags, reply.errno, more.length], [HeaderFlag.REPLY, 0, 0], bytes.toHex());
      const length = reply.command === Command.REGION_READ
        ? 16 + field(bytes, 28, 32)
        : wanted.get(reply.command);
      if (length !== null) assertEquals(reply.body.length, length, bytes.toHex());
    }

    assertEquals(
      peer.served.device.ram.regions.map(({ gpa, size, kind, readonly }) => [gpa, size, kind, readonly]),
      [
        [0, 0xc3000, "mapped", false],
        [0xc3000, 0x25000, "mapped", true],
        [0xe8000, 0x8000, "mapped", false],
        [0xf0000, 0x10000, "mapped", true],
        [MIB, 255 * MIB, "mapped", false],
        [0xfffc_0000, 0x40000, "message", true],
      ],
    );
    assertEquals(peer.descriptors.openCount, 2); // eventfds of the line and of errors
    assertEquals(peer.log.filter(({ level }) => level === "warn"), []); // ROM is never shared
    peer.assertServes();
    peer.session.end();
    peer.assertDescriptors(1);
    peer.descriptors.close(ram);
    peer.assertEnded();
  },
);

peerTest("a session answers QEMU's version in the 214 bytes that it has room for", async () => {
  using peer = new SessionPeer({ silent: true });
  const [{ bytes }] = await recordedAttach() as [Recorded];
  assertEquals(bytes.length, MAX_VERSION_REPLY_BYTES);

  peer.send(bytes);

  const reply = peer.session.takeOutput()!;
  assert(reply.length <= bytes.length);
  assertEquals(reply.at(-1), 0);
  assertEquals([field(reply, 16, 16), field(reply, 18, 16)], [0, 0]);
  assertEquals(JSON.parse(new TextDecoder().decode(reply.subarray(20, -1))), {
    capabilities: { max_msg_fds: 16, max_data_xfer_size: 65536, write_multiple: true },
  });
});

peerTest("a session tells QEMU of 9 regions of which 3 exist, and of none that can be mapped", () => {
  using peer = new SessionPeer();

  const info = peer.ok(Command.DEVICE_GET_INFO, ask(16));
  const regions = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((index) => {
    const body = peer.ok(Command.DEVICE_GET_REGION_INFO, ask(32, index));
    return [0, 4, 8, 12].map((at) => field(body, at, 32)).concat(field(body, 16, 64), field(body, 24, 64));
  });

  assertEquals([0, 4, 8, 12].map((at) => field(info, at, 32)), [16, 3, 9, 5]);
  assertEquals(regions, [
    [32, 3, 0, 0, 16 * MIB, 0],
    [32, 0, 1, 0, 0, 0],
    [32, 3, 2, 0, 256 * MIB, 0],
    [32, 0, 3, 0, 0, 0],
    [32, 0, 4, 0, 0, 0],
    [32, 0, 5, 0, 0, 0],
    [32, 0, 6, 0, 0, 0],
    [32, 3, 7, 0, 256, 0],
    [32, 0, 8, 0, 0, 0],
  ]);
});

peerTest(
  "a session tells QEMU of a line and a message, and of errors and requests so that it does not warn",
  () => {
    using peer = new SessionPeer();

    const irqs = [0, 1, 2, 3, 4].map((index) => {
      const body = peer.ok(Command.DEVICE_GET_IRQ_INFO, ask(16, index));
      return [0, 4, 8, 12].map((at) => field(body, at, 32));
    });

    assertEquals(irqs, [[16, 7, 0, 1], [16, 9, 1, 1], [16, 0, 2, 0], [16, 9, 3, 1], [16, 9, 4, 1]]);
  },
);

peerTest("a session gives QEMU the whole configuration space at once, as in pieces", () => {
  using peer = new SessionPeer();

  const whole = peer.ok(Command.REGION_READ, access(7, 0, 256)).slice(16);
  const pieces = Array.from({ length: 256 }, (_, at) => peer.load(7, at, 1));

  assertEquals([...whole], pieces);
  assertEquals([...whole.subarray(0, 4)], [0x86, 0x80, 0x12, 0x19]);
});

peerTest("a session takes what cloud-hypervisor sends, in its pieces and with its sizes", () => {
  using peer = new SessionPeer({ silent: true });
  const capabilities =
    '{"capabilities":{"max_msg_fds":1,"max_data_xfer_size":1048576,"migration":{"pgsize":4096}}}';
  const text = new TextEncoder().encode(`${capabilities}\0`);

  // It knows version 0.1, takes 20 bytes of the reply and then as many as the reply says.
  peer.send(message(Command.VERSION, payload(u16(0), u16(1), text), { id: 0 }));
  const reply = peer.session.takeOutput()!.slice();
  assertEquals(field(reply, 4, 32), reply.length);
  assert("capabilities" in JSON.parse(new TextDecoder().decode(reply.subarray(20, -1))));
  // Its length of a structure counts the header.
  assertEquals(field(peer.ok(Command.DEVICE_GET_INFO, ask(32).subarray(0, 16)), 8, 32), 9);
  // It has room for capabilities of a region, of which there are none: it reads 48 bytes and no more.
  const roomy = payload(u32(1024), ask(32, 2).subarray(4));
  assertEquals(peer.ok(Command.DEVICE_GET_REGION_INFO, roomy).length, 32);
  // Its memory is not sealed, so it is not mapped.
  const ram = memfd(2 * MIB, 0);
  assertEquals(peer.ok(Command.DMA_MAP, dmaMap(0, MIB, 3, MIB), [ram]).length, 0);
  assertEquals(peer.served.device.ram.regions.map(({ kind }) => kind), ["file"]);
  // It reads BARs by 4 bytes at any offset a guest likes, and waits for 32 bytes and the data.
  assertEquals(peer.ok(Command.REGION_READ, access(0, 0x78001, 4)).length, 20);
  assertEquals(peer.ok(Command.REGION_READ, access(2, 3, 7)).length, 23);
  // It writes in two pieces and waits for 32 bytes.
  const write = message(Command.REGION_WRITE, payload(access(0, 0x2030, 4), u32(0x1234)), { id: 9 });
  peer.send(write.subarray(0, 32));
  assertEquals(peer.replies(), []);
  peer.send(write.subarray(32));
  assertEquals(peer.replies().map(({ id, body }) => [id, body.length]), [[9, 16]]);
  assertEquals(peer.load(0, 0x2030, 4), 0x1234);
  // Interrupts: one eventfd; then none, and a count of 0.
  const eventfd = peer.descriptors.make();
  peer.ok(Command.DEVICE_SET_IRQS, setIrqs(0x24, 1), [eventfd]);
  peer.ok(Command.DEVICE_SET_IRQS, setIrqs(0x21, 1, 0));
  assertEquals(peer.descriptors.openCount, 0);
  peer.ok(Command.DEVICE_RESET);
  assertEquals(peer.ok(Command.DMA_UNMAP, dmaUnmap(0, MIB)), dmaUnmap(0, MIB));
  peer.assertServes();
});

peerTest("a session sends each reply as one piece", () => {
  using peer = new SessionPeer();

  peer.send(message(Command.REGION_READ, access(7, 0, 256)));

  assertEquals(peer.session.takeOutput()?.length, 32 + 256);
  assertEquals(peer.session.takeOutput(), null);
});
