/* The agent's main loop: reads commands from its standard input, a serial line, and runs them. */
#include "agent.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <termios.h>
#include <unistd.h>

/* A host that says nothing for so long is gone; a guest that nobody needs must not run on. */
#define PATIENCE_SECONDS 600

static void answer(const char *word, const char *format, va_list args)
{
    printf("%s ", word);
    vprintf(format, args);
    printf("\n");
    fflush(stdout);
}

void ok(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    answer("ok", format, args);
    va_end(args);
}

void error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    answer("error", format, args);
    va_end(args);
}

void flatten(char *text)
{
    for (char *c = text; *c; c++) {
        if (*c == '\n') *c = '|';
        else if (*c == '|' || *c == '\t') *c = ' ';
        else if (*c < ' ' && *c >= 0) *c = '?';
    }
}

uint64_t number(const char *word)
{
    return strtoull(word, NULL, 16);
}

int is_size(uint64_t size)
{
    return size == 1 || size == 2 || size == 4 || size == 8;
}

uint64_t load(volatile void *at, unsigned size)
{
    switch (size) {
    case 1: return *(volatile uint8_t *)at;
    case 2: return *(volatile uint16_t *)at;
    case 4: return *(volatile uint32_t *)at;
    default: return *(volatile uint64_t *)at;
    }
}

void store(volatile void *at, unsigned size, uint64_t value)
{
    switch (size) {
    case 1: *(volatile uint8_t *)at = value; break;
    case 2: *(volatile uint16_t *)at = value; break;
    case 4: *(volatile uint32_t *)at = value; break;
    default: *(volatile uint64_t *)at = value; break;
    }
}

static void poweroff(char **word)
{
    (void)word;
    ok("bye");
    tcdrain(1);
    reboot(RB_POWER_OFF);
}

static const struct command own_commands[] = { { "poweroff", 0, poweroff }, { 0 } };
static const struct command *const all_commands[] = {
    own_commands, pci_commands, ram_commands, file_commands, program_commands,
};

static void run(char *line)
{
    char *word[MAX_WORDS + 1];
    int words = 0;
    for (char *rest = line, *next; words < MAX_WORDS && (next = strsep(&rest, " ")); )
        if (*next) word[words++] = next;
    if (words == 0) return;
    word[words] = NULL;
    for (unsigned i = 0; i < sizeof all_commands / sizeof *all_commands; i++) {
        for (const struct command *command = all_commands[i]; command->name; command++) {
            if (strcmp(command->name, word[0]) != 0) continue;
            int wanted = command->words & ~OR_MORE;
            if (command->words & OR_MORE ? words - 1 < wanted : words - 1 != wanted)
                error("%s takes %d words", word[0], wanted);
            else command->run(word + 1);
            return;
        }
    }
    error("no command %s", word[0]);
}

static void on_alarm(int signal)
{
    (void)signal;
    reboot(RB_POWER_OFF);
}

int main(void)
{
    static char line[4096];
    struct termios terminal;
    if (tcgetattr(0, &terminal) == 0) {
        cfmakeraw(&terminal);
        tcsetattr(0, TCSANOW, &terminal);
    }
    signal(SIGALRM, on_alarm);
    ok("ready");
    for (;;) {
        alarm(PATIENCE_SECONDS);
        if (!fgets(line, sizeof line, stdin)) {
            /* A line without a terminal behind it reads as ended; the alarm sees to the rest. */
            clearerr(stdin);
            usleep(100000);
            continue;
        }
        line[strcspn(line, "\r\n")] = 0;
        run(line);
    }
}
