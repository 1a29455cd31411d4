/**
 * The registers of the engines (`guest.md` §5.3): the same at each engine's base, and those by which engines are reset.
 *
 * @module
 */

import type { GraphicsMemory } from "../gtt/address.ts";
import { PAGE_SIZE } from "../gtt/entry.ts";
import type { CommandStreamers } from "../streamer/command_streamers.ts";
import { FAULT } from "../streamer/command_streamers.ts";
import type { StreamerRegisters } from "../streamer/data_commands.ts";
import {
  CSB_ENTRIES,
  ENGINE_BYTES,
  ENGINES,
  MODE_IDLE,
  RESET_ALL,
  RING,
  RUN_LIST_ENABLE,
} from "../streamer/engines.ts";
import { PVINFO_OFFSET, PVINFO_SIZE } from "./pvinfo.ts";
import type { RegisterFile } from "./register_file.ts";
import { type Access, type Register, type RegisterBlock, REGISTERS_SIZE } from "./register_table.ts";
import type { Timestamp } from "./timestamp.ts";
import type { VgpuCounters } from "./vgpu_counters.ts";

/** Engine reset. */
export const GDRST = 0x941c;
const RESET_REQUEST = 1;
const RESET_READY = 2;
const PAGE_MASK = 0xfffff000;

/**
 * A register at each engine. All but the general-purpose registers are the driver's: what a batch without privilege
 * could change there would make another context's work go wrong.
 */
function each(
  name: string,
  offset: number,
  access: Access,
  note: string,
  more: Partial<Register<"engines">> = {},
): Register<"engines"> {
  return { name, offsets: ENGINES.map(({ base }) => base + offset), access, privileged: true, note, ...more };
}

/** Several registers in a row at each engine. */
function row(
  name: string,
  offset: number,
  count: number,
  access: Access,
  note: string,
  privileged = true,
): Register<"engines"> {
  const offsets = ENGINES.flatMap(({ base }) =>
    Array.from({ length: count }, (_, i) => base + offset + 4 * i)
  );
  return { name, offsets, access, privileged, note };
}

const ACTS = { block: "engines" } as const;

