import {
  Command,
  Errno,
  getU32,
  HeaderFlag,
  Irq,
  MAX_MESSAGE_FDS,
  RegionAccess,
  SetIrqs,
} from "../../protocol/vfio_user.ts";
import { REGION_BAR0 } from "../vgpu/vgpu.ts";
import type { Descriptors } from "./descriptors.ts";
import type { Log } from "./rpc_session.ts";
import type { ServedDevice } from "./served_device.ts";
import { looksUnshared } from "./vfio_user_content.ts";
import type { VfioUserDma } from "./vfio_user_dma.ts";
import { answerInfo, refuseDirtyPages, refuseFeature } from "./vfio_user_info.ts";
import { VfioUserIrqs } from "./vfio_user_irqs.ts";
import type { VfioUserMessage } from "./vfio_user_message.ts";
import type { VfioUserOutput } from "./vfio_user_output.ts";
import { VfioUserRam } from "./vfio_user_ram.ts";
import { VfioUserRegions } from "./vfio_user_regions.ts";

const OK = 0;

/** What {@linkcode VfioUserCommands} work with. */
export interface VfioUserCommandsParts {
  /** The device. */
  readonly served: ServedDevice;
  /** What can be done with the peer's descriptors. */
  readonly descriptors: Descriptors;
  /** Where replies go. */
  readonly output: VfioUserOutput;
  /** Asks the peer for guest memory. */
  readonly dma: VfioUserDma;
  /** Where diagnostics go. */
  readonly log: Log;
  /** The session's number, for the log. */
  readonly session: number;
}

/**
 * The commands of a vfio-user peer that drives the device. Each is answered where it is carried out; one that cannot be
 * has no reply yet, and its error is the result.
 */
export class VfioUserCommands {
  readonly #served: ServedDevice;
  readonly #output: VfioUserOutput;
  readonly #log: Log;
  readonly #session: number;
  readonly #regions: VfioUserRegions;
  readonly #irqs: VfioUserIrqs;
  readonly #ram: VfioUserRam;
  /** Whether the guest has used the device, so that its RAM must hold something. */
  #isUsed = false;

  /** @param parts What they work with. */
  constructor({ served, descriptors, output, dma, log, session }: VfioUserCommandsParts) {
    this.#served = served;
    this.#output = output;
    this.#log = log;
    this.#session = session;
    this.#regions = new VfioUserRegions(output);
    this.#irqs = new VfioUserIrqs(descriptors);
    this.#ram = new VfioUserRam({ served, remote: dma, output, log, session });
  }

  /** The interrupts: the device tells them, the peer sets how. */
  get irqs(): VfioUserIrqs {
    return this.#irqs;
  }

  /** Stores within messages that were refused without anybody being told. */
  get refusedStores(): number {
    return this.#regions.refusedStores;
  }

  /**
   * Carries a command out.
   *
   * @param message The command. Descriptors that it took are not in it any more.
   * @returns 0, or the error.
   */
  carryOut(message: VfioUserMessage): number {
    if (message.fds.length > 0 && !mayHaveDescriptors(message)) return Errno.EINVAL;
    switch (message.command) {
      case Command.REGION_READ:
        return this.#regions.read(this.#served.access, message);
      case Command.REGION_WRITE:
        if (!this.#isUsed) this.#noteUse(message);
        return this.#regions.write(this.#served.access, message);
      case Command.REGION_WRITE_MULTI:
        return this.#regions.writeMulti(this.#served.access, message);
      case Command.DMA_MAP:
        return this.#ram.map(message);
      case Command.DMA_UNMAP:
        return this.#ram.unmap(message);
      case Command.DEVICE_GET_INFO:
      case Command.DEVICE_GET_REGION_INFO:
      case Command.DEVICE_GET_REGION_IO_FDS:
      case Command.DEVICE_GET_IRQ_INFO:
        return answerInfo(message, this.#output);
      case Command.DEVICE_SET_IRQS:
        return this.#setIrqs(message);
      case Command.DEVICE_RESET:
        this.#served.reset();
        this.#acknowledge(message);
        return OK;
      case Command.DEVICE_FEATURE:
        return refuseFeature(message);
      case Command.DIRTY_PAGES:
        return refuseDirtyPages(message);
      case Command.VERSION: // was said already
      case Command.DMA_READ: // go the other way
      case Command.DMA_WRITE:
        return Errno.EINVAL;
      default:
        return Errno.ENOSYS;
    }
  }

  #setIrqs(message: VfioUserMessage): number {
    const hasEventfd = message.fds.length > 0;
    const errno = this.#irqs.set(message);
    if (errno !== OK) return errno;
    // A message that was sent before there was this eventfd may not have been heard. The line, a level, was told by
    // `VfioUserIrqs`, and is not told again by this: it has masked itself.
    const index = getU32(message.bytes, message.payload + SetIrqs.INDEX);
    if (hasEventfd && index === Irq.MSI) this.#served.resendInterrupts();
    this.#acknowledge(message);
    return OK;
  }

  /** At the guest's first store to a register: says so if its RAM cannot be what it seems. */
  #noteUse({ id, bytes, payload, length }: VfioUserMessage): void {
    if (length < RegionAccess.BYTES || getU32(bytes, payload + RegionAccess.REGION) !== REGION_BAR0) return;
    this.#isUsed = true;
    if (!looksUnshared(this.#served.device.ram)) return;
    const where = { session: this.#session, id };
    this.#log("warn", "guest RAM holds nothing but zeros: is its memory backend share=on?", where);
  }

  #acknowledge({ id, command, isPosted }: VfioUserMessage): void {
    if (!isPosted) this.#output.message(id, command, HeaderFlag.REPLY, 0);
  }
}

/** Whether the command takes descriptors, and so many. */
function mayHaveDescriptors({ command, fds }: VfioUserMessage): boolean {
  return fds.length <= MAX_MESSAGE_FDS &&
    (command === Command.DMA_MAP || command === Command.DEVICE_SET_IRQS);
}
