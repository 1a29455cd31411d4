/**
 * Page tracking (`engine.md` §9, §15, 2): who wants to hear of stores to which guest frame.
 *
 * A *track* is one listener on one frame, enabled or not. Several tracks may sit on one frame: shadow tables of
 * different kinds and user tracks. Write protection belongs to the *frame*: the host is asked when its first track is
 * enabled and when its last enabled one goes. A store to a protected frame goes to every enabled track, oldest first.
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
  /** Whether stores reach the handler. Changed by {@linkcode PageTracks} only. */
  enabled = false;
  /** Whether the track is registered. Changed by {@linkcode PageTracks} only. */
  registered = false;

  /** A track of guest frame `gfn`, not registered yet. */
  constructor(gfn: number, handler: StoreHandler) {
    this.gfn = gfn;
    this.handler = handler;
  }
}

/** All tracks of one guest frame, in order of registration. */
export interface TrackedFrame {
  /** The tracks, oldest first; never empty. */
  readonly tracks: PageTrack[];
  /** How many of them are enabled. The frame is write-protected while this is not 0. */
  enabled: number;
}

/** The tracks of one vGPU by guest frame. */
export class PageTracks {
  readonly #host: GttHost;
  readonly #counters: Counters;
  readonly #frames = new Map<number, TrackedFrame>();
  #enabledTracks = 0;

  /** An empty set that protects frames through `host`. */
  constructor(host: GttHost, counters: Counters) {
    this.#host = host;
    this.#counters = counters;
  }

  /** Number of enabled tracks: the documented tracked-page counter. */
  get enabledTracks(): number {
    return this.#enabledTracks;
  }

  /** The tracked frames, for views and invariants. */
  get frames(): ReadonlyMap<number, TrackedFrame> {
    return this.#frames;
  }

  /** Registers a track, disabled (`intel_vgpu_init_page_track`). Duplicates and frames that are no RAM are fine. */
  init(track: PageTrack): void {
    const frame = this.#frames.get(track.gfn);
    if (frame === undefined) this.#frames.set(track.gfn, { tracks: [track], enabled: 0 });
    else frame.tracks.push(track);
    track.registered = true;
  }

  /**
   * Removes a track, disabling it (`intel_vgpu_clean_page_track`). It counts no more even if the host refuses to
   * unprotect the frame (`engine.md` §15, 21 d).
   */
  clean(track: PageTrack): void {
    const frame = this.#frames.get(track.gfn);
    if (!track.registered || frame === undefined) return;
    if (track.enabled) {
      this.#uncount(track, frame);
      if (frame.enabled === 0) this.#host.protect(track.gfn, false);
    }
    frame.tracks.splice(frame.tracks.indexOf(track), 1);
    if (frame.tracks.length === 0) this.#frames.delete(track.gfn);
    track.registered = false;
  }

  /** Ends every track without asking the host, as setting up anew does: it starts with an empty hash (`engine.md` §6.2). */
  forgetAll(): void {
    for (const { tracks } of this.#frames.values()) {
      for (const track of tracks) track.registered = false;
    }
    this.#frames.clear();
    this.#enabledTracks = 0;
  }

  /** The newest track of a frame, enabled or not (`intel_vgpu_find_tracked_page`). */
  find(gfn: number): PageTrack | undefined {
    return this.#frames.get(gfn)?.tracks.at(-1);
  }

  /** All tracks of a frame. */
  at(gfn: number): TrackedFrame | undefined {
    return this.#frames.get(gfn);
  }

  /**
   * Lets stores reach the track's handler, write-protecting the frame if it is not yet. Enabling twice is no error.
   *
   * @returns 0, or the host's error; then nothing changed.
   */
  enable(track: PageTrack): number {
    const frame = this.#frames.get(track.gfn);
    if (track.enabled || !track.registered || frame === undefined) return OK;
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
   * Stops stores from reaching the track's handler, unprotecting the frame after its last one.
   *
   * @returns 0, or the host's error; then nothing changed.
   */
  disable(track: PageTrack): number {
    const frame = this.#frames.get(track.gfn);
    if (!track.enabled || frame === undefined) return OK;
    if (frame.enabled === 1) {
      const rc = this.#host.protect(track.gfn, false);
      if (rc < 0) return rc;
    }
    this.#uncount(track, frame);
    return OK;
  }

  /**
   * Hands a store that hit guest frame `gpa / 4096` to the frame's enabled tracks (`engine.md` §9.2, §15, 2 c). The
   * list is taken now: a track that an earlier handler removes or disables is skipped, one made meanwhile is not told.
   *
   * @param gpa First byte stored; the store must not leave its page.
   * @param bytes Length of the store.
   * @returns The first result of a handler that is not 0, else 0.
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

  #uncount(track: PageTrack, frame: TrackedFrame): void {
    track.enabled = false;
    frame.enabled--;
    this.#enabledTracks--;
  }
}