/** The registers, for the table of registers. */
export const ENGINE_REGISTERS: readonly Register<"engines">[] = [
  each("RING_TAIL", RING.TAIL, "rw", "of the context that runs"),
  each("RING_HEAD", RING.HEAD, "rw", "of the context that runs, as of the engine's last turn"),
  each("RING_START", RING.START, "rw", "of the context that runs"),
  each("RING_CTL", RING.CTL, "rw", "of the context that runs"),
  each("RING_PSMI_CTL", 0x50, "mode", "kept"),
  each("RING_ACTHD_UDW", RING.ACTHD_UDW, "ro", "upper part of RING_ACTHD"),
  each("RING_IPEHR", RING.IPEHR, "ro", "first dword of a command that halted the engine"),
  each("RING_INSTDONE", RING.INSTDONE, "ro", "nothing is ever found done, nor missing"),
  each("RING_ACTHD", RING.ACTHD, "ro", "address of the next command, as of the engine's last turn"),
  each(
    "RING_HWS_PGA",
    RING.HWS_PGA,
    "rw",
    "status page, in the GGTT; what is not the vGPU's is refused",
    ACTS,
  ),
  each("RING_HWSTAM", RING.HWSTAM, "rw", "kept"),
  each("RING_MI_MODE", RING.MI_MODE, "mode", "bit 8 stops; bit 9 tells that nothing is in hand", {
    reset: MODE_IDLE,
    writable: 0xffff & ~MODE_IDLE,
    ...ACTS,
  }),
  each("RING_IMR", RING.IMR, "rw", "events whose bits are set are lost; bits are those of the bank", {
    reset: 0xffffffff,
  }),
  each("RING_EIR", RING.EIR, "w1c", "bit 0: a command that is none"),
  each("RING_EMR", RING.EMR, "rw", "errors that are not told", { reset: 0xffffffff }),
  each("RING_ESR", RING.ESR, "ro", "cleared by a reset"),
  each("RING_INSTPM", RING.INSTPM, "mode", "kept", { privileged: false }),
  each("RING_RESET_CTL", RING.RESET_CTL, "mode", "bit 0 asks for a reset, bit 1 grants it at once", {
    writable: RESET_REQUEST,
    ...ACTS,
  }),
  each("RING_CSFE_CHICKEN1", RING.CSFE_CHICKEN1, "mode", "kept"),
  each("RING_ELSP", RING.ELSP, "trigger", "four stores submit a pair of contexts", ACTS),
  each("RING_EXECLIST_STATUS", RING.EXECLIST_STATUS, "ro", "which slots are valid and active"),
  each("RING_EXECLIST_STATUS_HI", RING.EXECLIST_STATUS_HI, "ro", "id of the context that runs"),
  each("RING_CTX_SR_CTL", RING.CTX_SR_CTL, "mode", "kept"),
  row("RING_PDP", RING.PDP, 8, "rw", "roots of the page table of the context that runs"),
  each("RING_MODE", RING.RING_MODE, "mode", "bit 15: contexts come by RING_ELSP", {
    writable: 0xfffe,
    ...ACTS,
  }),
  each("RING_TIMESTAMP", RING.TIMESTAMP, "live", "the counter, low half", ACTS),
  each("RING_TIMESTAMP_UDW", RING.TIMESTAMP_UDW, "live", "the counter, high half", ACTS),
  row("RING_CSB", RING.CSB, 2 * CSB_ENTRIES, "ro", "the context-status buffer; the status page has a copy"),
  each("RING_CSB_POINTER", RING.CSB_POINTER, "mode", "bits 2..0 written, 10..8 read", {
    reset: 0x0707,
    writable: 0x0707,
  }),
  each("RING_CTX_TIMESTAMP", RING.CTX_TIMESTAMP, "live", "ticks for which the context has run", ACTS),
  row("RING_FORCE_TO_NONPRIV", RING.FORCE_TO_NONPRIV, 12, "rw", "kept"),
  row("RING_GPR", RING.GPR, 32, "rw", "general-purpose registers of MI_MATH, saved with the context", false),
  {
    name: "GDRST",
    offsets: [GDRST],
    access: "trigger",
    note: "resets engines: bit 0 all, 1 RCS, 2 VCS0, 3 BCS, 4 VECS; done at once, so it reads 0",
    ...ACTS,
  },
  {
    name: "RING_FAULT",
    offsets: [FAULT.STATUS],
    access: "rw",
    note: "the first fault, until bit 0 is cleared",
  },
  { name: "FAULT_TLB_DATA0", offsets: [FAULT.ADDRESS], access: "ro", note: "its address, bits 43..12" },
  { name: "FAULT_TLB_DATA1", offsets: [FAULT.ADDRESS_UDW], access: "ro", note: "bits 47..44; bit 4: GGTT" },
];

/** What is told of writes to the engines' registers. */
export interface EngineRegisterListener {
  /** The guest resets all engines. */
  fullReset(): void;
  /** The guest wants contexts to be taken from the port. @returns Whether it may. */
  mayEnableRunList(): boolean;
  /** Whether the device may load and store: a context cannot be taken without. */
  mayAccessMemory(): boolean;
}

/** Which engine and register an offset is. */
interface Place {
  readonly engine: number;
  readonly register: number;
}

/** Acts on the engines' registers. */
export class EngineRegisters implements RegisterBlock {
  readonly #registers: RegisterFile;
  readonly #gm: GraphicsMemory;
  readonly #timestamp: Timestamp;
  readonly #counters: VgpuCounters;
  readonly #streamers: () => CommandStreamers;
  readonly #listener: EngineRegisterListener;
  readonly #places: ReadonlyMap<number, Place> = placesOf(ENGINE_REGISTERS);
  readonly #ticks = new Uint32Array(2);
  /** The status page of each engine, as it was last accepted. */
  readonly #statusPages = new Uint32Array(ENGINES.length);

  /**
   * Registers of idle engines.
   *
   * @param registers Holds them.
   * @param gm Which graphics addresses are the vGPU's.
   * @param timestamp The counter.
   * @param counters Counts what is refused.
   * @param streamers The engines.
   * @param listener Told of what concerns more than engines.
   */
  constructor(
    registers: RegisterFile,
    gm: GraphicsMemory,
    timestamp: Timestamp,
    counters: VgpuCounters,
    streamers: () => CommandStreamers,
    listener: EngineRegisterListener,
  ) {
    this.#registers = registers;
    this.#gm = gm;
    this.#timestamp = timestamp;
    this.#counters = counters;
    this.#streamers = streamers;
    this.#listener = listener;
  }

