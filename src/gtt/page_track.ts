/**
 * Page tracking (`engine.md` §9, §15, 2): who wants to hear of stores to which guest frame.
 *
 * A *track* is one listener on one frame, enabled or not. Several tracks may sit on one frame: shadow tables
 * of different kinds and user tracks. Write protection belongs to the *frame*: the host is asked when its
 * first track is enabled and when its last enabled one goes. A store to a protected frame goes to every
 * enabled track, oldest first.
 *
 * @module
 */

import { OK } from "./errno.ts";
import type { GttHost } from "./host.ts";
import type { Counters } from "./counters.ts";
import { PAGE_SIZE } from "./entry.ts";
import { FrameMap } from "./frame_map.ts";

/**
 * Called when a store hit a tracked frame. Guest memory already holds the new value.
 *
 * @param track The track that was hit.
 * @param gpa First byte stored.
 * @param bytes Length of the store.
 * @returns 0, or a negative errno.
 */
export type StoreHandler = (track: PageTrack, gpa: number, bytes: number) => number;

/** One listener on one guest frame. Made by its owner, registered with {@linkcode PageTracks.init}. */
export class PageTrack {
  /** The guest frame. */
  readonly gfn: number;
  /** Called for each store while the track is enabled. */
  readonly handler: StoreHandler;
  /** Bytes of the stores that a larger change is handed over as; 0: as one. */
  readonly storeBytes: number = 0;
  /** Whether stores reach the handler. Changed by {@linkcode PageTracks} only. */
  enabled = false;
  /** The set that the track is registered with, if any. Changed by {@linkcode PageTracks} only. */
  owner: PageTracks | null = null;
  /** The next track of the same frame, registered later. Changed by {@linkcode PageTracks} only. */
  next: PageTrack | null = null;

  /**
   * A track that is not registered yet.
   *
   * @param gfn Guest frame number.
   * @param handler Called for each store to the frame while the track is enabled.
   */
  constructor(gfn: number, handler: StoreHandler) {
    this.gfn = gfn;
    this.handler = handler;
  }

  /** Whether the track is registered. */
  get registered(): boolean {
    return this.owner !== null;
  }
}

/**
 * The tracks of one vGPU by guest frame.
 *
 * @example A store goes to every enabled track, oldest first
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { createDevice, PageTrack } from "../../mod.ts";
 *
 * using device = createDevice();
 * device.ram.map({ gpa: 0, size: 0x10000 });
 * const { tracks } = device.vgpu.gtt.parts;
 * const told: number[] = [];
 * for (let i = 0; i < 3; i++) tracks.init(new PageTrack(5, () => (told.push(i), -i)));
 * for (const track of tracks.at(5)) tracks.enable(track);
 * assertEquals(tracks.dispatch(0x5000, 8), -1); // the first error; all are told nevertheless
 * assertEquals(told, [0, 1, 2]);
 * ```
 */
export class PageTracks {
  readonly #host: GttHost;
  readonly #counters: Counters;
  /** The oldest track of each frame. A frame is write-protected while one of its tracks is enabled. */
  readonly #oldest = new FrameMap<PageTrack>();
  #enabledTracks = 0;

  /**
   * An empty set.
   *
   * @param host Protects frames.
   * @param counters Counts trapped stores.
   */
  constructor(host: GttHost, counters: Counters) {
    this.#host = host;
    this.#counters = counters;
  }

  /**
   * Number of enabled tracks: the documented tracked-page counter (`engine.md` §4, §15, 2 b).
   *
   * @returns Tracks, not frames.
   */
  get enabledTracks(): number {
    return this.#enabledTracks;
  }

  /**
   * All tracks, for views and invariants.
   *
   * @returns The tracks, those of one frame oldest first, one after the other.
   */
  *all(): IterableIterator<PageTrack> {
    for (const oldest of this.#oldest.values()) {
      for (let track: PageTrack | null = oldest; track !== null; track = track.next) yield track;
    }
  }

