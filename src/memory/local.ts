import type { Backing } from "./backing.ts";
import { MemoryBacking } from "./memory_backing.ts";
import { RamError } from "./ram_error.ts";

/**
 * Memory of this process as guest RAM, zeroed.
 *
 * The system hands out pages as they are first touched, so even 4 GiB are there in less than a millisecond
 * and cost nothing until they are used. The longest buffer there is (about 2^45 bytes) is out of reach:
 * the system refuses long before, at what it has in memory and swap.
 *
 * @param size In bytes, a multiple of 4096.
 * @param readonly Whether writes are refused: then it is a ROM of zeros.
 * @returns The memory.
 * @throws {RamError} `ENOMEM` if the system does not grant it.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 *
 * const backing = allocateLocal(4096, false);
 * backing.write(8, new Uint8Array([1]));
 * const entry = new Uint32Array(2);
 * backing.readEntry(8, entry);
 * assertEquals(entry, new Uint32Array([1, 0]));
 * ```
 */
export function allocateLocal(size: number, readonly: boolean): Backing {
  let buffer: ArrayBuffer;
  try {
    buffer = new ArrayBuffer(size);
  } catch (cause) {
    throw new RamError(
      "ENOMEM",
      `the system does not grant ${size} bytes of memory: make the region smaller, or share the RAM as a file`,
      { cause },
    );
  }
  return new MemoryBacking("local", buffer, readonly);
}
