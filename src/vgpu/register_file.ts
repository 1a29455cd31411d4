/**
 * The values of registers, under the rules of a table.
 *
 * A guest's write changes a register as its row's access says; then the row's block is told. The device itself
 * changes a register by {@linkcode RegisterFile.set}, which knows no read-only bits and tells nobody.
 *
 * Accesses of 1 and 2 bytes are byte enables: bytes that are not enabled neither change nor clear anything.
 * One of 8 bytes is two of 4, lower offset first.
 *
 * @module
 */

import {
  type RegisterBlock,
  type RegisterRow,
  REGISTERS_SIZE,
  type RegisterTable,
} from "./register_table.ts";
import { VgpuCounters } from "./vgpu_counters.ts";

/**
 * The values of all registers of one vGPU.
 *
 * @example A mode register: its upper half says which bits count
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { RegisterFile, RegisterTable } from "../../mod.ts";
 *
 * const table = new RegisterTable([{ name: "MI_MODE", offsets: [0x209c], access: "mode", note: "" }]);
 * const registers = new RegisterFile(table, {});
 * registers.write(0x209c, 4, 0x00030003, 0);
 * registers.write(0x209c, 4, 0x00010000, 0);
 * assertEquals(registers.get(0x209c), 0x2);
 * ```
 */
export class RegisterFile<Block extends string = string> {
  readonly #table: RegisterTable<Block>;
  readonly #rowNumbers: Uint8Array;
  readonly #blocks: Readonly<Record<Block, RegisterBlock>>;
  readonly #counters: VgpuCounters;
  readonly #dwords = new Uint32Array(REGISTERS_SIZE / 4);
  readonly #halves = new Uint16Array(this.#dwords.buffer);
  readonly #bytes = new Uint8Array(this.#dwords.buffer);

  /**
   * Registers with their reset values.
   *
   * @param table What is where.
   * @param blocks Who acts on writes, by the names that the table uses.
   * @param counters Counts writes to what is read-only.
   */
  constructor(
    table: RegisterTable<Block>,
    blocks: Readonly<Record<Block, RegisterBlock>>,
    counters: VgpuCounters = new VgpuCounters(),
  ) {
    this.#table = table;
    this.#rowNumbers = table.rowNumbers;
    this.#blocks = blocks;
    this.#counters = counters;
    this.#setResetValues(); // the others are 0, in pages that are not there until something is written
  }

  /**
   * Puts every register back to its reset value. No block is told.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { RegisterFile, RegisterTable } from "../../mod.ts";
   *
   * const registers = new RegisterFile(new RegisterTable([]), {});
   * registers.write(0x2030, 4, 0xabc, 0);
   * registers.reset();
   * assertEquals(registers.get(0x2030), 0);
   * ```
   */
  reset(): void {
    this.#dwords.fill(0);
    this.#setResetValues();
  }

  /**
   * The value of a register, for the device.
   *
   * @param offset A multiple of 4.
   * @returns What it holds, 32 bits; of a `live` one, what the guest read last.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { BANK_IMR, createDevice, INTERRUPT_BANKS } from "../../mod.ts";
   *
   * using device = createDevice();
   * assertEquals(device.vgpu.registers.get(INTERRUPT_BANKS.gt0.isr + BANK_IMR), 0xffffffff); // all is masked
   * ```
   */
  get(offset: number): number {
    return this.#dwords[offset >> 2]!;
  }

  /**
   * Changes a register, for the device: whatever its access, and no block is told.
   *
   * @param offset A multiple of 4.
   * @param value 32 bits.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { RegisterFile, RegisterTable } from "../../mod.ts";
   *
   * const registers = new RegisterFile(new RegisterTable([]), {});
   * registers.set(0x2074, 0x1234);
   * assertEquals(registers.get(0x2074), 0x1234);
   * ```
   */
  set(offset: number, value: number): void {
    this.#dwords[offset >> 2] = value;
  }

