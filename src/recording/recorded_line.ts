/**
 * One line of a recording with a header, checked (`protocol/recording.md` §3). A recording may come from anybody: nothing
 * of it is taken for granted, and nothing here throws but an `Error` that says what is wrong.
 *
 * @module
 */

import type { Tracking } from "../gtt/gvt_gtt.ts";
import type { BackingKind } from "../memory/backing.ts";
import { quoteText } from "../memory/ram_error.ts";
import type { PageRun } from "../memory/sparse_pages.ts";
import type { RamRegion } from "../memory/ram_map.ts";
import { paramValue, REGIONS } from "./names.ts";
import type { StateDigest } from "./state_digest.ts";

/** A load. */
export interface ReadLine {
  /** What it is. */
  readonly kind: "read";
  /** Region number. */
  readonly region: number;
  /** Offset in the region, bytes. */
  readonly offset: number;
  /** Bytes: 1, 2, 4 or 8. */
  readonly size: number;
  /** What the device answered. */
  readonly value: bigint;
  /** During which access of the next event it came; `null`: it is an event by itself. */
  readonly at: number | null;
}

/** Stores of one size to one region. */
export interface WriteLine {
  /** What it is. */
  readonly kind: "write";
  /** Region number. */
  readonly region: number;
  /** Bytes of each: 1, 2, 4 or 8. */
  readonly size: number;
  /** How many. */
  readonly count: number;
  /** Offset of each in the region, bytes. */
  offsetOf(index: number): number;
  /** Low lane of each value. */
  lowOf(index: number): number;
  /** High lane of each value. */
  highOf(index: number): number;
}

/** One line. */
export type RecordedLine =
  | ReadLine
  | WriteLine
  | {
    readonly kind: "memory";
    readonly gpa: number;
    readonly runs: readonly PageRun[];
    readonly at: number | null;
  }
  | { readonly kind: "fail"; readonly at: number }
  | { readonly kind: "clock"; readonly times: readonly number[] }
  | { readonly kind: "bug"; readonly text: string }
  | { readonly kind: "turn"; readonly count: number }
  | { readonly kind: "attach"; readonly tracking: Tracking }
  | { readonly kind: "map"; readonly region: RamRegion }
  | { readonly kind: "unmap"; readonly gpa: number; readonly size: number }
  | {
    readonly kind: "call";
    readonly method: string;
    readonly params: readonly unknown[];
    readonly error: string | null;
  }
  | { readonly kind: "digest"; readonly parts: StateDigest; readonly events: number }
  | { readonly kind: "detach" | "reset" | "resend" | "abandon" };

/** Turns of one line at most: a line is done in a second, whatever it says. */
export const MAX_TURNS = 4096;
/** Characters of a bug's text: it is told, and no more. */
export const MAX_BUG = 200;
/** Names of methods, and of errors. */
const NAME = /^[A-Za-z0-9_]{1,64}$/;
/** Values of registers. */
const VALUE = /^0x[0-9a-f]{1,16}$/i;
/** What `stateDigest` makes. */
const DIGEST = /^[0-9a-f]{16}$/;
/** Stores of one line at most, if it does not hold each. */
const MAX_STORES = 65536;
const PAGE_BYTES = 4096;
const LANE = 4;
const KINDS: readonly string[] = ["local", "file", "mapped", "message"] satisfies BackingKind[];
const SIZES: readonly unknown[] = [1, 2, 4, 8];

type Fields = Readonly<Record<string, unknown>>;

