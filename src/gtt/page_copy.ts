/**
 * A copy of a guest page, in the forms that it is compared and applied in.
 *
 * @module
 */

/**
 * What a guest page held at some time: 4096 bytes of which one sees entries, lanes or bytes.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { PageCopy } from "./page_copy.ts";
 *
 * const copy = new PageCopy(new Uint32Array(1024));
 * copy.lanes[3] = 0x80;
 * assertEquals([copy.entries[1], copy.bytes[12]], [0x80_0000_0000n, 0x80]);
 * ```
 */
export class PageCopy {
  /** The 32-bit lanes, 1024 of them. */
  readonly lanes: Uint32Array;
  #entries: BigUint64Array | null = null;
  #bytes: Uint8Array<ArrayBuffer> | null = null;

  /**
   * A copy that is kept in these lanes.
   *
   * @param lanes 1024 lanes with a buffer of their own.
   */
  constructor(lanes: Uint32Array) {
    this.lanes = lanes;
  }

  /**
   * The entries.
   *
   * @returns 512 of them.
   */
  get entries(): BigUint64Array {
    return this.#entries ??= new BigUint64Array(this.lanes.buffer);
  }

  /**
   * The bytes.
   *
   * @returns 4096 of them.
   */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes ??= new Uint8Array(this.lanes.buffer as ArrayBuffer);
  }
}
