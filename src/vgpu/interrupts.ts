/**
 * The interrupt tree (`guest.md` §6): events go through *banks* to the *master* register, and from there to
 * the guest as an MSI or by the INTA line.
 *
 * ```text
 * event --(IMR clear)--> IIR, sticky --(IER set)--> summary bit of the master --(bit 31)--> pending
 * pending, MSI enabled:  one message each time it becomes true
 * pending, MSI disabled: INTA asserted as long as it is true, unless the command register forbids
 * ```
 *
 * A guest's handler clears bit 31 of the master, acknowledges, and sets bit 31 again: if something is left,
 * or came meanwhile, that makes pending true anew and sends the next message. So none is lost.
 *
 * Events are pulses: nothing is asserted behind a bank, ISR reads 0, and an event that was masked when it
 * came is gone. Beside the registers there is little state: whether the message of the present pending was sent,
 * the level of the line, and whether failsafe mode ended it all.
 *
 * @module
 */

import {
  BANK_IER,
  BANK_IIR,
  BANK_IMR,
  INTERRUPT_BANKS,
  type InterruptBank,
  MASTER_ENABLE,
  MASTER_IRQ,
} from "./interrupt_banks.ts";
import type { PciConfig } from "./pci.ts";
import type { RegisterFile } from "./register_file.ts";
import type { VgpuCounters } from "./vgpu_counters.ts";

/** Where interrupts go. Its methods are called while the device works; they must not call it, nor throw. */
export interface InterruptSink {
  /** The device sends its one MSI message; address and data are in configuration space at this moment. */
  msi(): void;
  /**
   * The interrupt line, INTA, changes.
   *
   * @param asserted Its level from now on.
   */
  intx(asserted: boolean): void;
}

const BANKS: readonly InterruptBank[] = Object.values(INTERRUPT_BANKS);

/** IMR after reset. */
const ALL_MASKED = 0xffffffff;

/** What {@linkcode Interrupts.state} tells. */
export interface InterruptState {
  /** The master register. */
  readonly master: number;
  /** Whether an interrupt is due: enabled in the master register, and some bank has something. */
  readonly pending: boolean;
  /** Whether the guest enabled MSI. */
  readonly msi: boolean;
  /** Whether the line is asserted. */
  readonly intx: boolean;
  /** Banks that are not as after reset: name, IMR, IIR, IER. */
  readonly banks: readonly (readonly [name: string, imr: number, iir: number, ier: number])[];
}

/**
 * The interrupts of one vGPU.
 *
 * @example An event of the render engine becomes a message
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { BANK_IER, BANK_IMR, createDevice, INTERRUPT_BANKS, MASTER_IRQ } from "../../mod.ts";
 *
 * let messages = 0;
 * using device = createDevice({ interrupts: { msi: () => messages++, intx() {} } });
 * const { vgpu } = device;
 * vgpu.write(7, 0x04, 2, 0x6, 0); // command: memory, bus master
 * vgpu.write(7, 0x92, 2, 0x1, 0); // MSI enable
 * const { gt0 } = INTERRUPT_BANKS;
 * vgpu.write(0, gt0.isr + BANK_IMR, 4, ~0x1, 0);
 * vgpu.write(0, gt0.isr + BANK_IER, 4, 0x1, 0);
 * vgpu.write(0, MASTER_IRQ, 4, 0x80000000, 0);
 * vgpu.interrupts.raise(gt0, 0x1);
 * assertEquals(messages, 1);
 * ```
 */
export class Interrupts {
  readonly #registers: RegisterFile;
  readonly #pci: PciConfig;
  readonly #counters: VgpuCounters;
  readonly #sink: InterruptSink;
  /** Whether the message of the present pending was sent. */
  #isSent = false;
  #isAsserted = false;
  /** Whether the registers have lost their meaning. */
  #isSilent = false;

  /**
   * Nothing pending.
   *
   * @param registers Holds the registers of `INTERRUPT_REGISTERS`.
   * @param pci Tells whether and how interrupts may be sent.
   * @param counters Counts messages and edges.
   * @param sink Where interrupts go.
   */
  constructor(registers: RegisterFile, pci: PciConfig, counters: VgpuCounters, sink: InterruptSink) {
    this.#registers = registers;
    this.#pci = pci;
    this.#counters = counters;
    this.#sink = sink;
  }

  /**
   * Whether the device asserts its interrupt line.
   *
   * @returns The line's level.
   */
  get isAsserted(): boolean {
    return this.#isAsserted;
  }

