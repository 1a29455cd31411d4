/**
 * A vfio-user peer's interrupts: an eventfd for each, and the rules by which the interrupt line is told.
 *
 * The line is a level and an eventfd is a pulse. So the line masks itself when it is told (*automask*), and when the
 * peer unmasks it, having let the guest see to the device, it is told again if it is still asserted.
 *
 * Unmasking by eventfd is refused: between the guest's end-of-interrupt and the unmasking nobody would hear it, as the
 * loop waits for messages only. QEMU then unmasks by message, and says so in one line when it could have used KVM for it.
 *
 * @module
 */

import { Errno, getU32, Irq, IRQ_COUNT, SetIrqs, SetIrqsFlag } from "../../protocol/vfio_user.ts";
import type { Descriptors } from "./descriptors.ts";
import { irqCount } from "./vfio_user_info.ts";
import type { VfioUserMessage } from "./vfio_user_message.ts";

const OK = 0;
/** No eventfd. */
const NONE = -1;

const { DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER } = SetIrqsFlag;
const DATA_TYPES: readonly number[] = [DATA_NONE, DATA_BOOL, DATA_EVENTFD];
const ACTIONS: readonly number[] = [ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER];
const DATA_MASK = DATA_NONE | DATA_BOOL | DATA_EVENTFD;

/** The eventfds of one peer. Each index has one interrupt or none, so an index is an interrupt. */
export class VfioUserIrqs {
  readonly #descriptors: Descriptors;
  readonly #eventfds: number[] = new Array(IRQ_COUNT).fill(NONE);
  #isAsserted = false;
  #isMasked = false;

  /** @param descriptors Signals and closes eventfds. */
  constructor(descriptors: Descriptors) {
    this.#descriptors = descriptors;
  }

  /** The device sends its message. Without an eventfd nobody hears it. */
  msi(): void {
    this.#signal(Irq.MSI);
  }

  /** The interrupt line is at a level. */
  intx(isAsserted: boolean): void {
    this.#isAsserted = isAsserted;
    this.#tellLine();
  }

  /**
   * Carries out `DEVICE_SET_IRQS`; takes the message's descriptors if it succeeds.
   *
   * @returns 0, or the error; then nothing has changed.
   */
  set(message: VfioUserMessage): number {
    const { bytes, payload } = message;
    if (message.length < SetIrqs.BYTES || getU32(bytes, payload) < SetIrqs.BYTES) return Errno.EINVAL;
    const flags = getU32(bytes, payload + SetIrqs.FLAGS);
    const index = getU32(bytes, payload + SetIrqs.INDEX);
    const start = getU32(bytes, payload + SetIrqs.START);
    const count = getU32(bytes, payload + SetIrqs.COUNT);
    const data = flags & DATA_MASK;
    const action = flags - data;
    if (!DATA_TYPES.includes(data) || !ACTIONS.includes(action)) return Errno.EINVAL;
    if (index >= IRQ_COUNT || start + count > irqCount(index)) return Errno.EINVAL;
    if (message.fds.length > 0 && data !== DATA_EVENTFD) return Errno.EINVAL;
    if (count === 0) {
      return data === DATA_NONE && action === ACTION_TRIGGER ? this.#disable(index) : Errno.EINVAL;
    }
    if (data === DATA_EVENTFD) return this.#assign(index, action, message);
    if (data === DATA_BOOL) {
      if (message.length < SetIrqs.DATA + count) return Errno.EINVAL;
      if (bytes[payload + SetIrqs.DATA] === 0) return this.#mayAct(index, action) ? OK : Errno.EINVAL;
    }
    return this.#act(index, action);
  }

  /** Takes all eventfds back. */
  close(): void {
    for (let index = 0; index < IRQ_COUNT; index++) this.#replace(index, NONE);
  }

  #disable(index: number): number {
    this.#replace(index, NONE);
    return OK;
  }

  #assign(index: number, action: number, message: VfioUserMessage): number {
    const [eventfd = NONE, ...more] = message.fds;
    if (more.length > 0) return Errno.EINVAL;
    if (action !== ACTION_TRIGGER) return index === Irq.INTX ? Errno.EOPNOTSUPP : Errno.EINVAL;
    if (eventfd !== NONE && !this.#descriptors.isEventfd(eventfd)) return Errno.EINVAL;
    message.fds = [];
    this.#replace(index, eventfd);
    return OK;
  }

  #replace(index: number, eventfd: number): void {
    const old = this.#eventfds[index]!;
    this.#eventfds[index] = eventfd;
    if (old !== NONE) this.#descriptors.close(old);
    if (index !== Irq.INTX) return;
    // A new way to tell the line begins unmasked, as with a device on the bus.
    this.#isMasked = false;
    this.#tellLine();
  }

  #mayAct(index: number, action: number): boolean {
    return action === ACTION_TRIGGER ? this.#eventfds[index] !== NONE : index === Irq.INTX;
  }

  #act(index: number, action: number): number {
    if (!this.#mayAct(index, action)) return Errno.EINVAL;
    if (action === ACTION_TRIGGER) {
      this.#signal(index);
    } else {
      this.#isMasked = action === ACTION_MASK;
      this.#tellLine();
    }
    return OK;
  }

  #tellLine(): void {
    if (!this.#isAsserted || this.#isMasked || this.#eventfds[Irq.INTX] === NONE) return;
    this.#isMasked = true;
    this.#signal(Irq.INTX);
  }

  #signal(index: number): void {
    const eventfd = this.#eventfds[index]!;
    if (eventfd !== NONE) this.#descriptors.signal(eventfd);
  }
}
