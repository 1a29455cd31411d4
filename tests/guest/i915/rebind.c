/*
 * rebind: between submissions, buffers and batches move to other addresses, are freed and made anew, so that the
 * driver frees page tables and uses their memory for others.
 */
#include "i915test.h"

#define BUFFERS 12
#define BATCHES 6
#define IN_FLIGHT 4 /* submissions before their results are looked at */

static struct buffer buffer[BUFFERS];
static struct batch batch[BATCHES];
static unsigned moves, births;

static void create(struct buffer *new)
{
    static const unsigned pages[] = { 1, 1, 2, 3, 16 };
    buffer_create(new, pages[random_below(COUNT(pages))] * PAGE, 0);
    births++;
}

/* Somewhere else, but not where the batch is that goes with it. */
static void move(struct buffer *moved, const struct buffer *beside)
{
    do moved->gma = random_gma(moved->size);
    while (beside && buffers_overlap(moved, beside));
    moves++;
}

static void store_in_each_page(struct batch *in, struct buffer *to)
{
    for (uint64_t page = 0; page < to->size / PAGE; page++)
        do_store(in, to, page * (PAGE / 4) + random_below(PAGE / 4), random64());
}

/* rebind [COUNT] */
void test_rebind(char **word)
{
    unsigned count = word_number(word, 4000);
    uint32_t context = context_create();
    for (unsigned i = 0; i < BUFFERS; i++) create(&buffer[i]);
    for (unsigned i = 0; i < BATCHES; i++) batch_create(&batch[i], PAGE, 0);
    for (unsigned i = 0; i < count; i++) {
        struct batch *in = &batch[i % BATCHES];
        struct buffer *to = &buffer[random_below(BUFFERS)];
        if (random_below(10) == 0) {
            buffer_check(to, VIEW_WB, "before it is freed");
            buffer_free(to);
            create(to);
        }
        batch_start(in);
        move(&in->buffer, NULL);
        if (to->gma == 0 || random_below(4) != 0 || buffers_overlap(to, &in->buffer)) move(to, &in->buffer);
        store_in_each_page(in, to);
        mi_end(in);
        submit(context, random_below(ENGINES), in, &to, 1, ORDERED);
        if (i % IN_FLIGHT == IN_FLIGHT - 1)
            for (unsigned n = 0; n < BUFFERS; n++) buffer_check(&buffer[n], VIEW_WB, "rebind");
        if (i % 500 == 499) { /* all tables of an address space at once */
            context_destroy(context);
            context = context_create();
        }
    }
    for (unsigned n = 0; n < BUFFERS; n++) buffer_check(&buffer[n], VIEW_PREAD, "rebind, at the end");
    passed("rebind: %u submissions, %u moves, %u buffers", count, moves, births);
}
