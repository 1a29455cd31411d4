/**
 * What the witness (`--verify`) has seen.
 *
 * @module
 */

/** Guest memory, as the witness sees it. */
export interface GuestMemory {
  /** Reads one entry. @returns Whether there is RAM. */
  readEntry(gpa: number, out: Uint32Array): boolean;
  /** Reads one page. @returns Whether there is RAM. */
  readPage(gfn: number, out: Uint32Array): boolean;
  /** Host frame of a guest frame, or -1. */
  mfnOf(gfn: number): number;
  /** Guest frame of a host frame, or -1. */
  gfnOf(mfn: number): number;
}

/** What a witness has seen. */
export class WitnessCounters {
  /** Contexts that began under its eyes; where stores trap, each with a look at all its page tables. */
  verifiedSubmissions = 0;
  /** Entries of page tables compared, where stores trap. */
  verifiedEntries = 0;
  /** Translations compared with a walk through the guest's own tables, where nothing traps. */
  verifiedTranslations = 0;
  /** Translations that were others at first and right when they were made again: the guest was changing its tables. */
  verifyLate = 0;
  /** Page tables and translations that were wrong. */
  verifyMismatches = 0;
}
