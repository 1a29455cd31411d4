/*
 * predicate: batches that call, chain, end on a condition, jump on a predicate and loop. Not on a parsed engine: the
 * kernel's parser lets no batch lead into another.
 */
#include "i915test.h"

#include <stdio.h>

enum { BEFORE, AFTER, CALLED, COUNTED, LEFT, CONDITION = 16, NEVER = 32 }; /* places in the result, in dwords */
#define LOOPS 300

static uint32_t context;
static struct buffer result;
static struct batch first, second;
static unsigned checks;

static void start(void)
{
    batch_start(&first);
    batch_start(&second);
    do_store(&first, &result, BEFORE, random64());
}

static void run(enum engine engine, const char *name)
{
    struct buffer *const buffers[] = { &result, &second.buffer };
    char text[60];
    submit(context, engine, &first, buffers, 2, ORDERED);
    snprintf(text, sizeof text, "%s on %s", name, engine_name[engine]);
    buffer_check(&result, VIEW_WB, text);
    checks++;
}

/* A store that must not happen: nothing is expected of it. */
static void never(struct batch *batch)
{
    mi_store(batch, result.gma + 4 * NEVER, 0xbad);
}

/* The processor's own store, with no engine about. */
static void set(unsigned place, uint32_t value)
{
    result.cpu[place] = result.expected[place] = value;
}

static void check_call(enum engine engine)
{
    const unsigned calls = 3, step = 1 + random_below(1000);
    start();
    do_store(&second, &result, CALLED, random64());
    mi_atomic(&second, ATOMIC_ADD, 0, 0, result.gma + 4 * COUNTED, step, 0);
    mi_end(&second);
    for (unsigned i = 0; i < calls; i++) mi_call(&first, second.buffer.gma);
    result.expected[COUNTED] += calls * step;
    do_store(&first, &result, AFTER, random64());
    mi_end(&first);
    never(&first);
    run(engine, "a called batch");
}

static void check_chain(enum engine engine)
{
    start();
    mi_jump(&first, second.buffer.gma);
    never(&first);
    mi_end(&first);
    do_store(&second, &result, AFTER, random64());
    mi_end(&second);
    never(&second);
    run(engine, "a chained batch");
}

/* Either the batch that the jump leads to, or what follows the jump. */
static void finish_jump(enum engine engine, int is_taken, const char *name)
{
    mi_jump_if(&first, second.buffer.gma);
    if (is_taken) {
        never(&first);
        do_store(&second, &result, AFTER, random64());
    } else {
        never(&second);
        do_store(&first, &result, AFTER, random64());
    }
    mi_end(&first);
    mi_end(&second);
    run(engine, name);
}

static void check_predicate(enum engine engine)
{
    for (uint32_t value = 0; value < 2; value++) {
        start();
        mi_load_register(&first, PREDICATE_RESULT, value);
        finish_jump(engine, value, "a predicated jump");
    }
    for (unsigned difference = 0; difference < 2; difference++) {
        const uint32_t compare[] = {
            ALU(ALU_LOAD, ALU_SRCA, 0), ALU(ALU_LOAD, ALU_SRCB, 1), ALU(ALU_SUB, 0, 0), ALU(ALU_STORE, 2, ALU_ZF),
        };
        uint64_t value = random64();
        start();
        mi_load_register64(&first, engine_register(engine, 0), value);
        mi_load_register64(&first, engine_register(engine, 1), value + difference);
        mi_math(&first, compare, COUNT(compare));
        mi_copy_register(&first, PREDICATE_RESULT, engine_register(engine, 2));
        finish_jump(engine, difference == 0, "a jump predicated on equality");
    }
}

