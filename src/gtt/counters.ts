/**
 * What one vGPU's engine has done and seen. Plain numbers, only ever incremented; they cost one addition each.
 *
 * @module
 */

/**
 * What following the guest's page tables has cost so far, in units of about a command of the streamers.
 *
 * @param counters Counters of an engine.
 * @returns Tables made, freed and compared, and large pages that were looked at in vain.
 */
export function pageTableWork(counters: Counters): number {
  return counters.tablesBuilt + counters.tablesFreed + counters.compared + counters.badLargePages;
}

/** Counts since the engine was created. Guest errors are the ones that begin with `bad`. */
export class Counters {
  /** GGTT entries read by the guest. */
  ggttReads = 0;
  /** GGTT entries stored by the guest, inside its windows. */
  ggttWrites = 0;
  /** GGTT stores outside the windows, dropped (`engine.md` §7.2). */
  badGgttWrites = 0;
  /** Leaf entries aimed at scratch because their frame is no guest RAM or cannot be translated. */
  badLeaves = 0;
  /** Large pages refused (`engine.md` §15, 14), those of 2 MiB with a frame that cannot be translated (§17.1) among them. */
  badLargePages = 0;
  /** Directory entries refused because the table they want is no guest RAM (`engine.md` §16). */
  badTables = 0;
  /** Entries and pages of tables that could not be followed, where nothing traps, because the host failed (`engine.md` §16.3). */
  badLooks = 0;
  /** Trapped stores that ended in an error. */
  badTrappedStores = 0;
  /** Stores dispatched to page tracks. */
  trappedStores = 0;
  /** Shadow tables built. */
  tablesBuilt = 0;
  /** Shadow tables freed. */
  tablesFreed = 0;
  /** 2 MiB pages shadowed as one entry (`engine.md` §17.1). */
  wholeLargePages = 0;
  /** 2 MiB pages shadowed as a table of 4 KiB pages (`engine.md` §17.1). */
  splitLargePages = 0;
  /** Address spaces created. */
  mmsCreated = 0;
  /** Address spaces whose shadow was taken to make room (`engine.md` §11). */
  mmsReclaimed = 0;
  /** Address spaces whose shadow could not be rebuilt when guest RAM changed; the next pin tries again. */
  shadowsLost = 0;
  /** Pages taken out of sync. */
  outOfSync = 0;
  /** Out-of-sync pages brought back in sync; without write protection: brought up to date. */
  synced = 0;
  /** Tables compared with their pages where nothing traps (`engine.md` §16). */
  compared = 0;
  /** Entries applied by flushing the post-shadow queue. */
  flushed = 0;
  /** Resets of the whole engine. */
  resets = 0;
}
