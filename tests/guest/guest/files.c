/* The kernel's files: sysfs and /proc, modules, and the interrupts of a device that uio_pci_generic drives. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* cat PATH: a file's text, up to 64 KiB, in one line. */
static void cat(char **word)
{
    static char text[65536];
    size_t length = 0;
    ssize_t got;
    int fd = open(word[0], O_RDONLY);
    if (fd < 0) {
        error("%s: %s", word[0], strerror(errno));
        return;
    }
    while ((got = read(fd, text + length, sizeof text - 1 - length)) > 0) length += got;
    close(fd);
    text[length] = 0;
    flatten(text);
    ok("%s", text);
}

/* log: what the kernel has said since this was asked last, in one line, up to 32 KiB; nothing: that was all. */
static void log_command(char **word)
{
    static char text[32768 + 8192];
    static int fd = -1;
    size_t length = 0;
    (void)word;
    if (fd < 0) fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    while (length < 32768) {
        /* "priority,number,microseconds,flags;text", then lines that begin with a space. */
        char record[8192];
        ssize_t got = read(fd, record, sizeof record - 1);
        if (got < 0 && errno == EPIPE) length += sprintf(text + length, "[some lines are lost]\n");
        else if (got <= 0) break;
        else {
            record[got] = 0;
            char *said = strchr(record, ';');
            char *end = said ? strchr(said, '\n') : NULL;
            if (end) length += sprintf(text + length, "%.*s\n", (int)(end - said - 1), said + 1);
        }
    }
    text[length] = 0;
    flatten(text);
    ok("%s", text);
}

/* echo PATH TEXT: writes one word to a file. */
static void echo(char **word)
{
    int fd = open(word[0], O_WRONLY);
    ssize_t put = fd < 0 ? -1 : write(fd, word[1], strlen(word[1]));
    if (put < 0) error("%s: %s", word[0], strerror(errno));
    else ok("written");
    if (fd >= 0) close(fd);
}

/* insmod PATH: loads a module; one that is there already is fine. */
static void insmod(char **word)
{
    int fd = open(word[0], O_RDONLY);
    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
        error("%s: %s", word[0], strerror(errno));
    else ok("loaded");
    if (fd >= 0) close(fd);
}

static int uio = -1;

/* uio_open: begins to listen to /dev/uio0. */
static void uio_open(char **word)
{
    (void)word;
    if (uio >= 0) close(uio);
    uio = open("/dev/uio0", O_RDONLY);
    if (uio < 0) error("/dev/uio0: %s", strerror(errno));
    else ok("listening");
}

/* uio_wait MILLISECONDS: waits for the next interrupt; answers how often one has come so far. */
static void uio_wait(char **word)
{
    uint32_t count = 0;
    struct pollfd wait = { .fd = uio, .events = POLLIN };
    if (poll(&wait, 1, number(word[0])) != 1) error("no interrupt");
    else if (read(uio, &count, 4) != 4) error("/dev/uio0: %s", strerror(errno));
    else ok("%x", count);
}

const struct command file_commands[] = {
    { "cat", 1, cat },
    { "log", 0, log_command },
    { "echo", 2, echo },
    { "insmod", 1, insmod },
    { "uio_open", 0, uio_open },
    { "uio_wait", 1, uio_wait },
    { 0 },
};
