/**
 * `/dev/kvm`: a virtual machine, its memory slots and its one vCPU.
 *
 * `KVM_RUN` is a plain blocking call. So that no guest can keep it for ever, a timer of this thread raises a signal every 10
 * ms. The signal is blocked everywhere but inside `KVM_RUN` (that is what `KVM_SET_SIGNAL_MASK` is for), so it
 * needs no handler: the call just returns, and {@linkcode Vcpu.run} says `"tick"`. The VMM turns its event loop then.
 *
 * @module
 */

import * as abi from "./kvm_abi.ts";
import { bytesOf, type C, libc, Ticker } from "./system.ts";

/** This machine has no KVM that the example could use; the message says why. */
export class NoKvm extends Error {
  /** Always `"NoKvm"`. */
  override readonly name = "NoKvm";
}

/** The guest did what a machine cannot go on from; the message says where. */
export class GuestError extends Error {
  /** Always `"GuestError"`. */
  override readonly name = "GuestError";
}

/** Why the guest stopped. `gpa` and `port` say where, `size` is in bytes, `answer` gives the guest what it reads. */
export type Exit =
  | { readonly kind: "store"; readonly gpa: number; readonly size: number; readonly value: bigint }
  | { readonly kind: "load"; readonly gpa: number; readonly size: number; answer(value: bigint): void }
  | { readonly kind: "out"; readonly port: number; readonly size: number; readonly value: number }
  | { readonly kind: "in"; readonly port: number; readonly size: number; answer(value: number): void }
  | { readonly kind: "tick" };

/** Why `/dev/kvm` cannot be opened, by errno. */
const OPEN_ERRORS = new Map([
  [2, "there is no /dev/kvm: this machine does not virtualize, or its kernel has no KVM"],
  [13, "this user may not open /dev/kvm: the group kvm usually may"],
]);

/** A virtual machine with interrupt controllers and without memory. */
export class Vm implements Disposable {
  /** How many memory slots it may have. */
  readonly maxSlots: number;
  readonly #c: C;
  readonly #kvm: number;
  readonly #fd: number;

