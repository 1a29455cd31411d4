/**
 * The wire of vfio-user 0.0, as far as a device without mappable regions and without migration speaks it: where each
 * field lies, what the numbers mean, and the version text. It is the same for both ends.
 *
 * Every message is a header of {@linkcode HEADER_BYTES} and a payload, little endian throughout. A *command* asks, a
 * *reply* answers it by the same id; a command with {@linkcode HeaderFlag.NO_REPLY} is *posted*: it gets no reply, not
 * even an error. Descriptors travel beside the bytes, by SCM_RIGHTS.
 *
 * The layouts below give offsets from the start of the payload, in bytes, and `BYTES`, the payload's length without
 * data that may follow. `ARGSZ`, where there is one, is a u32: how long the sender takes the payload to be, or has room
 * for in the reply; some count the header as well, so it is only looked at for being too small.
 *
 * @module
 */

/** Length of the header that begins every message, bytes. */
export const HEADER_BYTES = 16;

/** Where the header's fields are, bytes. */
export const Header = {
  /** u16: which message; chosen by whoever sends the command. */
  ID: 0,
  /** u16: one of {@linkcode Command}. */
  COMMAND: 2,
  /** u32: length of the whole message, the header included. */
  SIZE: 4,
  /** u32: see {@linkcode HeaderFlag}. */
  FLAGS: 8,
  /** u32: in an error reply, one of {@linkcode Errno}. */
  ERRNO: 12,
} as const;

/** The header's flags. */
export const HeaderFlag = {
  /** The bits that tell the type. */
  TYPE_MASK: 0xf,
  /** Type: a command. */
  COMMAND: 0,
  /** Type: a reply. */
  REPLY: 1,
  /** The command is posted: nobody waits for a reply. */
  NO_REPLY: 0x10,
  /** The reply is an error: its number is in the header, and it has no payload. */
  ERROR: 0x20,
} as const;

/** The commands. Those of DMA go from the device to the VMM, all others from the VMM to the device. */
export const Command = {
  /** Says who speaks; must come first. */
  VERSION: 1,
  /** Adds guest RAM, with its descriptor if it is shared. */
  DMA_MAP: 2,
  /** Removes guest RAM. */
  DMA_UNMAP: 3,
  /** How many regions and interrupts there are. */
  DEVICE_GET_INFO: 4,
  /** What a region is. */
  DEVICE_GET_REGION_INFO: 5,
  /** Descriptors by which a VMM could tell stores to a region faster. */
  DEVICE_GET_REGION_IO_FDS: 6,
  /** What an interrupt is. */
  DEVICE_GET_IRQ_INFO: 7,
  /** Sets eventfds for an interrupt; masks, unmasks and triggers it. */
  DEVICE_SET_IRQS: 8,
  /** A guest's load. */
  REGION_READ: 9,
  /** A guest's store. */
  REGION_WRITE: 10,
  /** The device reads guest RAM. */
  DMA_READ: 11,
  /** The device writes guest RAM. */
  DMA_WRITE: 12,
  /** Resets the device. */
  DEVICE_RESET: 13,
  /** Tracking of pages that the device writes; part of migration. */
  DIRTY_PAGES: 14,
  /** Many small stores of a guest in one message. */
  REGION_WRITE_MULTI: 15,
  /** Asks for, reads or sets an optional feature. */
  DEVICE_FEATURE: 16,
} as const;

/** Errors, by their Linux numbers. */
export const Errno = {
  /** No such range of guest RAM. */
  ENOENT: 2,
  /** An error inside the device. */
  EIO: 5,
  /** The system gives no such memory. */
  ENOMEM: 12,
  /** The descriptor does not allow it. */
  EACCES: 13,
  /** Another VMM drives the device. */
  EBUSY: 16,
  /** The range overlaps one that is there. */
  EEXIST: 17,
  /** A field is out of range, or fields contradict each other. */
  EINVAL: 22,
  /** No descriptor left. */
  EMFILE: 24,
  /** The device does not have this feature. */
  ENOTTY: 25,
  /** There are as many ranges as there can be. */
  ENOSPC: 28,
  /** No such command. */
  ENOSYS: 38,
  /** The message is longer than any may be. */
  EMSGSIZE: 90,
  /** The device does not do this. */
  EOPNOTSUPP: 95,
} as const;

/** Payload of {@linkcode Command.VERSION}; the version text follows. */
export const Version = {
  /** u16. */
  MAJOR: 0,
  /** u16. */
  MINOR: 2,
  /** Where the text begins, which ends with NUL. */
  TEXT: 4,
  BYTES: 4,
} as const;

