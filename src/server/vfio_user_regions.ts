/**
 * A guest's loads and stores, as vfio-user carries them.
 *
 * A VMM may read a whole configuration space at once, or pass on what a guest did at any offset and of any length; the
 * device knows accesses of 1, 2, 4 and 8 bytes at multiples of their size. So everything is split into these, as a bus
 * would do it, and an access that lies within its region always succeeds. Nothing here allocates.
 *
 * @module
 */

import {
  Errno,
  getU32,
  getU64,
  HeaderFlag,
  MAX_DATA_TRANSFER,
  putU32,
  RegionAccess as Layout,
  WriteMulti,
} from "../../protocol/vfio_user.ts";
import { REGION_SIZES } from "../vgpu/vgpu.ts";
import type { RegionAccess } from "./region_access.ts";
import type { VfioUserMessage } from "./vfio_user_message.ts";
import type { VfioUserOutput } from "./vfio_user_output.ts";

const OK = 0;
/** The longest natural access, bytes. */
const MAX_NATURAL = 8;

/** Carries out a peer's region accesses. */
export class VfioUserRegions {
  readonly #output: VfioUserOutput;
  readonly #value = new Uint32Array(2);
  /** Stores of `REGION_WRITE_MULTI` that no region has. */
  #refused = 0;

  /** @param output Where replies go. */
  constructor(output: VfioUserOutput) {
    this.#output = output;
  }

  /** Stores within messages that were refused without anybody being told. */
  get refusedStores(): number {
    return this.#refused;
  }

  /** A load. @returns 0, or the error. */
  read(access: RegionAccess, message: VfioUserMessage): number {
    const { bytes, payload } = message;
    if (message.length !== Layout.BYTES) return Errno.EINVAL;
    const offset = getU64(bytes, payload + Layout.OFFSET);
    const region = getU32(bytes, payload + Layout.REGION);
    const count = getU32(bytes, payload + Layout.COUNT);
    if (!isWithin(region, offset, count)) return Errno.EINVAL;
    if (message.isPosted) return OK; // a load has no effect but its answer
    const at = this.#reply(message, Layout.BYTES + count);
    this.#load(access, region, offset, count, at + Layout.DATA);
    return OK;
  }

  /** A store. @returns 0, or the error. */
  write(access: RegionAccess, message: VfioUserMessage): number {
    const { bytes, payload } = message;
    if (message.length < Layout.BYTES) return Errno.EINVAL;
    const offset = getU64(bytes, payload + Layout.OFFSET);
    const region = getU32(bytes, payload + Layout.REGION);
    const count = getU32(bytes, payload + Layout.COUNT);
    if (message.length !== Layout.BYTES + count || !isWithin(region, offset, count)) {
      return Errno.EINVAL;
    }
    if (count > MAX_NATURAL) store(access, region, offset, count, bytes, payload + Layout.DATA);
    else store(access, region, offset, count, bytes, payload + Layout.DATA);
    if (!message.isPosted) this.#reply(message, Layout.BYTES);
    return OK;
  }

  /**
   * Many stores; each succeeds or is refused for itself.
   *
   * @returns 0, or the error of the message as a whole.
   */
  writeMulti(access: RegionAccess, message: VfioUserMessage): number {
    const { bytes, payload } = message;
    if (message.length < WriteMulti.BYTES) return Errno.EINVAL;
    const count = getU64(bytes, payload + WriteMulti.COUNT);
    if (message.length !== WriteMulti.BYTES + count * WriteMulti.ENTRY_BYTES) return Errno.EINVAL;
    const done = storeEach(access, count, bytes, payload + WriteMulti.ENTRIES);
    this.#refused += count - done;
    if (message.isPosted) return OK;
    const at = this.#output.message(message.id, message.command, HeaderFlag.REPLY, WriteMulti.BYTES);
    putU32(this.#output.bytes, at, done);
    putU32(this.#output.bytes, at + 4, 0);
    return OK;
  }

  /** Begins a reply that repeats what was asked. @returns Where its payload begins. */
  #reply(message: VfioUserMessage, length: number): number {
    const at = this.#output.message(message.id, message.command, HeaderFlag.REPLY, length);
    const out = this.#output.bytes;
    for (let i = 0; i < Layout.BYTES; i++) out[at + i] = message.bytes[message.payload + i]!;
    return at;
  }

  #load(access: RegionAccess, region: number, offset: number, count: number, at: number): void {
    const value = this.#value;
    const out = this.#output.bytes;
    for (let done = 0; done < count;) {
      const size = naturalSize(offset + done, count - done);
      access.read(region, offset + done, size, value);
      for (let i = 0; i < size; i++) out[at + done + i] = (i < 4 ? value[0]! : value[1]!) >>> (8 * (i & 3));
      done += size;
    }
  }
}

/** The stores of a `REGION_WRITE_MULTI`. @returns How many of them some region has. */
function storeEach(access: RegionAccess, count: number, bytes: Uint8Array, entries: number): number {
  let done = 0;
  for (let index = 0; index < count; index++) {
    const entry = entries + index * WriteMulti.ENTRY_BYTES;
    const offset = getU64(bytes, entry + Layout.OFFSET);
    const region = getU32(bytes, entry + Layout.REGION);
    const length = getU32(bytes, entry + Layout.COUNT);
    if (length > MAX_NATURAL || !isWithin(region, offset, length)) continue;
    store(access, region, offset, length, bytes, entry + WriteMulti.ENTRY_DATA);
    done++;
  }
  return done;
}

function store(
  access: RegionAccess,
  region: number,
  offset: number,
  count: number,
  bytes: Uint8Array,
  at: number,
): void {
  for (let done = 0; done < count;) {
    const size = naturalSize(offset + done, count - done);
    const lo = laneOf(bytes, at + done, size);
    const hi = size === 8 ? getU32(bytes, at + done + 4) : 0;
    access.write(region, offset + done, size, lo, hi);
    done += size;
  }
}

/** Up to four bytes as one value. */
function laneOf(bytes: Uint8Array, at: number, size: number): number {
  if (size >= 4) return getU32(bytes, at);
  return size === 2 ? bytes[at]! | bytes[at + 1]! << 8 : bytes[at]!;
}

/** The longest access at this offset that is aligned to its own size and no longer than what is left. */
function naturalSize(offset: number, left: number): number {
  let size = MAX_NATURAL;
  while (size > left || (offset & (size - 1)) !== 0) size >>= 1;
  return size;
}

/** Whether an access lies within its region and is not longer than one may be. */
function isWithin(region: number, offset: number, count: number): boolean {
  const size = REGION_SIZES.get(region) ?? 0;
  return size > 0 && count <= MAX_DATA_TRANSFER && offset + count <= size;
}
