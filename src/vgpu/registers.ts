/**
 * The registers of region 0 that are more than plain storage (`guest.md` §5). All others keep what is
 * written; the PVINFO page has rules of its own.
 *
 * @module
 */

import { INTERRUPT_REGISTERS } from "./interrupt_banks.ts";
import { type Register, RegisterTable } from "./register_table.ts";
import { TLB_REGISTERS } from "./tlb.ts";

/** The parts of the device that have registers. */
export type Block = "interrupts" | "tlb";

/** Engine reset. */
const GDRST = 0x941c;
/** Flush of the GGTT's TLB. */
const GFX_FLSH_CNTL = 0x101008;

const OTHERS: readonly Register<Block>[] = [
  {
    name: "GDRST",
    offsets: [GDRST],
    access: "trigger",
    note: "a reset is done at once, so it reads 0; there is no engine to reset yet",
  },
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
 * assertEquals(REGISTERS.at(0x2030), undefined); // RING_TAIL: plain storage
 * ```
 */
export const REGISTERS: RegisterTable<Block> = new RegisterTable([
  ...INTERRUPT_REGISTERS,
  ...TLB_REGISTERS,
  ...OTHERS,
]);