  /**
   * Registers a track, disabled (`intel_vgpu_init_page_track`, `engine.md` §9.1). Duplicates and frames that
   * are no RAM are fine.
   *
   * @param track A track that is not registered.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PageTrack } from "../../mod.ts";
   *
   * using device = createDevice(); // without any RAM
   * const { tracks } = device.vgpu.gtt.parts;
   * tracks.init(new PageTrack(5, () => 0));
   * assertEquals(tracks.find(5)?.enabled, false);
   * ```
   */
  init(track: PageTrack): void {
    const newest = this.find(track.gfn);
    if (newest === undefined) this.#oldest.set(track.gfn, track);
    else newest.next = track;
    track.next = null;
    track.owner = this;
  }

  /**
   * Removes a track, disabling it (`intel_vgpu_clean_page_track`, `engine.md` §9.1). It counts no more even
   * if the host refuses to unprotect the frame (§15, 21 d).
   *
   * @param track The track; nothing happens if it is not registered.
   *
   * @example The host's refusal does not keep a track alive
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PageTrack } from "../../mod.ts";
   *
   * using device = createDevice({ faults: true });
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tracks } = device.vgpu.gtt.parts;
   * const track = new PageTrack(5, () => 0);
   * tracks.init(track);
   * tracks.enable(track);
   * device.faults!.setFrame("unwp", 5, true);
   * tracks.clean(track);
   * assertEquals([tracks.find(5), tracks.enabledTracks], [undefined, 0]);
   * ```
   */
  clean(track: PageTrack): void {
    if (track.owner !== this) return;
    track.owner = null;
    const rest = this.#unlink(track);
    if (!track.enabled) return;
    this.#uncount(track);
    if (rest === null || !hasEnabled(rest)) this.#host.protect(track.gfn, false);
  }

  /**
   * Ends every track without asking the host, as setting up anew does: it starts with an empty hash
   * (`engine.md` §6.2).
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { gtt } = device.vgpu;
   * const track = gtt.initPageTrack(5, () => 0);
   * gtt.clean();
   * assertEquals(track.registered, true); // clean leaves user tracks alone,
   * gtt.init();
   * assertEquals([track.registered, gtt.findTrackedPage(5)], [false, undefined]); // init does not
   * ```
   */
  forgetAll(): void {
    for (const track of [...this.all()]) {
      track.next = track.owner = null;
      track.enabled = false;
    }
    this.#oldest.clear();
    this.#enabledTracks = 0;
  }

  /**
   * The newest track of a frame, enabled or not (`intel_vgpu_find_tracked_page`, `engine.md` §9.1, §15, 2 d).
   *
   * @param gfn Guest frame number.
   * @returns The track, or `undefined` if the frame has none.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PageTrack } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { tracks } = device.vgpu.gtt.parts;
   * const [older, newer] = [new PageTrack(5, () => 0), new PageTrack(5, () => 0)];
   * for (const track of [older, newer]) tracks.init(track);
   * assertEquals(tracks.find(5) === newer, true);
   * tracks.clean(newer);
   * assertEquals(tracks.find(5) === older, true);
   * ```
   */
  find(gfn: number): PageTrack | undefined {
    let track = this.#oldest.get(gfn);
    while (track !== undefined && track.next !== null) track = track.next;
    return track;
  }

  /**
   * All tracks of a frame.
   *
   * @param gfn Guest frame number.
   * @returns The tracks, oldest first; none for most frames.
   *
   * @example A shadow table is a track, too
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PageTrack, PTE } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tables, tracks } = device.vgpu.gtt.parts;
   * tracks.init(new PageTrack(2, () => 0));
   * tables.obtain(PTE, 2);
   * assertEquals(tracks.at(2).map(({ enabled }) => enabled), [false, true]);
   * ```
   */
  at(gfn: number): PageTrack[] {
    const tracks: PageTrack[] = [];
    for (let track = this.oldest(gfn); track !== null; track = track.next) tracks.push(track);
    return tracks;
  }

