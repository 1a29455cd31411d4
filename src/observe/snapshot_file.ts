/**
 * Snapshots in files: gzipped lines of JSON. The first is the head, with everything but pages; each table and each chunk of
 * the GGTT has a line of its own, its pages in base64, low lane of an entry first.
 *
 * @module
 */

import { MAX_FRAME } from "../../protocol/limits.ts";
import {
  address,
  array,
  bool,
  count,
  frame,
  nullable,
  oneOf,
  openRecord,
  type Schema,
  string,
  type TypeOf,
  u32,
  uint,
} from "../../protocol/schema.ts";
import { ENTRIES, LANES } from "../gtt/entry.ts";
import { type GgttChunk, Snapshot, type SnapshotParts, type TableView } from "./snapshot.ts";

/** What a file of this kind begins with. */
const FORMAT = "vgtt snapshot 1";
/** Bytes of one file, unpacked, beyond which none is read: 65,536 tables take 700 MB. */
const MAX_BYTES = 2 ** 30;
/** Bytes of one line: the head has 4096 address spaces at most, and a list of what waits for the flush. */
const MAX_LINE = 2 ** 26;

/** Lanes of the four roots of an address space. */
const ROOT_LANES = 8;
/** Kinds of tables, and none. */
const KINDS = 5;
/** More than there are of anything in a list. */
const MAX_LIST = 2 ** 20;

/** A file that is no snapshot, or a damaged one. */
export class SnapshotFileError extends Error {
  /** Always `"SnapshotFileError"`. */
  override readonly name = "SnapshotFileError";
}

/** What a frame is that may be none. */
const frameOrNone = uint(-1, MAX_FRAME, "frame or -1");
const roots = array(u32, ROOT_LANES, ROOT_LANES);

/** The first line. */
const HEAD = openRecord({
  format: oneOf(FORMAT),
  engine: count,
  tracking: oneOf("trapped", "untracked"),
  hugePages: bool,
  failsafe: bool,
  refusedStores: count,
  recordedEvents: count,
  globalScratch: frameOrNone,
  scratch: array(frameOrNone, KINDS, KINDS),
  lru: array(u32, MAX_LIST),
  ram: array(openRecord({ gpa: address, size: address, mfn: frame, kind: string, readonly: bool }), MAX_LIST),
  tracks: array(openRecord({ gfn: frame, track: u32, isEnabled: bool }), MAX_LIST),
  windows: array(openRecord({ name: oneOf("aperture", "hidden"), base: address, size: address }), KINDS),
  spaces: array(
    openRecord({
      id: u32,
      level: oneOf(3, 4),
      refs: count,
      pins: count,
      isShadowed: bool,
      roots,
      shadowRoots: roots,
    }),
    MAX_LIST,
  ),
  tables: uint(0, MAX_LIST),
  chunks: uint(0, MAX_LIST),
});

/** The line of a table. */
const TABLE = openRecord({
  serial: count,
  gfn: frame,
  kind: oneOf(1, 2, 3, 4),
  span: oneOf(1, 16),
  isSplit: bool,
  mfn: frame,
  refs: count,
  writes: count,
  isTracked: bool,
  isOutOfSync: bool,
  isLookedAt: bool,
  queued: array(uint(0, ENTRIES - 1), ENTRIES),
  shadow: string,
  guest: nullable(string),
  seen: nullable(string),
});

/** The line of a part of the GGTT. */
const CHUNK = openRecord({ chunk: uint(0, MAX_LIST), guest: string, host: string });

/**
 * Writes a snapshot.
 *
 * @param path The file, replaced if it is there, by another one: it holds guest memory, so only the user may read it.
 * @param snapshot What to keep.
 * @throws {Deno.errors.PermissionDenied} And what else the system says if it cannot be written.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { Snapshot } from "./snapshot.ts";
 * import { loadSnapshot, saveSnapshot } from "./snapshot_file.ts";
 *
 * const table = {
 *   serial: 1, gfn: 2, kind: 1, span: 1, isSplit: false, mfn: 0x300000001, refs: 1, writes: 0, isTracked: true,
 *   isOutOfSync: false, isLookedAt: true, queued: [], shadow: new Uint32Array(1024).fill(3), guest: null, seen: null,
 * } as const;
 * const snapshot = new Snapshot({
 *   engine: 1, tracking: "trapped", hugePages: false, failsafe: false, refusedStores: 0, recordedEvents: 0, globalScratch: 1,
 *   scratch: [-1, 2, 3, 4, 5], tables: new Map([[1, table]]), spaces: [], lru: [], ram: [], tracks: [], windows: [],
 *   ggtt: new Map(),
 * });
 * const path = await Deno.makeTempFile();
 * await saveSnapshot(path, snapshot);
 * assertEquals((await loadSnapshot(path)).parts, snapshot.parts);
 * await Deno.remove(path);
 * ```
 */
export async function saveSnapshot(path: string, snapshot: Snapshot): Promise<void> {
  const target = await fileOf(path);
  // A device or a pipe takes it as it comes.
  if (target === null) return await write(await Deno.open(path, { write: true }), snapshot);
  const part = `${target}.${crypto.randomUUID().slice(0, 8)}.part`;
  try {
    await write(await Deno.open(part, { write: true, createNew: true, mode: 0o600 }), snapshot);
    await Deno.rename(part, target);
  } catch (error) {
    await Deno.remove(part).catch(() => {}); // what went wrong before is the news
    throw error;
  }
}