  /** See {@linkcode RegisterBlock.written}. */
  written(offset: number, value: number): void {
    if (offset === GDRST) return this.#resetWritten(value);
    const { engine, register } = this.#places.get(offset)!;
    if (register === RING.ELSP) this.#submit(engine, value);
    else if (register === RING.MI_MODE) this.#streamers().modeWritten(engine);
    else if (register === RING.HWS_PGA) this.#statusPageWritten(engine, offset);
    else if (register === RING.RESET_CTL) this.#grantReset(offset);
    else if (register === RING.RING_MODE) this.#modeWritten(offset);
  }

  /** See {@linkcode RegisterBlock.live}: the counters. */
  live(offset: number): number {
    const { engine, register } = this.#places.get(offset)!;
    if (register === RING.CTX_TIMESTAMP) return this.#streamers().contextTimestamp(engine);
    this.#timestamp.read(this.#ticks);
    return register === RING.TIMESTAMP ? this.#ticks[0]! : this.#ticks[1]!;
  }

  /** Forgets what is not in the registers; they were reset. */
  reset(): void {
    this.#statusPages.fill(0);
  }

  #resetWritten(value: number): void {
    this.#streamers().reset(value);
    if ((value & RESET_ALL) !== 0) this.#listener.fullReset();
  }

  #submit(engine: number, value: number): void {
    const mode = this.#registers.get(ENGINES[engine]!.base + RING.RING_MODE);
    const isHeard = (mode & RUN_LIST_ENABLE) !== 0 && this.#listener.mayAccessMemory();
    if (isHeard) return this.#streamers().submit(engine, value);
    this.#streamers().forgetPort(engine);
    this.#counters.badRegisterWrites++;
  }

  #statusPageWritten(engine: number, offset: number): void {
    const page = (this.#registers.get(offset) & PAGE_MASK) >>> 0;
    if (page === 0 || this.#gm.isValidRange(page, PAGE_SIZE)) {
      this.#statusPages[engine] = page;
    } else {
      this.#counters.badRegisterWrites++;
      this.#registers.set(offset, this.#statusPages[engine]!);
    }
  }

  #grantReset(offset: number): void {
    const isRequested = (this.#registers.get(offset) & RESET_REQUEST) !== 0;
    this.#registers.set(offset, isRequested ? RESET_REQUEST | RESET_READY : 0);
  }

  #modeWritten(offset: number): void {
    const mode = this.#registers.get(offset);
    if ((mode & RUN_LIST_ENABLE) === 0 || this.#listener.mayEnableRunList()) return;
    this.#registers.set(offset, mode & ~RUN_LIST_ENABLE);
  }
}

/**
 * Registers as commands see them: those on which some part of the device acts, and the PVINFO page, are out of their
 * reach.
 */
export class CommandRegisters implements StreamerRegisters {
  readonly #registers: RegisterFile;

  /**
   * The registers of a vGPU.
   *
   * @param registers Holds them.
   */
  constructor(registers: RegisterFile) {
    this.#registers = registers;
  }

  /** See {@linkcode StreamerRegisters.get}. */
  get(offset: number): number {
    return this.#registers.get(offset);
  }

  /** See {@linkcode StreamerRegisters.set}. */
  set(offset: number, value: number): void {
    this.#registers.set(offset, value);
  }

  /** See {@linkcode StreamerRegisters.load}. */
  load(offset: number): number {
    return isWithinReach(offset) ? this.#registers.load(offset) : 0;
  }

  /** See {@linkcode StreamerRegisters.store}. */
  store(offset: number, value: number, isPrivileged: boolean): boolean {
    return isWithinReach(offset) && this.#registers.storeQuietly(offset, value, isPrivileged);
  }
}

function isWithinReach(offset: number): boolean {
  return offset < REGISTERS_SIZE && (offset < PVINFO_OFFSET || offset >= PVINFO_OFFSET + PVINFO_SIZE);
}

/** The engine and register of each offset on whose write something is done. */
function placesOf(rows: readonly Register[]): ReadonlyMap<number, Place> {
  const places = new Map<number, Place>();
  for (const { offsets, block } of rows) {
    if (block === undefined) continue;
    for (const offset of offsets) {
      const engine = ENGINES.findIndex(({ base }) => offset >= base && offset < base + ENGINE_BYTES);
      if (engine >= 0) places.set(offset, { engine, register: offset - ENGINES[engine]!.base });
    }
  }
  return places;
}
