import {
  DmaFlag,
  DmaMap,
  DmaUnmap,
  Errno,
  getU32,
  getU64,
  HeaderFlag,
  UnmapFlag,
} from "../../protocol/vfio_user.ts";
import { RamError, type RamErrorCode, type RamMap, type RemoteMemory } from "../memory/ram_map.ts";
import { GPA_LIMIT } from "../memory/ram_region.ts";
import type { Log } from "./rpc_session.ts";
import type { ServedDevice } from "./served_device.ts";
import type { VfioUserMessage } from "./vfio_user_message.ts";
import type { VfioUserOutput } from "./vfio_user_output.ts";

const OK = 0;

/** Ranges beyond what the GPU can address that are remembered: they cost nothing, but somebody could send any number. */
const MAX_UNREACHABLE = 256;

/** What QEMU's user has to add. */
const NOT_SHARED = "guest RAM is not shared: add -object memory-backend-memfd,id=ram0,size=…,share=on and " +
  "-machine memory-backend=ram0 to QEMU's command line";

const ERRNO_OF: Readonly<Record<RamErrorCode, number>> = {
  EACCES: Errno.EACCES,
  EEXIST: Errno.EEXIST,
  EINVAL: Errno.EINVAL,
  EIO: Errno.EIO,
  EMFILE: Errno.EMFILE,
  ENOENT: Errno.ENOENT,
  ENOMEM: Errno.ENOMEM,
  ENOSPC: Errno.ENOSPC,
};

/** What {@linkcode VfioUserRam} works with. */
export interface VfioUserRamParts {
  /** The device whose RAM it is. */
  readonly served: ServedDevice;
  /** Holds RAM that comes without a descriptor. */
  readonly remote: RemoteMemory;
  /** Where replies go. */
  readonly output: VfioUserOutput;
  /** Where diagnostics go. */
  readonly log: Log;
  /** The session's number, for the log. */
  readonly session: number;
}

/**
 * Guest RAM as a vfio-user peer maps it.
 *
 * A range with a descriptor becomes shared memory or a file (`src/memory`). One without stays with the peer: it is ROM,
 * or RAM that somebody forgot to share. A range that lies, even in part, beyond the GPU's addresses is accepted and
 * never looked at: the peer maps what its machine has, and a refusal would end the machine.
 */
export class VfioUserRam {
  readonly #parts: VfioUserRamParts;
  /** Address and size of ranges that the GPU cannot address, as the peer wrote them. */
  readonly #unreachable = new Set<string>();
  #hasWarned = false;

  /** @param parts What it works with. */
  constructor(parts: VfioUserRamParts) {
    this.#parts = parts;
  }

  /** Carries out `DMA_MAP`; takes the message's descriptor if it succeeds. @returns 0, or the error. */
  map(message: VfioUserMessage): number {
    const { bytes, payload, fds } = message;
    if (message.length < DmaMap.BYTES || getU32(bytes, payload) < DmaMap.BYTES) return Errno.EINVAL;
    const flags = getU32(bytes, payload + DmaMap.FLAGS);
    const gpa = getU64(bytes, payload + DmaMap.ADDRESS);
    const size = getU64(bytes, payload + DmaMap.SIZE);
    const offset = getU64(bytes, payload + DmaMap.OFFSET);
    // Memory that could be written but not read is none that a page table can be in.
    if ((flags & ~DmaFlag.WRITE) !== DmaFlag.READ || fds.length > 1) return Errno.EINVAL;
    const isReadonly = (flags & DmaFlag.WRITE) === 0;
    const errno = gpa + size > GPA_LIMIT
      ? this.#remember(keyOf(bytes, payload + DmaMap.ADDRESS))
      : this.#add(message, gpa, size, offset, isReadonly);
    if (errno === OK && !message.isPosted) this.#reply(message, 0);
    return errno;
  }

  /** Carries out `DMA_UNMAP`. @returns 0, or the error. */
  unmap(message: VfioUserMessage): number {
    const { bytes, payload } = message;
    if (message.length < DmaUnmap.BYTES || getU32(bytes, payload) < DmaUnmap.BYTES) return Errno.EINVAL;
    const flags = getU32(bytes, payload + DmaUnmap.FLAGS);
    const gpa = getU64(bytes, payload + DmaUnmap.ADDRESS);
    const size = getU64(bytes, payload + DmaUnmap.SIZE);
    if (flags === UnmapFlag.DIRTY_BITMAP) return Errno.EOPNOTSUPP;
    if (flags === UnmapFlag.ALL) {
      if (gpa !== 0 || size !== 0) return Errno.EINVAL;
      this.#removeAll();
    } else {
      const errno = flags === 0
        ? this.#remove(keyOf(bytes, payload + DmaUnmap.ADDRESS), gpa, size)
        : Errno.EINVAL;
      if (errno !== OK) return errno;
    }
    if (!message.isPosted) this.#reply(message, DmaUnmap.BYTES);
    return OK;
  }

  #add(message: VfioUserMessage, gpa: number, size: number, offset: number, isReadonly: boolean): number {
    const { served, remote, log, session } = this.#parts;
    const where = { session, id: message.id, gpa, size };
    const [fd] = message.fds;
    try {
      const source = fd === undefined ? { remote } : { fd, offset };
      const { kind } = served.mapRam({ gpa, size, readonly: isReadonly, ...source });
      message.fds = [];
      log("debug", "RAM mapped", { ...where, kind });
    } catch (error) {
      if (!(error instanceof RamError)) {
        if (fd !== undefined && isMapped(served.device.ram, gpa)) message.fds = [];
        throw error;
      }
      log("warn", "RAM refused", { ...where, reason: error.message });
      return ERRNO_OF[error.code];
    }
    if (fd === undefined && !isReadonly && !this.#hasWarned) {
      this.#hasWarned = true;
      log("warn", NOT_SHARED, where);
    }
    return OK;
  }

  #remember(key: string): number {
    if (this.#unreachable.has(key)) return Errno.EEXIST;
    if (this.#unreachable.size >= MAX_UNREACHABLE) return Errno.ENOSPC;
    this.#unreachable.add(key);
    return OK;
  }

  #remove(key: string, gpa: number, size: number): number {
    if (this.#unreachable.delete(key)) return OK;
    try {
      this.#parts.served.unmapRam(gpa, size);
      return OK;
    } catch (error) {
      if (error instanceof RamError) return ERRNO_OF[error.code];
      throw error;
    }
  }

  #removeAll(): void {
    this.#unreachable.clear();
    const { served } = this.#parts;
    for (const { gpa, size } of served.device.ram.regions) served.unmapRam(gpa, size);
  }

  /** Replies with the start of what was asked. */
  #reply({ id, command, bytes, payload }: VfioUserMessage, length: number): void {
    const { output } = this.#parts;
    const at = output.message(id, command, HeaderFlag.REPLY, length);
    output.bytes.set(bytes.subarray(payload, payload + length), at);
  }
}

/** Address and size, exactly: beyond 2^53 a number is not. */
function keyOf(bytes: Uint8Array, at: number): string {
  return bytes.subarray(at, at + 16).join();
}

/** Whether a bug came after a region was added, which has its descriptor then. */
function isMapped(ram: RamMap, gpa: number): boolean {
  return ram.regions.some((region) => region.gpa === gpa);
}
