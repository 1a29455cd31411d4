/**
 * What the engines have done and what guests' commands came to.
 *
 * @module
 */

/** Counts since the vGPU was made. Guest mistakes have `Bad`, `Refused` or `Violations` in their names. */
export class StreamerCounters {
  /** Contexts that were submitted to the render engine and begun. */
  submissionsRcs0 = 0;
  /** The same of the blitter. */
  submissionsBcs0 = 0;
  /** The same of the video engine. */
  submissionsVcs0 = 0;
  /** The same of the video enhancement engine. */
  submissionsVecs0 = 0;
  /** Submissions that went on with the context that was running. */
  liteRestores = 0;
  /** Submissions that were refused: a wrong descriptor, or a context, ring or page table that cannot be. */
  csRefusedSubmissions = 0;
  /** Commands carried out or skipped. */
  csCommands = 0;
  /** Instructions of MI_MATH and operations of MI_ATOMIC that are not known, and did nothing. */
  csUnknownCommands = 0;
  /** Blits carried out. */
  csBlits = 0;
  /** Blits that are not linear, or not supported, and were skipped. */
  csSkippedBlits = 0;
  /** Faults: accesses to what is not mapped, and commands that are none. */
  csFaults = 0;
  /** Reads that led nowhere and gave 0. */
  csBadReads = 0;
  /** Writes that led nowhere, or to a read-only page, and were dropped. */
  csBadWrites = 0;
  /** Stores to registers that commands cannot change. */
  csBadRegisterWrites = 0;
  /** Commands of a batch without privilege that need it, and did nothing. */
  csPrivilegeViolations = 0;
  /** Resets of an engine. */
  engineResets = 0;
}
