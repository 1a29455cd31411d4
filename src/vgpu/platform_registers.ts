/**
 * Registers of the GPU around the engines (`guest.md` §5.2): fuses, power wells, the mailbox to the power control
 * unit, fences, and switches that a guest sets and reads back. Those of the display are not here: it is fused off.
 *
 * @module
 */

import type { Register, RegisterBlock } from "./register_table.ts";
import type { RegisterFile } from "./register_file.ts";
import type { VgpuCounters } from "./vgpu_counters.ts";
import { MAX_FENCES } from "./vgpu_options.ts";

const POWER_WELLS = 0x45404;
/** Requests of power wells; the state of each is in the bit below. */
const POWER_WELL_REQUESTS = 0xa00002aa;
const MAILBOX = 0x138124;
const MAILBOX_DATA = 0x138128;
const MAILBOX_BUSY = 0x80000000;
const MAILBOX_COMMAND = 0xff;
/** Commands of the mailbox that answer something of their own. */
const READ_MEMORY_LATENCY = 0x06;
const MEMORY_LATENCY = [0x1e1a1100, 0x61514b3d] as const;
const WAKE_DISPLAY = 0x05;
const DISPLAY_VOLTAGE = 0x07;
const SYSTEM_AGENT = 0x21;
const LARGE_PAGES = 0x4080;
const LARGE_PAGES_MASK = 0xf;
const FENCES = 0x100000;
const FENCE_BYTES = 8;
/** Where each request to be awake is acknowledged. */
const WAKE: ReadonlyMap<number, number> = new Map([
  [0xa278, 0x0d84],
  [0xa188, 0x130044],
  [0xa270, 0x0d88],
]);
const WAKE_MASK = 0xffff;

const ACTS = { block: "platform" } as const;

function fixed(name: string, offset: number, reset: number, note: string): Register<"platform"> {
  return { name, offsets: [offset], access: "ro", reset, note };
}

/** Registers whose upper half says which bits of a write count, and on which nothing acts. */
const MODE_OFFSETS: readonly number[] = [
  0x2088,
  0x2090,
  0x20dc,
  0x20e0,
  0x20e4,
  0x20ec,
  0x2120,
  0x2124,
  0x2470,
  0x2580,
  0x4030,
  0x5588,
  0x7000,
  0x7004,
  0x7008,
  0x7010,
  0x7014,
  0x7018,
  0x7300,
  0x7304,
  0xe100,
  0xe180,
  0xe184,
  0xe188,
  0xe194,
  0xe4f0,
  0xe4f4,
];

/** The registers, for the table of registers. */
export const PLATFORM_REGISTERS: readonly Register<"platform">[] = [
  fixed("DFSM", 0x51000, 0x50200000, "Gen9: the display's pipes are fused off"),
  fixed("FUSE_STRAP", 0x42014, 0x40000000, "Gen8: the display is fused off"),
  fixed("CTC_MODE", 0xa26c, 0x4, "Gen9: the counter runs at 12 MHz"),
  fixed("FUSE2", 0x9120, 0x02800000, "one slice of three subslices"),
  fixed("RP_STATE_CAP", 0x145998, 0x00060718, "frequencies there are"),
  fixed("GUC_STATUS", 0xc000, 0x1, "the microcontroller is in reset"),
  fixed("FUSE_STATUS", 0x42000, 0x8e000000, "fuses are read, power gates are open"),
  {
    name: "FPGA_DBG",
    offsets: [0x42300],
    access: "w1c",
    privileged: true,
    note: "bit 31: an access that nobody claimed; there is none",
  },
  {
    name: "PWR_WELL_CTL2",
    offsets: [POWER_WELLS],
    access: "rw",
    note: "a well that is asked for is on at once: its state is the bit below the request",
    ...ACTS,
  },
  {
    name: "PCODE_MAILBOX",
    offsets: [MAILBOX],
    access: "rw",
    note: "bit 31 runs a command, at once and without error",
    ...ACTS,
  },
  {
    name: "PCODE_DATA",
    offsets: [MAILBOX_DATA, MAILBOX_DATA + 4],
    access: "rw",
    privileged: true,
    note: "its operands and answers",
  },
  {
    name: "GAMW_ECO_DEV_RW_IA",
    offsets: [LARGE_PAGES],
    access: "rw",
    note: "bits 3..0 allow 64 KiB pages: all or none",
    ...ACTS,
  },
  {
    name: "FORCEWAKE: render, GT, media",
    offsets: [...WAKE.keys()],
    access: "mode",
    note: "acknowledged at once",
    ...ACTS,
  },
  { name: "FORCEWAKE_ACK", offsets: [...WAKE.values()], access: "ro", note: "what is awake" },
  {
    name: "FENCE",
    offsets: Array.from({ length: 2 * MAX_FENCES }, (_, half) => FENCES + 4 * half),
    access: "rw",
    note: "kept, of the fences that the vGPU has; the aperture shows no tiles",
    ...ACTS,
  },
  {
    name: "CHICKEN, CACHE_MODE and the like",
    offsets: MODE_OFFSETS,
    access: "mode",
    note: "kept",
  },
];

