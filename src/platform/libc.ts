/**
 * The C library, as far as this project needs it, by FFI (`--allow-ffi`): files and their memory, Unix sockets with
 * descriptors that come with messages, events. It is the only place where foreign functions are called.
 *
 * Every call answers like the kernel's own interface: a result of 0 or more, or a negative errno. The calls
 * are plain and synchronous; who may open what, and what to do about a failure, is decided by the callers.
 * Works on Linux with glibc or musl, on x86-64 and arm64: the numbers and layouts used here are the same on
 * both (which is why files are inspected by `statx`, whose layout is, and not by `fstat`, whose layout is
 * not).
 *
 * 64-bit parameters are passed as bigint on purpose: a call that is given a number there takes 0.3 µs longer. 64-bit
 * results that fit are declared 32 bits wide, which is the lower half of the register they come in: a bigint would be
 * allocated for each.
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
  memcmp: { parameters: ["buffer", "buffer", "usize"], result: "i32" },
  readlink: { parameters: ["buffer", "buffer", "usize"], result: "i32" },
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  listen: { parameters: ["i32", "i32"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  accept4: { parameters: ["i32", "pointer", "pointer", "i32"], result: "i32" },
  poll: { parameters: ["buffer", "usize", "i32"], result: "i32" },
  recvmsg: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  sendmsg: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  write: { parameters: ["i32", "buffer", "usize"], result: "i32" },
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

/** Memory of the process's own, at an address that foreign code can be told. */
export interface OwnMemory {
  /** The bytes, all 0 at first. Must not be touched after {@linkcode free}. */
  readonly buffer: ArrayBuffer;
  /** Where they are. */
  readonly address: bigint;
  /** Gives the memory back. Legal more than once. */
  free(): void;
}

/** Bits of an entry of {@linkcode Libc.poll}. */
export const PollEvent = {
  /** There is something to read, or the end of the stream. */
  IN: 0x01,
  /** There is room to write. */
  OUT: 0x04,
  /** The descriptor has failed. */
  ERR: 0x08,
  /** The peer has closed. */
  HUP: 0x10,
  /** This is no open descriptor. */
  NVAL: 0x20,
} as const;

/** Bytes of one entry of {@linkcode Libc.poll}: a 32-bit descriptor, 16 bits of events asked for, 16 of answers. */
export const POLL_ENTRY_BYTES = 8;

const F_GET_SEALS = 1034;
const AF_UNIX = 1;
/** `struct sockaddr_un`: the family, and a path of 108 bytes. */
const SOCKADDR_UN_BYTES = 110;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const EFD_NONBLOCK = 0x800;
const EFD_CLOEXEC = 0x80000;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const SOL_SOCKET = 1;
const SO_TYPE = 3;
const SO_ACCEPTCONN = 30;
const SO_DOMAIN = 39;
const F_GETFL = 3;
const F_SETFL = 4;
const O_APPEND = 0x400;
const O_NONBLOCK = 0x800;
/** Connections that may wait to be accepted. */
const BACKLOG = 64;
const EVENT_BYTES = 8n;
/** What a link in `/proc/self/fd` says of an eventfd. */
const EVENTFD_LINK = "anon_inode:[eventfd]";
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
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

