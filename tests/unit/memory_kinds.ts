// Sources of guest RAM for the tests: every kind of backing, behind one shape, so that one set of tests fits all.

import fs from "node:fs";
import { openWithDeno } from "../../src/memory/deno_file.ts";
import { backWithLibc, openWithLibc } from "../../src/memory/libc_file.ts";
import { type OpenFile, RamError, RamMap, type RamRegion } from "../../src/memory/ram_map.ts";
import { loadLibc } from "../../src/platform/libc.ts";

/** Where the tests put their files. */
export const TEMP = "/tmp";

/** Whether the tests may call the C library. */
export const hasFfi: boolean = Deno.build.os === "linux" &&
  Deno.permissions.querySync({ name: "ffi" }).state === "granted";

/** Whether the tests may make files. */
export const hasFiles: boolean =
  Deno.permissions.querySync({ name: "read", path: TEMP }).state === "granted" &&
  Deno.permissions.querySync({ name: "write", path: TEMP }).state === "granted";

if (hasFfi) loadLibc(); // here and not in the first test that needs it, which would seem to leak it

const c = hasFfi
  ? Deno.dlopen("libc.so.6", {
    open: { parameters: ["buffer", "i32"], result: "i32" },
    memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
    ftruncate: { parameters: ["i32", "i64"], result: "i32" },
    fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
    pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
    pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
    mkfifo: { parameters: ["buffer", "u32"], result: "i32" },
    socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
    eventfd: { parameters: ["u32", "i32"], result: "i32" },
    symlink: { parameters: ["buffer", "buffer"], result: "i32" },
    mknod: { parameters: ["buffer", "u32", "u64"], result: "i32" },
    getrlimit: { parameters: ["i32", "buffer"], result: "i32" },
    setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
  }).symbols
  : null;

/** The test's own libc; only where {@linkcode hasFfi}. */
export function libc(): NonNullable<typeof c> {
  if (c === null) throw new Error("this test needs --allow-ffi and must be skipped without");
  return c;
}

