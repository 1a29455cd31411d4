/**
 * Every bound of the protocol, with its reason. A peer that keeps to them is never refused for size. One that does
 * not is refused when it declares too much; what it sent by then costs at most three times these bytes, because a
 * buffer doubles when it grows.
 *
 * @module
 */

/** The version this text describes; `hello` carries it. */
export const PROTOCOL_VERSION = 1;

/** Bytes of one `bin` value: one 2 MiB large page of guest memory, the largest unit a guest table can name. */
export const MAX_BYTES = 2 * 1024 * 1024;

/** Bytes of one string: Linux's PATH_MAX, since the longest string of the protocol is a path. */
export const MAX_STRING_BYTES = 4096;

/** Bytes of a path: PATH_MAX counts the NUL at its end, which the wire does not carry. */
export const MAX_PATH_BYTES: number = MAX_STRING_BYTES - 1;

/**
 * Writes in one `mmio_write_many`: eight table pages' worth of entries, which is about one read of a socket.
 * Stores to the GTT take a few milliseconds then; of stores that notify PVINFO each may build or destroy a whole tree,
 * and all of them are one unit of work.
 */
export const MAX_WRITES = 4096;

/** Addresses and sizes stay below 2^52: four-level tables reach 2^48, and every sum stays an exact `number`. */
export const MAX_ADDRESS = 2 ** 52 - 1;

/** Frame numbers: {@linkcode MAX_ADDRESS} in 4 KiB pages. */
export const MAX_FRAME = 2 ** 40 - 1;

/** What one end accepts from the other, in the terms of {@linkcode Scanner}. */
export interface ScanLimits {
  /** Bytes of one whole message. */
  readonly messageBytes: number;
  /** Nested arrays and maps, the message's own array included. */
  readonly depth: number;
  /** Elements of all arrays and maps of one message together; a map's pair counts as two. */
  readonly elements: number;
  /** Bytes of one string. */
  readonly stringBytes: number;
  /** Bytes of one `bin`. */
  readonly bytes: number;
}

/** What a device accepts. */
export const REQUEST_LIMITS: ScanLimits = {
  // The largest call, a mem_write of MAX_BYTES, needs half of it.
  messageBytes: 4 * 1024 * 1024,
  // The deepest call, mmio_write_many, nests 4 deep; the rest is room for debug_init's free-form map.
  depth: 8,
  // The widest call, mmio_write_many, has 4 elements per write. An element costs a receiver some 30 bytes.
  elements: 4 * MAX_WRITES + 1024,
  stringBytes: MAX_STRING_BYTES,
  bytes: MAX_BYTES,
};

/** What a device accepts before `hello`: that is some 100 bytes, and a peer nobody knows is not to cost much. */
export const HELLO_LIMITS: ScanLimits = { ...REQUEST_LIMITS, messageBytes: 64 * 1024 };

/** How long a connection may go without `hello`, milliseconds: programs say it at once, a person at a shell may not. */
export const HELLO_GRACE = 5000;

/** What a client accepts: more, because a device answers `tree` and `state` with whole tables. */
export const REPLY_LIMITS: ScanLimits = {
  // A tree of 100,000 entries, the most that `tree` lists (195 full tables), takes some 3 MiB. The lists of `state`
  // have no such bound; a result that is larger is refused with E2BIG.
  messageBytes: 16 * 1024 * 1024,
  // A 4-level tree nests 3 containers a level under the reply, the result and the roots.
  depth: 24,
  elements: 2 * 1024 * 1024,
  stringBytes: 64 * 1024,
  bytes: MAX_BYTES,
};

/** Output a session holds before it stops taking input, bytes: some hundred replies, so a batch fills one write. */
export const OUTPUT_HIGH_WATER = 256 * 1024;

/**
 * Output after which a connection is given up, bytes: a reply of the largest size, twice. Only notifications get
 * there, since calls stop at {@linkcode OUTPUT_HIGH_WATER}: those of one call, or of many while the peer does not read.
 */
export const OUTPUT_LIMIT = 2 * REPLY_LIMITS.messageBytes;