/* A loop whose count is in a register. */
static void check_predicated_loop(enum engine engine)
{
    const uint32_t count_down[] = {
        ALU(ALU_LOAD, ALU_SRCA, 0), ALU(ALU_LOAD, ALU_SRCB, 1), ALU(ALU_SUB, 0, 0), ALU(ALU_STORE, 0, ALU_ACCU),
        ALU(ALU_STOREINV, 2, ALU_ZF),
    };
    start();
    mi_load_register64(&first, engine_register(engine, 0), LOOPS);
    mi_load_register64(&first, engine_register(engine, 1), 1);
    mi_jump(&first, second.buffer.gma);
    mi_atomic(&second, ATOMIC_INC, 0, 0, result.gma + 4 * COUNTED, 0, 0);
    mi_math(&second, count_down, COUNT(count_down));
    mi_copy_register(&second, PREDICATE_RESULT, engine_register(engine, 2));
    mi_jump_if(&second, second.buffer.gma);
    do_store(&second, &result, AFTER, random64());
    mi_end(&second);
    result.expected[COUNTED] += LOOPS;
    run(engine, "a predicated loop");
}

static const struct { uint32_t flags, memory[2], value; int goes_on; } condition[] = {
    { COND_COMPARE, { 5, 0 }, 4, 1 },
    { COND_COMPARE, { 5, 9 }, 5, 0 },
    { COND_COMPARE, { 5, 9 }, 6, 0 },
    { COND_COMPARE, { 0, 9 }, 0, 0 },
    { COND_COMPARE, { 1, 0 }, 0, 1 },
    { 0, { 5, 0 }, 6, 1 }, /* no comparison at all */
    { COND_COMPARE | COND_MASK, { 0x00ff, 0x1205 }, 4, 1 },
    { COND_COMPARE | COND_MASK, { 0x00ff, 0x1205 }, 5, 0 },
    { COND_COMPARE | COND_MASK, { 0xff00, 0x1205 }, 5, 1 },
};

/* In the batch that the ring started, or in one that it called: then the caller ends too. */
static void check_condition(enum engine engine, unsigned index, int is_called)
{
    struct batch *batch = is_called ? &second : &first;
    start();
    set(CONDITION, condition[index].memory[0]);
    set(CONDITION + 1, condition[index].memory[1]);
    if (is_called) mi_call(&first, second.buffer.gma);
    mi_end_unless_above(batch, condition[index].flags, result.gma + 4 * CONDITION, condition[index].value);
    if (condition[index].goes_on) do_store(batch, &result, CALLED, random64());
    else never(batch);
    mi_end(batch);
    if (is_called) {
        if (condition[index].goes_on) do_store(&first, &result, AFTER, random64());
        else never(&first);
        mi_end(&first);
    }
    run(engine, is_called ? "a called batch with a conditional end" : "a conditional end");
}

/* A loop whose count is in memory. */
static void check_conditional_loop(enum engine engine)
{
    start();
    set(LEFT, LOOPS);
    mi_jump(&first, second.buffer.gma);
    mi_atomic(&second, ATOMIC_INC, 0, 0, result.gma + 4 * COUNTED, 0, 0);
    mi_atomic(&second, ATOMIC_DEC, 0, 0, result.gma + 4 * LEFT, 0, 0);
    settle(&second, engine);
    mi_end_unless_above(&second, COND_COMPARE, result.gma + 4 * LEFT, 0);
    mi_jump(&second, second.buffer.gma);
    result.expected[COUNTED] += LOOPS;
    result.expected[LEFT] = 0;
    run(engine, "a loop with a conditional end");
}

/* predicate */
void test_predicate(char **word)
{
    (void)word;
    context = context_create();
    buffer_create(&result, PAGE, 0x600000000000);
    batch_create(&first, PAGE, 0x0000fffff000);
    batch_create(&second, PAGE, 0xffffffff0000);
    for (enum engine engine = 0; engine < ENGINES; engine++) {
        if (engine_is_parsed(engine)) continue;
        check_call(engine);
        check_chain(engine);
        for (unsigned i = 0; i < COUNT(condition); i++) {
            if (generation < 9 && condition[i].flags & COND_MASK) continue;
            check_condition(engine, i, 0);
            if (generation >= 9) check_condition(engine, i, 1);
        }
        check_conditional_loop(engine);
        if (engine != RCS) continue; /* the only one with predicates */
        check_predicate(engine);
        check_predicated_loop(engine);
    }
    passed("predicate: %u batches", checks);
}