/** Payload of {@linkcode Command.DMA_MAP}. The reply has none. */
export const DmaMap = {
  ARGSZ: 0,
  /** u32: see {@linkcode DmaFlag}. */
  FLAGS: 4,
  /** u64: where in the file the range begins. */
  OFFSET: 8,
  /** u64: guest physical address. */
  ADDRESS: 16,
  /** u64. */
  SIZE: 24,
  BYTES: 32,
} as const;

/** Flags of {@linkcode DmaMap}: what the device may do. */
export const DmaFlag = {
  READ: 1,
  WRITE: 2,
} as const;

/** Payload of {@linkcode Command.DMA_UNMAP}, and of its reply. */
export const DmaUnmap = {
  ARGSZ: 0,
  /** u32: see {@linkcode UnmapFlag}. */
  FLAGS: 4,
  /** u64: guest physical address. */
  ADDRESS: 8,
  /** u64. */
  SIZE: 16,
  BYTES: 24,
} as const;

/** Flags of {@linkcode DmaUnmap}. */
export const UnmapFlag = {
  /** Wants to know which pages the device wrote; part of migration. */
  DIRTY_BITMAP: 1,
  /** Everything; address and size are 0. */
  ALL: 2,
} as const;

/** Payload of {@linkcode Command.DEVICE_GET_INFO}, and of its reply. */
export const DeviceInfo = {
  ARGSZ: 0,
  /** u32: see {@linkcode DeviceFlag}. */
  FLAGS: 4,
  /** u32. */
  REGIONS: 8,
  /** u32. */
  IRQS: 12,
  BYTES: 16,
} as const;

/** Flags of {@linkcode DeviceInfo}. */
export const DeviceFlag = {
  /** It can be reset. */
  RESET: 1,
  /** It is a PCI device. */
  PCI: 2,
} as const;

/** Payload of {@linkcode Command.DEVICE_GET_REGION_INFO}, and of its reply. */
export const RegionInfo = {
  ARGSZ: 0,
  /** u32: see {@linkcode RegionFlag}. */
  FLAGS: 4,
  /** u32. */
  INDEX: 8,
  /** u32: where capabilities are; 0: none. */
  CAPABILITIES: 12,
  /** u64: 0 for a region that does not exist. */
  SIZE: 16,
  /** u64: where in a descriptor the region is, if it can be mapped. */
  OFFSET: 24,
  BYTES: 32,
} as const;

/** Flags of {@linkcode RegionInfo}. */
export const RegionFlag = {
  READ: 1,
  WRITE: 2,
  MMAP: 4,
} as const;

/** Payload of {@linkcode Command.DEVICE_GET_REGION_IO_FDS}, and of its reply. */
export const RegionIoFds = {
  ARGSZ: 0,
  FLAGS: 4,
  /** u32. */
  INDEX: 8,
  /** u32: how many entries follow. */
  COUNT: 12,
  BYTES: 16,
} as const;

/** Payload of {@linkcode Command.DEVICE_GET_IRQ_INFO}, and of its reply. */
export const IrqInfo = {
  ARGSZ: 0,
  /** u32: see {@linkcode IrqFlag}. */
  FLAGS: 4,
  /** u32. */
  INDEX: 8,
  /** u32: how many interrupts the index has. */
  COUNT: 12,
  BYTES: 16,
} as const;

/** Flags of {@linkcode IrqInfo}. */
export const IrqFlag = {
  /** It can be told by eventfd. */
  EVENTFD: 1,
  /** It can be masked. */
  MASKABLE: 2,
  /** It masks itself when it is triggered. */
  AUTOMASKED: 4,
  /** Its eventfds are set all at once. */
  NORESIZE: 8,
} as const;

/** Payload of {@linkcode Command.DEVICE_SET_IRQS}; data may follow. The reply has none. */
export const SetIrqs = {
  ARGSZ: 0,
  /** u32: one data type and one action of {@linkcode SetIrqsFlag}. */
  FLAGS: 4,
  /** u32. */
  INDEX: 8,
  /** u32: the first interrupt of the index. */
  START: 12,
  /** u32: how many. */
  COUNT: 16,
  /** Where data begins. */
  DATA: 20,
  BYTES: 20,
} as const;

