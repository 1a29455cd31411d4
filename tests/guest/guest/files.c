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

/* cat PATH: a file's text, up to 64 KiB; its newlines come as '|', a '|' as a space. */
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
    for (char *c = text; *c; c++) *c = *c == '|' ? ' ' : *c == '\n' ? '|' : *c;
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
    { "echo", 2, echo },
    { "insmod", 1, insmod },
    { "uio_open", 0, uio_open },
    { "uio_wait", 1, uio_wait },
    { 0 },
};
