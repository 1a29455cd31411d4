/**
 * Traces: sequences of operations on one device, each with what it must answer and change.
 *
 * `traces/FORMAT.md` describes the format. This file holds its types, reading and writing as JSON lines, and the
 * comparison of an expected with an actual answer.
 *
 * @module
 */

/** A number that may exceed 2^53, as lower-case hexadecimal with `0x`. */
export type Hex = string;

/** What a trace runs on: the guest's RAM, the vGPU's windows, the out-of-sync switch. */
export interface TraceConfig {
  /** Guest RAM in 4 KiB pages, from gpa 0. */
  readonly ramPages: number;
  /** First gma of the aperture window. */
  readonly apertureBase: Hex;
  /** Bytes of the aperture window. */
  readonly apertureSize: Hex;
  /** First gma of the hidden window. */
  readonly hiddenBase: Hex;
  /** Bytes of the hidden window. */
  readonly hiddenSize: Hex;
  /** Bytes of the host's whole graphics memory range. */
  readonly ggttTotal: Hex;
  /** Bytes of the host's aperture. */
  readonly mappableEnd: Hex;
  /** Whether out-of-sync pages are switched on. */
  readonly oos: boolean;
  /** How many out-of-sync pages there are. */
  readonly oosPool: number;
  /** MMIO offset of the first GGTT entry. */
  readonly gttStartOffset: Hex;
  /** Format version of the file. */
  readonly format?: number;
  /** Name of the trace. */
  readonly name?: string;
  /** What the trace is about, in a sentence. */
  readonly about?: string;
  /** How guest frames translate, as text. */
  readonly mfn?: string;
  /** Bits of a physical address in an entry. */
  readonly addressBits?: number;
}

/** Injected faults that belong to a guest frame. */
export type FrameFault = "invalid" | "p2m" | "read" | "wp" | "unwp";
/** Injected faults and switches that are a number. */
export type CountFault = "alloc" | "dma" | "failsafe" | "platform" | "trackrc";
/** Four root pointers. */
export type Roots = readonly Hex[];

/** One operation of a trace, told apart by `op`. */
export type TraceOp =
  | { readonly op: "init" | "clean" | "sync" | "flush" | "reset_ggtt" | "reset_gtt" | "state" | "scratch" }
  | { readonly op: "mem"; readonly gpa: Hex; readonly vals: readonly Hex[] }
  | {
    readonly op: "memfill";
    readonly gpa: Hex;
    readonly count: number;
    readonly start: Hex;
    readonly step: Hex;
  }
  | { readonly op: "guest_write"; readonly gpa: Hex; readonly bytes: number; readonly val: Hex }
  | { readonly op: "ggtt_read"; readonly off: Hex; readonly bytes: number }
  | { readonly op: "ggtt_write"; readonly off: Hex; readonly bytes: number; readonly val: Hex }
  | {
    readonly op: "g2v_create" | "g2v_destroy" | "create" | "find";
    readonly level: number;
    readonly pdps: Roots;
  }
  | { readonly op: "create_null"; readonly level: number; readonly pdps?: Roots }
  | { readonly op: "pin" | "unpin" | "ref" | "unref" | "dump"; readonly mm: number }
  | { readonly op: "gma_to_gpa"; readonly mm: number | "ggtt"; readonly gma: Hex }
  | { readonly op: "range"; readonly addr: Hex; readonly size: Hex }
  | { readonly op: "g2h" | "h2g"; readonly addr: Hex }
  | { readonly op: "index_g2h" | "index_h2g"; readonly index: number }
  | { readonly op: "host"; readonly index: number }
  | {
    readonly op: "track";
    readonly what: "init" | "find" | "enable" | "disable" | "clean";
    readonly gfn: number;
  }
  | { readonly op: "inject"; readonly kind: FrameFault; readonly gfn: number; readonly on: boolean }
  | { readonly op: "inject"; readonly kind: CountFault; readonly n: number }
  | { readonly op: "mem_read"; readonly gpa: Hex };

/** A table in a dump, with every non-zero shadow entry. */
export interface TreeNode {
  /** Kind of the table. */
  readonly t: string;
  /** Guest frame of the table. */
  readonly g: number;
  /** Reference count. */
  readonly r: number;
  /** Entries: index, flags, and where the entry leads. */
  readonly e: ReadonlyArray<readonly [index: number, flags: Hex, child: TreeChild]>;
}

/** Where an entry leads: a table, a table printed before, or a frame. */
export type TreeChild = TreeNode | { readonly seen: number } | string;

/** The shadow of one mm. */
export interface Tree {
  /** Level of the mm: 3 or 4. */
  readonly level: number;
  /** Whether the mm is shadowed. */
  readonly shadowed: boolean;
  /** Present shadow roots: slot, flags, table. */
  readonly roots: ReadonlyArray<readonly [slot: number, flags: Hex, child: TreeChild]>;
}

/** Queued indices of one table: its frame, and the indices in ascending order. */
export type Queued = readonly [gfn: number, indices: readonly number[]];
/** One mm: id, level, references, pins, shadowed. */
export type MmState = readonly [id: number, level: number, refs: number, pins: number, shadowed: boolean];
/** One shadow table: frame, kind, references, tracked, trapped-write counter. */
export type TableState = readonly [
  gfn: number,
  kind: string,
  refs: number,
  tracked: boolean,
  writeCount: number,
];

