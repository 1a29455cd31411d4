/**
 * Methods of a device started with `--debug`, for any role: fault injection, events that no hardware raises yet,
 * and what replaying recorded traces needs to set and see.
 *
 * @module
 */

import { RpcError } from "../../protocol/errors.ts";
import { ENTRIES, frameOf, kindName, PAGE_SIZE, TABLE_KINDS } from "../gtt/entry.ts";
import { engineState } from "../inspect/state.ts";
import { entryText, flagsText, targetText } from "../inspect/target.ts";
import { COUNTED_FAULTS, type CountedFault, FRAME_FAULTS, type FrameFault } from "../vgpu/fault_injection.ts";
import { INTERRUPT_BANKS } from "../vgpu/interrupt_banks.ts";
import { rootLanes } from "./engine_methods.ts";
import { asRpcError, type Handlers } from "./handlers.ts";
import type { ServedDevice, ServedDeviceOptions } from "./served_device.ts";

/** The names of these methods. */
export type DebugMethod =
  | "debug_init"
  | "debug_inject"
  | "debug_poke"
  | "debug_observe"
  | "debug_host_ggtt"
  | "debug_scratch"
  | "debug_set_pdps"
  | "debug_raise";

/** Guest RAM that `debug_init` may ask for, in pages: 4 GiB. */
const MAX_DEBUG_RAM_PAGES = 1 << 20;

/** Entries of the host's GGTT that changed alike: first index, how many, target, flags. */
type GgttRun = [first: number, count: number, target: string, flags: string];

/** The handlers of these methods. */
export function debugMethods(served: ServedDevice): Handlers<DebugMethod> {
  const observed = new ObservedGgtt(served);
  return {
    debug_init(config) {
      asRpcError(() => {
        const options = deviceOptions(config);
        const pages = number(config, "ramPages", 0, MAX_DEBUG_RAM_PAGES);
        const old = served.device;
        const device = served.replace(options);
        old.vgpu.interrupts.silence(); // the new device's line is low, and the VMM should know
        if (pages > 0) device.mapRam({ gpa: 0, size: pages * PAGE_SIZE });
      });
      observed.forget();
    },
    debug_inject: (fault) => inject(served, fault),
    debug_poke(gpa, bytes) {
      if (!served.device.ram.write(gpa, bytes)) {
        throw new RpcError("EFAULT", `debug_poke: 0x${gpa.toString(16)} is not writable guest RAM`);
      }
    },
    debug_observe() {
      const wp = [...served.device.host.protectedFrames].sort((a, b) => a - b);
      return { ...engineState(served.device.vgpu.gtt), wp, ...observed.changes() };
    },
    debug_host_ggtt(index) {
      const { lanes } = served.device.host.ggtt;
      return { e: entryText(served.device.vgpu.gtt, lanes[2 * index] ?? 0, lanes[2 * index + 1] ?? 0) };
    },
    debug_scratch: () => scratchPages(served),
    debug_set_pdps(roots) {
      served.device.vgpu.bar0.pvinfo.roots.set(rootLanes(roots));
    },
    debug_raise: (name, bits) => raise(served, name, bits),
  };
}

/** Finds what changed in the host's GGTT since it was last looked at. */
class ObservedGgtt {
  readonly #served: ServedDevice;
  #seen: Uint32Array | null = null;
  #flushes = 0;

  constructor(served: ServedDevice) {
    this.#served = served;
  }

  /** The next look sees a fresh table. */
  forget(): void {
    this.#seen = null;
    this.#flushes = 0;
  }

  /** Runs of alike entries that changed, and how often the table was flushed. */
  changes(): { ggtt: GgttRun[]; flush: number } {
    const { host, vgpu } = this.#served.device;
    const { apertureBase, apertureSize, hiddenBase, hiddenSize } = vgpu.gtt.gm.layout;
    const seen = this.#seen ??= new Uint32Array(host.ggtt.lanes.length);
    const ggtt: GgttRun[] = [];
    this.#collect(seen, apertureBase, apertureSize, ggtt);
    this.#collect(seen, hiddenBase, hiddenSize, ggtt);
    const flush = host.ggtt.flushes - this.#flushes;
    this.#flushes = host.ggtt.flushes;
    return { ggtt, flush };
  }

