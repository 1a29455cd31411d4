/* atomics: each atomic operation on a dword and on a qword, with operands in the command or in registers. */
#include "i915test.h"

#include <stdio.h>

#define ROUNDS 8
#define RETURNED 512 /* where old values go, in dwords */

static struct buffer result;
static unsigned done;

/* Small differences and equal values make comparisons interesting. */
static uint64_t near(uint64_t value)
{
    switch (random_below(4)) {
    case 0: return value;
    case 1: return value + random_below(3) - 1;
    default: return random64();
    }
}

static uint64_t value_at(unsigned place, int is_qword)
{
    return is_qword ? result.expected[place] | (uint64_t)result.expected[place + 1] << 32 : result.expected[place];
}

static void random_atomic(struct batch *batch, enum engine engine, enum atomic_opcode opcode, int is_qword)
{
    unsigned place = 2 * opcode + random_below(ROUNDS) * 32, back = RETURNED + place;
    uint64_t first = near(value_at(place, is_qword)), second = random64();
    uint32_t flags = 0;
    if (engine_has_registers(engine)) {
        flags = (random_below(2) ? ATOMIC_REGISTERS : 0) | (random_below(2) ? ATOMIC_RETURN : 0);
        mi_load_register64(batch, engine_register(engine, 0), first);
        mi_load_register64(batch, engine_register(engine, 2), second);
        mi_load_register64(batch, engine_register(engine, 4), 0);
    }
    settle(batch, engine);
    uint64_t old = do_atomic(batch, opcode, is_qword, flags, &result, place, first, second);
    if (flags & ATOMIC_RETURN) {
        settle(batch, engine);
        mi_store_register64(batch, engine_register(engine, 4), result.gma + 4 * back);
        result.expected[back] = old;
        result.expected[back + 1] = old >> 32;
    }
    done++;
}

/* atomics */
void test_atomics(char **word)
{
    (void)word;
    uint32_t context = context_create();
    struct buffer *const buffers[] = { &result };
    struct batch batch;
    char name[40];
    buffer_create(&result, PAGE, 0x876543210000);
    buffer_fill(&result);
    batch_create(&batch, 4 * PAGE, 0x40000000);
    for (enum engine engine = 0; engine < ENGINES; engine++) {
        for (unsigned round = 0; round < 2 * ROUNDS; round++) {
            batch_start(&batch);
            for (enum atomic_opcode opcode = ATOMIC_AND; opcode < ATOMIC_END; opcode++)
                random_atomic(&batch, engine, opcode, round % 2);
            mi_end(&batch);
            submit(context, engine, &batch, buffers, 1, ORDERED);
            snprintf(name, sizeof name, "%s atomics on %s", round % 2 ? "qword" : "dword", engine_name[engine]);
            buffer_check(&result, VIEW_WB, name);
        }
    }
    passed("atomics: %u operations on %u engines", done, ENGINES);
}
