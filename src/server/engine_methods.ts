/**
 * The engine's documented functions as methods.
 *
 * @module
 */

import { fromLanes, highLane, lowLane } from "../../protocol/u64.ts";
import { INVALID_ADDR } from "../gtt/address.ts";
import { ShadowTable } from "../gtt/shadow_table.ts";
import type { VgpuGtt } from "../gtt/vgpu_gtt.ts";
import { engineError, type Handlers, orThrow } from "./handlers.ts";
import type { ServedDevice } from "./served_device.ts";

/** The names of these methods. */
export type EngineMethod =
  | "gvt_init_gtt"
  | "gvt_clean_gtt"
  | "vgpu_init_gtt"
  | "vgpu_clean_gtt"
  | "reset_ggtt"
  | "reset_gtt"
  | "sync_oos_pages"
  | "flush_post_shadow"
  | "submit"
  | "gtt_mmio_read"
  | "gtt_mmio_write"
  | "mm_create"
  | "mm_destroy"
  | "mm_pin"
  | "mm_unpin"
  | "mm_ref"
  | "mm_unref"
  | "mm_find"
  | "g2v_create_ppgtt_mm"
  | "g2v_destroy_ppgtt_mm"
  | "gma_to_gpa"
  | "init_page_track"
  | "clean_page_track"
  | "enable_page_track"
  | "disable_page_track"
  | "find_tracked_page"
  | "ggtt_validate_range"
  | "ggtt_gmadr_g2h"
  | "ggtt_gmadr_h2g"
  | "ggtt_index_g2h"
  | "ggtt_index_h2g";

/** The handlers of these methods. */
export function engineMethods(served: ServedDevice): Handlers<EngineMethod> {
  return {
    ...lifeCycleMethods(served),
    ...mmMethods(served),
    ...ggttMethods(served),
    ...trackMethods(served),
  };
}

/** Four root values as eight lanes. */
export function rootLanes(roots: readonly (number | bigint)[]): Uint32Array {
  return Uint32Array.from(roots.flatMap((root) => [lowLane(root), highLane(root)]));
}

function gttOf(served: ServedDevice): VgpuGtt {
  return served.device.vgpu.gtt;
}

function lifeCycleMethods(served: ServedDevice) {
  return {
    gvt_init_gtt: () => void orThrow(served.device.gvt.init(), "gvt_init_gtt"),
    gvt_clean_gtt: () => void orThrow(served.device.gvt.clean(), "gvt_clean_gtt"),
    vgpu_init_gtt: () => void orThrow(gttOf(served).init(), "vgpu_init_gtt"),
    vgpu_clean_gtt: () => void orThrow(gttOf(served).clean(), "vgpu_clean_gtt"),
    reset_ggtt: () => void orThrow(gttOf(served).resetGgtt(), "reset_ggtt"),
    reset_gtt: () => void orThrow(gttOf(served).resetGtt(), "reset_gtt"),
    sync_oos_pages: () => void orThrow(gttOf(served).syncOosPages(), "sync_oos_pages"),
    flush_post_shadow: () => void orThrow(gttOf(served).flushPostShadow(), "flush_post_shadow"),
    submit: (level, roots) => {
      const done = gttOf(served).submit(level, rootLanes(roots));
      if (typeof done === "number") throw engineError(done, "submit");
      return { mm: done.mm.id, created: done.created };
    },
  } satisfies Partial<Handlers<EngineMethod>>;
}

function mmMethods(served: ServedDevice) {
  return {
    mm_create: (level, roots) => {
      const mm = gttOf(served).createMm(level, roots === null ? null : rootLanes(roots));
      if (typeof mm === "number") throw engineError(mm, "mm_create");
      return mm.id;
    },
    mm_destroy: (id) => void gttOf(served).destroyMm(served.mm(id)),
    mm_pin: (id) => void orThrow(gttOf(served).pinMm(served.mm(id)), "mm_pin"),
    mm_unpin: (id) => void gttOf(served).unpinMm(served.mm(id)),
    mm_ref: (id) => void gttOf(served).referenceMm(served.mm(id)),
    mm_unref: (id) => gttOf(served).unreferenceMm(served.mm(id)),
    mm_find: (level, roots) => gttOf(served).findPpgttMm(level, rootLanes(roots))?.id ?? null,
    g2v_create_ppgtt_mm: (level) => {
      const { roots } = served.device.vgpu.bar0.pvinfo;
      orThrow(gttOf(served).g2vCreatePpgttMm(level, roots), "g2v_create_ppgtt_mm");
    },
    g2v_destroy_ppgtt_mm: (level) => {
      const { roots } = served.device.vgpu.bar0.pvinfo;
      orThrow(gttOf(served).g2vDestroyPpgttMm(level, roots), "g2v_destroy_ppgtt_mm");
    },
    gma_to_gpa: (space, gma) => {
      const gpa = served.translate(space, lowLane(gma), highLane(gma));
      return gpa === INVALID_ADDR ? null : gpa;
    },
  } satisfies Partial<Handlers<EngineMethod>>;
}

function ggttMethods(served: ServedDevice) {
  const value = new Uint32Array(2);
  return {
    gtt_mmio_read: (off, bytes) => {
      orThrow(gttOf(served).emulateGttMmioRead(off, bytes, value), "gtt_mmio_read");
      return fromLanes(value[0]!, value[1]!);
    },
    gtt_mmio_write: (off, bytes, stored) => {
      const rc = gttOf(served).emulateGttMmioWrite(off, bytes, lowLane(stored), highLane(stored));
      orThrow(rc, "gtt_mmio_write");
    },
    ggtt_validate_range: (addr, size) => gttOf(served).gm.isValidRange(Number(addr), Number(size)),
    ggtt_gmadr_g2h: (addr) => orThrow(gttOf(served).gm.guestToHost(Number(addr)), "ggtt_gmadr_g2h"),
    ggtt_gmadr_h2g: (addr) => orThrow(gttOf(served).gm.hostToGuest(Number(addr)), "ggtt_gmadr_h2g"),
    ggtt_index_g2h: (index) => orThrow(gttOf(served).gm.guestIndexToHost(index), "ggtt_index_g2h"),
    ggtt_index_h2g: (index) => orThrow(gttOf(served).gm.hostIndexToGuest(index), "ggtt_index_h2g"),
  } satisfies Partial<Handlers<EngineMethod>>;
}

function trackMethods(served: ServedDevice) {
  return {
    init_page_track: (gfn) => served.addTrack(gfn),
    clean_page_track: (id) => {
      gttOf(served).cleanPageTrack(served.track(id));
      served.userTracks.delete(id);
    },
    enable_page_track: (id) =>
      void orThrow(gttOf(served).enablePageTrack(served.track(id)), "enable_page_track"),
    disable_page_track: (id) =>
      void orThrow(gttOf(served).disablePageTrack(served.track(id)), "disable_page_track"),
    find_tracked_page: (gfn) => {
      const track = gttOf(served).findTrackedPage(gfn);
      if (track === undefined) return null;
      if (track instanceof ShadowTable) return { kind: "ppgtt", tracked: track.enabled } as const;
      const id = [...served.userTracks].find(([, each]) => each === track)?.[0];
      return { kind: "user", tracked: track.enabled, ...(id === undefined ? {} : { track: id }) } as const;
    },
  } satisfies Partial<Handlers<EngineMethod>>;
}