/** Acts on the registers of the platform. */
export class PlatformRegisters implements RegisterBlock {
  readonly #registers: RegisterFile;
  readonly #counters: VgpuCounters;
  readonly #fences: number;
  readonly #onForeignFence: () => void;
  #largePages = 0;

  /**
   * Registers after power-on.
   *
   * @param registers Holds them.
   * @param counters Counts what is refused.
   * @param fences Fences that the vGPU has.
   * @param onForeignFence Told when the guest stores to another.
   */
  constructor(registers: RegisterFile, counters: VgpuCounters, fences: number, onForeignFence: () => void) {
    this.#registers = registers;
    this.#counters = counters;
    this.#fences = fences;
    this.#onForeignFence = onForeignFence;
  }

  /** See {@linkcode RegisterBlock.written}. */
  written(offset: number, value: number): void {
    const registers = this.#registers;
    if (offset === POWER_WELLS) {
      const requests = value & POWER_WELL_REQUESTS;
      registers.set(offset, requests | requests >>> 1);
    } else if (offset === MAILBOX) {
      if ((value & MAILBOX_BUSY) !== 0) this.#command(value & MAILBOX_COMMAND);
    } else if (offset === LARGE_PAGES) {
      this.#largePagesWritten();
    } else if (offset >= FENCES) {
      this.#fenceWritten(offset);
    } else {
      registers.set(WAKE.get(offset)!, registers.get(offset) & WAKE_MASK);
    }
  }

  /** Forgets what is not in the registers; they were reset. */
  reset(): void {
    this.#largePages = 0;
  }

  #command(command: number): void {
    const registers = this.#registers;
    const data = registers.get(MAILBOX_DATA);
    registers.set(MAILBOX, 0);
    if (command === READ_MEMORY_LATENCY) registers.set(MAILBOX_DATA, MEMORY_LATENCY[data === 0 ? 0 : 1]);
    else if (command === DISPLAY_VOLTAGE || command === SYSTEM_AGENT) registers.set(MAILBOX_DATA, 1);
    else if (command === WAKE_DISPLAY) registers.set(MAILBOX_DATA, data | 1);
  }

  #largePagesWritten(): void {
    const value = this.#registers.get(LARGE_PAGES);
    const bits = value & LARGE_PAGES_MASK;
    if (bits === 0 || bits === LARGE_PAGES_MASK) {
      this.#largePages = value;
    } else {
      this.#counters.badRegisterWrites++;
      this.#registers.set(LARGE_PAGES, this.#largePages);
    }
  }

  #fenceWritten(offset: number): void {
    if (offset < FENCES + FENCE_BYTES * this.#fences) return;
    this.#registers.set(offset, 0);
    this.#counters.badRegisterWrites++;
    this.#onForeignFence();
  }
}