/** A path as libc takes it. */
export function cPath(path: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${path}\0`);
}

/** A file as its owner sees it: the VMM's side of shared RAM. */
export interface Source extends Disposable {
  readonly path: string;
  resize(size: number): void;
  poke(at: number, bytes: Uint8Array<ArrayBuffer>): void;
  peek(at: number, length: number): Uint8Array;
}

/** An ordinary file of zeros. */
export function temporaryFile(size: number): Source {
  const path = Deno.makeTempFileSync({ dir: TEMP, prefix: "vgtt-ram-" });
  Deno.truncateSync(path, size);
  const fd = fs.openSync(path, "r+");
  return {
    path,
    resize: (to) => Deno.truncateSync(path, to),
    poke: (at, bytes) => void fs.writeSync(fd, bytes, 0, bytes.length, at),
    peek: (at, length) => {
      const bytes = new Uint8Array(length);
      return bytes.subarray(0, fs.readSync(fd, bytes, 0, length, at));
    },
    [Symbol.dispose]: () => {
      fs.closeSync(fd);
      Deno.removeSync(path);
    },
  };
}

/** Bits for {@linkcode memfd}. */
export const F_SEAL_SHRINK = 2, F_SEAL_WRITE = 8, F_SEAL_FUTURE_WRITE = 16, MFD_HUGETLB = 4;
const MFD_CLOEXEC_ALLOW_SEALING = 3, F_ADD_SEALS = 1033;

/** A memfd of zeros. */
export function memfd(size: number, seals = 0, flags = 0): Source & { readonly fd: number } {
  const fd = libc().memfd_create(cPath("vgtt-ram"), MFD_CLOEXEC_ALLOW_SEALING | flags);
  if (fd < 0 || libc().ftruncate(fd, BigInt(size)) < 0 || libc().fcntl(fd, F_ADD_SEALS, seals) < 0) {
    throw new Error("the system gives no memfd");
  }
  return {
    fd,
    path: `/proc/${Deno.pid}/fd/${fd}`,
    resize: (to) => void libc().ftruncate(fd, BigInt(to)),
    poke: (at, bytes) => void libc().pwrite(fd, bytes, BigInt(bytes.length), BigInt(at)),
    peek: (at, length) => {
      const bytes = new Uint8Array(length);
      return bytes.subarray(0, Number(libc().pread(fd, bytes, BigInt(length), BigInt(at))));
    },
    [Symbol.dispose]: () => void libc().close(fd),
  };
}

/** A kind of backing and how a test gets one. */
export interface Kind {
  readonly name: string;
  /** `undefined` where it can run, else why it is skipped. */
  readonly skip: string | undefined;
  readonly expected: RamRegion["kind"];
  readonly openFile: OpenFile;
  readonly source: ((size: number) => Source) | null;
}

const needsFiles = hasFiles ? undefined : `needs --allow-read=${TEMP} --allow-write=${TEMP}`;
const needsFfi = hasFfi ? undefined : "needs --allow-ffi";

/** Passes a descriptor of the file on, as a VMM does that shares it by message; what fails leaves it the caller's. */
const openByDescriptor: OpenFile = (path, readonly, offset, size) => {
  const fd = libc().open(cPath(path), 2);
  if (fd < 0) throw new RamError("ENOENT", "no such file");
  try {
    return backWithLibc(fd, readonly, offset, size);
  } catch (error) {
    libc().close(fd);
    throw error;
  }
};

/** All kinds. */
export const KINDS: readonly Kind[] = [
  { name: "local", skip: undefined, expected: "local", openFile: openWithDeno, source: null },
  { name: "file by Deno", skip: needsFiles, expected: "file", openFile: openWithDeno, source: temporaryFile },
  {
    name: "file by libc",
    skip: needsFfi ?? needsFiles,
    expected: "file",
    openFile: openWithLibc,
    source: temporaryFile,
  },
  {
    name: "unsealed memfd",
    skip: needsFfi,
    expected: "file",
    openFile: openWithLibc,
    source: (size) => memfd(size),
  },
  {
    name: "mapped memfd",
    skip: needsFfi,
    expected: "mapped",
    openFile: openWithLibc,
    source: (size) => memfd(size, F_SEAL_SHRINK),
  },
  {
    name: "descriptor of a file",
    skip: needsFfi ?? needsFiles,
    expected: "file",
    openFile: openByDescriptor,
    source: temporaryFile,
  },
  {
    name: "descriptor of an unsealed memfd",
    skip: needsFfi,
    expected: "file",
    openFile: openByDescriptor,
    source: (size) => memfd(size),
  },
  {
    name: "descriptor of a mapped memfd",
    skip: needsFfi,
    expected: "mapped",
    openFile: openByDescriptor,
    source: (size) => memfd(size, F_SEAL_SHRINK),
  },
];

/** RAM with regions of one kind, and all the files behind it. */
export class Guest implements Disposable {
  readonly ram: RamMap;
  readonly #kind: Kind;
  readonly #sources: Source[] = [];

  constructor(kind: Kind) {
    this.#kind = kind;
    this.ram = new RamMap({ openFile: kind.openFile });
  }

  /** Maps a region of zeros. */
  map(gpa: number, size: number, more: { mfn?: number; readonly?: boolean } = {}): Source | null {
    if (this.#kind.source === null) {
      this.ram.map({ gpa, size, ...more });
      return null;
    }
    const source = this.#kind.source(size);
    this.#sources.push(source);
    this.ram.map({ gpa, size, path: source.path, ...more });
    return source;
  }

  [Symbol.dispose](): void {
    this.ram.clear();
    for (const source of this.#sources.splice(0)) source[Symbol.dispose]();
  }
}

/** Registers a test for each of the kinds; those that cannot run say why. */
export function testKinds(name: string, kinds: readonly Kind[], fn: (kind: Kind) => void): void {
  for (const kind of kinds) {
    const why = kind.skip === undefined ? "" : `: skipped, ${kind.skip}`;
    Deno.test({ name: `${name} [${kind.name}${why}]`, ignore: kind.skip !== undefined, fn: () => fn(kind) });
  }
}

/** Registers a test that needs permissions; if one is missing, it says which. */
export function testWith(needs: "ffi" | "files" | "both", name: string, fn: () => void): void {
  const missing = (needs !== "files" ? needsFfi : undefined) ?? (needs !== "ffi" ? needsFiles : undefined);
  const why = missing === undefined ? "" : ` [skipped, ${missing}]`;
  Deno.test({ name: name + why, ignore: missing !== undefined, fn });
}

/** A number that rises by as many as descriptors leak: the eighth descriptor that is free. (A leak can leave a gap.) */
export function eighthFreeDescriptor(): number {
  const file = hasFfi ? null : Deno.makeTempFileSync({ dir: TEMP, prefix: "vgtt-ram-" });
  const fds = Array.from({ length: 8 }, () => file === null ? libc().eventfd(0, 0) : fs.openSync(file, "r"));
  for (const fd of fds) file === null ? libc().close(fd) : fs.closeSync(fd);
  if (file !== null) Deno.removeSync(file);
  return Math.max(...fds);
}

/** `count` bytes 1, 2, 3 … 255, 1, 2 … */
export function counting(count: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: count }, (_, i) => i % 255 + 1);
}
