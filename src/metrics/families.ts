/**
 * Every metric of a device, as data. Prometheus' text and OpenTelemetry's instruments are both made from this table.
 *
 * A *family* is one name with its type and help; its *series* tell which value of a {@linkcode Reading} stands under which
 * labels. A series whose value is not in the reading is not exported.
 *
 * @module
 */

import { PROTOCOL_VERSION } from "../../protocol/limits.ts";
import { SERVER_NAME } from "../server/server_name.ts";

/** Values by name: what `stats` answers, and {@linkcode ownReading}. */
export type Reading = Readonly<Record<string, number>>;

/** Labels of a series; all series of a family have the same names. */
export type Labels = Readonly<Record<string, string>>;

/** One value of a family. */
export interface MetricSeries {
  /** What tells it from the others of its family. */
  readonly labels: Labels;
  /** Which value of a reading it is. */
  readonly key: string;
}

/** A metric. */
export interface MetricFamily {
  /** Its name by Prometheus' conventions: base units, and `_total` for counters alone. */
  readonly name: string;
  /** A counter falls back to 0 when a VMM goes; a gauge goes up and down. */
  readonly type: "counter" | "gauge";
  /** What it is, one sentence. */
  readonly help: string;
  /** Its unit as UCUM writes it, which OpenTelemetry wants; empty for mere numbers. */
  readonly unit: "" | "By" | "s";
  /** Its values. */
  readonly series: readonly MetricSeries[];
}

/** A counter of `stats`. */
function counter(name: string, help: string, series: readonly MetricSeries[]): MetricFamily {
  return { name, type: "counter", help, unit: "", series };
}

/** A gauge. */
function gauge(
  name: string,
  help: string,
  series: readonly MetricSeries[],
  unit: MetricFamily["unit"] = "",
): MetricFamily {
  return { name, type: "gauge", help, unit, series };
}

/** The only series of a family. */
function only(key: string, labels: Labels = {}): readonly MetricSeries[] {
  return [{ labels, key }];
}

/** Series that differ in one label, by its values. */
function by(label: string, keys: Readonly<Record<string, string>>): readonly MetricSeries[] {
  return Object.entries(keys).map(([value, key]) => ({ labels: { [label]: value }, key }));
}

/** Series of reads and writes. */
function accesses(labels: Labels, reads: string, writes: string): readonly MetricSeries[] {
  return [
    { labels: { ...labels, access: "read" }, key: reads },
    { labels: { ...labels, access: "write" }, key: writes },
  ];
}

