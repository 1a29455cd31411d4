/**
 * What was downloaded or built, in a folder outside the repository. An entry is there whole or not at all: it is
 * made under another name and renamed at the end. One process makes entries at a time, the others wait; what an
 * interrupted one left is removed by the next.
 *
 * @module
 */

import { HelpfulError } from "./command.ts";
import type { Steps } from "./steps.ts";

/** What all of it takes, in MB. */
export const SIZE_MB = {
  emulator: 37,
  kernel: 72,
  otherKernel: 130,
  igt: 18,
  downloads: 110,
  kept: 510,
} as const;

/** How long an entry stays that its like has replaced: somebody may still be booting with it. */
const STAY_MS = 3 * 60 * 60 * 1000;

const PARTIAL = "partial-";
const LOCK = "lock";

/** A folder of entries. */
export class Cache implements Disposable {
  /** Its path. */
  readonly path: string;
  /** Aborted when nothing more is to be made. */
  readonly signal: AbortSignal | undefined;
  readonly #lock: Deno.FsFile;

  private constructor(path: string, lock: Deno.FsFile, signal: AbortSignal | undefined) {
    this.path = path;
    this.signal = signal;
    this.#lock = lock;
  }

  /**
   * Opens the cache, alone; waits while another process has it.
   *
   * @param path The folder.
   * @param steps Where progress is told.
   * @param signal Ends the making of entries, and the waiting.
   * @throws {HelpfulError} If it cannot be made.
   */
  static async open(path: string, steps: Steps, signal?: AbortSignal): Promise<Cache> {
    let lock: Deno.FsFile;
    try {
      await Deno.mkdir(path, { recursive: true });
      lock = await Deno.open(`${path}/${LOCK}`, { write: true, create: true });
    } catch (error) {
      throw new HelpfulError(`Cannot use ${path}: ${messageOf(error)}; choose another folder with --cache`);
    }
    if (!await lock.tryLock(true)) {
      await steps.run(`cache: waiting for another run that fills ${path}`, () => locked(lock, signal));
    }
    const cache = new Cache(await Deno.realPath(path), lock, signal);
    for (const { name } of Deno.readDirSync(path)) if (name.startsWith(PARTIAL)) cache.remove(name);
    return cache;
  }

  /** Where an entry is, or would be. */
  entry(name: string): string {
    return `${this.path}/${name}`;
  }

  /** Whether an entry is there. */
  has(name: string): boolean {
    try {
      Deno.lstatSync(this.entry(name));
      return true;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  }

  /** The names of the entries that begin like this. */
  names(prefix: string): string[] {
    return [...Deno.readDirSync(this.path)].map(({ name }) => name).filter((name) => name.startsWith(prefix));
  }

  /** Removes everything. */
  clear(): void {
    for (const name of this.names("")) if (name !== LOCK) this.remove(name);
  }

  /** Removes an entry, if there is one. */
  remove(name: string): void {
    if (this.has(name)) Deno.removeSync(this.entry(name), { recursive: true });
  }

  /** Removes entries that begin like this and were made hours ago. */
  removeOld(prefix: string): void {
    for (const name of this.names(prefix)) {
      const made = Deno.statSync(this.entry(name)).mtime?.getTime() ?? 0;
      if (Date.now() - made > STAY_MS) this.remove(name);
    }
  }

  /**
   * Makes an entry.
   *
   * @param name Its name.
   * @param make Makes a file or folder at the path that it is given, where nothing is yet. Another folder, for
   * what is needed meanwhile, is removed afterwards.
   * @returns The entry's path.
   */
  async make(name: string, make: (path: string, scratch: string) => Promise<void>): Promise<string> {
    const scratch = await Deno.makeTempDir({ dir: this.path, prefix: PARTIAL });
    try {
      await make(`${scratch}/entry`, scratch);
      this.remove(name);
      await Deno.rename(`${scratch}/entry`, this.entry(name));
    } finally {
      await Deno.remove(scratch, { recursive: true });
    }
    return this.entry(name);
  }

  /** Lets others use the cache. */
  [Symbol.dispose](): void {
    this.#lock.close();
  }
}

/** Where the cache is if nobody says: the user's folder for such things. */
export function defaultCachePath(): string {
  const own = Deno.env.get("XDG_CACHE_HOME") || `${Deno.env.get("HOME") || "/tmp"}/.cache`;
  return `${own}/vgtt`;
}

/** Waits for the lock, or until nobody wants it any more. */
async function locked(lock: Deno.FsFile, signal: AbortSignal | undefined): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal?.reason);
  signal?.addEventListener("abort", onAbort);
  try {
    await Promise.race([lock.lock(true), promise]);
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

function messageOf(error: unknown): string {
  // What Deno says of these is about its own options.
  if (error instanceof Deno.errors.NotCapable) return "not permitted";
  return error instanceof Error ? error.message : String(error);
}
