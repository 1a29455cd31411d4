/*
 * A guest that does to a vGPU what a graphics driver does: enumerates it, writes GGTT entries, builds page tables in its RAM,
 * announces them, and changes them in every way there is. It knows nothing of the check: after each step the VMM compares.
 */
#include "machine.h"

#define PRESENT_WRITABLE 3ul
#define PAGE 4096ul

/* PVINFO */
#define PVINFO (BAR0 + 0x78000)
#define PV_VERSION 0x008
#define PV_WINDOWS 0x040
#define PV_NOTIFY 0x818
#define PV_PDP 0x838
enum { LEVEL3_CREATE = 2, LEVEL3_DESTROY = 3, LEVEL4_CREATE = 4, LEVEL4_DESTROY = 5 };

static u64 aperture, aperture_size, hidden, hidden_size;

/* Ends a step. Its name is what the VMM prints. */
static void step(const char *name) {
  static u32 number;
  outl(PORT_NAME, (u32)(u64)name);
  outl(PORT_STEP, ++number);
}

static void clear(u64 page) {
  for (u64 at = page; at < page + PAGE; at += 8) store64(at, 0);
}

/* Pages for tables: every second one, so that protected and other pages take turns. */
static u64 next_table = TABLES;
static u64 new_table(void) {
  u64 page = next_table;
  next_table += 2 * PAGE;
  clear(page);
  return page;
}

/* Pages that are mapped: below and above 4 GiB. */
static u64 low_page(u64 n) { return PAGES + n * PAGE; }
static u64 high_page(u64 n) { return HIGH_RAM + n * PAGE; }

static void set(u64 table, u64 index, u64 page) { store64(table + 8 * index, page | PRESENT_WRITABLE); }
static void unset(u64 table, u64 index) { store64(table + 8 * index, 0); }
/* The same in two halves, the low one first. */
static void set_halves(u64 table, u64 index, u64 entry) {
  store32(table + 8 * index, (u32)entry);
  store32(table + 8 * index + 4, (u32)(entry >> 32));
}

static void notify(u32 code, u64 root0, u64 root1, u64 root2, u64 root3) {
  u64 roots[] = {root0, root1, root2, root3};
  for (int i = 0; i < 4; i++) {
    store32(PVINFO + PV_PDP + 8 * i, (u32)roots[i]);
    store32(PVINFO + PV_PDP + 8 * i + 4, (u32)(roots[i] >> 32));
  }
  store32(PVINFO + PV_NOTIFY, code);
}

static u32 config_read(u32 offset) {
  outl(PORT_PCI_ADDRESS, PCI_DEVICE | offset);
  return inl(PORT_PCI_DATA);
}
static void config_write(u32 offset, u32 value) {
  outl(PORT_PCI_ADDRESS, PCI_DEVICE | offset);
  outl(PORT_PCI_DATA, value);
}

static u64 bar_size(u32 offset) {
  config_write(offset, 0xffffffff);
  return -(u64)(0xffffffff00000000ul | (config_read(offset) & ~0xfu));
}

static void enumerate(void) {
  outl(PORT_PCI_ADDRESS, 0x80000800); /* 00:01.0 */
  EXPECT(inl(PORT_PCI_DATA) == 0xffffffff);
  EXPECT((config_read(0x00) & 0xffff) == 0x8086);
  EXPECT(bar_size(0x10) == 0x1000000 && bar_size(0x18) == 0x10000000);
  config_write(0x10, BAR0);
  config_write(0x14, 0);
  config_write(0x18, BAR2);
  config_write(0x1c, 0);
  EXPECT(load32(BAR0) == 0xffffffff); /* nothing is decoded yet */
  outl(PORT_PCI_ADDRESS, PCI_DEVICE | 0x04);
  outw(PORT_PCI_DATA, 0x0006); /* memory, bus master */
  EXPECT(load64(PVINFO) == 0x4776544776544776 && load16(PVINFO + PV_VERSION) == 1);
  aperture = load32(PVINFO + PV_WINDOWS);
  aperture_size = load32(PVINFO + PV_WINDOWS + 4);
  hidden = load32(PVINFO + PV_WINDOWS + 8);
  hidden_size = load32(PVINFO + PV_WINDOWS + 12);
  EXPECT(aperture_size >= 1 << 20 && hidden_size >= 1 << 20);
  step("PCI enumeration, PVINFO");
}

