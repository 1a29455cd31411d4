/*
 * stores: every engine stores into buffers at the edges of a 48-bit address space, from several contexts; the result
 * is read by the processor, copied by the engines, and seen through the aperture.
 */
#include "i915test.h"

#include <stdio.h>

/* Each engine of each context that uses a buffer has a row of its own in the buffer's first page. */
#define ROW 32u /* dwords */
#define CONTEXTS 4
#define SETS 3 /* of buffers: the last two contexts share one, and an address space */
#define BATCH_SIZE (64u * 1024)

/* Where a table, a directory or a half of the space ends; a buffer of two pages lies across the border. */
static const struct { uint64_t gma; unsigned pages; } place[] = {
    { 0x000000100000, 2 },  /* 1 MiB */
    { 0x0000001ff000, 2 },  /* across two page tables */
    { 0x0000fffff000, 2 },  /* across 4 GiB, and two page directories */
    { 0x000123456000, 2 },
    { 0x007ffffff000, 2 },  /* across two page directory pointer tables */
    { 0x3210fedcb000, 2 },
    { 0x7ffffffff000, 1 },  /* the last page of the lower half */
    { 0x800000000000, 2 },  /* the first ones of the upper half: its addresses are negative */
    { 0xfffffffff000, 1 },  /* the last page of all */
};
#define PLACES COUNT(place)

static struct buffer target[SETS][PLACES], mirror[SETS][PLACES];
static uint32_t context[CONTEXTS];
static unsigned stores;

static unsigned set_of(unsigned context_index)
{
    return context_index < SETS ? context_index : SETS - 1;
}

static void store_row(struct batch *batch, enum engine engine, struct buffer *to, unsigned row)
{
    unsigned at = row * ROW;
    do_store(batch, to, at, random64());
    do_store_qword(batch, to, at + 2, random64());
    do_store_many(batch, to, at + 4, 5, 0);
    do_store_many(batch, to, at + 10, 6, 1);
    do_post_sync(batch, engine, to, at + 16, random64());
    do_store(batch, to, at + 18, random64());
    do_store(batch, to, at + 18, random64()); /* the later one stays */
    do_store(batch, to, to->size / 4 - 1 - row, random64());
    stores += 8;
}

static void store_everywhere(unsigned index, enum engine engine, struct batch *batch)
{
    struct buffer *buffers[PLACES];
    batch_start(batch);
    for (unsigned i = 0; i < PLACES; i++) {
        struct buffer *to = buffers[i] = &target[set_of(index)][i];
        store_row(batch, engine, to, engine + (index >= SETS ? ENGINES : 0));
        /* One command whose dwords lie in two pages; only one engine can have the border. */
        if (place[i].pages == 2 && index < SETS && i % ENGINES == engine) do_store_many(batch, to, PAGE / 4 - 4, 8, 0);
    }
    mi_end(batch);
    submit(context[index], engine, batch, buffers, PLACES, UNORDERED);
}

/* Copies what all contexts' engines stored: the kernel's order between engines has to hold for it. */
static void copy_to_mirror(struct batch *batch, enum engine engine, struct buffer *to, struct buffer *from)
{
    const struct box all = { 0, 0, 16, from->size / 64 };
    if (engine == BCS) {
        do_blit(batch, COPY, 4, CHANNEL_RGB | CHANNEL_ALPHA, (struct surface){ to, 0, 64 }, all,
                (struct surface){ from, 0, 64 }, 0, 0);
        return;
    }
    for (unsigned i = 0; i < 2 * ENGINES * ROW; i++) {
        if (engine == RCS) do_copy_through(batch, engine, to, i, from, i);
        else do_copy(batch, to, i, from, i);
    }
}

static void copy_set(unsigned set, enum engine engine, struct batch *batch)
{
    struct buffer *buffers[2 * PLACES];
    unsigned count = 0;
    batch_start(batch);
    for (unsigned i = engine; i < PLACES; i += ENGINES) {
        buffers[count++] = &target[set][i];
        buffers[count++] = &mirror[set][i];
        copy_to_mirror(batch, engine, &mirror[set][i], &target[set][i]);
    }
    mi_end(batch);
    submit(context[set], engine, batch, buffers, count, ORDERED);
}

static void check_set(unsigned set)
{
    char name[40];
    for (enum view view = 0; view < VIEWS; view++) {
        for (unsigned i = 0; i < PLACES; i++) {
            snprintf(name, sizeof name, "stores, set %u", set);
            buffer_check(&target[set][i], view, name);
            snprintf(name, sizeof name, "copies, set %u", set);
            if (view == VIEW_WB) buffer_check(&mirror[set][i], view, name);
        }
    }
}

/* The other way: what the processor stores through the aperture is what an engine reads. */
static void check_aperture_stores(struct batch *batch)
{
    struct buffer *from = &target[0][1], *to = &mirror[0][2], *const buffers[] = { from, to };
    volatile uint32_t *map = buffer_map(from, I915_MAP_GTT);
    batch_start(batch);
    buffer_write_in(from, I915_DOMAIN_GTT);
    for (unsigned i = 0; i < 16; i++) {
        unsigned at = i * 127;
        map[at] = from->expected[at] = random64();
        do_copy(batch, to, at, from, at);
    }
    buffer_unmap(from, map);
    mi_end(batch);
    submit(context[0], RCS, batch, buffers, 2, ORDERED);
    buffer_check(to, VIEW_WB, "stores through the aperture, copied by rcs0");
    buffer_check(from, VIEW_WB, "stores through the aperture");
}

static void create_sets(void)
{
    uint32_t vm = vm_create();
    for (unsigned i = 0; i < CONTEXTS; i++) context[i] = i < SETS - 1 ? context_create() : context_create_in(vm);
    for (unsigned set = 0; set < SETS; set++) {
        for (unsigned i = 0; i < PLACES; i++) {
            buffer_create(&target[set][i], place[i].pages * PAGE, place[i].gma);
            buffer_create(&mirror[set][i], place[i].pages * PAGE, 0x200000000000 + ((uint64_t)i << 33));
            buffer_fill(&target[set][i]);
            buffer_fill(&mirror[set][i]);
        }
    }
}

/* stores */
void test_stores(char **word)
{
    (void)word;
    static struct batch batch[CONTEXTS][ENGINES];
    create_sets();
    for (unsigned i = 0; i < CONTEXTS; i++) {
        for (enum engine engine = 0; engine < ENGINES; engine++) {
            /* Batches too are at low and at high addresses, and each in a page table of its own. */
            uint64_t gma = (i % 2 ? 0xffff00000000 : 0x000040000000) + ((uint64_t)(i * ENGINES + engine) << 24);
            batch_create(&batch[i][engine], BATCH_SIZE, gma);
            store_everywhere(i, engine, &batch[i][engine]);
        }
    }
    for (unsigned set = 0; set < SETS; set++)
        for (enum engine engine = 0; engine < ENGINES; engine++) copy_set(set, engine, &batch[set][engine]);
    for (unsigned set = 0; set < SETS; set++) check_set(set);
    check_aperture_stores(&batch[0][RCS]);
    passed("stores: %u stores into %zu buffers from %u contexts, read in %u ways", stores, SETS * PLACES, CONTEXTS,
           VIEWS);
}
