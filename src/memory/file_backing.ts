import type { Backing, BackingKind } from "./backing.ts";

/** An open file that is read and written by position. No call throws. */
export interface PositionedFile {
  /**
   * Reads once.
   *
   * @param into Filled from its start.
   * @param position In bytes from the file's start.
   * @returns The number of bytes read: fewer than asked for is no failure, 0 is the end of the file, less is
   * a failure.
   */
  readAt(into: Uint8Array<ArrayBuffer>, position: number): number;
  /**
   * Writes once.
   *
   * @param bytes What to write.
   * @param position In bytes from the file's start.
   * @returns The number of bytes written, 0 or less for a failure.
   */
  writeAt(bytes: Uint8Array<ArrayBuffer>, position: number): number;
  /** Closes the file. Called once. */
  close(): void;
}

const PAGE_BYTES = 4096;
const ENTRY_BYTES = 8;

/**
 * A part of a file as guest RAM, by pread and pwrite: the kernel checks every access, so nothing that is done
 * to the file can hurt this process.
 *
 * Whoever owns the file may make it shorter at any time. What is beyond its end then is not RAM any more:
 * reads and writes fail, and a write never makes the file longer again.
 */
export class FileBacking implements Backing {
  /** How the bytes are reached. */
  readonly kind: BackingKind = "file";
  readonly #base: number;
  readonly #size: number;
  /** Whether writes are refused. */
  readonly isReadonly: boolean;
  /** Reads arrive here first: a read that fails half way must leave its destination as it was. */
  readonly #page = new Uint8Array(PAGE_BYTES);
  readonly #pageLanes = new Uint32Array(this.#page.buffer);
  readonly #entry = this.#page.subarray(0, ENTRY_BYTES);
  readonly #last = new Uint8Array(1);
  #file: PositionedFile | null;

  /**
   * Takes over an open file.
   *
   * @param file The open file; it belongs to the backing from now on.
   * @param base Where in the file the region starts, bytes.
   * @param size How much of the file it takes, bytes.
   * @param readonly Whether writes are refused.
   */
  constructor(file: PositionedFile, base: number, size: number, readonly: boolean) {
    this.#file = file;
    this.#base = base;
    this.#size = size;
    this.isReadonly = readonly;
  }

  /** Reads one entry: see {@linkcode Backing.readEntry}. */
  readEntry(at: number, out: Uint32Array): boolean {
    if (!this.#fill(this.#entry, at)) return false;
    out[0] = this.#pageLanes[0] ?? 0;
    out[1] = this.#pageLanes[1] ?? 0;
    return true;
  }

  /** Reads one page: see {@linkcode Backing.readPage}. */
  readPage(at: number, out: Uint32Array): boolean {
    if (!this.#fill(this.#page, at)) return false;
    out.set(this.#pageLanes);
    return true;
  }

  /** Never known without reading it: see {@linkcode Backing.holdsPage}. */
  holdsPage(): boolean {
    return false;
  }

  /** Reads bytes: see {@linkcode Backing.read}. */
  read(at: number, out: Uint8Array): boolean {
    const staged = this.#stage(out.length);
    if (!this.#fill(staged, at)) return false;
    out.set(staged);
    return true;
  }

  /** Writes bytes: see {@linkcode Backing.write}. */
  write(at: number, bytes: Uint8Array): boolean {
    if (this.isReadonly || !this.#reaches(at + bytes.length)) return false;
    const staged = this.#stage(bytes.length);
    staged.set(bytes);
    return this.#drain(staged, at);
  }

  /** Gives up the bytes: see {@linkcode Backing.close}. */
  close(): void {
    this.#file?.close();
    this.#file = null;
  }

  #stage(length: number): Uint8Array<ArrayBuffer> {
    return length <= PAGE_BYTES ? this.#page.subarray(0, length) : new Uint8Array(length);
  }

  /** Whether the file still goes as far as the region's byte before `end`. */
  #reaches(end: number): boolean {
    return end === 0 || this.#fill(this.#last, end - 1);
  }

  #fill(into: Uint8Array<ArrayBuffer>, at: number): boolean {
    if (this.#file === null || at + into.length > this.#size) return false;
    for (let done = 0; done < into.length;) {
      const rest = done === 0 ? into : into.subarray(done);
      const count = this.#file.readAt(rest, this.#base + at + done);
      if (count <= 0) return false;
      done += count;
    }
    return true;
  }

  #drain(bytes: Uint8Array<ArrayBuffer>, at: number): boolean {
    if (this.#file === null) return false;
    for (let done = 0; done < bytes.length;) {
      const rest = done === 0 ? bytes : bytes.subarray(done);
      const count = this.#file.writeAt(rest, this.#base + at + done);
      if (count <= 0) return false;
      done += count;
    }
    return true;
  }
}