static u64 ggtt_entry(u64 gma) { return BAR0 + GTT_WINDOW + gma / PAGE * 8; }

static void ggtt(void) {
  for (u64 n = 0; n < 256; n++) store64(ggtt_entry(aperture + n * PAGE), low_page(n) | 1);
  for (u64 n = 0; n < 64; n++) store64(ggtt_entry(hidden + n * PAGE), high_page(n) | 1);
  for (u64 n = 64; n < 96; n++) { /* in halves: each acts at once */
    store32(ggtt_entry(hidden + n * PAGE) + 4, (u32)(high_page(n) >> 32));
    store32(ggtt_entry(hidden + n * PAGE), (u32)high_page(n) | 1);
  }
  for (u64 n = 0; n < 256; n += 16) store64(ggtt_entry(aperture + n * PAGE), 0);
  store64(ggtt_entry(aperture + PAGE), NO_RAM | 1);
  store64(ggtt_entry(aperture - PAGE), low_page(0) | 1); /* not ours: dropped */
  store64(ggtt_entry(aperture + aperture_size), low_page(0) | 1);
  EXPECT(load64(ggtt_entry(aperture + 2 * PAGE)) == (low_page(2) | 1));
  EXPECT(load32(ggtt_entry(hidden + 70 * PAGE) + 4) == 1);
  EXPECT(load64(ggtt_entry(aperture - PAGE)) == 0);
  EXPECT(load64(ggtt_entry(aperture + PAGE)) == (NO_RAM | 1));
  step("GGTT entries, by 8 and by 4 bytes");
}

static void through_aperture(void) {
  u64 window = BAR2 + aperture + 2 * PAGE, page = low_page(2);
  store64(page, 0x1122334455667788);
  EXPECT(load64(window) == 0x1122334455667788 && load32(window + 4) == 0x11223344);
  EXPECT(load16(window + 2) == 0x5566 && load8(window + 7) == 0x11);
  store8(window + 8, 0xab);
  store16(window + 10, 0xcdef);
  store32(window + 12, 0x01234567);
  store64(window + 16, 0x8899aabbccddeeff);
  EXPECT(load64(page + 8) == 0x01234567cdef00ab && load64(page + 16) == 0x8899aabbccddeeff);
  store64(window + PAGE - 4, 0x0102030405060708); /* across two pages */
  EXPECT(load32(page + PAGE - 4) == 0x05060708 && load32(low_page(3)) == 0x01020304);
  store64(window + PAGE - 3, 0x1112131415161718);
  EXPECT(load64(page + PAGE - 3) == 0x1112131415161718 && load64(window + PAGE - 3) == 0x1112131415161718);
  EXPECT(load64(BAR2 + aperture + PAGE) == 0); /* leads to no RAM */
  step("aperture loads and stores");
}

/* A 4-level table: root, directories and two tables of pages. */
static u64 pml4, pdp, pde, pte0, pte1;
#define INDEX4 1
#define INDEX3 2
#define INDEX2 3

static void build_level4(void) {
  pml4 = new_table(), pdp = new_table(), pde = new_table(), pte0 = new_table(), pte1 = new_table();
  for (u64 n = 0; n < 64; n++) set(pte0, n, low_page(n));
  for (u64 n = 0; n < 512; n += 8) set(pte1, n, high_page(n % 128));
  set(pte1, 1, NO_RAM); /* a mistake: leads to scratch */
  set(pde, INDEX2, pte0), set(pde, INDEX2 + 1, pte1);
  set(pdp, INDEX3, pde), set(pml4, INDEX4, pdp);
  notify(LEVEL4_CREATE, pml4, 0, 0, 0);
  step("4-level table announced");
}

static void whole_entries(void) {
  for (u64 n = 0; n < 32; n++) set(pte0, n, high_page(n));     /* led elsewhere */
  for (u64 n = 32; n < 48; n++) unset(pte0, n);                /* removed */
  for (u64 n = 100; n < 116; n++) set(pte0, n, low_page(n));   /* new */
  set(pte0, 511, low_page(7)), unset(pte0, 511), set(pte0, 511, low_page(8));
  set(pte1, 1, low_page(1)); /* the mistake put right */
  step("PTEs changed by 8-byte stores");
}

