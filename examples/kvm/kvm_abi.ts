/**
 * The part of Linux's KVM interface that the VMM uses, as data: request numbers, sizes and offsets of structures, for x86-64.
 * They are fixed by the kernel's promise to programs; the names are those of `linux/kvm.h`.
 *
 * @module
 */

/** Requests of ioctls. */
export const Request = {
  GET_API_VERSION: { name: "KVM_GET_API_VERSION", number: 0xae00 },
  CREATE_VM: { name: "KVM_CREATE_VM", number: 0xae01 },
  CHECK_EXTENSION: { name: "KVM_CHECK_EXTENSION", number: 0xae03 },
  GET_VCPU_MMAP_SIZE: { name: "KVM_GET_VCPU_MMAP_SIZE", number: 0xae04 },
  GET_SUPPORTED_CPUID: { name: "KVM_GET_SUPPORTED_CPUID", number: 0xc008ae05 },
  CREATE_VCPU: { name: "KVM_CREATE_VCPU", number: 0xae41 },
  SET_USER_MEMORY_REGION: { name: "KVM_SET_USER_MEMORY_REGION", number: 0x4020ae46 },
  SET_TSS_ADDR: { name: "KVM_SET_TSS_ADDR", number: 0xae47 },
  CREATE_IRQCHIP: { name: "KVM_CREATE_IRQCHIP", number: 0xae60 },
  SIGNAL_MSI: { name: "KVM_SIGNAL_MSI", number: 0x4020aea5 },
  RUN: { name: "KVM_RUN", number: 0xae80 },
  GET_REGS: { name: "KVM_GET_REGS", number: 0x8090ae81 },
  SET_REGS: { name: "KVM_SET_REGS", number: 0x4090ae82 },
  GET_SREGS: { name: "KVM_GET_SREGS", number: 0x8138ae83 },
  SET_SREGS: { name: "KVM_SET_SREGS", number: 0x4138ae84 },
  SET_SIGNAL_MASK: { name: "KVM_SET_SIGNAL_MASK", number: 0x4004ae8b },
  SET_CPUID2: { name: "KVM_SET_CPUID2", number: 0x4008ae90 },
} as const;

/** The version of the interface; there has been no other since Linux 2.6.22. */
export const API_VERSION = 12;

/** Numbers of the extensions that are asked for. */
export const Extension = { NR_MEMSLOTS: 10, READONLY_MEM: 81 } as const;

/** Flag of a memory slot: a guest's store to it ends `KVM_RUN` as a store to a device does. */
export const MEM_READONLY = 2;

/** Why `KVM_RUN` returned. */
export const ExitReason = {
  IO: 2,
  MMIO: 6,
  SHUTDOWN: 8,
  FAIL_ENTRY: 9,
  INTR: 10,
  INTERNAL_ERROR: 17,
} as const;

/** Offsets in `struct kvm_run`, the memory that the kernel and the VMM share for each vCPU. */
export const Run = {
  EXIT_REASON: 8,
  /** What follows depends on the reason. */
  IO_IS_OUT: 32,
  IO_SIZE: 33,
  IO_PORT: 34,
  IO_COUNT: 36,
  IO_DATA_OFFSET: 40,
  MMIO_ADDRESS: 32,
  MMIO_DATA: 40,
  MMIO_SIZE: 48,
  MMIO_IS_WRITE: 52,
  /** Of FAIL_ENTRY and INTERNAL_ERROR: a number for who knows the kernel. */
  HARDWARE_REASON: 32,
} as const;

/** Offsets in `struct kvm_regs`, and its size. */
export const Regs = { RSP: 48, RIP: 128, RFLAGS: 136, SIZE: 144 } as const;

/** Offsets in `struct kvm_sregs`, and its size. Segments are {@linkcode Segment}s. */
export const Sregs = {
  CS: 0,
  DS: 24,
  ES: 48,
  SS: 120,
  CR0: 224,
  CR3: 240,
  CR4: 248,
  EFER: 264,
  SIZE: 312,
} as const;

/** Offsets in `struct kvm_segment`. */
export const Segment = {
  SELECTOR: 12,
  TYPE: 14,
  PRESENT: 15,
  DB: 17,
  S: 18,
  L: 19,
  G: 20,
  LIMIT: 8,
} as const;

/** Bytes of a `struct kvm_cpuid2` with this many entries. */
export const CPUID_ENTRIES = 256;
/** Bytes before the entries of a `struct kvm_cpuid2`, and of an entry. */
export const CPUID_HEADER = 8;
/** Bytes of an entry of a `struct kvm_cpuid2`. */
export const CPUID_ENTRY = 40;
