/**
 * The GGTT and the vGPU's address windows (engine.md §5, §7, §12).
 *
 * @module
 */

import { frameOf, isPresent, withFrame } from "./entry.ts";
import { EACCES, EINVAL, type Host, PAGE } from "./host.ts";
import type { TraceConfig } from "../../src/replay/trace.ts";

/** A half-open range of graphics addresses. */
interface Window {
  readonly base: bigint;
  readonly end: bigint;
}

/** A result code, and a value when it is 0. */
export interface Answer {
  /** 0 or a negative errno. */
  readonly rc: number;
  /** The value. */
  readonly val?: bigint;
}

/** The GGTT of one vGPU. */
export class Ggtt {
  readonly #host: Host;
  readonly #windows: readonly [aperture: Window, hidden: Window];
  readonly #start: bigint;
  readonly #total: bigint;
  readonly #hostAperture: bigint;
  /** What the guest wrote; absent entries are zero. */
  #virtual: Map<bigint, bigint> = new Map();

  /** An empty GGTT. */
  constructor(host: Host, config: TraceConfig) {
    this.#host = host;
    this.#windows = [
      window(config.apertureBase, config.apertureSize),
      window(config.hiddenBase, config.hiddenSize),
    ];
    this.#start = BigInt(config.gttStartOffset);
    this.#total = BigInt(config.ggttTotal);
    this.#hostAperture = BigInt(config.mappableEnd);
  }

  /** Whether size bytes from addr lie in one window (§15, 3); size 0 checks addr only. */
  inRange(addr: bigint, size: bigint): boolean {
    return this.#windows.some((w) => addr >= w.base && addr < w.end && size <= w.end - addr);
  }

  /** Guest to host address: the identity inside the windows. */
  toHost(addr: bigint): Answer {
    return this.inRange(addr, 0n) ? { rc: 0, val: addr } : { rc: EACCES };
  }

  /** Host to guest address, which is not the inverse (Q 4). */
  toGuest(addr: bigint): Answer {
    if (addr >= this.#total) return { rc: EACCES };
    const [aperture, hidden] = this.#windows;
    if (addr < this.#hostAperture) return { rc: 0, val: aperture.base + addr };
    return { rc: 0, val: hidden.base + addr - this.#hostAperture };
  }

  /** `intel_vgpu_emulate_gtt_mmio_read` (§7.1). */
  read(off: bigint, bytes: number): Answer {
    const shift = laneShift(off, bytes);
    if (shift === undefined) return { rc: EINVAL };
    return { rc: 0, val: BigInt.asUintN(bytes * 8, this.#get(this.#index(off)) >> shift) };
  }

  /** `intel_vgpu_emulate_gtt_mmio_write` (§7.2). */
  write(off: bigint, bytes: number, val: bigint, scratch: number): number {
    const shift = laneShift(off, bytes);
    if (shift === undefined) return EINVAL;
    const index = this.#index(off);
    if (!this.inRange(index * BigInt(PAGE), 0n)) return 0;
    const mask = ((1n << BigInt(bytes * 8)) - 1n) << shift;
    const merged = (this.#get(index) & ~mask) | ((val << shift) & mask);
    const translated = isPresent(merged) ? this.#host.translate(merged) : undefined;
    this.#host.ggtt.set(Number(index), translated ?? withFrame(merged, scratch));
    this.#host.flushes++;
    this.#virtual.set(index, merged);
    return 0;
  }

  /** `intel_vgpu_gma_to_gpa` of a GGTT: presence is not checked (Q 12). */
  toGpa(gma: bigint): bigint | null {
    if (!this.inRange(gma, 0n)) return null;
    const frame = frameOf(this.#get(gma / BigInt(PAGE)));
    return BigInt(frame) * BigInt(PAGE) + gma % BigInt(PAGE);
  }

  /** `intel_vgpu_reset_ggtt` (§12): what the guest wrote stays. */
  reset(scratch: number): void {
    for (const { base, end } of this.#windows) {
      for (let gma = base; gma < end; gma += BigInt(PAGE)) {
        this.#host.ggtt.set(Number(gma / BigInt(PAGE)), withFrame(1n, scratch));
      }
    }
    this.#host.flushes++;
  }

  /** Zeroes what the guest wrote, as a new GGTT mm has it. */
  clearVirtual(): void {
    this.#virtual = new Map();
  }

  #index(off: bigint): bigint {
    return (off - this.#start) >> 3n;
  }

  #get(index: bigint): bigint {
    return this.#virtual.get(index) ?? 0n;
  }
}

function window(base: string, size: string): Window {
  return { base: BigInt(base), end: BigInt(base) + BigInt(size) };
}

/** Bits below the accessed lane, or undefined for an access of wrong size or leaving its entry (§15, 5). */
function laneShift(off: bigint, bytes: number): bigint | undefined {
  const within = Number(off & 7n);
  if ((bytes !== 4 && bytes !== 8) || within + bytes > 8) return undefined;
  return BigInt(within * 8);
}
