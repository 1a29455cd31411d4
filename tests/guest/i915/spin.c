/* spin: a batch that jumps to its own beginning until the processor writes an end there; the others work on. */
#include "i915test.h"

#include <stdlib.h>

#define MARK 512 /* where a spinner says that it runs, in dwords */
#define BATCH_END 0x05000000
#define PATIENCE 10000 /* ms */
#define MAX_SPINNERS 4

static struct spinner *spinners[MAX_SPINNERS];

static void tell_to_stop(struct spinner *spinner)
{
    *spinner->stop = BATCH_END;
    __sync_synchronize(); /* out of the write-combining buffer */
}

/* A test that fails must not leave an engine to the next one. */
static void stop_all(void)
{
    for (unsigned i = 0; i < MAX_SPINNERS; i++)
        if (spinners[i]) tell_to_stop(spinners[i]);
}

static void remember(struct spinner *forgotten, struct spinner *spinner)
{
    static int is_registered;
    if (!is_registered) atexit(stop_all);
    is_registered = 1;
    for (unsigned i = 0; i < MAX_SPINNERS; i++) {
        if (spinners[i] != forgotten) continue;
        spinners[i] = spinner;
        return;
    }
    fail("more than %u spinners", MAX_SPINNERS);
}

void spinner_start(struct spinner *spinner, uint32_t context, enum engine engine, uint64_t gma)
{
    struct batch *batch = &spinner->batch;
    batch_create(batch, PAGE, gma);
    spinner->stop = buffer_map(&batch->buffer, I915_MAP_WC);
    remember(NULL, spinner);
    mi_arbitration_check(batch);
    mi_store(batch, gma + 4 * MARK, 1);
    mi_jump(batch, gma);
    mi_end(batch); /* never reached; the kernel's parser wants one */
    submit(context, engine, batch, NULL, 0, ORDERED);
    for (uint64_t begin = milliseconds(); spinner->stop[MARK] != 1; )
        if (milliseconds() - begin > PATIENCE) fail("%s does not spin after %u ms", engine_name[engine], PATIENCE);
}

void spinner_stop(struct spinner *spinner)
{
    tell_to_stop(spinner);
    buffer_wait(&spinner->batch.buffer);
}

void spinner_free(struct spinner *spinner)
{
    remember(spinner, NULL);
    buffer_unmap(&spinner->batch.buffer, spinner->stop);
    batch_free(&spinner->batch);
}

static unsigned work_meanwhile(uint32_t context, unsigned busy, unsigned time)
{
    unsigned done = 0;
    for (uint64_t begin = milliseconds(); milliseconds() - begin < time; ) {
        for (enum engine engine = 0; engine < ENGINES; engine++) {
            if (busy >> engine & 1) continue;
            check_engine(context, engine);
            done++;
        }
    }
    return done;
}

/* A batch behind the spinner, from its own context or from another; it may not run before the spinner has ended. */
struct queued { struct buffer result; struct batch batch; };

static void queue(struct queued *queued, uint32_t context, enum engine engine, uint64_t gma)
{
    struct buffer *const buffers[] = { &queued->result };
    buffer_create(&queued->result, PAGE, gma);
    batch_create(&queued->batch, PAGE, gma + PAGE);
    do_store(&queued->batch, &queued->result, 7, random64() | 1);
    mi_end(&queued->batch);
    submit(context, engine, &queued->batch, buffers, 1, ORDERED);
}

static void finish(struct queued *queued, enum engine engine)
{
    buffer_check(&queued->result, VIEW_WB, engine_name[engine]);
    buffer_free(&queued->result);
    batch_free(&queued->batch);
}

static unsigned check_spin(enum engine engine, unsigned time)
{
    uint32_t context[] = { context_create(), context_create() };
    struct spinner spinner;
    struct queued queued[2];
    spinner_start(&spinner, context[0], engine, 0xffff80000000);
    for (unsigned i = 0; i < 2; i++) queue(&queued[i], context[i], engine, 0x12340000);
    unsigned done = work_meanwhile(context[1], 1u << engine, time);
    expect(buffer_is_busy(&spinner.batch.buffer), 1, "whether %s is busy with a spinning batch", engine_name[engine]);
    for (unsigned i = 0; i < 2; i++)
        expect(queued[i].result.cpu[7], 0, "what batch %u behind the spinning one on %s stores", i,
               engine_name[engine]);
    spinner_stop(&spinner);
    expect(buffer_is_busy(&spinner.batch.buffer), 0, "whether %s is busy with an ended batch", engine_name[engine]);
    for (unsigned i = 0; i < 2; i++) finish(&queued[i], engine);
    spinner_free(&spinner);
    for (unsigned i = 0; i < 2; i++) context_destroy(context[i]);
    return done;
}

/* All that can spin do so at once. */
static unsigned check_spins(unsigned time)
{
    static const enum engine engine[] = { RCS, VCS, VECS };
    struct spinner spinner[COUNT(engine)];
    uint32_t context = context_create();
    for (unsigned i = 0; i < COUNT(engine); i++) spinner_start(&spinner[i], context, engine[i], 0x50000000 + i * PAGE);
    unsigned done = work_meanwhile(context, 1u << RCS | 1u << VCS | 1u << VECS, time);
    for (unsigned i = 0; i < COUNT(engine); i++) {
        expect(buffer_is_busy(&spinner[i].batch.buffer), 1, "whether %s is busy", engine_name[engine[i]]);
        spinner_stop(&spinner[i]);
        spinner_free(&spinner[i]);
    }
    check_engines(context);
    return done;
}

/* spin [MILLISECONDS]: each engine on its own for so long, then all; not the one whose batches the kernel copies. */
void test_spin(char **word)
{
    unsigned time = word_number(word, 3000), done = 0;
    for (enum engine engine = 0; engine < ENGINES; engine++)
        if (!engine_is_parsed(engine)) done += check_spin(engine, time);
    done += check_spins(time / 4);
    passed("spin: %u batches of other engines meanwhile", done);
}
