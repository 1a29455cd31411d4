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

/** All tracks of one guest frame, in order of registration. */
export interface TrackedFrame {
  /** The tracks, oldest first; never empty. */
  readonly tracks: PageTrack[];
  /** How many of them are enabled. The frame is write-protected while this is not 0. */
  enabled: number;
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
 * for (const track of tracks.at(5)!.tracks) tracks.enable(track);
 * assertEquals(tracks.dispatch(0x5000, 8), -1); // the first error; all are told nevertheless
 * assertEquals(told, [0, 1, 2]);
 * ```
 */
export class PageTracks {
  readonly #host: GttHost;
  readonly #counters: Counters;
  readonly #frames = new Map<number, TrackedFrame>();
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
   * The tracked frames, for views and invariants.
   *
   * @returns The live map, from guest frame number to tracks.
   */
  get frames(): ReadonlyMap<number, TrackedFrame> {
    return this.#frames;
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
    const frame = this.#frames.get(track.gfn);
    if (frame === undefined) this.#frames.set(track.gfn, { tracks: [track], enabled: 0 });
    else frame.tracks.push(track);
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
    const frame = this.#frames.get(track.gfn);
    if (track.owner !== this || frame === undefined) return;
    if (track.enabled) {
      this.#uncount(track, frame);
      if (frame.enabled === 0) this.#host.protect(track.gfn, false);
    }
    frame.tracks.splice(frame.tracks.indexOf(track), 1);
    if (frame.tracks.length === 0) this.#frames.delete(track.gfn);
    track.owner = null;
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
    for (const { tracks } of this.#frames.values()) {
      for (const track of tracks) {
        track.owner = null;
        track.enabled = false;
      }
    }
    this.#frames.clear();
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
    return this.#frames.get(gfn)?.tracks.at(-1);
  }

  /**
   * All tracks of a frame.
   *
   * @param gfn Guest frame number.
   * @returns The tracks and how many are enabled, or `undefined` if the frame has none.
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
   * assertEquals([tracks.at(2)?.tracks.length, tracks.at(2)?.enabled], [2, 1]);
   * ```
   */
  at(gfn: number): TrackedFrame | undefined {
    return this.#frames.get(gfn);
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
    const frame = this.#frames.get(track.gfn);
    if (track.enabled || track.owner !== this || frame === undefined) return OK;
    if (frame.enabled === 0) {
      const rc = this.#host.protect(track.gfn, true);
      if (rc < 0) return rc;
    }
    track.enabled = true;
    frame.enabled++;
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
    const frame = this.#frames.get(track.gfn);
    if (!track.enabled || track.owner !== this || frame === undefined) return OK;
    if (frame.enabled === 1) {
      const rc = this.#host.protect(track.gfn, false);
      if (rc < 0) return rc;
    }
    this.#uncount(track, frame);
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
    const frame = this.#frames.get(Math.floor(gpa / PAGE_SIZE));
    if (frame === undefined || frame.enabled === 0) return OK;
    this.#counters.trappedStores++;
    let result = OK;
    if (frame.tracks.length === 1) {
      const track = frame.tracks[0]!;
      result = track.handler(track, gpa, bytes);
    } else {
      for (const track of frame.tracks.filter((each) => each.enabled)) {
        if (!track.enabled) continue;
        const rc = track.handler(track, gpa, bytes);
        if (result === OK) result = rc;
      }
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
    const frame = this.#frames.get(Math.floor(gpa / PAGE_SIZE));
    if (frame === undefined || frame.enabled === 0) return OK;
    this.#counters.trappedStores++;
    let result = OK;
    for (const track of frame.tracks.filter((each) => each.enabled)) {
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

  #uncount(track: PageTrack, frame: TrackedFrame): void {
    track.enabled = false;
    frame.enabled--;
    this.#enabledTracks--;
  }
}