/** What the first field of a line says. */
const PARSERS: Readonly<Record<string, (fields: Fields) => RecordedLine>> = {
  r: parseRead,
  w: parseWrite,
  ws: parseWrites,
  mem: parseMemory,
  fail: ({ fail }) => ({ kind: "fail", at: count("fail", fail, 1) }),
  clock: ({ clock }) => {
    const times: readonly unknown[] = Array.isArray(clock) ? clock : [clock];
    if (!times.every((time) => typeof time === "number" && Number.isFinite(time))) {
      throw new Error("clock is no number, and no list of them");
    }
    return { kind: "clock", times: times as readonly number[] };
  },
  bug: ({ bug }) => ({ kind: "bug", text: String(bug).slice(0, MAX_BUG) }),
  turn: ({ turn }) => ({ kind: "turn", count: count("turn", turn, 1, MAX_TURNS) }),
  attach: ({ attach }) => {
    if (attach !== "trapped" && attach !== "untracked") {
      throw new Error("attach is neither trapped nor untracked");
    }
    return { kind: "attach", tracking: attach };
  },
  ram: parseRam,
  call: ({ call, params, error }) => {
    if (!isName(call) || !Array.isArray(params)) throw new Error("a call has a name and params");
    if (error !== undefined && !isName(error)) throw new Error("error is no name");
    return { kind: "call", method: call, params: params.map(paramValue), error: error ?? null };
  },
  digest: ({ digest, events }) => {
    if (typeof digest !== "object" || digest === null) throw new Error("digest is no object");
    if (!Object.values(digest).every((part) => DIGEST.test(String(part)))) {
      throw new Error("a part of digest is not 64 bits in hexadecimal");
    }
    return { kind: "digest", parts: digest as StateDigest, events: count("events", events, 0) };
  },
  detach: () => ({ kind: "detach" }),
  reset: () => ({ kind: "reset" }),
  resend: () => ({ kind: "resend" }),
  abandon: () => ({ kind: "abandon" }),
};

/**
 * Reads one line that is not the first.
 *
 * @throws {Error} Saying what is wrong with it.
 *
 * @example
 * ```ts
 * import { assertEquals, assertThrows } from "@std/assert";
 * import { parseLine } from "./recorded_line.ts";
 *
 * assertEquals(parseLine('{"turn":3}'), { kind: "turn", count: 3 });
 * assertThrows(() => parseLine('{"turn":-1}'), Error, "turn is no integer from 1 up");
 * ```
 */
export function parseLine(line: string): RecordedLine {
  const fields: unknown = JSON.parse(line);
  if (typeof fields !== "object" || fields === null) throw new Error("it is no JSON object");
  const [kind = ""] = Object.keys(fields);
  const parse = Object.hasOwn(PARSERS, kind) ? PARSERS[kind] : undefined;
  if (parse === undefined) throw new Error(`there is no line that begins with ${quoteText(kind)}`);
  return parse(fields as Fields);
}

function parseRead({ r, off, size, val, at }: Fields): ReadLine {
  return {
    kind: "read",
    region: regionOf(r),
    offset: address("off", off),
    size: sizeOf(size),
    value: valueOf(val),
    at: at === undefined ? null : count("at", at, 1),
  };
}

function parseWrite({ w, off, size, val }: Fields): WriteLine {
  const value = valueOf(val);
  const offset = address("off", off);
  return {
    kind: "write",
    region: regionOf(w),
    size: sizeOf(size),
    count: 1,
    offsetOf: () => offset,
    lowOf: () => Number(value & 0xffffffffn),
    highOf: () => Number(value >> 32n & 0xffffffffn),
  };
}

function parseWrites(fields: Fields): WriteLine {
  const { ws, size, hi } = fields;
  const low = lowLanes(fields);
  const high = hi === undefined ? null : lanes("hi", hi);
  const offsets = fields["offs"] === undefined ? null : lanes("offs", fields["offs"]);
  if ([high, offsets].some((each) => each !== null && each.byteLength !== LANE * low.count)) {
    throw new Error(`hi or offs are not ${low.count} lanes, as many as there are stores`);
  }
  return {
    kind: "write",
    region: regionOf(ws),
    size: sizeOf(size),
    count: low.count,
    offsetOf: offsets === null ? series(fields, "off", "step") : lanesOf(offsets),
    lowOf: low.at,
    highOf: high === null ? () => 0 : lanesOf(high),
  };
}

