/**
 * Plays a trace against a device, over a connection: each operation, then everything that it answered and changed, in the
 * form in which the trace expects it.
 *
 * @module
 */

import type { Client } from "../../protocol/client.ts";
import { RpcError } from "../../protocol/errors.ts";
import { PAGE_SIZE } from "../gtt/entry.ts";
import { hex } from "../inspect/target.ts";
import {
  differences,
  type Expect,
  type StateKeys,
  type TraceConfig,
  type TraceFile,
  type TraceOp,
  type Tree,
} from "./trace.ts";

/** A hexadecimal number of a trace as a 64-bit value of the wire. */
function u64(text: string): number | bigint {
  const value = BigInt(text);
  return value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}

/** 64-bit values as little-endian bytes. */
function leBytes(values: readonly bigint[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values).buffer);
}

/** Bytes of one value of a trace. */
const VALUE_BYTES = 8;
/** Bytes that one `debug_poke` carries. */
const MAX_POKE = 1 << 20;

/** The state keys whose change a line tells, in the order of a dump. */
const STATE_KEYS = ["wp", "oos", "oosUse", "post", "postStray", "mms", "lru", "nspt"] as const;

/** Entries of the host's GGTT that changed, and flushes: told by `debug_observe` since it was last asked. */
interface Observed extends StateKeys {
  readonly spts: NonNullable<Expect["spts"]>;
  readonly ggtt: NonNullable<Expect["ggtt"]>;
  readonly flush: number;
}

/** One difference between a trace and a device. */
export interface TraceDifference {
  /** Line in the trace's file, from 1. */
  readonly line: number;
  /** The key that differs, what was expected and what came. */
  readonly text: string;
}

/**
 * Plays a whole trace.
 *
 * @param client A VMM's connection to a device started with `--debug`.
 * @param trace The trace.
 * @param onStep Called after each step, with its number from 0.
 * @returns The differences; none means that the device does what the trace says.
 */
export async function playTrace(
  client: Client,
  trace: TraceFile,
  onStep: (step: number) => void = () => {},
): Promise<TraceDifference[]> {
  const player = new TracePlayer(client);
  await player.start(trace.config);
  const found: TraceDifference[] = [];
  for (const [step, { op, expect }] of trace.steps.entries()) {
    const actual = await player.step(op);
    for (const text of differences(expect, actual)) found.push({ line: step + 2, text });
    onStep(step);
  }
  return found;
}

/** Plays the operations of a trace one by one. */
export class TracePlayer {
  readonly #client: Client;
  /** Handles of the user tracks of each frame, the newest last. */
  readonly #tracks = new Map<number, number[]>();
  #calls: [gfn: number, gpa: string, bytes: number][] = [];
  #protected: ReadonlySet<number> = new Set();
  #last = new Map<string, string>();

