/**
 * The commands that an engine fetches (`guest.md` §8): what they are called and how long they are. Most only change
 * state of a 3D or video pipeline that is not there, so their length is all that matters; what the others do is in
 * `streamer.ts` and beside it.
 *
 * A length is in dwords, the first one included. The *length field* is the low bits of the first dword, two less than
 * the length; how many bits it has differs, and taking too many puts the engine out of step for good.
 *
 * @module
 */

import type { EngineClass } from "./engines.ts";

/** Who a command is for: bits 31..29 of its first dword. */
export const CLIENT = {
  /** The command streamer itself. */
  MI: 0,
  /** The blitter. */
  BLT: 2,
  /** The render, media and video pipelines. */
  PIPELINE: 3,
} as const;

/** Commands of the command streamer: bits 28..23 of the first dword. */
export const MI = {
  NOOP: 0x00,
  SET_PREDICATE: 0x01,
  USER_INTERRUPT: 0x02,
  WAIT_FOR_EVENT: 0x03,
  FLUSH: 0x04,
  ARB_CHECK: 0x05,
  RS_CONTROL: 0x06,
  REPORT_HEAD: 0x07,
  ARB_ON_OFF: 0x08,
  URB_ATOMIC_ALLOC: 0x09,
  BATCH_BUFFER_END: 0x0a,
  SUSPEND_FLUSH: 0x0b,
  PREDICATE: 0x0c,
  TOPOLOGY_FILTER: 0x0d,
  SET_APPID: 0x0e,
  RS_CONTEXT: 0x0f,
  LOAD_SCAN_LINES_INCL: 0x12,
  LOAD_SCAN_LINES_EXCL: 0x13,
  DISPLAY_FLIP: 0x14,
  SEMAPHORE_MBOX: 0x16,
  SET_CONTEXT: 0x18,
  URB_CLEAR: 0x19,
  MATH: 0x1a,
  SEMAPHORE_SIGNAL: 0x1b,
  SEMAPHORE_WAIT: 0x1c,
  STORE_DATA_IMM: 0x20,
  STORE_DATA_INDEX: 0x21,
  LOAD_REGISTER_IMM: 0x22,
  UPDATE_GTT: 0x23,
  STORE_REGISTER_MEM: 0x24,
  FLUSH_DW: 0x26,
  CLFLUSH: 0x27,
  REPORT_PERF_COUNT: 0x28,
  LOAD_REGISTER_MEM: 0x29,
  LOAD_REGISTER_REG: 0x2a,
  RS_STORE_DATA_IMM: 0x2b,
  LOAD_URB_MEM: 0x2c,
  STORE_URB_MEM: 0x2d,
  COPY_MEM_MEM: 0x2e,
  ATOMIC: 0x2f,
  BATCH_BUFFER_START: 0x31,
  CONDITIONAL_BATCH_BUFFER_END: 0x36,
} as const;

/** The first MI command that has a length field; those before have one dword. */
const FIRST_WITH_LENGTH = 0x10;
/** Commands of the command streamer there can be. */
const MI_COMMANDS = 64;
/** Length fields of MI commands that are not 8 bits wide. */
const MI_LENGTH_MASKS: ReadonlyMap<number, number> = new Map([
  [MI.STORE_DATA_IMM, 0x3ff],
  [MI.UPDATE_GTT, 0x3ff],
  [MI.CLFLUSH, 0x3ff],
  [MI.FLUSH_DW, 0x3f], // bit 7 is a flag on the video engine
  [MI.REPORT_PERF_COUNT, 0x3f],
]);
/** By command: the length field's mask, or 0 for one dword. */
const MI_MASKS: Uint16Array = Uint16Array.from({ length: MI_COMMANDS }, (_, command) => {
  return command < FIRST_WITH_LENGTH ? 0 : MI_LENGTH_MASKS.get(command) ?? 0xff;
});
const MI_NAMES: readonly string[] = Array.from({ length: MI_COMMANDS }, (_, command) => {
  const named = Object.entries(MI).find(([, value]) => value === command);
  return named === undefined ? `MI 0x${command.toString(16)}` : `MI_${named[0]}`;
});

/** The first 16 bits of PIPE_CONTROL, a 3D command that every context uses. */
export const PIPE_CONTROL = 0x7a00;

/** Commands of the pipelines, by their first 16 bits, whose length field is not that of their group. */
const PIPELINE_LENGTH_MASKS: ReadonlyMap<number, number> = new Map([
  [0x6103, 0x7], // SWTESS_BASE_ADDRESS
  [0x7105, 0xff], // GPGPU_WALKER: bits 8 and 10 are flags
  [0x7839, 0x7ff], // 3DSTATE_DX9_CONSTANTF_VS
  [0x783a, 0x7ff], // 3DSTATE_DX9_CONSTANTF_PS
  [0x7843, 0x1ff], // 3DSTATE_BINDING_TABLE_EDIT, five stages
  [0x7844, 0x1ff],
  [0x7845, 0x1ff],
  [0x7846, 0x1ff],
  [0x7847, 0x1ff],
  [0x7917, 0x1ff], // 3DSTATE_SO_DECL_LIST
]);
/** Pipeline commands, by their first 16 bits, that have one dword although their group has a length field. */
const VF_STATISTICS = 0x780b;

