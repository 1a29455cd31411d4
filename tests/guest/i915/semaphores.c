/* semaphores: an engine waits for a value in memory, which the processor or another engine stores. */
#include "i915test.h"

#include <stdio.h>

enum { SEMAPHORE, REACHED = 16, PASSED = 32 }; /* places in the shared buffer, in dwords */
#define PATIENCE 10000 /* ms until an engine must have begun */
#define TURNS 50

static uint32_t context[2]; /* two address spaces with the buffer at the same address */
static struct buffer shared;
static struct batch waiting, storing;
static struct buffer *const buffers[] = { &shared };
static unsigned checks;

static const struct { uint32_t before, after, value; } state[COMPARISONS] = {
    [ABOVE] = { 5, 6, 5 },
    [ABOVE_OR_EQUAL] = { 4, 5, 5 },
    [BELOW] = { 5, 4, 5 },
    [BELOW_OR_EQUAL] = { 6, 5, 5 },
    [EQUAL] = { 4, 5, 5 },
    [UNEQUAL] = { 5, 6, 5 },
};

static uint64_t place(unsigned dword)
{
    return shared.gma + 4 * dword;
}

static void set(unsigned dword, uint32_t value)
{
    shared.cpu[dword] = shared.expected[dword] = value;
}

static void start_waiting(enum engine engine, enum comparison comparison, uint32_t memory)
{
    batch_start(&waiting);
    set(SEMAPHORE, memory);
    set(REACHED, 0);
    set(PASSED, 0);
    do_store(&waiting, &shared, REACHED, 1);
    mi_wait(&waiting, comparison, place(SEMAPHORE), state[comparison].value);
    do_store(&waiting, &shared, PASSED, random64() | 1);
    mi_end(&waiting);
    submit(context[0], engine, &waiting, buffers, 1, UNORDERED);
}

static void finish(enum engine engine, const char *name)
{
    char text[60];
    snprintf(text, sizeof text, "%s, %s", name, engine_name[engine]);
    buffer_check(&shared, VIEW_WB, text);
    checks++;
}

/* The engine has come to the semaphore, and no further. */
static void expect_waiting(enum engine engine)
{
    for (uint64_t begin = milliseconds(); shared.cpu[REACHED] != 1; )
        if (milliseconds() - begin > PATIENCE) fail("%s has not begun after %u ms", engine_name[engine], PATIENCE);
    sleep_milliseconds(5);
    expect(shared.cpu[PASSED], 0, "what %s stores after its semaphore", engine_name[engine]);
    expect(buffer_is_busy(&waiting.buffer), 1, "whether %s is busy at its semaphore", engine_name[engine]);
}

static void check_processor(enum engine engine, enum comparison comparison)
{
    start_waiting(engine, comparison, state[comparison].before);
    expect_waiting(engine);
    set(SEMAPHORE, state[comparison].after);
    finish(engine, "a semaphore that the processor stores");
}

static void check_engines_pair(enum engine waiter, enum engine storer)
{
    start_waiting(waiter, EQUAL, state[EQUAL].before);
    expect_waiting(waiter);
    batch_start(&storing);
    do_store(&storing, &shared, SEMAPHORE, state[EQUAL].after);
    mi_end(&storing);
    submit(context[1], storer, &storing, buffers, 1, UNORDERED);
    finish(waiter, "a semaphore that another engine stores");
}

/* Two engines let each other go on, many times in one batch each. */
static void check_turns(enum engine one, enum engine other)
{
    batch_start(&waiting);
    batch_start(&storing);
    set(SEMAPHORE, 0);
    for (unsigned i = 0; i < TURNS; i++) {
        mi_wait(&waiting, EQUAL, place(SEMAPHORE), 2 * i);
        mi_store(&waiting, place(SEMAPHORE), 2 * i + 1);
        mi_wait(&storing, EQUAL, place(SEMAPHORE), 2 * i + 1);
        mi_store(&storing, place(SEMAPHORE), 2 * i + 2);
    }
    mi_end(&waiting);
    mi_end(&storing);
    shared.expected[SEMAPHORE] = 2 * TURNS;
    submit(context[0], one, &waiting, buffers, 1, UNORDERED);
    submit(context[1], other, &storing, buffers, 1, UNORDERED);
    finish(one, "engines that take turns");
}

/* semaphores */
void test_semaphores(char **word)
{
    (void)word;
    for (unsigned i = 0; i < 2; i++) context[i] = context_create();
    buffer_create(&shared, PAGE, 0x7abcdef00000);
    batch_create(&waiting, PAGE, 0x20000000);
    batch_create(&storing, PAGE, 0xfffffff00000);
    for (enum engine engine = 0; engine < ENGINES; engine++) {
        for (enum comparison comparison = 0; comparison < COMPARISONS; comparison++) {
            start_waiting(engine, comparison, state[comparison].after);
            finish(engine, "a semaphore that holds already");
            check_processor(engine, comparison);
        }
        for (enum engine other = 0; other < ENGINES; other++) {
            if (other == engine) continue;
            check_engines_pair(engine, other);
            check_turns(engine, other);
        }
    }
    passed("semaphores: %u waits and %u turns of each pair of engines", checks, 2 * TURNS);
}