  #collect(seen: Uint32Array, base: number, size: number, runs: GgttRun[]): void {
    const { lanes } = this.#served.device.host.ggtt;
    let run: GgttRun | null = null;
    let runLo = 0;
    let runHi = 0;
    for (let index = base / PAGE_SIZE; index < (base + size) / PAGE_SIZE; index++) {
      const lo = lanes[2 * index]!;
      const hi = lanes[2 * index + 1]!;
      if (seen[2 * index] === lo && seen[2 * index + 1] === hi) {
        run = null;
        continue;
      }
      seen[2 * index] = lo;
      seen[2 * index + 1] = hi;
      if (run !== null && lo === runLo && hi === runHi) {
        run[1]++;
        continue;
      }
      run = [index, 1, ...entryText(this.#served.device.vgpu.gtt, lo, hi)];
      runs.push(run);
      runLo = lo;
      runHi = hi;
    }
  }
}

/** Options of a device from the first line of a trace. */
function deviceOptions(config: Readonly<Record<string, unknown>>): ServedDeviceOptions {
  const total = number(config, "ggttTotal", PAGE_SIZE, 2 ** 32);
  return {
    layout: {
      apertureBase: number(config, "apertureBase", 0, total),
      apertureSize: number(config, "apertureSize", 0, total),
      hiddenBase: number(config, "hiddenBase", 0, total),
      hiddenSize: number(config, "hiddenSize", 0, total),
      total,
      mappableEnd: number(config, "mappableEnd", 0, total),
    },
    oos: config["oos"] === true,
    oosPoolPages: number(config, "oosPool", 0, 65536),
  };
}

/** A number of a trace's configuration: an integer, or hexadecimal text. */
function number(config: Readonly<Record<string, unknown>>, name: string, min: number, max: number): number {
  const given = config[name];
  const value = typeof given === "string" ? Number(given) : given;
  if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(`${name} must be an integer ${min}..${max}, or hexadecimal text`);
  }
  return value;
}

function inject(
  served: ServedDevice,
  fault: { readonly kind: string; readonly gfn?: number; readonly on?: boolean; readonly n?: number },
): void {
  const { faults, gvt, vgpu } = served.device;
  const { kind, gfn, on, n } = fault;
  const amount = n ?? (on === true ? 1 : 0);
  if (isOneOf(FRAME_FAULTS, kind)) {
    if (gfn === undefined) throw new RpcError("EINVAL", `debug_inject: a fault of kind ${kind} needs a gfn`);
    faults?.setFrame(kind as FrameFault, gfn, on ?? true);
  } else if (isOneOf(COUNTED_FAULTS, kind)) {
    faults?.setCount(kind as CountedFault, amount);
  } else if (kind === "failsafe") {
    vgpu.gtt.failsafe = amount !== 0;
  } else if (kind === "platform") {
    gvt.platformSupported = amount !== 0;
  } else if (kind === "trackrc") {
    served.userTrackResult = amount;
  } else {
    const kinds = [...FRAME_FAULTS, ...COUNTED_FAULTS, "failsafe", "platform", "trackrc"];
    throw new RpcError("EINVAL", `debug_inject: kind must be one of ${kinds.join(", ")}`);
  }
}

function raise(served: ServedDevice, name: string, bits: number): void {
  const bank = Object.values(INTERRUPT_BANKS).find((each) => each.name === name);
  if (bank === undefined) {
    const names = Object.keys(INTERRUPT_BANKS).join(", ");
    throw new RpcError("EINVAL", `debug_raise: bank must be one of ${names}`);
  }
  served.device.vgpu.interrupts.raise(bank, bits);
}

function isOneOf(names: readonly string[], name: string): boolean {
  return names.includes(name);
}

/** Name of each scratch page, whether its entries are all alike, their target and flags. */
function scratchPages(served: ServedDevice): [string, boolean, string, string][] {
  const { gtt } = served.device.vgpu;
  return TABLE_KINDS.flatMap((kind): [string, boolean, string, string][] => {
    const lanes = gtt.parts.scratch.page(kind)?.lanes;
    if (lanes === undefined) return [];
    const [lo, hi] = [lanes[0]!, lanes[1]!];
    let isUniform = true;
    for (let i = 0; i < ENTRIES; i++) isUniform &&= lanes[2 * i] === lo && lanes[2 * i + 1] === hi;
    const isEmpty = lo === 0 && hi === 0;
    const target = isEmpty ? "0x0" : targetText(gtt, frameOf(lo, hi));
    return [[`s${kindName(kind)}`, isUniform, target, flagsText(lo, hi)]];
  });
}
