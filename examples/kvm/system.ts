/**
 * What the example needs of Linux besides Deno: memory that can be shared, ioctls, and a timer that interrupts them. The only
 * file of the example that calls C.
 *
 * @module
 */

const SYMBOLS = {
  open: { parameters: ["buffer", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  ioctl: { parameters: ["i32", "u64", "usize"], result: "i32" },
  ioctl_struct: { name: "ioctl", parameters: ["i32", "u64", "buffer"], result: "i32" },
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  munmap: { parameters: ["pointer", "usize"], result: "i32" },
  gettid: { parameters: [], result: "i32" },
  pthread_sigmask: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  sigtimedwait: { parameters: ["buffer", "pointer", "buffer"], result: "i32" },
  timer_create: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  timer_settime: { parameters: ["u64", "i32", "buffer", "pointer"], result: "i32" },
  timer_delete: { parameters: ["u64"], result: "i32" },
  __errno_location: { parameters: [], result: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

/** How often `KVM_RUN` is interrupted, milliseconds: what a busy guest makes the event loop wait. */
export const TICK_MS = 10;

const O_RDWR_CLOEXEC = 0x8_0002;
const MFD_CLOEXEC_ALLOW_SEALING = 3;
const F_ADD_SEALS = 1033;
const F_SEAL_SHRINK = 2;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
const EINTR = 4;
const SIGALRM = 14;
const SIG_BLOCK = 0;
const SIG_SETMASK = 2;
const SIGEV_THREAD_ID = 4;
const CLOCK_MONOTONIC = 1;
/** Bytes of the C library's `sigset_t`, of which the kernel knows the first 8. */
const SIGSET_BYTES = 128;
const KERNEL_SIGSET_BYTES = 8;

/** A request of an ioctl. */
export interface Request {
  /** For messages. */
  readonly name: string;
  /** As the kernel knows it. */
  readonly number: number;
}

/** C calls of one thread; what fails throws. */
export class C {
  // SAFETY: the signatures above are those of the C library on 64-bit Linux, the only system that KVM exists on.
  readonly #library = Deno.dlopen("libc.so.6", SYMBOLS);
  /** The functions as they are. */
  readonly fn = this.#library.symbols;
  // SAFETY: takes nothing; the int it points to lives as long as this thread.
  readonly #errno = new Int32Array(Deno.UnsafePointerView.getArrayBuffer(this.fn.__errno_location()!, 4));

  /** The last call's error. */
  get errno(): number {
    return this.#errno[0]!;
  }

  /** What a call returned, if that is no error. */
  check(what: string, result: number): number {
    if (result < 0) throw new Error(`${what} failed: errno ${this.errno}`);
    return result;
  }

  /** An ioctl with an integer, or without argument. @returns Its result, or -1 if a signal interrupted it. */
  ioctl(fd: number, request: Request, value: number | bigint = 0): number {
    // SAFETY: the requests that are called so take no address.
    const result = this.fn.ioctl(fd, BigInt(request.number), BigInt(value));
    return result < 0 && this.#errno[0] === EINTR ? -1 : this.check(request.name, result);
  }

  /** An ioctl with a structure. */
  ioctlStruct(fd: number, request: Request, bytes: Uint8Array<ArrayBuffer>): number {
    // SAFETY: the caller's bytes are the whole structure that the request is made for; they outlive the call.
    return this.check(request.name, this.fn.ioctl_struct(fd, BigInt(request.number), bytes));
  }

  /** Maps a file as shared memory. */
  map(fd: number, size: number): { buffer: ArrayBuffer; address: bigint; unmap(): void } {
    // SAFETY: new pages, at an address of the kernel's choice.
    const start = this.fn.mmap(null, BigInt(size), PROT_READ_WRITE, MAP_SHARED, fd, 0n);
    if (start === null || Deno.UnsafePointer.value(start) === MAP_FAILED) this.check("mmap", -1);
    return {
      // SAFETY: exactly the range that was mapped; nothing of it is used after `unmap`.
      buffer: Deno.UnsafePointerView.getArrayBuffer(start!, size),
      address: Deno.UnsafePointer.value(start),
      // SAFETY: the range that mmap gave; called once, by the owner's `dispose`.
      unmap: () => void this.fn.munmap(start, BigInt(size)),
    };
  }

  /** Closes a descriptor. */
  close(fd: number): void {
    // SAFETY: an integer only.
    this.fn.close(fd);
  }

  /** Opens a file to read and write. @returns A descriptor, or -1. */
  open(path: string): number {
    // SAFETY: the path ends with NUL and outlives the call.
    return this.fn.open(text(path), O_RDWR_CLOEXEC);
  }
}

let loaded: C | undefined;

/** The C library, loaded when it is first asked for. */
export function libc(): C {
  return loaded ??= new C();
}

/** Memory that other processes can map: a memfd that cannot shrink, so that they may do so without fear. */
export class SharedMemory implements Disposable {
  /** The bytes, live. */
  readonly buffer: ArrayBuffer;
  /** Where they are in this process. */
  readonly address: bigint;
  /** A path by which another process finds the memory. */
  readonly path: string;
  readonly #c = libc();
  readonly #fd: number;
  readonly #unmap: () => void;

  /**
   * @param size In bytes, a multiple of 4096.
   */
  constructor(size: number) {
    const c = this.#c;
    // SAFETY: the name ends with NUL and outlives the call.
    this.#fd = c.check("memfd_create", c.fn.memfd_create(text("guest-ram"), MFD_CLOEXEC_ALLOW_SEALING));
    // SAFETY: integers only, here and below.
    c.check("ftruncate", c.fn.ftruncate(this.#fd, BigInt(size)));
    c.check("sealing", c.fn.fcntl(this.#fd, F_ADD_SEALS, F_SEAL_SHRINK));
    this.path = `/proc/${Deno.pid}/fd/${this.#fd}`;
    const { buffer, address, unmap } = c.map(this.#fd, size);
    this.buffer = buffer;
    this.address = address;
    this.#unmap = unmap;
  }

  /** Gives the memory back. Nobody may touch {@linkcode buffer} afterwards. */
  [Symbol.dispose](): void {
    this.#unmap();
    this.#c.close(this.#fd);
  }
}

/** Raises SIGALRM for this thread at every tick; the thread has it blocked, so that it only ever ends `KVM_RUN`. */
export class Ticker implements Disposable {
  /** A `struct kvm_signal_mask`: everything stays blocked that is, but the tick. */
  readonly maskWhileRunning: Uint8Array<ArrayBuffer>;
  readonly #c: C;
  readonly #timer: bigint;
  readonly #tick = new Uint8Array(SIGSET_BYTES);
  readonly #before = new Uint8Array(SIGSET_BYTES);
  readonly #noTime = new Uint8Array(16);

  constructor(c: C) {
    this.#c = c;
    const bit = SIGALRM - 1;
    this.#tick[bit >> 3] = 1 << (bit & 7);
    // SAFETY: two whole signal sets, which outlive the call; no signal is handled differently, one is only kept back.
    c.fn.pthread_sigmask(SIG_BLOCK, this.#tick, this.#before);
    this.maskWhileRunning = new Uint8Array(4 + KERNEL_SIGSET_BYTES);
    new DataView(this.maskWhileRunning.buffer).setUint32(0, KERNEL_SIGSET_BYTES, true);
    for (let i = 0; i < KERNEL_SIGSET_BYTES; i++) {
      this.maskWhileRunning[4 + i] = this.#before[i]! & ~this.#tick[i]!;
    }

    const event = new DataView(new ArrayBuffer(64)); // struct sigevent
    event.setInt32(8, SIGALRM, true);
    event.setInt32(12, SIGEV_THREAD_ID, true);
    // SAFETY: takes nothing.
    event.setInt32(16, c.fn.gettid(), true);
    const timer = new BigUint64Array(1);
    // SAFETY: a whole struct sigevent, and 8 bytes for the timer's id; both outlive the call.
    c.check("timer_create", c.fn.timer_create(CLOCK_MONOTONIC, bytesOf(event), new Uint8Array(timer.buffer)));
    this.#timer = timer[0]!;
    const tick = BigInt(TICK_MS * 1_000_000);
    const times = BigUint64Array.of(0n, tick, 0n, tick); // struct itimerspec: interval, first
    // SAFETY: a timer of ours and a whole struct itimerspec, which outlives the call.
    c.check("timer_settime", c.fn.timer_settime(this.#timer, 0, new Uint8Array(times.buffer), null));
  }

  /** Takes the signal that ended `KVM_RUN`. */
  clear(): void {
    // SAFETY: a whole signal set and a whole struct timespec of no time; both outlive the call. No signal is no mistake.
    this.#c.fn.sigtimedwait(this.#tick, null, this.#noTime);
  }

  [Symbol.dispose](): void {
    // SAFETY: a timer of ours, for the last time.
    this.#c.fn.timer_delete(this.#timer);
    this.clear();
    // SAFETY: the signal set that was there before; the old one is not asked for.
    this.#c.fn.pthread_sigmask(SIG_SETMASK, this.#before, null);
  }
}

/** All bytes of a structure. */
export function bytesOf(view: DataView<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return new Uint8Array(view.buffer);
}

function text(ascii: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${ascii}\0`);
}
