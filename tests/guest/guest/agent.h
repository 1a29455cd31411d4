/*
 * The guest's side of the guest tests: a program that does what the host tells it, on real hardware as far as it
 * can see. One line is one command, words with a space between them, every number hexadecimal; one line is the
 * answer, "ok ..." or "error ...". Each command is a function that gets its words and answers once.
 */
#ifndef AGENT_H
#define AGENT_H

#include <stdint.h>

#define MAX_WORDS 64
#define OR_MORE 0x100

struct command {
    const char *name;
    int words;          /* how many follow the name; with OR_MORE: at least so many, and after the last a NULL */
    void (*run)(char **word);
};

/* Each file's commands, ended by one without a name. */
extern const struct command pci_commands[], ram_commands[], file_commands[], program_commands[];

/* The one answer to a command. */
void ok(const char *format, ...) __attribute__((format(printf, 1, 2)));
void error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Makes a text of several lines one line: newlines become '|', a '|' a space, what is no text '?'. */
void flatten(char *text);

uint64_t number(const char *word);

/* One load or store of 1, 2, 4 or 8 bytes, exactly as wide as told. */
uint64_t load(volatile void *at, unsigned size);
void store(volatile void *at, unsigned size, uint64_t value);
int is_size(uint64_t size);

#endif
