/**
 * What somebody sees who checks the engines while they work (`--verify`).
 *
 * @module
 */

import type { PpgttMm } from "../gtt/mm.ts";
import type { EngineInfo } from "./engines.ts";

/** Checks page tables and translations beside the engines. */
export interface StreamerWitness {
  /**
   * A context begins, or goes on with more commands.
   *
   * @param mm Its address space, pinned; its tables have been brought up to date, or will be as they are used.
   * @param engine Which engine runs it.
   */
  began(mm: PpgttMm, engine: EngineInfo): void;
  /** An engine has translated an address; `null` if nobody wants to know. */
  readonly translated: TranslationCheck | null;
}

/**
 * Checks a translation.
 *
 * @param mm The address space.
 * @param gma Graphics address, bytes.
 * @param gfn Guest frame that it led to, or -1.
 * @param isWritable Whether each entry on the way allows writing; means nothing where it led nowhere.
 * @param engine Which engine asked.
 * @param again Walks once more, after an invalidation.
 */
export type TranslationCheck = (
  mm: PpgttMm,
  gma: number,
  gfn: number,
  isWritable: boolean,
  engine: EngineInfo,
  again: () => Translation,
) => void;

/** Where an address leads. */
export interface Translation {
  /** Guest frame, or -1. */
  readonly gfn: number;
  /** Whether each entry on the way allows writing. */
  readonly isWritable: boolean;
}
