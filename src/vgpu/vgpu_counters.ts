/**
 * What the outside of one vGPU has seen: accesses by region, and the guest's mistakes.
 *
 * @module
 */

/** Counts since the vGPU was made. Guest mistakes begin with `bad`. */
export class VgpuCounters {
  /** Reads of region 0: registers and GTT window. */
  bar0Reads = 0;
  /** Writes to region 0. */
  bar0Writes = 0;
  /** Reads through the aperture. */
  apertureReads = 0;
  /** Writes through the aperture. */
  apertureWrites = 0;
  /** Reads of PCI configuration space. */
  configReads = 0;
  /** Writes to PCI configuration space. */
  configWrites = 0;
  /** MSI messages sent. */
  msis = 0;
  /** Changes of the interrupt line's level, either way. */
  intxEdges = 0;
  /** Writes to a TLB invalidation register. */
  tlbInvalidations = 0;
  /** Resets of the device. */
  deviceResets = 0;
  /** Notifications by which the guest announced a page table or took it back. */
  g2vNotifications = 0;
  /** Notifications that are unknown or ended in an error. */
  badG2vNotifications = 0;
  /** Writes to registers that are read-only. */
  badRegisterWrites = 0;
  /** Accesses of a size or alignment that the region does not have. */
  badAccesses = 0;
  /** Reads of PVINFO registers that mean nothing. */
  badPvinfoReads = 0;
  /** Writes to PVINFO registers that cannot be written. */
  badPvinfoWrites = 0;
  /** Aperture accesses that lead to no guest RAM. */
  badApertureAccesses = 0;
  /** Times the device gave up on the guest and became plain storage. */
  failsafes = 0;
}