static void half_entries(void) {
  for (u64 n = 0; n < 16; n++) set_halves(pte0, n, low_page(n + 200) | PRESENT_WRITABLE); /* from above 4 GiB to below */
  for (u64 n = 120; n < 136; n++) set_halves(pte0, n, high_page(n) | PRESENT_WRITABLE);
  for (u64 n = 100; n < 104; n++) store32(pte0 + 8 * n, 0); /* removed by half a store */
  store32(pte0 + 8 * 104 + 4, 1);                             /* to above 4 GiB: high_page(…) */
  store32(pte0 + 8 * 104, (u32)high_page(104) | PRESENT_WRITABLE);
  outl(PORT_SUBMIT, 0);
  step("PTEs changed by 4-byte stores");
}

/* Entries and halves are what a driver stores. A compiler may do otherwise. */
static void odd_stores(void) {
  u64 entry = low_page(140) | PRESENT_WRITABLE;
  for (u64 n = 0; n < 8; n++) store8(pte0 + 8 * 140 + n, (u8)(entry >> 8 * n));
  store16(pte0 + 8 * 141 + 2, (u16)(low_page(141) >> 16));
  store16(pte0 + 8 * 141, (u16)(low_page(141) | PRESENT_WRITABLE));
  set(pte0, 142, low_page(142));
  store64(pte0 + 8 * 142 + 4, (low_page(143) | PRESENT_WRITABLE) << 32 | 1); /* half of one, half of the next */
  store32(pte0 + 8 * 144 - 2, PRESENT_WRITABLE << 16);
  step("PTEs changed by 1- and 2-byte stores, and across entries");
}

static void directories(void) {
  u64 pte2 = new_table(), pde2 = new_table(), pte3 = new_table();
  for (u64 n = 0; n < 512; n += 3) set(pte2, n, low_page(n % 256));
  for (u64 n = 1; n < 512; n += 5) set(pte3, n, high_page(n % 256));
  set(pde, 10, pte2);                       /* a new table below */
  set(pde, 11, pte2);                       /* the same one once more */
  set(pde2, 500, pte3), set(pdp, 511, pde2); /* a new tree below */
  unset(pde, INDEX2 + 1);                   /* one taken away */
  set(pde, INDEX2, pte1);                   /* another in its place */
  store64(pte1 + 8 * 2, low_page(99) | PRESENT_WRITABLE); /* which is still followed */
  step("directory entries changed by 8-byte stores");

  set_halves(pde, INDEX2, pte0 | PRESENT_WRITABLE);
  set_halves(pde, 12, pte3 | PRESENT_WRITABLE);
  store32(pde + 8 * 11, 0);
  set_halves(pdp, 510, pde2 | PRESENT_WRITABLE);
  outl(PORT_SUBMIT, 0);
  step("directory entries changed by 4-byte stores");
}

/* A table's page becomes a directory, and a directory's a table. */
static void recycle(void) {
  u64 page_a = new_table(), page_b = new_table(), page_c = new_table();
  for (u64 n = 0; n < 32; n++) set(page_a, n, low_page(n)), set(page_c, n, high_page(n));
  set(page_b, 0, page_a);
  set(pdp, 20, page_b); /* b directory, a table */
  outl(PORT_SUBMIT, 0);
  unset(pdp, 20); /* both free: stores to them are nobody's business now */
  clear(page_a), clear(page_b);
  for (u64 n = 0; n < 32; n++) set(page_b, n, high_page(n + 32));
  set(page_a, 7, page_b), set(page_a, 8, page_c);
  set(pdp, 21, page_a); /* a directory, b table */
  set(page_b, 3, low_page(77));
  step("a PTE page recycled as directory, a directory as PTE page");

  /* Without taking the entry away first: page a is emptied and filled while it is in use. */
  clear(page_a);
  set(page_a, 9, page_c), set(page_a, 7, page_b);
  set(page_b, 4, high_page(4));
  /* One page at two levels at once: as a directory its one entry leads to itself, as a table it maps itself. */
  u64 both = new_table();
  set(both, 5, both);
  set(pdp, 22, both);
  outl(PORT_SUBMIT, 0);
  step("tables emptied in use, one page at two levels");
  unset(both, 5);
  unset(pdp, 22);
}