  /**
   * The oldest track of a frame, which the others follow.
   *
   * @param gfn Guest frame number.
   * @returns The track, or `null` if the frame has none.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PageTrack } from "../../mod.ts";
   *
   * using device = createDevice();
   * const { tracks } = device.vgpu.gtt.parts;
   * const [older, newer] = [new PageTrack(5, () => 0), new PageTrack(5, () => 0)];
   * for (const track of [older, newer]) tracks.init(track);
   * assertEquals([tracks.oldest(5) === older, older.next === newer, tracks.oldest(4)], [true, true, null]);
   * ```
   */
  oldest(gfn: number): PageTrack | null {
    return this.#oldest.get(gfn) ?? null;
  }

  /**
   * Lets stores reach the track's handler, write-protecting the frame if it is not yet (`engine.md` §9.1,
   * §15, 2 b). Enabling twice is no error; a track that is not registered stays as it is.
   *
   * @param track The track.
   * @returns 0, or the host's error; then nothing changed.
   *
   * @example Protection belongs to the frame: the host is asked once
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PageTrack } from "../../mod.ts";
   *
   * const asked: [number, boolean][] = [];
   * using device = createDevice({ onProtect: (gfn, on) => asked.push([gfn, on]) });
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tracks } = device.vgpu.gtt.parts;
   * const both = [new PageTrack(5, () => 0), new PageTrack(5, () => 0)];
   * for (const track of both) tracks.init(track);
   * for (const track of both) tracks.enable(track);
   * for (const track of both) tracks.disable(track);
   * assertEquals(asked, [[5, true], [5, false]]);
   * ```
   */
  enable(track: PageTrack): number {
    if (track.enabled || track.owner !== this) return OK;
    if (!hasEnabled(this.#oldest.get(track.gfn)!)) {
      const rc = this.#host.protect(track.gfn, true);
      if (rc < 0) return rc;
    }
    track.enabled = true;
    this.#enabledTracks++;
    return OK;
  }

  /**
   * Stops stores from reaching the track's handler, unprotecting the frame after its last one
   * (`engine.md` §9.1, §15, 2 b).
   *
   * @param track The track; disabling twice is no error.
   * @returns 0, or the host's error; then nothing changed.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PageTrack } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tracks } = device.vgpu.gtt.parts;
   * let calls = 0;
   * const track = new PageTrack(5, () => (calls++, 0));
   * tracks.init(track);
   * tracks.enable(track);
   * tracks.dispatch(0x5000, 8);
   * tracks.disable(track);
   * tracks.dispatch(0x5000, 8);
   * assertEquals([calls, track.registered], [1, true]);
   * ```
   */
  disable(track: PageTrack): number {
    if (!track.enabled || track.owner !== this) return OK;
    if (!hasEnabled(this.#oldest.get(track.gfn)!, track)) {
      const rc = this.#host.protect(track.gfn, false);
      if (rc < 0) return rc;
    }
    this.#uncount(track);
    return OK;
  }

  /**
   * Hands a store that hit guest frame `gpa / 4096` to the frame's enabled tracks (`engine.md` §9.2, §15, 2
   * c). The list is taken now: a track that an earlier handler removes or disables is skipped, one made
   * meanwhile is not told.
   *
   * @param gpa First byte stored; the store must not leave its page.
   * @param bytes Length of the store.
   * @returns The first result of a handler that is not 0, else 0.
   *
   * @example An earlier handler disables a later track
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, PageTrack } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.ram.map({ gpa: 0, size: 0x10000 });
   * const { tracks } = device.vgpu.gtt.parts;
   * let calls = 0;
   * const later = new PageTrack(5, () => ++calls);
   * for (const track of [new PageTrack(5, () => tracks.disable(later)), later]) {
   *   tracks.init(track);
   *   tracks.enable(track);
   * }
   * assertEquals([tracks.dispatch(0x5000, 8), calls], [0, 0]);
   * ```
   */
  dispatch(gpa: number, bytes: number): number {
    if (this.#enabledTracks === 0) return OK;
    const oldest = this.#oldest.get(Math.floor(gpa / PAGE_SIZE));
    if (oldest === undefined) return OK;
    if (oldest.next !== null) return this.#dispatchToAll(oldest, gpa, bytes);
    if (!oldest.enabled) return OK;
    this.#counters.trappedStores++;
    const result = oldest.handler(oldest, gpa, bytes);
    if (result !== OK) this.#counters.badTrappedStores++;
    return result;
  }

  /** As {@linkcode PageTracks.dispatch}, to a frame with several tracks. */
  #dispatchToAll(oldest: PageTrack, gpa: number, bytes: number): number {
    const enabled = enabledFrom(oldest);
    if (enabled.length === 0) return OK;
    this.#counters.trappedStores++;
    let result = OK;
    for (const track of enabled) {
      if (!track.enabled) continue; // an earlier handler may have disabled it
      const rc = track.handler(track, gpa, bytes);
      if (result === OK) result = rc;
    }
    if (result !== OK) this.#counters.badTrappedStores++;
    return result;
  }

  /**
   * Tells the enabled tracks of a page that several of its bytes changed, not by one store (`engine.md` §9.2): a user track
   * once, a shadow table once for each entry touched, as for 8-byte stores in ascending order.
   *
   * @param gpa First byte changed; the change must not leave its page.
   * @param bytes Length of the change, 1..4096.
   * @returns The first result of a handler that is not 0, else 0.
   *
   * @example
   * ```ts
   * import { assertEquals } from "@std/assert";
   * import { createDevice, OK } from "../../mod.ts";
   *
   * using device = createDevice();
   * device.mapRam({ gpa: 0, size: 0x10000 });
   * const { gtt } = device.vgpu;
   * const told: number[] = [];
   * gtt.enablePageTrack(gtt.initPageTrack(5, (_, gpa, bytes) => (told.push(gpa, bytes), OK)));
   * assertEquals(gtt.parts.tracks.dispatchRange(0x5004, 100), OK);
   * assertEquals(told, [0x5004, 100]);
   * ```
   */
  dispatchRange(gpa: number, bytes: number): number {
    const oldest = this.#oldest.get(Math.floor(gpa / PAGE_SIZE));
    if (oldest === undefined) return OK;
    const enabled = enabledFrom(oldest);
    if (enabled.length === 0) return OK;
    this.#counters.trappedStores++;
    let result = OK;
    for (const track of enabled) {
      const step = track.storeBytes === 0 ? bytes : track.storeBytes;
      const first = track.storeBytes === 0 ? gpa : gpa - gpa % step;
      // An earlier handler may have disabled it. A table that goes out of sync on the way takes all the rest: the
      // snapshot it goes with is of memory that has all of the change.
      const isTold = track.enabled;
      for (let at = first; at < gpa + bytes && isTold && track.registered; at += step) {
        const rc = track.handler(track, at, step);
        if (result === OK) result = rc;
      }
    }
    if (result !== OK) this.#counters.badTrappedStores++;
    return result;
  }

  /** Takes a track out of the list of its frame. @returns The oldest of the tracks that are left. */
  #unlink(track: PageTrack): PageTrack | null {
    const { gfn, next } = track;
    const oldest = this.#oldest.get(gfn)!;
    if (oldest !== track) {
      let before = oldest;
      while (before.next !== track) before = before.next!;
      before.next = next;
      track.next = null;
      return oldest;
    }
    if (next === null) this.#oldest.delete(gfn);
    else this.#oldest.set(gfn, next);
    track.next = null;
    return next;
  }

  #uncount(track: PageTrack): void {
    track.enabled = false;
    this.#enabledTracks--;
  }
}

/** Whether one of a frame's tracks is enabled, or one other than this. */
function hasEnabled(oldest: PageTrack, besides: PageTrack | null = null): boolean {
  for (let track: PageTrack | null = oldest; track !== null; track = track.next) {
    if (track.enabled && track !== besides) return true;
  }
  return false;
}

/** The enabled tracks of a frame as they are now: handlers may change the list. */
function enabledFrom(oldest: PageTrack): PageTrack[] {
  const tracks: PageTrack[] = [];
  for (let track: PageTrack | null = oldest; track !== null; track = track.next) {
    if (track.enabled) tracks.push(track);
  }
  return tracks;
}
