/* smoke: the quickest test of all. */
#include "i915test.h"

/* A place that no other buffer of a test is at. */
#define RESULT_GMA 0x6006000000
#define BATCH_GMA 0x6006100000

void check_engine(uint32_t context, enum engine engine)
{
    struct buffer result, *const buffers[] = { &result };
    struct batch batch;
    buffer_create(&result, PAGE, RESULT_GMA);
    batch_create(&batch, PAGE, BATCH_GMA);
    do_store(&batch, &result, random_below(PAGE / 4), random64());
    mi_end(&batch);
    submit(context, engine, &batch, buffers, 1, ORDERED);
    buffer_check(&result, VIEW_WB, engine_name[engine]);
    buffer_free(&result);
    batch_free(&batch);
}

void check_engines(uint32_t context)
{
    for (enum engine engine = 0; engine < ENGINES; engine++) check_engine(context, engine);
}

static void check_empty_batch(uint32_t context, enum engine engine)
{
    struct batch batch;
    batch_create(&batch, PAGE, BATCH_GMA);
    mi_noop(&batch);
    mi_end(&batch);
    submit(context, engine, &batch, NULL, 0, ORDERED);
    buffer_wait(&batch.buffer);
    batch_free(&batch);
}

/* smoke: on each engine a batch that does nothing, then one that stores a dword. */
void test_smoke(char **word)
{
    (void)word;
    uint32_t context = context_create();
    for (enum engine engine = 0; engine < ENGINES; engine++) check_empty_batch(context, engine);
    check_engines(context);
    passed("smoke: %u batches without commands, %u stores", ENGINES, ENGINES);
}
