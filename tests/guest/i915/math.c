/* math: the streamer's arithmetic on its general purpose registers, against the processor's. */
#include "i915test.h"

#include <stdio.h>

#define REGISTERS 16
#define STEPS 14 /* of four instructions each, in one command */

struct alu { uint64_t r[REGISTERS], accumulator; int is_zero, has_carry; };

/* Values that give carries and zeroes more often than chance would. */
static uint64_t random_value(void)
{
    static const uint64_t special[] = { 0, 1, ~0ull, ~0ull - 1, 1ull << 63, 0xffffffff, 1ull << 32 };
    return random_below(2) ? random64() : special[random_below(COUNT(special))];
}

static uint64_t random_load(uint32_t *instruction, enum alu_operand to, const struct alu *alu)
{
    unsigned from = random_below(REGISTERS);
    switch (random_below(6)) {
    case 0: *instruction = ALU(ALU_LOAD0, to, 0); return 0;
    case 1: *instruction = ALU(ALU_LOAD1, to, 0); return ~0ull;
    case 2: *instruction = ALU(ALU_LOADINV, to, from); return ~alu->r[from];
    default: *instruction = ALU(ALU_LOAD, to, from); return alu->r[from];
    }
}

static void compute(struct alu *alu, enum alu_opcode opcode, uint64_t a, uint64_t b)
{
    switch (opcode) {
    case ALU_ADD: alu->accumulator = a + b; alu->has_carry = a + b < a; break;
    case ALU_SUB: alu->accumulator = a - b; alu->has_carry = a < b; break; /* a borrow */
    case ALU_AND: alu->accumulator = a & b; break;
    case ALU_OR: alu->accumulator = a | b; break;
    default: alu->accumulator = a ^ b; break;
    }
    alu->is_zero = alu->accumulator == 0;
}

/* A flag is stored as no bits or all of them. The carry says something after an addition or subtraction only. */
static void random_store(uint32_t *instruction, struct alu *alu, int is_sum)
{
    unsigned to = random_below(REGISTERS), kind = random_below(is_sum ? 6 : 5);
    enum alu_operand from = kind < 4 ? ALU_ACCU : kind == 4 ? ALU_ZF : ALU_CF;
    uint64_t value = kind < 4 ? alu->accumulator : (kind == 4 ? alu->is_zero : alu->has_carry) ? ~0ull : 0;
    int is_inverted = random_below(3) == 0;
    *instruction = ALU(is_inverted ? ALU_STOREINV : ALU_STORE, to, from);
    alu->r[to] = is_inverted ? ~value : value;
}

static void random_math(struct batch *batch, struct alu *alu)
{
    uint32_t program[4 * STEPS];
    for (unsigned i = 0; i < 4 * STEPS; i += 4) {
        enum alu_opcode opcode = ALU_ADD + random_below(5);
        uint64_t a = random_load(&program[i], ALU_SRCA, alu), b = random_load(&program[i + 1], ALU_SRCB, alu);
        program[i + 2] = ALU(opcode, 0, 0);
        compute(alu, opcode, a, b);
        random_store(&program[i + 3], alu, opcode == ALU_ADD || opcode == ALU_SUB);
    }
    mi_math(batch, program, 4 * STEPS);
}

static void load_registers(struct batch *batch, enum engine engine, struct alu *alu)
{
    for (unsigned i = 0; i < REGISTERS; i++)
        mi_load_register64(batch, engine_register(engine, i), alu->r[i] = random_value());
}

static void store_registers(struct batch *batch, enum engine engine, const struct alu *alu, struct buffer *to)
{
    for (unsigned i = 0; i < REGISTERS; i++) {
        mi_store_register64(batch, engine_register(engine, i), to->gma + 8 * i);
        to->expected[2 * i] = alu->r[i];
        to->expected[2 * i + 1] = alu->r[i] >> 32;
    }
}

static void run(uint32_t context, enum engine engine, struct batch *batch, struct buffer *result, const char *name)
{
    char text[40];
    mi_end(batch);
    submit(context, engine, batch, &result, result ? 1 : 0, ORDERED);
    if (!result) return;
    snprintf(text, sizeof text, "%s on %s", name, engine_name[engine]);
    buffer_check(result, VIEW_WB, text);
}

static void check_programs(enum engine engine, struct batch *batch, struct buffer *result, unsigned count)
{
    uint32_t context = context_create();
    for (unsigned n = 0; n < count; n++) {
        struct alu alu = { 0 };
        batch_start(batch);
        load_registers(batch, engine, &alu);
        random_math(batch, &alu);
        mi_copy_register(batch, engine_register(engine, 3), engine_register(engine, 9)); /* one half */
        alu.r[3] = (alu.r[3] & ~0xffffffffull) | (uint32_t)alu.r[9];
        random_math(batch, &alu);
        store_registers(batch, engine, &alu, result);
        run(context, engine, batch, result, "math");
    }
    context_destroy(context);
}

/* Registers belong to the context: two of them take turns, and each finds its own again. */
static void check_contexts(enum engine engine, struct batch *batch, struct buffer *result)
{
    uint32_t context[] = { context_create(), context_create() };
    struct alu alu[2];
    for (unsigned i = 0; i < 2; i++) {
        batch_start(batch);
        load_registers(batch, engine, &alu[i]);
        run(context[i], engine, batch, NULL, "");
    }
    for (unsigned i = 0; i < 4; i++) {
        batch_start(batch);
        if (i >= 2) random_math(batch, &alu[i % 2]);
        store_registers(batch, engine, &alu[i % 2], result);
        run(context[i % 2], engine, batch, result, "a context's registers");
    }
    context_destroy(context[0]);
    context_destroy(context[1]);
}

/* math [COUNT] */
void test_math(char **word)
{
    unsigned count = word_number(word, 100), engines = 0;
    struct buffer result;
    struct batch batch;
    buffer_create(&result, PAGE, 0x123456789000);
    batch_create(&batch, 2 * PAGE, 0xfedcba988000);
    for (enum engine engine = 0; engine < ENGINES; engine++) {
        if (!engine_has_registers(engine)) continue;
        check_programs(engine, &batch, &result, count);
        check_contexts(engine, &batch, &result);
        engines++;
    }
    passed("math: %u programs of %u instructions on %u engines", count * engines, 8 * STEPS, engines);
}
