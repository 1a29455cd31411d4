/**
 * The engines of the GPU (`guest.md` §5, §7): each runs the commands of one context at a time. A GT2 of Broadwell,
 * Skylake or Kaby Lake has these four.
 *
 * An engine's registers are at the same distance from its *base*; which they are is in {@linkcode RING}.
 *
 * @module
 */

/** What an engine can do beyond the commands that all have. */
export type EngineClass = "render" | "copy" | "video" | "enhance";

/** What is known of an engine before it does anything. */
export interface EngineInfo {
  /** Its name in the guest's driver. */
  readonly name: "rcs0" | "bcs0" | "vcs0" | "vecs0";
  /** What kind of engine it is. */
  readonly kind: EngineClass;
  /** Offset of its registers in region 0, bytes. */
  readonly base: number;
  /** The bank of its interrupts, by number: `gt0` to `gt3`. */
  readonly bank: 0 | 1 | 2 | 3;
  /** Where its 16 events begin in the bank's registers, bits. */
  readonly shift: 0 | 16;
  /** Its bit in GDRST. */
  readonly reset: number;
  /** Its number in the fault register. */
  readonly id: number;
}

/** The engines, in the order in which they have their turns. */
export const ENGINES: readonly EngineInfo[] = [
  { name: "rcs0", kind: "render", base: 0x2000, bank: 0, shift: 0, reset: 1 << 1, id: 0 },
  { name: "bcs0", kind: "copy", base: 0x22000, bank: 0, shift: 16, reset: 1 << 3, id: 2 },
  { name: "vcs0", kind: "video", base: 0x12000, bank: 1, shift: 0, reset: 1 << 2, id: 1 },
  { name: "vecs0", kind: "enhance", base: 0x1a000, bank: 3, shift: 0, reset: 1 << 4, id: 3 },
];

/** Bytes of registers that belong to an engine, from its base. */
export const ENGINE_BYTES = 0x800;

/** Bit of GDRST that resets every engine. */
export const RESET_ALL = 0x1;

/** Events of an engine: bits of its part of an interrupt bank (`guest.md` §6.1). */
export const ENGINE_EVENT = {
  /** MI_USER_INTERRUPT. */
  user: 1 << 0,
  /** A command that is none: see {@linkcode RING.EIR}. */
  error: 1 << 3,
  /** PIPE_CONTROL or MI_FLUSH_DW that asked to be told of. */
  flush: 1 << 4,
  /** The context-status buffer has something new. */
  contextSwitch: 1 << 8,
  /** A semaphore made the engine wait. */
  semaphore: 1 << 11,
} as const;

/** Registers of an engine, offsets from its base, bytes. */
export const RING = {
  /** Where the ring's commands end. */
  TAIL: 0x30,
  /** Where the next command of the ring is. */
  HEAD: 0x34,
  /** GGTT address of the ring. */
  START: 0x38,
  /** Size of the ring, and whether there is one. */
  CTL: 0x3c,
  /** Upper part of {@linkcode ACTHD}. */
  ACTHD_UDW: 0x5c,
  /** First dword of the command in hand. */
  IPEHR: 0x68,
  /** What has finished: all, always. */
  INSTDONE: 0x6c,
  /** Address of the command in hand. */
  ACTHD: 0x74,
  /** GGTT address of the status page. */
  HWS_PGA: 0x80,
  /** Which events are written to the status page too. */
  HWSTAM: 0x98,
  /** Stop, and whether it has stopped. */
  MI_MODE: 0x9c,
  /** Interrupt mask, in the bank's position. */
  IMR: 0xa8,
  /** Errors that came. */
  EIR: 0xb0,
  /** Errors that are not told. */
  EMR: 0xb4,
  /** Errors that are there. */
  ESR: 0xb8,
  /** A mode register of no consequence here. */
  INSTPM: 0xc0,
  /** Asks whether a reset may come. */
  RESET_CTL: 0xd0,
  /** A mode register of no consequence here. */
  CSFE_CHICKEN1: 0xd4,
  /** State of the batch, if one runs. */
  BB_STATE: 0x110,
  /** Address of the batch's command in hand. */
  BB_ADDR: 0x140,
  /** Upper part of {@linkcode BB_ADDR}. */
  BB_ADDR_UDW: 0x168,
  /** The submission port. */
  ELSP: 0x230,
  /** State of the port. */
  EXECLIST_STATUS: 0x234,
  /** The context that runs. */
  EXECLIST_STATUS_HI: 0x238,
  /** Synchronous switches and restore of contexts. */
  CTX_SR_CTL: 0x244,
  /** Roots of the page table, PDP 0 first: low and high. */
  PDP: 0x270,
  /** Whether contexts are taken from the port. */
  RING_MODE: 0x29c,
  /** The counter. */
  TIMESTAMP: 0x358,
  /** Upper part of {@linkcode TIMESTAMP}. */
  TIMESTAMP_UDW: 0x35c,
  /** The context-status buffer, {@linkcode CSB_ENTRIES} entries of 8 bytes. */
  CSB: 0x370,
  /** Where it is written and read. */
  CSB_POINTER: 0x3a0,
  /** Ticks for which the context ran. */
  CTX_TIMESTAMP: 0x3a8,
  /** Registers that batches may write although they are privileged. */
  FORCE_TO_NONPRIV: 0x4d0,
  /** The sixteen general-purpose registers of MI_MATH, 8 bytes each. */
  GPR: 0x600,
  /** Result of the last MI_PREDICATE, by which a store may be predicated; on the render engine. */
  PREDICATE_RESULT: 0x418,
  /** What the start of a batch may be predicated by; on the render engine. */
  PREDICATE_RESULT_1: 0x41c,
} as const;

/** Entries of the context-status buffer. */
export const CSB_ENTRIES = 6;

/** {@linkcode RING.MI_MODE}: the engine is to stop. */
export const STOP_RING = 1 << 8;
/** {@linkcode RING.MI_MODE}: the engine has nothing in hand. */
export const MODE_IDLE = 1 << 9;
/** {@linkcode RING.RING_MODE}: contexts come from the port. */
export const RUN_LIST_ENABLE = 1 << 15;
/** {@linkcode RING.EIR}: a command that is none. */
export const INSTRUCTION_ERROR = 1 << 0;
