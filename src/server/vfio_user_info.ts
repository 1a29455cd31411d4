/**
 * What a vfio-user peer may ask about the device: its regions and its interrupts, as data, and the optional features
 * that it does not have.
 *
 * @module
 */

import {
  Command,
  DeviceFlag,
  DeviceInfo,
  DirtyPages,
  Errno,
  Feature,
  FeatureFlag,
  getU32,
  HeaderFlag,
  Irq,
  IRQ_COUNT,
  IrqFlag,
  IrqInfo,
  putU32,
  putU64,
  REGION_COUNT,
  RegionFlag,
  RegionInfo,
  RegionIoFds,
} from "../../protocol/vfio_user.ts";
import { REGION_SIZES } from "../vgpu/vgpu.ts";
import type { VfioUserMessage } from "./vfio_user_message.ts";
import type { VfioUserOutput } from "./vfio_user_output.ts";

const OK = 0;

/** One index of the interrupts. */
interface IrqIndex {
  readonly flags: number;
  readonly count: number;
}

const { EVENTFD, MASKABLE, AUTOMASKED, NORESIZE } = IrqFlag;

/** Every index. ERR and REQ are never triggered, but QEMU warns where they are missing. */
const IRQS: Readonly<Record<number, IrqIndex>> = {
  [Irq.INTX]: { flags: EVENTFD | MASKABLE | AUTOMASKED, count: 1 },
  [Irq.MSI]: { flags: EVENTFD | NORESIZE, count: 1 },
  [Irq.MSIX]: { flags: 0, count: 0 },
  [Irq.ERR]: { flags: EVENTFD | NORESIZE, count: 1 },
  [Irq.REQ]: { flags: EVENTFD | NORESIZE, count: 1 },
};

/** How many interrupts an index has; 0 if there is no such index. */
export function irqCount(index: number): number {
  return IRQS[index]?.count ?? 0;
}

/**
 * Answers a question about the device.
 *
 * No region can be mapped: with one that can, QEMU would stop posting stores to any.
 *
 * @param message A command of `DEVICE_GET_INFO`, `…_REGION_INFO`, `…_REGION_IO_FDS` or `…_IRQ_INFO`.
 * @param output Where the reply goes.
 * @returns 0, or the error; then there is no reply yet.
 */
export function answerInfo(message: VfioUserMessage, output: VfioUserOutput): number {
  const { bytes, payload } = message;
  const isRegionInfo = message.command === Command.DEVICE_GET_REGION_INFO;
  const size = isRegionInfo ? RegionInfo.BYTES : DeviceInfo.BYTES;
  // What the peer has room for; some count the header as well.
  if (message.length < size || getU32(bytes, payload) < size) return Errno.EINVAL;
  const index = getU32(bytes, payload + RegionInfo.INDEX);
  if (!isIndex(message.command, index)) return Errno.EINVAL;
  if (message.isPosted) return OK;
  const at = output.message(message.id, message.command, HeaderFlag.REPLY, size);
  output.bytes.fill(0, at, at + size);
  putU32(output.bytes, at, size);
  switch (message.command) {
    case Command.DEVICE_GET_INFO:
      putU32(output.bytes, at + DeviceInfo.FLAGS, DeviceFlag.RESET | DeviceFlag.PCI);
      putU32(output.bytes, at + DeviceInfo.REGIONS, REGION_COUNT);
      putU32(output.bytes, at + DeviceInfo.IRQS, IRQ_COUNT);
      break;
    case Command.DEVICE_GET_REGION_INFO: {
      const regionSize = REGION_SIZES.get(index) ?? 0;
      putU32(output.bytes, at + RegionInfo.FLAGS, regionSize === 0 ? 0 : RegionFlag.READ | RegionFlag.WRITE);
      putU32(output.bytes, at + RegionInfo.INDEX, index);
      putU64(output.bytes, at + RegionInfo.SIZE, regionSize);
      break;
    }
    case Command.DEVICE_GET_REGION_IO_FDS:
      putU32(output.bytes, at + RegionIoFds.INDEX, index);
      break;
    case Command.DEVICE_GET_IRQ_INFO:
      putU32(output.bytes, at + IrqInfo.FLAGS, IRQS[index]!.flags);
      putU32(output.bytes, at + IrqInfo.INDEX, index);
      putU32(output.bytes, at + IrqInfo.COUNT, IRQS[index]!.count);
  }
  return OK;
}

/** The error for a question about an optional feature: the device has none. */
export function refuseFeature({ bytes, payload, length }: VfioUserMessage): number {
  if (length < Feature.BYTES || getU32(bytes, payload) < Feature.BYTES) return Errno.EINVAL;
  const { GET, SET, PROBE } = FeatureFlag;
  const operation = getU32(bytes, payload + Feature.FLAGS) & 0xffff_0000;
  const isKnown = (operation & ~(GET | SET | PROBE)) === 0 && (operation & (GET | SET)) !== 0;
  const isBoth = operation === (GET | SET);
  return isKnown && !isBoth ? Errno.ENOTTY : Errno.EINVAL;
}

/** The error for a request to track pages that the device writes: it cannot migrate. */
export function refuseDirtyPages({ bytes, payload, length }: VfioUserMessage): number {
  const isWhole = length >= DirtyPages.BYTES && getU32(bytes, payload) >= DirtyPages.BYTES;
  return isWhole ? Errno.EOPNOTSUPP : Errno.EINVAL;
}

function isIndex(command: number, index: number): boolean {
  if (command === Command.DEVICE_GET_INFO) return true;
  return index < (command === Command.DEVICE_GET_IRQ_INFO ? IRQ_COUNT : REGION_COUNT);
}
