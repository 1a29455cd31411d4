/**
 * An initramfs: the guest's whole file system, as a cpio archive in the "newc" format that the kernel unpacks into
 * memory, gzipped or not. Written here, so that device nodes need no root.
 *
 * @module
 */

const FOLDER = 0o040755;
const PROGRAM = 0o100755;
const LINK = 0o120777;
const CHARACTER_DEVICE = 0o020600;

/** Each header field but the magic is a number in eight hexadecimal digits. */
const HEADER_FIELDS = 13;
const ALIGNMENT = 4;

/** A file system that is being put together. */
export class Initramfs {
  readonly #parts: Uint8Array<ArrayBuffer>[] = [];
  readonly #folders = new Set<string>();
  #inode = 1;

  /** Adds an executable file, and the folders above it. Paths begin without a slash. */
  file(path: string, content: Uint8Array): this {
    return this.#add(path, PROGRAM, content);
  }

  /** Adds a symbolic link. */
  link(path: string, target: string): this {
    return this.#add(path, LINK, new TextEncoder().encode(target));
  }

  /** Adds a character device. */
  device(path: string, major: number, minor: number): this {
    return this.#add(path, CHARACTER_DEVICE, new Uint8Array(), major, minor);
  }

  /** Adds an empty folder. */
  folder(path: string): this {
    if (path === "" || this.#folders.has(path)) return this;
    this.#folders.add(path);
    return this.#add(path, FOLDER, new Uint8Array());
  }

  /** The archive, gzipped. The kernel also takes it behind one that is not. */
  async bytes(): Promise<Uint8Array<ArrayBuffer>> {
    const archive = this.#whole().stream().pipeThrough(new CompressionStream("gzip"));
    return new Uint8Array(await new Response(archive).arrayBuffer());
  }

  /** The archive as it is: for much, because an emulated processor takes seconds to unpack it otherwise. */
  async plainBytes(): Promise<Uint8Array<ArrayBuffer>> {
    return new Uint8Array(await this.#whole().arrayBuffer());
  }

  #whole(): Blob {
    this.#entry("TRAILER!!!", 0, new Uint8Array(), 0, 0);
    return new Blob(this.#parts);
  }

  #add(path: string, mode: number, content: Uint8Array, major = 0, minor = 0): this {
    this.folder(path.slice(0, Math.max(0, path.lastIndexOf("/"))));
    this.#entry(path, mode, content, major, minor);
    return this;
  }

  #entry(path: string, mode: number, content: Uint8Array, major: number, minor: number): void {
    const name = new TextEncoder().encode(`${path}\0`);
    const fields = new Array<number>(HEADER_FIELDS).fill(0);
    [fields[0], fields[1], fields[4], fields[6]] = [this.#inode++, mode, 1, content.length];
    [fields[9], fields[10], fields[11]] = [major, minor, name.length];
    const digits = fields.map((field) => field.toString(16).padStart(8, "0"));
    this.#parts.push(padded(new TextEncoder().encode(`070701${digits.join("")}`), name), padded(content));
  }
}

/** Bytes one after another, filled up with zeroes to a multiple of four. */
function padded(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const bytes = new Uint8Array(Math.ceil(length / ALIGNMENT) * ALIGNMENT);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