  /**
   * The guest reads.
   *
   * @param offset Bytes, a multiple of `size`.
   * @param size 1, 2, 4 or 8.
   * @param out Receives the value: lane 0, and for size 8 lane 1; the others stay.
   *
   * @example One byte of a register
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { RegisterFile, RegisterTable } from "../../mod.ts";
   *
   * const registers = new RegisterFile(new RegisterTable([]), {});
   * registers.write(0x2030, 4, 0x12345678, 0);
   * const out = new Uint32Array(2);
   * registers.read(0x2032, 1, out);
   * assertEquals(out[0], 0x34);
   * ```
   */
  read(offset: number, size: number, out: Uint32Array): void {
    if (this.#rowNumbers[offset >> 2] !== 0) this.#refresh(offset);
    if (size === 8 && this.#rowNumbers[(offset >> 2) + 1] !== 0) this.#refresh(offset + 4);
    this.readStored(offset, size, out);
  }

  /**
   * Reads what was stored, without any meaning: what failsafe mode does.
   *
   * @param offset Bytes, a multiple of `size`.
   * @param size 1, 2, 4 or 8.
   * @param out Receives the value: lane 0, and for size 8 lane 1; the others stay.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { RegisterFile, RegisterTable } from "../../mod.ts";
   *
   * const row = { name: "TIMESTAMP", offsets: [0x2358], access: "live", block: "clock", note: "" } as const;
   * const registers = new RegisterFile(new RegisterTable([row]), { clock: { live: () => 0x1234 } });
   * registers.store(0x2358, 4, 7);
   * const out = new Uint32Array(2);
   * registers.readStored(0x2358, 4, out);
   * assertEquals(out[0], 7);
   * ```
   */
  readStored(offset: number, size: number, out: Uint32Array): void {
    if (size === 4) {
      out[0] = this.#dwords[offset >> 2]!;
    } else if (size === 8) {
      out[0] = this.#dwords[offset >> 2]!;
      out[1] = this.#dwords[(offset >> 2) + 1]!;
    } else {
      out[0] = size === 2 ? this.#halves[offset >> 1]! : this.#bytes[offset]!;
    }
  }

  /**
   * The guest writes.
   *
   * @param offset Bytes, a multiple of `size`.
   * @param size 1, 2, 4 or 8.
   * @param lo Low lane of the value; of it the low `size` bytes count.
   * @param hi High lane of the value, for size 8.
   *
   * @example Clearing by ones
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { RegisterFile, RegisterTable } from "../../mod.ts";
   *
   * const table = new RegisterTable([{ name: "IIR", offsets: [0x44308], access: "w1c", note: "" }]);
   * const registers = new RegisterFile(table, {});
   * registers.set(0x44308, 0x0909);
   * registers.write(0x44309, 1, 0xff, 0); // only the second byte is enabled
   * assertEquals(registers.get(0x44308), 0x0009);
   * ```
   */
  write(offset: number, size: number, lo: number, hi: number): void {
    if (size >= 4) {
      this.#write4(offset, lo);
      if (size === 8) this.#write4(offset + 4, hi);
    } else if (this.#rowNumbers[offset >> 2] === 0) {
      this.store(offset, size, lo);
    } else {
      const enabled = (1 << (8 * size)) - 1;
      const shift = 8 * (offset & 3);
      this.#writeRow(offset & ~3, (lo & enabled) << shift, enabled << shift);
    }
  }

  /**
   * Stores without any meaning, whatever the access of the register: what failsafe mode does.
   *
   * @param offset Bytes, a multiple of `size`.
   * @param size 1, 2 or 4.
   * @param value Of it the low `size` bytes count.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { RegisterFile, RegisterTable } from "../../mod.ts";
   *
   * const table = new RegisterTable([{ name: "GDRST", offsets: [0x941c], access: "trigger", note: "" }]);
   * const registers = new RegisterFile(table, {});
   * registers.store(0x941c, 4, 1);
   * assertEquals(registers.get(0x941c), 1);
   * ```
   */
  store(offset: number, size: number, value: number): void {
    if (size === 4) this.#dwords[offset >> 2] = value;
    else if (size === 2) this.#halves[offset >> 1] = value;
    else this.#bytes[offset] = value;
  }

  /**
   * What the guest would read of a register now, for views: nothing changes.
   *
   * @param offset A multiple of 4.
   * @returns The value, 32 bits.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { RegisterFile, RegisterTable } from "../../mod.ts";
   *
   * const row = { name: "TIMESTAMP", offsets: [0x2358], access: "live", block: "clock", note: "" } as const;
   * const registers = new RegisterFile(new RegisterTable([row]), { clock: { live: () => 0x1234 } });
   * assertEquals([registers.peek(0x2358), registers.get(0x2358)], [0x1234, 0]);
   * ```
   */
  peek(offset: number): number {
    const number = this.#rowNumbers[offset >> 2]!;
    return number === 0 ? this.#dwords[offset >> 2]! : this.#valueOf(this.#table.row(number), offset);
  }

  /**
   * A command of an engine reads, as the guest would.
   *
   * @param offset A multiple of 4.
   * @returns The value, 32 bits.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { RegisterFile, RegisterTable } from "../../mod.ts";
   *
   * const row = { name: "TIMESTAMP", offsets: [0x2358], access: "live", block: "clock", note: "" } as const;
   * const registers = new RegisterFile(new RegisterTable([row]), { clock: { live: () => 0x1234 } });
   * assertEquals(registers.load(0x2358), 0x1234);
   * ```
   */
  load(offset: number): number {
    if (this.#rowNumbers[offset >> 2] !== 0) this.#refresh(offset);
    return this.#dwords[offset >> 2]!;
  }

  /**
   * A command of an engine writes: as the guest would, but only where nothing acts on it.
   *
   * @param offset A multiple of 4.
   * @param value 32 bits.
   * @param isPrivileged Whether the command is.
   * @returns Whether it may; if not, nothing has changed.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { registers } = device.vgpu;
   * assertEquals([registers.storeQuietly(0x2600, 7, false), registers.get(0x2600)], [true, 7]);
   * assertEquals(registers.storeQuietly(0x23a0, 0x70007, false), false); // the status buffer's pointers
   * assertEquals(registers.storeQuietly(0x941c, 1, true), false); // no batch resets the GPU
   * ```
   */
  storeQuietly(offset: number, value: number, isPrivileged: boolean): boolean {
    const number = this.#rowNumbers[offset >> 2]!;
    if (number !== 0) {
      const { access, block, privileged } = this.#table.row(number);
      if (block !== undefined || access === "ro" || (privileged === true && !isPrivileged)) return false;
    }
    this.#write4(offset, value);
    return true;
  }

  #setResetValues(): void {
    for (const { offsets, reset } of this.#table.rows) {
      if (reset !== 0) { for (const offset of offsets) this.#dwords[offset >> 2] = reset; }
    }
  }

  #write4(offset: number, value: number): void {
    if (this.#rowNumbers[offset >> 2] === 0) this.#dwords[offset >> 2] = value;
    else this.#writeRow(offset, value, -1);
  }

  /** A write to a register that the table has: what its access makes of the enabled bytes. */
  #writeRow(offset: number, value: number, enabled: number): void {
    const row = this.#table.row(this.#rowNumbers[offset >> 2]!);
    const old = this.#dwords[offset >> 2]!;
    switch (row.access) {
      case "rw": {
        const bits = enabled & row.writable;
        this.#dwords[offset >> 2] = (old & ~bits) | (value & bits);
        break;
      }
      case "w1c":
        this.#dwords[offset >> 2] = old & ~(value & row.writable);
        break;
      case "mode": {
        const bits = (value >>> 16) & row.writable;
        this.#dwords[offset >> 2] = (old & ~bits) | (value & bits);
        break;
      }
      case "trigger":
        break;
      case "ro":
      case "live":
        this.#counters.badRegisterWrites++;
        return;
    }
    if (row.block !== undefined) this.#blocks[row.block].written?.(offset, value >>> 0);
  }

  /** Takes the value of a register that is computed when it is read. */
  #refresh(offset: number): void {
    const row = this.#table.row(this.#rowNumbers[offset >> 2]!);
    if (row.access === "live") this.#dwords[offset >> 2] = this.#valueOf(row, offset);
  }

  #valueOf({ access, block }: RegisterRow<Block>, offset: number): number {
    if (access !== "live" || block === undefined) return this.#dwords[offset >> 2]!;
    return this.#blocks[block].live?.(offset & ~3) ?? 0;
  }
}
