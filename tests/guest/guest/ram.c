/*
 * The guest's own RAM: pages that stay where they are, known by their guest physical address, which is what goes
 * into a page table.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define MAX_PAGES 4096
#define MAX_ALLOC 128

static struct { uint64_t gpa; uint8_t *at; } pages[MAX_PAGES];
static unsigned page_count;

static uint64_t physical(const void *at)
{
    uint64_t entry = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY);
    if (pread(fd, &entry, 8, (uintptr_t)at / PAGE * 8) != 8) entry = 0;
    close(fd);
    return entry >> 63 ? (entry & ((1ull << 55) - 1)) * PAGE : 0;
}

/* alloc COUNT: pages full of zeroes; answers their guest physical addresses. */
static void alloc(char **word)
{
    char text[MAX_ALLOC * 17 + 1];
    uint64_t count = number(word[0]);
    size_t length = 0;
    if (count == 0 || count > MAX_ALLOC || page_count + count > MAX_PAGES) {
        error("that is too many pages");
        return;
    }
    uint8_t *at = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE, -1, 0);
    if (at == MAP_FAILED) {
        error("no memory: %s", strerror(errno));
        return;
    }
    for (uint64_t i = 0; i < count; i++, page_count++) {
        memset(at + i * PAGE, 0, PAGE);
        pages[page_count].at = at + i * PAGE;
        pages[page_count].gpa = physical(at + i * PAGE);
        length += sprintf(text + length, "%s%lx", length ? " " : "", pages[page_count].gpa);
    }
    ok("%s", text);
}

/* A page's memory; NULL, and the error is answered, when the address is in none of them. */
static uint8_t *page(const char *word, uint64_t size)
{
    uint64_t gpa = number(word);
    for (unsigned i = 0; i < page_count && size <= PAGE - gpa % PAGE; i++)
        if (pages[i].gpa == gpa / PAGE * PAGE) return pages[i].at + gpa % PAGE;
    error("no page of mine at %s", word);
    return NULL;
}

/* peek GPA SIZE: one load from RAM. */
static void peek(char **word)
{
    uint64_t size = number(word[1]);
    uint8_t *at = is_size(size) ? page(word[0], size) : (error("size"), NULL);
    if (at) ok("%lx", load(at, size));
}

/* poke GPA SIZE VALUE: one store to RAM. */
static void poke(char **word)
{
    uint64_t size = number(word[1]);
    uint8_t *at = is_size(size) ? page(word[0], size) : (error("size"), NULL);
    if (!at) return;
    store(at, size, number(word[2]));
    ok("stored");
}

/* fill GPA VALUE STEP: 512 stores of 8 bytes to one page, each STEP more than the last. */
static void fill(char **word)
{
    uint8_t *at = page(word[0], PAGE);
    if (!at) return;
    uint64_t value = number(word[1]), step = number(word[2]);
    for (unsigned i = 0; i < PAGE / 8; i++) store(at + i * 8, 8, value + i * step);
    ok("filled");
}

const struct command ram_commands[] = {
    { "alloc", 1, alloc },
    { "peek", 2, peek },
    { "poke", 3, poke },
    { "fill", 3, fill },
    { 0 },
};
