/*
 * soak: random submissions of everything: any engine, any of several contexts, buffers of any size that wander about
 * and die young, commands of every kind. What each buffer should hold is known all the time.
 */
#include "i915test.h"

#include <stdio.h>

#define CONTEXTS 6
#define BUFFERS 20
#define BATCHES 12
#define PICKED 3            /* buffers in a submission */
#define MAX_STEPS 5         /* operations in a submission */
#define BATCH_SIZE (2 * PAGE)
#define REPORT_EVERY 2000

enum step {
    STORE, STORE_QWORD, STORE_MANY, POST_SYNC, COPY_DWORDS, ATOMIC, COMPUTE,
    FILL_RECTANGLE, COPY_RECTANGLE, /* the blitter only */
    STEPS,
};

static struct buffer buffer[BUFFERS];
static uint32_t context[CONTEXTS];
/* Where each buffer was last in each context's space; 0: nowhere yet. */
static uint64_t last_gma[CONTEXTS][BUFFERS];
static struct batch batch[BATCHES];
static unsigned done[STEPS], moves, births, checks, context_births;

static void create_buffer(unsigned index)
{
    static const uint64_t pages[] = { 1, 1, 1, 2, 3, 5, 16, 67 };
    uint64_t size = random_below(40) == 0 ? 514 : pages[random_below(COUNT(pages))];
    buffer_create(&buffer[index], size * PAGE, 0);
    for (unsigned c = 0; c < CONTEXTS; c++) last_gma[c][index] = 0;
    births++;
}

static void create_context(unsigned index)
{
    context[index] = context_create();
    for (unsigned b = 0; b < BUFFERS; b++) last_gma[index][b] = 0;
    context_births++;
}

static void check_buffer(unsigned index)
{
    char name[40];
    unsigned kind = random_below(64);
    enum view view = kind < 8 ? VIEW_PREAD : kind < 12 ? VIEW_WC : VIEW_WB;
    if (kind == 63 && buffer[index].size <= 4 * PAGE) view = VIEW_GTT; /* slow */
    snprintf(name, sizeof name, "soak, buffer %u", index);
    buffer_check(&buffer[index], view, name);
    checks++;
}

/* Gives each buffer of a submission an address; mostly the one it has, but never one that another of them has. */
static void place(unsigned c, const unsigned *picked, struct batch *const *in)
{
    for (unsigned i = 0; i < 2; i++) {
        do in[i]->buffer.gma = random_gma(BATCH_SIZE);
        while (i == 1 && buffers_overlap(&in[1]->buffer, &in[0]->buffer));
    }
    for (unsigned i = 0; i < PICKED; i++) {
        struct buffer *placed = &buffer[picked[i]];
        int is_free = 0;
        placed->gma = random_below(8) == 0 ? 0 : last_gma[c][picked[i]];
        while (!is_free) {
            if (placed->gma == 0) {
                placed->gma = random_gma(placed->size);
                moves++;
            }
            is_free = !buffers_overlap(placed, &in[0]->buffer) && !buffers_overlap(placed, &in[1]->buffer);
            for (unsigned n = 0; n < i; n++) is_free = is_free && !buffers_overlap(placed, &buffer[picked[n]]);
            if (!is_free) placed->gma = 0;
        }
        last_gma[c][picked[i]] = placed->gma;
    }
}

static unsigned random_place(const struct buffer *in, unsigned dwords)
{
    return random_below((in->size / 4 - dwords) / 2 + 1) * 2; /* qwords are aligned */
}

/* A number from memory and one from the command, through a register and back to memory. */
static void compute(struct batch *in, enum engine engine, struct buffer *to, const struct buffer *from)
{
    static const enum alu_opcode opcode[] = { ALU_ADD, ALU_SUB, ALU_XOR };
    enum alu_opcode chosen = opcode[random_below(COUNT(opcode))];
    const uint32_t program[] = {
        ALU(ALU_LOAD, ALU_SRCA, 0), ALU(ALU_LOAD, ALU_SRCB, 1), ALU(chosen, 0, 0), ALU(ALU_STORE, 2, ALU_ACCU),
    };
    unsigned at = random_place(from, 1), place = random_place(to, 2);
    uint64_t a = from->expected[at], b = random64();
    uint64_t sum = chosen == ALU_ADD ? a + b : chosen == ALU_SUB ? a - b : a ^ b;
    mi_load_register64(in, engine_register(engine, 0), 0);
    mi_load_register_memory(in, engine_register(engine, 0), from->gma + 4ull * at);
    mi_load_register64(in, engine_register(engine, 1), b);
    mi_math(in, program, COUNT(program));
    mi_store_register64(in, engine_register(engine, 2), to->gma + 4ull * place);
    to->expected[place] = sum;
    to->expected[place + 1] = sum >> 32;
}

