/**
 * The interrupt registers (`guest.md` §6.1, §6.2): which banks there are, what of them the master register
 * shows, and what each register is.
 *
 * @module
 */

import type { Register } from "./register_table.ts";

/** Bits of a bank that show as one bit of the master register. */
export interface InterruptSummary {
  /** Bits of the bank. */
  readonly bits: number;
  /** Number of the master register's bit. */
  readonly master: number;
}

/** A bank: four registers in a row, ISR, IMR, IIR and IER. */
export interface InterruptBank {
  /** Its name, for tools. */
  readonly name: string;
  /** Offset of ISR, bytes from the start of region 0. */
  readonly isr: number;
  /** What of it the master register shows. */
  readonly summaries: readonly InterruptSummary[];
}

const ALL = 0xffffffff;
const LOW_HALF = 0x0000ffff;
const HIGH_HALF = 0xffff0000;

/** Every bank by name (`guest.md` §6.1). */
export const INTERRUPT_BANKS = {
  /** Render engine below, blitter above. */
  gt0: {
    name: "gt0",
    isr: 0x44300,
    summaries: [{ bits: LOW_HALF, master: 0 }, { bits: HIGH_HALF, master: 1 }],
  },
  /** Video engines 0 below and 1 above. */
  gt1: {
    name: "gt1",
    isr: 0x44310,
    summaries: [{ bits: LOW_HALF, master: 2 }, { bits: HIGH_HALF, master: 3 }],
  },
  /** Power management below, GuC above. */
  gt2: {
    name: "gt2",
    isr: 0x44320,
    summaries: [{ bits: LOW_HALF, master: 4 }, { bits: HIGH_HALF, master: 5 }],
  },
  /** Video enhancement engine below. */
  gt3: { name: "gt3", isr: 0x44330, summaries: [{ bits: LOW_HALF, master: 6 }] },
  /** Display pipe A. */
  pipeA: { name: "pipeA", isr: 0x44400, summaries: [{ bits: ALL, master: 16 }] },
  /** Display pipe B. */
  pipeB: { name: "pipeB", isr: 0x44410, summaries: [{ bits: ALL, master: 17 }] },
  /** Display pipe C. */
  pipeC: { name: "pipeC", isr: 0x44420, summaries: [{ bits: ALL, master: 18 }] },
  /** Display ports. */
  port: { name: "port", isr: 0x44440, summaries: [{ bits: ALL, master: 20 }] },
  /** The rest of the display engine. */
  misc: { name: "misc", isr: 0x44460, summaries: [{ bits: ALL, master: 22 }] },
  /** Power control unit. */
  pcu: { name: "pcu", isr: 0x444e0, summaries: [{ bits: ALL, master: 30 }] },
  /** South display engine, in the platform controller hub. */
  pch: { name: "pch", isr: 0xc4000, summaries: [{ bits: ALL, master: 23 }] },
} as const satisfies Readonly<Record<string, InterruptBank>>;

/** The name of a bank. */
export type InterruptBankName = keyof typeof INTERRUPT_BANKS;

const BANKS: readonly InterruptBank[] = Object.values(INTERRUPT_BANKS);

/** Offset in a bank of the mask: events of bits that are set are lost. */
export const BANK_IMR = 0x4;
/** Offset in a bank of the identity: events that came and were not acknowledged. */
export const BANK_IIR = 0x8;
/** Offset in a bank of the enable: identity bits that show in the master register. */
export const BANK_IER = 0xc;

/** Offset of the master register: bit 31 enables, the others tell which bank has something. */
export const MASTER_IRQ = 0x44200;
/** Bit of {@linkcode MASTER_IRQ} that lets interrupts out. */
export const MASTER_ENABLE = 0x80000000;

/** The interrupt registers, for the table of registers. */
export const INTERRUPT_REGISTERS: readonly Register<"interrupts">[] = [
  {
    name: "MASTER_IRQ",
    offsets: [MASTER_IRQ],
    access: "rw",
    writable: MASTER_ENABLE,
    block: "interrupts",
    note: "bits 30:0 follow the banks",
  },
  {
    name: "ISR",
    offsets: BANKS.map(({ isr }) => isr),
    access: "ro",
    note: "events are pulses, so nothing is asserted",
  },
  {
    name: "IMR",
    offsets: BANKS.map(({ isr }) => isr + BANK_IMR),
    access: "rw",
    reset: 0xffffffff,
    privileged: true,
    note: "all is masked at first",
  },
  {
    name: "IIR",
    offsets: BANKS.map(({ isr }) => isr + BANK_IIR),
    access: "w1c",
    block: "interrupts",
    note: "sticky; writing ones acknowledges",
  },
  {
    name: "IER",
    offsets: BANKS.map(({ isr }) => isr + BANK_IER),
    access: "rw",
    block: "interrupts",
    note: "nothing is enabled at first",
  },
];
