/*
 * The machine as its guest sees it: ports and addresses. `machine.ts` is the VMM's side of the same.
 */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

/* Ports by which the guest talks to the VMM. */
#define PORT_NAME 0x500   /* address of what this step is called */
#define PORT_STEP 0x504   /* a step is done, its number: the VMM checks every translation before it goes on */
#define PORT_SUBMIT 0x508 /* a workload would be submitted now */
#define PORT_EVENT 0x50c  /* an engine of the device would be done now */
#define PORT_FAIL 0x510   /* the guest found something wrong, in this line */
#define PORT_END 0x514    /* all done */
#define PORT_SEED 0x518   /* reads the seed of random numbers */

/* PCI configuration space, and the device at 00:02.0. */
#define PORT_PCI_ADDRESS 0xcf8
#define PORT_PCI_DATA 0xcfc
#define PCI_DEVICE 0x80001000u

/* RAM: below TABLES is the guest itself. */
#define TABLES 0x400000ul      /* pages for page tables */
#define PAGES 0x800000ul       /* pages that are mapped */
#define HIGH_RAM 0x100000000ul /* 4 GiB */
#define NO_RAM 0x300000000ul

/* Where the guest puts the BARs. */
#define BAR0 0xe0000000ul
#define BAR2 0xd0000000ul
#define GTT_WINDOW 0x800000

#define LOCAL_APIC 0xfee00000ul

static inline void outl(u16 port, u32 value) { asm volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
static inline void outw(u16 port, u16 value) { asm volatile("outw %0, %1" ::"a"(value), "Nd"(port)); }

static inline u32 inl(u16 port) {
  u32 value;
  asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

/* Accesses of exactly this width, each one instruction, wherever they go. */
#define ACCESS(bits)                                                                                          \
  static inline u##bits load##bits(u64 address) {                                                             \
    u##bits value;                                                                                            \
    asm volatile("mov %1, %0" : "=r"(value) : "m"(*(u##bits *)address) : "memory");                           \
    return value;                                                                                             \
  }                                                                                                           \
  static inline void store##bits(u64 address, u##bits value) {                                                \
    asm volatile("mov %1, %0" : "=m"(*(u##bits *)address) : "r"(value) : "memory");                           \
  }
ACCESS(8)
ACCESS(16)
ACCESS(32)
ACCESS(64)
#undef ACCESS

/* Tells the VMM that something is not as it should be. */
#define EXPECT(condition) ((condition) ? (void)0 : outl(PORT_FAIL, __LINE__))
