/**
 * The registers of region 0 that are more than plain storage (`guest.md` §5): one table, which the dispatcher, the
 * documentation and views read. All others keep what is written; the PVINFO page has rules of its own.
 *
 * @module
 */

import { ENGINE_REGISTERS } from "./engine_registers.ts";
import { INTERRUPT_REGISTERS } from "./interrupt_banks.ts";
import { PLATFORM_REGISTERS } from "./platform_registers.ts";
import { type Register, RegisterTable } from "./register_table.ts";
import { TLB_REGISTERS } from "./tlb.ts";

/** The parts of the device that have registers. */
export type Block = "interrupts" | "tlb" | "engines" | "platform";

/** Flush of the GGTT's TLB. */
const GFX_FLSH_CNTL = 0x101008;

const OTHERS: readonly Register<Block>[] = [
  {
    name: "GFX_FLSH_CNTL",
    offsets: [GFX_FLSH_CNTL],
    access: "rw",
    note: "no translation of the GGTT is cached, so there is nothing to flush",
  },
];

/**
 * What is where in region 0.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { REGISTERS } from "../../mod.ts";
 *
 * assertEquals(REGISTERS.at(0x941c)?.access, "trigger");
 * assertEquals(REGISTERS.at(0x12030)?.name, "RING_TAIL"); // of the video engine
 * assertEquals(REGISTERS.at(0x1f0000), undefined); // plain storage
 * ```
 */
export const REGISTERS: RegisterTable<Block> = new RegisterTable([
  ...INTERRUPT_REGISTERS,
  ...TLB_REGISTERS,
  ...ENGINE_REGISTERS,
  ...PLATFORM_REGISTERS,
  ...OTHERS,
]);
