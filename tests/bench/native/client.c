/*
 * The client of both servers, the device and the echo: what it sends and expects stands in files, so it knows neither
 * protocol and does the same work for each.
 *
 *   client PATH FOLDER ask COUNT          round trips, after as many to warm up; prints how many, p50, p99 and
 *                                         the longest, ns
 *   client PATH FOLDER post PIECE ROUNDS  writes the file "posted" so often, PIECE bytes a call, and waits until
 *                                         all of it has been handled; prints the time of a round, ns
 *   client PATH FOLDER steady             attaches, prints "attached" and reads two moments, ms since 1970, that are
 *                                         the same for all clients; round trips without a pause until the second;
 *                                         prints how many there were between them, p50, p99 and the longest, ns
 */

#include <inttypes.h>
#include <time.h>

#include "wire.h"

/* Times that are kept, ns. */
static uint32_t times[1 << 22];
static size_t count;

static int fd;
static struct bytes ask, ask_answer;
static char answer[64 * 1024];

static int64_t time_of(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int64_t now(void) {
  return time_of(CLOCK_MONOTONIC);
}

/* One round trip. An answer that is not the expected one ends the measurement. */
static void round_trip(void) {
  write_all(fd, ask.at, ask.length);
  if (!read_all(fd, answer, ask_answer.length) || memcmp(answer, ask_answer.at, ask_answer.length) != 0) {
    fprintf(stderr, "not the answer that was expected\n");
    exit(1);
  }
}

/* One that is timed, if it ends within the time to be measured. Returns when it ended. */
static int64_t timed(int64_t from, int64_t until) {
  int64_t begin = now();
  round_trip();
  int64_t end = now();
  if (begin >= from && end <= until && count < sizeof times / sizeof *times) times[count++] = end - begin;
  return end;
}

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static uint32_t percentile(int part) {
  return count == 0 ? 0 : times[(count - 1) * part / 100];
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  const char *folder = argv[2], *mode = argv[3];
  struct bytes hello = file_in(folder, "hello"), hello_answer = file_in(folder, "hello.answer");
  ask = file_in(folder, "ask");
  ask_answer = file_in(folder, "ask.answer");
  struct sockaddr_un name;
  fd = unix_socket(argv[1], &name);
  if (connect(fd, (struct sockaddr *)&name, sizeof name) < 0) fail("connect");
  write_all(fd, hello.at, hello.length);
  if (!read_all(fd, answer, hello_answer.length)) fail("hello");

  if (strcmp(mode, "post") == 0 && argc == 6) {
    struct bytes posted = file_in(folder, "posted");
    size_t piece = atol(argv[4]);
    int rounds = atoi(argv[5]);
    for (int round = -rounds; round < rounds; round++) {
      int64_t begin = now();
      for (size_t at = 0; at < posted.length; at += piece) {
        write_all(fd, posted.at + at, at + piece < posted.length ? piece : posted.length - at);
      }
      round_trip(); // answered when everything before it has been carried out
      if (round >= 0) times[count++] = now() - begin;
    }
    qsort(times, count, sizeof *times, ascending);
    printf("%u\n", percentile(50));
    return 0;
  }

  int64_t from = 0, until = INT64_MAX;
  if (strcmp(mode, "steady") == 0) {
    puts("attached");
    fflush(stdout);
    if (scanf("%" SCNd64 " %" SCNd64, &from, &until) != 2) return 2;
    int64_t epoch = time_of(CLOCK_REALTIME) - now();
    from = from * 1000000 - epoch;
    until = until * 1000000 - epoch;
    while (timed(from, until) < until) {}
  } else if (strcmp(mode, "ask") == 0 && argc == 5) {
    long rounds = atol(argv[4]);
    for (long i = 0; i < rounds; i++) round_trip();
    for (long i = 0; i < rounds; i++) timed(from, until);
  } else {
    return 2;
  }
  qsort(times, count, sizeof *times, ascending);
  printf("%zu %u %u %u\n", count, percentile(50), percentile(99), count == 0 ? 0 : times[count - 1]);
  return 0;
}