const PAGE_BYTES = 4096;
/** Made once: a number would be converted at each call. */
const BIG_PAGE_BYTES = 4096n;

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
  readonly #one: Uint8Array<ArrayBuffer> = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);
  readonly #event: Uint8Array<ArrayBuffer> = new Uint8Array(8);
  readonly #pollOne: Int32Array<ArrayBuffer> = new Int32Array(2);
  readonly #pollOneBytes: Uint8Array<ArrayBuffer> = new Uint8Array(this.#pollOne.buffer);

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
   * Whether a file was opened to append: {@linkcode pwrite} then ignores its position.
   *
   * @param fd Any descriptor.
   * @returns Whether it was; `false` if that cannot be told.
   */
  isAppending(fd: number): boolean {
    // SAFETY: integers only; this command ignores the third argument.
    const flags = this.#result(this.#c.fcntl(fd, F_GETFL, 0));
    return flags >= 0 && (flags & O_APPEND) !== 0;
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
   * Compares two pages of 4096 bytes, which takes a third of the time of a loop over their entries.
   *
   * @param a A page.
   * @param b Another.
   * @returns Whether all their bytes are the same; `false` for arrays that are no pages.
   */
  isSamePage(a: Uint8Array<ArrayBuffer>, b: Uint8Array<ArrayBuffer>): boolean {
    if (a.length !== PAGE_BYTES || b.length !== PAGE_BYTES) return false;
    // SAFETY: both have as many bytes as are compared, and outlive the call; nothing is written.
    return this.#c.memcmp(a, b, BIG_PAGE_BYTES) === 0;
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

  /**
   * Takes memory that no other part of the program has.
   *
   * @param size In bytes, more than 0.
   * @returns The memory, or a negative errno.
   */
  allocate(size: number): OwnMemory | number {
    // SAFETY: new pages, at an address of the kernel's choice.
    const start = this.#c.mmap(null, BigInt(size), PROT_READ | PROT_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0n);
    if (start === null || Deno.UnsafePointer.value(start) === MAP_FAILED) return this.#result(-1);
    let isMapped = true;
    return {
      // SAFETY: exactly the range that was mapped; `free` says until when it may be used.
      buffer: Deno.UnsafePointerView.getArrayBuffer(start, size),
      address: BigInt(Deno.UnsafePointer.value(start)),
      free: () => {
        if (!isMapped) return;
        isMapped = false;
        // SAFETY: the range that mmap gave, and only once.
        this.#c.munmap(start, BigInt(size));
      },
    };
  }

  /**
   * Makes a stream socket of the Unix kind; none of its calls waits.
   *
   * @returns A descriptor, or a negative errno.
   */
  unixSocket(): number {
    // SAFETY: integers only.
    return this.#result(this.#c.socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  }

  /**
   * Gives a socket its path, which must not exist, and listens on it.
   *
   * @param fd A socket of {@linkcode unixSocket}.
   * @param path At most 107 bytes, without NUL characters.
   * @returns 0, or a negative errno.
   */
  listenAt(fd: number, path: string): number {
    const name = this.#socketName(path);
    // SAFETY: the kernel reads `name.length` bytes of a whole sockaddr_un, which outlives the call.
    const bound = this.#result(this.#c.bind(fd, name, name.length));
    // SAFETY: integers only.
    return bound < 0 ? bound : this.#result(this.#c.listen(fd, BACKLOG));
  }

  /**
   * Connects a socket, or finds out that nobody listens.
   *
   * @param fd A socket of {@linkcode unixSocket}.
   * @param path At most 107 bytes, without NUL characters.
   * @returns 0, or a negative errno: -ECONNREFUSED if nobody listens, -EAGAIN if too many wait to be accepted.
   */
  connectTo(fd: number, path: string): number {
    const name = this.#socketName(path);
    // SAFETY: as for bind.
    return this.#result(this.#c.connect(fd, name, name.length));
  }

  /**
   * Whether a descriptor is a Unix stream socket that listens.
   *
   * @param fd Any number.
   * @returns Whether {@linkcode accept} will take it.
   */
  isListening(fd: number): boolean {
    return this.#socketOption(fd, SO_DOMAIN) === AF_UNIX && this.#socketOption(fd, SO_TYPE) === SOCK_STREAM &&
      this.#socketOption(fd, SO_ACCEPTCONN) === 1;
  }

  /**
   * The path that a Unix socket was bound to.
   *
   * @param fd A Unix socket.
   * @returns The path, as it was given then; `null` if the socket has none, or one that depends on the binder's folder.
   */
  socketPath(fd: number): string | null {
    const name = new Uint8Array(SOCKADDR_UN_BYTES);
    const length = Uint32Array.of(name.length);
    // SAFETY: the kernel writes at most `name.length` bytes of the name and 4 of its length; both outlive the call.
    if (this.#c.getsockname(fd, name, length) < 0) return null;
    const path = new TextDecoder().decode(name.subarray(2, length[0]!)).replace(/\0.*$/s, "");
    return path.startsWith("/") ? path : null;
  }

  /**
   * Makes the calls on a descriptor not wait, for whoever has it.
   *
   * @param fd An open descriptor.
   * @returns 0 or more, or a negative errno.
   */
  setNonBlocking(fd: number): number {
    // SAFETY: integers only.
    const flags = this.#result(this.#c.fcntl(fd, F_GETFL, 0));
    // SAFETY: integers only.
    return flags < 0 ? flags : this.#result(this.#c.fcntl(fd, F_SETFL, flags | O_NONBLOCK));
  }

  /**
   * Accepts a connection; does not wait.
   *
   * @param fd A listening socket.
   * @returns A descriptor, or a negative errno: -EAGAIN if there is none.
   */
  accept(fd: number): number {
    // SAFETY: without addresses the kernel writes none.
    return this.#result(this.#c.accept4(fd, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC));
  }

  /**
   * Waits until something happens to one of some descriptors.
   *
   * @param entries A table of {@linkcode POLL_ENTRY_BYTES} each, of which the answers are filled in.
   * @param count How many entries; a bigint that the caller keeps, so that none is made here.
   * @param timeout In milliseconds; 0 to look only, -1 to wait for ever.
   * @returns How many entries have an answer, or a negative errno: -EINTR if a signal came first.
   */
  poll(entries: Uint8Array<ArrayBuffer>, count: bigint, timeout: number): number {
    // SAFETY: the caller's table has `count` entries and outlives the call.
    return this.#result(this.#c.poll(entries, count, timeout));
  }

  /**
   * Receives what has come; does not wait.
   *
   * @param fd A connected socket.
   * @param header A `struct msghdr` in memory of {@linkcode allocate}; what it points to is there as well.
   * @returns How many bytes, 0 at the end of the stream, or a negative errno: -EAGAIN if nothing has come.
   */
  receiveMessage(fd: number, header: Uint8Array<ArrayBuffer>): number {
    // SAFETY: the caller answers for the header; everything it points to lives as long as the caller's memory.
    return this.#result(this.#c.recvmsg(fd, header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
  }

  /**
   * Sends as much as there is room for; does not wait.
   *
   * @param fd A connected socket.
   * @param header As for {@linkcode receiveMessage}.
   * @returns How many bytes, or a negative errno: -EAGAIN if there is no room, -EPIPE if the peer is gone.
   */
  sendMessage(fd: number, header: Uint8Array<ArrayBuffer>): number {
    // SAFETY: as for recvmsg.
    return this.#result(this.#c.sendmsg(fd, header, MSG_DONTWAIT | MSG_NOSIGNAL));
  }

  /**
   * Makes an eventfd: a number that {@linkcode signalEvent} raises and {@linkcode clearEvent} puts back to 0.
   *
   * @returns A descriptor that can be read while the number is not 0, or a negative errno.
   */
  eventfd(): number {
    // SAFETY: integers only.
    return this.#result(this.#c.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  }

  /**
   * Whether a descriptor is an eventfd. It stays one.
   *
   * @param fd Any descriptor.
   * @returns Whether it is; `false` if that cannot be told.
   */
  isEventfd(fd: number): boolean {
    const link = new Uint8Array(64);
    // SAFETY: the path ends with NUL; the kernel writes at most `link.length` bytes; both outlive the call.
    const length = this.#c.readlink(this.#encoder.encode(`/proc/self/fd/${fd}\0`), link, BigInt(link.length));
    return length >= 0 && new TextDecoder().decode(link.subarray(0, length)) === EVENTFD_LINK;
  }

  /**
   * Raises an eventfd by 1. If its number is at its end nothing happens, and whoever waits for it has been woken long
   * ago. Does not wait, unless the eventfd is one that does and somebody fills it at this very moment.
   *
   * @param fd An eventfd.
   * @returns 0 or more, or a negative errno.
   */
  signalEvent(fd: number): number {
    this.#pollOne[0] = fd;
    this.#pollOne[1] = PollEvent.OUT;
    // SAFETY: one entry, in a table of one, which outlives the call.
    const ready = this.#c.poll(this.#pollOneBytes, 1n, 0);
    if (ready <= 0) return this.#result(ready);
    // SAFETY: the kernel reads 8 bytes of a buffer of 8.
    return this.#result(this.#c.write(fd, this.#one, EVENT_BYTES));
  }

  /**
   * Puts an eventfd of {@linkcode eventfd} back to 0.
   *
   * @param fd The eventfd.
   */
  clearEvent(fd: number): void {
    // SAFETY: the kernel writes 8 bytes into a buffer of 8. If the number was 0 already, nothing happens.
    this.#c.read(fd, this.#event, EVENT_BYTES);
  }

  /** An option of a socket that is an int, or a negative errno. */
  #socketOption(fd: number, option: number): number {
    const value = new Int32Array(1);
    const length = Uint32Array.of(4);
    // SAFETY: the kernel writes at most 4 bytes of the value and 4 of its length; both outlive the call.
    const result = this.#c.getsockopt(fd, SOL_SOCKET, option, value, length);
    return result < 0 ? this.#result(result) : value[0]!;
  }

  /** A `struct sockaddr_un`. */
  #socketName(path: string): Uint8Array<ArrayBuffer> {
    const bytes = this.#encoder.encode(path);
    const name = new Uint8Array(2 + bytes.length + 1);
    name[0] = AF_UNIX;
    name.set(bytes, 2);
    return name;
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