/** Flags of {@linkcode SetIrqs}. */
export const SetIrqsFlag = {
  /** No data: the action is for all. */
  DATA_NONE: 1,
  /** A byte for each: the action is for those whose byte is not 0. */
  DATA_BOOL: 2,
  /** An eventfd for each, beside the message; without descriptors: the eventfds are taken back. */
  DATA_EVENTFD: 4,
  ACTION_MASK: 8,
  ACTION_UNMASK: 16,
  ACTION_TRIGGER: 32,
} as const;

/** Payload of {@linkcode Command.REGION_READ} and {@linkcode Command.REGION_WRITE}, and of their replies. */
export const RegionAccess = {
  /** u64: bytes into the region. */
  OFFSET: 0,
  /** u32. */
  REGION: 8,
  /** u32: bytes. */
  COUNT: 12,
  /** Where data begins: of a write's command and of a read's reply. */
  DATA: 16,
  BYTES: 16,
} as const;

/** Payload of {@linkcode Command.REGION_WRITE_MULTI}: entries follow. Of its reply, if one is wanted: the count only. */
export const WriteMulti = {
  /** u64: how many entries; in the reply, how many of them were carried out. */
  COUNT: 0,
  /** Where the first entry begins. */
  ENTRIES: 8,
  /** Bytes of an entry. */
  ENTRY_BYTES: 24,
  /** In an entry, u64: the store's data, 1 to 8 bytes. The rest of it is as {@linkcode RegionAccess}. */
  ENTRY_DATA: 16,
  BYTES: 8,
} as const;

/** Payload of {@linkcode Command.DMA_READ} and {@linkcode Command.DMA_WRITE}, and of their replies. */
export const DmaAccess = {
  /** u64: guest physical address. */
  ADDRESS: 0,
  /** u64: bytes. */
  COUNT: 8,
  /** Where data begins: of a write's command and of a read's reply. */
  DATA: 16,
  BYTES: 16,
} as const;

/** Payload of {@linkcode Command.DEVICE_FEATURE}; data follows. */
export const Feature = {
  ARGSZ: 0,
  /** u32: the feature's number in the lower half, {@linkcode FeatureFlag} above. */
  FLAGS: 4,
  BYTES: 8,
} as const;

/** Flags of {@linkcode Feature}. */
export const FeatureFlag = {
  GET: 0x10000,
  SET: 0x20000,
  /** Only whether it could be done. */
  PROBE: 0x40000,
} as const;

/** Payload of {@linkcode Command.DIRTY_PAGES}. */
export const DirtyPages = {
  ARGSZ: 0,
  FLAGS: 4,
  BYTES: 8,
} as const;

/** Regions of a PCI device: BARs 0 to 5, ROM, configuration space, VGA. */
export const REGION_COUNT = 9;

/** Interrupts of a PCI device. */
export const Irq = {
  INTX: 0,
  MSI: 1,
  MSIX: 2,
  /** The device reports an error. */
  ERR: 3,
  /** The device asks to be let go. */
  REQ: 4,
} as const;

/** How many indices {@linkcode Irq} has. */
export const IRQ_COUNT = 5;

/** Descriptors that may come with one message: cloud-hypervisor sends up to 16 eventfds at once. */
export const MAX_MESSAGE_FDS = 16;

/**
 * Bytes of data in one message. No guest's access needs more than 8 and no VMM's more than a configuration space; more
 * than 64 KiB at once would keep others waiting.
 */
export const MAX_DATA_TRANSFER: number = 64 * 1024;

/** Bytes of one message: that with the most data. */
export const MAX_MESSAGE_BYTES: number = HEADER_BYTES + RegionAccess.BYTES + MAX_DATA_TRANSFER;

/** Bytes of the version message: QEMU's has 214, and a peer that nobody knows yet is not to cost much. */
export const MAX_VERSION_BYTES = 4096;

/** Bytes of a version reply for which QEMU has room. */
export const MAX_VERSION_REPLY_BYTES = 214;

/** What `max_data_xfer_size` is if a peer does not say it. */
const DEFAULT_DATA_TRANSFER = 1024 * 1024;

/** What a peer says of itself in {@linkcode Command.VERSION}. */
export interface VersionOffer {
  /** Versions with another major number cannot talk to each other. */
  readonly major: number;
  /** The highest minor number that the peer knows. */
  readonly minor: number;
  /** Bytes of data that it takes in one message. */
  readonly maxDataTransfer: number;
}

