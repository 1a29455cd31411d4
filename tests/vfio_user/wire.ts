/**
 * vfio-user messages as a VMM builds and reads them.
 *
 * @module
 */

import { Command, HEADER_BYTES, HeaderFlag } from "../../protocol/vfio_user.ts";

/** A field of a payload: how many bits, and its value. */
type Field = readonly [bits: 16 | 32 | 64, value: number | bigint];

/** 16 bits. */
export const u16 = (value: number): Field => [16, value];
/** 32 bits. */
export const u32 = (value: number): Field => [32, value];
/** 64 bits. */
export const u64 = (value: number | bigint): Field => [64, value];

/** Fields, little endian, one after the other; byte arrays as they are. */
export function payload(...fields: readonly (Field | Uint8Array)[]): Uint8Array<ArrayBuffer> {
  return concat(fields.map((field) => {
    if (field instanceof Uint8Array) return field;
    const [bits, value] = field;
    const view = new DataView(new ArrayBuffer(8));
    view.setBigUint64(0, BigInt(value), true);
    return new Uint8Array(view.buffer, 0, bits / 8);
  }));
}

/** Byte arrays, one after the other. */
export function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** What of a header differs from an ordinary command's. */
export interface HeaderOptions {
  readonly id?: number;
  readonly flags?: number;
  readonly errno?: number;
  /** What the size field says, if it is not the truth. */
  readonly size?: number;
}

/** A whole message. */
export function message(
  command: number,
  body: Uint8Array = new Uint8Array(0),
  { id = 1, flags = HeaderFlag.COMMAND, errno = 0, size }: HeaderOptions = {},
): Uint8Array<ArrayBuffer> {
  const length = size ?? HEADER_BYTES + body.length;
  return payload(u16(id), u16(command), u32(length), u32(flags), u32(errno), body);
}

/** A message of the device's, taken apart. */
export interface Message {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly errno: number;
  readonly body: Uint8Array;
}

/** Takes whole messages off the start of a stream. @returns They, and what is left. */
export function parse(stream: Uint8Array): [messages: Message[], rest: Uint8Array] {
  const messages: Message[] = [];
  let at = 0;
  while (stream.length - at >= HEADER_BYTES) {
    const view = new DataView(stream.buffer, stream.byteOffset + at);
    const size = view.getUint32(4, true);
    if (size < HEADER_BYTES) throw new Error(`the device sent a message of ${size} bytes`);
    if (stream.length - at < size) break;
    messages.push({
      id: view.getUint16(0, true),
      command: view.getUint16(2, true),
      flags: view.getUint32(8, true),
      errno: view.getUint32(12, true),
      body: stream.slice(at + HEADER_BYTES, at + size),
    });
    at += size;
  }
  return [messages, stream.slice(at)];
}

/** Reads a field of a body. */
export function field(body: Uint8Array, at: number, bits: 16 | 32 | 64): number {
  const view = new DataView(body.buffer, body.byteOffset);
  if (bits === 16) return view.getUint16(at, true);
  return bits === 32 ? view.getUint32(at, true) : Number(view.getBigUint64(at, true));
}

/** The version text that QEMU 11.1.3 sends. */
export const QEMU_CAPABILITIES =
  '{"capabilities": {"migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "max_data_xfer_size": 1048576, ' +
  '"max_dma_maps": 65535, "max_msg_fds": 16, "pgsizes": 4096, "write_multiple": true}}';

/** A version command. */
export function version(
  text: string | null = QEMU_CAPABILITIES,
  major = 0,
  minor = 0,
): Uint8Array<ArrayBuffer> {
  const bytes = text === null ? new Uint8Array(0) : new TextEncoder().encode(`${text}\0`);
  return message(Command.VERSION, payload(u16(major), u16(minor), bytes));
}

/** The body of a `DMA_MAP`. */
export function dmaMap(gpa: number | bigint, size: number | bigint, flags = 3, offset = 0): Uint8Array {
  return payload(u32(32), u32(flags), u64(offset), u64(gpa), u64(size));
}

/** The body of a `DMA_UNMAP`. */
export function dmaUnmap(gpa: number | bigint, size: number | bigint, flags = 0): Uint8Array {
  return payload(u32(24), u32(flags), u64(gpa), u64(size));
}

/** The body of a `REGION_READ`, and the start of a `REGION_WRITE`'s. */
export function access(region: number, offset: number | bigint, count: number): Uint8Array {
  return payload(u64(offset), u32(region), u32(count));
}

/** The body of a `REGION_WRITE` of a value. */
export function store(region: number, offset: number, count: number, value: number | bigint): Uint8Array {
  return payload(access(region, offset, count), payload(u64(value)).subarray(0, count));
}

/** The body of a `REGION_WRITE_MULTI`. */
export function storeMany(
  ...stores: readonly (readonly [region: number, offset: number, count: number, value: number | bigint])[]
): Uint8Array {
  return payload(
    u64(stores.length),
    ...stores.map(([region, offset, count, value]) => payload(access(region, offset, count), u64(value))),
  );
}

/** The body of a `DEVICE_SET_IRQS`. */
export function setIrqs(
  flags: number,
  index: number,
  count = 1,
  start = 0,
  data = new Uint8Array(0),
): Uint8Array {
  return payload(u32(20 + data.length), u32(flags), u32(index), u32(start), u32(count), data);
}

/** The body of a question about region or interrupt `index`, or about the device. */
export function ask(argsz: number, index = 0): Uint8Array {
  return argsz === 32
    ? payload(u32(argsz), u32(0), u32(index), u32(0), u64(0), u64(0))
    : payload(u32(argsz), u32(0), u32(index), u32(0));
}