const BUILD: Labels = {
  version: SERVER_NAME.replace(/^.*\//, ""),
  protocol: String(PROTOCOL_VERSION),
  deno: Deno.version.deno,
};

/** All metrics, in the order in which they are exported. */
export const METRIC_FAMILIES: readonly MetricFamily[] = [
  gauge("vgtt_build_info", "What this device is; the value is always 1.", only("build", BUILD)),
  gauge(
    "process_start_time_seconds",
    "When the device started, since the Unix epoch.",
    only("startSeconds"),
    "s",
  ),
  gauge("process_resident_memory_bytes", "Memory of the device's process.", only("residentBytes"), "By"),
  gauge(
    "vgtt_vmm_attached",
    "Whether a VMM drives the device. When it goes, all counters fall back to 0.",
    only("vmmAttached"),
  ),

  // What the guest does.
  counter("vgtt_region_accesses_total", "Accesses of the guest to a region of the device.", [
    ...accesses({ region: "bar0" }, "bar0Reads", "bar0Writes"),
    ...accesses({ region: "aperture" }, "apertureReads", "apertureWrites"),
    ...accesses({ region: "config" }, "configReads", "configWrites"),
  ]),
  counter(
    "vgtt_ggtt_accesses_total",
    "GGTT entries that the guest read, or stored inside its windows; part of what goes to bar0.",
    accesses({}, "ggttReads", "ggttWrites"),
  ),
  counter("vgtt_ggtt_flushes_total", "Flushes of the host's GGTT.", only("ggttFlushes")),
  counter("vgtt_tlb_invalidations_total", "Writes to a TLB invalidation register.", only("tlbInvalidations")),
  counter(
    "vgtt_interrupt_signals_total",
    "Interrupts told to the VMM: MSI messages, and changes of INTA's level, either way.",
    by("kind", { msi: "msis", intx: "intxEdges" }),
  ),
  counter(
    "vgtt_g2v_notifications_total",
    "Notifications by which the guest announced a page table or took it back.",
    only("g2vNotifications"),
  ),
  counter(
    "vgtt_resets_total",
    "Resets: of the device, of a command streamer, of the shadow page-table engine.",
    by("kind", { device: "deviceResets", streamer: "engineResets", gtt: "resets" }),
  ),

  // What engines do.
  counter(
    "vgtt_submissions_total",
    "Contexts that were submitted to an engine and begun.",
    by("engine", {
      rcs0: "submissionsRcs0",
      bcs0: "submissionsBcs0",
      vcs0: "submissionsVcs0",
      vecs0: "submissionsVecs0",
    }),
  ),
  counter(
    "vgtt_lite_restores_total",
    "Submissions that went on with the context that was running.",
    only("liteRestores"),
  ),
  counter("vgtt_commands_total", "Commands that were carried out or skipped.", only("csCommands")),
  counter("vgtt_blits_total", "Blits that were carried out.", only("csBlits")),
  counter(
    "vgtt_unsupported_total",
    "What the device does not do: operations that did nothing, blits that were skipped.",
    by("kind", { operation: "csUnknownCommands", blit: "csSkippedBlits" }),
  ),
  counter(
    "vgtt_engine_errors_total",
    "Mistakes in what the guest gave engines to do.",
    by("kind", {
      refused_submission: "csRefusedSubmissions",
      fault: "csFaults",
      read: "csBadReads",
      write: "csBadWrites",
      register_write: "csBadRegisterWrites",
      privilege: "csPrivilegeViolations",
    }),
  ),

  // Shadow page tables.
  gauge("vgtt_ppgtts", "Address spaces that there are.", only("mms")),
  counter("vgtt_ppgtts_created_total", "Address spaces created.", only("mmsCreated")),
  counter(
    "vgtt_ppgtts_reclaimed_total",
    "Address spaces whose shadow was taken to make room.",
    only("mmsReclaimed"),
  ),
  counter(
    "vgtt_shadows_lost_total",
    "Address spaces whose shadow could not be rebuilt when guest RAM changed.",
    only("shadowsLost"),
  ),
  gauge("vgtt_shadow_tables", "Shadow tables that there are.", only("shadowTables")),
  counter("vgtt_shadow_tables_built_total", "Shadow tables built.", only("tablesBuilt")),
  counter("vgtt_shadow_tables_freed_total", "Shadow tables freed.", only("tablesFreed")),
  counter(
    "vgtt_tables_compared_total",
    "Tables compared with the guest's page, where nothing traps.",
    only("compared"),
  ),
  counter(
    "vgtt_large_pages_shadowed_total",
    "Pages of 2 MiB shadowed, as one entry or as a table.",
    by("kind", { whole: "wholeLargePages", split: "splitLargePages" }),
  ),
  gauge("vgtt_page_tracks", "Page tracks that are enabled.", only("enabledTracks")),
  gauge("vgtt_protected_frames", "Guest frames whose stores the VMM is to trap.", only("protectedFrames")),
  counter(
    "vgtt_trapped_stores_total",
    "Trapped stores that were handed to page tracks.",
    only("trappedStores"),
  ),
  counter(
    "vgtt_post_shadow_entries_total",
    "Entries applied by flushing the post-shadow queue.",
    only("flushed"),
  ),
  gauge("vgtt_out_of_sync_pages", "Pages that are out of sync.", only("outOfSyncPages")),
  gauge("vgtt_free_out_of_sync_pages", "Pages that may still go out of sync.", only("freeOosPages")),
  counter("vgtt_pages_gone_out_of_sync_total", "Pages taken out of sync.", only("outOfSync")),
  counter("vgtt_pages_synced_total", "Pages brought back in sync, or up to date.", only("synced")),
  counter(
    "vgtt_guest_errors_total",
    "Mistakes of the guest in accesses, page tables and notifications.",
    by("kind", {
      access: "badAccesses",
      register_write: "badRegisterWrites",
      pvinfo_read: "badPvinfoReads",
      pvinfo_write: "badPvinfoWrites",
      aperture_access: "badApertureAccesses",
      g2v_notification: "badG2vNotifications",
      ggtt_write: "badGgttWrites",
      leaf: "badLeaves",
      large_page: "badLargePages",
      table: "badTables",
      trapped_store: "badTrappedStores",
    }),
  ),
  counter(
    "vgtt_failsafes_total",
    "Times the device gave up on the guest and became plain storage.",
    only("failsafes"),
  ),

  // The host and the VMM.
  gauge("vgtt_ram_regions", "Regions of guest RAM.", only("ramRegions")),
  counter(
    "vgtt_failed_looks_total",
    "Entries and pages of tables that could not be followed because the host failed.",
    only("badLooks"),
  ),
  counter(
    "vgtt_failed_notifications_total",
    "Notifications of the VMM that were refused.",
    only("failedNotifications"),
  ),
  counter("vgtt_recorded_events_total", "Events that were recorded (--record).", only("recordedEvents")),

  // The witness.
  counter(
    "vgtt_verified_total",
    "What --verify compared: contexts, entries of page tables, translations.",
    by("kind", {
      submission: "verifiedSubmissions",
      entry: "verifiedEntries",
      translation: "verifiedTranslations",
    }),
  ),
  counter(
    "vgtt_verify_late_total",
    "Translations that were right when made again, because the guest was changing its tables.",
    only("verifyLate"),
  ),
  counter(
    "vgtt_verify_mismatches_total",
    "Page tables and translations that were wrong: bugs of the device.",
    only("verifyMismatches"),
  ),
];

/**
 * What is known without asking the device.
 *
 * @returns Values of `build`, `startSeconds` and `residentBytes`.
 */
export function ownReading(): Reading {
  return {
    build: 1,
    startSeconds: performance.timeOrigin / 1000,
    residentBytes: Deno.memoryUsage().rss,
  };
}
