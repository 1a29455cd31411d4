/*
 * The vGPU as the kernel shows it under /sys: the first PCI function of Intel's display class. Its BARs are mapped
 * into this process, so a load or store here is one access of the guest's processor to the device.
 */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"
#define BARS 6

static char device[64]; /* its name, like 0000:00:02.0; empty: none chosen */
static struct { volatile uint8_t *at; uint64_t size; } bar[BARS];
static struct { uint64_t count, total, longest, offset; unsigned bar; } timing;

static FILE *open_file(const char *name, const char *mode)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, DEVICES "/%s/%s", device, name);
    return fopen(path, mode);
}

static uint64_t attribute(const char *name)
{
    char text[64] = "";
    FILE *file = open_file(name, "r");
    if (!file) return 0;
    if (!fgets(text, sizeof text, file)) text[0] = 0;
    fclose(file);
    return number(text);
}

static void unmap(void)
{
    for (int i = 0; i < BARS; i++) {
        if (bar[i].at) munmap((void *)bar[i].at, bar[i].size);
        bar[i].at = NULL;
    }
}

/* find: chooses the vGPU; answers its name, vendor, device, class and revision. */
static void find(char **word)
{
    (void)word;
    unmap();
    DIR *folder = opendir(DEVICES);
    for (struct dirent *entry; folder && (entry = readdir(folder)); ) {
        if (entry->d_name[0] == '.') continue;
        snprintf(device, sizeof device, "%.63s", entry->d_name);
        if (attribute("vendor") == 0x8086 && attribute("class") >> 16 == 3) {
            closedir(folder);
            ok("%s %lx %lx %lx %lx", device, attribute("vendor"), attribute("device"), attribute("class"),
               attribute("revision"));
            return;
        }
    }
    if (folder) closedir(folder);
    device[0] = 0;
    error("no device");
}

/* map: enables the device and maps its memory BARs; answers "bar:address:size" for each. */
static void map(char **word)
{
    (void)word;
    char text[1024] = "";
    unmap();
    FILE *enable = open_file("enable", "w");
    if (enable) {
        fputs("1", enable);
        fclose(enable);
    }
    FILE *resources = open_file("resource", "r");
    for (int i = 0; resources && i < BARS; i++) {
        uint64_t begin, end, flags;
        char path[PATH_MAX];
        if (fscanf(resources, "%lx %lx %lx", &begin, &end, &flags) != 3) break;
        if (!end || !(flags & 0x200)) continue; /* no memory BAR */
        snprintf(path, sizeof path, DEVICES "/%s/resource%d", device, i);
        int fd = open(path, O_RDWR | O_SYNC);
        void *at = mmap(NULL, end - begin + 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        if (at == MAP_FAILED) {
            error("BAR %d: %s", i, strerror(errno));
            fclose(resources);
            return;
        }
        bar[i].at = at;
        bar[i].size = end - begin + 1;
        size_t length = strlen(text);
        snprintf(text + length, sizeof text - length, "%s%x:%lx:%lx", length ? " " : "", i, begin, bar[i].size);
    }
    if (resources) fclose(resources);
    ok("%s", text);
}

static void unmap_command(char **word)
{
    (void)word;
    unmap();
    ok("unmapped");
}

/* config OFFSET SIZE: reads configuration space. */
static void config(char **word)
{
    uint8_t bytes[8] = { 0 };
    FILE *file = open_file("config", "r");
    int fd = file ? fileno(file) : -1;
    ssize_t got = pread(fd, bytes, number(word[1]), number(word[0]));
    if (got == (ssize_t)number(word[1])) ok("%lx", *(uint64_t *)bytes);
    else error("config: %s", strerror(errno));
    if (file) fclose(file);
}

/* configw OFFSET SIZE VALUE: writes configuration space. */
static void configw(char **word)
{
    uint64_t value = number(word[2]);
    FILE *file = open_file("config", "r+");
    int fd = file ? fileno(file) : -1;
    ssize_t put = pwrite(fd, &value, number(word[1]), number(word[0]));
    if (put == (ssize_t)number(word[1])) ok("written");
    else error("config: %s", strerror(errno));
    if (file) fclose(file);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

/* The place of an access; NULL, and the error is answered, when there is none. */
static volatile uint8_t *place(const char *bar_word, const char *offset_word, uint64_t length)
{
    uint64_t index = number(bar_word), offset = number(offset_word);
    if (index >= BARS || !bar[index].at) error("BAR %s is not mapped", bar_word);
    else if (offset > bar[index].size || length > bar[index].size - offset) error("beyond BAR %s", bar_word);
    else return bar[index].at + offset;
    return NULL;
}

static void took(uint64_t nanoseconds, char **word)
{
    timing.count++;
    timing.total += nanoseconds;
    if (nanoseconds <= timing.longest) return;
    timing.longest = nanoseconds;
    timing.bar = number(word[0]);
    timing.offset = number(word[1]);
}

/* r BAR OFFSET SIZE: one load. */
static void read_command(char **word)
{
    uint64_t size = number(word[2]);
    volatile uint8_t *at = is_size(size) ? place(word[0], word[1], size) : (error("size"), NULL);
    if (!at) return;
    uint64_t begin = now(), value = load(at, size);
    took(now() - begin, word);
    ok("%lx", value);
}

/* w BAR OFFSET SIZE VALUE: one store. */
static void write_command(char **word)
{
    uint64_t size = number(word[2]);
    volatile uint8_t *at = is_size(size) ? place(word[0], word[1], size) : (error("size"), NULL);
    if (!at) return;
    uint64_t begin = now();
    store(at, size, number(word[3]));
    took(now() - begin, word);
    ok("stored");
}

/* flood BAR OFFSET SIZE COUNT VALUE STEP: stores to places that follow one another; answers ns for all of them. */
static void flood(char **word)
{
    uint64_t size = number(word[2]), count = number(word[3]), value = number(word[4]), step = number(word[5]);
    volatile uint8_t *at = is_size(size) ? place(word[0], word[1], size * count) : (error("size"), NULL);
    if (!at) return;
    uint64_t first = now(), begin = first;
    for (uint64_t i = 0; i < count; i++) {
        store(at + i * size, size, value + i * step);
        uint64_t end = now();
        took(end - begin, word);
        begin = end;
    }
    ok("%lx", begin - first);
}

/* sweep BAR OFFSET SIZE COUNT: loads from places that follow one another; answers the exclusive or of them all. */
static void sweep(char **word)
{
    uint64_t size = number(word[2]), count = number(word[3]), all = 0;
    volatile uint8_t *at = is_size(size) ? place(word[0], word[1], size * count) : (error("size"), NULL);
    if (!at) return;
    for (uint64_t i = 0, begin = now(); i < count; i++) {
        all ^= load(at + i * size, size);
        uint64_t end = now();
        took(end - begin, word);
        begin = end;
    }
    ok("%lx", all);
}

/* times: how many accesses there were, ns of all and of the longest, and where that was; starts anew. */
static void times(char **word)
{
    (void)word;
    ok("%lx %lx %lx %x %lx", timing.count, timing.total, timing.longest, timing.bar, timing.offset);
    memset(&timing, 0, sizeof timing);
}

const struct command pci_commands[] = {
    { "find", 0, find },
    { "map", 0, map },
    { "unmap", 0, unmap_command },
    { "config", 2, config },
    { "configw", 3, configw },
    { "r", 3, read_command },
    { "w", 4, write_command },
    { "flood", 6, flood },
    { "sweep", 4, sweep },
    { "times", 0, times },
    { 0 },
};
