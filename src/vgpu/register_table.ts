/**
 * Registers as data: a *table* of rows says what each register is.
 *
 * A register is 4 bytes. One that no row names is plain storage with reset value 0, and costs a single look
 * into an array by its offset. A row's *access* says what a guest's write changes, in hardware's own terms; a
 * row's *block* is the part of the device that acts on the write. What a table's registers hold is in a
 * `register_file.ts`.
 *
 * @module
 */

/** Bytes of registers at the start of region 0. */
export const REGISTERS_SIZE = 0x200000;

/** Rows of a table: a row's number fits a byte, and 0 is plain storage. */
const MAX_ROWS = 255;

/**
 * What a guest's write does to a register.
 *
 * - `rw`: the writable bits take the value's.
 * - `ro`: nothing; only the device changes it.
 * - `w1c`: writable bits that are written as one become zero.
 * - `mode`: the value's upper half says which bits of its lower half count; the upper half reads 0.
 * - `trigger`: nothing is kept, the write only acts; it reads its reset value.
 * - `live`: nothing; the block is asked for the value whenever the guest reads.
 */
export type Access = "rw" | "ro" | "w1c" | "mode" | "trigger" | "live";

/** A register, or several alike: one per bank or engine. */
export interface Register<Block extends string = string> {
  /** Its name in the hardware's documentation. */
  readonly name: string;
  /** Where it is, bytes from the start of region 0, multiples of 4. */
  readonly offsets: readonly number[];
  /** What a guest's write does. */
  readonly access: Access;
  /** Its value after reset, 32 bits. Default 0. */
  readonly reset?: number;
  /** Bits that a write can change. Default all. */
  readonly writable?: number;
  /** Whether batches without privilege may not write it. Default false. */
  readonly privileged?: boolean;
  /** The part of the device that acts on writes, or has the value of a `live` register. */
  readonly block?: Block;
  /** What a reader of the table should know. */
  readonly note: string;
}

/** A part of the device, as its registers see it. */
export interface RegisterBlock {
  /**
   * The guest wrote a register of this block, which has its new value by now.
   *
   * @param offset The register, a multiple of 4.
   * @param value What was written; bytes that were not enabled are 0.
   */
  written?(offset: number, value: number): void;
  /**
   * The guest reads a `live` register of this block.
   *
   * @param offset The register, a multiple of 4.
   * @returns Its value now, 32 bits.
   */
  live?(offset: number): number;
}

/** A row of a table: a register with nothing left out. */
export interface RegisterRow<Block extends string = string> extends Register<Block> {
  /** Its value after reset, 32 bits. */
  readonly reset: number;
  /** Bits that a write can change. */
  readonly writable: number;
}

/**
 * What is where: built once, used by every file.
 *
 * @example A register at two places, as one row
 * ```ts
 * import { assertEquals, assertThrows } from "@std/assert";
 * import { type Register, RegisterTable } from "../../mod.ts";
 *
 * const imr: Register = { name: "IMR", offsets: [0x44304, 0x44314], access: "rw", reset: 0xffffffff, note: "" };
 * const table = new RegisterTable([imr]);
 * assertEquals(table.at(0x44314)?.name, "IMR");
 * assertEquals(table.at(0x44318), undefined); // plain storage
 * assertThrows(() => new RegisterTable([imr, imr]), RangeError, "IMR and IMR are both at 0x44304");
 * ```
 */
export class RegisterTable<Block extends string = string> {
  /** The number of the row of each register, from 1; 0 is plain storage. */
  readonly rowNumbers: Uint8Array = new Uint8Array(REGISTERS_SIZE / 4);
  readonly #rows: RegisterRow<Block>[] = [];

  /**
   * A table of these rows.
   *
   * @param rows At most 255, no two at one offset.
   * @throws {RangeError} When rows are too many, or an offset is taken, misaligned or no register's.
   */
  constructor(rows: readonly Register<Block>[]) {
    if (rows.length > MAX_ROWS) {
      throw new RangeError(`a table has at most ${MAX_ROWS} rows: got ${rows.length}`);
    }
    for (const row of rows) {
      this.#rows.push({ ...row, reset: row.reset ?? 0, writable: row.writable ?? 0xffffffff });
      for (const offset of row.offsets) this.#place(offset, row);
    }
  }

  #place(offset: number, { name }: Register<Block>): void {
    const where = `0x${offset.toString(16)}`;
    if (offset % 4 !== 0 || offset < 0 || offset >= REGISTERS_SIZE) {
      throw new RangeError(`${name} cannot be at ${where}`);
    }
    const taken = this.at(offset);
    if (taken !== undefined) throw new RangeError(`${taken.name} and ${name} are both at ${where}`);
    this.rowNumbers[offset / 4] = this.#rows.length;
  }

  /**
   * The row of a register.
   *
   * @param offset Bytes, 0 to the end of the registers; any byte of the register.
   * @returns The row, or `undefined` for plain storage.
   */
  at(offset: number): RegisterRow<Block> | undefined {
    const number = this.rowNumbers[offset >> 2]!;
    return number === 0 ? undefined : this.row(number);
  }

  /**
   * The row with this number.
   *
   * @param number 1 to the number of rows, from {@linkcode rowNumbers}.
   * @returns The row.
   */
  row(number: number): RegisterRow<Block> {
    return this.#rows[number - 1]!;
  }

  /**
   * Every row.
   *
   * @returns The rows in the order they were given.
   */
  get rows(): readonly RegisterRow<Block>[] {
    return this.#rows;
  }
}
