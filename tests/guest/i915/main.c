/* i915test NAME [ARGUMENTS]: runs one test; exit 0: it passed, 1: it failed, 2: there is none of that name. */
#include "i915test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE 3600 /* seconds; a device that never answers must not keep a test for ever */

static const struct { const char *name, *arguments, *about; void (*run)(char **word); } tests[] = {
    { "params", "", "what the driver says of itself", test_params },
    { "smoke", "", "an empty batch and a store on each engine", test_smoke },
    { "stores", "", "stores at all kinds of addresses, read in all ways", test_stores },
    { "blits", "[COUNT]", "fills and copies of rectangles", test_blits },
    { "rebind", "[COUNT]", "buffers that move, die and are born", test_rebind },
    { "contexts", "[ROUNDS]", "64 contexts in 8 processes at once", test_contexts },
    { "math", "[COUNT]", "arithmetic on registers", test_math },
    { "atomics", "", "atomic operations on memory", test_atomics },
    { "predicate", "", "calls, chains, conditions and loops of batches", test_predicate },
    { "semaphores", "", "waits for the processor and for other engines", test_semaphores },
    { "spin", "[MILLISECONDS]", "endless batches that are told to end", test_spin },
    { "hang", "[limit]", "endless batches that the driver has to end", test_hang },
    { "soak", "[COUNT [SEED]]", "everything at random", test_soak },
};

unsigned word_number(char *const *word, unsigned otherwise)
{
    char *end;
    if (!word[0]) return otherwise;
    unsigned long number = strtoul(word[0], &end, 10);
    if (end == word[0] || *end || number > 1u << 30) fail("\"%s\" is no number", word[0]);
    return number;
}

static void on_alarm(int signal)
{
    static const char text[] = "failed: no end\n";
    (void)signal;
    if (write(1, text, sizeof text - 1) < 0) { }
    _exit(1);
}

int main(int count, char **word)
{
    if (count == 2 && strcmp(word[1], "list") == 0) {
        for (unsigned i = 0; i < COUNT(tests); i++)
            printf("%-11s %-15s %s\n", tests[i].name, tests[i].arguments, tests[i].about);
        return 0;
    }
    for (unsigned i = 0; count >= 2 && i < COUNT(tests); i++) {
        if (strcmp(word[1], tests[i].name) != 0) continue;
        signal(SIGALRM, on_alarm);
        alarm(PATIENCE);
        device_open();
        tests[i].run(word + 2);
        return 0;
    }
    fprintf(stderr, "usage: i915test NAME [ARGUMENTS]; i915test list\n");
    return 2;
}