  /**
   * @throws {NoKvm} If there is no usable KVM.
   */
  constructor() {
    if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") {
      throw new NoKvm("this is no Linux on x86-64");
    }
    const c = this.#c = libc();
    this.#kvm = c.open("/dev/kvm");
    if (this.#kvm < 0) {
      throw new NoKvm(OPEN_ERRORS.get(c.errno) ?? `/dev/kvm cannot be opened: errno ${c.errno}`);
    }
    try {
      this.#fd = this.#create();
      this.maxSlots = c.ioctl(this.#fd, abi.Request.CHECK_EXTENSION, abi.Extension.NR_MEMSLOTS);
    } catch (error) {
      c.close(this.#kvm);
      throw new NoKvm(error instanceof Error ? error.message : "KVM does not work", { cause: error });
    }
  }

  #create(): number {
    const c = this.#c;
    const version = c.ioctl(this.#kvm, abi.Request.GET_API_VERSION);
    if (version !== abi.API_VERSION) throw new Error(`KVM has version ${version}: need ${abi.API_VERSION}`);
    if (c.ioctl(this.#kvm, abi.Request.CHECK_EXTENSION, abi.Extension.READONLY_MEM) === 0) {
      throw new Error("KVM has no read-only memory slots");
    }
    const fd = c.ioctl(this.#kvm, abi.Request.CREATE_VM);
    try {
      // Intel's processors want three pages of address space for themselves: below the BIOS, where no RAM is.
      c.ioctl(fd, abi.Request.SET_TSS_ADDR, 0xfffb_d000);
      c.ioctl(fd, abi.Request.CREATE_IRQCHIP);
      return fd;
    } catch (error) {
      c.close(fd);
      throw error;
    }
  }

  /**
   * Gives the guest some memory, or takes it away.
   *
   * @param slot Its number.
   * @param gpa Where the guest sees it.
   * @param size In bytes; 0 deletes the slot.
   * @param address Where it is in this process.
   * @param isReadOnly Whether the guest's stores to it are exits.
   */
  setSlot(slot: number, gpa: number, size: number, address: bigint, isReadOnly: boolean): void {
    const region = new DataView(new ArrayBuffer(32));
    region.setUint32(0, slot, true);
    region.setUint32(4, isReadOnly ? abi.MEM_READONLY : 0, true);
    region.setBigUint64(8, BigInt(gpa), true);
    region.setBigUint64(16, BigInt(size), true);
    region.setBigUint64(24, address, true);
    this.#c.ioctlStruct(this.#fd, abi.Request.SET_USER_MEMORY_REGION, bytesOf(region));
  }

  /**
   * Delivers a message-signalled interrupt, as the write of a device's `data` to `address` would.
   *
   * Simpler than `KVM_INTERRUPT`, which works without KVM's interrupt controllers: then the VMM has to have a local APIC of
   * its own, and to wait for the moment when the guest can be interrupted.
   */
  signalMsi(address: bigint, data: number): void {
    const message = new DataView(new ArrayBuffer(32));
    message.setBigUint64(0, address, true); // address_lo, address_hi
    message.setUint32(8, data, true);
    this.#c.ioctlStruct(this.#fd, abi.Request.SIGNAL_MSI, bytesOf(message));
  }

  /** Makes the vCPU; all its calls must come from this thread. */
  createVcpu(): Vcpu {
    const cpuid = new Uint8Array(abi.CPUID_HEADER + abi.CPUID_ENTRIES * abi.CPUID_ENTRY);
    new DataView(cpuid.buffer).setUint32(0, abi.CPUID_ENTRIES, true);
    this.#c.ioctlStruct(this.#kvm, abi.Request.GET_SUPPORTED_CPUID, cpuid);
    const runSize = this.#c.ioctl(this.#kvm, abi.Request.GET_VCPU_MMAP_SIZE);
    return new Vcpu(this.#c.ioctl(this.#fd, abi.Request.CREATE_VCPU, 0), runSize, cpuid);
  }

  /** Ends the virtual machine. */
  [Symbol.dispose](): void {
    this.#c.close(this.#fd);
    this.#c.close(this.#kvm);
  }
}

/** A virtual processor. */
export class Vcpu implements Disposable {
  readonly #c = libc();
  readonly #fd: number;
  readonly #shared: { buffer: ArrayBuffer; unmap(): void };
  readonly #run: DataView<ArrayBuffer>;
  readonly #ticker: Ticker;

  /** Takes over `fd`. */
  constructor(fd: number, runSize: number, cpuid: Uint8Array<ArrayBuffer>) {
    this.#fd = fd;
    this.#c.ioctlStruct(fd, abi.Request.SET_CPUID2, cpuid);
    this.#shared = this.#c.map(fd, runSize);
    this.#run = new DataView(this.#shared.buffer);
    this.#ticker = new Ticker(this.#c);
    this.#c.ioctlStruct(fd, abi.Request.SET_SIGNAL_MASK, this.#ticker.maskWhileRunning);
  }

  /**
   * Puts the processor into 64-bit mode, without interrupts.
   *
   * @param entry Where it starts.
   * @param stack Its stack pointer.
   * @param pageTable Physical address of its PML4 table.
   */
  enterLongMode(entry: number, stack: number, pageTable: number): void {
    const sregs = new DataView(new ArrayBuffer(abi.Sregs.SIZE));
    this.#c.ioctlStruct(this.#fd, abi.Request.GET_SREGS, bytesOf(sregs));
    flatSegment(sregs, abi.Sregs.CS, 0x08, 0xb, true);
    for (const segment of [abi.Sregs.DS, abi.Sregs.ES, abi.Sregs.SS]) {
      flatSegment(sregs, segment, 0x10, 0x3, false);
    }
    sregs.setBigUint64(abi.Sregs.CR0, 0x8000_0011n, true); // paging, extension type, protected mode
    sregs.setBigUint64(abi.Sregs.CR3, BigInt(pageTable), true);
    sregs.setBigUint64(abi.Sregs.CR4, 0x220n, true); // physical address extension, SSE
    sregs.setBigUint64(abi.Sregs.EFER, 0x500n, true); // long mode, enabled and active
    this.#c.ioctlStruct(this.#fd, abi.Request.SET_SREGS, bytesOf(sregs));
    const regs = new DataView(new ArrayBuffer(abi.Regs.SIZE));
    regs.setBigUint64(abi.Regs.RIP, BigInt(entry), true);
    regs.setBigUint64(abi.Regs.RSP, BigInt(stack), true);
    regs.setBigUint64(abi.Regs.RFLAGS, 2n, true); // the bit that is always set
    this.#c.ioctlStruct(this.#fd, abi.Request.SET_REGS, bytesOf(regs));
  }

  /** Where the guest is: its instruction pointer. */
  get rip(): bigint {
    const regs = new DataView(new ArrayBuffer(abi.Regs.SIZE));
    this.#c.ioctlStruct(this.#fd, abi.Request.GET_REGS, bytesOf(regs));
    return regs.getBigUint64(abi.Regs.RIP, true);
  }

  /**
   * Lets the guest run until it does something that the VMM has to see to, for a tick at most. An access of more than 8 bytes,
   * or across pages, comes as several exits.
   *
   * @returns What it did. A load or an `in` must be answered before the next call.
   * @throws {Error} If the guest cannot go on.
   */
  run(): Exit {
    if (this.#c.ioctl(this.#fd, abi.Request.RUN) < 0) {
      this.#ticker.clear();
      return { kind: "tick" };
    }
    const reason = this.#run.getUint32(abi.Run.EXIT_REASON, true);
    if (reason === abi.ExitReason.MMIO) return this.#mmio();
    if (reason === abi.ExitReason.IO) return this.#io();
    const name = Object.entries(abi.ExitReason).find(([, each]) => each === reason)?.[0] ?? "exit reason";
    const detail = this.#run.getBigUint64(abi.Run.HARDWARE_REASON, true);
    throw new GuestError(
      `The guest cannot go on at 0x${this.rip.toString(16)}: ${name} (${reason}), 0x${detail.toString(16)}`,
    );
  }

  #mmio(): Exit {
    const run = this.#run;
    const gpa = Number(run.getBigUint64(abi.Run.MMIO_ADDRESS, true));
    const size = run.getUint32(abi.Run.MMIO_SIZE, true);
    if (run.getUint8(abi.Run.MMIO_IS_WRITE) === 0) {
      return { kind: "load", gpa, size, answer: (value) => run.setBigUint64(abi.Run.MMIO_DATA, value, true) };
    }
    const value = BigInt.asUintN(8 * size, run.getBigUint64(abi.Run.MMIO_DATA, true));
    return { kind: "store", gpa, size, value };
  }

  #io(): Exit {
    const run = this.#run;
    const size = run.getUint8(abi.Run.IO_SIZE);
    const port = run.getUint16(abi.Run.IO_PORT, true);
    const at = Number(run.getBigUint64(abi.Run.IO_DATA_OFFSET, true));
    if (run.getUint32(abi.Run.IO_COUNT, true) !== 1) {
      throw new GuestError(`The guest used a string instruction on port ${port}`);
    }
    if (run.getUint8(abi.Run.IO_IS_OUT) === 0) {
      return { kind: "in", port, size, answer: (value) => run.setUint32(at, value, true) };
    }
    const value = run.getUint32(at, true);
    return { kind: "out", port, size, value: size === 4 ? value : value & (2 ** (8 * size) - 1) };
  }

  /** Ends the vCPU. */
  [Symbol.dispose](): void {
    this.#ticker[Symbol.dispose]();
    this.#shared.unmap();
    this.#c.close(this.#fd);
  }
}

/** A segment that covers everything. */
function flatSegment(sregs: DataView, at: number, selector: number, type: number, isCode: boolean): void {
  sregs.setBigUint64(at, 0n, true);
  sregs.setUint32(at + abi.Segment.LIMIT, 0xffff_ffff, true);
  sregs.setUint16(at + abi.Segment.SELECTOR, selector, true);
  sregs.setUint8(at + abi.Segment.TYPE, type);
  sregs.setUint8(at + abi.Segment.PRESENT, 1);
  sregs.setUint8(at + abi.Segment.DB, isCode ? 0 : 1);
  sregs.setUint8(at + abi.Segment.S, 1);
  sregs.setUint8(at + abi.Segment.L, isCode ? 1 : 0);
  sregs.setUint8(at + abi.Segment.G, 1);
}
