/*
 * Programs that run in the guest, several at once if the host likes. Each has a supervisor, a process of its own
 * that keeps the beginning and the end of what the program says, ends it when its time is up, and leaves one line
 * behind, which is the answer when the host waits for it.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_PROGRAMS 32
#define BEGINNING 8192u     /* bytes of a program's output that are kept */
#define END 24576u
#define GRACE_MS 40000u     /* how long a killed program may take to die: the driver lets a hung GPU's users go late */
#define NOT_FOUND 127       /* what shells say */
#define BY_SIGNAL 128

static struct { pid_t supervisor; int result; } programs[MAX_PROGRAMS];

/* What a program said: its first bytes, and a ring of its last ones. */
static struct { char text[BEGINNING + END]; uint64_t length; } said;

static void keep(const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++, said.length++) {
        uint64_t at = said.length < BEGINNING ? said.length : BEGINNING + (said.length - BEGINNING) % END;
        said.text[at] = bytes[i];
    }
}

static uint64_t now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000ull + time.tv_nsec / 1000000;
}

/* Reads what is there; 0 when nobody will ever write again. */
static int drain(int fd)
{
    char bytes[4096];
    ssize_t got;
    while ((got = read(fd, bytes, sizeof bytes)) > 0) keep(bytes, got);
    return got < 0;
}

/* The answer: exit status (a signal's as shells tell it), whether its time was up, milliseconds, and what it said. */
static void report(int to, int status, int is_late, uint64_t ms)
{
    static char text[BEGINNING + END + 256];
    uint64_t left_out = said.length > BEGINNING + END ? said.length - BEGINNING - END : 0;
    size_t length = 0;
    for (uint64_t i = 0; i < said.length; i++) {
        if (left_out && i == BEGINNING) {
            length += sprintf(text + length, "\n[%lu bytes left out]\n", left_out);
            i += left_out;
        }
        text[length++] = said.text[i < BEGINNING ? i : BEGINNING + (i - BEGINNING) % END];
    }
    text[length] = 0;
    flatten(text);
    int code = WIFSIGNALED(status) ? BY_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
    dprintf(to, "%x %x %lx %s", code, is_late, ms, text);
}

static void execute(char **argv, int output)
{
    int null = open("/dev/null", O_RDONLY);
    setpgid(0, 0);
    dup2(null, 0);
    dup2(output, 1);
    dup2(output, 2);
    execv(argv[0], argv);
    fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
    _exit(NOT_FOUND);
}

static void supervise(int to, uint64_t limit_ms, char **argv)
{
    int line[2], status = 0, is_late = 0;
    uint64_t begin = now_ms();
    if (pipe2(line, O_CLOEXEC) < 0) _exit(1);
    pid_t program = fork();
    if (program == 0) execute(argv, line[1]);
    close(line[1]);
    fcntl(line[0], F_SETFL, O_NONBLOCK);
    for (int is_open = 1; waitpid(program, &status, WNOHANG) == 0; ) {
        struct pollfd wait = { .fd = is_open ? line[0] : -1, .events = POLLIN };
        poll(&wait, 1, 20);
        is_open = is_open && drain(line[0]);
        uint64_t ms = now_ms() - begin;
        if (ms > limit_ms) {
            is_late = 1;
            kill(-program, SIGKILL);
        }
        if (ms > limit_ms + GRACE_MS) {
            keep("\n[it cannot be killed]\n", 23);
            status = SIGKILL;
            break;
        }
    }
    uint64_t ms = now_ms() - begin;
    kill(-program, SIGKILL); /* its children, if any */
    drain(line[0]);
    report(to, status, is_late, ms);
    _exit(0);
}

/* start MILLISECONDS PATH [ARGUMENT]...: runs a program so long at most; answers its number. */
static void start(char **word)
{
    int n = 0, result[2];
    while (n < MAX_PROGRAMS && programs[n].supervisor) n++;
    if (n == MAX_PROGRAMS) {
        error("too many programs at once");
        return;
    }
    if (pipe2(result, O_CLOEXEC) < 0) {
        error("pipe: %s", strerror(errno));
        return;
    }
    /* A pipe as large as an answer: a supervisor need not wait for the host. */
    fcntl(result[1], F_SETPIPE_SZ, 2 * (BEGINNING + END));
    pid_t supervisor = fork();
    if (supervisor == 0) {
        close(0);
        supervise(result[1], number(word[0]), word + 1);
    }
    close(result[1]);
    if (supervisor < 0) {
        error("fork: %s", strerror(errno));
        close(result[0]);
        return;
    }
    programs[n].supervisor = supervisor;
    programs[n].result = result[0];
    ok("%x", n);
}

/* wait NUMBER: waits for a program's end; answers its exit status, whether it was killed, its time and output. */
static void wait_command(char **word)
{
    static char text[BEGINNING + END + 512];
    uint64_t n = number(word[0]);
    size_t length = 0;
    ssize_t got;
    if (n >= MAX_PROGRAMS || !programs[n].supervisor) {
        error("no program %s", word[0]);
        return;
    }
    alarm(0); /* the program's own limit will do */
    while (length < sizeof text - 1 && (got = read(programs[n].result, text + length, sizeof text - 1 - length)) > 0)
        length += got;
    text[length] = 0;
    close(programs[n].result);
    waitpid(programs[n].supervisor, NULL, 0);
    programs[n].supervisor = 0;
    if (length) ok("%s", text);
    else error("its supervisor has died");
}

const struct command program_commands[] = {
    { "start", 2 | OR_MORE, start },
    { "wait", 1, wait_command },
    { 0 },
};