/** The parts of an answer that describe state; they appear when they changed, or in answer to `state`. */
export interface StateKeys {
  /** Write-protected frames, sorted. */
  readonly wp: readonly number[];
  /** Frames of the tables that are out of sync, in list order. */
  readonly oos: readonly number[];
  /** Frames of the tables that own an out-of-sync page, in list order. */
  readonly oosUse: readonly number[];
  /** Tables on the post-shadow list, in list order. */
  readonly post: readonly Queued[];
  /** Tables with queued indices that are not on the list. */
  readonly postStray: readonly Queued[];
  /** Live PPGTT mms. */
  readonly mms: readonly MmState[];
  /** The LRU list, head first. */
  readonly lru: readonly number[];
  /** Number of live shadow tables. */
  readonly nspt: number;
}

/** What an operation answers and changes. */
export interface Expect extends Partial<StateKeys> {
  /** Return code. */
  readonly rc?: number;
  /** The named mm does not exist; nothing was called. */
  readonly nomm?: true;
  /** Id of the created or found mm. */
  readonly id?: number | null;
  /** A value read, or a converted address. */
  readonly val?: Hex;
  /** Answer of the range check. */
  readonly ok?: boolean;
  /** Translated address. */
  readonly gpa?: Hex | null;
  /** Whether the guest's store trapped. */
  readonly trap?: boolean;
  /** Calls of user track handlers: frame, gpa, bytes. */
  readonly calls?: ReadonlyArray<readonly [gfn: number, gpa: Hex, bytes: number]>;
  /** Kind of the track found. */
  readonly found?: "user" | "ppgtt" | null;
  /** Whether the track found is enabled. */
  readonly tracked?: boolean;
  /** Shadow of an mm. */
  readonly tree?: Tree;
  /** All shadow tables. */
  readonly spts?: readonly TableState[];
  /** The scratch pages: name, all entries equal, target, flags. */
  readonly pages?: ReadonlyArray<readonly [name: string, uniform: boolean, target: string, flags: Hex]>;
  /** One host GGTT entry: target, flags. */
  readonly e?: readonly [target: string, flags: Hex];
  /** Host GGTT entries that changed: first index, count, target, flags. */
  readonly ggtt?: ReadonlyArray<readonly [first: number, count: number, target: string, flags: Hex]>;
  /** Number of GGTT flushes. */
  readonly flush?: number;
  /** Number of kernel warnings; informational. */
  readonly warn?: number;
}

/** One line of a trace. */
export interface TraceStep {
  /** What to do. */
  readonly op: TraceOp;
  /** What must come of it. */
  readonly expect: Expect;
}

/** A whole trace. */
export interface TraceFile {
  /** What it runs on. */
  readonly config: TraceConfig;
  /** What happens, in order. */
  readonly steps: readonly TraceStep[];
}

/**
 * Reads a trace from JSON lines.
 *
 * @param text The file's text: a config line, then one line a step.
 * @returns The trace.
 * @throws SyntaxError or Error when a line is not JSON or not of the format.
 */
export function parseTrace(text: string): TraceFile {
  const [first, ...rest] = text.split("\n").filter((line) => line !== "").map(parseLine);
  if (first?.config === undefined) throw new Error("Cannot read trace: the first line has no config");
  const steps = rest.map(({ op, expect }, index) => {
    if (op?.op === undefined || expect === undefined) {
      throw new Error(`Cannot read trace: line ${index + 2} has no op or no expect`);
    }
    return { op, expect };
  });
  return { config: first.config, steps };
}

/** A line of a trace whose shape is not checked yet. */
type RawLine = Partial<TraceStep> & { readonly config?: TraceConfig };

function parseLine(line: string, index: number): RawLine {
  try {
    return JSON.parse(line) as RawLine;
  } catch (cause) {
    throw new Error(`Cannot read trace: line ${index + 1} is not JSON`, { cause });
  }
}

/**
 * Writes a trace as JSON lines.
 *
 * @param trace The trace.
 * @returns The file's text, ending in a newline.
 */
export function serialiseTrace(trace: TraceFile): string {
  const lines = [{ config: trace.config }, ...trace.steps].map((line) => JSON.stringify(line));
  return lines.join("\n") + "\n";
}

/** The keys of an answer that are information only. */
const NOT_COMPARED = new Set(["warn"]);

/**
 * Compares an expected with an actual answer, key by key; a key on one side only is a difference.
 *
 * @param expected What the trace says.
 * @param actual What the device said.
 * @returns One line a difference; empty when the answers agree.
 */
export function differences(expected: Expect, actual: Expect): string[] {
  const want = new Map<string, unknown>(Object.entries(expected));
  const have = new Map<string, unknown>(Object.entries(actual));
  const keys = new Set([...want.keys(), ...have.keys()].filter((key) => !NOT_COMPARED.has(key)));
  const found: string[] = [];
  for (const key of [...keys].sort()) {
    const left = want.has(key) ? canonical(want.get(key)) : "nothing";
    const right = have.has(key) ? canonical(have.get(key)) : "nothing";
    if (left !== right) found.push(`${key}: expected ${left}, got ${right}`);
  }
  return found;
}

/** JSON with the keys of every object in one order. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => {
    if (part === null || typeof part !== "object" || Array.isArray(part)) return part;
    return Object.fromEntries(Object.entries(part).sort(([a], [b]) => a < b ? -1 : 1));
  });
}