/**
 * Reads the payload of a version command.
 *
 * @param payload The whole payload.
 * @returns What the peer offers, or a sentence that says what is wrong with it.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { parseVersion } from "./vfio_user.ts";
 *
 * const text = '{"capabilities":{"max_data_xfer_size":4096}}\0';
 * const payload = Uint8Array.of(0, 0, 1, 0, ...new TextEncoder().encode(text));
 * assertEquals(parseVersion(payload), { major: 0, minor: 1, maxDataTransfer: 4096 });
 * assertEquals(parseVersion(payload.subarray(0, -1)), "the version text does not end with NUL");
 * ```
 */
export function parseVersion(payload: Uint8Array): VersionOffer | string {
  if (payload.length < Version.BYTES) return "the version is not whole";
  const major = getU16(payload, Version.MAJOR);
  const minor = getU16(payload, Version.MINOR);
  const capabilities = parseCapabilities(payload.subarray(Version.TEXT));
  if (typeof capabilities === "string") return capabilities;
  const maxFds = capabilities["max_msg_fds"] ?? 1;
  if (!isCount(maxFds)) return "max_msg_fds is no number of descriptors";
  const maxDataTransfer = capabilities["max_data_xfer_size"] ?? DEFAULT_DATA_TRANSFER;
  if (!isCount(maxDataTransfer) || maxDataTransfer === 0) return "max_data_xfer_size is no number of bytes";
  if (typeof (capabilities["write_multiple"] ?? false) !== "boolean") return "write_multiple is no boolean";
  return { major, minor, maxDataTransfer };
}

/**
 * The payload of a device's version reply.
 *
 * @returns Version 0.0, and what {@linkcode MAX_MESSAGE_FDS} and {@linkcode MAX_DATA_TRANSFER} say.
 *
 * @example QEMU has room for it
 * ```ts
 * import { assert } from "@std/assert";
 * import { HEADER_BYTES, MAX_VERSION_REPLY_BYTES, versionReply } from "./vfio_user.ts";
 *
 * assert(HEADER_BYTES + versionReply().length <= MAX_VERSION_REPLY_BYTES);
 * ```
 */
export function versionReply(): Uint8Array {
  const text = JSON.stringify({
    capabilities: {
      max_msg_fds: MAX_MESSAGE_FDS,
      max_data_xfer_size: MAX_DATA_TRANSFER,
      write_multiple: true,
    },
  });
  return Uint8Array.of(0, 0, 0, 0, ...new TextEncoder().encode(`${text}\0`));
}

/** The capabilities in a version text, or what is wrong with it. No text at all is right: nothing is offered. */
function parseCapabilities(text: Uint8Array): Readonly<Record<string, unknown>> | string {
  if (text.length === 0) return {};
  const end = text.indexOf(0);
  if (end < 0) return "the version text does not end with NUL";
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(text.subarray(0, end)));
  } catch {
    return "the version text is no JSON";
  }
  if (!isRecord(value)) return "the version text is no JSON object";
  const capabilities = value["capabilities"] ?? {};
  return isRecord(capabilities) ? capabilities : "capabilities are no JSON object";
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/**
 * Reads 16 bits.
 *
 * @param bytes Where.
 * @param at Bytes; the field must lie within.
 * @returns 0 to 2^16-1.
 */
export function getU16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | bytes[at + 1]! << 8;
}

/**
 * Reads 32 bits.
 *
 * @param bytes Where.
 * @param at Bytes; the field must lie within.
 * @returns 0 to 2^32-1.
 */
export function getU32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 | bytes[at + 3]! << 24) >>> 0;
}

/**
 * Reads 64 bits as a number, without making a bigint.
 *
 * @param bytes Where.
 * @param at Bytes; the field must lie within.
 * @returns 0 to 2^64; exact below 2^53, else near enough to be out of every range.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { getU64 } from "./vfio_user.ts";
 *
 * assertEquals(getU64(Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0), 0), 2 * 2 ** 32 + 1);
 * ```
 */
export function getU64(bytes: Uint8Array, at: number): number {
  return getU32(bytes, at + 4) * 0x1_0000_0000 + getU32(bytes, at);
}

/**
 * Writes 16 bits.
 *
 * @param bytes Where.
 * @param at Bytes.
 * @param value Its low 16 bits count.
 */
export function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}

/**
 * Writes 32 bits.
 *
 * @param bytes Where.
 * @param at Bytes.
 * @param value Its low 32 bits count.
 */
export function putU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

/**
 * Writes 64 bits.
 *
 * @param bytes Where.
 * @param at Bytes.
 * @param value 0 to 2^53-1.
 */
export function putU64(bytes: Uint8Array, at: number, value: number): void {
  putU32(bytes, at, value);
  putU32(bytes, at + 4, Math.floor(value / 0x1_0000_0000));
}