/* Ways to store that are no plain mov. */
static void other_stores(void) {
  u64 from = new_table();
  for (u64 n = 0; n < 512; n++) set(from, n, low_page(n));
  u64 to = pte0, source = from, count = 512;
  asm volatile("rep movsq" : "+D"(to), "+S"(source), "+c"(count)::"memory");
  u64 entry = high_page(9) | PRESENT_WRITABLE;
  asm volatile("xchg %0, %1" : "+r"(entry), "+m"(*(u64 *)(pte0 + 8 * 9))::"memory");
  EXPECT(entry == (low_page(9) | PRESENT_WRITABLE));
  asm volatile("lock andq $~1, %0" : "+m"(*(u64 *)(pte0 + 8 * 10))::"memory");
  step("PTEs changed by rep movs, xchg and lock and");
}

static u64 pd[4];

static void level3(void) {
  for (int i = 0; i < 4; i++) pd[i] = new_table();
  u64 own = new_table();
  for (u64 n = 0; n < 100; n++) set(own, n, high_page(300 + n));
  set(pd[0], 0, own), set(pd[3], 511, own);
  set(pd[1], 7, pte0); /* a table of the other space as well */
  notify(LEVEL3_CREATE, pd[0], pd[1], pd[2], pd[3]);
  step("3-level table announced, shares a PTE page");
  set(own, 50, low_page(50)), unset(own, 51);
  set(pte0, 20, low_page(21)); /* both spaces follow */
  set(pd[2], 100, own);
  set_halves(pd[2], 101, own | PRESENT_WRITABLE);
  unset(pd[3], 511);
  outl(PORT_SUBMIT, 0);
  step("3-level table changed");
}

/* Many tables, each protected on its own. */
static void many_tables(void) {
  u64 directory = new_table();
  set(pdp, 30, directory);
  for (u64 n = 0; n < 100; n++) {
    u64 table = new_table();
    for (u64 i = 0; i < 4; i++) set(table, (n * 7 + i) % 512, low_page(n));
    set(directory, n, table);
  }
  for (u64 n = 0; n < 100; n += 3) unset(directory, n);
  step("100 PTE tables more, a third of them gone again");
}

static void by_aperture(void) {
  store64(ggtt_entry(aperture + 5 * PAGE), pte0 | 1);
  store64(BAR2 + aperture + 5 * PAGE + 8 * 60, high_page(60) | PRESENT_WRITABLE);
  store64(BAR2 + aperture + 5 * PAGE + 8 * 61, 0);
  EXPECT(load64(pte0 + 8 * 60) == (high_page(60) | PRESENT_WRITABLE));
  step("PTEs changed through the aperture");
}

static void many_stores(void) {
  for (u64 round = 0; round < 4; round++)
    for (u64 n = 0; n < 512; n++) set(pte0, n, low_page((n + round) % 512));
  step("2048 stores to one PTE table");
}

static u32 seed;
static u32 random(u32 below) {
  seed = seed * 1664525 + 1013904223;
  return (u64)(seed >> 8) * below >> 24;
}

/*
 * Anything at any place: every page of a few may be a table of any level in two spaces, and its entries lead to any of them or
 * to plain pages. Both halves of an entry may come from different ones, and it still leads to RAM.
 */
#define POOL 16
static void random_changes(void) {
  u64 pool[POOL];
  for (u32 n = 0; n < POOL; n++) pool[n] = new_table();
  notify(LEVEL4_CREATE, pool[0], 0, 0, 0);
  notify(LEVEL3_CREATE, pool[1], pool[2], pool[3], pool[4]);
  seed = inl(PORT_SEED);
  for (u32 n = 1; n <= 1000; n++) {
    u64 at = pool[random(POOL)] + 8 * random(6), kind = random(100);
    u64 page = random(3) ? pool[random(POOL)] : random(2) * HIGH_RAM + low_page(256 + random(256));
    u64 entry = random(4) ? page | PRESENT_WRITABLE : 0;
    if (kind < 60) store64(at, entry);
    else if (kind < 75) store32(at, (u32)entry), store32(at + 4, (u32)(entry >> 32));
    else if (kind < 90) store32(at + 4, (u32)(entry >> 32)), store32(at, (u32)entry);
    else store32(at, (u32)entry);
    if (n % 200 == 0) {
      outl(PORT_SUBMIT, 0);
      step("200 entries changed at random");
    }
  }
  notify(LEVEL4_DESTROY, pool[0], 0, 0, 0);
  notify(LEVEL3_DESTROY, pool[1], pool[2], pool[3], pool[4]);
}