/* Rectangles in the first page: 16 lines of 64 pixels. */
static void blit(struct batch *in, enum step step, struct buffer *to, struct buffer *from)
{
    struct box box = { .x1 = random_below(32), .y1 = random_below(8) };
    box.x2 = box.x1 + 1 + random_below(32);
    box.y2 = box.y1 + 1 + random_below(8);
    struct surface target = { to, 0, 256 }, source = { from, 0, 256 };
    if (step == FILL_RECTANGLE) do_fill(in, 4, CHANNEL_RGB | CHANNEL_ALPHA, target, box, random64());
    else do_blit(in, generation >= 9 && random_below(2) ? FAST_COPY : COPY, 4, CHANNEL_RGB | CHANNEL_ALPHA, target, box,
                 source, random_below(32), random_below(8));
}

/* Reads from one buffer, writes to another. */
static void random_step(struct batch *in, enum engine engine, struct buffer *to, struct buffer *from)
{
    enum step step = random_below(engine == BCS ? STEPS : FILL_RECTANGLE);
    if (step == COMPUTE && !engine_has_registers(engine)) step = STORE;
    switch (step) {
    case STORE: do_store(in, to, random_place(to, 1), random64()); break;
    case STORE_QWORD: do_store_qword(in, to, random_place(to, 2), random64()); break;
    case STORE_MANY: do_store_many(in, to, random_place(to, 16), 2 + 2 * random_below(8), random_below(2)); break;
    case POST_SYNC: do_post_sync(in, engine, to, random_place(to, 2), random64()); break;
    case COPY_DWORDS:
        for (unsigned i = 0; i < 4; i++) do_copy(in, to, random_place(to, 1), from, random_place(from, 1));
        break;
    case ATOMIC:
        do_atomic(in, 1 + random_below(ATOMIC_END - 1), random_below(2), 0, to, random_place(to, 2), random64(),
                  random64());
        break;
    case COMPUTE: compute(in, engine, to, from); break;
    default: blit(in, step, to, from); break;
    }
    settle(in, engine);
    done[step]++;
}

/* The steps are in the first batch, or in one that it calls or goes on to. */
static void random_submission(unsigned turn)
{
    unsigned c = random_below(CONTEXTS), start = random_below(BUFFERS), steps = 1 + random_below(MAX_STEPS);
    unsigned picked[PICKED];
    enum engine engine = random_below(ENGINES);
    struct batch *const in[2] = { &batch[2 * turn % BATCHES], &batch[(2 * turn + 1) % BATCHES] };
    struct buffer *buffers[PICKED + 1] = { &in[1]->buffer };
    for (unsigned i = 0; i < 2; i++) batch_start(in[i]);
    for (unsigned i = 0; i < PICKED; i++) {
        picked[i] = (start + i * 7) % BUFFERS;
        buffers[i + 1] = &buffer[picked[i]];
    }
    place(c, picked, in);
    unsigned way = engine_is_parsed(engine) ? 0 : random_below(4), second = way >= 2 ? random_below(steps + 1) : steps;
    for (unsigned i = 0; i < steps; i++) {
        unsigned to = random_below(PICKED);
        if (i == second && way == 2) mi_call(in[0], in[1]->buffer.gma);
        if (i == second && way == 3) mi_jump(in[0], in[1]->buffer.gma);
        random_step(in[way >= 2 && i >= second], engine, buffers[1 + to], buffers[1 + (to + 1) % PICKED]);
    }
    for (unsigned i = 0; i < 2; i++) mi_end(in[i]);
    submit(context[c], engine, in[0], buffers, PICKED + 1, ORDERED);
}

/* soak COUNT [SEED] */
void test_soak(char **word)
{
    unsigned count = word_number(word, 10000), seed = word[0] ? word_number(word + 1, 1) : 1;
    uint64_t begin = milliseconds();
    fact("soak: %u submissions, seed %u", count, seed);
    seed_random(seed);
    for (unsigned c = 0; c < CONTEXTS; c++) create_context(c);
    for (unsigned b = 0; b < BUFFERS; b++) create_buffer(b);
    for (unsigned i = 0; i < BATCHES; i++) batch_create(&batch[i], BATCH_SIZE, 0);
    for (unsigned turn = 0; turn < count; turn++) {
        unsigned chosen = random_below(BUFFERS);
        random_submission(turn);
        if (random_below(8) == 0) check_buffer(chosen);
        if (random_below(40) == 0) { /* its end may come while an engine is still at it */
            if (random_below(2)) check_buffer(chosen);
            buffer_free(&buffer[chosen]);
            create_buffer(chosen);
        }
        if (random_below(100) == 0) {
            unsigned c = random_below(CONTEXTS);
            context_destroy(context[c]);
            create_context(c);
        }
        if (turn % REPORT_EVERY == REPORT_EVERY - 1)
            fact("%u submissions, %lu ms", turn + 1, milliseconds() - begin);
    }
    for (unsigned b = 0; b < BUFFERS; b++) check_buffer(b);
    for (enum step step = 0; step < STEPS && count >= 1000; step++)
        expect(done[step] > 0, 1, "whether step %u was done", step);
    passed("soak: %u submissions, %u moves, %u buffers, %u contexts, %u checks", count, moves, births, context_births,
           checks);
}
