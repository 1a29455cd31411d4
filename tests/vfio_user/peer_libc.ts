/**
 * The C library as a VMM uses it: shared memory, eventfds, and Unix sockets that pass descriptors. The one file of the
 * vfio-user tests that calls foreign functions.
 *
 * @module
 */

/** Whether these tests can run: Linux, with the permission for foreign functions. */
export const hasFfi: boolean = Deno.build.os === "linux" &&
  Deno.permissions.querySync({ name: "ffi" }).state === "granted";

const SYMBOLS = {
  close: { parameters: ["i32"], result: "i32" },
  dup: { parameters: ["i32"], result: "i32" },
  open: { parameters: ["buffer", "i32"], result: "i32" },
  pipe: { parameters: ["buffer"], result: "i32" },
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
  pwrite: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  readlink: { parameters: ["buffer", "buffer", "usize"], result: "i32" },
  syscall: { parameters: ["i64", "i32", "buffer", "u32"], result: "i32" },
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "i32" },
  sendmsg: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  poll: { parameters: ["buffer", "usize", "i32"], result: "i32" },
} as const;

// SAFETY: the signatures above are those of the C library on 64-bit Linux.
const c = hasFfi ? Deno.dlopen("libc.so.6", SYMBOLS).symbols : null;

const CLOEXEC = 0x80000;
const DIRECTORY = 0x10000;
const MFD_CLOEXEC_ALLOW_SEALING = 3;
const F_GETFD = 1;
const F_ADD_SEALS = 1033;
const EFD_NONBLOCK_CLOEXEC = 0x80800;
const GETDENTS64 = Deno.build.arch === "aarch64" ? 61n : 217n;
const AF_UNIX = 1;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
const SCM_RIGHTS = 1;
const MSG_NOSIGNAL = 0x4000;
/** How long a send or receive may hang before a test fails, seconds. */
const HANG = 10n;

/** The seal that lets a memfd be mapped. */
export const F_SEAL_SHRINK = 2;
/** The seal that lets nobody write a memfd. */
export const F_SEAL_WRITE = 8;

function lib(): NonNullable<typeof c> {
  if (c === null) throw new Error("this test needs --allow-ffi and must be skipped without");
  return c;
}

function checked(result: number, what: string): number {
  if (result < 0) throw new Error(`${what} failed`);
  return result;
}

function path(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}

/** Closes a descriptor. */
export function close(fd: number): void {
  // SAFETY: an integer only.
  lib().close(fd);
}

/** Another descriptor of the same file. */
export function dup(fd: number): number {
  // SAFETY: an integer only.
  return checked(lib().dup(fd), "dup");
}

/** Whether a number is an open descriptor of this process. */
export function isOpen(fd: number): boolean {
  // SAFETY: integers only.
  return lib().fcntl(fd, F_GETFD, 0) >= 0;
}

/** Shared memory of so many bytes, all 0, with seals. */
export function memfd(size: number, seals: number = F_SEAL_SHRINK): number {
  // SAFETY: the name ends with NUL and outlives the call.
  const fd = checked(lib().memfd_create(path("guest-ram"), MFD_CLOEXEC_ALLOW_SEALING), "memfd_create");
  // SAFETY: integers only.
  checked(lib().ftruncate(fd, BigInt(size)), "ftruncate");
  // SAFETY: integers only.
  checked(lib().fcntl(fd, F_ADD_SEALS, seals), "sealing");
  return fd;
}

/** The same memory, opened to read only. */
export function reopenReadonly(fd: number): number {
  // SAFETY: the path ends with NUL and outlives the call; the flags need no mode.
  return checked(lib().open(path(`/proc/self/fd/${fd}`), CLOEXEC), "open");
}

/** Opens a file to read. */
export function openFile(name: string): number {
  // SAFETY: as for reopenReadonly.
  return checked(lib().open(path(name), CLOEXEC), "open");
}

/** Writes into shared memory, as a guest would. */
export function poke(fd: number, at: number, bytes: Uint8Array<ArrayBuffer>): void {
  // SAFETY: the kernel reads `bytes.length` bytes of the buffer, which outlives the call.
  checked(lib().pwrite(fd, bytes, BigInt(bytes.length), BigInt(at)), "pwrite");
}

/** Writes one page-table entry. */
export function pokeEntry(fd: number, at: number, entry: number): void {
  poke(fd, at, new Uint8Array(BigUint64Array.of(BigInt(entry)).buffer));
}

/** Reads from shared memory. */
export function peek(fd: number, at: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  // SAFETY: the kernel writes at most `length` bytes into the buffer, which outlives the call.
  checked(lib().pread(fd, bytes, BigInt(length), BigInt(at)), "pread");
  return bytes;
}

/** A new eventfd. */
export function eventfd(): number {
  // SAFETY: integers only.
  return checked(lib().eventfd(0, EFD_NONBLOCK_CLOEXEC), "eventfd");
}

/** How often an eventfd was signalled since it was last asked. */
export function signals(fd: number): number {
  const value = new BigUint64Array(1);
  // SAFETY: the kernel writes 8 bytes into a buffer of 8.
  return lib().read(fd, new Uint8Array(value.buffer), 8n) === 8 ? Number(value[0]) : 0;
}

