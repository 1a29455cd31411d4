/*
 * hang: a batch that never ends. Here the driver cannot preempt it, so it has to reset the engine: when the engine's
 * heartbeat stops, which is made quick, or at the request's own time limit of 20 s.
 */
#include "i915test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUICK "100"          /* ms between heartbeats; the fifth that does not come is the end */
#define QUICK_LIMIT 15000    /* ms */
#define SLOW_LIMIT 50000

/*
 * Before a reset the driver copies what the engine had in hand, byte by byte through the aperture: that takes many
 * seconds where each access is a message, so the quick tests do without. Needs root and debugfs.
 */
static void capture_errors(int is_wanted)
{
    char path[80];
    snprintf(path, sizeof path, "/sys/kernel/debug/dri/%d/i915_params/error_capture", device_card());
    FILE *file = fopen(path, "w");
    if (file) fputs(is_wanted ? "1" : "0", file);
    if (!file || fclose(file) != 0) fact("%s: %s", path, strerror(errno));
}

/* An engine's heartbeat interval, as the kernel's text; put back when the program ends. */
static char heartbeat_path[ENGINES][80], heartbeat_text[ENGINES][16];

static void set_heartbeat(enum engine engine, const char *text)
{
    FILE *file = fopen(heartbeat_path[engine], "w");
    if (file) fputs(text, file);
    /* Not a failure of this program, for it may be about to end already. */
    if (!file || fclose(file) != 0) fact("%s: %s", heartbeat_path[engine], strerror(errno));
}

static void restore(void)
{
    for (enum engine engine = 0; engine < ENGINES; engine++)
        if (heartbeat_text[engine][0]) set_heartbeat(engine, heartbeat_text[engine]);
    capture_errors(1);
}

static void quicken(enum engine engine)
{
    snprintf(heartbeat_path[engine], sizeof heartbeat_path[engine],
             "/sys/class/drm/card%d/engine/%s/heartbeat_interval_ms", device_card(), engine_name[engine]);
    FILE *file = fopen(heartbeat_path[engine], "r");
    if (!file || !fgets(heartbeat_text[engine], sizeof heartbeat_text[engine], file))
        fail("%s: %s", heartbeat_path[engine], strerror(errno));
    fclose(file);
    set_heartbeat(engine, QUICK);
}

static struct i915_reset_stats stats_of(uint32_t context, const char *name)
{
    struct i915_reset_stats stats = { .context = context };
    must_call(I915_GET_RESET_STATS, &stats, "ask for the reset statistics");
    fact("%s context: resets %u, batches active %u, pending %u", name, stats.reset_count, stats.batch_active,
         stats.batch_pending);
    return stats;
}

/* Waits for the driver to end it; answers after how many milliseconds. */
static unsigned wait_for_reset(struct spinner *spinner, enum engine engine, uint64_t begin, unsigned limit)
{
    buffer_wait(&spinner->batch.buffer);
    unsigned time = milliseconds() - begin;
    fact("%s is free after %u ms", engine_name[engine], time);
    if (time > limit) fail("the reset of %s took %u ms, the limit is %u", engine_name[engine], time, limit);
    expect(spinner->stop[0] == 0x05000000, 0, "whether the batch on %s was ended by this program", engine_name[engine]);
    spinner_free(spinner);
    return time;
}

/* The guilty batch is given up; one of another context that waited behind it still runs. */
static unsigned check_quick(enum engine engine)
{
    uint32_t guilty = context_create(), innocent = context_create();
    struct buffer result, *const buffers[] = { &result };
    struct batch batch;
    struct spinner spinner;
    buffer_create(&result, PAGE, 0x30000000);
    batch_create(&batch, PAGE, 0x31000000);
    uint64_t begin = milliseconds();
    spinner_start(&spinner, guilty, engine, 0x7fff00000000);
    do_store(&batch, &result, 3, random64());
    mi_end(&batch);
    submit(innocent, engine, &batch, buffers, 1, ORDERED);
    for (enum engine other = 0; other < ENGINES; other++)
        if (other != engine) check_engine(innocent, other);
    unsigned time = wait_for_reset(&spinner, engine, begin, QUICK_LIMIT);
    buffer_check(&result, VIEW_WB, "an innocent batch behind the one that hangs");
    expect(stats_of(guilty, "guilty").batch_active, 1, "hung batches of the guilty context on %s", engine_name[engine]);
    expect(stats_of(innocent, "innocent").batch_active, 0, "hung batches of the innocent context");
    check_engines(innocent);
    buffer_free(&result);
    batch_free(&batch);
    context_destroy(guilty);
    context_destroy(innocent);
    return time;
}

static void test_quick(void)
{
    unsigned longest = 0;
    atexit(restore);
    capture_errors(0);
    for (enum engine engine = 0; engine < ENGINES; engine++) {
        quicken(engine);
        unsigned time = check_quick(engine);
        set_heartbeat(engine, heartbeat_text[engine]);
        if (time > longest) longest = time;
    }
    check_engines(context_create());
    passed("hang: %u hangs, the longest of %u ms", ENGINES, longest);
}

/* Two engines at once; of one of them the context is closed, which does not end its batch any sooner. */
static void test_limit(void)
{
    uint32_t open = context_create(), closed = context_create(), other = context_create();
    struct spinner render, video;
    uint64_t begin = milliseconds();
    spinner_start(&render, open, RCS, 0x7fff00000000);
    spinner_start(&video, closed, VCS, 0x7fff00000000);
    context_destroy(closed);
    for (unsigned i = 0; i < 10; i++) {
        check_engine(other, BCS);
        check_engine(other, VECS);
    }
    unsigned time = wait_for_reset(&render, RCS, begin, SLOW_LIMIT);
    wait_for_reset(&video, VCS, begin, SLOW_LIMIT);
    expect(stats_of(open, "guilty").batch_active, 1, "hung batches of the guilty context");
    expect(stats_of(other, "innocent").batch_active, 0, "hung batches of the innocent context");
    check_engines(other);
    check_engines(context_create());
    passed("hang: 2 hangs, the first of %u ms", time);
}

/* hang [limit] */
void test_hang(char **word)
{
    if (!word[0]) test_quick();
    else if (strcmp(word[0], "limit") == 0) test_limit();
    else fail("hang takes nothing or \"limit\", not \"%s\"", word[0]);
}