/** The file that a path leads to, there or not; `null` if it leads to something else. */
async function fileOf(path: string): Promise<string | null> {
  try {
    const { isFile } = await Deno.stat(path);
    return isFile ? await Deno.realPath(path) : null;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return path;
    throw error;
  }
}

async function write(file: Deno.FsFile, snapshot: Snapshot): Promise<void> {
  const text = ReadableStream.from(linesOf(snapshot.parts)).pipeThrough(new TextEncoderStream());
  await text.pipeThrough(new CompressionStream("gzip")).pipeTo(file.writable);
}

/**
 * Reads a snapshot.
 *
 * @param path The file.
 * @returns What it holds.
 * @throws {SnapshotFileError} If it is no snapshot, or a damaged one.
 * @throws {Deno.errors.NotFound} And what else the system says if it cannot be read.
 */
export async function loadSnapshot(path: string): Promise<Snapshot> {
  const file = await Deno.open(path);
  try {
    const lines = readLines(file.readable.pipeThrough(new DecompressionStream("gzip")));
    return await parse(lines);
  } catch (cause) {
    if (cause instanceof SnapshotFileError) {
      throw new SnapshotFileError(`${path}: ${cause.message}`, { cause });
    }
    if (cause instanceof TypeError || cause instanceof SyntaxError) {
      throw new SnapshotFileError(`${path} is no snapshot, or a damaged one: ${cause.message}`, { cause });
    }
    throw cause;
  }
}

function* linesOf(parts: SnapshotParts): Generator<string> {
  const { tables, ggtt, spaces, ...others } = parts;
  const head: TypeOf<typeof HEAD> = {
    format: FORMAT,
    ...others,
    tables: tables.size,
    chunks: ggtt.size,
    spaces: spaces.map((space) => ({
      ...space,
      roots: [...space.roots],
      shadowRoots: [...space.shadowRoots],
    })),
  };
  yield `${JSON.stringify(head)}\n`;
  for (const { shadow, guest, seen, ...table } of tables.values()) {
    const pages = { shadow: text(shadow), guest: textOrNull(guest), seen: textOrNull(seen) };
    yield `${JSON.stringify({ ...table, ...pages })}\n`;
  }
  for (const [chunk, { guest, host }] of ggtt) {
    yield `${JSON.stringify({ chunk, guest: text(guest), host: text(host) })}\n`;
  }
}

async function parse(lines: AsyncIterable<string>): Promise<Snapshot> {
  const iterator = lines[Symbol.asyncIterator]();
  const next = async <T>(schema: Schema<T>, what: string): Promise<T> => {
    const { done, value } = await iterator.next();
    if (done === true) throw new SnapshotFileError("the file ends too early");
    const line = JSON.parse(value);
    const problem = schema.problem(line);
    if (problem !== null) throw new SnapshotFileError(`no snapshot, or a damaged one: ${what}${problem}`);
    return line;
  };
  const { format: _, tables: tableCount, chunks, spaces, ...others } = await next(HEAD, "head");
  const tables = new Map<number, TableView>();
  for (let index = 0; index < tableCount; index++) {
    const { shadow, guest, seen, ...table } = await next(TABLE, `table ${index}`);
    const pages = { shadow: lanes(shadow), guest: lanesOrNull(guest), seen: lanesOrNull(seen) };
    tables.set(table.serial, { ...table, ...pages });
  }
  const ggtt = new Map<number, GgttChunk>();
  for (let index = 0; index < chunks; index++) {
    const { chunk, guest, host } = await next(CHUNK, `chunk ${index}`);
    ggtt.set(chunk, { guest: lanes(guest), host: lanes(host) });
  }
  await iterator.return?.();
  return new Snapshot({
    ...others,
    tables,
    spaces: spaces.map((space) => ({
      ...space,
      roots: Uint32Array.from(space.roots),
      shadowRoots: Uint32Array.from(space.shadowRoots),
    })),
    ggtt,
  });
}

function text(page: Uint32Array): string {
  return new Uint8Array(page.buffer, page.byteOffset, page.byteLength).toBase64();
}

function textOrNull(page: Uint32Array | null): string | null {
  return page === null ? null : text(page);
}

function lanesOrNull(page: string | null): Uint32Array | null {
  return page === null ? null : lanes(page);
}

function lanes(page: string): Uint32Array {
  const bytes = Uint8Array.fromBase64(page);
  if (bytes.length !== 4 * LANES) throw new SnapshotFileError(`a page of ${bytes.length} bytes`);
  return new Uint32Array(bytes.buffer);
}

/** The lines of a stream, each of bounded length. */
async function* readLines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let held = "";
  let total = 0;
  for await (const piece of stream.pipeThrough(new TextDecoderStream())) {
    total += piece.length;
    held += piece;
    if (total > MAX_BYTES || held.length > MAX_LINE) throw new SnapshotFileError("too long for a snapshot");
    const lines = held.split("\n");
    held = lines.pop()!;
    yield* lines;
  }
  if (held !== "") yield held;
}
