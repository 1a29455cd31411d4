/**
 * Snapshots in files: gzipped lines of JSON. The first is the head, with everything but pages; each table and each chunk of
 * the GGTT has a line of its own, its pages in base64, low lane of an entry first.
 *
 * @module
 */

import { ENTRIES, LANES, type TableKind } from "../gtt/entry.ts";
import { type GgttChunk, Snapshot, type SnapshotParts, type SpaceView, type TableView } from "./snapshot.ts";

/** What a file of this kind begins with. */
const FORMAT = "vgtt snapshot 1";
/** Bytes of one file, unpacked, beyond which none is read: 65,536 tables take 700 MB. */
const MAX_BYTES = 2 ** 30;
/** Bytes of one line: the head has 4096 address spaces at most, and a list of what waits for the flush. */
const MAX_LINE = 2 ** 26;

/** A file that is no snapshot, or a damaged one. */
export class SnapshotFileError extends Error {
  /** Always `"SnapshotFileError"`. */
  override readonly name = "SnapshotFileError";
}

type Head = Omit<SnapshotParts, "tables" | "spaces" | "ggtt"> & {
  readonly format: string;
  readonly tables: number;
  readonly chunks: number;
  readonly spaces:
    readonly (Omit<SpaceView, "roots" | "shadowRoots"> & { roots: number[]; shadowRoots: number[] })[];
};

/**
 * Writes a snapshot.
 *
 * @param path The file, replaced if it is there; it holds guest memory, so only the user may read it.
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
 *   engine: 1, tracking: "trapped", hugePages: false, failsafe: false, recordedEvents: 0, globalScratch: 1,
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
  const file = await Deno.open(path, { write: true, create: true, truncate: true, mode: 0o600 });
  const lines = ReadableStream.from(linesOf(snapshot.parts));
  await lines.pipeThrough(new TextEncoderStream()).pipeThrough(new CompressionStream("gzip")).pipeTo(
    file.writable,
  );
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
  const head: Head = {
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
  const next = async () => {
    const { done, value } = await iterator.next();
    if (done === true) throw new SnapshotFileError("the file ends too early");
    return JSON.parse(value);
  };
  const { format, tables: tableCount, chunks, spaces, ...others } = await next() as Head;
  if (format !== FORMAT) throw new SnapshotFileError(`no snapshot: the first line has no format "${FORMAT}"`);
  const tables = new Map<number, TableView>();
  for (let index = 0; index < tableCount; index++) {
    const table = tableOf(await next());
    tables.set(table.serial, table);
  }
  const ggtt = new Map<number, GgttChunk>();
  for (let index = 0; index < chunks; index++) {
    const { chunk, guest, host } = await next() as { chunk: number; guest: string; host: string };
    ggtt.set(chunk, { guest: lanes(guest), host: lanes(host) });
  }
  await iterator.return?.();
  return new Snapshot({ ...others, tables, spaces: spaces.map(spaceOf), ggtt });
}

function tableOf(line: Record<string, unknown>): TableView {
  const { kind, shadow, guest, seen, queued } = line;
  if (typeof kind !== "number" || kind < 1 || kind > 4) {
    throw new SnapshotFileError(`no kind of table: ${kind}`);
  }
  if (!Array.isArray(queued) || queued.some((index) => !(index >= 0 && index < ENTRIES))) {
    throw new SnapshotFileError("a table's queued entries are no indices");
  }
  return {
    ...line as unknown as TableView,
    kind: kind as TableKind,
    shadow: lanes(shadow),
    guest: guest === null ? null : lanes(guest),
    seen: seen === null ? null : lanes(seen),
  };
}

function spaceOf(space: Head["spaces"][number]): SpaceView {
  if (space.level !== 3 && space.level !== 4) {
    throw new SnapshotFileError(`no level of page tables: ${space.level}`);
  }
  return { ...space, roots: roots(space.roots), shadowRoots: roots(space.shadowRoots) };
}

function roots(values: readonly number[]): Uint32Array {
  if (!Array.isArray(values) || values.length !== ROOT_LANES) {
    throw new SnapshotFileError("an address space without roots");
  }
  return Uint32Array.from(values);
}

function text(page: Uint32Array): string {
  return new Uint8Array(page.buffer, page.byteOffset, page.byteLength).toBase64();
}

function textOrNull(page: Uint32Array | null): string | null {
  return page === null ? null : text(page);
}

function lanes(page: unknown): Uint32Array {
  const bytes = Uint8Array.fromBase64(String(page));
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

/** Lanes of the four roots of an address space. */
const ROOT_LANES = 8;