  /**
   * Something happened: bits that are not masked become set in IIR and stay until the guest acknowledges.
   *
   * @param bank Where.
   * @param bits Which, 32 bits.
   *
   * @example A masked event is lost
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { BANK_IIR, BANK_IMR, createDevice, INTERRUPT_BANKS } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { interrupts, registers } = device.vgpu;
   * const { gt3 } = INTERRUPT_BANKS;
   * device.vgpu.write(0, gt3.isr + BANK_IMR, 4, ~0x100, 0);
   * interrupts.raise(gt3, 0x101);
   * assertEquals(registers.get(gt3.isr + BANK_IIR), 0x100);
   * ```
   */
  raise(bank: InterruptBank, bits: number): void {
    if (this.#isSilent) return;
    const iir = bank.isr + BANK_IIR;
    const masked = this.#registers.get(bank.isr + BANK_IMR);
    this.#registers.set(iir, this.#registers.get(iir) | (bits & ~masked));
    this.update();
  }

  /**
   * Brings the master register, the line and PCI's status bit in line with the banks and with configuration
   * space, and sends the message if one is due. Called after each change of these.
   *
   * @example Enabling MSI while an interrupt is due lowers the line and sends the message
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { BANK_IER, BANK_IMR, createDevice, INTERRUPT_BANKS, MASTER_IRQ } from "../../mod.ts";
   *
   * const seen: unknown[] = [];
   * using device = createDevice({ interrupts: { msi: () => seen.push("msi"), intx: (on) => seen.push(on) } });
   * const { vgpu } = device;
   * const { gt0 } = INTERRUPT_BANKS;
   * vgpu.write(0, gt0.isr + BANK_IMR, 4, 0, 0);
   * vgpu.write(0, gt0.isr + BANK_IER, 4, 1, 0);
   * vgpu.write(0, MASTER_IRQ, 4, 0x80000000, 0);
   * vgpu.interrupts.raise(gt0, 1);
   * assertEquals(seen, [true]);
   * vgpu.write(7, 0x04, 2, 0x6, 0); // command: memory, bus master
   * vgpu.write(7, 0x92, 2, 0x1, 0); // MSI enable
   * assertEquals(seen, [true, false, "msi"]);
   * ```
   */
  update(): void {
    if (this.#isSilent) return;
    const enabled = this.#registers.get(MASTER_IRQ) & MASTER_ENABLE;
    const summary = this.#summary();
    this.#registers.set(MASTER_IRQ, enabled | summary);
    this.#deliver(enabled !== 0 && summary !== 0);
  }

  /**
   * Sends again what is due: whoever hears the interrupts may not have been there when it was sent first.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice } from "../../mod.ts";
   *
   * let messages = 0;
   * using device = createDevice({ interrupts: { msi: () => messages++, intx() {} } });
   * device.vgpu.interrupts.resend();
   * assertEquals(messages, 0); // nothing is due
   * ```
   */
  resend(): void {
    this.#isSent = false;
    if (this.#isAsserted) this.#sink.intx(true);
    this.update();
  }

  /**
   * No interrupt any more, and the line is lowered: the registers have lost their meaning (failsafe mode).
   * Until {@linkcode reset}.
   */
  silence(): void {
    this.#deliver(false);
    this.#isSilent = true;
  }

  /** Nothing is pending and the line is lowered; the registers and configuration space were reset. */
  reset(): void {
    this.#isSilent = false;
    this.update();
  }

  /**
   * The tree, for views.
   *
   * @returns The registers that are not as after reset, and what follows from them.
   */
  state(): InterruptState {
    const master = this.#registers.get(MASTER_IRQ);
    const banks = BANKS.map(({ name, isr }) => {
      const [imr, iir, ier] = [BANK_IMR, BANK_IIR, BANK_IER].map((at) => this.#registers.get(isr + at));
      return [name, imr!, iir!, ier!] as const;
    });
    return {
      master,
      pending: master > MASTER_ENABLE,
      msi: this.#pci.isMsiEnabled,
      intx: this.#isAsserted,
      banks: banks.filter(([, imr, iir, ier]) => imr !== ALL_MASKED || iir !== 0 || ier !== 0),
    };
  }

  /** The bits of the master register that the banks ask for. */
  #summary(): number {
    let summary = 0;
    for (const { isr, summaries } of BANKS) {
      const active = this.#registers.get(isr + BANK_IIR) & this.#registers.get(isr + BANK_IER);
      if (active === 0) continue;
      for (const { bits, master } of summaries) if ((active & bits) !== 0) summary |= 1 << master;
    }
    return summary;
  }

  /** Sends the message or moves the line. Configuration space comes first: the sink may look at it. */
  #deliver(isPending: boolean): void {
    const pci = this.#pci;
    const isMsi = pci.isMsiEnabled;
    pci.setInterruptStatus(isPending && !isMsi);
    this.#setLine(isPending && !isMsi && pci.mayAssertIntx);
    if (!isPending || !isMsi) {
      this.#isSent = false;
    } else if (!this.#isSent && pci.mayAccessMemory) {
      this.#isSent = true;
      this.#counters.msis++;
      this.#sink.msi();
    }
  }

  #setLine(isAsserted: boolean): void {
    if (isAsserted === this.#isAsserted) return;
    this.#isAsserted = isAsserted;
    this.#counters.intxEdges++;
    this.#sink.intx(isAsserted);
  }
}
