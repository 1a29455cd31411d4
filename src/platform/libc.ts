/**
 * The C library, as far as this project needs it, by FFI (`--allow-ffi`): opening and inspecting files,
 * reading and writing them at a position, sharing their memory.
 *
 * Every call answers like the kernel's own interface: a result of 0 or more, or a negative errno. The calls
 * are plain and synchronous; who may open what, and what to do about a failure, is decided by the callers.
 * Works on Linux with glibc or musl, on x86-64 and arm64: the numbers and layouts used here are the same on
 * both (which is why files are inspected by `statx`, whose layout is, and not by `fstat`, whose layout is
 * not).
 *
 * 64-bit parameters are passed as bigint on purpose: a call that is given a number there takes 0.3 µs longer.
 *
 * @module
 */

const SYMBOLS = {
  open: { parameters: ["buffer", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
  fstatfs: { parameters: ["i32", "buffer"], result: "i32" },
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
  pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
  mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  munmap: { parameters: ["pointer", "usize"], result: "i32" },
  __errno_location: { parameters: [], result: "pointer" },
} as const;

/** Where the C library is: glibc's name, then the name that musl's loader answers to. */
const LIBRARY_NAMES = ["libc.so.6", "libc.so"];

/** Flags of {@linkcode Libc.open}. */
export const OpenFlag = {
  /** Read only. */
  RDONLY: 0,
  /** Read and write. */
  RDWR: 2,
  /** Never take the file as the process's terminal. */
  NOCTTY: 0x100,
  /** Never wait: for a pipe's other end, for a lease to be given up. */
  NONBLOCK: 0x800,
  /** Do not hand the descriptor to child processes. */
  CLOEXEC: 0x80000,
  /** Only name the file: nothing of it is opened, so a device or a pipe notices nothing. */
  PATH: 0x200000,
} as const;

/** Bits of {@linkcode Libc.seals}. */
export const Seal = {
  /** The file cannot get smaller. */
  SHRINK: 0x02,
  /** The file's content cannot change. */
  WRITE: 0x08,
  /** The file's content can only be changed through mappings that exist already. */
  FUTURE_WRITE: 0x10,
} as const;

/** File types, as {@linkcode FileStatus.type} tells them. */
export const FileType = {
  /** A pipe with a name. */
  FIFO: 0o010000,
  /** A character device. */
  CHARACTER_DEVICE: 0o020000,
  /** A directory. */
  DIRECTORY: 0o040000,
  /** A block device. */
  BLOCK_DEVICE: 0o060000,
  /** A regular file; a memfd is one. */
  REGULAR: 0o100000,
  /** A socket. */
  SOCKET: 0o140000,
} as const;

/** What {@linkcode Libc.status} tells about an open file. */
export interface FileStatus {
  /** One of {@linkcode FileType}; 0 for what has no type, such as an eventfd. */
  readonly type: number;
  /** Size in bytes. */
  readonly size: number;
}

/** Memory shared with a file. */
export interface Mapping {
  /** The file's bytes, live. Must not be touched after {@linkcode unmap}: the addresses are gone then. */
  readonly buffer: ArrayBuffer;
  /** Ends the mapping. Legal more than once. */
  unmap(): void;
}

const F_GET_SEALS = 1034;
const AT_EMPTY_PATH = 0x1000;
const STATX_TYPE_AND_SIZE = 0x0001 | 0x0200;
const STATX_BYTES = 256;
const STATX_MODE_AT = 28;
const STATX_SIZE_AT = 40;
/** Large enough for `struct statfs` (120 bytes); its first member is the type. */
const STATFS_BYTES = 256;
const FORMAT_MASK = 0o170000;
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

const EMPTY_PATH = new Uint8Array(1);

/**
 * The calls, bound to the C library. One instance belongs to one thread: errno does.
 *
 * @example Read a file's first bytes
 * ```ts ignore
 * const libc = loadLibc();
 * const fd = libc.open("/etc/hostname", OpenFlag.RDONLY | OpenFlag.CLOEXEC);
 * const bytes = new Uint8Array(16);
 * const count = libc.pread(fd, bytes, 0);
 * libc.close(fd);
 * ```
 */
export class Libc {
  readonly #c: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];
  readonly #errno: Int32Array;
  readonly #encoder: TextEncoder = new TextEncoder();

  /**
   * Binds the calls for the calling thread.
   *
   * @param library The loaded C library.
   */
  constructor(library: Deno.DynamicLibrary<typeof SYMBOLS>) {
    this.#c = library.symbols;
    // SAFETY: takes nothing; the result is the address of the calling thread's errno.
    const errno = this.#c.__errno_location();
    if (errno === null) throw new Error("Cannot find errno: the C library gives no address for it");
    // SAFETY: errno is an aligned int that lives as long as its thread, and with it as long as this isolate.
    this.#errno = new Int32Array(Deno.UnsafePointerView.getArrayBuffer(errno, 4));
  }

  /**
   * Opens an existing file.
   *
   * @param path Without NUL characters; what comes after one would be lost.
   * @param flags An or of {@linkcode OpenFlag}.
   * @returns A descriptor, or a negative errno.
   */
  open(path: string, flags: number): number {
    // SAFETY: the path ends with NUL and outlives the call; no flag asks for the third argument (a mode).
    return this.#result(this.#c.open(this.#encoder.encode(`${path}\0`), flags));
  }

  /**
   * Closes a descriptor.
   *
   * @param fd Owned by the caller, who forgets it.
   */
  close(fd: number): void {
    // SAFETY: an integer only. Linux frees the descriptor even when close reports an error, so none is looked at.
    this.#c.close(fd);
  }

  /**
   * Type and size of an open file.
   *
   * @param fd Any descriptor, also one opened with {@linkcode OpenFlag.PATH}.
   * @returns The status, or a negative errno.
   */
  status(fd: number): FileStatus | number {
    const bytes = new Uint8Array(STATX_BYTES);
    // SAFETY: the empty path ends with NUL; the buffer holds a whole struct statx; both outlive the call.
    const result = this.#c.statx(fd, EMPTY_PATH, AT_EMPTY_PATH, STATX_TYPE_AND_SIZE, bytes);
    if (result < 0) return this.#result(result);
    const view = new DataView(bytes.buffer);
    return {
      type: view.getUint16(STATX_MODE_AT, true) & FORMAT_MASK,
      size: Number(view.getBigUint64(STATX_SIZE_AT, true)),
    };
  }

  /**
   * The kind of file system that an open file is on.
   *
   * @param fd Any descriptor.
   * @returns The file system's magic number, or a negative errno.
   */
  fileSystem(fd: number): number {
    const bytes = new Uint8Array(STATFS_BYTES);
    // SAFETY: the buffer is larger than struct statfs and outlives the call.
    const result = this.#c.fstatfs(fd, bytes);
    return result < 0 ? this.#result(result) : new DataView(bytes.buffer).getUint32(0, true);
  }

  /**
   * The seals of a file in memory. Seals are only ever added, never taken off.
   *
   * @param fd An open file.
   * @returns An or of {@linkcode Seal} and other bits, or a negative errno (-EINVAL: this file has no seals).
   */
  seals(fd: number): number {
    // SAFETY: integers only; this command ignores the third argument.
    return this.#result(this.#c.fcntl(fd, F_GET_SEALS, 0));
  }

  /**
   * Reads from a position.
   *
   * @param fd An open file.
   * @param into Filled from its start, as far as the file goes.
   * @param position In bytes from the file's start.
   * @returns The number of bytes read, 0 at the end of the file, or a negative errno.
   */
  pread(fd: number, into: Uint8Array<ArrayBuffer>, position: number): number {
    // SAFETY: the kernel writes at most `into.length` bytes into `into`, which outlives the call.
    return this.#result(Number(this.#c.pread(fd, into, BigInt(into.length), BigInt(position))));
  }

  /**
   * Writes at a position.
   *
   * @param fd An open file.
   * @param bytes What to write.
   * @param position In bytes from the file's start.
   * @returns The number of bytes written, or a negative errno.
   */
  pwrite(fd: number, bytes: Uint8Array<ArrayBuffer>, position: number): number {
    // SAFETY: the kernel reads at most `bytes.length` bytes of `bytes`, which outlives the call.
    return this.#result(Number(this.#c.pwrite(fd, bytes, BigInt(bytes.length), BigInt(position))));
  }

  /**
   * Shares a part of a file as memory. The descriptor may be closed afterwards.
   *
   * The caller answers for the file's size: touching memory beyond the file's end kills the process.
   *
   * @param fd An open file.
   * @param offset In bytes, a multiple of the page size.
   * @param size In bytes, more than 0.
   * @param writable Whether the memory may be written; if not, a store to it kills the process.
   * @returns The mapping, or a negative errno.
   */
  mapShared(fd: number, offset: number, size: number, writable: boolean): Mapping | number {
    const protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    // SAFETY: with no address given the kernel picks a free range, so no memory in use is replaced.
    const start = this.#c.mmap(null, BigInt(size), protection, MAP_SHARED, fd, BigInt(offset));
    if (start === null || Deno.UnsafePointer.value(start) === MAP_FAILED) return this.#result(-1);
    let mapped = true;
    return {
      // SAFETY: exactly the range that was mapped; `unmap` says until when it may be used.
      buffer: Deno.UnsafePointerView.getArrayBuffer(start, size),
      unmap: () => {
        if (!mapped) return;
        mapped = false;
        // SAFETY: the range that mmap gave, and only once: the kernel may have given it to someone else since.
        this.#c.munmap(start, BigInt(size));
      },
    };
  }

  /** Turns the C convention (-1 and errno) into the kernel's (negative errno). */
  #result(value: number): number {
    return value >= 0 ? value : -(this.#errno[0] ?? 0);
  }
}

let loaded: Libc | undefined;

/**
 * The C library, loaded when it is first asked for.
 *
 * @returns The one instance of this thread.
 * @throws {Error} If this is not Linux on x86-64 or arm64, if no C library is found, or without the
 * permission.
 */
export function loadLibc(): Libc {
  loaded ??= new Libc(openLibrary());
  return loaded;
}

function openLibrary(): Deno.DynamicLibrary<typeof SYMBOLS> {
  const { os, arch } = Deno.build;
  if (os !== "linux") throw new Error(`Cannot call the C library: only Linux is supported, this is ${os}`);
  let reason: unknown;
  for (const name of LIBRARY_NAMES) {
    try {
      // SAFETY: the signatures above are those of the C library on 64-bit Linux, the only one Deno runs on.
      return Deno.dlopen(name, SYMBOLS);
    } catch (error) {
      reason ??= error;
    }
  }
  throw new Error(`Cannot load the C library (${LIBRARY_NAMES.join(", ")}) on ${arch}`, { cause: reason });
}
