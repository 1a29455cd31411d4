/*
 * contexts: 64 contexts in 8 processes at once, all four engines each, several submissions in flight on each engine.
 * A counter that each batch adds to shows that every batch runs exactly once.
 */
#include "i915test.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROCESSES 8
#define CONTEXTS 8 /* in each process */
#define DEPTH 3    /* batches of one engine of one context in flight */
#define COUNTER 0
#define STORES 6
/* Everywhere the same addresses: what comes out elsewhere was translated by another context's tables. */
#define RESULT_GMA 0x000077000000
#define BATCH_GMA 0x800000000000

struct lane { struct buffer result; struct batch batch[DEPTH]; }; /* an engine of a context */

static void run(struct lane *lane, uint32_t context, enum engine engine, unsigned turn)
{
    struct batch *batch = &lane->batch[turn];
    struct buffer *const buffers[] = { &lane->result };
    batch_start(batch);
    do_atomic(batch, ATOMIC_ADD, 0, 0, &lane->result, COUNTER, 1 + random_below(1000), 0);
    for (unsigned i = 0; i < STORES; i++)
        do_store(batch, &lane->result, 1 + random_below(PAGE / 4 - 1), random64());
    mi_end(batch);
    submit(context, engine, batch, buffers, 1, UNORDERED);
}

static void work(unsigned process, unsigned rounds, int start)
{
    static struct lane lane[CONTEXTS][ENGINES];
    uint32_t context[CONTEXTS];
    char name[40], nothing;
    seed_random(process);
    device_open();
    for (unsigned c = 0; c < CONTEXTS; c++) {
        context[c] = context_create();
        for (enum engine engine = 0; engine < ENGINES; engine++) {
            struct lane *new = &lane[c][engine];
            buffer_create(&new->result, PAGE, RESULT_GMA + engine * PAGE);
            for (unsigned i = 0; i < DEPTH; i++)
                batch_create(&new->batch[i], PAGE, BATCH_GMA + (engine * DEPTH + i) * PAGE);
        }
    }
    if (read(start, &nothing, 1) != 0) fail("process %u: no start", process);
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned turn = 0; turn < DEPTH; turn++)
            for (unsigned c = 0; c < CONTEXTS; c++)
                for (enum engine engine = 0; engine < ENGINES; engine++)
                    run(&lane[c][engine], context[c], engine, turn);
        for (unsigned c = 0; c < CONTEXTS; c++) {
            for (enum engine engine = 0; engine < ENGINES; engine++) {
                snprintf(name, sizeof name, "process %u, context %u, %s", process, c, engine_name[engine]);
                buffer_check(&lane[c][engine].result, VIEW_WB, name);
            }
        }
    }
}

/* contexts [ROUNDS] */
void test_contexts(char **word)
{
    unsigned rounds = word_number(word, 8), failed = 0;
    int start[2], status;
    if (pipe(start) != 0) fail("no pipe");
    for (unsigned process = 0; process < PROCESSES; process++) {
        pid_t child = fork();
        if (child < 0) fail("no process");
        if (child > 0) continue;
        close(start[1]);
        work(process, rounds, start[0]);
        exit(0);
    }
    close(start[1]); /* now all of them run */
    for (unsigned process = 0; process < PROCESSES; process++)
        if (wait(&status) < 0 || status != 0) failed++;
    expect(failed, 0, "processes that failed");
    passed("contexts: %u contexts in %u processes, %u submissions", PROCESSES * CONTEXTS, PROCESSES,
           PROCESSES * CONTEXTS * ENGINES * DEPTH * rounds);
}
