/* What this program says, and the clock that it says it by. */
#include "i915test.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void say(const char *before, const char *format, va_list args, const char *after)
{
    printf("%s", before);
    vprintf(format, args);
    printf("%s\n", after);
    fflush(stdout);
}

void fact(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("", format, args, "");
    va_end(args);
}

void passed(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("ok ", format, args, "");
    va_end(args);
}

void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("failed: ", format, args, "");
    va_end(args);
    exit(1);
}

void expect(uint64_t found, uint64_t expected, const char *format, ...)
{
    char text[80];
    va_list args;
    if (found == expected) return;
    snprintf(text, sizeof text, ": expected 0x%lx, found 0x%lx", expected, found);
    va_start(args, format);
    say("failed: ", format, args, text);
    va_end(args);
    exit(1);
}

uint64_t milliseconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000ull + time.tv_nsec / 1000000;
}

void sleep_milliseconds(unsigned time)
{
    struct timespec left = { .tv_sec = time / 1000, .tv_nsec = time % 1000 * 1000000l };
    while (nanosleep(&left, &left) != 0) { }
}