static void destroy(void) {
  notify(LEVEL4_DESTROY, pml4, 0, 0, 0);
  for (u64 n = 0; n < 512; n++) set(pte1, n, low_page(n)); /* memory like any other now */
  clear(pml4), clear(pdp);
  set(pml4, 511, pdp), set(pdp, 0, pde); /* the same root, another tree */
  clear(pde), set(pde, 1, pte1);
  notify(LEVEL4_CREATE, pml4, 0, 0, 0);
  set(pte1, 5, high_page(5));
  step("4-level table taken back, announced anew with the same root");
}

/* The interrupt: MSI with this vector. */
#define VECTOR 0x40
#define MASTER_CONTROL (BAR0 + 0x44200)
#define GT0_IMR (BAR0 + 0x44304)
#define GT0_IIR (BAR0 + 0x44308)
#define GT0_IER (BAR0 + 0x4430c)

static volatile u32 interrupts, identity;
extern void device_interrupt_entry(void);

void device_interrupt(void) {
  store32(MASTER_CONTROL, 0);
  identity |= load32(GT0_IIR);
  store32(GT0_IIR, load32(GT0_IIR));
  interrupts++;
  store32(MASTER_CONTROL, 1u << 31);
  store32(LOCAL_APIC + 0xb0, 0); /* end of interrupt */
}

static u64 idt[2 * 256];

static void interrupt(void) {
  struct {
    u16 size;
    u64 address;
  } __attribute__((packed)) idt_pointer = {sizeof idt - 1, (u64)idt};
  u64 handler = (u64)device_interrupt_entry;
  idt[2 * VECTOR] = (handler & 0xffff) | 0x08 << 16 | 0x8e00ul << 32 | (handler & 0xffff0000) << 32;
  idt[2 * VECTOR + 1] = handler >> 32;
  asm volatile("lidt %0" ::"m"(idt_pointer));
  store32(LOCAL_APIC + 0xf0, 0x1ff); /* enabled */

  config_write(0x94, 0xfee00000); /* to the first processor */
  config_write(0x98, 0);
  config_write(0x9c, VECTOR);
  outl(PORT_PCI_ADDRESS, PCI_DEVICE | 0x90);
  outw(PORT_PCI_DATA + 2, 0x0081); /* 64-bit, enabled */

  store32(GT0_IMR, ~1u);
  store32(GT0_IER, 1);
  store32(MASTER_CONTROL, 1u << 31);
  for (u32 n = 1; n <= 3; n++) {
    outl(PORT_EVENT, 0);
    while (interrupts < n) asm volatile("sti; hlt; cli" ::: "memory"); /* none is taken between the test and hlt */
    EXPECT(identity == 1);
    identity = 0;
  }
  EXPECT(interrupts == 3 && load32(GT0_IIR) == 0);
  step("three interrupts by MSI");
}

static void end(void) {
  notify(LEVEL4_DESTROY, pml4, 0, 0, 0);
  notify(LEVEL3_DESTROY, pd[0], pd[1], pd[2], pd[3]);
  for (u64 n = 0; n < 512; n++) set(pte0, n, low_page(n)), unset(pte1, n);
  step("all tables taken back");
  outl(PORT_END, 0);
}

void guest_main(void) {
  enumerate();
  ggtt();
  through_aperture();
  build_level4();
  whole_entries();
  half_entries();
  odd_stores();
  directories();
  recycle();
  level3();
  other_stores();
  many_tables();
  by_aperture();
  many_stores();
  random_changes();
  destroy();
  interrupt();
  end();
}