/** The low lanes of stores, and how many there are: packed, or evenly apart. */
function lowLanes(fields: Fields): { count: number; at: (index: number) => number } {
  if (fields["lo"] === undefined) {
    const at = series(fields, "val", "add");
    return { count: count("count", fields["count"], 1, MAX_STORES), at: (index) => at(index) >>> 0 };
  }
  const packed = lanes("lo", fields["lo"]);
  return { count: packed.byteLength / LANE, at: lanesOf(packed) };
}

function lanesOf(packed: DataView): (index: number) => number {
  return (index) => packed.getUint32(LANE * index, true);
}

/** Numbers that are evenly apart. */
function series(fields: Fields, name: string, stepName: string): (index: number) => number {
  const first = address(name, fields[name]);
  const step = fields[stepName];
  if (!Number.isSafeInteger(step)) throw new Error(`${stepName} is no integer`);
  return (index) => first + index * (step as number);
}

function parseMemory({ mem, set, runs, at }: Fields): RecordedLine {
  const gpa = address("mem", mem);
  if (gpa % PAGE_BYTES !== 0) throw new Error("mem is not the address of a page");
  const changes = set ?? runs;
  if (!Array.isArray(changes)) throw new Error("neither set nor runs is a list");
  const parsed = changes.map(pageRun);
  if (set !== undefined) return { kind: "memory", gpa, runs: parsed, at: count("at", at, 1) };
  // A whole page, as in a recording without a header: all else in it is zero.
  return { kind: "memory", gpa, runs: [[0, new Uint8Array(PAGE_BYTES)], ...parsed], at: null };
}

function pageRun(run: unknown): PageRun {
  const [offset, text] = Array.isArray(run) ? run : [];
  const bytes = Uint8Array.fromHex(String(text));
  if (!(Number.isSafeInteger(offset) && offset >= 0 && offset + bytes.length <= PAGE_BYTES)) {
    throw new Error("bytes lie outside their page");
  }
  return [offset, bytes];
}

function parseRam({ ram, gpa: where, size: length, mfn, readonly, kind }: Fields): RecordedLine {
  const [gpa, size] = [address("gpa", where), address("size", length)];
  if (ram === "unmap") return { kind: "unmap", gpa, size };
  if (ram !== "map") throw new Error("ram is neither map nor unmap");
  if (typeof readonly !== "boolean" || !KINDS.includes(String(kind))) {
    throw new Error("RAM is mapped with readonly, true or false, and a kind");
  }
  const region = { gpa, size, mfn: address("mfn", mfn), readonly, kind: kind as BackingKind };
  return { kind: "map", region };
}

function isName(text: unknown): text is string {
  return typeof text === "string" && NAME.test(text);
}

function regionOf(name: unknown): number {
  const region = Object.hasOwn(REGIONS, String(name)) ? REGIONS[String(name)] : undefined;
  if (region === undefined) throw new Error(`there is no region ${quoteText(String(name))}`);
  return region;
}

function sizeOf(size: unknown): number {
  if (!SIZES.includes(size)) throw new Error("size is none of 1, 2, 4 and 8");
  return size as number;
}

/** A value of up to 64 bits as hexadecimal text. */
function valueOf(text: unknown): bigint {
  if (typeof text !== "string" || !VALUE.test(text)) {
    throw new Error("val is no hexadecimal number of 64 bits");
  }
  return BigInt(text);
}

/** A number as hexadecimal text. */
function address(name: string, text: unknown): number {
  const value = typeof text === "string" && /^0x[0-9a-f]+$/i.test(text) ? Number(text) : NaN;
  if (!Number.isSafeInteger(value)) throw new Error(`${name} is no hexadecimal number below 2^53`);
  return value;
}

function count(name: string, value: unknown, least: number, most: number = Number.MAX_SAFE_INTEGER): number {
  if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most) {
    throw new Error(`${name} is no integer from ${least} up, or too large`);
  }
  return value as number;
}

/** Packed lanes, one at least. */
function lanes(name: string, text: unknown): DataView {
  const bytes = Uint8Array.fromBase64(typeof text === "string" ? text : "?");
  if (bytes.length === 0 || bytes.length % LANE !== 0) {
    throw new Error(`${name} is not made of lanes of 4 bytes`);
  }
  return new DataView(bytes.buffer);
}
