// Interrupts by eventfd.

import { assertEquals } from "@std/assert";
import { BANK_IER, BANK_IIR, BANK_IMR, INTERRUPT_BANKS, MASTER_IRQ } from "../../src/vgpu/interrupt_banks.ts";
import { Command, Errno, peerTest, SessionPeer } from "./session_peer.ts";
import { setIrqs } from "./wire.ts";

const { gt0 } = INTERRUPT_BANKS;
const [INTX, MSI, MSIX, ERR, REQ] = [0, 1, 2, 3, 4];
const [NONE, BOOL, EVENTFD] = [1, 2, 4];
const [MASK, UNMASK, TRIGGER] = [8, 16, 32];

/** A VMM whose guest lets every event of the render engine interrupt. */
class InterruptPeer extends SessionPeer {
  constructor() {
    super();
    this.store(7, 0x04, 2, 0x6);
    this.store(0, gt0.isr + BANK_IMR, 4, 0);
    this.store(0, gt0.isr + BANK_IER, 4, 0xffff_ffff);
    this.store(0, MASTER_IRQ, 4, 0x8000_0000);
  }

  /** Sets an eventfd. */
  assign(index: number): number {
    const eventfd = this.descriptors.make();
    this.ok(Command.DEVICE_SET_IRQS, setIrqs(EVENTFD | TRIGGER, index), [eventfd]);
    return eventfd;
  }

  /** Masks, unmasks or triggers. */
  act(index: number, action: number): void {
    this.ok(Command.DEVICE_SET_IRQS, setIrqs(NONE | action, index));
  }

  /** An event of the render engine. */
  raise(): void {
    this.served.device.vgpu.interrupts.raise(gt0, 1);
  }

  /** The guest sees to it. */
  acknowledge(): void {
    this.store(0, gt0.isr + BANK_IIR, 4, 0xffff_ffff);
  }

  /** How often an eventfd was signalled. */
  count(eventfd: number): number {
    return this.descriptors.signals.get(eventfd)!;
  }
}

peerTest("an event signals the eventfd of MSI when the guest has enabled it", () => {
  using peer = new InterruptPeer();
  const [line, msi] = [peer.assign(INTX), peer.assign(MSI)];
  peer.store(7, 0x92, 2, 1);

  peer.raise();

  assertEquals([peer.count(line), peer.count(msi)], [0, 1]);
});

peerTest("an eventfd of MSI that comes after the message is signalled at once", () => {
  using peer = new InterruptPeer();
  peer.store(7, 0x92, 2, 1);
  peer.raise();

  const msi = peer.assign(MSI);

  assertEquals(peer.count(msi), 1);
});

peerTest("an eventfd of MSI is not signalled when nothing is due", () => {
  using peer = new InterruptPeer();
  peer.store(7, 0x92, 2, 1);

  const msi = peer.assign(MSI);

  assertEquals(peer.count(msi), 0);
});

peerTest("a message that was heard is not sent again when another interrupt gets an eventfd", () => {
  using peer = new InterruptPeer();
  const msi = peer.assign(MSI);
  peer.store(7, 0x92, 2, 1);
  peer.raise();

  const others = [INTX, ERR, REQ].map((index) => peer.assign(index));

  assertEquals([msi, ...others].map((eventfd) => peer.count(eventfd)), [1, 0, 0, 0]);
  assertEquals(peer.served.device.vgpu.counters.msis, 1);
});

peerTest("a line that was told is not told again when another interrupt gets an eventfd", () => {
  using peer = new InterruptPeer();
  const line = peer.assign(INTX);
  peer.raise();

  const others = [MSI, ERR, REQ].map((index) => peer.assign(index));

  assertEquals([line, ...others].map((eventfd) => peer.count(eventfd)), [1, 0, 0, 0]);
});

peerTest("an event signals the line's eventfd once, until it is unmasked", () => {
  using peer = new InterruptPeer();
  const line = peer.assign(INTX);

  peer.raise();
  peer.raise();
  assertEquals(peer.count(line), 1);
  peer.acknowledge();
  peer.raise(); // the line fell and rose, and is masked
  assertEquals(peer.count(line), 1);
  peer.act(INTX, UNMASK); // still asserted
  assertEquals(peer.count(line), 2);
  peer.acknowledge();
  peer.act(INTX, UNMASK); // not asserted any more
  assertEquals(peer.count(line), 2);
  peer.raise();
  assertEquals(peer.count(line), 3);
});

peerTest("the line is not told while it is masked, and told when it is unmasked", () => {
  using peer = new InterruptPeer();
  const line = peer.assign(INTX);

  peer.act(INTX, MASK);
  peer.raise();
  assertEquals(peer.count(line), 0);
  peer.act(INTX, UNMASK);
  assertEquals(peer.count(line), 1);
});

peerTest("a line that is asserted already is told to a new eventfd", () => {
  using peer = new InterruptPeer();
  peer.raise();

  const first = peer.assign(INTX);
  const second = peer.assign(INTX);

  assertEquals([peer.count(first), peer.count(second), peer.descriptors.openCount], [1, 1, 1]);
});

peerTest("a device reset lowers the line and leaves the eventfds", () => {
  using peer = new InterruptPeer();
  const line = peer.assign(INTX);
  peer.raise();

  peer.ok(Command.DEVICE_RESET);
  peer.act(INTX, UNMASK);

  assertEquals([peer.count(line), peer.descriptors.openCount], [1, 1]);
});