  /** A player over a VMM's connection. */
  constructor(client: Client) {
    this.#client = client;
    client.on("tracked_write", (_track, gfn, gpa, size) => this.#calls.push([gfn, hex(gpa), size]));
  }

  /** Gives the device the trace's configuration. */
  async start(config: TraceConfig): Promise<void> {
    await this.#client.call("debug_init", { ...config });
    this.#tracks.clear();
    const nothing: readonly unknown[] = [];
    this.#last = new Map(STATE_KEYS.map((key) => [key, JSON.stringify(key === "nspt" ? 0 : nothing)]));
    this.#protected = new Set();
  }

  /** Plays one operation. @returns What it answered and changed. */
  async step(op: TraceOp): Promise<Expect> {
    this.#calls = [];
    const answer = await this.#answer(op);
    const observed = await this.#client.call("debug_observe") as unknown as Observed;
    this.#protected = new Set(observed.wp);
    return {
      ...answer,
      ...(this.#calls.length > 0 ? { calls: this.#calls } : {}),
      ...this.#changes(observed, op.op === "state"),
      ...(op.op === "state" ? { spts: observed.spts } : {}),
      ...(observed.ggtt.length > 0 ? { ggtt: observed.ggtt } : {}),
      ...(observed.flush > 0 ? { flush: observed.flush } : {}),
    };
  }

  #changes(observed: Observed, all: boolean): Partial<StateKeys> {
    const changed: Record<string, unknown> = {};
    for (const key of STATE_KEYS) {
      const text = JSON.stringify(observed[key]);
      if (all || this.#last.get(key) !== text) changed[key] = observed[key];
      this.#last.set(key, text);
    }
    return changed;
  }

  #answer(op: TraceOp): Promise<Expect> {
    switch (op.op) {
      case "init":
        return this.#init();
      case "clean":
        return this.#quiet(async () => {
          await this.#client.call("vgpu_clean_gtt");
          await this.#client.call("gvt_clean_gtt");
        });
      case "sync":
        return this.#rc(() => this.#client.call("sync_oos_pages"));
      case "flush":
        return this.#rc(() => this.#client.call("flush_post_shadow"));
      case "reset_ggtt":
        return this.#quiet(() => this.#client.call("reset_ggtt"));
      case "reset_gtt":
        return this.#quiet(() => this.#client.call("reset_gtt"));
      case "mem":
      case "memfill":
      case "guest_write":
      case "mem_read":
        return this.#memory(op);
      case "ggtt_read":
        return this.#value(() => this.#client.call("gtt_mmio_read", Number(op.off), op.bytes));
      case "ggtt_write":
        return this.#rc(() => this.#client.call("gtt_mmio_write", Number(op.off), op.bytes, u64(op.val)));
      case "track":
        return this.#track(op.what, op.gfn);
      case "inject":
        return this.#client.call("debug_inject", injection(op)).then(() => ({}));
      case "range":
      case "g2h":
      case "h2g":
      case "index_g2h":
      case "index_h2g":
        return this.#address(op);
      case "state":
        return Promise.resolve({});
      case "scratch":
        return this.#scratch();
      case "host":
        return this.#client.call("debug_host_ggtt", op.index) as Promise<Expect>;
      default:
        return this.#mm(op);
    }
  }

  async #init(): Promise<Expect> {
    // A vGPU that failed to initialise leaves its device initialised; the trace starts both again.
    await this.#quiet(() => this.#client.call("gvt_clean_gtt"));
    return this.#rc(async () => {
      await this.#client.call("gvt_init_gtt");
      await this.#client.call("vgpu_init_gtt");
    });
  }

  async #memory(
    op: Extract<TraceOp, { op: "mem" | "memfill" | "guest_write" | "mem_read" }>,
  ): Promise<Expect> {
    const gpa = Number(op.gpa);
    if (op.op === "mem_read") {
      let bytes: Uint8Array = new Uint8Array(8); // beyond RAM there is nothing
      await this.#quiet(async () => bytes = await this.#client.call("mem_read", gpa, 8));
      return { val: hex(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true)) };
    }
    if (op.op !== "guest_write") {
      const values = op.op === "mem"
        ? op.vals.map(BigInt)
        : series(op.count, BigInt(op.start), BigInt(op.step));
      await this.#poke(gpa, leBytes(values));
      return {};
    }
    const traps = this.#protected.has(Math.floor(gpa / PAGE_SIZE));
    const bytes = leBytes([BigInt(op.val), 0n]).subarray(0, op.bytes);
    let rc = 0;
    // A store beyond RAM reaches nothing and traps nowhere.
    await this.#quiet(async () => rc = await this.#client.call("mem_write", gpa, bytes));
    return traps ? { trap: true, rc } : { trap: false };
  }

  /** Stores behind the engine's back, in parts of at most `most` bytes; what is beyond RAM reaches nothing. */
  async #poke(gpa: number, bytes: Uint8Array, most = MAX_POKE): Promise<void> {
    for (let done = 0; done < bytes.length; done += most) {
      const part = bytes.subarray(done, done + most);
      const { rc } = await this.#rc(() => this.#client.call("debug_poke", gpa + done, part));
      if (rc !== 0 && part.length > VALUE_BYTES) await this.#poke(gpa + done, part, VALUE_BYTES);
    }
  }

  async #mm(op: TraceOp): Promise<Expect> {
    switch (op.op) {
      case "g2v_create":
      case "g2v_destroy": {
        await this.#client.call("debug_set_pdps", op.pdps.map(u64));
        const method = op.op === "g2v_create" ? "g2v_create_ppgtt_mm" : "g2v_destroy_ppgtt_mm";
        return this.#rc(() => this.#client.call(method, op.level));
      }
      case "create":
        return this.#created(() => this.#client.call("mm_create", op.level, op.pdps.map(u64)));
      case "create_null":
        return this.#created(() => this.#client.call("mm_create", op.level, null));
      case "find":
        return { id: await this.#client.call("mm_find", op.level, op.pdps.map(u64)) };
      case "pin":
        return this.#ofMm(() => this.#rc(() => this.#client.call("mm_pin", op.mm)));
      case "unpin":
        return this.#ofMm(() => this.#client.call("mm_unpin", op.mm));
      case "ref":
        return this.#ofMm(() => this.#client.call("mm_ref", op.mm));
      case "unref":
        return this.#ofMm(() => this.#client.call("mm_unref", op.mm));
      case "dump":
        return this.#ofMm(async () => ({ tree: await this.#client.call("tree", op.mm) as unknown as Tree }));
      case "gma_to_gpa":
        return this.#ofMm(async () => {
          const gpa = await this.#client.call("gma_to_gpa", op.mm, u64(op.gma));
          return { gpa: gpa === null ? null : hex(gpa) };
        });
      default:
        throw new Error(`the trace has an operation that is not known: ${JSON.stringify(op.op)}`);
    }
  }

  async #track(what: string, gfn: number): Promise<Expect> {
    const handles = this.#tracks.get(gfn) ?? [];
    if (what === "find") {
      const found = await this.#client.call("find_tracked_page", gfn);
      return found === null ? { found: null } : { found: found.kind, tracked: found.tracked };
    }
    if (what === "init") {
      this.#tracks.set(gfn, [...handles, await this.#client.call("init_page_track", gfn)]);
      return { rc: 0 };
    }
    // Handles die when failsafe mode cleans a track, or the engine is initialised anew; then the one before is the newest.
    for (let newest = handles.at(-1); newest !== undefined; newest = handles.at(-1)) {
      try {
        return await this.#changeTrack(what, newest, handles);
      } catch (error) {
        if (!isGone(error)) throw error;
        handles.pop();
      }
    }
    return {};
  }

  #changeTrack(what: string, handle: number, handles: number[]): Promise<Expect> {
    if (what === "enable") return this.#rc(() => this.#client.call("enable_page_track", handle));
    if (what === "disable") return this.#rc(() => this.#client.call("disable_page_track", handle));
    return this.#quiet(async () => {
      await this.#client.call("clean_page_track", handle);
      handles.pop();
    });
  }

  async #address(
    op: Extract<TraceOp, { op: "range" | "g2h" | "h2g" | "index_g2h" | "index_h2g" }>,
  ): Promise<Expect> {
    if (op.op === "range") {
      return { ok: await this.#client.call("ggtt_validate_range", u64(op.addr), u64(op.size)) };
    }
    if ("index" in op) {
      const byIndex = op.op === "index_g2h" ? "ggtt_index_g2h" : "ggtt_index_h2g";
      return this.#value(() => this.#client.call(byIndex, op.index));
    }
    const byAddress = op.op === "g2h" ? "ggtt_gmadr_g2h" : "ggtt_gmadr_h2g";
    return this.#value(() => this.#client.call(byAddress, u64(op.addr)));
  }

  async #scratch(): Promise<Expect> {
    return { pages: await this.#client.call("debug_scratch") as unknown as NonNullable<Expect["pages"]> };
  }

  /** Runs something whose result the trace does not tell; its errors are the device's business. */
  async #quiet(run: () => Promise<unknown>): Promise<Expect> {
    await this.#rc(run);
    return {};
  }

  /** Runs something of which only the result code matters. */
  async #rc(run: () => Promise<unknown>): Promise<Expect & { rc: number }> {
    try {
      await run();
      return { rc: 0 };
    } catch (error) {
      if (error instanceof RpcError && !isGone(error)) return { rc: -error.errno };
      throw error;
    }
  }

  /** Runs something that answers a value or a result code. */
  async #value(run: () => Promise<number | bigint>): Promise<Expect> {
    let value: number | bigint = 0;
    const { rc } = await this.#rc(async () => value = await run());
    return rc === 0 ? { rc, val: hex(value) } : { rc };
  }

  /** Runs something that answers a new mm or a result code. */
  async #created(run: () => Promise<number>): Promise<Expect> {
    let id: number | null = null;
    const { rc } = await this.#rc(async () => id = await run());
    return { rc, id };
  }

  /** Runs something on an mm that may no longer exist. */
  async #ofMm(run: () => Promise<Expect | number | null>): Promise<Expect> {
    try {
      const answer = await run();
      return typeof answer === "object" && answer !== null ? answer : {};
    } catch (error) {
      if (isGone(error)) return { nomm: true };
      throw error;
    }
  }
}

/** Whether a handle that a call named no longer exists. */
function isGone(error: unknown): boolean {
  return error instanceof RpcError && error.code === "ENOENT";
}

/** The parameter of `debug_inject`. */
function injection(op: Extract<TraceOp, { op: "inject" }>) {
  return "gfn" in op ? { kind: op.kind, gfn: op.gfn, on: op.on } : { kind: op.kind, n: op.n };
}

/** An arithmetic series of 64-bit values. */
function series(count: number, start: bigint, step: bigint): bigint[] {
  return Array.from({ length: count }, (_, i) => BigInt.asUintN(64, start + BigInt(i) * step));
}
