/**
 * Page tracks of one vGPU (engine.md §9.1, §15 2b): any number a frame, one write protection a frame.
 *
 * @module
 */

import type { Host } from "./host.ts";
import type { ShadowTable } from "./vgpu.ts";

/** A wish to be told of stores to a frame. */
export interface Track {
  /** The frame. */
  readonly gfn: number;
  /** Whose track it is: a shadow table's, or (null) the user's. */
  readonly table: ShadowTable | null;
  /** Whether stores are told. */
  enabled: boolean;
}

/** All tracks of a vGPU. */
export class PageTracks {
  readonly #host: Host;
  /** Tracks of each frame, oldest first. */
  readonly #tracks: Map<number, Track[]> = new Map();

  /** No tracks yet. */
  constructor(host: Host) {
    this.#host = host;
  }

  /** Tracks of a frame, oldest first. */
  of(gfn: number): readonly Track[] {
    return this.#tracks.get(gfn) ?? [];
  }

  /** Every track. */
  all(): Track[] {
    return [...this.#tracks.values()].flat();
  }

  /** The newest track of a frame. */
  find(gfn: number): Track | undefined {
    return this.of(gfn).at(-1);
  }

  /** Adds a track, disabled. */
  register(gfn: number, table: ShadowTable | null): Track {
    const track: Track = { gfn, table, enabled: false };
    this.#tracks.set(gfn, [...this.of(gfn), track]);
    return track;
  }

  /** Enables a track; only the frame's first one asks the host. */
  enable(track: Track): number {
    if (track.enabled) return 0;
    const rc = this.#enabled(track.gfn) > 0 ? 0 : this.#host.protect(track.gfn);
    if (rc === 0) track.enabled = true;
    return rc;
  }

  /** Disables a track; only the frame's last enabled one asks the host. */
  disable(track: Track): number {
    if (!track.enabled) return 0;
    const rc = this.#enabled(track.gfn) > 1 ? 0 : this.#host.unprotect(track.gfn);
    if (rc === 0) track.enabled = false;
    return rc;
  }

  /** Removes a track; it counts no more even when the host refuses to unprotect the frame (§15, 21d). */
  remove(track: Track): void {
    this.disable(track);
    track.enabled = false;
    this.#tracks.set(track.gfn, this.of(track.gfn).filter((other) => other !== track));
  }

  #enabled(gfn: number): number {
    return this.of(gfn).filter((track) => track.enabled).length;
  }
}