peerTest("a trigger by message signals the eventfd, as a test of the way", () => {
  using peer = new InterruptPeer();
  const eventfds = [INTX, MSI, ERR, REQ].map((index) => peer.assign(index));

  for (const index of [INTX, MSI, ERR, REQ]) peer.act(index, TRIGGER);
  peer.ok(Command.DEVICE_SET_IRQS, setIrqs(BOOL | TRIGGER, MSI, 1, 0, Uint8Array.of(1)));
  peer.ok(Command.DEVICE_SET_IRQS, setIrqs(BOOL | TRIGGER, MSI, 1, 0, Uint8Array.of(0)));

  assertEquals(eventfds.map((eventfd) => peer.count(eventfd)), [1, 2, 1, 1]);
});

peerTest("eventfds are closed when they are taken back, replaced, or the VMM goes", () => {
  using peer = new InterruptPeer();
  for (const index of [INTX, MSI, ERR, REQ]) peer.assign(index);
  assertEquals(peer.descriptors.openCount, 4);

  peer.ok(Command.DEVICE_SET_IRQS, setIrqs(EVENTFD | TRIGGER, MSI)); // without a descriptor: taken back
  assertEquals(peer.descriptors.openCount, 3);
  peer.ok(Command.DEVICE_SET_IRQS, setIrqs(NONE | TRIGGER, INTX, 0)); // none of them
  assertEquals(peer.descriptors.openCount, 2);
  peer.assign(ERR);
  assertEquals(peer.descriptors.openCount, 2);
  peer.raise();
  peer.session.end();
  assertEquals(peer.descriptors.openCount, 0);
  peer.assertEnded();
});

/** What is wrong, the message's body, its descriptors, and the answer. */
const WRONG: readonly (readonly [string, Uint8Array, ("eventfd" | "other")[], number])[] = [
  ["an index that there is not", setIrqs(NONE | TRIGGER, 5), [], Errno.EINVAL],
  ["an index of all ones", setIrqs(NONE | TRIGGER, 0xffff_ffff), [], Errno.EINVAL],
  ["an index without interrupts", setIrqs(EVENTFD | TRIGGER, MSIX), ["eventfd"], Errno.EINVAL],
  ["a second interrupt of an index", setIrqs(EVENTFD | TRIGGER, MSI, 1, 1), ["eventfd"], Errno.EINVAL],
  ["two interrupts of an index", setIrqs(EVENTFD | TRIGGER, MSI, 2), ["eventfd", "eventfd"], Errno.EINVAL],
  [
    "a start and count that overflow",
    setIrqs(EVENTFD | TRIGGER, MSI, 2, 0xffff_ffff),
    ["eventfd"],
    Errno.EINVAL,
  ],
  ["more eventfds than interrupts", setIrqs(EVENTFD | TRIGGER, MSI), ["eventfd", "eventfd"], Errno.EINVAL],
  ["an eventfd for none", setIrqs(EVENTFD | TRIGGER, MSI, 0), ["eventfd"], Errno.EINVAL],
  ["something that is no eventfd", setIrqs(EVENTFD | TRIGGER, MSI), ["other"], Errno.EINVAL],
  ["an eventfd that is not announced", setIrqs(NONE | TRIGGER, MSI), ["eventfd"], Errno.EINVAL],
  ["unmasking by eventfd", setIrqs(EVENTFD | UNMASK, INTX), ["eventfd"], Errno.EOPNOTSUPP],
  ["masking by eventfd", setIrqs(EVENTFD | MASK, INTX), ["eventfd"], Errno.EOPNOTSUPP],
  ["masking what cannot be masked", setIrqs(NONE | MASK, MSI), [], Errno.EINVAL],
  ["triggering without an eventfd", setIrqs(NONE | TRIGGER, MSI), [], Errno.EINVAL],
  ["no data type", setIrqs(TRIGGER, INTX), [], Errno.EINVAL],
  ["two data types", setIrqs(NONE | BOOL | TRIGGER, INTX, 1, 0, Uint8Array.of(1)), [], Errno.EINVAL],
  ["no action", setIrqs(NONE, INTX), [], Errno.EINVAL],
  ["two actions", setIrqs(NONE | MASK | UNMASK, INTX), [], Errno.EINVAL],
  ["a flag that there is not", setIrqs(NONE | TRIGGER | 0x40, INTX), [], Errno.EINVAL],
  ["booleans that are not there", setIrqs(BOOL | MASK, INTX), [], Errno.EINVAL],
  ["a count of 0 with an action that needs one", setIrqs(NONE | MASK, INTX, 0), [], Errno.EINVAL],
  ["less than a whole message", setIrqs(NONE | MASK, INTX).subarray(0, 16), [], Errno.EINVAL],
  ["a size that is too small", setIrqs(NONE | MASK, INTX).with(0, 19), [], Errno.EINVAL],
];

for (const [what, body, kinds, errno] of WRONG) {
  peerTest(`setting interrupts fails and changes nothing with ${what}`, () => {
    using peer = new InterruptPeer();
    const line = peer.assign(INTX);

    assertEquals(
      peer.errno(Command.DEVICE_SET_IRQS, body, kinds.map((kind) => peer.descriptors.make(kind))),
      errno,
    );

    assertEquals(peer.descriptors.openCount, 1);
    peer.raise();
    assertEquals(peer.count(line), 1);
    peer.assertServes();
  });
}