/** Waits until an eventfd was signalled. @returns How often; 0 if it took too long. */
export function awaitSignal(fd: number, timeout: number): number {
  // SAFETY: one entry in a table of one, which outlives the call.
  lib().poll(new Uint8Array(Int32Array.of(fd, 1).buffer), 1n, timeout);
  return signals(fd);
}

/** Both ends of a new pipe. */
export function pipe(): [number, number] {
  const ends = new Int32Array(2);
  // SAFETY: the kernel writes two ints.
  checked(lib().pipe(new Uint8Array(ends.buffer)), "pipe");
  return [ends[0]!, ends[1]!];
}

/**
 * How many descriptors a process has of what travels between a VMM and a device: sockets, eventfds, pipes, shared memory,
 * and whatever else is no file with a path. (A runtime opens and closes files as it likes.)
 */
export function openDescriptors(pid: number | "self" = "self"): number {
  const link = new Uint8Array(128);
  return descriptorNames(pid).filter((name) => {
    // SAFETY: the path ends with NUL; the kernel writes at most as many bytes as it is told the buffer has.
    const length = lib().readlink(path(`/proc/${pid}/fd/${name}`), link, BigInt(link.length));
    const target = new TextDecoder().decode(link.subarray(0, Math.max(length, 0)));
    return target !== "" && (!target.startsWith("/") || target.startsWith("/memfd:guest-ram"));
  }).length;
}

function descriptorNames(pid: number | "self"): string[] {
  // SAFETY: the path ends with NUL and outlives the call.
  const fd = checked(lib().open(path(`/proc/${pid}/fd`), CLOEXEC | DIRECTORY), "open");
  const bytes = new Uint8Array(32 * 1024);
  const view = new DataView(bytes.buffer);
  const names: string[] = [];
  for (;;) {
    // SAFETY: the kernel writes at most as many bytes as it is told the buffer has.
    const length = checked(lib().syscall(GETDENTS64, fd, bytes, bytes.length), "getdents64");
    if (length === 0) break;
    for (let at = 0; at < length; at += view.getUint16(at + 16, true)) {
      const name = bytes.subarray(at + 19, bytes.indexOf(0, at + 19));
      names.push(new TextDecoder().decode(name));
    }
  }
  close(fd);
  return names.filter((name) => !name.startsWith("."));
}

/** Connects to a Unix socket; calls on it wait, but not for ever. */
export function connectTo(name: string): number {
  // SAFETY: integers only.
  const fd = checked(lib().socket(AF_UNIX, 1 | CLOEXEC, 0), "socket");
  const limit = new Uint8Array(BigInt64Array.of(HANG, 0n).buffer);
  for (const option of [SO_RCVTIMEO, SO_SNDTIMEO]) {
    // SAFETY: the kernel reads a struct timeval of 16 bytes, which outlives the call.
    checked(lib().setsockopt(fd, SOL_SOCKET, option, limit, limit.length), "setsockopt");
  }
  const address = Uint8Array.of(AF_UNIX, 0, ...path(name));
  // SAFETY: the kernel reads `address.length` bytes of a sockaddr_un.
  checked(lib().connect(fd, address, address.length), `connecting to ${name}`);
  return fd;
}

/** Receives what has come. @returns How many bytes; 0 at the end; -1 if the connection was reset or nothing came. */
export function receive(fd: number, into: Uint8Array<ArrayBuffer>): number {
  // SAFETY: the kernel writes at most `into.length` bytes into the buffer, which outlives the call.
  return lib().recv(fd, into, BigInt(into.length), 0);
}

/**
 * Sends bytes and descriptors in one call.
 *
 * @returns How many bytes were sent, or -1.
 */
export function send(fd: number, bytes: Uint8Array<ArrayBuffer>, fds: readonly number[] = []): number {
  const control = new Uint8Array(fds.length === 0 ? 0 : 16 + 4 * fds.length + 4 * (fds.length & 1));
  if (fds.length > 0) {
    new BigUint64Array(control.buffer, 0, 1)[0] = BigInt(16 + 4 * fds.length);
    new Int32Array(control.buffer, 8, 2 + fds.length).set([SOL_SOCKET, SCM_RIGHTS, ...fds]);
  }
  const addressOf = (buffer: Uint8Array<ArrayBuffer>) =>
    buffer.length === 0 ? 0n : Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer));
  const vector = BigUint64Array.of(BigInt(addressOf(bytes)), BigInt(bytes.length));
  const header = BigUint64Array.of(
    0n,
    0n,
    BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(vector))),
    1n,
    BigInt(addressOf(control)),
    BigInt(control.length),
    0n,
  );
  // SAFETY: header, vector, bytes and control are alive until the call returns: they are used after it.
  const sent = lib().sendmsg(fd, new Uint8Array(header.buffer), MSG_NOSIGNAL);
  return vector.length + control.length + bytes.length > 0 ? sent : -1;
}

/** A file of `/proc`, which Deno keeps closed, as text. */
export function procText(pid: number, name: string): string {
  const fd = openFile(`/proc/${pid}/${name}`);
  const bytes = new Uint8Array(64 * 1024);
  let text = "";
  for (;;) {
    // SAFETY: the kernel writes at most as many bytes as it is told the buffer has.
    const length = checked(lib().read(fd, bytes, BigInt(bytes.length)), "read");
    if (length === 0) break;
    text += new TextDecoder().decode(bytes.subarray(0, length));
  }
  close(fd);
  return text;
}