/** A command that is none: its length cannot be known. */
export const NO_COMMAND = 0;

/**
 * The length of a command.
 *
 * @param dword Its first dword.
 * @param kind The engine that fetched it.
 * @returns Dwords, 1 or more; {@linkcode NO_COMMAND} if it is none.
 *
 * @example The same bits, other lengths
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { commandLength, NO_COMMAND } from "./commands.ts";
 *
 * assertEquals(commandLength(0x05000000, "render"), 1); // MI_BATCH_BUFFER_END
 * assertEquals(commandLength(0x13244082, "video"), 4); // MI_FLUSH_DW, with a flag right above its length
 * assertEquals(commandLength(0x78080083, "render"), 133); // 3DSTATE_VERTEX_BUFFERS
 * assertEquals(commandLength(0x780b0001, "render"), 1); // 3DSTATE_VF_STATISTICS has no length
 * assertEquals(commandLength(0xe0000000, "render"), NO_COMMAND);
 * ```
 */
export function commandLength(dword: number, kind: EngineClass): number {
  switch (dword >>> 29) {
    case CLIENT.MI: {
      const mask = MI_MASKS[dword >>> 23]!;
      return mask === 0 ? 1 : (dword & mask) + 2;
    }
    case CLIENT.BLT:
      return (dword & 0xff) + 2;
    case CLIENT.PIPELINE:
      return pipelineLength(dword, kind);
    default:
      return NO_COMMAND;
  }
}

/** Dwords without which a command cannot say what it has to. */
const SHORTEST: ReadonlyMap<number, number> = new Map([
  [MI.SEMAPHORE_WAIT, 4],
  [MI.STORE_DATA_IMM, 4],
  [MI.STORE_DATA_INDEX, 3],
  [MI.LOAD_REGISTER_IMM, 3],
  [MI.STORE_REGISTER_MEM, 4],
  [MI.LOAD_REGISTER_MEM, 4],
  [MI.LOAD_REGISTER_REG, 3],
  [MI.COPY_MEM_MEM, 5],
  [MI.ATOMIC, 3],
  [MI.BATCH_BUFFER_START, 3],
  [MI.CONDITIONAL_BATCH_BUFFER_END, 4],
]);
/** The same by command; 1 where it does not matter. */
const MI_SHORTEST: Uint8Array = Uint8Array.from(
  { length: MI_COMMANDS },
  (_, command) => SHORTEST.get(command) ?? 1,
);

/**
 * The least length with which a command can be carried out.
 *
 * @param dword Its first dword.
 * @returns Dwords, 1 or more: whatever is shorter is none.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { commandLength, shortestLength } from "./commands.ts";
 *
 * const store = 0x10000000; // MI_STORE_DATA_IMM whose length field was forgotten
 * assertEquals([commandLength(store, "render"), shortestLength(store)], [2, 4]);
 * ```
 */
export function shortestLength(dword: number): number {
  return dword >>> 29 === CLIENT.MI ? MI_SHORTEST[dword >>> 23]! : 1;
}

function pipelineLength(dword: number, kind: EngineClass): number {
  const group = (dword >>> 27) & 3;
  if (group === 1) return 1;
  const head = dword >>> 16;
  const isVideo = kind === "video" || kind === "enhance";
  // MFX_*, HCP_*, VEBOX_*: 12 bits; bits 26..24 = 6 and media commands of the render engine: 16 bits.
  if (group === 2 && isVideo) return (dword & (((dword >>> 24) & 7) === 6 ? 0xffff : 0xfff)) + 2;
  if (group === 2) return (dword & (PIPELINE_LENGTH_MASKS.get(head) ?? 0xffff)) + 2;
  if (head === VF_STATISTICS) return 1;
  return (dword & (PIPELINE_LENGTH_MASKS.get(head) ?? 0xff)) + 2;
}

/**
 * What a command is called, for people.
 *
 * @param dword Its first dword.
 * @returns Its name, or what is known of it.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { commandName } from "./commands.ts";
 *
 * assertEquals(commandName(0x18800101), "MI_BATCH_BUFFER_START");
 * assertEquals(commandName(0x7a000004), "PIPE_CONTROL");
 * assertEquals(commandName(0x54f00008), "BLT 0x53");
 * assertEquals(commandName(0x78080083), "pipeline 0x7808");
 * ```
 */
export function commandName(dword: number): string {
  const client = dword >>> 29;
  if (client === CLIENT.MI) return MI_NAMES[dword >>> 23]!;
  if (client === CLIENT.BLT) return `BLT 0x${((dword >>> 22) & 0x7f).toString(16)}`;
  const head = dword >>> 16;
  if (head === PIPE_CONTROL) return "PIPE_CONTROL";
  return client === CLIENT.PIPELINE
    ? `pipeline 0x${head.toString(16)}`
    : `no command 0x${(dword >>> 0).toString(16)}`;
}
