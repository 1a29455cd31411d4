/**
 * Makes screenshots smaller: flat pictures are packed better without the filters that photographs need.
 *
 * @module
 */

import { deflateSync, inflateSync } from "node:zlib";

const SIGNATURE = 8;
/** Bytes of a chunk besides its data. */
const OVERHEAD = 12;
/** A pixel of 8-bit RGB, as Chromium writes them. */
const PIXEL = 3;

/**
 * Packs an image anew; every pixel stays.
 *
 * @param png An image of 8-bit RGB, not interlaced.
 */
export function repacked(png: Uint8Array): Uint8Array {
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  const packed: Uint8Array[] = [];
  let header = new Uint8Array();
  let width = 0;
  for (let at = SIGNATURE; at < png.length;) {
    const length = view.getUint32(at);
    const type = new TextDecoder().decode(png.subarray(at + 4, at + 8));
    if (type === "IHDR") {
      header = png.slice(at, at + OVERHEAD + length);
      width = view.getUint32(at + 8);
    }
    if (type === "IDAT") packed.push(png.subarray(at + 8, at + 8 + length));
    at += OVERHEAD + length;
  }
  const lines = unfiltered(inflateSync(joined(packed)), width * PIXEL);
  const data = chunk("IDAT", deflateSync(lines, { level: 9 }));
  return joined([png.subarray(0, SIGNATURE), header, data, chunk("IEND", new Uint8Array())]);
}

/** Lines without filters, each with a byte that says so. */
function unfiltered(lines: Uint8Array, bytes: number): Uint8Array {
  const out = lines.slice();
  for (let start = 0; start < out.length; start += bytes + 1) {
    const filter = out[start]!;
    out[start] = 0;
    for (let index = 0; index < bytes; index++) {
      const at = start + 1 + index;
      const left = index >= PIXEL ? out[at - PIXEL]! : 0;
      const up = start > 0 ? out[at - bytes - 1]! : 0;
      const corner = start > 0 && index >= PIXEL ? out[at - bytes - 1 - PIXEL]! : 0;
      out[at] = out[at]! + predicted(filter, left, up, corner);
    }
  }
  return out;
}

/** What a filter takes a byte for. */
function predicted(filter: number, left: number, up: number, corner: number): number {
  if (filter === 1) return left;
  if (filter === 2) return up;
  if (filter === 3) return (left + up) >> 1;
  if (filter !== 4) return 0;
  const guess = left + up - corner;
  const [toLeft, toUp, toCorner] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
  return toLeft <= toUp && toLeft <= toCorner ? left : toUp <= toCorner ? up : corner;
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const named = joined([new TextEncoder().encode(type), data]);
  return joined([word(data.length), named, word(crc(named))]);
}

function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

function crc(bytes: Uint8Array): number {
  let value = 0xffffffff;
  for (const byte of bytes) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? 0xedb88320 : 0);
  }
  return ~value >>> 0;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
